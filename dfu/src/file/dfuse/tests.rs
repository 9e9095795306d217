use super::*;
use crate::error::BufferTooSmall;
use crate::file::suffix::{Suffix, SuffixError};
use crate::file::{Kind, recognise};
use alloc::{format, vec, vec::Vec};
use proptest::prelude::*;

/// A target with owned parts: alternate, name, elements.
type Owned = (u8, Option<Vec<u8>>, Vec<(u32, Vec<u8>)>);

fn encode(targets: &[Owned]) -> Result<Vec<u8>, EncodeError> {
    let elements: Vec<Vec<Element<'_>>> = targets
        .iter()
        .map(|(_, _, list)| list.iter().map(|(address, data)| Element { address: *address, data }).collect())
        .collect();
    let images: Vec<TargetImage<'_>> = targets
        .iter()
        .zip(&elements)
        .map(|((alternate, name, _), elements)| TargetImage {
            alternate: *alternate,
            name: name.as_deref(),
            elements,
        })
        .collect();
    let image = Image::new(0x0483, 0xDF11, &images);
    let mut out = vec![0xEE; image.encoded_len()?];
    let len = image.encode_into(&mut out)?.len();
    assert_eq!(len, out.len());
    #[cfg(feature = "alloc")]
    assert_eq!(image.to_vec().unwrap(), out);
    Ok(out)
}

fn two_targets() -> Vec<u8> {
    encode(&[
        (0, Some(b"ST...".to_vec()), vec![(0x0802_0000, vec![1; 30]), (0x0806_0000, vec![2; 7])]),
        (1, None, vec![(34, vec![3; 12]), (u32::MAX, vec![4]), (7, vec![])]),
    ])
    .unwrap()
}

/// Puts the right checksum on changed bytes.
fn sealed(mut file: Vec<u8>) -> Vec<u8> {
    let raw = crate::file::suffix::RawSuffix::of(&file).unwrap();
    let content = file.len() - Suffix::ENCODED_LEN;
    let end = raw.suffix().encode(&file[..content]);
    file.truncate(content);
    file.extend(end);
    file
}

fn with(mut file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    file[at..at + bytes.len()].copy_from_slice(bytes);
    sealed(file)
}

/// Everything a reader says about the pieces: targets with their elements, and the verdict.
fn stream<'i>(
    pieces: impl Iterator<Item = &'i [u8]>,
    options: ParseOptions,
) -> (Vec<Owned>, Result<End, DfuSeError>) {
    let (mut reader, mut targets) = (Reader::new(options), Vec::<Owned>::new());
    for mut piece in pieces {
        loop {
            match reader.read(&mut piece) {
                Err(error) => {
                    assert_eq!(reader.finish(), Err(error));
                    assert_eq!(reader.read(&mut &b"more"[..]), Err(error));
                    return (targets, Err(error));
                }
                Ok(None) => break,
                Ok(Some(Event::Prefix { targets: count, .. })) => assert_ne!(count, 0),
                Ok(Some(Event::Target(prefix))) => {
                    targets.push((prefix.alternate(), prefix.name().map(<[u8]>::to_vec), Vec::new()));
                }
                Ok(Some(Event::Element { address, size, .. })) => {
                    assert!(u64::from(address) + u64::from(size) <= 1 << 32);
                    targets.last_mut().unwrap().2.push((address, Vec::new()));
                }
                Ok(Some(Event::Data { address, bytes })) => {
                    let (start, data) = targets.last_mut().unwrap().2.last_mut().unwrap();
                    assert_eq!(u64::from(address), u64::from(*start) + data.len() as u64);
                    assert!(!bytes.is_empty());
                    data.extend(bytes);
                }
            }
        }
        assert!(piece.is_empty());
    }
    (targets, reader.finish())
}

fn owned(file: &DfuSeFile<'_>) -> Vec<Owned> {
    file.targets()
        .map(|target| {
            let elements = target.elements().map(|element| (element.address, element.data.to_vec()));
            (target.alternate(), target.name().map(<[u8]>::to_vec), elements.collect())
        })
        .collect()
}

#[test]
fn every_fault_has_its_error_at_its_byte() {
    use DfuSeError as E;
    let file = two_targets();
    let (second, len) = (11 + 274 + 53, file.len() as u64);
    let suffix = file.len() - 16;
    let leftover = [&file[..suffix], &[9; 5], &file[suffix..]].concat();
    let cases: Vec<(&str, Vec<u8>, E)> = vec![
        ("empty", vec![], E::Truncated { part: Part::Prefix, offset: 0, needed: 11, available: 0 }),
        ("signature", with(file.clone(), 2, b"U"), E::BadSignature { found: *b"DfUSe" }),
        ("version", with(file.clone(), 5, &[2]), E::Version { found: 2 }),
        ("no targets", with(file.clone(), 10, &[0]), E::NoTargets),
        (
            "more targets",
            with(file.clone(), 10, &[3]),
            E::Truncated { part: Part::Target, offset: len - 16, needed: 274, available: 0 },
        ),
        (
            "fewer targets",
            with(file.clone(), 10, &[1]),
            E::Leftover { offset: second, len: len - 16 - second },
        ),
        (
            "target signature",
            with(file.clone(), 338, b"t"),
            E::BadTargetSignature { target: 1, offset: second, found: *b"target" },
        ),
        ("no elements", with(file.clone(), 11 + 270, &[0; 4]), E::NoElements { target: 0, offset: 11 }),
        (
            "fewer elements",
            with(file.clone(), 11 + 270, &[1]),
            E::TargetSize { target: 0, offset: 11, stored: 53, elements: 38 },
        ),
        (
            "target size",
            with(file.clone(), 11 + 266, &[54]),
            E::TargetSize { target: 0, offset: 11, stored: 54, elements: 53 },
        ),
        (
            "huge element",
            with(file.clone(), 285 + 4, &[0, 0, 0, 0x80]),
            E::TargetSize { target: 0, offset: 11, stored: 53, elements: 0x8000_0008 },
        ),
        (
            "beyond 4 GiB",
            with(file.clone(), 338 + 274 + 20, &[0xFF, 0xFF, 0xFF, 0xFF, 2]),
            E::BeyondAddressSpace { offset: second + 294, address: u32::MAX, size: 2 },
        ),
        ("leftover", sealed(leftover), E::Leftover { offset: len - 16, len: 5 }),
        ("suffix version", with(file.clone(), suffix + 6, &[0, 1]), E::SuffixVersion { found: 0x0100 }),
        (
            "image size",
            with(file.clone(), 6, &[1, 0, 0, 0]),
            E::ImageSize { stored: 1, without_suffix: len - 16, with_suffix: len },
        ),
        (
            "no suffix",
            file[..suffix].to_vec(),
            E::Suffix(SuffixError::BadSignature {
                found: [file[suffix - 8], file[suffix - 7], file[suffix - 6]],
            }),
        ),
    ];
    for (name, bytes, error) in cases {
        assert_eq!(DfuSeFile::parse(&bytes), Err(error), "{name}");
        assert!(!format!("{error}").is_empty());
    }
    let mut bad_crc = file;
    bad_crc[300] ^= 1;
    let error = DfuSeFile::parse(&bad_crc).unwrap_err();
    assert!(matches!(error, E::Suffix(SuffixError::BadCrc { .. })) && error.offset().is_none());
}

#[test]
fn elements_that_run_into_the_suffix_or_over_4_gib_are_found_when_target_sizes_are_not_trusted() {
    let lenient = ParseOptions { trust_elements: true };
    let file = encode(&[(0, None, vec![(0xFFFF_FFF0, vec![7; 10])])]).unwrap();
    for (size, needed) in [(11, 11), (26, 26), (27, 27), (16, 16)] {
        let bytes = with(file.clone(), 289, &[size]);
        let expected = match size {
            17.. => DfuSeError::BeyondAddressSpace { offset: 285, address: 0xFFFF_FFF0, size: size.into() },
            _ => DfuSeError::Truncated { part: Part::Data, offset: 293, needed, available: 10 },
        };
        assert_eq!(DfuSeFile::parse_with(&bytes, lenient), Err(expected));
    }
    let bytes = with(file, 289, &[9]);
    assert_eq!(DfuSeFile::parse_with(&bytes, lenient), Err(DfuSeError::Leftover { offset: 302, len: 1 }));
}

#[test]
fn a_wrong_target_size_passes_only_by_name() {
    let bytes = with(two_targets(), 11 + 266, &[1, 2, 3, 4]);
    assert!(DfuSeFile::parse(&bytes).is_err());
    let file = DfuSeFile::parse_with(&bytes, ParseOptions { trust_elements: true }).unwrap();
    assert_eq!(file.targets().map(|target| target.elements().count()).sum::<usize>(), 5);
}

#[test]
fn both_meanings_of_the_image_size_are_read_and_told_apart() {
    let bytes = two_targets();
    let file = DfuSeFile::parse(&bytes).unwrap();
    assert_eq!(file.image_size_convention(), ImageSize::WithoutSuffix);
    assert_eq!(file.image_size() as usize, bytes.len() - 16);
    let total = u32::try_from(bytes.len()).unwrap();
    let bytes = with(bytes, 6, &total.to_le_bytes());
    assert_eq!(DfuSeFile::parse(&bytes).unwrap().image_size_convention(), ImageSize::WithSuffix);
}

#[test]
fn extra_bytes_of_the_suffix_are_no_leftovers() {
    let file = two_targets();
    let content = file.len() - 16;
    let mut bytes = [&file[..content], b"vendor", &file[content..]].concat();
    let at = bytes.len() - 5;
    bytes[at] = 22;
    // The checksum by hand, since only sixteen bytes are ever written here.
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_JAMCRC).checksum(&bytes[..at + 1]);
    bytes[at + 1..].copy_from_slice(&crc.to_le_bytes());
    let file = DfuSeFile::parse(&bytes).unwrap();
    assert_eq!((file.suffix().length, file.targets().len()), (22, 2));
    assert_eq!(file.image_size_convention(), ImageSize::WithoutSuffix);
}

#[test]
fn names_fill_their_field_and_end_at_a_nul() {
    let long = vec![b'n'; 255];
    let bytes = encode(&[(0, Some(long.clone()), vec![(0, vec![1])])]).unwrap();
    let name = |bytes: &[u8]| owned(&DfuSeFile::parse(bytes).unwrap())[0].1.clone();
    assert_eq!(name(&bytes), Some(long));
    assert_eq!(name(&with(bytes.clone(), 22, &[0xFF, 0, b'x'])), Some(vec![0xFF]));
    assert_eq!(name(&with(bytes.clone(), 18, &[0])), None);
    assert!(name(&with(bytes, 18, &[0, 1])).is_some(), "any bit of bTargetNamed counts");
}

#[test]
fn what_cannot_be_written_is_refused() {
    let one = || vec![(0, vec![1])];
    assert_eq!(encode(&[]), Err(EncodeError::NoTargets));
    let many = vec![(0, None, one()); 256];
    assert_eq!(encode(&many), Err(EncodeError::TooManyTargets { count: 256 }));
    assert!(encode(&many[1..]).is_ok());
    assert_eq!(encode(&[(0, None, one()), (0, None, vec![])]), Err(EncodeError::NoElements { target: 1 }));
    for len in [256, 3] {
        let mut name = vec![b'n'; len];
        if len == 3 {
            name[1] = 0;
        }
        assert_eq!(encode(&[(0, Some(name), one())]), Err(EncodeError::Name { target: 0, len }));
    }
    let address = u32::MAX;
    let error = EncodeError::BeyondAddressSpace { target: 0, address, len: 2 };
    assert_eq!(encode(&[(0, None, vec![(address, vec![1, 2])])]), Err(error));
    let elements = [Element { address: 0, data: &[] }];
    let targets = [TargetImage { alternate: 0, name: None, elements: &elements }];
    let error = EncodeError::Buffer(BufferTooSmall { needed: 309, available: 308 });
    assert_eq!(Image::new(1, 2, &targets).encode_into(&mut [0; 308]), Err(error));
}

#[test]
fn every_truncation_is_refused_as_dfuse_and_never_raw() {
    let file = two_targets();
    for len in 0..file.len() {
        assert!(DfuSeFile::parse(&file[..len]).is_err(), "{len}");
        assert_eq!(matches!(recognise(&file[..len]), Kind::DfuSeDamaged { .. }), len >= 5, "{len}");
    }
    assert!(matches!(recognise(&file), Kind::DfuSe(_)));
}

#[test]
fn no_flipped_bit_passes_and_none_makes_the_file_plain() {
    let file = two_targets();
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(DfuSeFile::parse(&flipped).is_err(), "bit {bit}");
        match recognise(&flipped) {
            Kind::DfuSeDamaged { .. } => {}
            Kind::PlainDamaged { .. } if bit / 8 < 5 => {}
            kind => panic!("bit {bit}: {kind:?}"),
        }
    }
    // With the checksum mended, a damaged signature still does not make it a raw image.
    assert!(matches!(recognise(&with(file.clone(), 0, b"DFUse")), Kind::DfuSeDamaged { .. }));
    let plain = Suffix { bcd_dfu: 0x011A, ..Suffix::ANY_DEVICE }.encode(b"code");
    assert!(matches!(recognise(&[&b"code"[..], &plain].concat()), Kind::PlainSaysDfuSe(_)));
    assert!(matches!(recognise(b"code"), Kind::Raw { .. }));
}

#[cfg(feature = "alloc")]
#[test]
fn an_edited_file_differs_only_where_it_was_edited() {
    let bytes = two_targets();
    let file = DfuSeFile::parse(&bytes).unwrap();
    let mut builder = Builder::from_file(&file);
    assert_eq!(builder.to_vec().unwrap(), bytes);
    (builder.id_vendor, builder.id_product, builder.bcd_device) = (0x2B04, 0xD006, 0x0250);
    builder.targets[0].name = Some(b"Internal Flash");
    builder.target(2, Some(b"more")).element(5, b"data");
    let edited = builder.to_vec().unwrap();
    let edited = DfuSeFile::parse(&edited).unwrap();
    let mut expected = owned(&file);
    expected[0].1 = Some(b"Internal Flash".to_vec());
    expected.push((2, Some(b"more".to_vec()), vec![(5, b"data".to_vec())]));
    assert_eq!(owned(&edited), expected);
    let suffix = edited.suffix().suffix;
    assert_eq!((suffix.id_vendor, suffix.id_product, suffix.bcd_device), (0x2B04, 0xD006, 0x0250));
}

fn targets() -> impl Strategy<Value = Vec<Owned>> {
    let data = proptest::collection::vec(any::<u8>(), 0..40);
    let element = (any::<u32>(), data).prop_map(|(address, data)| (address.min(u32::MAX - 40), data));
    let name = proptest::option::of(proptest::collection::vec(1_u8..=255, 0..=255));
    let target = (any::<u8>(), name, proptest::collection::vec(element, 1..5));
    proptest::collection::vec(target, 1..4)
}

/// Cuts the bytes into pieces of these lengths, over and over.
fn pieces<'i>(mut rest: &'i [u8], lens: &[usize]) -> Vec<&'i [u8]> {
    let mut pieces = Vec::new();
    let mut lens = lens.iter().cycle();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(*lens.next().unwrap()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_whole_and_in_any_pieces(
        targets in targets(),
        lens in proptest::collection::vec(1_usize..400, 1..8),
    ) {
        let bytes = encode(&targets).unwrap();
        let file = DfuSeFile::parse(&bytes).unwrap();
        prop_assert_eq!(&owned(&file), &targets);
        prop_assert_eq!(file.targets().len(), targets.len());
        for lens in [&lens[..], &[1], &[usize::MAX]] {
            let (read, end) = stream(pieces(&bytes, lens).into_iter(), ParseOptions::STRICT);
            prop_assert_eq!(&read, &targets);
            prop_assert_eq!(end.unwrap().suffix, file.suffix());
        }
        #[cfg(feature = "alloc")]
        prop_assert_eq!(Builder::from_file(&file).to_vec().unwrap(), bytes);
    }

    // Whatever is done to a file, pieces and whole get the same verdict, and the reader said the same until then.
    #[test]
    fn damaged_files_get_the_same_verdict_in_any_pieces(
        targets in targets(),
        damages in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        header_only: bool,
        mend: bool,
        cut in proptest::option::of(any::<proptest::sample::Index>()),
        trust_elements: bool,
        lens in proptest::collection::vec(1_usize..300, 1..8),
    ) {
        let mut bytes = encode(&targets).unwrap();
        for (at, value) in damages {
            let len = if header_only { 300 } else { bytes.len() };
            bytes[at.index(len)] = value;
        }
        if mend {
            bytes = sealed(bytes);
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let options = ParseOptions { trust_elements };
        let whole = DfuSeFile::parse_with(&bytes, options);
        let (read, end) = stream(pieces(&bytes, &lens).into_iter(), options);
        prop_assert_eq!(whole.as_ref().map(owned).ok(), end.ok().map(|_| read));
        prop_assert_eq!(whole.err(), end.err());
        let _ = recognise(&bytes);
    }

    #[test]
    fn any_bytes_behind_the_signature_parse_without_panic(bytes: Vec<u8>) {
        let _ = DfuSeFile::parse(&[&b"DfuSe\x01"[..], &bytes].concat());
    }
}
