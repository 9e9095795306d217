//! Examines key files, or a key field that an interrupted write has damaged when no file is named.
//!
//! `cargo run -p spark-keys --example check_key_field -- FILE...`

fn main() -> std::io::Result<()> {
    let mut files = std::env::args().skip(1).peekable();
    if files.peek().is_none() {
        let mut field = *include_bytes!("../tests/vectors/field612_ff.bin");
        // the second half of the key is gone
        if let Some(tail) = field.get_mut(300..) {
            tail.fill(0xFF);
        }
        show("key field with an erased tail", &field);
    }
    for file in files {
        show(&file, &std::fs::read(&file)?);
    }
    Ok(())
}

fn show(name: &str, field: &[u8]) {
    let report = spark_keys::check(field);
    println!(
        "{name}: {}",
        if report.device_works() { "the device can use it" } else { "the device cannot use it" }
    );
    if let Some(fingerprint) = report.fingerprint() {
        println!("  publishes {fingerprint}");
    }
    for finding in report.findings() {
        println!("  {} - {finding}", finding.code());
        println!("    cloud: {}", finding.cloud());
        println!("    next:  {}", finding.next_step());
    }
}
