//! `spark-dfu`: suffixes, prefixes and DfuSe files.

use crate::input::Input;
use spark_dfu::file::dfuse::{
    DfuSeFile, Element, Event, Image, ImageSize, ParseOptions, Reader, TargetImage,
};
use spark_dfu::file::prefix::PrefixedContent;
use spark_dfu::file::suffix::{RawSuffix, SuffixDigest, SuffixedFile};
use spark_dfu::file::{Kind, recognise};

/// The pieces of a file: the first byte of the input is the length of the first piece, of each further one 31 more.
fn pieces(first: u8, mut file: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut len = usize::from(first);
    core::iter::from_fn(move || {
        if file.is_empty() {
            return None;
        }
        len = (len + 31) % 600 + 1;
        let (piece, rest) = file.split_at(len.min(file.len()));
        file = rest;
        Some(piece)
    })
}

/// The file with the checksum that its last sixteen bytes should have.
fn mended(file: &[u8]) -> Vec<u8> {
    let Some(raw) = RawSuffix::of(file) else { return file.to_vec() };
    let content = &file[..file.len() - 16];
    [content, &raw.suffix().encode(content)].concat()
}

/// Whole and pieces get one verdict; what verifies is written again to the same bytes.
pub fn suffix(data: &[u8]) {
    let mut input = Input::new(data);
    let first = input.byte();
    let rest = input.rest();
    let file = if first & 1 == 0 { rest.to_vec() } else { mended(rest) };
    let whole = SuffixedFile::parse(&file);
    let mut digest = SuffixDigest::new();
    pieces(first, &file).for_each(|piece| digest.update(piece));
    let found = digest.finish();
    assert_eq!(found.as_ref().err(), whole.as_ref().err());
    assert_eq!((digest.raw(), digest.file_len()), (RawSuffix::of(&file), file.len() as u64));
    let mut out = vec![0; file.len() + 16];
    let content = match whole {
        Ok(parsed) => {
            let found = found.expect("the same verdict");
            assert_eq!((found.suffix, found.content_len), (parsed.suffix(), parsed.content().len() as u64));
            assert_eq!(parsed.content().len() + parsed.extra().len() + 16, file.len());
            if parsed.extra().is_empty() && SuffixedFile::parse(parsed.content()).is_err() {
                let again = parsed.suffix().append_into(parsed.content(), &mut out).expect("it fits");
                assert!(again == file);
            }
            let mut same = file.clone();
            parsed.suffix().replace_in(&mut same).expect("it has one");
            assert!(same == file);
            parsed.content()
        }
        Err(_) => &file,
    };
    if let Ok(prefixed) = PrefixedContent::parse(content) {
        let payload = prefixed.payload();
        assert_eq!(prefixed.raw().len() + payload.len(), content.len());
        let again = prefixed.prefix().prepend_into(payload, &mut out);
        assert_eq!(again.is_ok_and(|again| again == content), prefixed.is_canonical());
    }
    check_kind(&file);
}

fn check_kind(file: &[u8]) {
    match recognise(file) {
        Kind::DfuSe(_) | Kind::DfuSeDamaged { .. } => {}
        _ => assert!(!file.starts_with(b"DfuSe")),
    }
}

/// Address and data.
type Elements = Vec<(u32, Vec<u8>)>;

/// Whole and pieces get one verdict and the same data; what is right is written again to the same bytes.
pub fn dfuse(data: &[u8]) {
    let mut input = Input::new(data);
    let (first, choice) = (input.byte(), input.byte());
    let rest = input.rest();
    let file = if choice & 1 == 0 { rest.to_vec() } else { mended(rest) };
    let options = ParseOptions { trust_elements: choice & 2 != 0 };

    let mut reader = Reader::new(options);
    let mut read: Vec<(u8, Elements)> = Vec::new();
    let failed = pieces(first, &file).find_map(|mut piece| {
        loop {
            match reader.read(&mut piece) {
                Err(error) => return Some(error),
                Ok(None) => return None,
                Ok(Some(Event::Target(prefix))) => read.push((prefix.alternate(), Vec::new())),
                Ok(Some(Event::Element { address, .. })) => {
                    read.last_mut().expect("a target").1.push((address, Vec::new()));
                }
                Ok(Some(Event::Data { address, bytes })) => {
                    let (_, elements) = read.last_mut().expect("a target");
                    let (start, data) = elements.last_mut().expect("an element");
                    assert_eq!(u64::from(address), u64::from(*start) + data.len() as u64);
                    assert!(!bytes.is_empty());
                    data.extend(bytes);
                }
                Ok(Some(_)) => assert!(read.is_empty()),
            }
        }
    });
    let end = failed.map_or_else(|| reader.finish(), Err);
    let whole = DfuSeFile::parse_with(&file, options);
    assert_eq!(whole.as_ref().err(), end.as_ref().err());
    check_kind(&file);
    let Ok(parsed) = whole else { return };

    let elements: Vec<Vec<Element<'_>>> =
        parsed.targets().map(|target| target.elements().collect()).collect();
    assert_eq!(elements.len(), read.len());
    for (target, (alternate, list)) in parsed.targets().zip(&read) {
        assert_eq!(target.alternate(), *alternate);
        assert!(
            target.elements().map(|e| (e.address, e.data)).eq(list.iter().map(|(a, data)| (*a, &data[..])))
        );
    }
    let targets: Vec<TargetImage<'_>> = parsed
        .targets()
        .zip(&elements)
        .map(|(target, elements)| TargetImage {
            alternate: target.alternate(),
            name: target.name(),
            elements,
        })
        .collect();
    let suffix = parsed.suffix().suffix;
    let image = Image {
        id_vendor: suffix.id_vendor,
        id_product: suffix.id_product,
        bcd_device: suffix.bcd_device,
        targets: &targets,
    };
    let mut out = vec![0; file.len()];
    let again = image.encode_into(&mut out).expect("what was read can be written");
    let again = DfuSeFile::parse(again).expect("what was written can be read");
    assert!(
        again
            .targets()
            .map(|t| (t.alternate(), t.name()))
            .eq(parsed.targets().map(|t| (t.alternate(), t.name())))
    );
    assert!(again.targets().flat_map(|t| t.elements()).eq(parsed.targets().flat_map(|t| t.elements())));
    assert_eq!(again.image_size_convention(), ImageSize::WithoutSuffix);
}
