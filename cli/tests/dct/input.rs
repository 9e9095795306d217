//! What `spark dct` reads tables from.
#![cfg(unix)]

use crate::bench::Bench;
use crate::tables::{Vectors, vector};

/// Runs `spark dct` with a file as its standard input.
fn piped(bench: &Bench, arguments: &[&str], input: &[u8]) -> std::process::Output {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
    command.arg("dct").args(arguments).current_dir(bench.path(""));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn standard_input_has_its_usual_name() {
    let bench = Bench::new("dct");
    bench.vector("photon_4_new_second.bin");
    let file = bench.read("photon_4_new_second.bin");
    for arguments in [
        &["show", "-"][..],
        &["get", "country_code", "--file", "-"],
        &["diff", "-"],
        &["recover", "-"],
        &["set", "claimed=false", "--file", "-", "-o", "out"],
    ] {
        let name =
            |argument: &&str| if *argument == "-" { "photon_4_new_second.bin" } else { *argument }.to_owned();
        let named: Vec<_> = arguments.iter().map(name).collect();
        let expected = bench.run(
            &named
                .iter()
                .map(String::as_str)
                .chain(["--force"].into_iter().filter(|_| arguments[0] == "set"))
                .collect::<Vec<_>>(),
        );
        let _ = std::fs::remove_file(bench.path("out"));
        let found = piped(&bench, arguments, &file);
        assert!(expected.status.success() && found.stdout == expected.stdout, "{arguments:?}");
    }
}

#[test]
fn file_that_can_be_read_once_is_read_once() {
    let bench = Bench::new("dct");
    let mut whole = vec![0x11; 0x10_0000];
    whole[0x4000..0xC000].copy_from_slice(&vector("photon_4_new_second.bin"));
    let set = piped(&bench, &["set", "-f", "/dev/stdin", "-o", "out", "country_code=DE/0"], &whole);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let out = bench.read("out");
    assert_eq!(out.len(), 0x10_0000);
    assert!(out[..0x4000] == whole[..0x4000] && out[0xC000..] == whole[0xC000..]);
    assert!(out[0x4000..0xC000] != whole[0x4000..0xC000]);

    bench.put("whole", &whole);
    let expected = bench.plain(&["diff", "whole"]).1;
    let found = piped(&bench, &["diff", "/dev/stdin"], &whole);
    assert_eq!(String::from_utf8_lossy(&found.stdout), expected);
    assert!(expected.contains("DCT2"), "{expected}");
}

#[test]
fn files_are_read_no_further_than_what_fits() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    let set = ["set", "-f", "app_v2.3.1.bin", "-o", "out", "claimed=@/dev/zero"];
    let (code, _, message) = bench.fails(&set);
    assert!(code == 65 && message.contains("/dev/zero") && message.contains("1 bytes"), "{message}");
    let (code, _, message) = bench.fails(&["show", "/dev/zero"]);
    assert!(code == 65 && message.contains("/dev/zero") && message.contains("1048576"), "{message}");
    bench.vector("photon_4_new_second.bin");
    let written = ["recover", "photon_4_new_second.bin", "--written"];
    let (code, _, message) = bench.fails(&[&written[..], &["device_private_key=@/dev/zero"]].concat());
    assert!(code == 65 && message.contains("1216"), "{message}");
    let (code, _, message) = bench.fails(&[&written[..], &["device_private_key=@/dev/null"]].concat());
    assert!(code == 65 && message.contains("empty"), "{message}");
}

/// `-` is standard output wherever something is written to it, and never a file of that name.
#[test]
fn standard_output_has_its_usual_name() {
    let bench = Bench::new("dct");
    bench.vector("photon_4_new_second.bin");
    let file = bench.read("photon_4_new_second.bin");
    let set = ["set", "claimed=false", "-f", "-", "-o"];
    bench.ok(&["set", "claimed=false", "-f", "photon_4_new_second.bin", "-o", "changed"]);
    let found = piped(&bench, &[&set[..], &["-"]].concat(), &file);
    assert!(found.status.success() && found.stdout == bench.read("changed"));

    bench.ok(&["build", "-o", "built", "claimed=true"]);
    assert!(bench.run(&["build", "-o", "-", "claimed=true"]).stdout == bench.read("built"));
    bench.plain(&["get", "claimed", "--file", "built", "--raw", "one"]);
    assert_eq!(bench.run(&["get", "claimed", "--file", "built", "--raw", "-"]).stdout, bench.read("one"));

    for json in
        [&["build", "-o", "-", "--json"][..], &["set", "claimed=1", "-f", "built", "-o", "-", "--json"]]
    {
        let (code, _, message) = bench.fails(json);
        assert!(code == 64 && message.contains("--json"), "{message}");
    }
    let (code, _, message) = bench.fails(&["recover", "photon_4_new_second.bin", "-o", "-"]);
    assert!(code == 64 && message.contains("./-"), "{message}");
    assert!(!bench.path("-").exists());
}

#[test]
fn pair_is_compared_with_the_device_that_is_chosen() {
    let bench = Bench::new("dct");
    bench.device(&["show"]);
    bench.put("pair", &bench.read("flash")[0x4000..0xC000]);
    assert_eq!(bench.device(&["diff", "pair"])["second"], "the device");
    bench.device(&["set", "ip_config.host=10.1.2.3", "--backup", "kept"]);
    let found = bench.device(&["diff", "pair"]);
    let names: Vec<_> = found["differences"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["ip_config.host"]);
}
