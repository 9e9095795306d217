use super::*;
use alloc::vec::Vec;
use hex_literal::hex;
use proptest::prelude::*;

const DIGEST: [u8; 32] = hex!("b1509b6328f7647b37363417c852dfbb182514451e3ed94b58ef4d1172d72a99");

fn read(area: &[u8], needs_end: bool) -> Vec<Result<PlacedExtension<'_>, ExtensionError>> {
    Extensions::new(area, 100, needs_end).collect()
}

/// Values and their bytes, the latter from files of the vendor and of binary-version-reader.
#[test]
fn every_type_reads_and_writes_the_same() {
    let hash = ModuleHash::sha256(&DIGEST);
    let cases: [(Extension<'_>, &[u8]); 11] = [
        (Extension::End(&[]), &hex!("0000 0400")),
        (Extension::End(&[0; 5]), &hex!("0000 0900 0000000000")),
        (Extension::Product(ProductData { id: 0x0020_ffff, version: 4 }), &hex!("0100 0a00 ffff2000 0400")),
        (
            Extension::DynamicLocation(DynamicLocation {
                module_start_address: 0x085f_3f90,
                dynalib_load_address: 0x085f_4088,
                dynalib_start_address: 0x023f_51f8,
            }),
            &hex!("0200 1000 903f5f08 88405f08 f8513f02"),
        ),
        (
            Extension::Dependency { dependency: Dependency::system(1, 5301), target_id: 7 },
            &hex!("0300 0c00 04 01 b514 07000000"),
        ),
        (
            Extension::Hash(hash),
            &hex!("1000 2600 00 20 b1509b6328f7647b37363417c852dfbb182514451e3ed94b58ef4d1172d72a99"),
        ),
        (Extension::Name(b"blob1.dat"), &hex!("1100 0d00 626c6f62312e646174")),
        (
            Extension::AssetDependency(AssetDependency { hash, name: b"blob1.dat" }),
            &hex!(
                "1200 2f00 00 20 b1509b6328f7647b37363417c852dfbb182514451e3ed94b58ef4d1172d72a99"
                "626c6f62312e646174"
            ),
        ),
        (Extension::SecurityMode { mode: 1, certificate: &[] }, &hex!("1300 0500 01")),
        (Extension::AssetType { asset_type: 2, reserved: 0 }, &hex!("1400 0600 02 00")),
        (Extension::Unknown { kind: 0x99, data: &[1, 2] }, &hex!("9900 0600 0102")),
    ];
    for (extension, bytes) in cases {
        assert_eq!(read(bytes, false), [Ok(PlacedExtension { offset: 100, extension })]);
        let mut out = [0xaa; 64];
        assert_eq!(extension.encode_into(&mut out), Ok(bytes));
        assert_eq!(extension.encoded_len(), Ok(bytes.len()));
        let needed = bytes.len();
        for available in 0..needed {
            let error = ExtensionEncodeError::BufferTooSmall { needed, available };
            assert_eq!(extension.encode_into(&mut out[..available]), Err(error));
            assert!(read(&bytes[..available], true).last().unwrap().is_err());
        }
    }
}

#[test]
fn product_of_16_bits_is_found_in_either_half() {
    let product = Product { id: 32, version: 4 };
    assert_eq!(ProductData::from(product), ProductData { id: 0x0020_ffff, version: 4 });
    assert_eq!(ProductData::from(product).product(), Some(product));
    assert_eq!(ProductData { id: 32, version: 4 }.product(), Some(product));
    assert_eq!(ProductData { id: u32::MAX, version: 0xffff }.product(), Some(Product::NONE));
    assert_eq!(ProductData { id: 0x0001_0000, version: 4 }.product(), None);
}

#[test]
fn nothing_is_read_behind_the_end_or_a_stop() {
    let mut list = Extensions::new(&hex!("1100 0500 61 0000 0400 d204 0500"), 8, false);
    assert_eq!(list.by_ref().count(), 2);
    assert_eq!((list.rest(), list.offset(), list.next()), (&hex!("d204 0500")[..], 17, None));
    assert_eq!(read(&hex!("ffff ffff 0000"), false), []);
    assert_eq!(read(&hex!("ffff ffff 0000"), true), [Err(ExtensionError::NoEnd { offset: 100 })]);
    assert_eq!(read(&[], true), [Err(ExtensionError::NoEnd { offset: 100 })]);
}

#[test]
fn impossible_lengths_and_contents_are_errors_with_their_place() {
    let bad = |length| Err(ExtensionError::BadLength { offset: 104, length });
    for length in 0..4u16 {
        let mut area = hex!("1100 0400 1100 0000 61").to_vec();
        area[6..8].copy_from_slice(&length.to_le_bytes());
        assert_eq!(read(&area, false)[1..], [bad(length)]);
    }
    let cut = ExtensionError::Truncated { offset: 100, length: 6, available: 5 };
    assert_eq!(read(&hex!("1100 0600 61"), false), [Err(cut)]);
    let malformed: [&[u8]; 9] = [
        &hex!("0100 0900 ffff200004"),
        &hex!("0100 0b00 ffff2000040000"),
        &hex!("0200 0800 00000000"),
        &hex!("0300 0b00 0401b514070000"),
        &hex!("1000 0500 00"),
        &hex!("1000 0700 00 02 aa"),
        &hex!("1000 0700 00 00 aa"),
        &hex!("1300 0400"),
        &hex!("1400 0500 01"),
    ];
    for area in malformed {
        let kind = u16::from_le_bytes([area[0], area[1]]);
        assert_eq!(read(area, false), [Err(ExtensionError::Malformed { offset: 100, kind })]);
    }
    let long = Extension::Name(&[0; 65_532]);
    assert_eq!(long.encoded_len(), Err(ExtensionEncodeError::TooLong { len: 65_536 }));
    let digest = ModuleHash { hash_type: 0, digest: &[0; 256] };
    assert_eq!(Extension::Hash(digest).encoded_len(), Err(ExtensionEncodeError::TooLong { len: 256 }));
}

proptest! {
    #[test]
    fn any_area_is_read_to_its_end_and_what_was_read_is_written_the_same(
        area in proptest::collection::vec(any::<u8>(), 0..200), small: bool, needs_end: bool,
    ) {
        // Types and lengths that exist are rare among random ones.
        let area: Vec<u8> = area.iter().map(|byte| if small { byte % 6 } else { *byte }).collect();
        let mut written = Vec::new();
        for item in Extensions::new(&area, 0, needs_end) {
            let Ok(item) = item else { break };
            prop_assert_eq!(item.offset, written.len());
            let mut out = [0; 256];
            written.extend(item.extension.encode_into(&mut out).unwrap());
        }
        prop_assert!(area.starts_with(&written));
    }
}
