//! Which bytes a request wants.

use core::ops::Range;

/// What a `Range` asks for, of a file of known length.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RangeRequest {
    /// No range: all of it.
    Whole,
    /// A range that does not count: all of it.
    Ignored(Ignored),
    /// These bytes, cut to the length of the file. Also if they are all of it, the answer is 206.
    Part(Range<u32>),
    /// None of the file's bytes: 416.
    Unsatisfiable,
    /// More than one range: refused with 416, since no device asks so.
    Several,
}

/// Why a range does not count, RFC 9110.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Ignored {
    /// Another unit than `bytes`.
    #[error("the range is not one of bytes")]
    Unit,
    /// Not `first-last`, `first-` or `-count`, or `last` before `first`.
    #[error("the range is malformed")]
    Malformed,
}

impl RangeRequest {
    /// Reads the value of a `Range` header.
    ///
    /// ```
    /// use spark_ota::sonoff::http::RangeRequest;
    ///
    /// assert_eq!(RangeRequest::new(Some("bytes=102400-106495"), 104_276), RangeRequest::Part(102_400..104_276));
    /// assert_eq!(RangeRequest::new(None, 104_276), RangeRequest::Whole);
    /// ```
    #[must_use]
    pub fn new(value: Option<&str>, length: u32) -> Self {
        let Some(value) = value else { return Self::Whole };
        let Some((unit, set)) = value.split_once('=') else { return Self::Ignored(Ignored::Malformed) };
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return Self::Ignored(Ignored::Unit);
        }
        if set.contains(',') {
            return Self::Several;
        }
        one(set.trim(), length).unwrap_or(Self::Ignored(Ignored::Malformed))
    }
}

fn one(range: &str, length: u32) -> Option<RangeRequest> {
    let (first, last) = range.split_once('-')?;
    if first.is_empty() {
        let count = number(last)?.min(length.into());
        let start = u32::try_from(u64::from(length) - count).ok()?;
        let part = start..length;
        return Some(if part.is_empty() { RangeRequest::Unsatisfiable } else { RangeRequest::Part(part) });
    }
    let first = number(first)?;
    let end = if last.is_empty() { u64::MAX } else { number(last)?.saturating_add(1) };
    if end <= first && end != u64::MAX {
        return None;
    }
    Some(match u32::try_from(first) {
        Ok(first) if first < length => {
            RangeRequest::Part(first..u32::try_from(end.min(length.into())).unwrap_or(length))
        }
        _ => RangeRequest::Unsatisfiable,
    })
}

/// Digits; what is too large stands for the largest.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use RangeRequest::{Part, Several, Unsatisfiable};
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    const MALFORMED: RangeRequest = RangeRequest::Ignored(Ignored::Malformed);

    #[test]
    fn ranges_are_those_of_the_standard() {
        for (value, expected) in [
            ("bytes=0-4095", Part(0..4096)),
            ("Bytes= 0-0 ", Part(0..1)),
            ("bytes=104275-", Part(104_275..104_276)),
            ("bytes=-16", Part(104_260..104_276)),
            ("bytes=-999999", Part(0..104_276)),
            ("bytes=0-108371", Part(0..104_276)),
            ("bytes=0-99999999999999999999999", Part(0..104_276)),
            ("bytes=104276-104286", Unsatisfiable),
            ("bytes=4294967296-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=0-0,4-7", Several),
            ("bytes=5-4", MALFORMED),
            ("bytes=abc", MALFORMED),
            ("bytes=", MALFORMED),
            ("bytes=-", MALFORMED),
            ("bytes=+1-2", MALFORMED),
            ("bytes=1-2-3", MALFORMED),
            ("bytes", MALFORMED),
            ("items=0-1", RangeRequest::Ignored(Ignored::Unit)),
        ] {
            assert_eq!(RangeRequest::new(Some(value), 104_276), expected, "{value}");
        }
        for value in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(RangeRequest::new(Some(value), 0), Unsatisfiable, "{value} of nothing");
        }
    }

    proptest! {
        #[test]
        fn parts_are_never_empty_and_within_the_file(first: u64, last: u64, value in "[bytes0-9=,-]{0,20}", length: u32) {
            let values: [String; 4] = [format!("bytes={first}-{last}"), format!("bytes={first}-"), format!("bytes=-{last}"), value];
            for value in values {
                if let Part(part) = RangeRequest::new(Some(&value), length) {
                    prop_assert!(part.start < part.end && part.end <= length, "{}", value);
                }
            }
        }
    }
}
