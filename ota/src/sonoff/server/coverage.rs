//! Which bytes of a file were given out.

use alloc::vec::Vec;
use core::ops::Range;

/// Pieces that are remembered apart. Devices ask in order, so there are one or two.
const PIECES: usize = 64;

/// Bytes of a file, asked for in any order and more than once: whether a device can have got all of it.
///
/// ```
/// use spark_ota::sonoff::server::Coverage;
/// let mut given_out = Coverage::default();
/// given_out.add(0..4096);
/// given_out.add(4096..6000);
/// given_out.add(4096..8192); // once more, after a lost connection
/// assert_eq!(given_out.bytes(), 8192);
/// assert!(given_out.is_whole(8192));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// In order, not empty, none touches the next.
    pieces: Vec<Range<u32>>,
}

impl Coverage {
    /// Adds bytes. A piece too many is forgotten: what is counted is never too much.
    pub fn add(&mut self, range: Range<u32>) {
        if range.is_empty() {
            return;
        }
        let start = self.pieces.partition_point(|piece| piece.end < range.start);
        let end = self.pieces.partition_point(|piece| piece.start <= range.end);
        let mut joined = range;
        for piece in self.pieces.get(start..end).unwrap_or_default() {
            joined = joined.start.min(piece.start)..joined.end.max(piece.end);
        }
        if start < end || self.pieces.len() < PIECES {
            self.pieces.splice(start..end, [joined]);
        }
    }

    /// Different bytes.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        self.pieces.iter().fold(0, |sum, piece| sum.saturating_add(piece.end - piece.start))
    }

    /// All of a file of this length.
    #[must_use]
    pub fn is_whole(&self, length: u32) -> bool {
        self.pieces.first().is_some_and(|piece| piece.start == 0 && piece.end >= length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pieces_grow_together() {
        let mut coverage = Coverage::default();
        for (range, bytes) in [(0..10, 10), (20..30, 20), (20..30, 20), (30..40, 30), (5..25, 40), (7..7, 40)]
        {
            coverage.add(range);
            assert_eq!(coverage.bytes(), bytes);
        }
        assert!(coverage.is_whole(40) && !coverage.is_whole(41));
    }

    #[test]
    fn scattered_pieces_are_bounded_and_never_counted_too_much() {
        let mut coverage = Coverage::default();
        for start in 0..1000 {
            coverage.add(start * 10..start * 10 + 1);
        }
        assert_eq!((coverage.pieces.len(), coverage.bytes()), (PIECES, 64));
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_bytes(ranges in proptest::collection::vec((0u32..300, 0u32..60), 0..40)) {
            let mut coverage = Coverage::default();
            let mut bytes = [false; 400];
            for (start, length) in ranges {
                coverage.add(start..start + length);
                bytes[start as usize..(start + length) as usize].fill(true);
            }
            prop_assert_eq!(coverage.bytes() as usize, bytes.iter().filter(|byte| **byte).count());
            let whole = u32::try_from(bytes.iter().take_while(|byte| **byte).count()).unwrap();
            prop_assert!(whole == 0 || coverage.is_whole(whole));
            prop_assert!(!coverage.is_whole(whole + 1));
        }
    }
}
