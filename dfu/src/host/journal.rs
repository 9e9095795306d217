//! How far a download is, in a form that outlives the program.

use super::{EraseMode, Plan};

/// The units of a plan that are complete, to go on from after a failure.
///
/// | offset | size | field | |
/// |---|---|---|---|
/// | 0 | 4 | magic | `SDJ1` |
/// | 4 | 4 | plan | CRC-32 of the plan: memory map, spans, options; little-endian |
/// | 8 | 4 | image | a number of the caller's choice that tells images *and devices* apart, such as a CRC over both; little-endian |
/// | 12 | 4 | units | complete units, little-endian; bit 31 tells that the mass erase is done, bit 30 that a page whose content is kept was erased and is not complete |
/// | 16 | 4 | crc | CRC-32 of the bytes before, little-endian |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Journal {
    plan: u32,
    image: u32,
    units: u32,
    mass_erased: bool,
    keeping: bool,
}

const MAGIC: [u8; 4] = *b"SDJ1";
const MASS_ERASED: u32 = 1 << 31;
const KEEPING: u32 = 1 << 30;
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

impl Journal {
    /// Length of the encoded form in bytes.
    pub const ENCODED_LEN: usize = 20;

    pub(super) fn start(plan: &Plan<'_>) -> Self {
        Self { plan: fingerprint(plan), image: 0, units: 0, mass_erased: false, keeping: false }
    }

    pub(super) const fn with_image(self, image: u32) -> Self {
        Self { image, ..self }
    }

    /// The unit of this number is complete.
    pub(super) fn complete(&mut self, number: u32) {
        self.units = self.units.max(number.saturating_add(1)).min(KEEPING - 1);
        self.keeping = false;
    }

    /// The unit of this number is not as it should be after all.
    pub(super) fn doubt(&mut self, number: u32) {
        self.units = self.units.min(number);
    }

    pub(super) const fn set_keeping(&mut self) {
        self.keeping = true;
    }

    pub(super) const fn set_mass_erased(&mut self) {
        self.mass_erased = true;
    }

    pub(super) fn check(&self, plan: &Plan<'_>) -> Result<(), JournalError> {
        match self.plan == fingerprint(plan) {
            false => Err(JournalError::OtherPlan),
            true if self.keeping => Err(JournalError::KeptPageLost { units: self.units }),
            true => Ok(()),
        }
    }

    /// The caller's number of the image.
    #[must_use]
    pub const fn image(&self) -> u32 {
        self.image
    }

    /// Complete units.
    #[must_use]
    pub const fn units(&self) -> u32 {
        self.units
    }

    /// Whether everything was erased at the start of the job.
    #[must_use]
    pub const fn is_mass_erased(&self) -> bool {
        self.mass_erased
    }

    /// Encodes the journal.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::ENCODED_LEN] {
        let flag = |set: bool, bit| if set { bit } else { 0 };
        let units = self.units | flag(self.mass_erased, MASS_ERASED) | flag(self.keeping, KEEPING);
        let mut bytes = [0; Self::ENCODED_LEN];
        let words = [MAGIC, self.plan.to_le_bytes(), self.image.to_le_bytes(), units.to_le_bytes()];
        let (body, crc) = bytes.split_at_mut(Self::ENCODED_LEN - 4);
        body.copy_from_slice(words.as_flattened());
        crc.copy_from_slice(&CRC.checksum(body).to_le_bytes());
        bytes
    }

    /// Decodes a journal.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] for anything that [`Self::to_bytes`] did not write.
    pub fn parse(input: &[u8]) -> Result<Self, JournalError> {
        let (words, rest) = input.as_chunks::<4>();
        let &[MAGIC, plan, image, units, crc] = words else { return Err(JournalError::Damaged) };
        let body = input.get(..Self::ENCODED_LEN - 4).unwrap_or_default();
        if !rest.is_empty() || CRC.checksum(body) != u32::from_le_bytes(crc) {
            return Err(JournalError::Damaged);
        }
        let units = u32::from_le_bytes(units);
        Ok(Self {
            plan: u32::from_le_bytes(plan),
            image: u32::from_le_bytes(image),
            units: units & !(MASS_ERASED | KEEPING),
            mass_erased: units & MASS_ERASED != 0,
            keeping: units & KEEPING != 0,
        })
    }
}

/// A number that two plans share only by accident.
fn fingerprint(plan: &Plan<'_>) -> u32 {
    let mut digest = CRC.digest();
    digest.update(plan.layout.name());
    for segment in plan.layout.segments() {
        digest.update(&segment.start.to_le_bytes());
        digest.update(&segment.page_size.to_le_bytes());
        digest.update(&segment.pages.to_le_bytes());
        digest.update(&[u8::try_from(segment.access.letter()).unwrap_or(0)]);
    }
    for span in plan.spans.iter() {
        digest.update(&span.address.to_le_bytes());
        digest.update(&span.len.to_le_bytes());
    }
    let options = plan.options();
    let erase = match options.erase {
        EraseMode::Pages => 0,
        EraseMode::None => 1,
        EraseMode::Mass => 2,
    };
    // What is compared or read back may differ from job to job; what is erased and kept may not.
    digest.update(&[erase, u8::from(options.keep_partial_pages), u8::from(options.force)]);
    digest.finalize()
}

/// A job cannot go on from this journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The bytes are no journal.
    #[error("the journal is damaged; start the job anew without it")]
    Damaged,
    /// The journal was kept for another memory map, other addresses or other options.
    #[error(
        "the journal belongs to another job; start anew without it, or repeat the job that it was kept for"
    )]
    OtherPlan,
    /// The job stopped between the erase and the end of a page of which a part was to be kept. Going on would lose that part.
    #[error(
        "the job stopped inside page {units}, whose other content was to be kept; write that back first, then start anew"
    )]
    KeptPageLost {
        /// Complete units before that page.
        units: u32,
    },
    /// The journal counts more units than the plan has.
    #[error("the journal counts {units} units, more than the plan has; start the job anew without it")]
    TooFar {
        /// Units of the journal.
        units: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::super::WriteOptions;
    use super::*;
    use crate::layout::MemoryLayout;

    fn plan<'p>(layout: &MemoryLayout<'p>, address: u32, options: WriteOptions) -> Plan<'p> {
        Plan::write(layout, address, 5000, options).unwrap()
    }

    #[test]
    fn journals_survive_encoding_and_every_damage_is_noticed() {
        let layout = MemoryLayout::parse(b"@x/0x0/16*1Kg").unwrap();
        let mut journal = Journal::start(&plan(&layout, 0, WriteOptions::DEFAULT)).with_image(0x1234_5678);
        journal.complete(0);
        journal.set_mass_erased();
        let bytes = journal.to_bytes();
        assert_eq!(Journal::parse(&bytes), Ok(journal));
        assert_eq!((journal.image(), journal.units(), journal.is_mass_erased()), (0x1234_5678, 1, true));
        for len in 0..bytes.len() {
            assert_eq!(Journal::parse(&bytes[..len]), Err(JournalError::Damaged));
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Journal::parse(&flipped), Err(JournalError::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn a_journal_fits_its_own_plan_only() {
        let layout = MemoryLayout::parse(b"@x/0x0/16*1Kg").unwrap();
        let other_layout = MemoryLayout::parse(b"@x/0x0/8*2Kg").unwrap();
        let all = WriteOptions::DEFAULT;
        let journal = Journal::start(&plan(&layout, 0, all));
        assert_eq!(journal.check(&plan(&layout, 0, all)), Ok(()));
        assert_eq!(journal.check(&plan(&layout, 0, WriteOptions { verify: true, ..all })), Ok(()));
        for other in [
            plan(&layout, 1, all),
            plan(&other_layout, 0, all),
            plan(&layout, 0, WriteOptions { erase: EraseMode::None, ..all }),
            plan(&layout, 0, WriteOptions { keep_partial_pages: true, ..all }),
        ] {
            assert_eq!(journal.check(&other), Err(JournalError::OtherPlan));
        }
    }
}
