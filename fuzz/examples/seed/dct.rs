//! Seeds of spark-dct.

use super::{block, bytes, json, list, put, root};
use std::error::Error;
use std::fs;

pub(crate) fn dct() -> Result<(), Box<dyn Error>> {
    for version in ["v0.4.0", "v0.6.1", "v2.3.1"] {
        let image = fs::read(root().join(format!("dct/tests/vectors/app_{version}.bin")))?;
        // Only what differs from erased memory.
        let mut data = vec![match image.len() {
            4258 => 0,
            4260 => 1,
            _ => 2,
        }];
        let mut at = 0;
        while at < image.len() {
            let piece = &image[at..image.len().min(at + 255)];
            if piece.iter().any(|byte| *byte != 0xFF) {
                data.extend(u16::try_from(at)?.to_be_bytes());
                data.extend(block(piece));
            }
            at += piece.len();
        }
        put("dct_app", version, &data)?;
    }
    put("dct_app", "erased", &[2])?;
    // mirrors in use, TCP, no sleep clock, settings with lengths that are too large
    let button = [&[0x0E, 0x2F, 18, 0xAA][..], &[0; 15], &[0xCC, 0xBB]].concat();
    let led = [&[0x0E, 0x4F, 23][..], &[0; 22], &[1]].concat();
    let bytes_of = [0x0B, 0xA1, 1, 0, 0x0E, 0x2E, 1, 0xFE];
    let eap = [0x0F, 0x30, 1, 65, 0x1F, 0xB3, 2, 1, 0x10];
    put("dct_app", "settings", &[&[2][..], &button, &led, &bytes_of, &eap].concat())?;
    let addresses = json("dct/tests/vectors/server_address.json")?;
    for set in ["cli_cases", "parser_only_cases"] {
        for (i, case) in list(&addresses[set]).iter().enumerate() {
            let block = bytes(&case["address_block_128"]);
            put(
                "dct_server_address",
                &format!("{set}_{i:02}"),
                &[&block[..], b"$id.udp.example.org"].concat(),
            )?;
            if i == 0 {
                let patch = [&[2, 0x09, 0xA2, 128], &block[..]].concat();
                put("dct_app", &format!("address_{set}"), &patch)?;
            }
        }
    }
    for generation in 0..3_u8 {
        let write = |at: u16, data: &[u8]| [&[1][..], &at.to_be_bytes(), &block(data)].concat();
        let two = [write(1825, b"1"), write(34, &[0x30; 200]), write(8700, &[0; 84])].concat();
        put("dct_wiced", &format!("writes_{generation}"), &[&[generation][..], &two].concat())?;
        let cut = [&[0x95, 0x07, 0x21][..], &block(b"1"), &write(1825, b"0")].concat();
        put("dct_wiced", &format!("cut_{generation}"), &[&[generation][..], &cut].concat())?;
        let damage = [&[0, 0, 8, 2, 1, 1][..], &[6, 0, 0, 4], b"BRCM", &write(0, b"abc")].concat();
        put("dct_wiced", &format!("damage_{generation}"), &[&[generation][..], &damage].concat())?;
        put("dct_wiced", &format!("blank_{generation}"), &[&[generation | 4][..], &two].concat())?;
    }
    dct_values()?;
    dct_containers()
}

/// Every kind of value: what an image has, and texts of which some are refused.
fn dct_values() -> Result<(), Box<dyn Error>> {
    let names = [
        ("claimed", "true"),
        ("ip_config.host", "192.168.0.5"),
        ("country_code", "JP/3"),
        ("claim_code", "abc\\x41"),
        ("ssid_prefix", "Photon"),
        ("dns_resolve", "setup,ap"),
        ("device_private_key", "3082025c0201"),
        ("server_public_key.address", "cloud.example.org:5683"),
        ("flash_modules.1.magic", "used"),
        ("system_flags.features_enabled", "safe_mode+dfu_mode"),
        ("eap_config.inner_identity", "user"),
        ("eap_config.ca_certificate", "0x00"),
        ("power_config.flags.disabled", "off"),
        ("product_store.3", "0x1234"),
        ("antenna_selection", "external"),
        ("version", "65536"),
    ];
    let image = fs::read(root().join("dct/tests/vectors/app_v2.3.1.bin"))?;
    for (name, text) in names {
        let entry = spark_dct::Entry::by_name(name).ok_or("no such entry")?;
        let index = spark_dct::Entry::all().position(|other| other == entry).ok_or("not listed")?;
        let content = block(&image[entry.range()]);
        put("dct_values", name, &[&[u8::try_from(index)?], &content[..], &[0xFF], text.as_bytes()].concat())?;
    }
    Ok(())
}

fn dct_containers() -> Result<(), Box<dyn Error>> {
    let patch = |at: u16, data: &[u8]| [&at.to_be_bytes()[..], &block(data)].concat();
    let point = [&b"\x04home"[..], &[0; 51], b"\x08password"].concat();
    put(
        "dct_sections",
        "access_point",
        &[patch(6705, &point), patch(6704 + 836, &[1, 2, 3, 4, 5, 6])].concat(),
    )?;
    put("dct_sections", "soft_ap", &patch(6704 + 608, b"\x06Photon"))?;
    put(
        "dct_sections",
        "texts",
        &[patch(388, b"Particle"), patch(544, b"key"), patch(16333, b"photon")].concat(),
    )?;
    let step = |kind: u8, at: u16, data: &[u8]| [&[kind][..], &patch(at, data)].concat();
    for choice in 0..8_u8 {
        let writes = [step(0, 34, &[0x30; 200]), step(1, 1825, b"1"), step(1, 34, &[0x31; 100])].concat();
        put("dct_dcd", &format!("writes_{choice}"), &[&[choice][..], &writes].concat())?;
    }
    let cut = [&[1][..], &step(0x95, 34, &[0x30; 64]), &step(1, 34, &[0x31; 64])].concat();
    put("dct_dcd", "cut", &cut)?;
    let damage =
        [&[1][..], &step(2, 4, &[0, 12, 0xA0, 0x69]), &step(6, 16, &[1]), &step(1, 0, b"abc")].concat();
    put("dct_dcd", "damage", &damage)?;
    for choice in [0, 1, 2, 3, 4, 0x42, 0x44, 0x81, 0xC4_u8] {
        let head = [&[choice, 7][..], &block(&[0x5A; 100])].concat();
        let writes =
            [step(0xFA, 34, &[0x31; 200]), step(0xF6, 34, &[0x46; 200]), step(0x1A, 34, &[0x5A; 100])];
        let damage = [step(3, 0, &[]), step(0, 7600, &[0; 40]), step(1, 16376, &[9])];
        put("dct_recovery", &format!("cut_{choice:02x}"), &[&head[..], &writes.concat()].concat())?;
        put(
            "dct_recovery",
            &format!("damage_{choice:02x}"),
            &[&head[..], &writes.concat(), &damage.concat()].concat(),
        )?;
    }
    Ok(())
}
