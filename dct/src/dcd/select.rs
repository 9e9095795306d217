//! Which of the two sectors counts.

use super::{APP_OFFSET, Footer, Generation, Header, Seal, sector_crc};
use crate::flash::{SECTOR_SIZE, Sector, SectorId};
use crate::select::{Reason, Selection};
use crate::wiced::CrcCheck;

/// Both sectors, read only.
#[derive(Clone, Copy)]
pub struct Sectors<'a> {
    dct1: &'a Sector,
    dct2: &'a Sector,
}

/// What firmware sees in a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SectorState {
    /// Watermark and seal.
    pub header: Header,
    /// Counter of the footer, `None` without a valid footer.
    pub counter: Option<u8>,
    /// Result of the CRC check, `None` without a valid footer.
    pub crc: Option<CrcCheck>,
}

impl SectorState {
    /// Whether v2 takes the CRC for good.
    #[must_use]
    pub const fn is_crc_good(&self) -> bool {
        matches!(self.crc, Some(CrcCheck::Good))
    }
}

impl<'a> Sectors<'a> {
    /// Both sectors.
    #[must_use]
    pub const fn new(dct1: &'a Sector, dct2: &'a Sector) -> Self {
        Self { dct1, dct2 }
    }

    /// Both sectors back to back, as read from 08004000; `None` unless there are at least 32768 bytes.
    #[must_use]
    pub fn from_slice(bytes: &'a [u8]) -> Option<Self> {
        let dct1 = bytes.first_chunk()?;
        let dct2 = bytes.get(SECTOR_SIZE..)?.first_chunk()?;
        Some(Self { dct1, dct2 })
    }

    /// One sector.
    #[must_use]
    pub const fn sector(&self, id: SectorId) -> &'a Sector {
        match id {
            SectorId::Dct1 => self.dct1,
            SectorId::Dct2 => self.dct2,
        }
    }

    /// What firmware sees in a sector.
    #[must_use]
    pub fn state(&self, id: SectorId) -> SectorState {
        let sector = self.sector(id);
        SectorState::of(Header::of_sector(sector), Footer::of_sector(sector), || sector_crc(sector))
    }

    /// The sector that a firmware of that generation uses; `None` when neither is valid. Firmware then
    /// [initialises](super::Write::initialise) one, and all data is gone.
    #[must_use]
    pub fn current(&self, generation: Generation) -> Option<SectorId> {
        self.select(generation).sector
    }

    /// The same with the reason.
    ///
    /// v1: DCT2 if valid, else DCT1 if valid. v2: the first valid one is the primary; what the other one's seal says
    /// decides whether the CRC is asked at all. Both rules can prefer the **older** sector when power failed between the
    /// new header and the old one's seal.
    #[must_use]
    pub fn select(&self, generation: Generation) -> Selection {
        let rules = Rules { header: |id| Header::of_sector(self.sector(id)), state: |id| self.state(id) };
        rules.select(generation)
    }

    /// The application section of the current sector, for [`App::new`](crate::App::new). DFU address N of alternate
    /// setting 1 is byte N of it.
    #[must_use]
    pub fn app(&self, generation: Generation) -> Option<&'a [u8]> {
        self.current(generation).map(|id| self.app_of(id, generation))
    }

    /// The application section of a sector, current or not.
    #[must_use]
    pub fn app_of(&self, id: SectorId, generation: Generation) -> &'a [u8] {
        self.sector(id).get(APP_OFFSET..APP_OFFSET + generation.app_len()).unwrap_or(&[])
    }
}

impl SectorState {
    /// The CRC is asked for only if there is one to compare.
    pub(super) fn of(header: Header, footer: Footer, crc: impl FnOnce() -> u32) -> Self {
        SectorState {
            header,
            counter: footer.is_valid().then(|| footer.counter()),
            crc: footer.is_valid().then(|| match crc() {
                computed if computed == footer.crc() => CrcCheck::Good,
                computed => CrcCheck::Bad { stored: footer.crc(), computed },
            }),
        }
    }
}

/// The rules, for whoever knows the headers of both sectors and can tell their states.
pub(super) struct Rules<H, S> {
    pub(super) header: H,
    pub(super) state: S,
}

impl<H: Fn(SectorId) -> Header, S: Fn(SectorId) -> SectorState> Rules<H, S> {
    pub(super) fn select(&self, generation: Generation) -> Selection {
        match generation {
            Generation::V1 => self.select_v1(),
            Generation::V2 => self.select_v2(),
        }
    }

    /// Whether a generation takes the sector.
    pub(super) fn is_valid(&self, id: SectorId, generation: Generation) -> bool {
        let header = (self.header)(id);
        match generation {
            Generation::V1 => header.is_valid_v1(),
            Generation::V2 => header.is_valid_v2(),
        }
    }

    /// The sector of the other container that is migrated.
    pub(super) fn to_migrate(
        &self,
        generation: Generation,
        is_current_there: impl Fn(SectorId) -> bool,
    ) -> Option<SectorId> {
        let both = [SectorId::Dct1, SectorId::Dct2];
        let is_there_already = both.into_iter().any(|id| self.is_valid(id, generation));
        both.into_iter().find(|id| !is_there_already && is_current_there(*id))
    }

    fn select_v1(&self) -> Selection {
        let valid = |id| self.is_valid(id, Generation::V1);
        match (valid(SectorId::Dct1), valid(SectorId::Dct2)) {
            (true, true) => Selection::new(SectorId::Dct2, Reason::BothValid),
            (false, true) => Selection::new(SectorId::Dct2, Reason::OnlyValid),
            (true, false) => Selection::new(SectorId::Dct1, Reason::OnlyValid),
            (false, false) => Selection::NONE,
        }
    }

    fn select_v2(&self) -> Selection {
        let header = |id| (self.header)(id);
        let primary = match [SectorId::Dct1, SectorId::Dct2]
            .into_iter()
            .find(|id| self.is_valid(*id, Generation::V2))
        {
            Some(primary) => primary,
            None => return Selection::NONE,
        };
        let other = primary.other();
        // the firmware compares this seal without the watermark before it
        match header(other).seal {
            Seal::Valid => {
                let (first, second) = ((self.state)(primary), (self.state)(other));
                match (first.is_crc_good(), second.is_crc_good()) {
                    (true, false) => Selection::new(primary, Reason::OnlyGoodCrc),
                    (false, true) => Selection::new(other, Reason::OnlyGoodCrc),
                    (false, false) => Selection::new(SectorId::Dct2, Reason::BothCrcBad),
                    (true, true) => {
                        let next = |state: SectorState| (state.counter.unwrap_or(0) + 1) & 3;
                        if Some(next(first)) == second.counter {
                            Selection::new(other, Reason::Newer)
                        } else if Some(next(second)) == first.counter {
                            Selection::new(primary, Reason::Newer)
                        } else {
                            Selection::new(primary, Reason::Tie)
                        }
                    }
                }
            }
            Seal::Replaced if (self.state)(primary).is_crc_good() => {
                Selection::new(primary, Reason::OtherReplaced)
            }
            Seal::Replaced => Selection::new(other, Reason::FallBack),
            _ => Selection::new(primary, Reason::OnlyValid),
        }
    }
}

impl core::fmt::Debug for Sectors<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // the sectors hold a private key
        f.debug_struct("Sectors")
            .field("dct1", &self.state(SectorId::Dct1))
            .field("dct2", &self.state(SectorId::Dct2))
            .finish()
    }
}
