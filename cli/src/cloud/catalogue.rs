//! The module files that a cloud can send.

use crate::exit::{Code, Failure, chain};
use crate::files;
use sha2::{Digest, Sha256};
use spark_ota::module::{Flags, Module, ModuleKey, Modules, Prefix, decompress, separate};
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

/// No module becomes longer when it is inflated.
const INFLATED: usize = 16 << 20;

impl ModuleFile {
    /// All modules of a file, each as a file of its own: combined ones are separated, compressed ones inflated, for those who
    /// get them here put them in their place as they are.
    ///
    /// # Errors
    /// [`Failure`] that says what is wrong with it, also if something of it would be left out.
    pub fn all_of(name: &str, content: &[u8]) -> Result<Vec<Self>, Failure> {
        let bad = |error: &dyn core::error::Error| {
            let next = "nothing was kept or sent; `spark inspect` shows what the file is";
            Failure::new(Code::Data, format_args!("{name}: {}", chain(error)), next)
        };
        let (mut files, mut end) = (Vec::new(), 0);
        let mut modules = Modules::of(content);
        for placed in modules.by_ref() {
            let placed = placed.map_err(|error| bad(&error))?;
            Self::check_gap(name, content.get(end..placed.offset).unwrap_or_default(), end)?;
            let module = placed.module;
            end = placed.offset.saturating_add(module.image().len());
            let single = separate(&module).map_err(|error| bad(&error))?;
            let module = Module::parse(&single).map_err(|error| bad(&error))?;
            let inflates = module.crc_ok() && module.prefix().flags.contains(Flags::COMPRESSED);
            let inflated = if inflates { decompress(&module, INFLATED) } else { Ok(single.clone()) };
            files.push(Self::new(name, &inflated.map_err(|error| bad(&error))?)?);
        }
        if files.len() > 1 {
            for file in &mut files {
                file.name = format!("{name} ({})", file.key());
            }
        }
        Self::check_gap(name, content.get(end..).unwrap_or_default(), end)?;
        Ok(files)
    }

    /// The only module of a file.
    ///
    /// # Errors
    /// [`Failure`] as from [`ModuleFile::all_of`], or if there are several.
    pub fn only(name: &str, content: &[u8]) -> Result<Self, Failure> {
        let mut files = Self::all_of(name, content)?;
        match (files.pop(), files.len()) {
            (Some(file), 0) => Ok(file),
            (_, others) => Err(Failure::new(
                Code::Usage,
                format_args!("{name} has {} modules, and one is taken at a time", others + 1),
                "separate them, or use `spark flash` over USB or --cloud, which take them all",
            )),
        }
    }

    /// What is beside the modules of a file is padding.
    fn check_gap(name: &str, gap: &[u8], start: usize) -> Result<(), Failure> {
        match gap.iter().position(|byte| !matches!(byte, 0 | 0xff)) {
            None => Ok(()),
            Some(at) => Err(Failure::new(
                Code::Data,
                format_args!("{name}: what is at {:#x} of it is no good module", start + at),
                "get the file again from where it came from; `spark inspect` shows what is in it",
            )),
        }
    }

    /// Checks the content of a file of one module, as it is sent.
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
        if module.prefix().flags.0 & (Flags::COMPRESSED | Flags::ENCRYPTED | Flags::COMBINED).0 != 0 {
            return Err(bad("it is compressed, encrypted or a piece of a combined file".to_owned()));
        }
        Self::check_gap(name, module.trailing(), module.image().len())?;
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
            match files::read(&path).and_then(|content| ModuleFile::all_of(&name, &content)) {
                Ok(found) => files.extend(found),
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
    use spark_ota::module::{CompressOptions, combine, compress};

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
    fn files_of_several_modules_come_apart_and_nothing_is_left_out() {
        let [one, two] = [1, 2].map(|at| synthetic::small(true).unwrap()[at].clone());
        let all = |content: &[u8]| ModuleFile::all_of("all.bin", content);
        let combined = combine(&[&one.image, &two.image]).unwrap();
        let files = all(&combined).unwrap();
        assert_eq!(
            files.iter().map(|file| &file.image[..]).collect::<Vec<_>>(),
            [&one.image[..], &two.image]
        );
        assert_eq!(files[1].name, format!("all.bin ({})", two.key()));
        assert!(ModuleFile::new("all.bin", &combined).is_err());
        let behind = [&one.image[..], &two.image].concat();
        assert!(all(&behind).unwrap_err().to_string().contains("no good module"));
        assert!(ModuleFile::new("all.bin", &behind).is_err());
        assert_eq!(all(&[&one.image[..], &[0xff; 100]].concat()).unwrap().len(), 1);
        let compressed = compress(&one.image, CompressOptions::default()).unwrap();
        assert!(ModuleFile::new("all.bin", &compressed).is_err());
        assert_eq!(all(&compressed).unwrap()[0].image, one.image);
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
