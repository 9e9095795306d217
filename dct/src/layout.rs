//! The structure as each release declares it: which names the bytes had, and where the gaps were.

use crate::field::{Field, FirmwareVersion};

/// A named run of bytes of the structure as one release declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Span {
    /// Name in that release's header.
    pub name: &'static str,
    /// First byte.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

/// Length of the structure's members in a release: 4258 before v0.7.0, 8391 since.
///
/// See [`size_of`] for two bytes of padding behind them.
#[must_use]
pub fn length(version: FirmwareVersion) -> usize {
    if version >= FirmwareVersion::new(0, 7, 0) { crate::app::LEN } else { crate::app::LEN_OLD }
}

/// `sizeof` of the structure in a release: the members, and before v0.4.5, when it was not packed, two bytes of padding.
#[must_use]
pub fn size_of(version: FirmwareVersion) -> usize {
    let packed = version >= FirmwareVersion::new(0, 4, 5);
    if packed { length(version) } else { length(version).next_multiple_of(4) }
}

/// The members of the structure in a release, in the order of their offsets, gaps and obsolete names included.
///
/// They cover the structure without gap; before v0.4.6 `ip_config` lies within `unused_server_address`.
///
/// ```
/// use spark_dct::{FirmwareVersion, layout};
/// let (v0_5_1, v0_5_4) = (FirmwareVersion::new(0, 5, 1), FirmwareVersion::new(0, 5, 4));
/// let name = |version| layout::of(version).find(|span| span.offset == 1852).map(|span| span.name);
/// assert_eq!((name(v0_5_1), name(v0_5_4)), (Some("device_id"), Some("device_code")));
/// ```
///
/// # Source
/// `device-os@v0.4.0..v2.3.1: application_dct_t`, compiled for a 32-bit target at 18 tags. Between two of these tags
/// the older one's layout is given, except for v2.1.0 and v2.2.0, which are known to lack
/// `ext_low_speed_clock_disable`.
pub fn of(version: FirmwareVersion) -> impl Iterator<Item = Span> {
    let mut last = None;
    core::iter::from_fn(move || {
        let key = |span: &Span| Some((span.offset, span.len));
        let next = spans(version).filter(|span| key(span) > last).min_by_key(key)?;
        last = key(&next);
        Some(next)
    })
}

/// In no order, no two alike.
fn spans(version: FirmwareVersion) -> impl Iterator<Item = Span> {
    let fields = Field::ALL.iter().filter(move |field| !field.is_gap() && field.exists_in(version)).map(
        move |field| {
            let name = match field.former_name() {
                Some((name, until)) if version < until => name,
                _ => field.name(),
            };
            Span { name, offset: field.offset(), len: field.len() }
        },
    );
    let gaps = GAPS.iter().filter(move |gap| gap.from <= version && version < gap.until);
    fields.chain(gaps.map(|gap| Span {
        name: gap.name,
        offset: usize::from(gap.offset),
        len: usize::from(gap.len),
    }))
}

struct Gap {
    name: &'static str,
    offset: u16,
    len: u16,
    from: FirmwareVersion,
    until: FirmwareVersion,
}

const fn gap(name: &'static str, offset: u16, len: u16, from: [u8; 3], until: [u8; 3]) -> Gap {
    let [a, b, c] = from;
    let [d, e, f] = until;
    Gap { name, offset, len, from: FirmwareVersion::new(a, b, c), until: FirmwareVersion::new(d, e, f) }
}

const EVER: [u8; 3] = [255; 3];

const GAPS: &[Gap] = &[
    gap("unused_server_address", 1634, 128, [0, 4, 0], [0, 4, 6]),
    gap("unused", 1658, 104, [0, 4, 6], [0, 5, 1]),
    gap("unused", 1658, 100, [0, 5, 1], [0, 6, 0]),
    gap("unused", 1658, 96, [0, 6, 0], [1, 2, 1]),
    gap("unused", 1658, 95, [1, 2, 1], EVER),
    gap("reserved1", 1890, 192, [0, 4, 0], [0, 4, 6]),
    gap("reserved1", 2018, 64, [0, 4, 6], EVER),
    gap("padding", 2850, 2, [0, 4, 0], EVER),
    gap("reserved2", 2976, 1282, [0, 4, 0], [0, 4, 6]),
    gap("reserved2", 2977, 1281, [0, 4, 6], [0, 4, 9]),
    gap("reserved2", 3618, 640, [0, 4, 9], [0, 6, 0]),
    gap("reserved2", 3630, 628, [0, 6, 0], [0, 6, 1]),
    gap("reserved2", 3823, 435, [0, 6, 1], [0, 7, 0]),
    gap("reserved2", 8119, 272, [0, 7, 0], [1, 4, 1]),
    gap("reserved2", 8134, 257, [1, 4, 1], [1, 5, 0]),
    gap("reserved2", 8166, 225, [1, 5, 0], [2, 0, 2]),
    gap("reserved2", 8170, 221, [2, 0, 2], [2, 1, 0]),
    gap("reserved2", 8166, 225, [2, 1, 0], [2, 3, 0]),
    gap("reserved2", 8170, 221, [2, 3, 0], EVER),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_follow_each_other_in_every_release() {
        for version in
            [[0, 4, 6], [0, 4, 9], [0, 5, 3], [0, 6, 4], [0, 7, 0], [1, 3, 0], [2, 2, 0], [2, 3, 1]]
        {
            let version = FirmwareVersion::new(version[0], version[1], version[2]);
            let mut next = 0;
            for span in of(version) {
                assert_eq!(span.offset, next, "{version} {}", span.name);
                next += span.len;
            }
            assert_eq!(next, length(version), "{version}");
        }
    }
}
