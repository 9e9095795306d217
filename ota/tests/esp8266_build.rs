//! ESP8266 images that are built here: byte for byte those of the tools, and what is wrong with them for a purpose.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use proptest::prelude::*;
use serde_json::Value;
use spark_ota::esp8266::{
    BuildError, Expectations, FlashFrequency, FlashMode, FlashParameters, FlashSize, Format, Image,
    ImageBuilder, ImageFile, LinkEvidence, Patch, Problem, Purpose, Severity, Sha256Text, Slot, Style,
    WholeFlash,
};

const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/sonoff");

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(format!("{VECTORS}/{name}")).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// The same image from its parts.
fn rebuild(image: &Image<'_>) -> Vec<u8> {
    let segments: Vec<_> = image.segments().map(|segment| (segment.address, segment.data)).collect();
    let (parameters, entry) = (image.parameters(), image.entry());
    let mut builder = match image.irom() {
        Some(irom) => ImageBuilder::v2(parameters, entry, irom.data),
        None => ImageBuilder::v1(parameters, entry),
    };
    if let Some(Style::Sdk(slot)) = image.style() {
        builder = builder.sdk(slot);
    }
    if image.stored_crc().is_none() {
        builder = builder.without_trailer();
    }
    builder.segments(&segments).build().unwrap()
}

#[test]
fn images_of_the_tools_are_built_to_the_same_bytes() {
    let mut count = 0;
    for entry in std::fs::read_dir(format!("{VECTORS}/images")).unwrap() {
        let path = entry.unwrap().path();
        let file = std::fs::read(&path).unwrap();
        match ImageFile::parse(&file).unwrap() {
            ImageFile::Single(image) => assert!(rebuild(&image) == file, "{}", path.display()),
            ImageFile::WholeFlash(both) => {
                let mut again = rebuild(both.stub());
                again.resize(WholeFlash::APPLICATION_OFFSET, 0xff);
                again.extend(rebuild(both.application()));
                assert!(again == file, "{}", path.display());
            }
            _ => unreachable!(),
        }
        count += 1;
    }
    assert_eq!(count, 18);
}

/// Files with the proportions of one that was published, which is not here.
fn published(case: &Value) -> Vec<u8> {
    let first: [u8; 16] = hex::decode(text(&case["first16_hex"])).unwrap().try_into().unwrap();
    let header = spark_ota::esp8266::Header::decode(first.first_chunk().unwrap());
    let mut segments = Vec::new();
    for segment in case["tool"]["segments"].as_array().unwrap() {
        let address = u32::from_str_radix(&text(&segment["load_addr"])[2..], 16).unwrap();
        segments.push((address, vec![0x5a; number(&segment["length"])]));
    }
    let v2 = case["tool"]["image_version"] == 2;
    let irom = if v2 { segments.remove(0).1 } else { Vec::new() };
    let segments: Vec<_> = segments.iter().map(|(address, data)| (*address, &data[..])).collect();
    let mut builder = if v2 {
        ImageBuilder::v2(header.parameters, header.entry, &irom)
    } else {
        ImageBuilder::v1(header.parameters, header.entry)
    };
    if case["crc_trailer_hex"].is_null() {
        builder = builder.without_trailer();
    }
    builder.segments(&segments).build().unwrap()
}

#[test]
fn published_images_have_these_sizes_and_headers_and_fit() {
    let data = json("published_images.json");
    let cases = data["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for case in cases {
        println!("{}", case["file"]);
        let file = published(case);
        assert_eq!(case["first16_hex"], hex::encode(&file[..16]));
        let image = Image::parse(&file).unwrap();
        let parameters = image.parameters();
        let tool = &case["tool"];
        assert_eq!(text(&tool["flash_mode"]), parameters.mode.to_string().to_uppercase());
        assert_eq!(text(&tool["flash_size"]), parameters.size.to_string());
        assert_eq!(text(&tool["flash_freq"]), parameters.frequency.to_string());
        if image.format() == Format::V1 {
            // The tool sees the stub of the whole flash.
            assert!(number(&case["size"]) <= spark_ota::esp8266::FINAL_STAGE_LIMIT);
            continue;
        }
        assert_eq!(file.len(), number(&case["size"]));
        assert_eq!(image.header_offset(), number(&case["second_header_offset"]));
        assert_eq!(case["second_header_hex"], hex::encode(image.header().encode()));
        for slot in Slot::ALL {
            let parsed = ImageFile::parse(&file).unwrap();
            let findings = parsed.check(&Expectations::of(Purpose::Upgrade(slot)));
            assert_eq!(findings.error(), None);
        }
    }
}

#[test]
fn published_images_differ_where_a_patch_writes() {
    let (patches, images) = (json("flash_mode_patch.json"), json("published_images.json"));
    let case =
        images["cases"].as_array().unwrap().iter().find(|case| text(&case["file"]).starts_with("qio-mode"));
    let qio = published(case.unwrap());
    let dout = Patch::DOUT;
    let (qout, dio) =
        (Patch { mode: Some(FlashMode::Qout), ..dout }, Patch { mode: Some(FlashMode::Dio), ..dout });
    let slow = Patch { mode: None, frequency: Some(FlashFrequency::Mhz20), ..dout };
    let jobs: [(Option<Patch>, Patch); 5] =
        [(None, qout), (None, dio), (None, dout), (Some(dout), slow), (None, dio)];
    let cases = patches["published"].as_array().unwrap();
    assert_eq!(cases.len(), jobs.len());
    for (case, (before, patch)) in cases.iter().zip(jobs) {
        let mut file = qio.clone();
        assert_eq!(file.len(), number(&case["size"]));
        if let Some(before) = before {
            before.apply(&mut file).unwrap();
        }
        let patched = patch.apply(&mut file).unwrap();
        let ours = patched.changes().map(|one| (one.offset, usize::from(one.before), usize::from(one.after)));
        let theirs = case["changes"].as_array().unwrap().iter();
        let theirs =
            theirs.map(|one| (number(&one["offset"]), number(&one["before"]), number(&one["after"])));
        assert!(ours.eq(theirs), "{}", case["comment"]);
        assert_eq!(patched.crc, None);
    }
}

/// Code with `count` calls into the slot, among bytes that depend on their position.
fn code(slot: Slot, count: u32, len: usize) -> Vec<u8> {
    let mut code: Vec<u8> =
        (0..len).map(|at| u8::try_from((at * 31 + at / 256 * 7 + 7) % 64).unwrap()).collect();
    let words = code.as_chunks_mut::<4>().0;
    for (at, word) in (0..count).zip(words.iter_mut().step_by(5)) {
        *word = (slot.link_address() + at * 16).to_le_bytes();
    }
    code
}

const RAM: &[(u32, &[u8])] = &[(0x4010_0000, &[0x12; 292]), (0x3ffe_8000, &[0x34; 68])];

fn image(slot: Slot, len: usize) -> Vec<u8> {
    let code = code(slot, 489, len);
    ImageBuilder::v2(FlashParameters::SONOFF, 0x4010_0004, &code).segments(RAM).build().unwrap()
}

fn problems(file: &[u8], purpose: Purpose) -> Vec<(Severity, Problem)> {
    let findings = ImageFile::parse(file).unwrap().check(&Expectations::of(purpose));
    findings.map(|finding| (finding.severity, finding.problem)).collect()
}

fn codes(file: &[u8], purpose: Purpose) -> Vec<(Severity, &'static str)> {
    problems(file, purpose).into_iter().map(|(severity, problem)| (severity, problem.code())).collect()
}

#[test]
fn image_in_the_wrong_slot_is_an_error() {
    for slot in Slot::ALL {
        let file = image(slot, 206_704);
        assert_eq!(Image::parse(&file).unwrap().linked_slot(), Some(slot));
        assert_eq!(codes(&file, Purpose::Upgrade(slot)), []);
        let [(Severity::Error, Problem::WrongSlot { wanted, evidence })] =
            problems(&file, Purpose::Upgrade(slot.other()))[..]
        else {
            panic!("one error")
        };
        assert_eq!(wanted, slot.other());
        assert_eq!(evidence.user1 + evidence.user2, 489);
        assert!(evidence.words > 51_000);
    }
}

#[test]
fn addresses_count_more_than_the_number_of_the_sdk() {
    let code = code(Slot::User1, 489, 40_000);
    let builder = ImageBuilder::v2(FlashParameters::SONOFF, 0x4010_0004, &code).segments(RAM);
    let file = builder.sdk(Slot::User2).build().unwrap();
    let image = Image::parse(&file).unwrap();
    assert_eq!((image.style(), image.linked_slot()), (Some(Style::Sdk(Slot::User2)), Some(Slot::User1)));
    assert_eq!(codes(&file, Purpose::Upgrade(Slot::User1)), [(Severity::Error, "other-slot-number")]);
    assert_eq!(codes(&file, Purpose::Upgrade(Slot::User2)), [(Severity::Error, "wrong-slot")]);
}

#[test]
fn addresses_in_ram_code_count_too() {
    let code = code(Slot::User2, 100, 2000);
    let file = ImageBuilder::v2(FlashParameters::SONOFF, 0x4010_0004, &[0; 4096])
        .segments(&[(0x4010_0000, &code)])
        .build()
        .unwrap();
    let evidence = Image::parse(&file).unwrap().link_evidence();
    assert_eq!(evidence, LinkEvidence { user1: 0, user2: 100, words: 1024 + 500 });
}

#[test]
fn sizes_are_refused_from_the_first_byte_above_the_limit() {
    // Headers, RAM, checksum block and trailer around the code.
    let rest = image(Slot::User1, 16_384).len() - 16_384;
    let upgrade = |slot, len: usize| {
        let code = code(slot, 489, len - rest);
        let builder = ImageBuilder::v2(FlashParameters::SONOFF, 0x4010_0004, &code).segments(RAM);
        codes(&builder.build().unwrap(), Purpose::Upgrade(slot))
    };
    // Lengths of images with a trailer are 4 more than a multiple of 16.
    let irom_too_long = (Severity::Warning, "irom-too-long");
    let too_long = (Severity::Error, "too-long");
    assert_eq!(rest % 16, 4);
    assert_eq!(upgrade(Slot::User1, 438_272 + rest), []);
    assert_eq!(upgrade(Slot::User1, 438_288 + rest), [irom_too_long]);
    assert_eq!(upgrade(Slot::User2, 438_272 + rest), []);
    assert_eq!(upgrade(Slot::User2, 438_288 + rest), [irom_too_long]);
    for slot in Slot::ALL {
        assert_eq!(upgrade(slot, 470_996), [irom_too_long]);
        assert_eq!(upgrade(slot, 471_044), [too_long, irom_too_long]);
    }
    assert_eq!(upgrade(Slot::User1, 491_508), [too_long, irom_too_long]);
    assert_eq!(upgrade(Slot::User1, 491_524), [too_long, too_long, irom_too_long]);
    assert_eq!(upgrade(Slot::User2, 491_524), [too_long, irom_too_long]);
    assert_eq!(upgrade(Slot::User2, 503_796), [too_long, irom_too_long]);
    assert_eq!(upgrade(Slot::User2, 503_812), [too_long, too_long, irom_too_long]);

    let one_range = (Severity::Warning, "one-range");
    let mut file = image(Slot::User2, 2448);
    assert!(file.len() < 4096);
    file.resize(4096, 0xff);
    assert!(codes(&file, Purpose::Upgrade(Slot::User2)).contains(&one_range));
    file.push(0xff);
    assert!(!codes(&file, Purpose::Upgrade(Slot::User2)).contains(&one_range));
}

#[test]
fn files_for_the_beginning_of_the_flash_have_their_limits() {
    let program = ImageBuilder::v1(FlashParameters::SONOFF, 0x4010_0004).segments(RAM).build().unwrap();
    let of_len = |len: usize| {
        let mut file = program.clone();
        file.resize(len, 0xff);
        file
    };
    let trailing = (Severity::Warning, "trailing-data");
    for (purpose, len, code) in [
        (Purpose::FinalStage, 4095, Some("too-short")),
        (Purpose::FinalStage, 4096, None),
        (Purpose::FinalStage, 0x8_0000, None),
        (Purpose::FinalStage, 0x8_0001, Some("too-long")),
        (Purpose::Diy, 520_192, None),
        (Purpose::Diy, 520_193, Some("too-long")),
    ] {
        let mut expected = vec![trailing];
        expected.extend(code.map(|code| (Severity::Error, code)));
        assert_eq!(codes(&of_len(len), purpose), expected, "{purpose:?} {len}");
    }
    let v2 = image(Slot::User1, 8000);
    assert_eq!(codes(&v2, Purpose::Diy), [(Severity::Error, "wrong-format")]);
    assert_eq!(
        codes(&program, Purpose::Upgrade(Slot::User1)),
        [(Severity::Error, "wrong-format"), (Severity::Warning, "one-range")]
    );
}

#[test]
fn odd_images_are_told_and_read() {
    let parameters = FlashParameters::from_bytes([3, 0x73]);
    let file = ImageBuilder::v1(parameters, 0x4010_8000).segments(RAM).build().unwrap();
    let warning = |code| (Severity::Warning, code);
    assert_eq!(
        codes(&file, Purpose::Any),
        [warning("unknown-flash-size"), warning("unknown-flash-frequency"), warning("entry-point")]
    );
    let mut file = image(Slot::User1, 8000);
    file[1] = 3;
    file[8] = 1;
    file[4] = 8;
    let found = problems(&file, Purpose::Any);
    let offsets: Vec<_> = found.iter().map(|(_, problem)| (problem.code(), problem.offset())).collect();
    assert_eq!(
        offsets,
        [
            ("bad-constant", Some(1)),
            ("irom-address", Some(8)),
            ("header-mismatch", Some(4)),
            ("bad-crc", Some(file.len() - 4))
        ]
    );
    let Problem::HeaderMismatch { first, second, .. } = found[2].1 else { panic!() };
    assert_eq!((first, second), (0x4010_0008, 0x4010_0004));
    assert!(found.iter().all(|(_, problem)| !problem.to_string().contains('{')));
}

#[test]
fn what_no_tool_would_read_is_not_built() {
    let build = |count: usize, v2: bool| {
        let segments = vec![(0x3ffe_8000, &[1, 2, 3, 4][..]); count];
        let builder = match v2 {
            true => ImageBuilder::v2(FlashParameters::SONOFF, 0x4010_0000, &[]),
            false => ImageBuilder::v1(FlashParameters::SONOFF, 0x4010_0000),
        };
        builder.segments(&segments).build()
    };
    for (count, v2, most) in
        [(0, false, 16), (17, false, 16), (300, false, 16), (0, true, 15), (16, true, 15)]
    {
        assert_eq!(build(count, v2), Err(BuildError::SegmentCount { count, most }));
    }
    for (count, v2) in [(1, false), (16, false), (1, true), (15, true)] {
        let file = build(count, v2).unwrap();
        assert_eq!(codes(&file, Purpose::Any), []);
    }
    let high = ImageBuilder::v1(FlashParameters::SONOFF, 0).segments(&[(u32::MAX - 3, &[0; 4])]).build();
    assert_eq!(high, Err(BuildError::SegmentTooLong { address: u32::MAX - 3, len: 4 }));
    let parameters = FlashParameters::from_bytes([0, 2]);
    let sdk = ImageBuilder::v2(parameters, 0, &[]).sdk(Slot::User2).segments(RAM).build();
    assert_eq!(sdk, Err(BuildError::Ambiguous { parameters }));
}

fn any_parameters() -> impl Strategy<Value = FlashParameters> {
    any::<[u8; 2]>().prop_map(FlashParameters::from_bytes)
}

prop_compose! {
    fn any_segments()(
        list in proptest::collection::vec((0x3ffe_8000u32..0x4020_0000, proptest::collection::vec(any::<u8>(), 0..60)), 1..=15)
    ) -> Vec<(u32, Vec<u8>)> {
        list
    }
}

proptest! {
    #[test]
    fn built_images_parse_to_their_parts(
        parameters in any_parameters(), entry: u32, segments in any_segments(),
        irom in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        sdk in proptest::option::of(prop_oneof![Just(Slot::User1), Just(Slot::User2)]),
        trailer: bool, behind in proptest::collection::vec(any::<u8>(), 4..40),
    ) {
        let refs: Vec<_> = segments.iter().map(|(address, data)| (*address, &data[..])).collect();
        let mut builder = match &irom {
            Some(irom) => ImageBuilder::v2(parameters, entry, irom),
            None => ImageBuilder::v1(parameters, entry),
        }.segments(&refs);
        if let Some(slot) = sdk {
            builder = builder.sdk(slot);
        }
        if !trailer {
            builder = builder.without_trailer();
        }
        let file = match builder.build() {
            Err(BuildError::Ambiguous { .. }) => return Ok(()),
            built => built.unwrap(),
        };
        let image = Image::parse(&file).unwrap();
        prop_assert_eq!((image.parameters(), image.entry(), image.image()), (parameters, entry, &file[..]));
        prop_assert_eq!(image.checksum_ok(), true);
        prop_assert_eq!(image.crc_ok(), (irom.is_some() && trailer).then_some(true));
        prop_assert_eq!(image.irom().is_some(), irom.is_some());
        if let (Some(ours), Some(irom)) = (image.irom(), &irom) {
            prop_assert_eq!(ours.data.len(), irom.len().next_multiple_of(16));
            prop_assert!(ours.data.starts_with(irom));
            if let Some(slot) = sdk {
                prop_assert_eq!(image.style(), Some(Style::Sdk(slot)));
            }
        }
        for (ours, (address, data)) in image.segments().zip(&refs) {
            prop_assert_eq!((ours.address, ours.data.len()), (*address, data.len().next_multiple_of(4)));
            prop_assert!(ours.data.starts_with(data) && ours.data[data.len()..].iter().all(|byte| *byte == 0));
        }
        prop_assert_eq!(image.segments().len(), refs.len());
        prop_assert_eq!(ImageFile::parse(&file).unwrap().check(&Expectations::default()).error(), None);
        prop_assert_eq!(&rebuild(&image), &file);

        // Something behind it is never taken for a part of it.
        let longer = [&file[..], &behind].concat();
        let image = Image::parse(&longer).unwrap();
        prop_assert!(image.image() == file || image.stored_crc().is_some());
        prop_assert_eq!(image.image().len() + image.trailing().len(), longer.len());
    }

    #[test]
    fn patch_and_its_reverse_give_the_same_file(
        before in any_parameters(), after in any_parameters(), v2: bool, trailer: bool,
        sdk in proptest::option::of(prop_oneof![Just(Slot::User1), Just(Slot::User2)]),
    ) {
        let mut builder = match v2 {
            true => ImageBuilder::v2(before, 0x4010_0000, &[1; 32]),
            false => ImageBuilder::v1(before, 0x4010_0000),
        }.segments(RAM);
        if let Some(slot) = sdk {
            builder = builder.sdk(slot);
        }
        if !trailer {
            builder = builder.without_trailer();
        }
        let Ok(original) = builder.build() else { return Ok(()) };
        let set = |to: FlashParameters| Patch { mode: Some(to.mode), size: Some(to.size), frequency: Some(to.frequency) };
        let mut file = original.clone();
        let Ok(patched) = set(after).apply(&mut file) else {
            prop_assert!(v2 && sdk.is_some());
            prop_assert_eq!(file, original);
            return Ok(());
        };
        prop_assert_eq!((patched.before, patched.after), (before, after));
        prop_assert_eq!(patched.sha256, Sha256Text::of(&file));
        // As if it had been built like this.
        let mut expected = match v2 {
            true => ImageBuilder::v2(after, 0x4010_0000, &[1; 32]),
            false => ImageBuilder::v1(after, 0x4010_0000),
        }.segments(RAM);
        if let Some(slot) = sdk {
            expected = expected.sdk(slot);
        }
        if !trailer {
            expected = expected.without_trailer();
        }
        prop_assert_eq!(&file, &expected.build().unwrap());
        set(before).apply(&mut file).unwrap();
        prop_assert_eq!(file, original);
    }

    #[test]
    fn empty_patch_changes_nothing(parameters in any_parameters()) {
        let mut file = ImageBuilder::v2(parameters, 0, &[3; 16]).segments(RAM).build().unwrap();
        let original = file.clone();
        prop_assert_eq!(Patch::default().apply(&mut file).unwrap().changes().count(), 0);
        prop_assert_eq!(file, original);
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0u8..4, count in 0u8..6,
        lengths in proptest::collection::vec(0u16..80, 0..6), wanted: bool,
    ) {
        // Mostly as far as a layout that holds.
        if kind > 0 && bytes.len() > 100 {
            bytes[0] = if kind == 1 { 0xe9 } else { 0xea };
            let mut at = 8;
            if kind > 1 {
                bytes[12..16].copy_from_slice(&[16, 0, 0, 0]);
                bytes[32] = 0xe9;
                at = 40;
            }
            bytes[at - 7] = count;
            for length in lengths {
                let Some(place) = bytes.get_mut(at + 4..at + 8) else { break };
                place.copy_from_slice(&u32::from(length).to_le_bytes());
                at += 8 + usize::from(length);
            }
        }
        let slot = if wanted { Slot::User1 } else { Slot::User2 };
        if let Ok(parsed) = ImageFile::parse(&bytes) {
            for purpose in [Purpose::Any, Purpose::Upgrade(slot), Purpose::FinalStage, Purpose::Diy] {
                for finding in parsed.check(&Expectations { purpose, strict: wanted }) {
                    prop_assert!(finding.problem.offset().is_none_or(|offset| offset <= bytes.len().max(0x1000)));
                    prop_assert!(!finding.to_string().is_empty());
                }
            }
            prop_assert_eq!(parsed.len(), bytes.len());
        }
        let mut patched = bytes.clone();
        match Patch::DOUT.apply(&mut patched) {
            Ok(_) => prop_assert_eq!(ImageFile::parse(&patched).unwrap().parameters().mode, FlashMode::Dout),
            Err(_) => prop_assert_eq!(patched, bytes),
        }
    }
}

#[test]
fn whole_flash_with_a_v2_program_is_recognised() {
    // A dump of a device: boot stage, then slot 1.
    let mut file = ImageBuilder::v1(FlashParameters::SONOFF, 0x4010_0000).segments(RAM).build().unwrap();
    file.resize(0x1000, 0xff);
    let program = image(Slot::User1, 8000);
    file.extend(&program);
    let both = WholeFlash::parse(&file).unwrap().unwrap();
    assert_eq!(both.application().image(), program);
    assert_eq!(both.application().linked_slot(), Some(Slot::User1));
    assert_eq!(codes(&file, Purpose::Any), []);
    let size = FlashSize::Mb4;
    Patch { size: Some(size), ..Patch::default() }.apply(&mut file).unwrap();
    assert_eq!(ImageFile::parse(&file).unwrap().parameters().size, size);
    assert_eq!(file[0x1000..], program);
}
