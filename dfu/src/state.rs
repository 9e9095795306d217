//! The states of the DFU machine, `bState`.

use core::fmt;

/// A DFU state as GETSTATUS and GETSTATE report it.
///
/// Every byte decodes: real devices send values above 10 (a Photon reports 15 after an UPLOAD of block 1).
///
/// # Source
/// USB DFU 1.1, section 6.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum State {
    /// `appIDLE` (0): the run-time application.
    #[doc(alias = "appIDLE")]
    AppIdle,
    /// `appDETACH` (1): run-time, waiting for a USB reset.
    #[doc(alias = "appDETACH")]
    AppDetach,
    /// `dfuIDLE` (2).
    #[doc(alias = "dfuIDLE")]
    Idle,
    /// `dfuDNLOAD-SYNC` (3): a block was taken, GETSTATUS is due.
    #[doc(alias = "dfuDNLOAD-SYNC")]
    DnloadSync,
    /// `dfuDNBUSY` (4): the block is in work.
    #[doc(alias = "dfuDNBUSY")]
    DnBusy,
    /// `dfuDNLOAD-IDLE` (5): ready for the next block.
    #[doc(alias = "dfuDNLOAD-IDLE")]
    DnloadIdle,
    /// `dfuMANIFEST-SYNC` (6): the download ended, GETSTATUS is due.
    #[doc(alias = "dfuMANIFEST-SYNC")]
    ManifestSync,
    /// `dfuMANIFEST` (7).
    #[doc(alias = "dfuMANIFEST")]
    Manifest,
    /// `dfuMANIFEST-WAIT-RESET` (8).
    #[doc(alias = "dfuMANIFEST-WAIT-RESET")]
    ManifestWaitReset,
    /// `dfuUPLOAD-IDLE` (9).
    #[doc(alias = "dfuUPLOAD-IDLE")]
    UploadIdle,
    /// `dfuERROR` (10): only CLRSTATUS leads out.
    #[doc(alias = "dfuERROR")]
    Error,
    /// A value the standard does not assign.
    Unknown(u8),
}

impl State {
    /// Decodes `bState`.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::AppIdle,
            1 => Self::AppDetach,
            2 => Self::Idle,
            3 => Self::DnloadSync,
            4 => Self::DnBusy,
            5 => Self::DnloadIdle,
            6 => Self::ManifestSync,
            7 => Self::Manifest,
            8 => Self::ManifestWaitReset,
            9 => Self::UploadIdle,
            10 => Self::Error,
            other => Self::Unknown(other),
        }
    }

    /// Encodes `bState`.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::AppIdle => 0,
            Self::AppDetach => 1,
            Self::Idle => 2,
            Self::DnloadSync => 3,
            Self::DnBusy => 4,
            Self::DnloadIdle => 5,
            Self::ManifestSync => 6,
            Self::Manifest => 7,
            Self::ManifestWaitReset => 8,
            Self::UploadIdle => 9,
            Self::Error => 10,
            Self::Unknown(code) => code,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppIdle => "appIDLE",
            Self::AppDetach => "appDETACH",
            Self::Idle => "dfuIDLE",
            Self::DnloadSync => "dfuDNLOAD-SYNC",
            Self::DnBusy => "dfuDNBUSY",
            Self::DnloadIdle => "dfuDNLOAD-IDLE",
            Self::ManifestSync => "dfuMANIFEST-SYNC",
            Self::Manifest => "dfuMANIFEST",
            Self::ManifestWaitReset => "dfuMANIFEST-WAIT-RESET",
            Self::UploadIdle => "dfuUPLOAD-IDLE",
            Self::Error => "dfuERROR",
            Self::Unknown(code) => return write!(f, "unknown state {code}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_decoding_and_encoding() {
        for code in 0..=u8::MAX {
            assert_eq!(State::from_code(code).code(), code);
        }
    }
}
