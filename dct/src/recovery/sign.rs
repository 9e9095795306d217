//! Signs of damage in one field.

use crate::field::Field;
use crate::kind::Kind;

/// How a value came to be damaged, judged from the other generation's value and from the one that was being written.
///
/// Flash clears single bits and sets whole sectors, so damage has shapes. A sign is a hint and not a proof: each carries what it
/// rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Sign {
    /// Every byte is the AND of the other generation's and the given one, and the value is neither: the in-place attempt
    /// of v0.4.4 to v0.6.4 was interrupted behind its last byte.
    And,
    /// The same up to a byte, the other generation's value from there on: interrupted at that byte.
    AndUpTo {
        /// First byte that is not programmed, in the field.
        at: usize,
    },
    /// The given value up to a byte, and then the other generation's.
    Splice {
        /// First byte of the other generation's, in the field.
        at: usize,
    },
    /// FF from a byte on, where the other generation, or the length that the value itself declares, has more.
    ErasedTail {
        /// First erased byte, in the field.
        at: usize,
    },
    /// FF in every byte, where the other generation has a value.
    Erased,
    /// Bits are only cleared against the other generation (or the given value): it may be its AND with something.
    BitsCleared {
        /// How many bits agree that need not: chance does this once in two to the power of it.
        evidence: u32,
    },
    /// Bits are only set against the other generation: an interrupted erase.
    BitsSet {
        /// As for `BitsCleared`.
        evidence: u32,
    },
}

impl Sign {
    /// Whether the sign names both values that it is made of. The others rest on how unlikely it is that random bits look
    /// so: they mean something for keys and nothing for flags.
    #[must_use]
    pub const fn is_specific(self) -> bool {
        matches!(self, Sign::And | Sign::AndUpTo { .. } | Sign::Splice { .. })
    }
}

impl Sign {
    /// Whether one value has lost the bits that the other one has gained: only one of the two is damaged.
    pub(super) const fn mirrors(self, other: Sign) -> bool {
        matches!(
            (self, other),
            (Sign::BitsCleared { .. }, Sign::BitsSet { .. })
                | (Sign::BitsSet { .. }, Sign::BitsCleared { .. })
        )
    }
}

/// One of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    First,
    Second,
}

/// Which of two random values is intact, where one has the bits of the other and more: half of the bits of a good one are set, and
/// of a damaged one fewer (an AND) or more (an erase). `None` if too few bits differ to tell.
pub(super) fn intact_of(first: &[u8], second: &[u8]) -> Option<Which> {
    const CLEAR: u32 = 32;
    let differing = || first.iter().zip(second).filter(|(one, two)| one != two);
    // of the number of set bits from half of all
    let distance = |value: fn((&u8, &u8)) -> u8| -> u32 {
        differing()
            .map(|pair| i64::from(value(pair).count_ones()) - 4)
            .sum::<i64>()
            .unsigned_abs()
            .try_into()
            .unwrap_or(u32::MAX)
    };
    let (one, two) = (distance(|pair| *pair.0), distance(|pair| *pair.1));
    match one.abs_diff(two) {
        ..CLEAR => None,
        _ if one < two => Some(Which::First),
        _ => Some(Which::Second),
    }
}

impl core::fmt::Display for Sign {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Sign::And => f.write_str("it is the AND of the old and the new value"),
            Sign::AndUpTo { at } => write!(f, "up to byte {at} it is the AND of the old and the new value"),
            Sign::Splice { at } => {
                write!(f, "it is the new value up to byte {at} and the old one from there on")
            }
            Sign::ErasedTail { at } => write!(f, "it is erased from byte {at} on"),
            Sign::Erased => f.write_str("it is erased, and the other generation is not"),
            Sign::BitsCleared { .. } => {
                f.write_str("it has only lost bits, as an interrupted write leaves it")
            }
            Sign::BitsSet { .. } => f.write_str("it has only gained bits, as an interrupted erase leaves it"),
        }
    }
}

/// Fewer agreeing bits than this are taken for chance.
const EVIDENCE: u32 = 64;

/// Looks for a sign of damage in `value`.
///
/// `other` is the same field in the other generation, `given` the value that was being written, both where known. A value
/// that equals one of them has no sign. Lengths are compared up to the shortest.
#[must_use]
pub fn sign_of(value: &[u8], other: Option<&[u8]>, given: Option<&[u8]>) -> Option<Sign> {
    let same = |known: Option<&[u8]>| known.is_some_and(|known| known == value);
    if same(other) || same(given) {
        return declared_tail(value).filter(|_| other.is_none());
    }
    if let (Some(other), Some(given)) = (other, given) {
        let and = || other.iter().zip(given).map(|(other, given)| other & given);
        let programmed = value.iter().zip(and()).take_while(|(value, and)| **value == *and).count();
        if programmed >= given.len() && tail(value, programmed) == tail(other, programmed) {
            return Some(Sign::And);
        }
        if programmed > 0 && tail(value, programmed) == tail(other, programmed) {
            return Some(Sign::AndUpTo { at: programmed });
        }
        let new = value.iter().zip(given).take_while(|(value, given)| value == given).count();
        if new > 0 && tail(value, new) == tail(other, new) {
            return Some(Sign::Splice { at: new });
        }
    }
    if let Some(other) = other {
        let erased = value.iter().rposition(|byte| *byte != 0xFF).map_or(0, |at| at + 1);
        if erased < value.len() && tail(other, erased).iter().any(|byte| *byte != 0xFF) {
            if erased == 0 {
                return Some(Sign::Erased);
            }
            if value.get(..erased) == other.get(..erased) {
                return Some(Sign::ErasedTail { at: erased });
            }
        }
    }
    if let Some(sign) = declared_tail(value) {
        return Some(sign);
    }
    // a text that firmware cleared by one 00 has lost bits, too
    let cleared = |known: &[u8]| value.first() == Some(&0) && tail(value, 1) == tail(known, 1);
    for known in [other, given].into_iter().flatten() {
        let zeros: u32 = known.iter().map(|byte| byte.count_zeros()).sum();
        let blank = value.iter().all(|byte| *byte == 0);
        if zeros >= EVIDENCE && !blank && !cleared(known) && is_subset(value, known) {
            return Some(Sign::BitsCleared { evidence: zeros });
        }
    }
    let other = other?;
    let ones: u32 = other.iter().map(|byte| byte.count_ones()).sum();
    let erased = value.iter().all(|byte| *byte == 0xFF);
    (ones >= EVIDENCE && !erased && is_subset(other, value)).then_some(Sign::BitsSet { evidence: ones })
}

/// Whether the bits of a good value are as good as random, as those of keys are.
pub(super) fn is_random(field: Field) -> bool {
    field.is_secret() || matches!(field.kind(), Kind::Padded { .. }) || field == Field::SERVER_PUBLIC_KEY
}

/// DER says its own length: `30 82 hh ll` and that many bytes. FF before their end are an erased tail.
fn declared_tail(value: &[u8]) -> Option<Sign> {
    let [0x30, 0x82, high, low, ..] = value else { return None };
    let declared = 4 + usize::from(u16::from_be_bytes([*high, *low]));
    let used = value.iter().rposition(|byte| *byte != 0xFF).map_or(0, |at| at + 1);
    // the last bytes of a good key may be FF by chance, eight in a row are not
    (declared <= value.len() && used + 8 <= declared).then_some(Sign::ErasedTail { at: used })
}

fn tail(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or(&[])
}

fn is_subset(lesser: &[u8], greater: &[u8]) -> bool {
    lesser.len() == greater.len() && lesser.iter().zip(greater).all(|(less, more)| less & more == *less)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> [u8; 64] {
        core::array::from_fn(|i| {
            u8::try_from(i).unwrap().wrapping_mul(37).wrapping_add(seed).wrapping_mul(101) ^ seed
        })
    }

    fn and(a: &[u8; 64], b: &[u8; 64]) -> [u8; 64] {
        core::array::from_fn(|i| a[i] & b[i])
    }

    #[test]
    fn and_is_recognised_whole_and_interrupted() {
        let (old, new) = (key(3), key(77));
        let both = and(&old, &new);
        assert_eq!(sign_of(&both, Some(&old), Some(&new)), Some(Sign::And));
        let mut half = old;
        half[..20].copy_from_slice(&both[..20]);
        assert_eq!(sign_of(&half, Some(&old), Some(&new)), Some(Sign::AndUpTo { at: 20 }));
        // only one of them known: bits are missing
        assert!(matches!(sign_of(&both, Some(&old), None), Some(Sign::BitsCleared { .. })));
        assert!(matches!(sign_of(&both, None, Some(&new)), Some(Sign::BitsCleared { .. })));
        assert_eq!(sign_of(&both, None, None), None);
    }

    #[test]
    fn good_values_have_no_sign() {
        let (old, new) = (key(3), key(77));
        assert_eq!(sign_of(&old, Some(&new), None), None);
        assert_eq!(sign_of(&new, Some(&old), Some(&new)), None);
        assert_eq!(sign_of(&old, Some(&old), Some(&new)), None);
        assert_eq!(sign_of(&old, Some(&[0xFF; 64]), None), None);
        // cleared by one 00, and cleared altogether
        let mut cleared = old;
        cleared[0] = 0;
        assert_eq!(sign_of(&cleared, Some(&old), None), None);
        assert_eq!(sign_of(&[0; 64], Some(&old), None), None);
    }

    #[test]
    fn erased_bytes_are_recognised() {
        let old = key(3);
        let mut torn = old;
        torn[40..].fill(0xFF);
        assert_eq!(sign_of(&torn, Some(&old), None), Some(Sign::ErasedTail { at: 40 }));
        assert_eq!(sign_of(&[0xFF; 64], Some(&old), None), Some(Sign::Erased));
        let mut gained = old;
        gained.iter_mut().step_by(3).for_each(|byte| *byte |= 0x5A);
        assert!(matches!(sign_of(&gained, Some(&old), None), Some(Sign::BitsSet { .. })));
        let mut spliced = key(77);
        spliced[30..].copy_from_slice(&old[30..]);
        assert_eq!(sign_of(&spliced, Some(&old), Some(&key(77))), Some(Sign::Splice { at: 30 }));
    }

    #[test]
    fn damaged_one_of_two_values_is_told_by_its_bits() {
        let (old, new) = (key(3), key(77));
        let lost = and(&old, &new);
        let mut gained = old;
        gained.iter_mut().zip(new).for_each(|(byte, more)| *byte |= more);
        for damaged in [lost, gained] {
            assert_eq!(intact_of(&old, &damaged), Some(Which::First));
            assert_eq!(intact_of(&damaged, &old), Some(Which::Second));
        }
        let mut bit = old;
        bit[5] ^= 1;
        assert_eq!(intact_of(&old, &bit), None);
    }

    #[test]
    fn value_that_declares_its_length_shows_its_missing_tail_alone() {
        let mut der = [0xFF; 100];
        der[..64].copy_from_slice(&key(9));
        der[..4].copy_from_slice(&[0x30, 0x82, 0, 80]);
        assert_eq!(sign_of(&der, None, None), Some(Sign::ErasedTail { at: 64 }));
        der[64..84].fill(0x11);
        assert_eq!(sign_of(&der, None, None), None);
    }

    proptest! {
        #[test]
        fn any_values_are_looked_at_without_panic(
            value in proptest::collection::vec(any::<u8>(), 0..80),
            other in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
            given in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..80)),
        ) {
            let sign = sign_of(&value, other.as_deref(), given.as_deref());
            if other.as_ref() == Some(&value) || (other.is_some() && given.as_ref() == Some(&value)) {
                prop_assert_eq!(sign, None);
            }
        }

        #[test]
        fn random_values_of_a_keys_length_show_nothing(a: [u8; 32], b: [u8; 32], c: [u8; 32]) {
            prop_assume!(a != b && a[31] != 0xFF && a[0] != b[0] && a[31] != b[31] && a[0] != c[0] && a[0] != b[0] & c[0]);
            prop_assert_eq!(sign_of(&a, Some(&b), Some(&c)), None);
        }
    }
}
