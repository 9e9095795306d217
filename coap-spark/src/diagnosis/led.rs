//! What the LED shows.

use super::Generation;
use core::fmt;

/// The colour of the flashes between the cyan blinking of a device that tries to connect.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Led {
    /// Red: any failure of the handshake, and the only colour for one in Device OS 2.
    Red,
    /// Orange: the session message does not decrypt (once), or no connection (twice, three times).
    Orange,
    /// Magenta: the server's signature is wrong.
    Magenta,
}

impl Led {
    /// All colours.
    pub const ALL: [Self; 3] = [Self::Red, Self::Orange, Self::Magenta];

    /// The colour's name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Magenta => "magenta",
        }
    }

    /// The colour of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|led| led.name().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Led {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Flashes of one colour, and the firmware that shows them.
///
/// A failed handshake is one flash of 250 ms, after which the device tries again and blinks cyan: people see it come
/// back every few seconds. A failed TCP connection is two or three flashes. Device OS 2 compares the colour's number
/// with a mapped error, so that orange and magenta never match and the one flash is always red.
///
/// # Source
/// device-os@v0.6.1, v2.3.1: `system/src/system_task.cpp`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Signal {
    /// Colour.
    pub led: Led,
    /// Flashes in a row: 1 to 3.
    pub blinks: u8,
    /// Which firmware shows it.
    pub generations: &'static [Generation],
}

const BEFORE_V2: &[Generation] = &[Generation::UpTo0_7, Generation::UpTo1_5];
const ALWAYS: &[Generation] = &Generation::ALL;

impl Signal {
    pub(super) const FAILED: &[Self] = &[Self { led: Led::Red, blinks: 1, generations: ALWAYS }];
    pub(super) const NOT_DECRYPTED: &[Self] = &[
        Self { led: Led::Orange, blinks: 1, generations: BEFORE_V2 },
        Self { led: Led::Red, blinks: 1, generations: &[Generation::V2] },
    ];
    pub(super) const NOT_SIGNED: &[Self] = &[
        Self { led: Led::Magenta, blinks: 1, generations: BEFORE_V2 },
        Self { led: Led::Red, blinks: 1, generations: &[Generation::V2] },
    ];
    pub(super) const NO_INTERNET: &[Self] = &[Self { led: Led::Orange, blinks: 2, generations: ALWAYS }];
    /// The firmware shows orange; people also report it as red.
    pub(super) const NO_CLOUD: &[Self] = &[
        Self { led: Led::Orange, blinks: 3, generations: ALWAYS },
        Self { led: Led::Red, blinks: 3, generations: ALWAYS },
    ];

    /// Whether this fits what was seen; `None` fits everything.
    pub(super) fn fits(&self, led: Option<Led>, blinks: Option<u8>, generation: Option<Generation>) -> bool {
        led.is_none_or(|led| led == self.led)
            && blinks.is_none_or(|blinks| blinks == self.blinks)
            && generation.is_none_or(|generation| self.generations.contains(&generation))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flashes = if self.blinks == 1 { "flash" } else { "flashes" };
        write!(f, "{} {} {flashes}", self.blinks, self.led)
    }
}
