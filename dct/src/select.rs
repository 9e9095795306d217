//! What a firmware's selection between two sectors came to.

use crate::flash::SectorId;

/// The sector that a firmware reads, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Selection {
    /// The sector; `None` when neither is valid and the firmware starts from an empty table.
    pub sector: Option<SectorId>,
    /// Why.
    pub reason: Reason,
}

impl Selection {
    pub(crate) const NONE: Selection = Selection { sector: None, reason: Reason::NoneValid };

    pub(crate) const fn new(sector: SectorId, reason: Reason) -> Self {
        Selection { sector: Some(sector), reason }
    }
}

/// Why a firmware selects a sector. `Display` gives a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Reason {
    /// Neither sector is valid.
    NoneValid,
    /// The other sector is not valid.
    OnlyValid,
    /// Both are valid and this firmware has a fixed preference: it does not know which one is newer.
    BothValid,
    /// The other one has an older format version.
    HigherVersion,
    /// The other one has an older sequence or counter.
    Newer,
    /// The other one's sequence has begun again at 0 and is lower, so that this one counts although it is older.
    SequenceWrapped,
    /// Sequence or counter do not tell; the fixed preference decides.
    Tie,
    /// The other one's CRC is wrong.
    OnlyGoodCrc,
    /// Both CRCs are wrong; a fixed rule decides.
    BothCrcBad,
    /// The `initial_write` byte overrides the sequence.
    InitialWrite,
    /// The other one is marked as replaced, and this one's CRC is good.
    OtherReplaced,
    /// This one is marked as replaced, but the other one's CRC is wrong.
    FallBack,
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Reason::NoneValid => {
                "neither sector is valid: it starts from an empty table and all data is gone"
            }
            Reason::OnlyValid => "it is the only valid one",
            Reason::BothValid => "both are valid, and it prefers this one whichever is newer",
            Reason::HigherVersion => "the other one has an older format",
            Reason::Newer => "it is the newer one",
            Reason::SequenceWrapped => {
                "its sequence is higher, although the other one is newer: there the sequence has begun again at 0"
            }
            Reason::Tie => "nothing tells which one is newer, and it prefers this one",
            Reason::OnlyGoodCrc => "the other one's CRC is wrong",
            Reason::BothCrcBad => "the CRCs of both are wrong, and a fixed rule prefers this one",
            Reason::InitialWrite => "its mark of a first write overrides the sequence",
            Reason::OtherReplaced => "the other one is marked as replaced",
            Reason::FallBack => "the newer one's CRC is wrong",
        })
    }
}
