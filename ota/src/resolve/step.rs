//! What comes out of a resolution.

use crate::module::ModuleKey;
use alloc::vec::Vec;
use core::fmt;

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Step {
    /// Send this module.
    Flash(PlannedStep),
    /// Nothing is missing.
    Done,
    /// There is no way.
    Impossible(Reason),
}

/// One module of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PlannedStep {
    /// Index in the catalogue.
    pub entry: usize,
    /// What it is.
    pub key: ModuleKey,
    /// Its version.
    pub version: u16,
    /// What for.
    pub why: Why,
}

/// `system part 1 version 2202: system part 2 version 2202 needs at least 2202, installed is 207`.
impl fmt::Display for PlannedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} version {}: {}", self.key, self.version, self.why)
    }
}

/// What a module is sent for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Why {
    /// Another module needs it.
    Needed {
        /// Which: one that is installed or will be.
        by: ModuleKey,
        /// That one's version.
        by_version: u16,
        /// The version that it needs.
        at_least: u16,
        /// What is installed.
        installed: Option<u16>,
    },
    /// It was asked for.
    Target {
        /// What is installed.
        installed: Option<u16>,
    },
    /// The installed one needs a newer version of a module than the one that will replace it.
    NeedsNewer {
        /// The module that goes down.
        than: ModuleKey,
        /// The version it gets.
        version: u16,
    },
    /// The rest of the plan has to start from this version.
    Bootstrap,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let installed = |f: &mut fmt::Formatter<'_>, installed: &Option<u16>| match installed {
            Some(version) => write!(f, "installed is {version}"),
            None => f.write_str("none is installed"),
        };
        match self {
            Self::Needed { by, by_version, at_least, installed: present } => {
                write!(f, "{by} version {by_version} needs at least {at_least}, ")?;
                installed(f, present)
            }
            Self::Target { installed: present } => {
                f.write_str("asked for, ")?;
                installed(f, present)
            }
            Self::NeedsNewer { than, version } => {
                write!(f, "the installed one does not run with {than} version {version}")
            }
            Self::Bootstrap => f.write_str("the newer system can only be installed from here"),
        }
    }
}

/// Why there is no way.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Reason {
    /// The catalogue has no module that will do.
    #[error(
        "{by} version {by_version} needs {key} of at least version {at_least}, which the catalogue does not have"
    )]
    Missing {
        /// What is needed.
        key: ModuleKey,
        /// In which version.
        at_least: u16,
        /// What needs it.
        by: ModuleKey,
        /// That one's version.
        by_version: u16,
    },
    /// Modules wait for each other.
    #[error("{}", CycleText(keys, *bootstrap))]
    Cycle {
        /// Which.
        keys: Vec<ModuleKey>,
        /// Index in the catalogue of a module that breaks the cycle if it is made the target of an update before.
        bootstrap: Option<usize>,
    },
    /// The target is not in the catalogue.
    #[error("target {entry} is not among the {len} modules of the catalogue")]
    NoSuchTarget {
        /// Index of the target.
        entry: usize,
        /// Modules in the catalogue.
        len: usize,
    },
    /// The target is for another platform.
    #[error("the target is for platform {found}, the device is of platform {expected}")]
    PlatformMismatch {
        /// Index of the target.
        entry: usize,
        /// Its platform.
        found: u16,
        /// The device's.
        expected: u16,
    },
    /// Another module needs a newer version than the target, or than what the target brings with it, and the
    /// catalogue has nothing to replace that module with.
    #[error("{key} cannot go to version {version}: {by} version {by_version} needs at least {at_least}")]
    DowngradeBlocked {
        /// What would go down.
        key: ModuleKey,
        /// To which version.
        version: u16,
        /// What needs a newer one.
        by: ModuleKey,
        /// That one's version.
        by_version: u16,
        /// The version that it needs.
        at_least: u16,
    },
    /// The module does not fit its place.
    #[error("{key} version {version} has {size} bytes, the device has room for {room}")]
    TooBig {
        /// Which.
        key: ModuleKey,
        /// Its version.
        version: u16,
        /// Bytes of its file.
        size: u32,
        /// Bytes of its place.
        room: u32,
    },
    /// The device has to have another module in a newer version before it can take this one.
    #[error("{}", GateText(*key, *version, *needs, *at_least, *installed))]
    Gated {
        /// Which.
        key: ModuleKey,
        /// Its version.
        version: u16,
        /// What it waits for.
        needs: ModuleKey,
        /// In which version.
        at_least: u16,
        /// What is installed by then.
        installed: Option<u16>,
    },
    /// The module was sent and is still not there.
    #[error("{key} version {version} was sent {times} times and the device still does not have it")]
    NotApplied {
        /// Which.
        key: ModuleKey,
        /// Its version.
        version: u16,
        /// How often.
        times: u8,
    },
}

struct GateText(ModuleKey, u16, ModuleKey, u16, Option<u16>);

impl fmt::Display for GateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(key, version, needs, at_least, installed) = self;
        write!(
            f,
            "{key} version {version} can only be taken by a device with {needs} of at least {at_least}"
        )?;
        match installed {
            Some(installed) => write!(f, ", it has {installed}"),
            None => f.write_str(", it has none"),
        }
    }
}

struct CycleText<'a>(&'a [ModuleKey], Option<usize>);

impl fmt::Display for CycleText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, key) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { " and " };
            write!(f, "{separator}{key}")?;
        }
        f.write_str(if self.0.len() == 1 { " waits for itself" } else { " wait for each other" })?;
        match self.1 {
            Some(entry) => {
                write!(f, "; entry {entry} of the catalogue breaks the circle if it is installed first")
            }
            None => f.write_str(" and the catalogue has no older module to begin with"),
        }
    }
}
