//! Codes of devices.

use core::fmt;

/// Code with which a device ends an upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UpgradeCode {
    /// 0: stored and verified; from later firmware in the first answer only: accepted.
    Done,
    /// 400: a field is missing, or there is no image for the slot.
    BadRequest,
    /// 404: the download failed. This is no HTTP status.
    Download,
    /// 406, and 411 in the cellular product line: another model.
    Model,
    /// 409: what is in flash has another digest.
    Digest,
    /// 410: not newer.
    Version,
    /// Any other.
    Other(u16),
}

impl UpgradeCode {
    /// By its number.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        match code {
            0 => Self::Done,
            400 => Self::BadRequest,
            404 => Self::Download,
            406 | 411 => Self::Model,
            409 => Self::Digest,
            410 => Self::Version,
            other => Self::Other(other),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Done => 0,
            Self::BadRequest => 400,
            Self::Download => 404,
            Self::Model => 406,
            Self::Digest => 409,
            Self::Version => 410,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for UpgradeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Done => "done",
            Self::BadRequest => "a field of the upgrade is missing, or the image for the slot",
            Self::Download => "the download failed",
            Self::Model => "the images are for another model",
            Self::Digest => "what is in flash has another digest",
            Self::Version => "the version is not newer",
            Self::Other(code) => return write!(f, "unknown code {code}"),
        };
        write!(f, "{words} ({})", self.code())
    }
}
