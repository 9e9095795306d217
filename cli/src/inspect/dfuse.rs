//! Kind `dfuse`: ST DfuSe files.

use super::dfu_suffix::{suffix_fields, suffix_problem};
use super::report::{Fields, Problem, SuffixFields};
use crate::files::hex;
use serde::Serialize;
use spark_dfu::file::dfuse::{DfuSeError, End, Event, ImageSize, ParseOptions, Reader};
use spark_dfu::file::suffix::{DFUSE_VERSION, SuffixDigest};
use spark_ota::Crc32;

/// The most elements that are listed; a file of 64 MiB can claim eight million.
const MAX_LISTED: usize = 10_000;

#[derive(Debug, Serialize)]
pub(super) struct Dfuse {
    #[serde(flatten)]
    pub(super) suffix: SuffixFields,
    /// `DFUImageSize`.
    image_size: Option<u32>,
    /// Whether `image_size` counts the suffix; `null` if it fits neither way.
    image_size_includes_suffix: Option<bool>,
    /// `bTargets`.
    target_count: Option<u8>,
    pub(super) targets: Vec<Target>,
    /// Elements that were read but are not listed.
    pub(super) elements_omitted: u64,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Target {
    pub(super) alt: u8,
    pub(super) name: Option<String>,
    /// The name's bytes if they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    name_hex: Option<String>,
    /// `dwTargetSize`.
    pub(super) size: u32,
    /// `dwNbElements`.
    element_count: u32,
    pub(super) elements: Vec<Element>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Element {
    pub(super) address: u32,
    pub(super) size: u32,
    /// The CRC-32 of zlib; `null` if the file ends before the element does.
    pub(super) crc32: Option<u32>,
}

/// Reads the file twice at the same time: strictly for the verdict, and trusting the sizes of elements for what can be
/// read.
pub(super) struct Scan {
    strict: Pass,
    lenient: Pass,
    content: Content,
}

struct Pass {
    reader: Reader,
    error: Option<DfuSeError>,
}

#[derive(Default)]
struct Content {
    image_size: Option<u32>,
    target_count: Option<u8>,
    targets: Vec<Target>,
    listed: usize,
    omitted: u64,
    /// Bytes that the last element still lacks, and the checksum of those that came.
    open: Option<(u32, Crc32)>,
}

impl Pass {
    fn new(options: ParseOptions) -> Self {
        Self { reader: Reader::new(options), error: None }
    }

    fn update(&mut self, mut piece: &[u8], mut see: impl FnMut(Event<'_>)) {
        while self.error.is_none() {
            match self.reader.read(&mut piece) {
                Ok(Some(event)) => see(event),
                Ok(None) => return,
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn verdict(&self) -> Result<End, DfuSeError> {
        self.error.map_or_else(|| self.reader.finish(), Err)
    }
}

impl Scan {
    pub(super) fn new() -> Self {
        Self {
            strict: Pass::new(ParseOptions::STRICT),
            lenient: Pass::new(ParseOptions { trust_elements: true }),
            content: Content::default(),
        }
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        self.strict.update(piece, |_| ());
        self.lenient.update(piece, |event| self.content.see(event));
    }
}

impl Content {
    fn see(&mut self, event: Event<'_>) {
        match event {
            Event::Prefix { image_size, targets } => {
                (self.image_size, self.target_count) = (Some(image_size), Some(targets));
            }
            Event::Target(prefix) => {
                let name = prefix.name();
                self.targets.push(Target {
                    alt: prefix.alternate(),
                    name: name.map(|name| String::from_utf8_lossy(name).into_owned()),
                    name_hex: name.filter(|name| core::str::from_utf8(name).is_err()).map(hex),
                    size: prefix.size(),
                    element_count: prefix.element_count(),
                    elements: Vec::new(),
                });
            }
            Event::Element { address, size, .. } => {
                self.open = None;
                match self.targets.last_mut() {
                    Some(target) if self.listed < MAX_LISTED => {
                        self.listed += 1;
                        target.elements.push(Element { address, size, crc32: None });
                        self.open = Some((size, Crc32::new()));
                        self.close();
                    }
                    _ => self.omitted += 1,
                }
            }
            Event::Data { bytes, .. } => {
                if let Some((left, crc)) = &mut self.open {
                    crc.update(bytes);
                    *left = left.saturating_sub(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                    self.close();
                }
            }
            _ => {}
        }
    }

    /// Notes the checksum of an element of which nothing is missing.
    fn close(&mut self) {
        if let Some((_, crc)) = self.open.take_if(|(left, _)| *left == 0)
            && let Some(element) = self.targets.last_mut().and_then(|target| target.elements.last_mut())
        {
            element.crc32 = Some(crc.finish());
        }
    }
}

pub(super) fn explain(scan: &super::Scan) -> (Vec<Problem>, Fields) {
    let Scan { strict, lenient, content } = &scan.dfuse;
    let (verdict, second) = (strict.verdict(), lenient.verdict());
    let mut problems: Vec<Problem> = Vec::new();
    let mut add = |problem: Option<Problem>| {
        problems.extend(problem.filter(|new| !problems.iter().any(|old| old.code == new.code)));
    };
    for error in [verdict.as_ref().err(), second.as_ref().err()].into_iter().flatten() {
        add(problem(error, &scan.suffix));
    }
    if verdict.is_err() {
        add(suffix_problem(&scan.suffix));
        if let Ok(found) = scan.suffix.finish()
            && found.suffix.bcd_dfu != DFUSE_VERSION
        {
            add(problem(&DfuSeError::SuffixVersion { found: found.suffix.bcd_dfu }, &scan.suffix));
        }
    }
    let image_size_includes_suffix = match second.ok().map(|end| end.image_size) {
        Some(ImageSize::WithSuffix) => Some(true),
        Some(ImageSize::WithoutSuffix) => Some(false),
        _ => None,
    };
    let fields = Dfuse {
        suffix: suffix_fields(&scan.suffix),
        image_size: content.image_size,
        image_size_includes_suffix,
        target_count: content.target_count,
        targets: content.targets.clone(),
        elements_omitted: content.omitted,
    };
    (problems, Fields::Dfuse(fields))
}

fn problem(error: &DfuSeError, digest: &SuffixDigest) -> Option<Problem> {
    let code = match error {
        DfuSeError::Suffix(_) => return suffix_problem(digest),
        DfuSeError::Truncated { .. } => "truncated",
        DfuSeError::BadSignature { .. } => "bad-prefix-signature",
        DfuSeError::Version { .. } => "bad-version",
        DfuSeError::NoTargets => "no-targets",
        DfuSeError::BadTargetSignature { .. } => "bad-target-signature",
        DfuSeError::NoElements { .. } => "no-elements",
        DfuSeError::TargetSize { .. } => "target-size-mismatch",
        DfuSeError::BeyondAddressSpace { .. } => "beyond-address-space",
        DfuSeError::SuffixVersion { .. } => "suffix-version",
        DfuSeError::Leftover { .. } => "leftover-bytes",
        DfuSeError::ImageSize { .. } => "image-size-mismatch",
        _ => "bad-dfuse",
    };
    let offset = match error {
        DfuSeError::SuffixVersion { .. } => digest.file_len().checked_sub(10),
        _ => error.offset(),
    };
    Some(Problem::new(code, error, offset))
}
