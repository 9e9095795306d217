//! What a memory-layout string allows, also where its segments overlap.

use crate::layout::{Access, MemoryLayout};

/// How far, up to `want` bytes, memory from an address on has an access.
///
/// Segments may overlap. Every segment that holds a byte has to allow it: a wider segment in front cannot open what a
/// narrower one closes.
pub(super) fn stretch(
    layout: &MemoryLayout<'_>,
    address: u64,
    want: u64,
    allowed: impl Fn(Access) -> bool,
) -> u64 {
    let end = address.saturating_add(want);
    let mut at = address;
    // Every round ends at a border of a segment, so there are at most twice as many as segments.
    while at < end {
        let Ok(here) = u32::try_from(at) else { break };
        let (mut held, mut next) = (false, end);
        for segment in layout.segments() {
            if segment.contains(here) {
                if !allowed(segment.access) {
                    return at.saturating_sub(address);
                }
                held = true;
                next = next.min(segment.end());
            } else if u64::from(segment.start) > at {
                next = next.min(u64::from(segment.start));
            }
        }
        if !held {
            break;
        }
        at = next;
    }
    at.min(end).saturating_sub(address)
}

/// Whether every page that holds the address, as each segment cuts them, may be erased as a whole.
pub(super) fn erasable(layout: &MemoryLayout<'_>, address: u32) -> bool {
    layout.segments().filter_map(|segment| segment.page_at(address)).all(|page| {
        let size = u64::from(page.size);
        stretch(layout, u64::from(page.start), size, Access::erasable) == size
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(text: &str) -> MemoryLayout<'_> {
        MemoryLayout::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_stretch_ends_at_the_first_byte_that_any_segment_closes() {
        // 256 bytes of everything, of which bytes 64 to 127 are read-only by a second segment.
        let map = layout("@x/0x1000/4*64 g/0x1040/1*64 a");
        assert_eq!(stretch(&map, 0x1000, 256, Access::writeable), 64);
        assert_eq!(stretch(&map, 0x1080, 256, Access::writeable), 128);
        assert_eq!(stretch(&map, 0x1040, 1, Access::writeable), 0);
        assert_eq!(stretch(&map, 0x1000, 999, Access::readable), 256);
        assert_eq!(stretch(&map, 0x0FFF, 2, Access::readable), 0);
    }

    #[test]
    fn a_page_that_touches_a_closed_segment_is_not_erased() {
        let map = layout("@x/0x1000/1*256 g/0x1080/1*64 e");
        assert!(!erasable(&map, 0x1000), "the page reaches into memory that cannot be erased");
        assert!(!erasable(&map, 0x1090));
        assert!(erasable(&layout("@x/0x1000/2*128 g/0x1080/1*64 e"), 0x1000));
    }

    #[test]
    fn the_end_of_the_address_space_is_an_end() {
        let map = layout("@x/0xFFFFFF00/1*256 g");
        assert_eq!(stretch(&map, 0xFFFF_FFF0, u64::MAX, Access::readable), 16);
    }
}
