//! The module files that a cloud can send.

use crate::exit::{Code, Failure};
use crate::files;
use sha2::{Digest, Sha256};
use spark_ota::module::{Module, ModuleKey, Prefix};
use spark_ota::resolve::CatalogueEntry;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

/// A module file, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModuleFile {
    /// Its file name.
    pub name: String,
    /// The module, exactly.
    pub image: Arc<[u8]>,
    /// What it is.
    pub prefix: Prefix,
    /// SHA-256 of the whole module.
    pub sha256: [u8; 32],
    /// SHA-256 as its suffix has it; devices tell it of their application.
    pub suffix_sha256: [u8; 32],
}

impl ModuleFile {
    /// Checks the content of a module file.
    ///
    /// # Errors
    /// [`Failure`] that says what is wrong with it.
    pub fn new(name: &str, content: &[u8]) -> Result<Self, Failure> {
        let bad = |what: String| {
            let next = "get the file again from where it came from, or take it out of the folder";
            Failure::new(Code::Data, format_args!("{name}: {what}"), next)
        };
        let module = Module::parse(content).map_err(|error| bad(error.to_string()))?;
        if !module.crc_ok() {
            let (stored, computed) = (module.stored_crc(), module.computed_crc());
            return Err(bad(format!("its CRC is {stored:08x} and should be {computed:08x}")));
        }
        Ok(Self {
            name: name.to_owned(),
            image: Arc::from(module.image()),
            prefix: *module.prefix(),
            sha256: Sha256::digest(module.image()).into(),
            suffix_sha256: module.suffix().sha256,
        })
    }

    /// What the resolver of system updates looks at.
    #[must_use]
    pub fn entry(&self) -> CatalogueEntry {
        let size = u32::try_from(self.image.len()).unwrap_or(u32::MAX);
        let digest = Some(self.suffix_sha256);
        CatalogueEntry { sha256: digest, ..CatalogueEntry::from_prefix(&self.prefix, size) }
    }

    /// Function and index.
    #[must_use]
    pub const fn key(&self) -> ModuleKey {
        self.prefix.key()
    }
}

/// All module files of a cloud. Those who hold it see what is added and removed.
#[derive(Debug, Default)]
pub struct Catalogue {
    files: RwLock<Arc<[ModuleFile]>>,
}

impl Catalogue {
    /// These files.
    #[must_use]
    pub fn new(files: Vec<ModuleFile>) -> Self {
        Self { files: RwLock::new(files.into()) }
    }

    /// Adds a file unless the same content is there.
    pub fn add(&self, file: ModuleFile) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if files.iter().all(|known| known.sha256 != file.sha256) {
            *files = files.iter().cloned().chain([file]).collect();
        }
    }

    /// Removes a file.
    pub fn remove(&self, sha256: &[u8; 32]) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        *files = files.iter().filter(|known| known.sha256 != *sha256).cloned().collect();
    }

    /// The file of this content, its digest in hex.
    #[must_use]
    pub fn by_sha256(&self, sha256: &str) -> Option<ModuleFile> {
        self.files().iter().find(|file| hex::encode(file.sha256) == sha256).cloned()
    }

    /// Every `.bin` file of a folder. Files that are no good modules are left out and reported as the second value.
    ///
    /// # Errors
    /// [`Failure`] if the folder cannot be read.
    pub fn load(folder: &Path) -> Result<(Self, Vec<Failure>), Failure> {
        let reading = |error| Failure::reading(folder, &error);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(reading)? {
            let path = entry.map_err(reading)?.path();
            if path.extension().is_some_and(|extension| extension == "bin") {
                paths.push(path);
            }
        }
        paths.sort();
        let (mut files, mut refused) = (Vec::new(), Vec::new());
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match files::read(&path).and_then(|content| ModuleFile::new(&name, &content)) {
                Ok(file) => files.push(file),
                Err(failure) => refused.push(failure),
            }
        }
        Ok((Self::new(files), refused))
    }

    /// The files as they are now.
    #[must_use]
    pub fn files(&self) -> Arc<[ModuleFile]> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;

    #[test]
    fn damaged_and_cut_files_are_refused_by_name() {
        let whole = synthetic::small(true).unwrap()[1].image.to_vec();
        assert!(ModuleFile::new("part1.bin", &whole).is_ok());
        for len in 0..whole.len() {
            let failure = ModuleFile::new("part1.bin", &whole[..len]).unwrap_err();
            assert_eq!(failure.code(), Code::Data);
            assert!(failure.to_string().starts_with("part1.bin: "), "{failure}");
        }
        for bit in 0..8 * whole.len() {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(ModuleFile::new("part1.bin", &damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn folder_gives_its_good_modules_and_names_the_others() {
        let folder = tempfile::tempdir().unwrap();
        for file in synthetic::small(true).unwrap() {
            std::fs::write(folder.path().join(&file.name), &file.image).unwrap();
        }
        std::fs::write(folder.path().join("broken.bin"), [0x5a; 100]).unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not looked at").unwrap();
        let (catalogue, refused) = Catalogue::load(folder.path()).unwrap();
        assert_eq!((catalogue.files().len(), refused.len()), (3, 1));
        assert!(refused[0].to_string().contains("broken.bin"), "{}", refused[0]);
        assert!(Catalogue::load(&folder.path().join("none")).is_err());
    }
}
