//! Which generation every field is taken from.

use super::dump::{Candidate, Dump, Format, Standing};
use super::sign::{Sign, is_random, sign_of};
use super::{BuildError, Target};
use crate::field::Field;
use crate::flash::SectorId;
use crate::{dcd, wiced};

/// What the caller knows about the bytes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Judgement {
    /// They are proven to be a good value: a private key that computes, a point that is on its curve, bytes that are known
    /// from elsewhere. It outweighs every [`Sign`]. What can only be read, as an RSA public key, is [`Unknown`](Self::Unknown):
    /// half a key written over another one reads as well.
    Valid,
    /// They cannot be a value.
    Invalid,
    /// Nothing is known.
    Unknown,
}

/// What a decision rests on, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Confidence {
    /// The value shows a sign of damage or was judged invalid, and nothing better may be taken.
    Damaged,
    /// Nothing speaks for the value or against it.
    Unknown,
    /// Both generations have it and neither shows a sign of damage. One may be a copy of the other, so this is no proof.
    Plausible,
    /// A CRC over the sector is right: these are the bytes that the firmware stored. That they are a good value is
    /// another question: the firmware computes its CRC over damage from older firmware, too. And the Photon's checksum
    /// does not see two pieces of 32 bytes that were changed alike, see [`sector_crc`](crate::wiced::sector_crc).
    Stored,
    /// The caller's judge has proof that the value is good.
    Judged,
}

impl core::fmt::Display for Confidence {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Confidence::Damaged => "damaged",
            Confidence::Unknown => "unknown",
            Confidence::Plausible => "plausible",
            Confidence::Stored => "as stored",
            Confidence::Judged => "judged good",
        })
    }
}

/// Where a field's bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Source {
    /// From a sector.
    Sector(SectorId),
    /// The value that was being written, given by the caller.
    Given,
}

impl core::fmt::Display for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Source::Sector(SectorId::Dct1) => "DCT1",
            Source::Sector(SectorId::Dct2) => "DCT2",
            Source::Given => "the value that was being written",
        })
    }
}

/// Why a field is taken from where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Why {
    /// It is the base, and nothing speaks against it.
    Base,
    /// The judge takes it for good.
    JudgedValid,
    /// The judge refuses the base's value and takes this one.
    BaseJudgedInvalid,
    /// The base's value shows damage, and this one does not.
    BaseDamaged,
    /// The base's value is bad, and there is no better one.
    NothingBetter,
    /// The base's value is bad, and the better one may not be mixed in: see [`Decision::better`].
    MixingNotAllowed,
}

impl core::fmt::Display for Why {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Why::Base => "nothing speaks against it",
            Why::JudgedValid => "it was judged good",
            Why::BaseJudgedInvalid => "the other one was judged bad",
            Why::BaseDamaged => "the other one shows damage",
            Why::NothingBetter => "it is bad, but there is no better one",
            Why::MixingNotAllowed => "it is bad, and the better one would have to be mixed in",
        })
    }
}

/// What is done with one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Decision {
    /// The field.
    pub field: Field,
    /// Where it is taken from.
    pub source: Source,
    /// Why.
    pub why: Why,
    /// What that rests on.
    pub confidence: Confidence,
    /// Sign of damage in the **base's** value.
    pub sign: Option<Sign>,
    /// Whether both generations have the same bytes; `None` when there is only one.
    pub agrees: Option<bool>,
    /// What would be taken if mixing were allowed, where that is something else.
    pub better: Option<Source>,
}

impl core::fmt::Display for Decision {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}: from {}, {} ({})", self.field.name(), self.source, self.confidence, self.why)?;
        match self.sign {
            Some(sign) => write!(f, "; in the base {sign}"),
            None => Ok(()),
        }
    }
}

/// What a plan may do.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    mix: bool,
    written: &'a [(Field, &'a [u8])],
    base: Option<SectorId>,
}

impl<'a> Options<'a> {
    /// Allows fields from another source than the base. Off by default.
    #[must_use]
    pub const fn mix(mut self, allowed: bool) -> Self {
        self.mix = allowed;
        self
    }

    /// Values that were being written when power failed, each from the start of its field. They explain damage, and with
    /// [`mix`](Self::mix) they can replace it.
    #[must_use]
    pub const fn written(mut self, values: &'a [(Field, &'a [u8])]) -> Self {
        self.written = values;
        self
    }

    /// Takes this sector as the base whatever its standing.
    #[must_use]
    pub const fn base(mut self, id: SectorId) -> Self {
        self.base = Some(id);
        self
    }
}

impl core::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // the values may be keys
        f.debug_struct("Options")
            .field("mix", &self.mix)
            .field("written", &self.written.len())
            .field("base", &self.base)
            .finish()
    }
}

const FIELDS: usize = Field::ALL.len();

/// A decision for every field, and what is needed to build the repaired image.
///
/// The base is the sector whose bytes are taken where nothing speaks against them, and the only source of what is not a
/// field. It is, in this order: a sector with a good CRC, a complete one without CRC, any other one with content; among equals the
/// one that the target firmware selects, then the newer one. A complete sector without CRC comes first, however, if it is the newer
/// one, the target firmware selects it, and no field of it shows damage: it is what the device has worked with since.
///
/// A sector whose CRC is wrong because v0.4.4 to v0.6.4 wrote into it in place after a downgrade loses against an older one
/// with a good CRC; [`Options::base`] overrides that.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    pub(super) dump: Dump<'a>,
    pub(super) target: Target,
    pub(super) base: Candidate<'a>,
    other: Option<Candidate<'a>>,
    written: &'a [(Field, &'a [u8])],
    decisions: [Decision; FIELDS],
}

impl<'a> Plan<'a> {
    /// Decides for every field. The judge is called for each different value that a field has in the sectors and among
    /// the given ones.
    ///
    /// # Errors
    /// [`PlanError::NothingFound`] when neither sector has content that can be placed.
    pub fn new(
        dump: Dump<'a>,
        target: Target,
        options: Options<'a>,
        mut judge: impl FnMut(Field, &[u8]) -> Judgement,
    ) -> Result<Self, PlanError> {
        let candidates = dump.candidates();
        let base = choose_base(dump, target, options, candidates).ok_or(PlanError::NothingFound)?;
        let plan = |base: Candidate<'a>, judge: &mut dyn FnMut(Field, &[u8]) -> Judgement| {
            Self::from_base(dump, target, options, candidates, base, judge)
        };
        if let Some(newer) = unchecked_newer(dump, target, options, candidates, base) {
            let plan = plan(newer, &mut judge);
            let fields = plan.decisions.iter().filter(|decision| !decision.field.is_gap());
            if fields
                .clone()
                .all(|decision| decision.sign.is_none() && decision.confidence > Confidence::Damaged)
            {
                return Ok(plan);
            }
        }
        Ok(plan(base, &mut judge))
    }

    fn from_base(
        dump: Dump<'a>,
        target: Target,
        options: Options<'a>,
        candidates: [Candidate<'a>; 2],
        base: Candidate<'a>,
        mut judge: &mut dyn FnMut(Field, &[u8]) -> Judgement,
    ) -> Self {
        let other = candidates.into_iter().find(|other| other.id != base.id && !other.app.is_empty());
        let mut decisions = [Decision {
            field: Field::SYSTEM_FLAGS,
            source: Source::Sector(base.id),
            why: Why::Base,
            confidence: Confidence::Unknown,
            sign: None,
            agrees: None,
            better: None,
        }; FIELDS];
        for (slot, field) in decisions.iter_mut().zip(Field::ALL) {
            let given = options.written.iter().find(|(written, _)| written == field).map(|(_, value)| *value);
            let evidence = Evidence { field: *field, base, other, given, mix: options.mix };
            *slot = evidence.decide(&mut judge);
        }
        Self { dump, target, base, other, written: options.written, decisions }
    }

    /// The dump that it is made for.
    #[must_use]
    pub const fn dump(&self) -> Dump<'a> {
        self.dump
    }

    /// The sector that everything is taken from where nothing speaks against it.
    #[must_use]
    pub const fn base(&self) -> Candidate<'a> {
        self.base
    }

    /// The firmware that shall read the result.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// The decisions in the order of [`Field::ALL`].
    #[must_use]
    pub const fn decisions(&self) -> &[Decision] {
        &self.decisions
    }

    /// The decision for a field.
    #[must_use]
    pub fn decision(&self, field: Field) -> Decision {
        let found = self.decisions.iter().find(|decision| decision.field == field);
        found.copied().unwrap_or(self.decisions[0])
    }

    /// Whether any field is taken from another source than the base.
    #[must_use]
    pub fn is_mixed(&self) -> bool {
        self.decisions.iter().any(|decision| decision.source != Source::Sector(self.base.id))
    }

    /// The least confidence of all fields but the gaps.
    #[must_use]
    pub fn confidence(&self) -> Confidence {
        let fields = self.decisions.iter().filter(|decision| !decision.field.is_gap());
        fields.map(|decision| decision.confidence).min().unwrap_or(Confidence::Unknown)
    }

    /// Whether nothing of the result is known to be damaged: no field is, and the base was written to its end.
    ///
    /// A base with a wrong CRC is damaged somewhere, even if no field shows it: it counts only if the CRC fits with the values
    /// that were replaced. The CRC of a [rebuilt](Self::build_sectors) sector is right whatever it covers.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let base = self.base.standing;
        let explained = match base {
            Standing::CrcBad { stored, .. } => self.is_mixed() && self.explains(stored),
            _ => false,
        };
        self.confidence() > Confidence::Damaged && (base.is_complete() || explained)
    }

    /// Whether the base has this CRC once the decisions are in it.
    fn explains(&self, stored: u32) -> bool {
        let mut sector = *self.dump.sector(self.base.id);
        let start = match self.base.format {
            Some(Format::Wiced) => wiced::APP_OFFSET,
            Some(Format::Dcd) => dcd::APP_OFFSET,
            None => return false,
        };
        if sector.get_mut(start..).is_none_or(|app| self.put_fields(app).is_err()) {
            return false;
        }
        if self.base.format == Some(Format::Dcd) {
            return dcd::sector_crc(&sector) == stored;
        }
        // The mark of a replaced sector came after the CRC.
        let fits = wiced::sector_crc(&sector) == stored;
        if let Some(mark) = sector.get_mut(wiced::Header::IS_CURRENT_AT) {
            *mark = 1;
        }
        fits || wiced::sector_crc(&sector) == stored
    }

    /// The bytes that a decision takes, from the start of the field; a given value may be shorter than its field.
    #[must_use]
    pub fn bytes(&self, decision: &Decision) -> &'a [u8] {
        match decision.source {
            Source::Sector(id) => {
                let candidates = [Some(self.base), self.other];
                let found = candidates.into_iter().flatten().find(|candidate| candidate.id == id);
                found.and_then(|candidate| candidate.app.get(decision.field.range())).unwrap_or_default()
            }
            Source::Given => {
                let found = self.written.iter().find(|(field, _)| *field == decision.field);
                found.map_or(&[], |(_, value)| value)
            }
        }
    }

    /// Writes the repaired application section and returns the part of `out` that it fills: as much of the structure as
    /// the target firmware has (4258 or 8391 bytes).
    ///
    /// # Errors
    /// [`BuildError::BufferTooSmall`]; [`BuildError::Given`] when a given value is longer than its field.
    pub fn build_app<'b>(&self, out: &'b mut [u8]) -> Result<&'b mut [u8], BuildError> {
        let needed = self.target.structure_len();
        let available = out.len();
        let out = out.get_mut(..needed).ok_or(BuildError::BufferTooSmall { needed, available })?;
        out.fill(0xFF);
        self.put_fields(out)?;
        Ok(out)
    }

    /// Puts the base's bytes and then every decision into an application section.
    pub(super) fn put_fields(&self, app: &mut [u8]) -> Result<(), BuildError> {
        app.iter_mut().zip(self.base.app).for_each(|(slot, byte)| *slot = *byte);
        for decision in &self.decisions {
            let bytes = self.bytes(decision);
            let field = decision.field;
            if bytes.len() > field.len() {
                return Err(BuildError::Given {
                    field: field.name(),
                    length: bytes.len(),
                    room: field.len(),
                });
            }
            app.iter_mut().skip(field.offset()).zip(bytes).for_each(|(slot, byte)| *slot = *byte);
        }
        Ok(())
    }
}

impl core::fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Plan")
            .field("target", &self.target)
            .field("base", &self.base)
            .field("decisions", &self.decisions)
            .finish_non_exhaustive()
    }
}

fn choose_base<'a>(
    dump: Dump<'a>,
    target: Target,
    options: Options<'_>,
    candidates: [Candidate<'a>; 2],
) -> Option<Candidate<'a>> {
    let usable = |candidate: &&Candidate<'_>| !candidate.app.is_empty();
    if let Some(id) = options.base {
        return candidates.iter().filter(usable).find(|candidate| candidate.id == id).copied();
    }
    let selected = dump.select(target).sector;
    let newer = dump.newer();
    let rank = |candidate: &&Candidate<'_>| {
        let trust = match candidate.standing {
            standing if standing.is_crc_good() => 3,
            Standing::Unchecked => 2,
            Standing::CrcBad { .. } | Standing::PartlyErased | Standing::MarkDamaged => 1,
            _ => 0,
        };
        let first = candidate.id == SectorId::Dct1;
        // A Photon marks the old table last: the other one was finished, whatever became of its magic.
        let other = wiced::Header::of_sector(dump.sector(candidate.id.other()));
        let in_use = candidate.standing != Standing::Replaced
            || !(other.has_damaged_magic() && other.write_incomplete() == 0);
        (trust, in_use, selected == Some(candidate.id), newer == Some(candidate.id), first)
    };
    candidates.iter().filter(usable).max_by_key(rank).copied()
}

/// A complete sector that older firmware wrote behind a checked one, without a CRC of its own: what the device has worked
/// with since.
fn unchecked_newer<'a>(
    dump: Dump<'a>,
    target: Target,
    options: Options<'_>,
    candidates: [Candidate<'a>; 2],
    base: Candidate<'a>,
) -> Option<Candidate<'a>> {
    let newer =
        dump.newer().filter(|newer| *newer != base.id && dump.select(target).sector == Some(*newer))?;
    let found = candidates.into_iter().find(|candidate| candidate.id == newer)?;
    let wanted = options.base.is_none() && found.standing == Standing::Unchecked && !found.app.is_empty();
    wanted.then_some(found)
}

/// All that is known about one field.
struct Evidence<'a> {
    field: Field,
    base: Candidate<'a>,
    other: Option<Candidate<'a>>,
    given: Option<&'a [u8]>,
    mix: bool,
}

impl<'a> Evidence<'a> {
    fn decide(&self, judge: &mut impl FnMut(Field, &[u8]) -> Judgement) -> Decision {
        let base = self.bytes_of(&self.base);
        let other = self.other.as_ref().map(|other| self.bytes_of(other));
        let agrees = other.map(|other| other == base);
        let judged = judge(self.field, base);
        let sign = self.sign(base, other);
        let decision = |why, confidence| Decision {
            field: self.field,
            source: Source::Sector(self.base.id),
            why,
            confidence,
            sign,
            agrees,
            better: None,
        };
        match (judged, sign) {
            (Judgement::Valid, _) => return decision(Why::JudgedValid, Confidence::Judged),
            (Judgement::Unknown, None) if self.base.standing.is_crc_good() => {
                return decision(Why::Base, Confidence::Stored);
            }
            (Judgement::Unknown, None) => {
                let both_complete = self.base.standing.is_complete()
                    && self.other.is_some_and(|other| other.standing.is_complete());
                let plausible = both_complete && agrees == Some(true);
                return decision(
                    Why::Base,
                    if plausible { Confidence::Plausible } else { Confidence::Unknown },
                );
            }
            _ => {}
        }
        // the base's value is bad
        let why = if judged == Judgement::Invalid { Why::BaseJudgedInvalid } else { Why::BaseDamaged };
        match self.better(base, other, judge) {
            None if judged == Judgement::Unknown && self.base.standing.is_crc_good() => {
                // the sign alone does not outweigh a checksum, nor does the checksum the sign
                decision(Why::Base, Confidence::Unknown)
            }
            None => decision(Why::NothingBetter, Confidence::Damaged),
            Some((source, confidence)) if self.mix => Decision { source, ..decision(why, confidence) },
            Some((source, _)) => {
                Decision { better: Some(source), ..decision(Why::MixingNotAllowed, Confidence::Damaged) }
            }
        }
    }

    /// Another source for a bad value. What was never finished is taken only on a judge's word.
    fn better(
        &self,
        base: &[u8],
        other: Option<&[u8]>,
        judge: &mut impl FnMut(Field, &[u8]) -> Judgement,
    ) -> Option<(Source, Confidence)> {
        let from_other =
            self.other.zip(other).filter(|(_, bytes)| *bytes != base).and_then(|(other, bytes)| {
                let sign = self.sign(bytes, Some(base));
                // as seen from a damaged value a good one has gained what the damaged one lost
                let damaged = !matches!(sign, None | Some(Sign::BitsSet { .. } | Sign::BitsCleared { .. }));
                match judge(self.field, bytes) {
                    Judgement::Valid => Some((Source::Sector(other.id), Confidence::Judged)),
                    Judgement::Unknown if other.standing.is_crc_good() && !damaged => {
                        Some((Source::Sector(other.id), Confidence::Stored))
                    }
                    Judgement::Unknown if other.standing.is_complete() && !damaged => {
                        Some((Source::Sector(other.id), Confidence::Unknown))
                    }
                    _ => None,
                }
            });
        if let Some((_, Confidence::Judged)) = from_other {
            return from_other;
        }
        // the judge sees a given value as it is, which may be shorter than the field
        let given = self.given.filter(|given| base.get(..given.len()) != Some(given));
        match given.map(|given| judge(self.field, given)) {
            Some(Judgement::Valid) => Some((Source::Given, Confidence::Judged)),
            Some(Judgement::Unknown) => from_other.or(Some((Source::Given, Confidence::Unknown))),
            Some(Judgement::Invalid) | None => from_other,
        }
    }

    /// Some signs are everyday business outside of keys: flags lose bits, and a claim mark is erased.
    fn sign(&self, value: &[u8], other: Option<&[u8]>) -> Option<Sign> {
        let found = match self.given {
            None => sign_of(value, other, None),
            Some(given) => {
                // a value that is shorter than its field says nothing about the rest of it
                let front = value.get(..given.len()).unwrap_or(value);
                let other_front = other.map(|other| other.get(..given.len()).unwrap_or(other));
                match sign_of(front, other_front, Some(given)) {
                    None if front != given => sign_of(value, other, None),
                    sign => sign,
                }
            }
        };
        found.filter(|sign| (sign.is_specific() || is_random(self.field)) && !self.is_others(*sign))
    }

    /// Lost and gained bits are relative: what one value lost the other one gained. Where both sectors are complete, no erase was
    /// interrupted, which gains bits all over a sector, but a write may have been, in the one that has fewer. A checksum
    /// outweighs that, and a sector that was written to its end one that was not.
    fn is_others(&self, sign: Sign) -> bool {
        let (base, Some(other)) = (self.base.standing, self.other.map(|other| other.standing)) else {
            return false;
        };
        let written_over = matches!(other, Standing::CrcBad { .. }) && !base.is_crc_good();
        match sign {
            _ if !base.is_complete() => false,
            Sign::BitsCleared { .. } => !other.is_complete() && !written_over && self.given.is_none(),
            Sign::BitsSet { .. } => base.is_crc_good() || !other.is_crc_good(),
            _ => false,
        }
    }

    fn bytes_of(&self, candidate: &Candidate<'a>) -> &'a [u8] {
        candidate.app.get(self.field.range()).unwrap_or_default()
    }
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PlanError {
    /// Nothing to recover.
    #[error("neither sector holds a table that can be placed; check that the dump starts at 08004000")]
    NothingFound,
}
