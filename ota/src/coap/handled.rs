//! Whose a message was.

/// What a message was for a transfer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
#[non_exhaustive]
pub enum Handled {
    /// It does not belong to the transfer.
    NotMine,
    /// It does.
    Taken,
    /// It does, and its id has to be acknowledged. A connection of the TCP session does that by itself.
    Acknowledge(u16),
}

impl Handled {
    /// It belongs to the transfer.
    #[must_use]
    pub const fn is_mine(self) -> bool {
        !matches!(self, Self::NotMine)
    }

    /// The id that has to be acknowledged.
    #[must_use]
    pub const fn acknowledge(self) -> Option<u16> {
        match self {
            Self::Acknowledge(id) => Some(id),
            _ => None,
        }
    }
}
