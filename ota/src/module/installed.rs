//! What a device has.

use super::prefix::{Dependency, ModuleFunction, Prefix};
use core::fmt;

/// Where a module is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Store {
    /// Where it runs.
    Main,
    /// Backup copy.
    Backup,
    /// Copy for the factory reset.
    Factory,
    /// Where an update arrives.
    Scratchpad,
}

impl Store {
    /// The letter in a Describe document.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::Main => 'm',
            Self::Backup => 'b',
            Self::Factory => 'f',
            Self::Scratchpad => 't',
        }
    }

    /// From the letter in a Describe document.
    #[must_use]
    pub const fn from_letter(letter: char) -> Option<Self> {
        Some(match letter {
            'm' => Self::Main,
            'b' => Self::Backup,
            'f' => Self::Factory,
            't' => Self::Scratchpad,
            _ => return None,
        })
    }
}

/// Function and index: what a device has at most one module of in its main store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ModuleKey {
    /// Function.
    pub function: ModuleFunction,
    /// Index.
    pub index: u8,
}

impl From<Dependency> for ModuleKey {
    fn from(dependency: Dependency) -> Self {
        Self { function: dependency.function, index: dependency.index }
    }
}

/// `system part 2`, `bootloader`.
impl fmt::Display for ModuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.function, self.index) {
            // There is only one of these.
            (ModuleFunction::Bootloader | ModuleFunction::Monolithic | ModuleFunction::RadioStack, 0)
            | (ModuleFunction::User, 1) => self.function.fmt(f),
            (function, index) => write!(f, "{function} {index}"),
        }
    }
}

/// A module that a device has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Installed {
    /// Function.
    pub function: ModuleFunction,
    /// Index.
    pub index: u8,
    /// Version.
    pub version: u16,
    /// Where it is kept.
    pub store: Store,
    /// Its CRC is right, or nobody looked.
    pub integrity_ok: bool,
    /// What it needs.
    pub dependencies: [Dependency; 2],
    /// SHA-256 of its suffix, where known: devices tell it of the user part. Two user parts usually have the same
    /// version, so only this tells them apart.
    pub sha256: Option<[u8; 32]>,
}

impl Installed {
    /// A good module in the main store.
    #[must_use]
    pub const fn main(
        function: ModuleFunction,
        index: u8,
        version: u16,
        dependencies: [Dependency; 2],
    ) -> Self {
        let (store, sha256) = (Store::Main, None);
        Self { function, index, version, store, integrity_ok: true, dependencies, sha256 }
    }

    /// The module of this prefix.
    #[must_use]
    pub const fn from_prefix(prefix: &Prefix, store: Store, integrity_ok: bool) -> Self {
        Self {
            function: prefix.function,
            index: prefix.index,
            version: prefix.version,
            store,
            integrity_ok,
            dependencies: prefix.dependencies,
            sha256: None,
        }
    }

    /// Function and index.
    #[must_use]
    pub const fn key(&self) -> ModuleKey {
        ModuleKey { function: self.function, index: self.index }
    }

    /// Is good and where it runs.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        matches!(self.store, Store::Main) && self.integrity_ok
    }
}
