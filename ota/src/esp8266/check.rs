//! Judging an image.

use super::header::FlashMode;
use super::problem::{Finding, HeaderField, Limit, Problem, Severity};
use super::slot::{
    DIY_LIMIT, FINAL_STAGE_LEAST, FINAL_STAGE_LIMIT, IROM_LIMIT, RANGE_LEN, Slot, UPDATER_LIMIT,
};
use super::view::{Format, Image, Style};
use super::whole_flash::{ImageFile, WholeFlash};
use super::{BOOT_STUB_ENTRY_POINTS, ENTRY_POINTS, MAX_SEGMENTS};
use core::array::IntoIter;

/// What an image is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Purpose {
    /// Nothing is known about that: only the image itself is judged.
    #[default]
    Any,
    /// The vendor's updater writes it into this slot.
    Upgrade(Slot),
    /// Espressif2Arduino, once it runs, writes it to the beginning of the flash. It checks next to nothing, and what does not
    /// start then can only be repaired over the serial pins.
    FinalStage,
    /// A device in DIY mode writes it to the beginning of the flash.
    Diy,
}

/// What an image is held against.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Expectations {
    /// What it is for.
    pub purpose: Purpose,
    /// Bytes behind the image are an error, not a warning.
    pub strict: bool,
}

impl Expectations {
    /// Tolerant for this purpose.
    #[must_use]
    pub const fn of(purpose: Purpose) -> Self {
        Self { purpose, strict: false }
    }
}

/// Findings about one image, about its file.
const OF_IMAGE: usize = 16;
const OF_FILE: usize = 8;

/// What is wrong with a file: first what is about the images in it, in their order, then what is about its purpose.
#[derive(Clone, Debug)]
pub struct Findings {
    first: IntoIter<Option<Finding>, OF_IMAGE>,
    second: Option<IntoIter<Option<Finding>, OF_IMAGE>>,
    file: IntoIter<Option<Finding>, OF_FILE>,
}

impl Findings {
    /// The first error among what is left.
    #[must_use]
    pub fn error(&self) -> Option<Finding> {
        self.clone().find(|finding| finding.severity == Severity::Error)
    }
}

impl Iterator for Findings {
    type Item = Finding;

    fn next(&mut self) -> Option<Finding> {
        let first = self.first.find_map(|finding| finding);
        let second = || self.second.as_mut()?.find_map(|finding| finding);
        first.or_else(second).or_else(|| self.file.find_map(|finding| finding))
    }
}

impl core::iter::FusedIterator for Findings {}

impl ImageFile<'_> {
    /// Everything that is wrong with the file. Goes over the whole of it up to three times.
    ///
    /// Bounded work and no heap: each finding comes at most once for each of the two images that there can be.
    #[must_use]
    pub fn check(&self, expectations: &Expectations) -> Findings {
        let purpose = match expectations.purpose {
            Purpose::Any => [None; OF_FILE],
            Purpose::Upgrade(slot) => self.upgrade(slot),
            Purpose::FinalStage => self.final_stage(),
            Purpose::Diy => self.diy(),
        };
        let strict = expectations.strict;
        let (first, second) = match self {
            Self::Single(image) => (of_image(image, Role::Alone, strict), None),
            Self::WholeFlash(both) => (
                of_image(both.stub(), Role::Stub, strict),
                Some(of_image(both.application(), Role::Application, strict)),
            ),
        };
        Findings {
            first: first.into_iter(),
            second: second.map(IntoIterator::into_iter),
            file: purpose.into_iter(),
        }
    }

    fn wrong_format(&self, wanted: Format) -> Option<Finding> {
        let found = self.format();
        (found != wanted).then(|| Problem::Format { found, wanted }.error())
    }

    fn too_long(&self, limit: usize, by: Limit) -> Option<Finding> {
        let len = self.len();
        (len > limit).then(|| Problem::TooLong { len, limit, by }.error())
    }

    fn too_short(&self) -> Option<Finding> {
        let (len, least) = (self.len(), FINAL_STAGE_LEAST);
        (len < least).then(|| Problem::TooShort { len, least }.error())
    }

    /// Any known mode but DOUT. An unknown one is found anyway.
    fn mode(&self) -> Option<Problem> {
        let mode = self.parameters().mode;
        let doubtful = !matches!(mode, FlashMode::Dout | FlashMode::Other(_));
        doubtful.then_some(Problem::Mode { offset: self.image().header_offset().saturating_add(2), mode })
    }

    fn upgrade(&self, slot: Slot) -> [Option<Finding>; OF_FILE] {
        let (image, len) = (self.image(), self.len());
        let wrong_format = self.wrong_format(Format::V2);
        // What is no v2 image is for no slot.
        let evidence = wrong_format.is_none().then(|| image.link_evidence());
        let slot_finding = evidence.and_then(|evidence| match evidence.slot() {
            Some(found) if found == slot => None,
            Some(_) => Some(Problem::WrongSlot { wanted: slot, evidence }.error()),
            // The SDK's generator tells.
            None if matches!(image.style(), Some(Style::Sdk(_))) => None,
            None => Some(Problem::UnknownSlot { evidence }.warning()),
        });
        let other_number = matches!(image.style(), Some(Style::Sdk(number)) if number != slot);
        let offset = image.start().saturating_add(3);
        let irom = image.irom().map_or(0, |irom| irom.data.len());
        [
            wrong_format,
            slot_finding,
            other_number.then(|| Problem::OtherSlotNumber { offset, wanted: slot }.error()),
            self.too_long(UPDATER_LIMIT, Limit::Updater),
            self.too_long(slot.usable_len(), Limit::Slot(slot)),
            (len <= RANGE_LEN).then(|| Problem::OneRange { len }.warning()),
            (irom > IROM_LIMIT).then(|| Problem::IromTooLong { length: irom, limit: IROM_LIMIT }.warning()),
            self.mode().map(Problem::warning),
        ]
    }

    fn final_stage(&self) -> [Option<Finding>; OF_FILE] {
        let mut findings = [None; OF_FILE];
        let list = [
            self.wrong_format(Format::V1),
            self.no_application(),
            self.too_long(FINAL_STAGE_LIMIT, Limit::FinalStage),
            self.too_short(),
            self.mode().map(Problem::warning),
        ];
        findings.iter_mut().zip(list).for_each(|(place, finding)| *place = finding);
        findings
    }

    fn diy(&self) -> [Option<Finding>; OF_FILE] {
        let mut findings = [None; OF_FILE];
        let list = [
            self.wrong_format(Format::V1),
            self.no_application(),
            self.too_long(DIY_LIMIT, Limit::Diy),
            // The vendor's own tool offers nothing else.
            self.mode().map(Problem::error),
        ];
        findings.iter_mut().zip(list).for_each(|(place, finding)| *place = finding);
        findings
    }

    fn no_application(&self) -> Option<Finding> {
        let Self::Single(image) = self else { return None };
        let offset = WholeFlash::APPLICATION_OFFSET;
        BOOT_STUB_ENTRY_POINTS.contains(&image.entry()).then(|| Problem::NoApplication { offset }.error())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Alone,
    Stub,
    Application,
}

/// What is wrong with one image, whatever it is for.
fn of_image(image: &Image<'_>, role: Role, strict: bool) -> [Option<Finding>; OF_IMAGE] {
    let (start, first, header) = (image.start(), image.first_header(), image.header());
    let in_first = |at: usize| start.saturating_add(at);
    let in_second = |at: usize| image.header_offset().saturating_add(at);
    let irom = image.irom();

    let mismatch = |at, field, first: u32, second: u32, may_differ: bool| {
        let offset = in_first(at);
        let problem = Problem::HeaderMismatch { offset, field, first, second };
        (irom.is_some() && first != second && !may_differ).then(|| problem.error())
    };
    let sdk = matches!(image.style(), Some(Style::Sdk(_)));
    let ([first_mode, first_rest], [mode, rest]) =
        (first.parameters.to_bytes(), header.parameters.to_bytes());

    let (stored, computed) = (image.stored_checksum(), image.computed_checksum());
    let offset = image.checksum_offset();
    let checksum = (stored != computed).then(|| Problem::Checksum { offset, stored, computed }.error());
    let crc = image.stored_crc().and_then(|stored| {
        let (offset, computed) = (image.end().saturating_sub(4), image.computed_crc());
        (stored != computed).then(|| Problem::Crc { offset, stored, computed }.error())
    });

    let (offset, trailing) = (image.end(), image.trailing());
    let len = trailing.len();
    let cut = irom.is_some() && image.stored_crc().is_none() && matches!(len, 1..=3);
    let padding = trailing.iter().all(|byte| *byte == 0) || trailing.iter().all(|byte| *byte == 0xff);
    let may_be_crc = irom.is_some() && image.stored_crc().is_none() && len >= 4 && !padding;
    let crc_of_image = may_be_crc.then(|| image.computed_crc());
    let trailing_problem = Problem::Trailing { offset, len, padding, crc: crc_of_image };
    // What lies between a stub and its application is never read.
    let trailing = (len > 0 && !cut && role != Role::Stub)
        .then(|| if strict { trailing_problem.error() } else { trailing_problem.warning() });

    let (count, most) = (header.count, MAX_SEGMENTS - usize::from(irom.is_some()));
    let odd = image.segments().enumerate().find(|(_, segment)| segment.data.len() % 4 != 0);
    let entry = header.entry;
    let usual =
        ENTRY_POINTS.contains(&entry) || role == Role::Stub && BOOT_STUB_ENTRY_POINTS.contains(&entry);
    let (parameters, frequency) = (header.parameters, header.parameters.frequency);
    // Nobody reads those of an application behind a stub.
    let unknown = |name: Option<&str>| name.is_none() && role != Role::Application;

    [
        (!image.constant_ok()).then(|| Problem::Constant { offset: in_first(1), found: first.count }.error()),
        (count == 0 || usize::from(count) > most)
            .then(|| Problem::SegmentCount { offset: in_second(1), count, most }.error()),
        odd.map(|(index, segment)| {
            let (offset, length) = (segment.offset, segment.data.len());
            Problem::SegmentLength { index, offset, length }.warning()
        }),
        irom.filter(|irom| irom.data.len() % 16 != 0).map(|irom| {
            let (offset, length) = (irom.offset.saturating_add(4), irom.data.len());
            Problem::IromLength { offset, length }.warning()
        }),
        irom.filter(|irom| irom.address != 0)
            .map(|irom| Problem::IromAddress { offset: irom.offset, address: irom.address }.warning()),
        mismatch(2, HeaderField::Mode, first_mode.into(), mode.into(), sdk),
        mismatch(3, HeaderField::SizeAndFrequency, first_rest.into(), rest.into(), sdk),
        mismatch(4, HeaderField::Entry, first.entry, entry, false),
        unknown(parameters.mode.name())
            .then(|| Problem::UnknownMode { offset: in_second(2), mode: parameters.mode }.warning()),
        unknown(parameters.size.name())
            .then(|| Problem::UnknownSize { offset: in_second(3), size: parameters.size }.warning()),
        unknown(frequency.name())
            .then(|| Problem::UnknownFrequency { offset: in_second(3), frequency }.warning()),
        (!usual).then(|| Problem::Entry { offset: in_second(4), entry }.warning()),
        checksum,
        crc,
        cut.then(|| Problem::CutCrc { offset, len }.error()),
        trailing,
    ]
}

impl Image<'_> {
    /// What is wrong with this image, whatever it is for, and whatever follows it.
    pub(super) fn error(&self) -> Option<Problem> {
        let findings = of_image(self, Role::Alone, false).into_iter().flatten();
        findings.filter(|finding| finding.severity == Severity::Error).map(|finding| finding.problem).next()
    }

    /// The slot that it is linked for, by its addresses or, if these do not tell, by the number that the SDK's generator wrote.
    #[must_use]
    pub fn linked_slot(&self) -> Option<Slot> {
        self.irom()?;
        self.link_evidence().slot().or(match self.style() {
            Some(Style::Sdk(slot)) => Some(slot),
            _ => None,
        })
    }
}
