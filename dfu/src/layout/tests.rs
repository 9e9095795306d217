use super::*;
use alloc::{format, string::String, vec::Vec};
use proptest::prelude::*;

fn segments(text: &str) -> Vec<(u64, u64, u64, u8)> {
    let layout = MemoryLayout::parse(text.as_bytes()).unwrap();
    layout.segments().map(|s| (s.start.into(), s.end(), s.page_size.into(), s.access.0)).collect()
}

#[test]
fn segments_equal_those_of_dfu_util_and_webdfu() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/memlayout_cases.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 19);
    for case in cases {
        let text = case["string"].as_str().unwrap();
        let ours = segments(text);
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        let dfu_util = case["dfu_util_0_11"]["segments"].as_array().unwrap().iter().map(|s| {
            let access = u8::try_from(number(&s["type_bits"])).unwrap();
            (number(&s["start"]), number(&s["end_inclusive"]) + 1, number(&s["page_size"]), access)
        });
        assert_eq!(ours, dfu_util.collect::<Vec<_>>(), "{text}");
        let webdfu = case["webdfu"]["value"]["segments"].as_array().unwrap().iter().map(|s| {
            let bit = |name: &str| u8::from(s[name].as_bool().unwrap());
            let access = bit("readable") | bit("erasable") << 1 | bit("writable") << 2;
            (number(&s["start"]), number(&s["end"]), number(&s["sectorSize"]), access)
        });
        assert_eq!(ours, webdfu.collect::<Vec<_>>(), "{text}");
        let layout = MemoryLayout::parse(text.as_bytes()).unwrap();
        assert_eq!(layout.name(), case["dfu_util_0_11"]["name"].as_str().unwrap().as_bytes());
        assert!(layout.trailing().is_empty(), "{text}");
    }
}

// dfu-util loses the last segment of this string; we keep it and show the garbage.
#[test]
fn garbage_after_the_last_type_is_shown_and_its_segment_kept() {
    let text = b"@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg\xE5\x80\xA1*x/";
    let layout = MemoryLayout::parse(text).unwrap();
    assert_eq!(layout.segments().count(), 3);
    assert_eq!(layout.page_at(0x080F_FFFF).unwrap().start, 0x080E_0000);
    assert_eq!(layout.trailing(), b"\xE5\x80\xA1*x/");
}

// dfu-util goes on with the next segment at the wrong address, webdfu skips it; we stop.
#[test]
fn garbage_in_the_middle_ends_the_map() {
    let layout = MemoryLayout::parse(b"@x/0x0/01*001Kg,02*004Gg,01*001Kg").unwrap();
    assert_eq!(layout.segments().count(), 1);
    assert_eq!(layout.trailing(), b",02*004Gg,01*001Kg");
}

#[test]
fn core_strings_are_cut_at_the_first_nul() {
    let layout = MemoryLayout::parse(b"@SPI Flash : SST25x/0x00000000/512*04Kg\0\0\0junk").unwrap();
    assert_eq!(layout.segments().count(), 1);
    assert!(layout.trailing().is_empty());
}

#[test]
fn spaces_trailing_comma_missing_multiplier_and_empty_name_are_accepted() {
    assert_eq!(segments("@/0x10/2*3g"), [(0x10, 0x16, 3, 7)]);
    assert_eq!(segments("@x/0x0/01*002Ka , 1*1 g ,"), [(0, 2048, 2048, 1), (2048, 2049, 1, 7)]);
    assert_eq!(segments("@x/0x0/01*512Bd/0xE000/3*8Kg"), [(0, 512, 512, 4), (0xE000, 0x14000, 8192, 7)]);
}

// Unlike dfu-util, which reads these with wrapped or negative numbers, or skips a segment and shifts the others.
#[test]
fn impossible_values_and_empty_maps_are_errors() {
    let cases: [(&str, LayoutError); 14] = [
        ("", LayoutError::NoAtSign),
        ("x/0x0/1*1Kg", LayoutError::NoAtSign),
        ("@x", LayoutError::NoSegment { offset: 2 }),
        ("@x/0X0/1*1Kg", LayoutError::NoSegment { offset: 2 }),
        ("@x/1000/1*1Kg", LayoutError::NoSegment { offset: 2 }),
        ("@x/0x123456789/1*1Kg", LayoutError::NoSegment { offset: 2 }),
        ("@x/0x0/1*1K", LayoutError::NoSegment { offset: 2 }),
        ("@x/0x0/1*1Kh", LayoutError::NoSegment { offset: 2 }),
        ("@x/0x0/1*1KG", LayoutError::NoSegment { offset: 2 }),
        ("@x/0x0/-1*1Kg", LayoutError::NoSegment { offset: 2 }),
        ("@x/0x0/0*1Kg", LayoutError::EmptySegment { offset: 7 }),
        ("@x/0x0/1*1Kg,1*000Kg", LayoutError::EmptySegment { offset: 13 }),
        ("@x/0x0/4294967295*2 g", LayoutError::BeyondAddressSpace { offset: 7 }),
        ("@x/0xFFFFFFFF/1*2 g", LayoutError::BeyondAddressSpace { offset: 14 }),
    ];
    for (text, error) in cases {
        assert_eq!(MemoryLayout::parse(text.as_bytes()), Err(error), "{text}");
    }
    assert_eq!(segments("@x/0xFFFFFFFF/1*1 g"), [(0xFFFF_FFFF, 1 << 32, 1, 7)]);
    assert_eq!(segments("@x/0x0/4294967295*1 g").len(), 1);
    assert!(MemoryLayout::parse(b"@x/0x0/1*99999999999Kg").is_err());
}

#[test]
fn the_number_of_segments_is_bounded() {
    let text = b"@x/0x0/1*1Kg,1*1Kg,1*1Kg";
    assert_eq!(MemoryLayout::parse_bounded(text, 2), Err(LayoutError::TooManySegments { max: 2 }));
    assert_eq!(MemoryLayout::parse_bounded(text, 3).unwrap().segments().count(), 3);
}

#[test]
fn truncations_and_bit_flips_never_panic_and_keep_their_count() {
    let text = b"@Flash /0xF000/1*4Ma/0xE000/3*8Kg,2*24Kg";
    let check = |text: &[u8]| {
        if let Ok(layout) = MemoryLayout::parse(text) {
            assert_eq!(layout.segments().count(), layout.segments);
            assert!((1..=3).contains(&layout.segments));
        }
    };
    for len in 0..text.len() {
        check(&text[..len]);
    }
    for bit in 0..text.len() * 8 {
        let mut flipped = *text;
        flipped[bit / 8] ^= 1 << (bit % 8);
        check(&flipped);
    }
}

type Switch = fn(&mut ParseOptions) -> &mut bool;

/// Start, end, page size, access bits of the segments that are left after a deviation is refused.
type Refused<'a> = Result<&'a [(u64, u64, u64, u8)], LayoutError>;

#[test]
fn every_deviation_passes_only_with_its_option() {
    let garbage = |offset| Err(LayoutError::TrailingGarbage { offset });
    let none = |offset| Err(LayoutError::NoSegment { offset });
    let one: &[(u64, u64, u64, u8)] = &[(0, 1024, 1024, 7)];
    let two: &[(u64, u64, u64, u8)] = &[(0, 1024, 1024, 7), (1024, 1536, 512, 1)];
    let cases: [(Switch, &str, &[_], Refused<'_>); 16] = [
        (|o| &mut o.nul_padding, "@x/0x0/1*1Kg\0\0", one, garbage(12)),
        (|o| &mut o.trailing_garbage, "@x/0x0/1*1Kg\u{5021}*x/", one, garbage(12)),
        (|o| &mut o.trailing_garbage, "@x/0x0/1*1Kg,", one, garbage(12)),
        (|o| &mut o.missing_multiplier, "@x/0x0/2*512g", &[(0, 1024, 512, 7)], none(2)),
        (|o| &mut o.space_after_comma, "@x/0x0/1*1Kg,  1*512 a", two, garbage(12)),
        (|o| &mut o.space_after_type, "@x/0x0/1*1Kg ,1*512 a ", two, garbage(12)),
        (|o| &mut o.trailing_comma, "@x/0x0/1*1Kg,", one, garbage(12)),
        (|o| &mut o.trailing_comma, "@x/0x0/1*1Kg,/0x400/1*512 a,", two, garbage(12)),
        (|o| &mut o.empty_name, "@/0x0/1*1Kg", one, Err(LayoutError::EmptyName)),
        (|o| &mut o.any_type_letter, "@x/0x0/1*1KG", one, none(2)),
        (
            |o| &mut o.any_type_letter,
            "@x/0x0/1*1Kh,1*1 z",
            &[(0, 1024, 1024, 0), (1024, 1025, 1, 2)],
            none(2),
        ),
        (|o| &mut o.unknown_multiplier, "@x/0x0/2*512kg", &[(0, 1024, 512, 7)], none(2)),
        (|o| &mut o.unknown_multiplier, "@x/0x0/1*1Kg,1*512Ga", two, garbage(12)),
        (|o| &mut o.double_slash, "@x/0x0/1*1Kg//0x400/1*512 a", two, garbage(12)),
        (
            |o| &mut o.device_feature,
            "@Device Feature/0xFFFF0000/01*004 g",
            &[(0xFFFF_0000, 0xFFFF_0004, 4, 5)],
            Ok(&[(0xFFFF_0000, 0xFFFF_0004, 4, 7)]),
        ),
        (
            |o| &mut o.device_feature,
            "@Device Feature /0xFFFF0000/01*004 h",
            &[(0xFFFF_0000, 0xFFFF_0004, 4, 5)],
            none(16),
        ),
    ];
    let read = |text: &str, options| {
        let layout = MemoryLayout::parse_with(text.as_bytes(), options)?;
        assert_eq!(layout.segments().count(), layout.segments);
        let segments = layout.segments().map(|s| (s.start.into(), s.end(), s.page_size.into(), s.access.0));
        Ok(segments.collect::<Vec<(u64, u64, u64, u8)>>())
    };
    for (option, text, on, off) in cases {
        let (mut only, mut rest) = (ParseOptions::STRICT, ParseOptions::LENIENT);
        *option(&mut only) = true;
        assert_eq!(read(text, only), Ok(on.to_vec()), "{text}");
        assert_eq!(read(text, ParseOptions::STRICT), off.map(<[_]>::to_vec), "{text}");
        assert_eq!(read(text, ParseOptions::LENIENT), Ok(on.to_vec()), "{text}");
        // Without it the others do not let the text pass; but two last commas and letters have two names each.
        *option(&mut rest) = false;
        rest.trailing_garbage = false;
        if !text.ends_with(',') && !text.ends_with("004 h") {
            assert_eq!(read(text, rest), off.map(<[_]>::to_vec), "{text}");
        }
    }
}

#[test]
fn strings_of_known_devices_need_no_option_unless_they_are_broken() {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../tests/vectors/memlayout_cases.json")).unwrap();
    for case in file["cases"].as_array().unwrap() {
        let text = case["string"].as_str().unwrap();
        for options in [ParseOptions::STRICT, ParseOptions::LENIENT] {
            let layout = MemoryLayout::parse_with(text.as_bytes(), options).unwrap();
            let all: Vec<_> = layout.segments().collect();
            let wild: Vec<_> = MemoryLayout::parse(text.as_bytes()).unwrap().segments().collect();
            assert_eq!(all, wild, "{text}");
        }
    }
}

// An unknown multiplier takes precedence over a missing one, a known one over both.
#[test]
fn letters_before_a_type_are_read_as_dfu_util_reads_them() {
    let read = |text: &str| {
        let layout = MemoryLayout::parse_with(text.as_bytes(), ParseOptions::LENIENT).unwrap();
        let first = layout.segments().next().unwrap();
        (first.page_size, first.access.0, layout.trailing().len())
    };
    assert_eq!(read("@x/0x0/1*512g"), (512, 7, 0));
    assert_eq!(read("@x/0x0/1*512ge"), (512, 5, 0));
    assert_eq!(read("@x/0x0/1*512gG!"), (512, 7, 1));
    assert!(MemoryLayout::parse_with(b"@x/0x0/1*1K", ParseOptions::LENIENT).is_err(), "the type is missing");
    assert!(MemoryLayout::parse_with(b"@x/0x0/1*1K,1*1Kg", ParseOptions::LENIENT).is_err());
}

#[test]
fn layouts_of_devices_are_written_as_the_devices_write_them() {
    for text in [
        "@Internal Flash   /0x08000000/03*016Ka,01*016Kg,01*064Kg,07*128Kg",
        "@DCT Flash   /0x00000000/01*016Kg",
        "@Serial Flash   /0x00000000/256*004Kg",
        "@OTP Area   /0x1FFF7800/01*512 g,01*016 g",
        "@Internal Flash  /0x08000000/20*001Ka,108*001Kg",
        "@Flash /0x0000F000/01*004Ma/0x0000E000/03*008Kg,02*024Kg",
        "@Top/0xFFFFFFFF/01*001 g/0x00000000/4294967295*001 g",
    ] {
        let layout = MemoryLayout::parse_with(text.as_bytes(), ParseOptions::STRICT).unwrap();
        let segments: Vec<_> = layout.segments().collect();
        let written = LayoutText::new(core::str::from_utf8(layout.name()).unwrap(), &segments).unwrap();
        assert_eq!(format!("{written}"), text);
        let mut out = [0; 128];
        assert_eq!(written.encode_into(&mut out).unwrap(), text.as_bytes());
        assert_eq!(written.encoded_len(), text.len());
        let error = crate::BufferTooSmall { needed: text.len(), available: text.len() - 1 };
        assert_eq!(written.encode_into(&mut out[1..text.len()]), Err(error));
        #[cfg(feature = "alloc")]
        assert_eq!(layout.to_segments(), segments);
    }
}

#[test]
fn what_has_no_text_is_refused() {
    let access = Access::from_letter(b'g').unwrap();
    let good = Segment { start: 0, page_size: 1, pages: 1, access };
    let write = |name, segments: &[Segment]| LayoutText::new(name, segments).map(|text| text.encoded_len());
    assert_eq!(write("x", &[good]), Ok("@x/0x00000000/01*001 g".len()));
    for name in ["", "a/b", "a\0"] {
        assert_eq!(write(name, &[good]), Err(LayoutTextError::Name));
    }
    assert_eq!(write("x", &[]), Err(LayoutTextError::NoSegments));
    for bad in [Segment { pages: 0, ..good }, Segment { page_size: 0, ..good }] {
        assert_eq!(write("x", &[good, bad]), Err(LayoutTextError::EmptySegment { index: 1 }));
    }
    let bad = Segment { start: u32::MAX, pages: 2, ..good };
    assert_eq!(write("x", &[bad]), Err(LayoutTextError::BeyondAddressSpace { index: 0 }));
    let bad = Segment { access: Access(0), ..good };
    assert_eq!(write("x", &[bad]), Err(LayoutTextError::NoAccess { index: 0 }));
}

#[test]
fn letters_and_access_bits_correspond() {
    for letter in 'a'..='g' {
        assert_eq!(Access::from_letter(letter as u8).unwrap().letter(), letter);
    }
    assert_eq!(Access::from_letter(b'h'), None);
    assert!(Access(0).letter() == 'h' && Access(0).is_none());
    let e = Access::from_letter(b'e').unwrap();
    assert!(e.readable() && !e.erasable() && e.writeable());
}

proptest! {
    #[test]
    fn any_bytes_parse_without_panic(bytes: Vec<u8>) {
        let _ = MemoryLayout::parse(&bytes);
    }

    #[test]
    fn printed_segments_parse_back_and_pages_hold_their_addresses(
        start in 0_u32..0x8000_0000,
        sectors in proptest::collection::vec((1_u32..200, 1_u32..2000, 0_usize..7), 1..8),
        probe in 0.0..1.0_f64,
    ) {
        let mut text = format!("@Name  /0x{start:08X}/");
        for (i, (pages, size, access)) in sectors.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            text += &format!("{comma}{pages:02}*{size:03} {}", (b'a' + u8::try_from(*access).unwrap()) as char);
        }
        let layout = MemoryLayout::parse(text.as_bytes()).unwrap();
        let parsed: Vec<_> = layout.segments().collect();
        prop_assert_eq!(parsed.len(), sectors.len());
        let mut at = u64::from(start);
        for (segment, (pages, size, _)) in parsed.iter().zip(&sectors) {
            prop_assert_eq!((u64::from(segment.start), segment.pages, segment.page_size), (at, *pages, *size));
            at = segment.end();
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fraction of a u32 range")]
        let address = start + (probe * (at - u64::from(start)) as f64) as u32;
        let page = layout.page_at(address).unwrap();
        let segment = layout.segment_at(address).unwrap();
        prop_assert!(page.start <= address && u64::from(address) < page.end());
        prop_assert!(page.start >= segment.start && page.end() <= segment.end());
        prop_assert_eq!((page.start - segment.start) % segment.page_size, 0);
        if let Some(before) = start.checked_sub(1) {
            prop_assert_eq!(layout.page_at(before), None);
        }
        prop_assert_eq!(layout.page_at(u32::try_from(at).unwrap()), None);
        let cut: String = text.chars().take(text.len() - 1).collect();
        prop_assert_ne!(MemoryLayout::parse(cut.as_bytes()).map(|l| l.segments().count()), Ok(sectors.len()));
    }

    #[test]
    fn written_layouts_parse_strictly_to_the_same(
        name in "[^/\u{0}]{1,20}",
        segments in proptest::collection::vec((any::<u32>(), 1_u32..1500, 0..3, 1_u32..3000, 1_u8..8, any::<bool>()), 1..20),
    ) {
        let mut list: Vec<Segment> = Vec::new();
        for (start, size, unit, pages, access, adjacent) in segments {
            let start = match list.last() {
                Some(last) if adjacent => u32::try_from(last.end()).unwrap_or(start),
                _ => start,
            };
            let segment = Segment { start, page_size: size << (10 * unit), pages, access: Access(access) };
            if segment.end() <= 1 << 32 {
                list.push(segment);
            }
        }
        prop_assume!(!list.is_empty());
        let text = format!("{}", LayoutText::new(&name, &list).unwrap());
        let layout = MemoryLayout::parse_with(text.as_bytes(), ParseOptions::STRICT).unwrap();
        prop_assert_eq!(layout.name(), name.as_bytes());
        prop_assert_eq!(layout.segments().collect::<Vec<_>>(), list);
    }

    #[test]
    fn any_options_give_iterators_that_agree_with_their_count(
        text in "@(x|Device Feature)?(/{1,2}0x[0-9a-f]{1,3}/([1-9]\\*[1-9][ KMkBgh]?[a-hG]? ?,? ?){1,3}){1,2}\\PC{0,3}",
        bits: u16,
    ) {
        let bit = |n: u16| bits & (1 << n) != 0;
        let options = ParseOptions {
            max_segments: 5,
            nul_padding: bit(0),
            trailing_garbage: bit(1),
            missing_multiplier: bit(2),
            space_after_comma: bit(3),
            space_after_type: bit(4),
            trailing_comma: bit(5),
            empty_name: bit(6),
            any_type_letter: bit(7),
            unknown_multiplier: bit(8),
            double_slash: bit(9),
            device_feature: bit(10),
        };
        if let Ok(layout) = MemoryLayout::parse_with(text.as_bytes(), options) {
            prop_assert_eq!(layout.segments().count(), layout.segments);
            prop_assert!((1..=5).contains(&layout.segments));
            prop_assert!(options.trailing_garbage || layout.trailing().iter().all(|byte| b", ".contains(byte)));
        }
    }
}
