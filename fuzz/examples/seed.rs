//! Writes the first corpus from the vectors of the crates' tests: `cargo run --no-default-features --example seed`.
//!
//! Files are named after their vector. Fuzzing adds others; this program never deletes any.

use coap_spark::connection::{ServerConnection, ServerPolicy};
use coap_spark::message::FromServer;
use coap_spark::session::{Opener, SavedSession, Sealer, SessionKeys};
use core::time::Duration;
use serde_json::Value;
use spark_dfu::descriptor::Description;
use spark_dfu::device::{Device, Memory, Profile, Work};
use spark_dfu::host::{Action, Input};
use spark_dfu::request::Direction;
use spark_fuzz::dfu::{HOST_LAYOUT, host_job};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn json(path: &str) -> Result<Value, Box<dyn Error>> {
    Ok(serde_json::from_slice(&fs::read(root().join(path))?)?)
}

fn bytes(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| hex::decode(text).ok()).unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], |list| list)
}

fn put(target: &str, name: &str, data: &[u8]) -> Result<(), Box<dyn Error>> {
    let folder = root().join("fuzz/corpus").join(target);
    fs::create_dir_all(&folder)?;
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Ok(fs::write(folder.join(name), data)?)
}

/// A length byte and the bytes, cut to 255.
fn block(data: &[u8]) -> Vec<u8> {
    let data = &data[..data.len().min(255)];
    [&[data.len() as u8], data].concat()
}

fn main() -> Result<(), Box<dyn Error>> {
    dfu()?;
    dfu_files()?;
    dct()?;
    keys()?;
    coap()?;
    coap_diagnosis()?;
    coap_udp()?;
    coap_sessions()?;
    ota()?;
    ota_serial()?;
    ota_sonoff()
}

fn dfu() -> Result<(), Box<dyn Error>> {
    for (i, case) in list(&json("dfu/tests/vectors/memlayout_cases.json")?["cases"]).iter().enumerate() {
        let text = case["string"].as_str().unwrap_or_default();
        put("dfu_layout", &format!("case_{i:02}"), text.as_bytes())?;
        let units: Vec<u8> = text.encode_utf16().take(120).flat_map(u16::to_le_bytes).collect();
        if i % 6 == 0 {
            put(
                "dfu_descriptors",
                &format!("string_{i:02}"),
                &[&[units.len() as u8 + 2, 3], &units[..]].concat(),
            )?;
        }
    }
    let description = Description::photon("53ff6d065072534212345667");
    let mut out = [0; 256];
    put("dfu_descriptors", "configuration", description.configuration_descriptor(&mut out)?)?;
    put("dfu_descriptors", "functional", &description.functional.to_bytes())?;
    put("dfu_descriptors", "status", &[0, 50, 0, 0, 4, 0])?;
    put("dfu_descriptors", "setup", &[0x21, 1, 2, 0, 0, 0, 64, 0])?;

    // Operations of `dfu::device`: erase, set address, write, read back, leave; by each profile.
    let (status, done, wait) = ([4].as_slice(), [9].as_slice(), [255].as_slice());
    let command = |code: u8, address: u32| [&[2, code], &address.to_le_bytes()[..]].concat();
    for profile in 0..3 {
        let write = [&[1, 0, 2], &block(&[0x5A; 64])[..]].concat();
        let read = [3, 0, 2, 0, 64];
        let (erase, set) = (command(0x41, 0x1000), command(0x21, 0x1000));
        let start = [profile];
        let job: Vec<&[u8]> = vec![
            &start,
            status,
            &erase,
            status,
            done,
            status,
            &set,
            status,
            done,
            status,
            &write,
            status,
            done,
            wait,
            status,
            &[6],
            &set,
            status,
            status,
            &[6],
            &read,
            &[6],
            &set,
            status,
            status,
            &[1, 0, 0, 0],
            status,
            wait,
            wait,
            done,
            status,
        ];
        put("dfu_device", &format!("write_and_leave_{profile}"), &job.concat())?;
        let errors: Vec<&[u8]> = vec![
            &start,
            &write,
            status,
            &[10, 4],
            status,
            &[5],
            &[11],
            &[8, 1],
            &[7],
            &[12, 3, 4, 0, 255],
            &read,
        ];
        put("dfu_device", &format!("errors_{profile}"), &errors.concat())?;
    }
    // Lower four bits: the job; upper four: how a download writes.
    for job in (0..12_u8).chain([0x11, 0x21, 0x41, 0x81, 0xC1, 0xE1]) {
        put("dfu_host", &format!("job_{job}"), &answers(job)?)?;
        put("dfu_host", &format!("job_{job}_busy"), &[job, 0, 4, 4, 4])?;
        put("dfu_host", &format!("job_{job}_stall"), &[job, 0, 1, 4, 0x8A, 0, 3])?;
    }
    Ok(())
}

/// The files of the vectors, read in pieces of several sizes; the damaged ones also with the checksum mended.
fn dfu_files() -> Result<(), Box<dyn Error>> {
    for (target, folder) in [("dfu_suffix", "suffix"), ("dfu_dfuse_file", "dfuse")] {
        for entry in fs::read_dir(root().join("dfu/tests/vectors").join(folder))? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let file = fs::read(&path)?;
            let first = (file.len() % 100) as u8 & 0xFE;
            let head = if folder == "suffix" { vec![first] } else { vec![first, 2 * (name.len() % 2) as u8] };
            put(target, &name, &[&head[..], &file].concat())?;
        }
    }
    let damaged = fs::read(root().join("dfu/tests/vectors/suffix/bad_payload.bin"))?;
    put("dfu_suffix", "mended", &[&[1], &damaged[..]].concat())?;
    for (name, at, value) in [("more_elements", 281, 2), ("larger_element", 289, 41), ("overlap", 289, 50)] {
        let mut file = fs::read(root().join("dfu/tests/vectors/dfuse/one_element.dfu"))?;
        file[at] = value;
        put("dfu_dfuse_file", name, &[&[7, 3], &file[..]].concat())?;
    }
    Ok(())
}

struct Ram;

impl Memory for Ram {
    fn read(&mut self, _: u8, _: u32, out: &mut [u8]) -> usize {
        out.fill(0x33);
        out.len()
    }

    fn estimate(&self, _: &Work<'_>) -> Duration {
        Duration::from_millis(1)
    }
}

/// What our device machine answers to one job of `dfu::host`.
fn answers(job: u8) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut description = Description::photon("1");
    description.alternates = &[HOST_LAYOUT];
    description.functional.transfer_size = 32;
    let mut device = Device::new(description, Profile::STRICT, [0; 32])?;
    let (mut now, mut buffer, mut data) = (Duration::ZERO, [0; 200], vec![job]);
    let mut machine = host_job(job, &mut buffer);
    loop {
        let mut reply = [0; 64];
        let (setup, out) = match machine.action() {
            Action::Out { setup, data } => (setup, data),
            Action::In { setup } => (setup, &[][..]),
            Action::Wait { until } => {
                now = until;
                machine.handle(now, Input::TimeReached)?;
                continue;
            }
            Action::ResetBus => {
                data.push(0);
                machine.handle(now, Input::BusReset)?;
                continue;
            }
            Action::FindAgain { .. } => {
                data.push(0);
                machine.handle(now, Input::Found)?;
                continue;
            }
            Action::Finished => return Ok(data),
        };
        let is_in = setup.direction() == Direction::In;
        let input = match device.control(now, &mut Ram, &setup.to_bytes(), out, &mut reply) {
            Ok(len) if is_in => {
                data.push(4 + u8::try_from(len)?);
                data.extend(&reply[..len]);
                Input::InDone(&reply[..len])
            }
            Ok(_) => {
                data.push(0);
                Input::OutDone
            }
            Err(_) => {
                data.push(1);
                Input::Stalled
            }
        };
        while device.work(now).is_some() {
            device.work_done(now, Ok(()))?;
        }
        // A DfuSe device refuses the plain jobs; that is worth a file, too.
        if machine.handle(now, input).is_err() {
            return Ok(data);
        }
    }
}

fn dct() -> Result<(), Box<dyn Error>> {
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

fn keys() -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(root().join("keys/tests/vectors"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".json") || name.ends_with(".md") {
            continue;
        }
        let data = fs::read(&path)?;
        let is_field = name.starts_with("bad_") || name.starts_with("field") || name.starts_with("devgen");
        if is_field || name.contains("rsa1024_60") {
            put("keys_check", &name, &data)?;
        }
        if !is_field {
            put("keys_load", &name, &data)?;
        }
        if name.contains("ec_") || name.contains("server") && name.ends_with("der") {
            put("keys_ec", &name, &data)?;
        }
        if name.starts_with("bad_") && data.len() > 300 || name.contains("short_") {
            put("keys_repair", &name, &[&[0][..], &data].concat())?;
        }
    }
    let cache = fs::read(root().join("keys/tests/vectors/ec_p256.spki.der"))?;
    put("keys_ec", "cache_right_aligned", &[&[0; 37][..], &cache].concat())?;
    // places of d, of the end of p, of the modulus, of dp and qinv, of all headers
    for (name, edits) in [
        ("d", &[0_u8, 160, 1, 9][..]),
        ("p", &[1, 60, 1, 1]),
        ("modulus", &[0, 50, 2, 1, 1]),
        ("modulus_and_p", &[0, 50, 1, 8, 1, 40, 1, 8]),
        ("dp_and_qinv", &[1, 170, 1, 8, 2, 40, 1, 8]),
        ("headers", &[0, 0, 11, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 144, 3, 2, 2, 2]),
    ] {
        for key in 1..=3_u8 {
            put("keys_repair", &format!("{name}_{key}"), &[&[key][..], edits].concat())?;
        }
    }
    Ok(())
}

fn coap() -> Result<(), Box<dyn Error>> {
    let cases = json("coap-spark/tests/vectors/coap_decode.json")?;
    for (i, case) in list(&cases["cases"]).iter().enumerate() {
        put("coap_message", &format!("decode_{i:02}"), &bytes(&case["hex"]))?;
    }
    let mut hellos = Vec::new();
    for message in list(&json("coap-spark/tests/vectors/device_messages.json")?["messages"]) {
        let (name, data) = (message["name"].as_str().unwrap_or_default(), bytes(&message["hex"]));
        if data.len() <= 128 {
            put("coap_envelope", name, &data)?;
        }
        if name.starts_with("hello") {
            hellos.push(data);
        }
    }
    for message in list(&json("coap-spark/tests/vectors/server_messages.json")?["messages"]) {
        let name = message["message"].as_str().unwrap_or_default();
        put("coap_envelope", &format!("server_{name}"), &bytes(&message["brewskey_hex"]))?;
    }
    let framing = json("coap-spark/tests/vectors/framing.json")?;
    let wire = bytes(&framing["concatenated_wire_hex"]);
    put("coap_frame", "wire_small_cuts", &[&[0, 1, 2, 3, 0], &wire[..wire.len().min(600)]].concat())?;
    let plain: Vec<u8> = hellos.iter().take(4).flat_map(|hello| block(hello)).collect();
    put("coap_frame", "sealed", &[&[15, 0, 30, 16, 1], &plain[..]].concat())?;
    put(
        "coap_frame",
        "sealed_lengths",
        &[&[1, 1, 1, 1, 1], &block(&[7; 15])[..], &block(&[8; 16])].concat(),
    )?;
    put("coap_frame", "bad_length", &[31, 31, 31, 31, 0, 0, 17, 1, 2, 3])?;

    let nonce = [0x42; 40];
    for (name, len) in [("with_key", 12 + 162), ("without_key", 12), ("short", 11), ("long", 175)] {
        put("coap_handshake", name, &[&[100], &nonce[..], &vec![0x30; len]].concat())?;
    }
    let document = concat!(
        r#"{"f":["brew"],"v":{"temp":2},"p":6,"m":[{"s":262144,"l":"m","vc":30,"vv":30,"#,
        r#""u":"AB12","f":"s","n":"1","v":11,"d":[{"f":"b","n":"0","v":3,"_":""}]}]}"#
    );
    put("coap_describe", "whole", document.as_bytes())?;
    put("coap_describe", "cut", &document.as_bytes()[..100])?;
    put("coap_describe", "empty", b"{}")?;
    put("coap_describe", "unknown_member", br#"{"f":[],"v":{},"x":[1,{"y":null}]}"#)?;

    put(
        "coap_describe",
        "cellular",
        br#"{"f":[],"v":{"x":9},"p":10,"imei":"35","iccid":"89","m":[{"s":1,"l":"t"}]}"#,
    )?;

    for (name, data) in [
        ("goodbye_cloud", &[1, 1][..]),
        ("goodbye_all", &[0x0f, 5, 0x8c, 1, 0x90, 0x1c, 2]),
        ("goodbye_forever", &[0x0f, 5, 0x8c, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 2]),
        ("goodbye_unknown", &[0x91, 2, 1, 1, 0x85]),
        ("metrics", &[0, 4, 0, 2, 0, 4, 0, 1, 0, 0xd2, 0xff, 0xff, 0xff, 0x19, 0x80, 0x60, 0xff, 0xff, 0xff]),
        ("metrics_more_sizes", &[0, 6, 0, 2, 0, 4, 0, 1, 0, 1, 0, 5, 0, 0, 0]),
        ("value_bool", &[1, 1]),
        ("value_int", &[2, 0xff, 0xfe, 0x1d, 0xc0]),
        ("value_string", b"\x04hello-world"),
        ("value_double", &[9, 0x18, 0x2d, 0x44, 0x54, 0xfb, 0x21, 0x09, 0x40]),
        ("event_claim", b"\x17spark/device/claim/code0123456789abcdef"),
        ("event_max_binary", b"\x19spark/hardware/max_binary393216"),
        ("event_last_reset", b"\x17spark/device/last_resetpanic, hard_fault"),
        ("event_reset", b"\x12spark/device/resetsafe mode"),
        ("event_version", b"\x1aspark/cc3000-patch-version1.32"),
        ("event_updates", b"\x1eparticle/device/updates/forcedtrue"),
    ] {
        put("coap_payload", name, data)?;
    }
    for message in list(&json("coap-spark/tests/vectors/device_messages.json")?["messages"]) {
        if message["name"] == "presence_announcement" {
            put("coap_payload", "presence", &bytes(&message["hex"]))?;
        }
    }

    let session = json("coap-spark/tests/vectors/session_particle_v0.7.0.json")?;
    for (mode, from) in [(2, "device_to_server"), (3, "server_to_device"), (7, "server_to_device")] {
        let mut data = vec![mode];
        for message in list(&session["messages"]).iter().filter(|message| message["dir"] == from) {
            data.push(1);
            data.extend(block(&bytes(&message["coap_hex"])));
        }
        put("coap_connection", &format!("session_{mode}"), &data)?;
    }
    let mut out = [0; 64];
    let hello = Sealer::new(&SessionKeys::new([7; 40])).seal(&hellos[0], &mut out)?.to_vec();
    put(
        "coap_connection",
        "raw_hello",
        &[&[0, 1][..], &block(&hello[..5]), &[0], &block(&hello[5..])].concat(),
    )?;
    Ok(())
}

fn coap_diagnosis() -> Result<(), Box<dyn Error>> {
    let line =
        |code: i32, seen: [u8; 3], text: &str| [&code.to_be_bytes()[..], &seen, text.as_bytes()].concat();
    let device = json("coap-spark/tests/vectors/handshake_device_outcomes.json")?;
    for (i, case) in list(&device["cases"]).iter().enumerate() {
        let Some(outcomes) = case["outcome"].as_object() else { continue };
        for (version, outcome) in outcomes.iter().filter(|(version, _)| !version.ends_with("v0.7.0")) {
            let code =
                outcome["result"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
            let text: Vec<&str> = list(&outcome["error_logs"]).iter().filter_map(Value::as_str).collect();
            let data = line(code, [i as u8, 1, i as u8], &text.join(" "));
            put("coap_diagnosis", &format!("device_{i:02}_{version}"), &data)?;
        }
    }
    let server = json("coap-spark/tests/vectors/handshake_server_outcomes.json")?;
    for (i, case) in list(&server["cases"]).iter().enumerate() {
        let text = case["brewskey"]["outcome"].as_str().unwrap_or_default();
        put("coap_diagnosis", &format!("server_{i:02}"), &line(-220, [0, 255, 2], text))?;
    }
    let address = "HAL_FLASH_Read_ServerAddress() = type:255,domain:,ip: 0.0.0.0, port: 0";
    put("coap_diagnosis", "address", &line(-1, [1, 3, 0], address))?;
    put("coap_diagnosis", "blinks", &line(0, [1, 2, 3], "Handling cloud error: 2"))
}

/// `coap::batch`: numbers of frames and their lengths. `coap::saved`: what a server writes.
fn coap_sessions() -> Result<(), Box<dyn Error>> {
    for (name, counts) in
        [("one", vec![9]), ("lanes", vec![1; 11]), ("mixed", vec![3, 0, 8, 1, 2, 11, 1, 1, 1])]
    {
        let parts: Vec<Vec<u8>> = counts
            .iter()
            .map(|&count| {
                let lens = (0..u16::from(count)).map(|i| (i * 37 + u16::from(count) * 16).to_be_bytes());
                [vec![count], lens.flatten().collect()].concat()
            })
            .collect();
        put("coap_batch", name, &parts.concat())?;
    }
    let keys = SessionKeys::new(core::array::from_fn(|i| i as u8));
    let saved = SavedSession::of(&Sealer::new(&keys), &Opener::new(&keys));
    put("coap_saved", "session", &saved.to_bytes()[..])?;
    let now = Duration::from_secs(1);
    let (mut out, mut frame) = ([0; 512], [0; 64]);
    for (name, requests, partial) in
        [("new", 0, &[][..]), ("asking", 3, &[]), ("in_a_frame", 1, &[0, 32, 1, 2, 3])]
    {
        let mut server: ServerConnection = ServerConnection::new(&keys, ServerPolicy::DEFAULT, 1, now);
        for _ in 0..requests {
            server.request(now, FromServer::VariableRequest { name: b"v" }, &mut frame)?;
        }
        server.handle_input(now, partial)?;
        put("coap_saved", name, server.export_into(now, &mut out).map_err(|(_, error)| error)?)?;
    }
    Ok(())
}

/// Operations of `coap_udp::udp`: messages both ways, lost acknowledgements, keep-alives.
fn coap_udp() -> Result<(), Box<dyn Error>> {
    // A confirmable POST: shape, id, payload; 2 receives, 3 sends, 5 fetches, 6 and 7 are deadlines.
    let (receive, acknowledge) = ([2, 0b1000, 7, 5], [4, 7]);
    let (send, other) = ([3, 0b1000, 1, 5, 99], [3, 0b1000, 2, 5, 99]);
    let acknowledged = [2, 0b0010, 1, 0];
    let repeats = [7, 3, 5].repeat(5);
    let cases: [(&str, Vec<&[u8]>); 7] = [
        ("duplicate", vec![&[1], &receive, &acknowledge, &[5], &receive, &[5, 0, 200], &receive, &[5]]),
        ("forgotten", vec![&[1], &receive, &acknowledge, &[5, 0, 181], &receive, &[5]]),
        ("acknowledged", vec![&[0], &send, &[5], &acknowledged, &[5, 6, 0], &acknowledged]),
        ("unanswered", vec![&[0], &send, &[5], &repeats, &other]),
        ("keep_alive", vec![&[0, 7, 0, 5, 1, 1, 0, 7, 0, 5, 7, 0]]),
        ("reset", vec![&[1], &send, &[5, 2, 3, 1, 0, 5]]),
        ("reply", vec![&[1], &receive, &[3, 0b1110, 7, 9, 0, 5], &receive, &[5], &other, &[6, 0, 5]]),
    ];
    for (name, parts) in cases {
        put("coap_udp", name, &parts.concat())?;
    }
    Ok(())
}

fn ota() -> Result<(), Box<dyn Error>> {
    let chunk = [0x11; 16];
    for profile in 0..6_u8 {
        let begin = |fast: u8| [profile, 0x10, 0, fast, 0, 0, 16, 0, 40];
        let (mut fast, mut slow, mut gaps) = (begin(8).to_vec(), begin(0).to_vec(), begin(8).to_vec());
        for index in 0..3 {
            fast.extend([&[9, 0, index][..], &block(&chunk)].concat());
            slow.extend([&[12, 0][..], &block(&chunk)].concat());
        }
        gaps.extend(
            [&[9, 0, 2][..], &block(&chunk), &[5, 0, 6, 0, 0x0F, 0xFF, 9, 4, 0], &block(&chunk)].concat(),
        );
        gaps.extend([&[9, 0, 0][..], &block(&chunk), &[9, 0, 1], &block(&chunk)].concat());
        for (name, mut data) in [("fast", fast), ("slow", slow), ("gaps", gaps)] {
            data.extend([5, 0]);
            put("ota_receiver", &format!("{name}_{profile}"), &data)?;
        }
    }
    let start = |choice: u8| [choice, 128, 3, 32, 1, 44];
    let slow = [&start(0x32)[..], &[0, 2, 3, 3, 131, 3, 8, 20, 3, 5, 0, 133, 0]].concat();
    let fast = [&start(0x33)[..], &[0, 128, 5, 0, 6, 4, 0, 1, 0, 2, 131, 0]].concat();
    let repair = [&start(0x13)[..], &[0, 137, 137, 5, 0, 6, 2, 0, 1, 6, 2, 0, 1, 7, 0]].concat();
    for (name, data) in [("slow", slow), ("fast", fast), ("repair", repair)] {
        put("ota_sender", name, &data)?;
    }
    put("ota_sender", "refused", &[&start(1)[..], &[1, 0x80]].concat())?;
    ota_modules()?;
    ota_v3()?;
    ota_contents()?;
    ota_esp8266()?;
    ota_resolve()
}

fn ota_v3() -> Result<(), Box<dyn Error>> {
    for name in ["v3-ok", "v3-gap-and-duplicate", "v3-delayed-ack", "v3-resume", "v3-errors", "v3-cancel"] {
        let recorded = json(&format!("ota/tests/vectors/v3/{name}.json"))?;
        for (at, entry) in list(&recorded["log"]).iter().enumerate() {
            let coap = bytes(&entry["hex"]);
            if (1..200).contains(&coap.len()) {
                put("ota_v3_message", &format!("{name}_{at}"), &coap)?;
            }
        }
    }
    // 1200 bytes in three chunks; resumable, and not.
    for kind in [0, 8] {
        let start = [kind, 0, 4, 176];
        let chunks = |order: &[u8]| order.iter().flat_map(|index| [1, 0, *index]).collect::<Vec<u8>>();
        let end = [5, 0, 7, 0];
        put("ota_v3_receiver", &format!("ok_{kind}"), &[&start[..], &chunks(&[1, 2, 3]), &end].concat())?;
        put(
            "ota_v3_receiver",
            &format!("gaps_{kind}"),
            &[&start[..], &chunks(&[3, 1, 3, 2]), &end].concat(),
        )?;
        let late = [&start[..], &chunks(&[1]), &[6, 0, 0, 25], &chunks(&[9])].concat();
        put("ota_v3_receiver", &format!("wrong_{kind}"), &late)?;
        put("ota_v3_receiver", &format!("cancel_{kind}"), &[&start[..], &chunks(&[1]), &[29, 0]].concat())?;
    }
    let start = [1, 0, 8, 4, 176, 0, 8, 0];
    for (name, rest) in [
        ("ok", &[2, 3, 0, 4][..]),
        ("gap", &[2, 1, 4, 2, 0, 0, 0, 2, 3, 0, 4]),
        ("silence", &[6, 1, 0, 6, 1, 0]),
        ("refused", &[2, 3, 0, 5, 163]),
        ("cancel", &[2, 1, 0, 198, 4]),
        ("reset", &[132]),
    ] {
        put("ota_v3_sender", name, &[&start[..], rest].concat())?;
    }
    Ok(())
}

fn ota_modules() -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(root().join("ota/tests/vectors/modules"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // The others repeat one of these byte by byte.
        if path.extension().is_some_and(|end| end == "bin")
            && !name.contains("split")
            && !name.ends_with("trip")
        {
            put("ota_module", &name, &fs::read(&path)?)?;
        }
    }
    let part2 = fs::read(root().join("ota/tests/vectors/modules/synth-photon-part2.bin"))?;
    put("ota_module", "cut", &part2[..part2.len() / 2])?;
    put("ota_module", "padded", &[&part2[..], &[0xFF; 40]].concat())?;
    let mut damaged = part2;
    damaged[600] ^= 1;
    put("ota_module", "damaged", &damaged)
}

fn ota_esp8266() -> Result<(), Box<dyn Error>> {
    let folder = root().join("ota/tests/vectors/sonoff/images");
    for name in
        ["small_u1_v1_dout-0x00000", "small_u2_v2_dout", "sdk_user1_dout_1mb", "size_512KB", "freq_80m"]
    {
        put("ota_esp8266_image", name, &fs::read(folder.join(format!("{name}.bin")))?)?;
    }
    // The application is much too long to be changed often.
    let whole = fs::read(folder.join("image_arduino.bin"))?;
    let program = fs::read(folder.join("small_u1_v1_dout-0x00000.bin"))?;
    put("ota_esp8266_image", "whole_flash", &[&whole[..0x1000], &program].concat())?;
    for case in list(&json("ota/tests/vectors/sonoff/image_faults.json")?["cases"]) {
        let (id, data) = (case["id"].as_str().unwrap_or_default(), bytes(&case["data_hex"]));
        if !id.ends_with("ok") && !data.is_empty() {
            put("ota_esp8266_image", id, &data)?;
        }
    }

    // What it is, mode, size and frequency, the byte to flip; irom code; then address and content of segments.
    let segments =
        [&[0, 0x20, 0, 0], &block(b"code in RAM")[..], &[0, 0x0e, 0x80, 0], &block(&[7; 68])].concat();
    for (name, start) in [
        ("v1", [0, 3, 0x20, 0, 40]),
        ("v2", [1, 3, 0x20, 0, 20]),
        ("v2_no_trailer", [9, 0, 0x4f, 1, 0]),
        ("sdk", [7, 2, 0x20, 0, 3]),
        ("sdk_ambiguous", [7, 0, 1, 0, 0]),
        ("unknown_parameters", [0x41, 9, 0x77, 0, 90]),
    ] {
        put(
            "ota_esp8266_build",
            name,
            &[&start[..], &block(&[0x10, 0x10, 0x20, 0x40].repeat(20)), &segments].concat(),
        )?;
    }
    put("ota_esp8266_build", "no_segment", &[1, 3, 0x20, 0, 0, 0])
}

fn ota_contents() -> Result<(), Box<dyn Error>> {
    let read = |name: &str| fs::read(root().join("ota/tests/vectors/modules").join(name));
    // Flags, function, size of the suffix; then what is between prefix and suffix.
    let asset = read("synth-asset-plain.bin")?;
    let suffix = &asset[asset.len() - 4 - 97..asset.len() - 40];
    put("ota_extensions", "asset", &[&[1, 9, 61], suffix].concat())?;
    let user = read("synth-p2-user-with-asset-dep.bin")?;
    put("ota_extensions", "prefix", &[&[0x10, 5, 4], &user[24..160]].concat())?;
    let protected = read("synth-p2-protected.bin")?;
    let suffix = &protected[protected.len() - 4 - 49..protected.len() - 40];
    put("ota_extensions", "security", &[&[0, 2, 13], suffix].concat())?;
    let location =
        [2, 0, 16, 0, 144, 63, 95, 8, 136, 64, 95, 8, 248, 81, 63, 2, 1, 0, 10, 0, 255, 255, 32, 0, 4, 0];
    put("ota_extensions", "location", &[&[0, 5, 26], &location[..]].concat())?;
    let dependency =
        [3, 0, 12, 0, 4, 1, 181, 20, 7, 0, 0, 0, 0x14, 0, 6, 0, 2, 0, 0, 0, 5, 0, 0, 255, 255, 255, 255];
    put("ota_extensions", "dependency", &[&[0, 5, 27], &dependency[..]].concat())?;
    put("ota_extensions", "no_length", &[0x10, 5, 4, 0x11, 0, 0, 0, 1, 2, 3, 4])?;
    put("ota_extensions", "no_end", &[0x10, 5, 0, 0x11, 0, 5, 0, 97])?;
    put("ota_extensions", "blank", &[0, 2, 255, 255, 255, 255, 255])?;

    // Flags, window bits, size; then the stream.
    let stream = |name: &str| read(name).map(|file| file[32..file.len() - 44].to_vec());
    put(
        "ota_compressed",
        "system",
        &[&[0x90, 0, 8, 20], &stream("synth-gen3-system.compressed.bin")?[..]].concat(),
    )?;
    put(
        "ota_compressed",
        "window",
        &[&[0, 0x99, 8, 20], &stream("synth-gen3-system.compressed-w9.bin")?[..]].concat(),
    )?;
    let asset = read("synth-asset-compressed.bin")?;
    put("ota_compressed", "asset", &[&[0x11, 0, 1, 77], &asset[32..172]].concat())?;
    put(
        "ota_compressed",
        "text",
        &[&[0x61, 0x90, 0, 0], &b"again and again and again".repeat(40)[..]].concat(),
    )?;

    let archive = read("synth-p2-bundle.zip")?;
    put("ota_bundle", "bundle", &archive)?;
    put("ota_bundle", "cut", &archive[..archive.len() - 30])?;
    put("ota_bundle", "no_archive", b"PK\x03\x04 and nothing more")?;

    // Options and platform; for each file what it is, function, index, version, body.
    let module =
        |function: u8, index: u8, version: u8| [&[0, function, index, version, 20][..], &[7; 20]].concat();
    let system = [module(4, 2, 100), module(2, 0, 100), module(4, 1, 100)].concat();
    put("ota_flashing", "photon_update", &[&[2, 1], &system[..]].concat())?;
    let system = [module(4, 2, 100), module(2, 0, 100), module(4, 1, 100), module(4, 3, 100)].concat();
    put("ota_flashing", "electron_update", &[&[2, 3], &system[..]].concat())?;
    let mut larger = module(5, 1, 255);
    larger[0] = 0x20;
    put("ota_flashing", "gen3_user", &[&[0, 5], &larger[..], &module(8, 0, 1)].concat())?;
    put("ota_flashing", "core_odd", &[&[0, 0, 0, 3, 0, 1, 3][..], &[1, 2, 3]].concat())?;
    put("ota_flashing", "factory", &[&[1, 3], &module(5, 1, 6)[..]].concat())?;
    let mut both = module(5, 1, 6);
    both[0] = 0x80;
    put("ota_flashing", "combined", &[&[0, 1], &module(4, 1, 9)[..], &both].concat())?;
    put("ota_flashing", "twice", &[&[0, 1], &module(5, 1, 6)[..], &module(5, 1, 7)].concat())?;
    put("ota_flashing", "no_module", &[&[4, 1, 0xc0, 0, 0, 0, 6][..], b"text!!"].concat())
}

fn ota_resolve() -> Result<(), Box<dyn Error>> {
    let cases = json("ota/tests/vectors/modules/resolve.json")?;
    for case in list(&cases["cases"]) {
        let name = case["case"].as_str().unwrap_or_default();
        put("ota_describe", name, &serde_json::to_vec(&case["describe"])?)?;
    }
    put("ota_describe", "empty", b"{}")?;
    put(
        "ota_describe",
        "digest",
        concat!(
            r#"{"p":6,"m":[{"s":131072,"l":"m","vc":30,"vv":28,"u":"#,
            r#""E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855","#,
            r#""f":"u","n":"1","v":6,"d":[{"f":"s","n":"2","v":2202},{"f":"_","n":"x","v":1}]}]}"#
        )
        .as_bytes(),
    )?;

    // Keys as in `spark_fuzz::ota`: bootloader 0, system parts 1 and 2, user part 1.
    let (boot, part1, part2, user, none) = (1_u8, 8, 16, 10, 128);
    let module = |key: u8, version: u8, a: [u8; 2], b: [u8; 2]| [&[key, version, 0][..], &a, &b].concat();
    let nothing = [none, 0];
    let old = [
        module(boot, 10, nothing, nothing),
        module(part1, 20, nothing, nothing),
        module(part2, 20, [part1, 20], nothing),
        module(user, 6, [part2, 140], nothing),
    ];
    let new = [
        module(boot, 100, nothing, nothing),
        module(part1, 220, [part2, 20], nothing),
        module(part2, 220, [part1, 220], [boot, 100]),
    ];
    let stepping_stone = module(part2, 60, [part1, 20], nothing);
    let cycle =
        [module(boot, 100, nothing, nothing), module(part1, 220, [part2, 60], nothing), new[2].clone()];
    let job = |choice: u8, device: &[Vec<u8>], catalogue: &[Vec<u8>], tail: &[u8]| {
        let (device_len, catalogue_len) = (device.len() as u8, catalogue.len() as u8);
        [&[choice, device_len], &device.concat()[..], &[catalogue_len], &catalogue.concat(), tail].concat()
    };
    let with_stone = [&cycle[..], &[stepping_stone]].concat();
    put("ota_resolve", "safe_mode", &job(0, &old, &new, &[]))?;
    put("ota_resolve", "cycle", &job(0, &old, &cycle, &[]))?;
    put("ota_resolve", "bootstrap", &job(2, &old, &with_stone, &[]))?;
    put("ota_resolve", "bootstrap_target", &job(3, &old, &with_stone, &[0, 2]))?;
    put("ota_resolve", "target_up", &job(1, &old, &new, &[0, 2]))?;
    let healed = [&new[..], &old[3..]].concat();
    put("ota_resolve", "target_down", &job(1, &healed, &old, &[0, 1]))?;
    put("ota_resolve", "not_applied", &job(0, &old, &new, &[1, boot, 100, 3]))?;
    put("ota_resolve", "healthy", &job(0, &healed, &new, &[]))
}

/// Transfers as `spark_fuzz::ota_serial` reads them, and what devices and hosts say.
fn ota_serial() -> Result<(), Box<dyn Error>> {
    for (name, choice) in [("particle_small", 0), ("particle", 1), ("standard_small", 6), ("standard", 7)] {
        // 1500 bytes: `C`, then an answer to each packet.
        let mut words = vec![choice, 5, 220, b'C', 6, b'C'];
        words.extend([6; 14]);
        words.extend([b'C', 6]);
        put("ota_ymodem_sender", name, &words)?;
    }
    put("ota_ymodem_sender", "started", &[1, 0, 100, 1, 6, b'C', 6, 6, 6])?;
    put("ota_ymodem_sender", "refused", &[0, 0, 100, b'C', 0x15, 6, b'C', 0x15, 0x15, 3, 2, 0x18, 0x18])?;
    put("ota_ymodem_sender", "silent", &[2, 0, 100, b'C', 0, 0xff, 0xff, 6, b'C', 0, 0xff, 0xff, 6])?;

    for (name, profile) in [("v0_4", 0), ("v2_0", 1), ("standard", 2), ("strict", 3)] {
        let mut stream = vec![profile, 0xff, 0xff, 0x80, 0];
        stream.extend(block(b"fuzz\x00200 "));
        stream.extend([&[0x80, 1][..], &block(&[7; 128]), &[0x80, 2], &block(&[8; 72]), &[4]].concat());
        put("ota_ymodem_receiver", &format!("{name}_cut"), &stream)?;
        stream.extend([&[0x80, 0][..], &block(&[])].concat());
        put("ota_ymodem_receiver", name, &stream)?;
        let mut errors = vec![profile, 0xff, 0xff, 1, 4, 0x80, 0];
        errors.extend(
            [&block(b"fuzz\x0010 ")[..], &[0x80, 7], &block(&[]), &[0, 0x20, 0, 0x18, b'?']].concat(),
        );
        put("ota_ymodem_receiver", &format!("{name}_errors"), &errors)?;
    }

    let reply = |name: &str, text: &[u8]| put("ota_listening_host", name, &[&[0], text].concat());
    reply("identity", b"Your device id is 3a0027001747343338303599\r\n")?;
    reply(
        "cellular",
        b"Device ID: 3a0027001747343338303599\r\nIMEI: 353162\r\nICCID: 89340\r\nSerial Number: P01\r\n",
    )?;
    reply("version", b"system firmware version: 0.8.0-rc.9\n\r\n")?;
    reply("mac", b"Your device MAC address is\r\n0b:84:12:34:56\r\n")?;
    reply("claimed", b"Device claimed: no\r\n")?;
    let modules = br#"{"p":6,"m":[{"s":262144,"l":"m","vc":30,"vv":26,"f":"s","n":"2","v":207,"d":[]}]}"#;
    reply("modules", modules)?;
    let dialogue = |words: &[&[u8]]| {
        words.iter().flat_map(|words| [block(words), vec![50]].concat()).collect::<Vec<_>>()
    };
    let wifi = dialogue(&[
        b"SSID: ",
        b"net\r\nSecurity 0=unsecured, 1=WEP: ",
        b"3\r\nPassword: ",
        b"Thanks! <3 you!",
    ]);
    put("ota_listening_host", "wifi", &[&[1][..], &wifi].concat())?;
    let waiting = b"Waiting for the binary file to be sent ... (press 'a' to abort)\r\n";
    let flash = dialogue(&[
        b"",
        waiting,
        b"\x06C",
        b"\x06",
        b"\x06",
        b"\x06",
        b"\x06",
        b"Downloaded file successfully!",
    ]);
    put("ota_listening_host", "flash", &[&[3][..], &flash].concat())?;

    let device = |name: &str, words: &[&[u8]]| {
        let data: Vec<u8> = words.iter().flat_map(|words| [block(words), vec![1, 0]].concat()).collect();
        put("ota_listening_device", name, &[&[1][..], &data].concat())
    };
    device("questions", &[b"imsvcdxL?"])?;
    device("wifi", &[b"wnet\r\n", b"3\n1\n", b"passwort\n"])?;
    device("wifi_wrong", &[b"w\n\x08", b"net\n9\n0\n"])?;
    device("claim", &[b"C", &[b'c'; 63], b"\n"])?;
    let header = [&[1, 0, 0xff][..], b"binary\x00100 ", &[0; 128 - 11], &[0, 0]].concat();
    let packet = [&[1, 1, 0xfe][..], &[7; 130]].concat();
    let last = [&[1, 0, 0xff][..], &[0; 130]].concat();
    device("flash", &[b"f", &header, &packet, &[4], &last])?;
    device("abort", &[b"f", &header, b"a", b"i"])
}

fn ota_sonoff() -> Result<(), Box<dyn Error>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().as_bytes().to_vec();
    for (session, seeds) in [("session_range", 14), ("session_simple_sonoff_server", 20)] {
        let records = json(&format!("ota/tests/vectors/sonoff/sessions/{session}.json"))?;
        let records = list(&records["records"]);
        for (i, record) in records.iter().enumerate() {
            let name = format!("{session}_{i}");
            let frame = bytes(&record["frame_hex"]);
            match record["step"].as_str().unwrap_or_default() {
                step @ ("ws_tx" | "ws_rx") if i < seeds => {
                    let from = u8::from(step == "ws_rx");
                    put("ota_sonoff_frame", &name, &[&[from | 64][..], &frame].concat())?;
                    if let Some(at) = frame.iter().position(|byte| *byte == b'{') {
                        put("ota_sonoff_message", &name, &frame[at..])?;
                    }
                }
                "ap" | "dispatch" | "ws_open" => {
                    for field in ["server_request_text", "device_request_text", "device_response_text"] {
                        if record[field].is_string() {
                            put(
                                "ota_sonoff_http",
                                &format!("{name}_{field}"),
                                &[vec![0; 4], text(&record[field])].concat(),
                            )?;
                        }
                    }
                    let answer =
                        [text(&record["server_response_head"]), text(&record["server_response_body"])]
                            .concat();
                    put("ota_sonoff_http", &name, &[vec![0; 4], answer].concat())?;
                }
                "get" if i % 5 == 0 || i > 50 => {
                    let length = 104_276_u32.to_be_bytes().to_vec();
                    put("ota_sonoff_http", &name, &[length, text(&record["device_request_text"])].concat())?;
                }
                _ => {}
            }
        }
    }
    let upgrade = list(&json("ota/tests/vectors/sonoff/sessions/session_range.json")?["records"])
        .iter()
        .find(|record| record["json"]["action"] == "upgrade")
        .map(|record| record["json"].to_string());
    put("ota_sonoff_message", "upgrade", upgrade.unwrap_or_default().as_bytes())?;
    for (name, body) in [
        ("diy_info", r#"{"seq":2,"error":0,"data":"{\"switch\":\"off\",\"otaUnlock\":true}"}"#),
        ("diy_refused", r#"{"seq":2,"error":471}"#),
        (
            "diy_flash",
            r#"{"deviceid":"1","data":{"downloadUrl":"http://a/b","sha256sum":"66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"}}"#,
        ),
        (
            "state",
            r#"{"action":"update","apikey":"33f0c783-06d6-476c-a590-30bb4cf724c3","deviceid":"1","params":{"upgradeState":404},"d_seq":"7"}"#,
        ),
        (
            "switches",
            r#"{"action":"update","apikey":"33f0c783-06d6-476c-a590-30bb4cf724c3","deviceid":"1","params":{"switches":[{"switch":"on","outlet":0}],"power":"1.5"}}"#,
        ),
        (
            "redirect",
            r#"{"action":"redirect","apikey":"33f0c783-06d6-476c-a590-30bb4cf724c3","deviceid":"1","IP":"a","port":1}"#,
        ),
    ] {
        put("ota_sonoff_message", name, body.as_bytes())?;
    }
    put("ota_sonoff_http", "url", b"\0\0\0\0http://192.168.77.10:8080/ota/user2.bin")?;
    put("ota_sonoff_frame", "pings", &[0, 0x89, 0x80, 0, 0, 0, 0, 0x89, 0x80, 1, 2, 3, 4])?;
    put("ota_sonoff_frame", "close", &[1, 0x88, 2, 1, 0x98, 0x8a, 0])?;

    // Joined, dispatched, opened, registered, dated, updated.
    let up = [2, 0, 3, 1, 0, 6, 3, 2, 7, 8, 145, 9, 10, 0, 0];
    for (choice, name) in [(0, "old"), (1, "ranges"), (2, "later"), (3, "pinned"), (5, "second_slot")] {
        // 8 bytes of image in one chunk, then its hash, then the reboot.
        let small = [&[choice][..], &up, &[11, 0, 3, 3, 15, 0, 1, 17, 1, 0]].concat();
        put("ota_sonoff_device", &format!("{name}_wrong_digest"), &small)?;
        let chunks = [11, 0, 3, 3, 15, 4, 0, 15, 4, 0, 4, 3, 0, 3, 3, 15, 4, 0, 17, 0, 0];
        put("ota_sonoff_device", name, &[&[choice][..], &up, &chunks].concat())?;
        put(
            "ota_sonoff_device",
            &format!("{name}_silent"),
            &[&[choice][..], &up, &[11, 0, 3, 3, 0, 0, 0]].concat(),
        )?;
    }
    let request =
        b"POST /ap HTTP/1.1\r\n\r\n{\"ssid\":\"a\",\"password\":\"\",\"serverName\":\"b\",\"port\":1}";
    let paired = [&[9, 3, 0, 5, 0][..], &block(request), &up].concat();
    put("ota_sonoff_device", "paired", &paired)?;
    put("ota_sonoff_device", "redirected", &[&[2][..], &up, &[14, 0, 3, 2, 13, 12, 4, 2, 0]].concat())?;
    ota_sonoff_server()
}

fn ota_sonoff_server() -> Result<(), Box<dyn Error>> {
    let seed = |name: &str, parts: &[&[u8]]| put("ota_sonoff_server", name, &parts.concat());
    // A WebSocket of the first device; registered, dated, updated; offered.
    let offered = [0, 0x80, 7, 0, 8, 9, 4, 0];
    // A connection for downloads of it, and both ranges of the second image.
    let ranges = [0, 3, 13, 65, 0, 0, 13, 65, 16, 0];
    let paced = [0, 3, 13, 5, 0, 0, 2, 2, 2, 2, 2, 2, 2];
    for (name, choice) in [("once", 0), ("fast", 4), ("few", 8), ("often", 3)] {
        let start = [&[choice][..], &offered].concat();
        seed(&format!("ranges_{name}"), &[&start, &ranges, &[1, 0, 11, 0]])?;
        seed(&format!("whole_{name}"), &[&start, &paced, &[1, 0, 12, 0]])?;
        seed(&format!("refused_{name}"), &[&start, &[11, 2, 11, 2, 11, 4, 2, 2]])?;
        seed(&format!("silent_{name}"), &[&start, &[2, 2, 2, 2, 2, 2]])?;
        seed(&format!("lost_{name}"), &[&start, &ranges, &[1, 0, 5, 1, 0, 0x80, 7, 0, 2, 2]])?;
        let last = [1, 0, 11, 0, 5, 0, 0, 3, 13, 28 | 2, 0, 0, 5, 0];
        seed(&format!("final_{name}"), &[&start, &ranges, &last])?;
    }
    seed(
        "strangers",
        &[&[0, 0, 1, 6], &block(b"GET / HTTP/1.1\r\n\r\n"), &[0, 0x81, 6], &block(&[0x82; 20])],
    )?;
    let many: Vec<u8> = (0..8).flat_map(|i| [0, 0x80 | i, 7, 1, 8, 10, 4, i]).collect();
    seed("many", &[&[8], &many])
}
