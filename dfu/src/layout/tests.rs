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

#[test]
fn letters_and_access_bits_correspond() {
    for letter in 'a'..='g' {
        assert_eq!(Access::from_letter(letter as u8).unwrap().letter(), letter);
    }
    assert_eq!(Access::from_letter(b'h'), None);
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
}
