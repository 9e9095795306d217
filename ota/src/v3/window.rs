//! The chunks behind the acknowledged ones.

use super::MAX_WINDOW;

const WORDS: usize = MAX_WINDOW as usize / 32;

/// One bit for each chunk of the window: bit 0 of word 0 is the first chunk that is not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Window([u32; WORDS]);

impl Window {
    pub(super) const fn new() -> Self {
        Self([0; WORDS])
    }

    pub(super) fn is_set(&self, bit: u32) -> bool {
        self.word(bit).is_some_and(|word| word & 1 << (bit % 32) != 0)
    }

    fn word(&self, bit: u32) -> Option<u32> {
        self.0.get(usize::try_from(bit / 32).ok()?).copied()
    }

    pub(super) fn set(&mut self, bit: u32) {
        let word = usize::try_from(bit / 32).ok().and_then(|at| self.0.get_mut(at));
        if let Some(word) = word {
            *word |= 1 << (bit % 32);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Takes the chunks that are there in order off the front, and says how many they were.
    pub(super) fn advance(&mut self) -> u32 {
        // Whole words by themselves: 32 bits cannot be shifted out of 32.
        let whole = self.0.iter().take_while(|word| **word == u32::MAX).count();
        self.0.copy_within(whole.., 0);
        self.0[WORDS - whole..].fill(0);
        let part = self.0[0].trailing_ones();
        if part > 0 {
            let mut above = 0;
            for word in self.0.iter_mut().rev() {
                let low = *word;
                *word = low >> part | above;
                above = low << (32 - part);
            }
        }
        u32::try_from(32 * whole).unwrap_or(u32::MAX).saturating_add(part)
    }

    /// The bits as they are sent: little-endian words, without those at the end that are 0.
    pub(super) fn bytes(&self) -> ([u8; 4 * WORDS], usize) {
        let mut bytes = [0; 4 * WORDS];
        for (place, word) in bytes.chunks_exact_mut(4).zip(&self.0) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let used = self.0.iter().rposition(|word| *word != 0).map_or(0, |last| last + 1);
        (bytes, 4 * used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn whole_words_are_taken_off() {
        for count in [1, 31, 32, 33, 64, 255, 256] {
            let mut window = Window::new();
            (0..count).for_each(|bit| window.set(bit));
            assert_eq!((window.advance(), window.is_empty()), (count, true));
            assert_eq!(window.advance(), 0);
        }
    }

    #[test]
    fn bits_out_of_the_window_are_not_there() {
        let mut window = Window::new();
        window.set(256);
        window.set(u32::MAX);
        assert!(window.is_empty() && !window.is_set(256));
        assert_eq!(window.bytes().1, 0);
    }

    proptest! {
        #[test]
        fn advancing_is_what_it_is_one_by_one(bits: [bool; 256], run in 0usize..256) {
            let mut bits = bits.to_vec();
            bits[..run].fill(true);
            let mut window = Window::new();
            (0..).zip(&bits).filter(|(_, set)| **set).for_each(|(bit, _)| window.set(bit));
            let front = bits.iter().take_while(|set| **set).count();
            prop_assert_eq!(window.advance(), u32::try_from(front).unwrap());
            let rest: Vec<bool> = (0..256).map(|bit| window.is_set(bit)).collect();
            let mut expected = bits.split_off(front);
            expected.resize(256, false);
            prop_assert_eq!(rest, expected);
        }
    }
}
