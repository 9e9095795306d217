//! `spark dct recover` as a user runs it, on dumps and on the simulated Photon.

use crate::bench::Bench;
use crate::tables::{Vectors, hex, value, vector};
use serde_json::Value;
use spark_dct::wiced::{APP_OFFSET, Generation, WifiConfig};
use spark_sim::{PowerCut, config};

/// A Photon on which 0.6.4 lost its power while it wrote a new key: the field is the AND of both keys.
fn interrupted(bench: &Bench) {
    bench.device(&["show"]);
    let mut flash = bench.flash();
    let key = vector("keys/field612_ff.bin");
    config::write(&mut flash, Generation::V0_4_4, 34, &key[..612]).unwrap();
    flash.cut_power(PowerCut { after: 1, torn: false });
    let mut new = vector("keys/rsa1024_610.der");
    new.resize(612, 0xFF);
    config::write(&mut flash, Generation::V0_4_4, 34, &new).unwrap_err();
    flash.restore_power();
    bench.put("flash", flash.contents());
    bench.put("new.der", new);
}

#[test]
fn interrupted_write_is_recognised_and_recovered_from_what_is_known() {
    let bench = Bench::new("dct");
    interrupted(&bench);
    bench.put("pair", &bench.read("flash")[0x4000..0xC000]);
    let found = bench.json(&["recover", "pair"], 65);
    assert_eq!(found["confidence"], "damaged");
    let decision = |found: &Value| {
        let all = found["decisions"].as_array().unwrap();
        all.iter().find(|one| one["field"] == "device_private_key").unwrap().clone()
    };
    assert_eq!(decision(&found)["confidence"], "damaged");

    let known =
        ["recover", "pair", "--written", "device_private_key=@new.der", "--mix", "-o", "out", "--app", "app"];
    let found = bench.ok(&known);
    let decision = decision(&found);
    assert_eq!(
        (&decision["confidence"], &found["mixed"]),
        (&"judged good".into(), &true.into()),
        "{decision}"
    );
    assert!(bench.read("app")[34..34 + 612] == bench.read("new.der"));
    let shown = bench.ok(&["get", "device_private_key", "--secrets", "--file", "out"]);
    assert!(value(&shown, "device_private_key").as_str().unwrap().starts_with("3082"));
    assert_eq!(bench.plain(&["recover", "pair", "-o", "out"]).0, 73);
    let (_, text, _) = bench.plain(&["recover", "pair"]);
    assert!(text.contains("spark keys repair"), "{text}");
}

#[test]
fn device_is_recovered_through_its_own_bootloader() {
    let bench = Bench::new("dct");
    interrupted(&bench);
    let known =
        ["recover", "--written", "device_private_key=@new.der", "--mix", "--apply", "--backup", "kept"];
    let found = bench.device(&known);
    assert_eq!(found["writes"].as_array().unwrap().len(), 1, "{found}");
    assert!(bench.table()[34..34 + 612] == bench.read("new.der"));
    // A good device needs nothing.
    let found = bench.device(&["recover", "--apply"]);
    assert_eq!(found["writes"], Value::Array(Vec::new()));
}

#[test]
fn recovery_needs_both_sectors() {
    let bench = Bench::new("dct");
    bench.vector("app_v2.3.1.bin");
    let (code, _, message) = bench.plain(&["recover", "app_v2.3.1.bin"]);
    assert!(code == 65 && message.contains("0x08004000:0x8000"), "{message}");
    bench.put("blank", [0xFF; 32768]);
    assert_eq!(bench.plain(&["recover", "blank"]).0, 65);
}

fn decision(found: &Value, field: &str) -> Value {
    let all = found["decisions"].as_array().unwrap();
    all.iter().find(|one| one["field"] == field).unwrap().clone()
}

/// Both sectors of a Photon before 0.7.0, alike but for some bytes of their application sections.
fn pair(changes: [&[(usize, &[u8])]; 2]) -> Vec<u8> {
    let mut pair = vector("photon_0_factory.bin");
    let (one, two) = pair.split_at_mut(16384);
    two.copy_from_slice(one);
    for (sector, changes) in [one, two].into_iter().zip(changes) {
        for (offset, bytes) in changes {
            sector[APP_OFFSET + offset..][..bytes.len()].copy_from_slice(bytes);
        }
    }
    pair
}

fn and(one: &[u8], two: &[u8]) -> Vec<u8> {
    one.iter().zip(two).map(|(one, two)| one & two).collect()
}

/// A server's key with its address, 512 bytes.
fn server_region(key: &str) -> Vec<u8> {
    let mut region = vector(key);
    region.resize(384, 0xFF);
    region.extend(b"\x01\x09a.example");
    region.resize(512, 0xFF);
    region
}

#[test]
fn half_written_server_key_is_damaged_although_it_reads_as_a_key() {
    let bench = Bench::new("dct");
    let old = server_region("keys/server2048.spki.der");
    let new = server_region("keys/particle_server_rsa_spki_294.der");
    bench.put("pair", pair([&[(2082, &and(&old, &new))], &[(2082, &old)]]));
    bench.put("new", &new);
    let written = ["recover", "pair", "--written", "server_public_key=@new"];
    for arguments in [&written[..], &written[..2]] {
        let found = decision(&bench.json(arguments, 65), "server_public_key");
        assert_eq!((&found["confidence"], &found["better"]), (&"damaged".into(), &"DCT2".into()), "{found}");
    }
    let (_, text, _) = bench.plain(&written);
    assert!(text.contains("it is the AND of the old and the new value"), "{text}");
    assert!(text.contains("DCT2 has a better value: --mix takes it"), "{text}");
    bench.ok(&["recover", "pair", "--mix", "--app", "app"]);
    assert!(bench.read("app")[2082..][..512] == old);
    // Or the other sector as a whole.
    assert!(text.contains("--base 2 takes it as a whole"), "{text}");
    assert_eq!(bench.json(&written[..2], 65)["other_base"], "DCT2");
    assert_eq!(bench.ok(&["recover", "pair", "--base", "2"])["other_base"], Value::Null);

    let inspect = Bench::new("inspect");
    inspect.put("pair", bench.read("pair"));
    let (code, text, _) = inspect.plain(&["pair"]);
    assert!(code == 65 && text.contains("server_public_key"), "{text}");

    // The good one is not called damaged because the other one is, and not good because it reads.
    bench.put("good", pair([&[(2082, &old)], &[(2082, &and(&old, &new))]]));
    let found = decision(&bench.ok(&["recover", "good"]), "server_public_key");
    assert_eq!((&found["confidence"], &found["source"]), (&"unknown".into(), &"DCT1".into()), "{found}");
}

#[test]
fn server_key_of_the_vendor_is_good_with_the_address_of_the_vendor() {
    let bench = Bench::new("dct");
    let known = vector("keys/particle_server_rsa_512.der");
    bench.put("known", pair([&[(2082, &known)], &[(2082, &known)]]));
    let judged =
        |file: &str| decision(&bench.ok(&["recover", file]), "server_public_key")["confidence"].clone();
    assert_eq!(judged("known"), "judged good");
    assert!(!bench.plain(&["recover", "known"]).1.contains("nothing proves"));
    let mut other = known.clone();
    other[386] &= b'`';
    bench.put("other", pair([&[(2082, &other)], &[(2082, &other)]]));
    assert_eq!(judged("other"), "plausible");
    let (_, text, _) = bench.plain(&["recover", "other"]);
    assert!(text.contains("server_public_key: plausible; it reads as a key, and nothing proves"), "{text}");
}

/// The reports "-19 in the handshake" and "keys lost": a device that has worked, and then an erased key.
#[test]
fn key_that_a_device_has_worked_with_is_lost_when_it_is_erased() {
    let bench = Bench::new("dct");
    let inspect = Bench::new("inspect");
    let mut key = vector("keys/rsa1024_610.der");
    key.resize(1216, 0xFF);
    let region = vector("keys/particle_server_rsa_512.der");
    let (no_key, no_region) = ([0xFF; 1216], [0xFF; 768]);
    for (name, changes, lost) in [
        ("whole", &[(34, &key[..]), (1825, b"1"), (2082, &region)][..], None),
        ("region", &[(34, &key[..]), (2082, &no_region)], Some("server_public_key")),
        (
            "region, claimed",
            &[(34, &no_key[..]), (1825, b"1"), (2082, &no_region)],
            Some("server_public_key"),
        ),
        ("key", &[(34, &no_key[..]), (1825, b"1"), (2082, &region)], Some("device_private_key")),
        // Never used: firmware makes a key at its first start.
        ("fresh", &[(34, &no_key[..]), (1825, &[0xFF]), (2082, &region)], None),
        ("blank", &[(34, &no_key[..]), (1825, &[0xFF]), (2082, &no_region)], None),
    ] {
        let code = if lost.is_some() { 65 } else { 0 };
        let pair = pair([changes, changes]);
        bench.put("pair", &pair);
        inspect.put("pair", &pair);
        inspect.put("app", &pair[APP_OFFSET..][..8391]);
        let recovered = bench.json(&["recover", "pair"], code);
        assert_eq!(recovered["whole"], lost.is_none(), "{name}");
        for file in ["pair", "app"] {
            let report =
                inspect.json(&[file, "--as", if file == "app" { "dct-app" } else { "dct-flash" }], code);
            let problems = report["problems"].to_string();
            assert_eq!(report["valid"], lost.is_none(), "{name}, {file}: {problems}");
            assert!(lost.is_none_or(|field| problems.contains(field)), "{name}, {file}: {problems}");
        }
        if let Some(field) = lost {
            assert_eq!(decision(&recovered, field)["confidence"], "damaged", "{name}");
            let text = bench.plain(&["recover", "pair"]).1;
            assert!(text.contains(&format!("  {field}: no sector has a good one")), "{text}");
        }
    }
    // The other generation still has it.
    let with = |region| [(34, &key[..]), (2082, region)];
    bench.put("pair", pair([&with(&no_region[..]), &with(&region)]));
    let found = decision(&bench.json(&["recover", "pair"], 65), "server_public_key");
    assert_eq!(found["better"], "DCT2", "{found}");
    bench.ok(&["recover", "pair", "--mix"]);
    // A device that uses UDP needs neither.
    let electron = |transport: u8| {
        let mut pair = vector("electron_2_v2_second.bin");
        pair.truncate(16384);
        pair[8 + 34..][..612].copy_from_slice(&key[..612]);
        pair[8 + 2082..][..768].fill(0xFF);
        pair[8 + 2977] = transport;
        let crc = spark_dct::dcd::sector_crc(pair[..].first_chunk().unwrap());
        pair[16380..].copy_from_slice(&crc.to_le_bytes());
        pair.resize(32768, 0xFF);
        pair
    };
    bench.put("udp", electron(0xFF));
    bench.ok(&["recover", "udp"]);
    bench.put("tcp", electron(0));
    bench.json(&["recover", "tcp"], 65);
}

/// A checksum that is made anew over damage is right.
#[test]
fn only_sector_with_a_wrong_checksum_is_damaged_whatever_its_fields_show() {
    let bench = Bench::new("dct");
    let mut pair = vector("photon_4_new_second.bin");
    pair[..16384].fill(0xFF);
    bench.put("good", &pair);
    assert_eq!(bench.ok(&["recover", "good"])["whole"], true);
    pair[16384 + APP_OFFSET + 2952] ^= 1;
    bench.put("pair", &pair);
    let found = bench.json(&["recover", "pair", "-o", "out"], 65);
    assert_eq!((&found["whole"], &found["base"]), (&false.into(), &"DCT2".into()));
    assert!(bench.path("out").exists());
    let text = bench.plain(&["recover", "pair"]).1;
    assert!(text.contains("a checksum that is made anew proves nothing"), "{text}");
}

/// A replaced value explains a wrong checksum only if the checksum fits with it.
#[test]
fn checksum_tells_whether_the_replaced_value_was_all_that_was_damaged() {
    let bench = Bench::new("dct");
    let mut pair = vector("photon_4_new_second.bin");
    pair[..16384].fill(0xFF);
    let at = 16384 + APP_OFFSET;
    let mut key = vector("keys/field612_ff.bin");
    key.truncate(612);
    bench.put("orig", &key);
    // As it was, with that key and a checksum for it.
    bench.put("start", &pair);
    bench.ok(&["set", "-f", "start", "-o", "good", "device_private_key=@orig"]);
    let mut good = bench.read("good");
    let of = |pair: &[u8]| {
        (0..2).find(|sector| pair[sector * 16384 + APP_OFFSET + 34..][..612] == key[..]).unwrap()
    };
    let sector = of(&good);
    good[(1 - sector) * 16384..][..16384].fill(0xFF);
    let at = sector * 16384 + at % 16384;
    good[at + 34 + 300] ^= 4;
    bench.put("pair", &good);
    let recover = ["recover", "pair", "--mix", "--written", "device_private_key=@orig"];
    assert_eq!(bench.ok(&recover)["whole"], true);
    good[at + 2952] ^= 1;
    bench.put("pair", &good);
    assert_eq!(bench.json(&recover, 65)["whole"], false);
}

#[test]
fn cached_public_key_is_good_if_the_private_key_confirms_it() {
    let bench = Bench::new("dct");
    let mut private = vector("keys/rsa1024_610.der");
    private.resize(612, 0xFF);
    let cache_of = |private: &[u8]| {
        let mut cache = spark_keys::published_by_device(private).to_vec();
        cache.resize(384, 0);
        cache
    };
    let cache = cache_of(&private);
    let mut damaged = cache.clone();
    damaged[40..100].iter_mut().for_each(|byte| *byte &= 0xEE);
    let stale = cache_of(&vector("keys/field612_ff.bin"));
    let with = |cache| [(34, &private[..]), (1250, cache)];

    bench.put("good", pair([&with(&cache), &with(&damaged)]));
    let found = decision(&bench.ok(&["recover", "good"]), "device_public_key");
    assert_eq!(found["confidence"], "judged good", "{found}");
    bench.put("damaged", pair([&with(&damaged), &with(&cache)]));
    let found = decision(&bench.json(&["recover", "damaged"], 65), "device_public_key");
    assert_eq!((&found["confidence"], &found["better"]), (&"damaged".into(), &"DCT2".into()), "{found}");
    bench.put("stale", pair([&with(&stale), &with(&stale)]));
    let found = decision(&bench.ok(&["recover", "stale"]), "device_public_key");
    assert_eq!(found["confidence"], "plausible", "{found}");
}

#[test]
fn recovery_says_what_it_does_not_write_outside_of_the_application_section() {
    let bench = Bench::new("dct");
    bench.device(&["show"]);
    let mut flash = bench.read("flash");
    let mut sectors = pair([&[], &[(1858, b"1")]]);
    sectors[16384 + WifiConfig::OFFSET..][..40].fill(0x41);
    flash[0x4000..0xC000].copy_from_slice(&sectors);
    bench.put("flash", flash);
    bench.put("pair", sectors);
    let found = bench.device(&["recover", "--base", "2", "--apply", "--dry-run"]);
    assert_eq!(found["outside"]["current"], "DCT1");
    assert_eq!(found["outside"]["differs"], serde_json::json!(["Wi-Fi credentials"]));
    let (_, text, _) = bench.plain(&["recover", "pair", "--base", "2"]);
    assert!(text.contains("Wi-Fi credentials") && text.contains("--apply does not write them"), "{text}");
    // Nothing is said where nothing is lost.
    assert_eq!(bench.ok(&["recover", "pair"])["outside"]["differs"], Value::Array(Vec::new()));
    let (_, text, _) = bench.plain(&["recover", "pair"]);
    assert!(!text.contains("Wi-Fi"), "{text}");
}

#[test]
fn repaired_fields_are_written_with_all_of_their_bytes() {
    let bench = Bench::new("dct");
    bench.device(&["show"]);
    let mut flash = bench.read("flash");
    let tail = [0x5A; 256];
    flash[0x4000..0xC000].copy_from_slice(&pair([&[], &[(2082 + 512, &tail)]]));
    bench.put("flash", flash);
    let found = bench.device(&["recover", "--base", "2", "--apply"]);
    assert_eq!(found["writes"][0]["bytes"], 768, "{found}");
    let shown = bench.device(&["get", "server_public_key.tail"]);
    assert_eq!(value(&shown, "server_public_key.tail"), &Value::from(hex(&tail)));
}

#[test]
fn dry_run_of_a_recovery_writes_no_file() {
    let bench = Bench::new("dct");
    bench.vector("photon_4_new_second.bin");
    let arguments = ["recover", "photon_4_new_second.bin", "-o", "out", "--app", "app", "--dry-run"];
    assert_eq!(bench.ok(&arguments)["dry_run"], true);
    let (_, text, _) = bench.plain(&arguments);
    assert!(text.contains("out would be written") && text.contains("app would be written"), "{text}");
    assert!(!bench.path("out").exists() && !bench.path("app").exists());
}

#[test]
fn recovered_sectors_and_section_need_two_files() {
    let bench = Bench::new("dct");
    bench.vector("photon_4_new_second.bin");
    for app in ["same", "./same"] {
        let arguments = ["recover", "photon_4_new_second.bin", "-o", "same", "--app", app];
        let (code, _, message) = bench.fails(&arguments);
        assert!(code == 64 && message.contains("two names"), "{message}");
        assert!(!bench.path("same").exists());
    }
    bench.ok(&["recover", "photon_4_new_second.bin", "-o", "same", "--app", "other"]);
}

/// Firmware that finds no valid sector starts an empty table beside what it does not find.
#[test]
fn table_behind_a_damaged_mark_is_found_and_proposed() {
    let bench = Bench::new("dct");
    let mut pair = vector("photon_2_old_swapped.bin");
    pair[..16384].copy_from_slice(&vector("photon_5_new_blank_init.bin")[..16384]);
    pair[16384 + 12] &= 0xF0;
    bench.put("pair", &pair);
    let found = bench.json(&["recover", "pair"], 65);
    assert_eq!(found["sectors"][1]["standing"], "complete, but its mark is damaged");
    assert_eq!((&found["base"], &found["other_base"]), (&"DCT1".into(), &"DCT2".into()));
    let key = decision(&found, "device_private_key");
    assert_eq!((&key["confidence"], &key["better"]), (&"damaged".into(), &"DCT2".into()));
    bench.json(&["recover", "pair", "--base", "2", "-o", "out"], 65);
    let shown = bench.ok(&["get", "device_private_key", "--secrets", "--file", "out"]);
    assert_eq!(
        value(&shown, "device_private_key"),
        value(
            &bench.ok(&["get", "device_private_key", "--secrets", "--file", "pair", "--sector", "2"]),
            "device_private_key"
        )
    );

    // No mark at all: nothing is guessed, and what the user says is believed.
    pair[..16384].fill(0xFF);
    pair[16384..16384 + 388].fill(0xFF);
    bench.put("pair", &pair);
    let (code, _, message) = bench.fails(&["recover", "pair"]);
    assert!(code == 65 && message.contains("--platform"), "{message}");
    let found = bench.json(&["recover", "pair", "--platform", "photon", "-o", "placed"], 65);
    assert_eq!((&found["base"], &found["whole"]), (&"DCT2".into(), &false.into()));
    let placed = bench.ok(&["get", "device_private_key", "--secrets", "--file", "placed"]);
    assert_eq!(value(&placed, "device_private_key"), value(&shown, "device_private_key"));
}

/// The bootloader leaves its table to the system firmware. Without it anything may come, and none of it is the table.
#[test]
fn device_without_system_firmware_is_not_taken_for_one_without_keys() {
    let bench = Bench::new("dct");
    let key = vector("keys/field612_ff.bin");
    bench.put("key", &key[..612]);
    bench.device(&["set", "device_private_key=@key", "--backup", "kept"]);
    let mut flash = bench.read("flash");
    flash[0x6_0000..0x6_0040].fill(0xFF);
    bench.put("flash", &flash);
    for arguments in [&["show"][..], &["get", "claimed"], &["set", "claimed=true", "--backup", "other"]] {
        let (code, message) = bench.device_fails(arguments);
        assert!(code == 69 && message.contains("spark flash"), "{arguments:?}: {message}");
    }
    let keys = Bench::new("keys");
    keys.put("flash", &flash);
    keys.put("key", &key[..612]);
    for arguments in
        [&["check"][..], &["doctor", "--dry-run"], &["save", "out"], &["load", "key"], &["address"]]
    {
        let (code, message) = keys.device_fails(arguments);
        assert!(code == 69 && message.contains("spark flash"), "{arguments:?}: {message}");
    }
    let left: Vec<_> =
        std::fs::read_dir(keys.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing is kept of what was not the table: {left:?}");
    assert!(!bench.path("other").exists() && bench.read("flash") == flash && keys.read("flash") == flash);
    // The flash itself tells.
    let found = bench.device(&["recover"]);
    assert_eq!(decision(&found, "device_private_key")["confidence"], "judged good");
}

/// Firmware before 0.7.0 writes in place and knows no checksum; what it shows is the table all the same.
#[test]
fn device_with_a_damaged_table_is_no_device_without_system_firmware() {
    let bench = Bench::new("dct");
    bench.device(&["show"]);
    let with = |pair: &[u8], is_whole: bool| {
        let mut flash = bench.read("flash");
        flash[0x4000..0xC000].copy_from_slice(pair);
        if !is_whole {
            flash[0x6_0000..0x6_0040].fill(0xFF);
        }
        bench.put("other", &flash);
        bench.plain(&["show", "--virtual", "other"])
    };
    // Changed in place after a downgrade, or damaged: the checksum is wrong.
    let mut in_place = vector("photon_3_new_first.bin");
    in_place[7548 + 1825] = 0;
    let mut alone = in_place.clone();
    alone[16384..].fill(0xFF);
    let mut damaged = vector("photon_4_new_second.bin");
    damaged[16384 + 7548 + 100] ^= 1;
    // Partly erased.
    let mut erased = vector("photon_1_old_inplace.bin");
    erased.copy_within(..16384, 16384);
    erased[7548 + 34..7548 + 100].fill(0xFF);
    erased[7548 + 2082..7548 + 2200].fill(0xFF);
    // An empty table beside the old one.
    let mut beside = vector("photon_2_old_swapped.bin");
    beside[..16384].copy_from_slice(&vector("photon_5_new_blank_init.bin")[..16384]);
    for (name, pair) in [
        ("in place", in_place),
        ("alone", alone),
        ("damaged", damaged),
        ("erased", erased),
        ("beside", beside),
    ] {
        let (code, _, message) = with(&pair, true);
        assert_eq!(code, 0, "{name}: {message}");
        let (code, _, message) = with(&pair, false);
        assert!(code == 69 && message.contains("spark flash"), "{name}: {message}");
    }
}
