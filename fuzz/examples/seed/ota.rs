//! Seeds of spark-ota.

use super::{block, bytes, json, list, put, root};
use std::error::Error;
use std::fs;

pub(crate) fn ota() -> Result<(), Box<dyn Error>> {
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
