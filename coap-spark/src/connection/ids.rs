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
/// Acknowledgements and resets are not counted; pings are counted but not compared: a tolerant server takes their id over if it is ahead. Ids wrap at 65,536.
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

    /// Counts a ping. Its id is taken over if the window allows it, as a step of one otherwise.
    pub const fn count(&mut self, id: u16) {
        if !self.adopt(id) {
            self.last = self.last.wrapping_add(1);
        }
    }

    /// Whether this could be the peer's next id.
    #[must_use]
    pub const fn is_next(&self, id: u16) -> bool {
        id.wrapping_sub(self.last.wrapping_add(1)) <= self.window()
    }

    /// Takes over the id of a message that is not counted by itself, such as an acknowledgement for which the peer used
    /// an id of its own. A strict check knows no such thing.
    pub const fn adopt(&mut self, id: u16) -> bool {
        let is_taken = matches!(self.check, IdCheck::Tolerant { .. }) && self.is_next(id);
        if is_taken {
            self.last = id;
        }
        is_taken
    }

    const fn window(&self) -> u16 {
        match self.check {
            IdCheck::Strict => 0,
            IdCheck::Tolerant { window } => window,
        }
    }

    /// Compares and counts another message.
    ///
    /// # Errors
    /// The id that was expected; the state is unchanged.
    pub const fn accept(&mut self, id: u16) -> Result<(), u16> {
        if !self.is_next(id) {
            return Err(self.last.wrapping_add(1));
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
        ids.count(100);
        assert_eq!(ids.accept(9), Ok(()), "a ping is one step, whatever its id");
    }
}
