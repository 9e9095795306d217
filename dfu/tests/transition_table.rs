//! The tables in the documentation are the tables in the code.

#![allow(clippy::unwrap_used, reason = "tests")]

use spark_dfu::device::Table;

/// Run with `BLESS=1` to write the file anew.
#[test]
fn the_documentation_shows_the_tables_in_force() {
    let mut text = String::new();
    for (name, what, table) in [
        ("Table::DFU", "plain DFU by the standard", Table::DFU),
        ("Table::DFUSE", "DfuSe", Table::DFUSE),
        ("Table::TOLERANT_DFU", "plain DFU, forgiving", Table::TOLERANT_DFU),
        ("Table::TOLERANT_DFUSE", "DfuSe, forgiving", Table::TOLERANT_DFUSE),
        ("Table::STM32", "Photon, P1, Electron", Table::STM32),
        ("Table::CORE", "Spark Core", Table::CORE),
        ("Table::NRF52840", "Argon, Boron, Xenon", Table::NRF52840),
    ] {
        text += &format!("\n**[`{name}`]**, {what}\n\n{table}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/transitions.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap(), text);
}
