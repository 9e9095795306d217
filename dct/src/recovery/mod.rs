//! Recovery: what two raw sectors still hold, what damaged them, and how to repair them.
//!
//! For saved flash of 32 KiB from 08004000 (alternate setting 0 of a Photon over DFU, or a debug probe; alternate setting
//! 1 shows one generation only and its bytes tell nothing about the container). The steps:
//!
//! 1. [`Dump::from_slice`], then [`Dump::candidate`] of both sectors: each is a generation of the table with a
//!    [`Standing`], from "CRC is right" to "blank". A sector that was replaced is checked with its marks set back.
//! 2. [`Dump::select`] tells which sector a given firmware would read, and why.
//! 3. [`diff`] compares two images value by value; [`Sign`]s of damage are found where two values of a field, or a value
//!    and the one that was being written, explain each other: a bitwise AND, an erased tail, a splice.
//! 4. [`Plan::new`] decides for every field, with the reason and a [`Confidence`] that says what it rests on.
//! 5. [`Plan::build_app`] and [`Plan::build_sectors`] make the repaired image and sectors for a [`Target`].
//!
//! Keys cannot be judged here. The caller's judge looks at the bytes of a field and says [`Judgement::Valid`],
//! [`Judgement::Invalid`] or [`Judgement::Unknown`]. Valid means proof; a public key that can be read is none, as the AND of two
//! can be read as well. Without a judge nothing is ever more than plausible or covered by a CRC.
//! Nothing is mixed from two generations unless [`Options::mix`] says so, and each mixed field is listed as such.
//!
//! ```
//! use spark_dct::recovery::{Confidence, Dump, Judgement, Options, Plan, Target};
//! use spark_dct::{Field, wiced};
//! let mut flash = vec![0xFF; 32768];
//! let dct1 = flash.first_chunk_mut().ok_or("too short")?;
//! wiced::factory_sector(&[0x30; 4258], dct1)?;
//!
//! let dump = Dump::from_slice(&flash)?;
//! let target = Target::Wiced(wiced::Generation::V0_7_0);
//! let judge = |field: Field, bytes: &[u8]| match field {
//!     Field::DEVICE_PRIVATE_KEY if bytes.starts_with(&[0x30]) => Judgement::Valid, // ask a key library
//!     _ => Judgement::Unknown,
//! };
//! let plan = Plan::new(dump, target, Options::default(), judge)?;
//! assert_eq!(plan.decision(Field::DEVICE_PRIVATE_KEY).confidence, Confidence::Judged);
//! assert_eq!(plan.decision(Field::CLAIMED).confidence, Confidence::Unknown);
//! let mut repaired = [[0; 16384]; 2];
//! plan.build_sectors(&mut repaired)?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod build;
mod diff;
mod dump;
mod plan;
mod sign;

pub use build::BuildError;
pub use diff::{Difference, diff};
pub use dump::{Candidate, Dump, DumpError, Format, Standing};
pub use plan::{Confidence, Decision, Judgement, Options, Plan, PlanError, Source, Why};
pub use sign::{Sign, sign_of};

use crate::{dcd, wiced};

/// A firmware that shall read the repaired sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Target {
    /// Photon, P1.
    Wiced(wiced::Generation),
    /// Electron.
    Dcd(dcd::Generation),
}

impl Target {
    /// Every generation of both containers.
    pub const ALL: [Target; 5] = [
        Target::Wiced(wiced::Generation::V0_4_0),
        Target::Wiced(wiced::Generation::V0_4_4),
        Target::Wiced(wiced::Generation::V0_7_0),
        Target::Dcd(dcd::Generation::V1),
        Target::Dcd(dcd::Generation::V2),
    ];

    /// Bytes of the structure that this firmware has.
    #[must_use]
    pub const fn structure_len(self) -> usize {
        match self {
            Target::Wiced(generation) => generation.structure_len(),
            Target::Dcd(dcd::Generation::V1) => crate::app::LEN_OLD,
            Target::Dcd(dcd::Generation::V2) => crate::app::LEN,
        }
    }
}

impl core::fmt::Display for Target {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Target::Wiced(wiced::Generation::V0_4_0) => "Photon v0.4.0 to v0.4.1",
            Target::Wiced(wiced::Generation::V0_4_4) => "Photon v0.4.4 to v0.6.4",
            Target::Wiced(wiced::Generation::V0_7_0) => "Photon v0.7.0 and later",
            Target::Dcd(dcd::Generation::V1) => "Electron up to v0.6.4",
            Target::Dcd(dcd::Generation::V2) => "Electron v0.7.0 and later",
        })
    }
}
