//! Finding the prefix in a file that does not say where it is.

use super::prefix::{ModuleFunction, Prefix, platform_name};
use super::suffix::Suffix;

/// The score of a prefix about which nothing is doubtful.
pub const MAXIMUM_SCORE: u8 = 7;

/// Where prefixes usually are: user parts and some system parts; Gen 3; STM32 with a vector table; Bluz; Core.
pub(super) const USUAL: [usize; 5] = [0, 0x200, super::VECTOR_TABLE_LEN as usize, 0xc0, 0x10c];

/// A prefix is not searched behind this offset.
pub(super) const SEARCH_END: usize = 8192;

/// No flash of these platforms is larger; a prefix that claims more is noise.
pub(super) const PLAUSIBLE_LENGTH: u32 = 16 << 20;

/// A prefix and how much speaks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FoundPrefix {
    /// Where it begins in the file.
    pub offset: usize,
    /// The prefix.
    pub prefix: Prefix,
    /// 1 to [`MAXIMUM_SCORE`]; see [`score`].
    pub score: u8,
}

/// The likeliest prefix of `file`; of equal ones the first in the order of the search.
///
/// Offsets 0, 0x200, 0x184, 0xc0 and 0x10c come first, then every multiple of four up to 8192. Files that are no
/// modules at all often have some prefix too: only a right CRC proves one, which is what
/// [`Module::parse`](super::Module::parse) adds. At most 2054 places are looked at.
///
/// # Source
/// binary-version-reader@4.2.0: `lib/HalModuleParser.js`, whose choice this is.
#[must_use]
pub fn find_prefix(file: &[u8]) -> Option<FoundPrefix> {
    let last = file.len().checked_sub(Suffix::LEN + Prefix::LEN + 4)?.min(SEARCH_END);
    let mut best: Option<FoundPrefix> = None;
    for offset in USUAL.into_iter().chain((0..=last).step_by(4)) {
        let Some(prefix) = prefix_at(file, offset) else { continue };
        let score = score(&prefix, file.len());
        if score > best.map_or(0, |best| best.score) {
            best = Some(FoundPrefix { offset, prefix, score });
            if score == MAXIMUM_SCORE {
                break;
            }
        }
    }
    best
}

/// A prefix at one of the usual offsets that is right in all but that the file ends before the module.
pub(super) fn find_cut(file: &[u8]) -> Option<FoundPrefix> {
    USUAL.into_iter().find_map(|offset| {
        let prefix = prefix_at(file, offset)?;
        let length = prefix.length().filter(|length| *length <= PLAUSIBLE_LENGTH)?;
        let needed = usize::try_from(length).ok()?.checked_add(4)?;
        let score = score(&prefix, needed);
        let found = FoundPrefix { offset, prefix, score };
        (needed > file.len() && score == MAXIMUM_SCORE).then_some(found)
    })
}

pub(super) fn prefix_at(file: &[u8], offset: usize) -> Option<Prefix> {
    file.get(offset..)?.first_chunk().map(Prefix::decode)
}

/// How plausible `prefix` is in a file of `file_len` bytes: 0 is impossible, [`MAXIMUM_SCORE`] beyond doubt.
///
/// Impossible: the end is not behind the start, the file is shorter than the module, no function, or a dependency
/// without function but with an index or version. Else 1, and one more each for a known platform, a known function, a
/// known function of each dependency, a file of exactly the module's size, and no unknown flags.
#[must_use]
pub fn score(prefix: &Prefix, file_len: usize) -> u8 {
    let Some(length) = prefix.length() else { return 0 };
    let size = u64::from(length) + 4;
    let file_len = u64::try_from(file_len).unwrap_or(u64::MAX);
    let empty_but_filled = |dependency: &super::Dependency| {
        dependency.is_none() && (dependency.index != 0 || dependency.version != 0)
    };
    if file_len < size
        || prefix.function == ModuleFunction::None
        || prefix.dependencies.iter().any(empty_but_filled)
    {
        return 0;
    }
    let [first, second] = prefix.dependencies;
    1 + u8::from(platform_name(prefix.platform_id).is_some())
        + u8::from(prefix.function.is_known())
        + u8::from(first.function.is_known())
        + u8::from(second.function.is_known())
        + u8::from(file_len == size)
        + u8::from(prefix.flags.unknown_bits() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{Dependency, Flags};
    use alloc::vec;

    fn prefix() -> Prefix {
        Prefix {
            start_address: 0x080a_0000,
            end_address: 0x080a_0100,
            reserved: 0,
            flags: Flags(0),
            version: 6,
            platform_id: 6,
            function: ModuleFunction::User,
            index: 1,
            dependencies: [Dependency::system(2, 207), Dependency::NONE],
        }
    }

    #[test]
    fn every_doubt_costs_one_point() {
        let file_len = 0x104;
        assert_eq!(score(&prefix(), file_len), 7);
        assert_eq!(score(&prefix(), file_len + 1), 6);
        let other = ModuleFunction::Other(99);
        let cases: [fn(&mut Prefix, ModuleFunction); 5] = [
            |prefix, _| prefix.platform_id = 999,
            |prefix, other| prefix.function = other,
            |prefix, other| prefix.dependencies[0].function = other,
            |prefix, other| prefix.dependencies[1].function = other,
            |prefix, _| prefix.flags = Flags(0x20),
        ];
        for doubt in cases {
            let mut prefix = prefix();
            doubt(&mut prefix, other);
            assert_eq!(score(&prefix, file_len), 6, "{prefix:?}");
        }
    }

    #[test]
    fn impossible_prefixes_score_nothing() {
        let cases: [fn(&mut Prefix); 5] = [
            |prefix| prefix.end_address = prefix.start_address,
            |prefix| prefix.end_address += 1,
            |prefix| prefix.function = ModuleFunction::None,
            |prefix| prefix.dependencies[0].function = ModuleFunction::None,
            |prefix| prefix.dependencies[1].index = 1,
        ];
        for impossible in cases {
            let mut prefix = prefix();
            impossible(&mut prefix);
            assert_eq!(score(&prefix, 0x104), 0, "{prefix:?}");
        }
    }

    #[test]
    fn usual_offsets_win_over_others_and_unusual_ones_are_found() {
        for offset in [0, 0x10c, 0xc0, 0x184, 0x200, 0x20, 0x1000] {
            let mut file = vec![0xff; 0x2004];
            let prefix = Prefix { end_address: 0x080a_2000, ..prefix() };
            file[offset..offset + 24].copy_from_slice(&prefix.encode());
            assert_eq!(find_prefix(&file), Some(FoundPrefix { offset, prefix, score: 7 }));
        }
        assert_eq!(find_prefix(&[0xff; 4096]), None);
        assert_eq!(find_prefix(&[0; 63]), None);
    }
}
