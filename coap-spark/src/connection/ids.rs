//! Message-id accounting of the receiving side.

/// How strictly a server compares the ids of incoming messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum IdCheck {
    /// Exactly the next id, as both JavaScript servers demand. Device OS 0.8 to 2.3.1 breaks this by itself: it
    /// acknowledges signals and pings with fresh ids.
    Strict,
    /// Up to this many ids ahead is fine and resynchronises.
    Tolerant {
        /// The width of the window.
        window: u16,
    },
}

impl IdCheck {
    /// A window of 16 ids.
    pub const DEFAULT: Self = Self::Tolerant { window: 16 };
}

/// The id that the peer's next message should have.
///
/// Acknowledgements and resets are not counted; pings are counted but not compared. Ids wrap at 65,536.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ReceiveIds {
    last: u16,
    check: IdCheck,
}

impl ReceiveIds {
    /// Starts at the id of the peer's Hello.
    #[must_use]
    pub const fn new(hello_id: u16, check: IdCheck) -> Self {
        Self { last: hello_id, check }
    }

    /// The last id that came.
    #[must_use]
    pub const fn last(&self) -> u16 {
        self.last
    }

    /// Counts a ping.
    pub const fn count(&mut self) {
        self.last = self.last.wrapping_add(1);
    }

    /// Compares and counts another message.
    ///
    /// # Errors
    /// The id that was expected; the state is unchanged.
    pub const fn accept(&mut self, id: u16) -> Result<(), u16> {
        let expected = self.last.wrapping_add(1);
        let ahead = id.wrapping_sub(expected);
        let allowed = match self.check {
            IdCheck::Strict => 0,
            IdCheck::Tolerant { window } => window,
        };
        if ahead > allowed {
            return Err(expected);
        }
        self.last = id;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_wrap_and_the_window_resynchronises() {
        let mut ids = ReceiveIds::new(0xfffe, IdCheck::DEFAULT);
        assert_eq!(ids.accept(0xffff), Ok(()));
        assert_eq!(ids.accept(0x0002), Ok(()), "two ahead");
        assert_eq!(ids.accept(0x0003), Ok(()));
        assert_eq!(ids.accept(0x0003), Err(4), "a repeated id is not ahead");
        assert_eq!(ids.accept(0x0014), Ok(()), "16 ahead");
        assert_eq!(ids.accept(0x0026), Err(0x15), "17 ahead");
    }

    #[test]
    fn strict_takes_the_next_id_only() {
        let mut ids = ReceiveIds::new(7, IdCheck::Strict);
        assert_eq!(ids.accept(9), Err(8));
        ids.count();
        assert_eq!(ids.accept(9), Ok(()));
    }
}
