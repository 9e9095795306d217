use super::*;
use alloc::{vec, vec::Vec};
use hex_literal::hex;
use proptest::prelude::*;

const PHOTON: UsbIds = UsbIds { id_vendor: 0x2B04, id_product: 0xD006 };

fn suffixed(suffix: Suffix, content: &[u8]) -> Vec<u8> {
    [content, &suffix.encode(content)].concat()
}

// The bytes of dfu-suffix 0.11 -v 2b04 -p d006 -d 0250 -a.
#[test]
fn the_layout_is_that_of_dfu_suffix() {
    let content: Vec<u8> = (0..64_u32).map(|i| u8::try_from((31 * i + 7) % 256).unwrap()).collect();
    let suffix = Suffix { bcd_device: 0x0250, ..Suffix::new(0x2B04, 0xD006) };
    assert_eq!(suffix.encode(&content), hex!("5002 06d0 042b 0001 554644 10 b8a51cea"));
}

#[test]
fn ids_fit_either_mode_and_ffff_fits_all() {
    let running = UsbIds { id_vendor: 0x2B04, id_product: 0xC006 };
    for (vendor, product, fits) in [
        (0x2B04, 0xD006, true),
        (0x2B04, 0xC006, true),
        (0x2B04, ANY, true),
        (ANY, 0xC006, true),
        (ANY, ANY, true),
        (0x2B04, 0xD008, false),
        (0x0483, ANY, false),
    ] {
        let suffix = Suffix { bcd_device: 0x9999, ..Suffix::new(vendor, product) };
        assert_eq!(suffix.matches(Some(running), PHOTON), fits, "{vendor:04x}:{product:04x}");
    }
    assert!(!Suffix::new(0x2B04, 0xC006).matches(None, PHOTON));
    // Vendor of one pair and product of the other: no.
    let other = UsbIds { id_vendor: 0x1D50, id_product: 0x607F };
    assert!(!Suffix::new(0x1D50, 0xD006).matches(Some(other), PHOTON));
}

#[test]
fn extra_vendor_bytes_are_told_from_the_content_and_survive_a_replacement() {
    let mut file = b"content+extra".to_vec();
    let mut digest = CRC.digest();
    digest.update(&file);
    file.extend(Suffix::ANY_DEVICE.seal(digest, 22));
    let read = SuffixedFile::parse(&file).unwrap();
    assert_eq!((read.content(), read.extra(), read.length()), (&b"content"[..], &b"+extra"[..], 22));

    let other = Suffix::new(1, 2);
    #[cfg(feature = "alloc")]
    let copy = other.replace_to_vec(&file).unwrap();
    other.replace_in(&mut file).unwrap();
    #[cfg(feature = "alloc")]
    assert_eq!(copy, file);
    let read = SuffixedFile::parse(&file).unwrap();
    assert_eq!((read.content(), read.extra(), read.suffix()), (&b"content"[..], &b"+extra"[..], other));
}

#[test]
fn impossible_lengths_with_a_good_checksum_are_refused() {
    for length in [0, 15, 21, 255] {
        let mut digest = CRC.digest();
        digest.update(b"four");
        let file = [&b"four"[..], &Suffix::ANY_DEVICE.seal(digest, length)].concat();
        let error = SuffixError::BadLength { length, file_len: 20 };
        assert_eq!(SuffixedFile::parse(&file), Err(error));
        assert!(error.is_damage());
    }
}

#[test]
fn a_second_suffix_and_a_small_buffer_are_refused() {
    let file = suffixed(Suffix::ANY_DEVICE, b"x");
    let error = EditError::AlreadySuffixed { found: Suffix::ANY_DEVICE };
    assert_eq!(Suffix::new(1, 2).append_into(&file, &mut [0; 99]), Err(error));
    let error = EditError::Buffer(BufferTooSmall { needed: 17, available: 16 });
    assert_eq!(Suffix::ANY_DEVICE.append_into(b"x", &mut [0; 16]), Err(error));
    assert_eq!(Suffix::ANY_DEVICE.append_into(b"x", &mut [0; 40]).unwrap(), file);
    #[cfg(feature = "alloc")]
    assert_eq!(Suffix::ANY_DEVICE.append_to_vec(b"x").unwrap(), file);
}

#[test]
fn a_failed_replacement_changes_nothing() {
    let mut file = suffixed(Suffix::ANY_DEVICE, b"content");
    file[0] ^= 1;
    let before = file.clone();
    assert!(Suffix::new(1, 2).replace_in(&mut file).is_err_and(|error| error.is_damage()));
    assert_eq!(file, before);
}

#[test]
fn no_truncation_and_no_flipped_bit_verifies() {
    let file = suffixed(Suffix::new(0x2B04, 0xD006), &[0x5A; 40]);
    for len in 0..file.len() {
        let error = SuffixedFile::parse(&file[..len]).unwrap_err();
        assert!(!error.is_damage(), "{len}: {error}");
    }
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(SuffixedFile::parse(&flipped).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn what_is_appended_is_read_back_in_any_pieces(
        content: Vec<u8>,
        fields: (u16, u16, u16, u16),
        cuts in proptest::collection::vec(1_usize..40, 1..20),
    ) {
        let (bcd_device, id_product, id_vendor, bcd_dfu) = fields;
        let suffix = Suffix { bcd_device, id_product, id_vendor, bcd_dfu };
        let file = suffixed(suffix, &content);
        let read = SuffixedFile::parse(&file).unwrap();
        prop_assert_eq!((read.content(), read.suffix(), read.length()), (&content[..], suffix, 16));
        let mut digest = SuffixDigest::new();
        let (mut rest, mut cuts) = (&file[..], cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(cuts.next().unwrap()));
            digest.update(piece);
            rest = after;
        }
        prop_assert_eq!(digest.finish().unwrap(), read.found);
    }

    #[test]
    fn pieces_and_whole_get_the_same_verdict(bytes: Vec<u8>, cut: proptest::sample::Index, tail: bool) {
        let mut bytes = bytes;
        if tail {
            bytes.extend(hex!("0000000000000000 554644 10"));
            bytes.extend(vec![0; 4]);
        }
        let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut digest = SuffixDigest::new();
        digest.update(a);
        digest.update(b);
        prop_assert_eq!(digest.finish(), SuffixedFile::parse(&bytes).map(|file| file.found));
        prop_assert_eq!(digest.raw(), RawSuffix::of(&bytes));
    }
}
