//! Both sectors as found, and what each of them is.

use super::Target;
use crate::flash::{SECTOR_SIZE, Sector, SectorId};
use crate::select::Selection;
use crate::wiced::{self, VersionRecord, sector_crc};
use crate::{app, dcd};

/// Two raw sectors of either container.
#[derive(Clone, Copy)]
pub struct Dump<'a> {
    sectors: [&'a Sector; 2],
    /// What sectors without any mark are taken for.
    assumed: Option<Format>,
}

/// A generation of the table that a sector holds.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// The sector.
    pub id: SectorId,
    /// Container that the sector belongs to, `None` when neither's mark is there.
    pub format: Option<Format>,
    /// What is known about its integrity.
    pub standing: Standing,
    /// The application section; empty where there is none.
    pub app: &'a [u8],
}

/// Container that a sector belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Format {
    /// Photon, P1: `BRCM`.
    Wiced,
    /// Electron: watermark.
    Dcd,
}

/// What is known about the integrity of a sector. The order is that of trust, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Standing {
    /// FF in every byte.
    Blank,
    /// No mark of a container, or a header that says that the write was not finished, and no CRC that says otherwise.
    Incomplete,
    /// It has a CRC, and it is wrong, also with the marks of a replaced sector set back. Damage, or a write of older firmware
    /// that does not know the CRC.
    CrcBad {
        /// CRC as stored.
        stored: u32,
        /// CRC of the content.
        computed: u32,
    },
    /// Complete, but a few bits of its mark are wrong: no firmware selects it, and it has no CRC that tells what else is.
    MarkDamaged,
    /// Complete, but compared with the other one several fields only have bits set: power failed while it was erased.
    PartlyErased,
    /// Complete by its header; its format has no CRC.
    Unchecked,
    /// The CRC is right, but the last mark of the write is missing or damaged: no firmware selects it.
    Unfinished,
    /// The CRC is right once the marks of a replaced sector are set back: the previous generation.
    Replaced,
    /// The CRC is right.
    Verified,
}

impl Standing {
    /// Whether a CRC over the content is right.
    #[must_use]
    pub const fn is_crc_good(self) -> bool {
        matches!(self, Standing::Unfinished | Standing::Replaced | Standing::Verified)
    }

    /// Whether the sector was written to its end.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        self.is_crc_good() || matches!(self, Standing::Unchecked)
    }
}

impl core::fmt::Display for Standing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Standing::Blank => "blank",
            Standing::Incomplete => "not finished, no checksum",
            Standing::CrcBad { stored, computed } => {
                return write!(f, "damaged: CRC {stored:08x} stored, {computed:08x} computed");
            }
            Standing::MarkDamaged => "complete, but its mark is damaged",
            Standing::PartlyErased => "partly erased",
            Standing::Unchecked => "complete, no checksum",
            Standing::Unfinished => "CRC good, last mark of the write missing or damaged",
            Standing::Replaced => "CRC good, previous generation",
            Standing::Verified => "CRC good",
        })
    }
}

impl<'a> Dump<'a> {
    /// Both sectors back to back, as read from 08004000.
    ///
    /// # Errors
    /// [`DumpError::Length`] unless there are 32768 bytes or more; what follows is not looked at.
    pub fn from_slice(bytes: &'a [u8]) -> Result<Self, DumpError> {
        let error = DumpError::Length { length: bytes.len() };
        let (first, rest) = bytes.split_first_chunk::<SECTOR_SIZE>().ok_or(error)?;
        Ok(Self::new(first, rest.first_chunk().ok_or(error)?))
    }

    /// Both sectors.
    #[must_use]
    pub const fn new(dct1: &'a Sector, dct2: &'a Sector) -> Self {
        Self { sectors: [dct1, dct2], assumed: None }
    }

    /// Takes a sector whose marks are all gone for one of this container, unless it is blank.
    #[must_use]
    pub const fn assume(mut self, format: Format) -> Self {
        self.assumed = Some(format);
        self
    }

    /// One sector.
    #[must_use]
    pub const fn sector(&self, id: SectorId) -> &'a Sector {
        let [dct1, dct2] = self.sectors;
        match id {
            SectorId::Dct1 => dct1,
            SectorId::Dct2 => dct2,
        }
    }

    /// What a sector is.
    #[must_use]
    pub fn candidate(&self, id: SectorId) -> Candidate<'a> {
        let sector = self.sector(id);
        let (format, standing) = judge(sector, self.sector(id.other()));
        let format = format.or(self.assumed.filter(|_| standing != Standing::Blank));
        let candidate = Candidate { id, format, standing, app: app_of(sector, format) };
        if standing == Standing::Unchecked && self.is_partly_erased(&candidate) {
            return Candidate { standing: Standing::PartlyErased, ..candidate };
        }
        candidate
    }

    /// What both sectors are.
    #[must_use]
    pub fn candidates(&self) -> [Candidate<'a>; 2] {
        [SectorId::Dct1, SectorId::Dct2].map(|id| self.candidate(id))
    }

    /// The sector that a firmware would read, and why. `None` in it means that it would start from an empty table: **do
    /// not let it start** before the dump is saved.
    #[must_use]
    pub fn select(&self, target: Target) -> Selection {
        let [dct1, dct2] = self.sectors;
        match target {
            Target::Wiced(generation) => wiced::Sectors::new(dct1, dct2).select(generation),
            Target::Dcd(generation) => dcd::Sectors::new(dct1, dct2).select(generation),
        }
    }

    /// The sector that holds the newer generation, where sequence, counter or marks tell.
    #[must_use]
    pub fn newer(&self) -> Option<SectorId> {
        let [one, two] = self.candidates();
        if one.format != two.format || one.format.is_none() {
            return None;
        }
        let age = |id| age(self.sector(id), one.format);
        match (age(one.id), age(two.id)) {
            // a replaced one is older than one that is not
            (Age { replaced: false, .. }, Age { replaced: true, .. }) => Some(one.id),
            (Age { replaced: true, .. }, Age { replaced: false, .. }) => Some(two.id),
            (Age { count: Some(a), modulus, .. }, Age { count: Some(b), .. }) => {
                let ahead = a.wrapping_sub(b) & (modulus - 1);
                match ahead {
                    0 => None,
                    ahead if ahead < modulus / 2 => Some(one.id),
                    ahead if ahead > modulus / 2 => Some(two.id),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// A write changes one stretch of bytes. Where more than one field has only gained bits against the other complete
    /// sector, an erase was interrupted.
    fn is_partly_erased(&self, candidate: &Candidate<'a>) -> bool {
        let other = self.sector(candidate.id.other());
        let (format, standing) = judge(other, self.sector(candidate.id));
        if format != candidate.format || !standing.is_complete() {
            return false;
        }
        // between a sector and the one that replaced it, this is no sign: a long write may have filled erased fields
        if age(self.sector(candidate.id), format).replaced || age(other, format).replaced {
            return false;
        }
        let other = app_of(other, format);
        let mut gained = 0;
        for field in crate::Field::ALL {
            let (Some(ours), Some(theirs)) = (candidate.app.get(field.range()), other.get(field.range()))
            else {
                continue;
            };
            if ours != theirs {
                if ours.iter().zip(theirs).any(|(ours, theirs)| ours & theirs != *theirs) {
                    return false;
                }
                gained += 1;
            }
        }
        gained > 1
    }
}

impl core::fmt::Debug for Dump<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // the sectors hold private keys
        f.debug_struct("Dump")
            .field("dct1", &self.candidate(SectorId::Dct1))
            .field("dct2", &self.candidate(SectorId::Dct2))
            .finish()
    }
}

impl core::fmt::Debug for Candidate<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Candidate")
            .field("id", &self.id)
            .field("format", &self.format)
            .field("standing", &self.standing)
            .finish_non_exhaustive()
    }
}

fn app_of(sector: &Sector, format: Option<Format>) -> &[u8] {
    let range = match format {
        None => return &[],
        Some(Format::Wiced) => wiced::APP_OFFSET..SECTOR_SIZE,
        Some(Format::Dcd) => dcd::APP_OFFSET..dcd::Footer::OFFSET,
    };
    sector.get(range).filter(|app| app.len() >= app::LEN_OLD).unwrap_or(&[])
}

fn judge(sector: &Sector, other: &Sector) -> (Option<Format>, Standing) {
    if sector.iter().all(|byte| *byte == 0xFF) {
        return (None, Standing::Blank);
    }
    if wiced::Header::of_sector(sector).has_magic() {
        return (Some(Format::Wiced), judge_wiced(sector));
    }
    if dcd::Header::of_sector(sector).watermark == dcd::WATERMARK {
        return (Some(Format::Dcd), judge_dcd(sector, other));
    }
    // A write that was cut before its header: the container is told by the other end, or not at all.
    let record = VersionRecord::of_sector(sector);
    let footer = dcd::Footer::of_sector(sector);
    let header = wiced::Header::of_sector(sector);
    let damaged = match (header.has_damaged_magic(), dcd::Header::of_sector(sector).has_damaged_watermark()) {
        (true, false) => Some(Format::Wiced),
        (false, true) => Some(Format::Dcd),
        _ => None,
    };
    let format = match (record.magic == VersionRecord::MAGIC, footer.is_valid()) {
        (true, false) => Some(Format::Wiced),
        (false, true) => Some(Format::Dcd),
        _ => damaged,
    };
    let was_finished = damaged.is_some()
        && damaged == format
        && (format == Some(Format::Dcd) || header.write_incomplete() == 0);
    match format {
        Some(Format::Dcd) if dcd::sector_crc(sector) == footer.crc() => (format, Standing::Unfinished),
        Some(Format::Wiced) if damaged == format && has_right_crc_behind_its_mark(sector) => {
            (format, Standing::Unfinished)
        }
        _ if was_finished => (format, Standing::MarkDamaged),
        _ => (format, Standing::Incomplete),
    }
}

/// Whether the CRC is right once the mark is as the firmware writes it: then it is all that was damaged.
fn has_right_crc_behind_its_mark(sector: &Sector) -> bool {
    let record = VersionRecord::of_sector(sector);
    let mut repaired = *sector;
    let header = wiced::Header::of_sector(sector).for_write(0);
    repaired.iter_mut().zip(header.as_bytes()).for_each(|(slot, byte)| *slot = *byte);
    record.is_valid() && !record.is_unchecked() && sector_crc(&repaired) == record.crc
}

fn judge_wiced(sector: &Sector) -> Standing {
    let header = wiced::Header::of_sector(sector);
    let record = VersionRecord::of_sector(sector);
    let complete = header.write_incomplete() == 0;
    if !record.is_valid() {
        return if complete && header.is_valid_new() { Standing::Unchecked } else { Standing::Incomplete };
    }
    if record.is_unchecked() {
        return if complete { Standing::Unchecked } else { Standing::Incomplete };
    }
    let computed = sector_crc(sector);
    if computed == record.crc {
        return if complete { Standing::Verified } else { Standing::Unfinished };
    }
    // the mark of a replaced sector came after the CRC
    let mut before = *sector;
    if let Some(mark) = before.get_mut(wiced::Header::IS_CURRENT_AT) {
        *mark = 1;
    }
    match sector_crc(&before) == record.crc {
        true if complete => Standing::Replaced,
        true => Standing::Unfinished,
        // an incomplete write has no CRC of its own yet, but may show bytes of one
        false if !complete => Standing::Incomplete,
        false => Standing::CrcBad { stored: record.crc, computed },
    }
}

/// v1 copies a footer without a new CRC. Whether a wrong one is damage, the other seal tells: v2 replaces it, v1 clears it.
fn judge_dcd(sector: &Sector, other: &Sector) -> Standing {
    use dcd::Seal::{Cleared, Replaced, Valid};
    let seal = dcd::Header::of_sector(sector).seal;
    let footer = dcd::Footer::of_sector(sector);
    let computed = dcd::sector_crc(sector);
    let bad = Standing::CrcBad { stored: footer.crc(), computed };
    match (seal, footer.is_valid(), footer.crc() == computed) {
        (Valid, true, true) => Standing::Verified,
        (Replaced | Cleared, true, true) => Standing::Replaced,
        (_, true, true) => Standing::Unfinished,
        (Valid, true, false) if dcd::Header::of_sector(other).seal == Replaced => bad,
        (Replaced, true, false) => bad,
        (Valid | Replaced | Cleared, ..) => Standing::Unchecked,
        _ => Standing::Incomplete,
    }
}

struct Age {
    replaced: bool,
    count: Option<u8>,
    modulus: u8,
}

fn age(sector: &Sector, format: Option<Format>) -> Age {
    match format {
        Some(Format::Dcd) => {
            let footer = dcd::Footer::of_sector(sector);
            let seal = dcd::Header::of_sector(sector).seal;
            Age {
                replaced: matches!(seal, dcd::Seal::Replaced | dcd::Seal::Cleared),
                count: footer.is_valid().then(|| footer.counter()),
                modulus: 4,
            }
        }
        _ => {
            let record = VersionRecord::of_sector(sector);
            Age {
                replaced: wiced::Header::of_sector(sector).is_current() == 0,
                // of the 256 values, the lower 7 bits tell as much: the two are one apart
                count: record.is_valid().then_some(record.sequence & 0x7F),
                modulus: 128,
            }
        }
    }
}

/// Why a dump is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DumpError {
    /// Too short.
    #[error("dump has {length} bytes where two sectors have 32768; read 08004000 to 0800c000")]
    Length {
        /// Length found.
        length: usize,
    },
}
