//! `spark-ota`: ESP8266 images, read, checked, patched and built.

use crate::input::Input;
use spark_ota::esp8266::{
    BuildError, Expectations, FlashParameters, Image, ImageBuilder, ImageFile, Patch, Purpose, Severity,
    Sha256Text, Slot, Style,
};

const PURPOSES: [Purpose; 5] = [
    Purpose::Any,
    Purpose::Upgrade(Slot::User1),
    Purpose::Upgrade(Slot::User2),
    Purpose::FinalStage,
    Purpose::Diy,
];

fn set(parameters: FlashParameters) -> Patch {
    Patch { mode: Some(parameters.mode), size: Some(parameters.size), frequency: Some(parameters.frequency) }
}

/// Any file: everything in it lies where it says; one without faults is built again to the same bytes; a patch changes what it
/// says, or nothing, and its reverse gives the file back.
pub fn image(data: &[u8]) {
    let parsed = ImageFile::parse(data);
    if let Ok(parsed) = &parsed {
        assert_eq!(parsed.len(), data.len());
        let mut strict = Vec::new();
        for purpose in PURPOSES {
            strict = parsed.check(&Expectations { purpose, strict: true }).collect();
            let tolerant = parsed.check(&Expectations::of(purpose)).count();
            assert_eq!(strict.len(), tolerant, "strict finds the same");
            for finding in &strict {
                assert!(!finding.problem.code().is_empty() && !finding.to_string().is_empty());
                let offset = finding.problem.offset();
                assert!(offset.is_none_or(|offset| offset <= data.len().max(0x1000)));
            }
        }
        // Findings about the image alone come first whatever it is for.
        let alone = parsed.check(&Expectations { purpose: Purpose::Any, strict: true }).count();
        assert!(alone <= strict.len());
        same_bytes(data, parsed.program());
        if let ImageFile::Single(image) = parsed
            && alone == 0
        {
            built_again(data, image);
        }
    }
    for bytes in [[0, 0x20], [3, 0x20], [3, 0x01]] {
        let parameters = FlashParameters::from_bytes(bytes);
        let mut file = data.to_vec();
        match set(parameters).apply(&mut file) {
            Err(_) => assert_eq!(file, data),
            Ok(patched) => {
                assert_eq!(patched.after, parameters);
                assert_eq!(ImageFile::parse(&file).map(|file| file.parameters()), Ok(parameters));
                let different = data.iter().zip(&file).filter(|(before, after)| before != after).count();
                assert_eq!(patched.changes().count(), different);
                assert_eq!(patched.sha256, Sha256Text::of(&file));
                let back = set(patched.before).apply(&mut file).expect("back again");
                // what follows the image may be the CRC that it has with the new parameters, which makes it a trailer
                if back.crc.is_some() == patched.crc.is_some() {
                    assert_eq!(file, data);
                }
            }
        }
    }
}

fn same_bytes(data: &[u8], image: &Image<'_>) {
    let irom = image.irom().map(|irom| (irom.offset, irom.address, irom.data));
    let segments = image.segments().map(|segment| (segment.offset, segment.address, segment.data));
    let mut end = image.start() + 8;
    for (at, (offset, address, piece)) in irom.into_iter().chain(segments).enumerate() {
        assert!(offset == end || offset == end + 8 && at == 1, "pieces follow each other");
        assert_eq!(data[offset..offset + 4], address.to_le_bytes());
        assert_eq!(&data[offset + 8..offset + 8 + piece.len()], piece);
        end = offset + 8 + piece.len();
    }
    assert!(image.checksum_offset() >= end && image.checksum_offset() - end <= 16);
    assert_eq!(data[image.checksum_offset()], image.stored_checksum());
    assert_eq!(image.image().len() + image.trailing().len() + image.start(), data.len());
}

fn built_again(data: &[u8], image: &Image<'_>) {
    let segments: Vec<_> = image.segments().map(|segment| (segment.address, segment.data)).collect();
    let mut builder = match image.irom() {
        Some(irom) => ImageBuilder::v2(image.parameters(), image.entry(), irom.data),
        None => ImageBuilder::v1(image.parameters(), image.entry()),
    };
    if let Some(Style::Sdk(slot)) = image.style() {
        builder = builder.sdk(slot);
    }
    if image.stored_crc().is_none() {
        builder = builder.without_trailer();
    }
    let built = match builder.segments(&segments).build() {
        // Addresses are not judged when an image is read.
        Err(BuildError::SegmentTooLong { .. }) => return,
        built => built.expect("no fault was found"),
    };
    let end = image.segments().last().map_or(0, |last| last.offset + 8 + last.data.len());
    if data[end..image.checksum_offset()].iter().all(|byte| *byte == 0) {
        assert_eq!(built, image.image());
    }
}

/// Any parts: what is built of them has no fault and reads as it was meant, and one wrong byte of v2 is noticed.
pub fn build(data: &[u8]) {
    let mut input = Input::new(data);
    let (kind, mode, rest, flip) = (input.byte(), input.byte(), input.byte(), input.word());
    let parameters = FlashParameters::from_bytes([mode, rest]);
    let irom = input.block().repeat(1 + usize::from(kind >> 6));
    let mut segments = Vec::new();
    while !input.is_empty() && segments.len() < 20 {
        let address = 0x3ff0_0000 + (input.long() & 0x3f_ffff);
        segments.push((address, input.block()));
    }
    let v2 = kind & 1 != 0;
    let mut builder = match v2 {
        true => ImageBuilder::v2(parameters, 0x4010_0000, &irom),
        false => ImageBuilder::v1(parameters, 0x4010_0000),
    };
    let slot = if kind & 4 != 0 { Slot::User1 } else { Slot::User2 };
    let (sdk, trailer) = (kind & 2 != 0, kind & 8 == 0);
    if sdk {
        builder = builder.sdk(slot);
    }
    if !trailer {
        builder = builder.without_trailer();
    }
    let most = if v2 { 15 } else { 16 };
    let mut file = match builder.segments(&segments).build() {
        Err(BuildError::SegmentCount { count, .. }) => return assert!(count == 0 || count > most),
        Err(BuildError::Ambiguous { .. }) => {
            return assert!(v2 && sdk && mode == 0 && rest == slot.number());
        }
        built => built.expect("an image"),
    };
    let parsed = ImageFile::parse(&file).expect("an image of our own");
    assert_eq!(parsed.check(&Expectations { purpose: Purpose::Any, strict: true }).error(), None);
    let image = parsed.image();
    assert_eq!((image.parameters(), image.segments().len()), (parameters, segments.len()));
    assert_eq!(image.crc_ok(), (v2 && trailer).then_some(true));
    for (segment, (address, content)) in image.segments().zip(&segments) {
        assert_eq!(segment.address, *address);
        assert!(segment.data.starts_with(content) && segment.data.len() - content.len() < 4);
    }
    if v2 && sdk {
        assert_eq!(image.style(), Some(Style::Sdk(slot)));
    }
    self::image(&file);
    let at = usize::from(flip) % file.len();
    file[at] ^= 0x10;
    self::image(&file);
    if v2
        && trailer
        && let Ok(parsed) = ImageFile::parse(&file)
    {
        let mut findings = parsed.check(&Expectations { purpose: Purpose::Any, strict: true });
        assert!(findings.any(|finding| finding.severity == Severity::Error), "a wrong byte at {at}");
    }
}
