//! What a server offers for download.

use crate::esp8266::Slot;
use crate::sonoff::device::final_stage;
use crate::sonoff::http::{PathError, Routes};
use crate::sonoff::limits;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What a file is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Role {
    /// For a slot, in an upgrade.
    Upgrade(Slot),
    /// For slot 2, in the final stage: an intermediate image that runs from slot 1 asks for it.
    FinalUser2,
    /// For the beginning of the flash, in the final stage.
    FinalImage,
}

impl Role {
    /// The path that the intermediate image of SonOTA asks for.
    #[must_use]
    pub const fn final_path(self) -> Option<&'static str> {
        match self {
            Self::Upgrade(_) => None,
            Self::FinalUser2 => Some(final_stage::USER2_PATH),
            Self::FinalImage => Some(final_stage::FINAL_PATH),
        }
    }

    /// What the intermediate image of SonOTA wants at this path.
    #[must_use]
    pub fn of_final_path(path: &str) -> Option<Self> {
        [Self::FinalUser2, Self::FinalImage].into_iter().find(|role| role.final_path() == Some(path))
    }

    /// What that takes, in bytes.
    const fn final_limit(self) -> Option<u32> {
        match self {
            Self::Upgrade(_) => None,
            Self::FinalUser2 => Some(limits::FINAL_USER2),
            Self::FinalImage => Some(limits::FINAL_IMAGE),
        }
    }
}

/// One of the [`Files`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FileId(pub(super) usize);

impl FileId {
    /// Its place in the order in which files were added, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0
    }
}

/// Why a file is not offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum FileProblem {
    /// The path.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// The intermediate image would not take it.
    #[error("the file has {length} bytes, and the final stage takes {least} to {limit}")]
    FinalLength {
        /// Bytes.
        length: u32,
        /// The least.
        least: u32,
        /// The most.
        limit: u32,
    },
}

#[derive(Debug)]
pub(super) struct File {
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) length: u32,
}

/// The table of what is served: by path, with nothing but names and lengths. The bytes stay with the caller.
#[derive(Debug)]
pub struct Files {
    routes: Routes<FileId>,
    list: Vec<File>,
}

impl Files {
    /// Nothing is served.
    #[must_use]
    pub const fn new() -> Self {
        Self { routes: Routes::new(), list: Vec::new() }
    }

    /// Serves a file of `length` bytes at a path.
    ///
    /// ```
    /// use spark_ota::esp8266::Slot;
    /// use spark_ota::sonoff::server::{Files, FileProblem, Role};
    ///
    /// let mut files = Files::new();
    /// let file = files.add("/ota/user2.bin", Role::Upgrade(Slot::User2), 104_276)?;
    /// assert_eq!((file.index(), files.find("/ota/user2.bin")), (0, Some(file)));
    /// let path = Role::FinalImage.final_path().unwrap();
    /// assert!(matches!(files.add(path, Role::FinalImage, 4095), Err(FileProblem::FinalLength { .. })));
    /// # Ok::<(), FileProblem>(())
    /// ```
    ///
    /// # Errors
    /// [`FileProblem`].
    pub fn add(&mut self, path: &str, role: Role, length: u32) -> Result<FileId, FileProblem> {
        if length == 0 {
            return Err(FileProblem::Empty);
        }
        let least = limits::FINAL_SMALLEST;
        if let Some(limit) = role.final_limit().filter(|limit| !(least..=*limit).contains(&length)) {
            return Err(FileProblem::FinalLength { length, least, limit });
        }
        let id = FileId(self.list.len());
        self.routes.add(path, id)?;
        let name = path.rsplit('/').next().unwrap_or_default().to_string();
        self.list.push(File { role, name, length });
        Ok(id)
    }

    /// The file at this path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<FileId> {
        self.routes.find(path).copied()
    }

    /// What a file is for, and its bytes.
    #[must_use]
    pub fn describe(&self, file: FileId) -> Option<(Role, u32)> {
        self.get(file).map(|file| (file.role, file.length))
    }

    pub(super) fn get(&self, file: FileId) -> Option<&File> {
        self.list.get(file.0)
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::new()
    }
}
