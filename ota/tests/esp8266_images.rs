//! ESP8266 images of esptool and of Espressif's generator, compared with what esptool 5.6.0 says of them.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use serde_json::Value;
use spark_ota::esp8266::{
    Expectations, FlashParameters, Format, Image, ImageError, ImageFile, Patch, PatchError, Problem, Purpose,
    Severity, Sha256Text, Slot, Style, WholeFlash, crc_trailer,
};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/sonoff");

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(format!("{VECTORS}/{name}")).unwrap()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{VECTORS}/images/{name}")).unwrap()
}

fn codes(file: &[u8], expectations: Expectations) -> Vec<(Severity, &'static str)> {
    let parsed = ImageFile::parse(file).unwrap();
    parsed.check(&expectations).map(|finding| (finding.severity, finding.problem.code())).collect()
}

const ANY: Expectations = Expectations { purpose: Purpose::Any, strict: false };
const STRICT: Expectations = Expectations { purpose: Purpose::Any, strict: true };

/// As the tool prints it.
fn checksum_text(image: &Image<'_>) -> String {
    let (stored, computed) = (image.stored_checksum(), image.computed_checksum());
    if stored == computed {
        format!("{stored:#04x} (valid)")
    } else {
        format!("{stored:#04x} (invalid - calculated {computed:#04x})")
    }
}

/// Everything that the tool prints.
fn compare(image: &Image<'_>, case: &Value) {
    let tool = &case["tool"];
    let version = if image.format() == Format::V1 { 1 } else { 2 };
    assert_eq!(tool["image_version"], version);
    assert_eq!(tool["entry"], format!("{:#010x}", image.entry()));
    let parameters = image.parameters();
    assert_eq!(text(&tool["flash_mode"]), parameters.mode.to_string().to_uppercase());
    assert_eq!(text(&tool["flash_size"]), parameters.size.to_string());
    assert_eq!(text(&tool["flash_freq"]), parameters.frequency.to_string());
    assert_eq!(text(&tool["checksum"]), checksum_text(image));
    // To it, irom code is a segment.
    let irom = image.irom().map(|irom| (irom.data.len(), irom.address, irom.offset));
    let segments = image.segments().map(|segment| (segment.data.len(), segment.address, segment.offset));
    let theirs = list(&tool["segments"]).iter().map(|segment| {
        let address = u32::from_str_radix(text(&segment["load_addr"]).trim_start_matches("0x"), 16).unwrap();
        (number(&segment["length"]), address, number(&segment["file_offset_of_header"]))
    });
    assert!(irom.into_iter().chain(segments).eq(theirs));
    // It warns of every image of the SDK's generator.
    let sdk = matches!(image.style(), Some(Style::Sdk(_)));
    assert_eq!(list(&tool["warnings"]).is_empty(), !sdk);
    if let Some(offset) = case["second_header_offset"].as_u64() {
        assert_eq!(u64::try_from(image.header_offset()).unwrap(), offset);
        assert_eq!(case["second_header_hex"], hex::encode(image.header().encode()));
    }
    assert_eq!(
        case["crc_trailer_hex"].as_str().map(str::to_owned),
        image.stored_crc().map(|crc| hex::encode(crc.to_le_bytes()))
    );
}

#[test]
fn every_image_is_read_as_the_tool_reads_it() {
    let info = json("image_info.json");
    let cases = list(&info["cases"]);
    assert_eq!(cases.len(), 18);
    for case in cases {
        let name = text(&case["file"]);
        println!("{name}");
        let file = file(name);
        assert_eq!(file.len(), number(&case["size"]));
        assert_eq!(text(&case["sha256"]), Sha256Text::of(&file).as_str());
        let image = Image::parse(&file).unwrap();
        assert_eq!(case["first16_hex"], hex::encode(&file[..16]));
        compare(&image, case);
        assert!(image.checksum_ok() && image.crc_ok() != Some(false));
        assert_eq!(codes(&file, STRICT), []);
        assert_eq!(image.segments().len(), image.segments().count());
        let parsed = ImageFile::parse(&file).unwrap();
        assert_eq!(parsed.len(), file.len());
        assert_eq!(matches!(parsed, ImageFile::WholeFlash(_)), name == "image_arduino.bin");
    }
}

#[test]
fn generator_of_the_sdk_is_recognised_by_its_first_header() {
    for (name, slot) in [("sdk_user1_dout_1mb.bin", Slot::User1), ("sdk_user2_dout_1mb.bin", Slot::User2)] {
        let file = file(name);
        let image = Image::parse(&file).unwrap();
        assert_eq!((image.style(), image.linked_slot()), (Some(Style::Sdk(slot)), Some(slot)));
        assert_eq!(
            codes(&file, Expectations::of(Purpose::Upgrade(slot))),
            [(Severity::Warning, "one-range")]
        );
        let other = codes(&file, Expectations::of(Purpose::Upgrade(slot.other())));
        assert!(other.contains(&(Severity::Error, "other-slot-number")), "{other:?}");
    }
    let file = file("small_u2_v2_qio.bin");
    let image = Image::parse(&file).unwrap();
    assert_eq!((image.style(), image.linked_slot()), (Some(Style::Esptool), None));
}

#[test]
fn crc_trailer_is_that_of_the_tool() {
    for case in list(&json("esp8266_crc.json")["cases"]) {
        let data = hex::decode(text(&case["data_hex"])).unwrap();
        assert_eq!(case["crc32_zlib"], format!("{:08x}", spark_ota::crc32(&data)));
        assert_eq!(case["trailer_value"], format!("{:08x}", crc_trailer(&data)));
        assert_eq!(case["trailer_le_hex"], hex::encode(crc_trailer(&data).to_le_bytes()));
    }
}

/// Our verdict: the error of the parser, or the findings.
fn verdict(file: &[u8]) -> Vec<(Severity, &'static str)> {
    match ImageFile::parse(file) {
        Ok(_) => codes(file, ANY),
        Err(error) => vec![(Severity::Error, error.code())],
    }
}

#[test]
fn damaged_images_are_judged_as_the_tool_does_or_more_strictly() {
    use Severity::{Error, Warning};
    let expected: &[(&str, &[(Severity, &str)])] = &[
        ("v2_ok", &[]),
        ("v2_no_crc", &[]),
        ("v2_bad_crc", &[(Error, "bad-crc")]),
        ("v2_trailing", &[(Warning, "trailing-data")]),
        ("v2_mode_first_only", &[(Error, "header-mismatch"), (Error, "bad-crc")]),
        ("v2_mode_both_stale_crc", &[(Error, "bad-crc")]),
        ("v2_second_magic_bad", &[(Error, "bad-second-magic")]),
        ("v2_bad_checksum", &[(Error, "bad-checksum"), (Error, "bad-crc")]),
        ("v2_data_bit", &[(Error, "bad-checksum"), (Error, "bad-crc")]),
        ("v2_trunc", &[(Error, "bad-segment")]),
        ("v1_ok", &[]),
        ("v1_segcount_0", &[(Error, "segment-count"), (Error, "bad-checksum"), (Warning, "trailing-data")]),
        ("v1_mode_9", &[(Warning, "unknown-flash-mode")]),
        ("v1_bad_checksum", &[(Error, "bad-checksum")]),
        ("magic_00", &[(Error, "bad-magic")]),
        ("empty", &[(Error, "empty")]),
        ("hdr7", &[(Error, "truncated")]),
    ];
    let faults = json("image_faults.json");
    let cases = list(&faults["cases"]);
    assert!(cases.iter().map(|case| text(&case["id"])).eq(expected.iter().map(|(id, _)| *id)));
    for (case, (id, expected)) in cases.iter().zip(expected) {
        println!("{id}");
        let mut file = hex::decode(text(&case["data_hex"])).unwrap();
        assert_eq!(file.len(), number(&case["size"]));
        assert_eq!(verdict(&file), *expected);

        // What the tool refuses we refuse; what it warns of we tell.
        let parsed = Image::parse(&file);
        assert_eq!(case["tool_exit"] == 0, parsed.is_ok());
        assert!(list(&case["tool_warnings"]).is_empty() || !expected.is_empty());
        if let Ok(image) = parsed {
            assert_eq!(text(&case["tool_checksum"]), checksum_text(&image));
            let mode = image.parameters().mode.name().map(str::to_uppercase);
            assert_eq!(case["tool_flash_mode"].as_str().map(str::to_owned), mode);
        }

        // Nothing that is wrong is patched.
        let before = file.clone();
        let refused = Patch::DOUT.apply(&mut file).is_err();
        assert_eq!(refused, expected.iter().any(|(severity, _)| *severity == Error));
        assert!(!refused || file == before);
    }
    let trailing = hex::decode(text(&cases[3]["data_hex"])).unwrap();
    assert_eq!(codes(&trailing, STRICT), [(Error, "trailing-data")]);
    let image = Image::parse(&trailing).unwrap();
    assert_eq!((image.crc_ok(), image.trailing()), (Some(true), &[0xff; 12][..]));
}

/// The changed bytes, as in the file.
fn changes(case: &Value) -> Vec<(usize, u8, u8)> {
    let byte = |value: &Value| u8::try_from(number(value)).unwrap();
    let list = list(&case["changes"]);
    list.iter().map(|one| (number(&one["offset"]), byte(&one["before"]), byte(&one["after"]))).collect()
}

fn apply(file: &mut [u8], patch: &Patch) -> Vec<(usize, u8, u8)> {
    let before = file.to_vec();
    let patched = patch.apply(file).unwrap();
    let changes: Vec<_> = patched.changes().map(|one| (one.offset, one.before, one.after)).collect();
    let different = (0..).zip(before.iter().zip(&*file)).filter(|(_, (before, after))| before != after);
    assert!(different.map(|(at, (before, after))| (at, *before, *after)).eq(changes.iter().copied()));
    assert_eq!(patched.sha256, Sha256Text::of(file));
    changes
}

fn mode_in(name: &str) -> Patch {
    let modes = spark_ota::esp8266::FlashMode::KNOWN.iter();
    // "dio" is in no other name, "qio" neither, but "out" is in two.
    let mode = modes.copied().rfind(|mode| name.contains(mode.name().unwrap()));
    Patch { mode, ..Patch::default() }
}

#[test]
fn patched_images_are_those_that_the_tool_builds() {
    let patches = json("flash_mode_patch.json");
    let cases = list(&patches["built"]);
    assert_eq!(cases.len(), 4);
    for case in cases {
        let (from, to) = (text(&case["from"]), text(&case["to"]));
        let mut file = file(from);
        assert_eq!(apply(&mut file, &mode_in(to)), changes(case), "{from} to {to}");
        assert_eq!(Sha256Text::of(&file).as_str(), text(&case["to_sha256"]));
        let back: Vec<_> = changes(case).into_iter().map(|(at, before, after)| (at, after, before)).collect();
        assert_eq!(apply(&mut file, &mode_in(from)), back, "{to} to {from}");
        assert_eq!(Sha256Text::of(&file).as_str(), text(&case["from_sha256"]));
    }
}

#[test]
fn v1_is_patched_as_the_tool_does_it_and_v2_as_it_does_not() {
    let patches = json("flash_mode_patch.json");
    for case in list(&patches["tool_patch"]) {
        let mut file = file(text(&case["input"]));
        let ours = apply(&mut file, &mode_in(text(&case["mode"])));
        if text(&case["input"]).contains("v1") {
            assert_eq!(ours, changes(case));
            assert_eq!(Sha256Text::of(&file).as_str(), text(&case["output_sha256"]));
        } else {
            // The tool leaves v2 images as they are.
            assert!(changes(case).is_empty());
            assert_eq!(ours.is_empty(), text(&case["mode"]) == "qio");
        }
    }
}

#[test]
fn size_and_frequency_are_patched_to_the_bytes_of_the_builds() {
    let from = file("small_u2_v2_dout.bin");
    for (name, text) in [
        ("freq_20m.bin", "20m"),
        ("freq_26m.bin", "26m"),
        ("freq_80m.bin", "80m"),
        ("size_512KB.bin", "512KB"),
        ("size_4MB.bin", "4MB"),
    ] {
        let patch = Patch { size: text.parse().ok(), frequency: text.parse().ok(), mode: None };
        let (mut patched, to) = (from.clone(), file(name));
        apply(&mut patched, &patch);
        assert_eq!(patched, to, "{name}");
        let back = Patch { size: "1MB".parse().ok(), frequency: "40m".parse().ok(), mode: None };
        apply(&mut patched, &back);
        assert_eq!(patched, from, "{name}");
    }
}

#[test]
fn first_header_of_the_sdk_stays() {
    let mut file = file("sdk_user1_dout_1mb.bin");
    let original = file.clone();
    let offset = Image::parse(&file).unwrap().header_offset();
    let done = apply(&mut file, &mode_in("qio"));
    assert_eq!(done[0], (offset + 2, 3, 0));
    assert!(done[1..].iter().all(|(at, ..)| *at >= 1280), "{done:?}");
    assert_eq!(file[..16], original[..16]);
    assert_eq!(codes(&file, STRICT), []);
    apply(&mut file, &mode_in("dout"));
    assert_eq!(file, original);

    // QIO, 512 KiB and 26 MHz are 00 01, the same as slot 1.
    let patch = Patch { mode: "qio".parse().ok(), size: "512KB".parse().ok(), frequency: "26m".parse().ok() };
    let parameters = FlashParameters::from_bytes([0, 1]);
    assert_eq!(patch.apply(&mut file), Err(PatchError::Ambiguous { parameters }));
    assert_eq!(file, original);
}

#[test]
fn whole_flash_is_two_images_of_which_the_stub_counts() {
    let mut file = file("image_arduino.bin");
    let both = WholeFlash::parse(&file).unwrap().unwrap();
    assert_eq!(both.stub().entry(), 0x4010_f29c);
    let application = both.application();
    assert_eq!((application.start(), application.entry()), (0x1000, 0x4010_0004));
    assert!(application.checksum_ok() && application.trailing().is_empty());
    let offsets: Vec<usize> = application.segments().map(|segment| segment.offset).collect();
    assert_eq!(offsets[0], 0x1008);
    for purpose in [Purpose::FinalStage, Purpose::Diy] {
        assert_eq!(codes(&file, Expectations { purpose, strict: true }), []);
    }
    let upgrade = codes(&file, Expectations::of(Purpose::Upgrade(Slot::User2)));
    assert_eq!(upgrade, [(Severity::Error, "wrong-format")]);
    assert_eq!(apply(&mut file, &mode_in("qio")), [(2, 3, 0)]);
    let found = codes(&file, Expectations::of(Purpose::Diy));
    assert_eq!(found, [(Severity::Error, "flash-mode")]);
    apply(&mut file, &mode_in("dout"));

    // A cut or damaged application is not a stub with something behind it.
    let error = ImageFile::parse(&file[..file.len() - 1]).unwrap_err();
    assert!(matches!(error, ImageError::Truncated { .. } | ImageError::Segment { .. }), "{error}");
    let stub = &file[..0x580];
    assert_eq!(
        codes(stub, Expectations::of(Purpose::FinalStage)),
        [
            (Severity::Warning, "entry-point"),
            (Severity::Error, "no-application"),
            (Severity::Error, "too-short")
        ]
    );
    file[0x1100] ^= 4;
    assert_eq!(codes(&file, ANY), [(Severity::Error, "bad-checksum")]);
    let Err(PatchError::Damaged(Problem::Checksum { offset, .. })) = Patch::DOUT.apply(&mut file) else {
        panic!("it is damaged")
    };
    assert_eq!(offset, file.len() - 1);
}

#[test]
fn every_truncation_is_refused_until_only_the_trailer_is_missing() {
    for name in ["small_u1_v1_dout-0x00000.bin", "small_u2_v2_dout.bin", "sdk_user2_dout_1mb.bin"] {
        let file = file(name);
        let checksum = Image::parse(&file).unwrap().checksum_offset();
        for len in 0..file.len() {
            let cut = &file[..len];
            let Err(error) = Image::parse(cut) else {
                assert!(len > checksum, "{name} of {len} bytes");
                let findings = codes(cut, ANY);
                assert_eq!(findings.is_empty(), len == checksum + 1, "{len} {findings:?}");
                assert!(findings.iter().all(|finding| *finding == (Severity::Error, "cut-crc")));
                continue;
            };
            assert!(len <= checksum);
            assert!(matches!(error.code(), "empty" | "truncated" | "bad-segment"), "{len}: {error}");
            assert!(error.offset() <= len, "{len}: {error}");
        }
    }
}

#[test]
fn every_flipped_bit_of_v2_is_noticed() {
    for name in ["small_u2_v2_dout.bin", "sdk_user2_dout_1mb.bin"] {
        let mut file = file(name);
        for bit in 0..file.len() * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            let found = verdict(&file);
            assert!(found.iter().any(|(severity, _)| *severity == Severity::Error), "bit {bit}: {found:?}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn damaged_trailer_before_padding_is_still_a_trailer() {
    for (byte, len) in [(0xff, 12), (0, 4096), (0xff, 1)] {
        let mut file = file("small_u2_v2_dout.bin");
        file.resize(file.len() + len, byte);
        assert_eq!(codes(&file, ANY), [(Severity::Warning, "trailing-data")]);
        file[1281] ^= 1;
        assert_eq!(codes(&file, ANY), [(Severity::Error, "bad-crc"), (Severity::Warning, "trailing-data")]);
        file[1281] ^= 1;
        file[500] ^= 1;
        assert_eq!(codes(&file, ANY), [(Severity::Error, "bad-crc"), (Severity::Warning, "trailing-data")]);
        // Bytes behind the image stay when it is patched.
        file[500] ^= 1;
        apply(&mut file, &mode_in("qio"));
        assert!(file[1284..].iter().all(|end| *end == byte));
        assert_eq!(codes(&file, ANY), [(Severity::Warning, "trailing-data")]);
    }
    // Before other bytes it cannot be told from none; that is said.
    let mut file = file("small_u2_v2_dout.bin");
    file[1281] ^= 1;
    file.extend_from_slice(b"other bytes");
    assert_eq!(codes(&file, ANY), [(Severity::Warning, "trailing-data")]);
    let parsed = ImageFile::parse(&file).unwrap();
    let texts: Vec<_> = parsed.check(&ANY).map(|finding| finding.problem.to_string()).collect();
    let [text] = &texts[..] else { panic!("{texts:?}") };
    assert!(text.contains("they do not begin with its CRC"), "{text}");
}
