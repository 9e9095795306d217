//! Which chunks have arrived.

/// One bit per chunk, least significant first, in `N` bytes: room for `8 * N` chunks.
#[derive(Clone, Debug)]
pub struct Bitmap<const N: usize> {
    bits: [u8; N],
    count: u16,
}

impl<const N: usize> Bitmap<N> {
    /// A bitmap for no chunks.
    #[must_use]
    pub const fn new() -> Self {
        Self { bits: [0; N], count: 0 }
    }

    /// Forgets everything and takes `count` chunks, all missing or all there. `false` if there is no room.
    pub fn reset(&mut self, count: u16, there: bool) -> bool {
        if usize::from(count) > N.saturating_mul(8) {
            return false;
        }
        self.bits.fill(if there { 0xff } else { 0 });
        self.count = count;
        true
    }

    /// Marks a chunk as there. Indices behind the last one are ignored.
    pub fn set(&mut self, index: u16) {
        if index < self.count
            && let Some(byte) = self.bits.get_mut(usize::from(index / 8))
        {
            *byte |= 1 << (index % 8);
        }
    }

    /// Whether a chunk is there.
    #[must_use]
    pub fn is_set(&self, index: u16) -> bool {
        let byte = self.bits.get(usize::from(index / 8)).copied().unwrap_or(0);
        index < self.count && byte & (1 << (index % 8)) != 0
    }

    /// The missing chunks in ascending order. Whole bytes of arrived chunks are skipped at once.
    pub fn missing(&self) -> impl Iterator<Item = u16> + '_ {
        let count = self.count;
        (0u16..).zip(&self.bits).filter(|(_, byte)| **byte != 0xff).flat_map(move |(at, byte)| {
            let first = at.saturating_mul(8);
            (0..8u16)
                .filter(move |bit| byte & (1 << bit) == 0)
                .map(move |bit| first.saturating_add(bit))
                .filter(move |index| *index < count)
        })
    }
}

impl<const N: usize> Default for Bitmap<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    #[test]
    fn more_chunks_than_bits_are_refused() {
        let mut bitmap = Bitmap::<2>::new();
        assert!(bitmap.reset(16, false) && !bitmap.reset(17, false));
        assert_eq!(bitmap.missing().count(), 16, "the refusal changed nothing");
    }

    proptest! {
        #[test]
        fn missing_is_what_was_not_set(count in 0u16..100, set in proptest::collection::btree_set(0u16..120, 0..100)) {
            let mut bitmap = Bitmap::<13>::new();
            prop_assert!(bitmap.reset(count, false));
            for index in &set {
                bitmap.set(*index);
                prop_assert_eq!(bitmap.is_set(*index), *index < count);
            }
            let expected: BTreeSet<u16> = (0..count).filter(|index| !set.contains(index)).collect();
            prop_assert!(bitmap.missing().eq(expected.into_iter()));
        }
    }
}
