//! Files made by other programs get the verdict that those programs gave, and are written again byte for byte.

#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "tests")]

use serde_json::Value;
use spark_dfu::file::dfuse::{DfuSeError, DfuSeFile, Event, ImageSize, ParseOptions, Part, Reader};
use spark_dfu::file::prefix::{Prefix, PrefixError, PrefixedContent};
use spark_dfu::file::suffix::{RawSuffix, Suffix, SuffixDigest, SuffixError, SuffixedFile, UsbIds};
use spark_dfu::file::{Kind, recognise};
use std::path::Path;

fn read(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(path)).unwrap()
}

struct Case {
    name: String,
    bytes: Vec<u8>,
    verdicts: Value,
}

impl Case {
    fn exit(&self, tool: &str) -> i64 {
        self.verdicts[tool]["exit"].as_i64().unwrap()
    }

    fn text(&self, tool: &str) -> &str {
        self.verdicts[tool]["stdout"].as_str().unwrap()
    }

    fn complaint(&self, tool: &str) -> &str {
        self.verdicts[tool]["stderr"].as_str().unwrap()
    }
}

fn cases(list: &str, count: usize) -> Vec<Case> {
    let list: Value = serde_json::from_slice(&read(list)).unwrap();
    let cases: Vec<Case> = list["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| {
            let bytes = read(case["file"].as_str().unwrap());
            assert_eq!(bytes.len() as u64, case["size"].as_u64().unwrap());
            let name = case["name"].as_str().unwrap().to_owned();
            Case { name, bytes, verdicts: case["verdicts"].clone() }
        })
        .collect();
    assert_eq!(cases.len(), count);
    cases
}

/// The number after a label in the text of a tool.
fn number_after(text: &str, label: &str) -> u32 {
    let rest = text.split_once(label).unwrap().1.trim_start();
    let word = rest.split_whitespace().next().unwrap().trim_end_matches(',');
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).unwrap(),
        None => word.parse().unwrap(),
    }
}

#[test]
fn suffixes_get_the_verdict_of_dfu_suffix() {
    for case in cases("suffix_cases.json", 21) {
        let (name, tool) = (&case.name, "dfu_suffix_check");
        let complaint = case.complaint(tool);
        let ours = SuffixedFile::parse(&case.bytes);
        assert_eq!(ours.is_ok(), case.exit(tool) == 0, "{name}");
        match ours {
            Ok(file) => {
                let (suffix, text) = (file.suffix(), case.text(tool));
                assert_eq!(u32::from(suffix.bcd_device), number_after(text, "BCD device:"), "{name}");
                assert_eq!(u32::from(suffix.id_product), number_after(text, "Product ID:"), "{name}");
                assert_eq!(u32::from(suffix.id_vendor), number_after(text, "Vendor ID:"), "{name}");
                assert_eq!(u32::from(suffix.bcd_dfu), number_after(text, "BCD DFU:"), "{name}");
                assert_eq!(u32::from(file.length()), number_after(text, "Length:"), "{name}");
                assert_eq!(file.crc(), number_after(text, "CRC:"), "{name}");
            }
            Err(SuffixError::TooShort { .. }) => assert!(complaint.contains("too short"), "{name}"),
            Err(SuffixError::BadSignature { .. }) => assert!(complaint.contains("signature"), "{name}"),
            Err(SuffixError::BadCrc { stored, computed }) => {
                assert!(complaint.contains("CRC does not match"), "{name}");
                let fwupd = case.complaint("fwupdtool_parse_dfu");
                assert_eq!(fwupd, format!("CRC failed, expected {computed:#010x}, got {stored:#010x}"));
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

// The one difference: fwupd refuses a suffix without payload.
#[test]
fn suffixes_get_the_verdict_of_fwupd_but_for_the_empty_payload() {
    for case in cases("suffix_cases.json", 21) {
        let ours = SuffixedFile::parse(&case.bytes).is_ok();
        let theirs = case.exit("fwupdtool_parse_dfu") == 0;
        assert_eq!(ours, theirs || case.name == "plain_0", "{}", case.name);
    }
}

#[test]
fn prefixes_are_those_that_dfu_prefix_sees() {
    for case in cases("suffix_cases.json", 21) {
        let text = case.text("dfu_prefix_check");
        let content = SuffixedFile::parse(&case.bytes).map_or(&case.bytes[..], |file| file.content());
        let ours = PrefixedContent::parse(content);
        match ours.map(|content| content.prefix()) {
            Ok(Prefix::Lmdfu { address }) => {
                assert!(text.contains("TI Stellaris"), "{}", case.name);
                assert_eq!(address, number_after(text, "Address:"));
            }
            Ok(Prefix::Lpc) => assert!(text.contains("NXP unencrypted LPC"), "{}", case.name),
            Ok(prefix) => panic!("{}: {prefix:?}", case.name),
            Err(error) => {
                assert!(!text.contains("prefix"), "{}", case.name);
                let mismatch = PrefixError::LmdfuLength { stored: 65, payload_len: 64 };
                assert_eq!(error == mismatch, case.name == "lmdfu_len_mismatch");
            }
        }
        assert!(ours.is_err() || ours.unwrap().is_canonical(), "{}", case.name);
    }
}

#[cfg(feature = "alloc")]
#[test]
fn suffixed_and_prefixed_files_are_rebuilt_byte_for_byte() {
    let mut rebuilt = 0;
    for case in cases("suffix_cases.json", 21) {
        let parsed = SuffixedFile::parse(&case.bytes);
        let content = parsed.map_or(&case.bytes[..], |file| file.content());
        let content = match PrefixedContent::parse(content) {
            Ok(prefixed) => prefixed.prefix().prepend_to_vec(prefixed.payload()).unwrap(),
            Err(_) => content.to_vec(),
        };
        let file = match parsed {
            Ok(parsed) => {
                rebuilt += 1;
                parsed.suffix().append_to_vec(&content).unwrap()
            }
            Err(_) => content,
        };
        assert!(file == case.bytes, "{}", case.name);
    }
    assert_eq!(rebuilt, 10);
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_suffixed_file_is_refused_in_pieces_too() {
    for name in ["photon_ids", "lmdfu_prefix_suffix", "plain_0", "plain_1"] {
        let file = read(&format!("suffix/{name}.bin"));
        let check = |bytes: &[u8]| {
            let mut digest = SuffixDigest::new();
            bytes.chunks(7).for_each(|piece| digest.update(piece));
            assert_eq!(digest.finish().err(), SuffixedFile::parse(bytes).err());
            assert!(digest.finish().is_err());
        };
        (0..file.len()).for_each(|len| check(&file[..len]));
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(&flipped);
        }
    }
}

#[test]
fn damaged_suffixes_are_no_raw_images() {
    for case in cases("suffix_cases.json", 21) {
        let kind = recognise(&case.bytes);
        match case.name.as_str() {
            "bad_crc" | "bad_payload" => assert!(matches!(kind, Kind::PlainDamaged { .. }), "{}", case.name),
            "spec_011a" => assert!(matches!(kind, Kind::PlainSaysDfuSe(_))),
            _ if case.exit("dfu_suffix_check") == 0 => {
                assert!(matches!(kind, Kind::Plain(_)), "{}", case.name)
            }
            _ => assert!(matches!(kind, Kind::Raw { .. }), "{}", case.name),
        }
    }
}

/// The verdict on each file of `dfuse/`. `Ok` tells what `DFUImageSize` counts.
fn dfuse_verdict(name: &str) -> Result<ImageSize, DfuSeError> {
    use DfuSeError as E;
    match name {
        "micropython_one" | "micropython_two" => Ok(ImageSize::WithoutSuffix),
        "one_element" | "three_elements" | "two_targets" | "photon_id" | "unnamed" | "alt_5" => {
            Ok(ImageSize::WithSuffix)
        }
        "bad_crc" => Err(E::Suffix(SuffixError::BadCrc { stored: 0xC6C5_BC0C, computed: 0x46C5_BC0C })),
        "bad_magic" => Err(E::BadSignature { found: *b"DFUse" }),
        "version_2" => Err(E::Version { found: 2 }),
        "bad_target_sig" => Err(E::BadTargetSignature { target: 0, offset: 11, found: *b"Targex" }),
        "element_size_too_big" => Err(E::TargetSize { target: 0, offset: 11, stored: 48, elements: 148 }),
        "zero_targets" => Err(E::NoTargets),
        "two_targets_claimed" => {
            Err(E::Truncated { part: Part::Target, offset: 333, needed: 274, available: 0 })
        }
        "suffix_0100" => Err(E::SuffixVersion { found: 0x0100 }),
        "truncated_half" => Err(E::Truncated { part: Part::Target, offset: 11, needed: 274, available: 163 }),
        other => panic!("{other} has no verdict"),
    }
}

#[test]
fn dfuse_files_get_their_verdict_whole_and_in_pieces_of_every_size() {
    for case in cases("dfuse_cases.json", 17) {
        let whole = DfuSeFile::parse(&case.bytes);
        let verdict = whole.map(|file| file.image_size_convention());
        assert_eq!(verdict, dfuse_verdict(&case.name), "{}", case.name);
        for len in 1..=case.bytes.len() {
            let mut reader = Reader::new(ParseOptions::STRICT);
            let failed = case.bytes.chunks(len).find_map(|mut piece| {
                loop {
                    match reader.read(&mut piece) {
                        Ok(Some(_)) => {}
                        Ok(None) => return None,
                        Err(error) => return Some(error),
                    }
                }
            });
            let end = failed.map_or_else(|| reader.finish(), Err);
            assert_eq!(end.map(|end| end.image_size), verdict, "{} in pieces of {len}", case.name);
        }
    }
}

// Where we differ, on purpose:
// - zero_targets: dfu-util sees 322 bytes left over and ends well; here it is an error.
// - photon_id: dfu-util refuses it for the device it was given (exit 64), not for its content.
// - alt_5: dfu-util warns that the device lacks alternate 5 and ends well; that is not for the file to decide.
#[test]
fn dfuse_files_are_good_if_dfu_util_programs_them() {
    for case in cases("dfuse_cases.json", 17) {
        let theirs = match (case.name.as_str(), case.exit("dfu_util_download")) {
            ("zero_targets", 0) => false,
            ("photon_id", 64) => true,
            (_, exit) => exit == 0,
        };
        assert_eq!(DfuSeFile::parse(&case.bytes).is_ok(), theirs, "{}", case.name);
    }
}

// fwupd wants DFUImageSize without the suffix, so it refuses every file of dfuse-pack.py.
#[test]
fn dfuse_files_are_good_for_fwupd_if_their_image_size_leaves_the_suffix_out() {
    for case in cases("dfuse_cases.json", 17) {
        let ours = DfuSeFile::parse(&case.bytes).map(|file| file.image_size_convention());
        let theirs = case.exit("fwupdtool_parse_dfuse") == 0;
        assert_eq!(ours == Ok(ImageSize::WithoutSuffix), theirs, "{}", case.name);
        if ours == Ok(ImageSize::WithSuffix) {
            assert!(case.complaint("fwupdtool_parse_dfuse").contains("invalid DfuSe image size"));
        }
    }
}

#[test]
fn dfuse_files_hold_what_dfuse_pack_lists() {
    for case in cases("dfuse_cases.json", 17) {
        let Ok(file) = DfuSeFile::parse(&case.bytes) else { continue };
        let mut lines = format!(
            "File: \"{}.dfu\"\nb'DfuSe' v1, image size: {}, targets: {}",
            case.name,
            file.image_size(),
            file.targets().len()
        );
        for (number, target) in file.targets().enumerate() {
            let name = target.name().map(|name| format!("b'{}'", String::from_utf8_lossy(name)));
            lines += &format!(
                "\nb'Target' {number}, alt setting: {}, name: \"{}\", size: {}, elements: {}",
                target.alternate(),
                name.unwrap_or_default(),
                target.prefix().size(),
                target.elements().count()
            );
            for (number, element) in target.elements().enumerate() {
                lines += &format!(
                    "\n  {number}, address: {:#010x}, size: {}",
                    element.address,
                    element.data.len()
                );
            }
        }
        let (suffix, crc) = (file.suffix().suffix, file.suffix().crc);
        lines += &format!(
            "\nusb: {:04x}:{:04x}, device: {:#06x}, dfu: {:#06x}, b'UFD', 16, {crc:#010x}",
            suffix.id_vendor, suffix.id_product, suffix.bcd_device, suffix.bcd_dfu
        );
        assert_eq!(lines, case.text("dfuse_pack_parse"), "{}", case.name);
        assert_eq!(lines, case.text("micropython_dfu_parse"), "{}", case.name);
    }
}

// dfuse-pack.py counts the suffix in DFUImageSize, we do not: its files differ there and in the checksum. The name field
// of the unnamed one holds bytes that nobody reads.
#[cfg(feature = "alloc")]
#[test]
fn dfuse_files_are_rebuilt_byte_for_byte_but_for_the_image_size_of_dfuse_pack() {
    let mut exact = 0;
    for case in cases("dfuse_cases.json", 17) {
        let Ok(file) = DfuSeFile::parse(&case.bytes) else { continue };
        let rebuilt = spark_dfu::file::dfuse::Builder::from_file(&file).to_vec().unwrap();
        assert_eq!(rebuilt.len(), case.bytes.len(), "{}", case.name);
        let end = rebuilt.len() - 4;
        let mut expected = case.bytes.clone();
        if file.image_size_convention() == ImageSize::WithSuffix {
            let size = u32::try_from(rebuilt.len() - 16).unwrap();
            expected[6..10].copy_from_slice(&size.to_le_bytes());
            if case.name == "unnamed" {
                expected[22..277].fill(0);
            }
            expected[end..].copy_from_slice(&rebuilt[end..]);
        } else {
            exact += 1;
        }
        assert!(rebuilt == expected, "{}", case.name);
        assert!(DfuSeFile::parse(&rebuilt).is_ok());
    }
    assert_eq!(exact, 2);
}

#[test]
fn dfuse_files_are_never_raw_images_however_damaged() {
    for case in cases("dfuse_cases.json", 17) {
        let kind = recognise(&case.bytes);
        let good = dfuse_verdict(&case.name).is_ok();
        assert_eq!(matches!(kind, Kind::DfuSe(_)), good, "{}", case.name);
        assert_eq!(matches!(kind, Kind::DfuSeDamaged { .. }), !good, "{}", case.name);
    }
}

// The device of the recording was 0483:df11 in both modes.
#[test]
fn a_file_matches_a_device_if_dfu_util_does_not_refuse_it() {
    let device = UsbIds { id_vendor: 0x0483, id_product: 0xDF11 };
    for case in cases("dfuse_cases.json", 17) {
        let Ok(file) = DfuSeFile::parse(&case.bytes) else { continue };
        let refused = case.complaint("dfu_util_download").contains("does not match device");
        assert_eq!(file.suffix().suffix.matches(Some(device), device), !refused, "{}", case.name);
        assert_eq!(refused, case.name == "photon_id");
    }
}

#[test]
fn every_truncation_and_every_flipped_bit_of_a_dfuse_file_is_refused() {
    for name in ["micropython_one", "three_elements", "two_targets"] {
        let file = read(&format!("dfuse/{name}.dfu"));
        for len in 0..file.len() {
            assert!(DfuSeFile::parse(&file[..len]).is_err(), "{name} cut to {len}");
        }
        for bit in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(DfuSeFile::parse(&flipped).is_err(), "{name} bit {bit}");
            assert!(!matches!(recognise(&flipped), Kind::Raw { .. } | Kind::Plain(_)) || bit / 8 < 5);
        }
    }
}

// 64 MiB go through both machines in pieces; nothing but the pattern is ever in memory.
#[test]
fn a_file_of_64_mib_is_checked_without_being_loaded() {
    const SIZE: u32 = 64 << 20;
    let data: Vec<u8> = (0..65_536_u32).map(|i| (i * 31 % 251) as u8).collect();
    let mut head = b"DfuSe\x01".to_vec();
    head.extend((SIZE + 8 + 274 + 11).to_le_bytes());
    head.extend(b"\x01Target\x00\x00\x00\x00\x00");
    head.extend([0; 255]);
    for field in [SIZE + 8, 1, 0x8000_0000, SIZE] {
        head.extend(field.to_le_bytes());
    }
    let crc = crc::Crc::<u32, crc::Table<16>>::new(&crc::CRC_32_JAMCRC);
    let mut sum = crc.digest();
    let mut tail = b"\x00\x00\x11\xdf\x83\x04\x1a\x01UFD\x10".to_vec();
    let body = || core::iter::repeat_n(&data[..], (SIZE / 65_536) as usize);
    sum.update(&head);
    body().for_each(|piece| sum.update(piece));
    sum.update(&tail);
    tail.extend(sum.finalize().to_le_bytes());

    let (mut reader, mut digest, mut seen) = (Reader::new(ParseOptions::STRICT), SuffixDigest::new(), 0_u64);
    for mut piece in [&head[..]].into_iter().chain(body()).chain([&tail[..]]) {
        digest.update(piece);
        while let Some(event) = reader.read(&mut piece).unwrap() {
            if let Event::Data { address, bytes } = event {
                assert_eq!(u64::from(address), 0x8000_0000 + seen);
                seen += bytes.len() as u64;
            }
        }
    }
    assert_eq!(seen, u64::from(SIZE));
    assert_eq!(reader.finish().unwrap().suffix, digest.finish().unwrap());
    let raw = digest.raw().unwrap();
    let expected = Suffix { bcd_device: 0, bcd_dfu: 0x011A, ..Suffix::new(0x0483, 0xDF11) };
    assert_eq!((raw.suffix(), raw), (expected, RawSuffix::of(&tail).unwrap()));
    assert!(size_of::<Reader>() < 512);
}
