//! Files of several modules.

use super::prefix::{Flags, ModuleFunction, Prefix};
use super::search::{USUAL, prefix_at};
use super::view::{Module, ModuleError};
use core::iter::FusedIterator;

/// How the modules of a file lie in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Arrangement {
    /// There is one.
    Single,
    /// One behind the other, each but the last with [`Flags::COMBINED`].
    Combined,
    /// Each where it lies in flash, with gaps between them and no flag: a picture of the flash from the start address of the
    /// first one on.
    FlashImage,
}

/// A module where it lies in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlacedModule<'a> {
    /// Where it begins in the file.
    pub offset: usize,
    /// The module. Its [`trailing`](Module::trailing) goes to the end of the file.
    pub module: Module<'a>,
}

/// All modules of a file, in their order.
///
/// A file of one module gives that. Behind a module with [`Flags::COMBINED`] the next one follows; behind one without,
/// modules are looked for that lie as far from the first as their start addresses do. Nothing comes after an error.
///
/// A file is gone over a few times at most; its length bounds the number of modules.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use spark_ota::module::{Arrangement, ModuleBuilder, ModuleFunction::System, Modules, combine};
///
/// let part = |index| ModuleBuilder::new(6, System, index, 2202).vector_table(0x2002_0000).build();
/// let file = combine(&[&part(1)?, &part(2)?])?;
/// let mut modules = Modules::of(&file);
/// assert!(modules.by_ref().map(|placed| placed.unwrap().module.prefix().index).eq([1, 2]));
/// assert_eq!((modules.arrangement(), modules.trailing().len()), (Arrangement::Combined, 0));
/// # }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Modules<'a> {
    file: &'a [u8],
    /// Where the last module ends.
    at: usize,
    last: Option<Module<'a>>,
    start_address: u32,
    arrangement: Arrangement,
    /// Bytes of what may be modules that are still looked at.
    left: usize,
    ended: bool,
}

/// A file that claims to be full of modules is looked at so many times.
const LOOKS: usize = 4;

/// Pages of flash are no smaller where modules begin in them.
const PAGE: usize = 4096;

impl<'a> Modules<'a> {
    /// The modules of `file`.
    #[must_use]
    pub const fn of(file: &'a [u8]) -> Self {
        Self {
            file,
            at: 0,
            last: None,
            start_address: 0,
            arrangement: Arrangement::Single,
            left: LOOKS.saturating_mul(file.len()),
            ended: false,
        }
    }

    /// How those that were read so far lie.
    #[must_use]
    pub const fn arrangement(&self) -> Arrangement {
        self.arrangement
    }

    /// What follows those that were read so far.
    #[must_use]
    pub fn trailing(&self) -> &'a [u8] {
        self.file.get(self.at..).unwrap_or_default()
    }

    fn keep(&mut self, offset: usize, module: Module<'a>) -> PlacedModule<'a> {
        self.at = offset.saturating_add(module.image().len());
        self.last = Some(module);
        PlacedModule { offset, module }
    }

    /// The next module at an address that fits its place.
    fn next_in_flash(&mut self) -> Option<PlacedModule<'a>> {
        let from = self.at.checked_next_multiple_of(PAGE)?;
        (from..self.file.len()).step_by(PAGE).find_map(|offset| {
            let rest = self.file.get(offset..)?;
            let start = self.start_address.checked_add(u32::try_from(offset).ok()?)?;
            USUAL.into_iter().find_map(|prefix_offset| {
                prefix_at(rest, prefix_offset).filter(|prefix| fits(prefix, start))?;
                let module = Module::parse_at(rest, prefix_offset).ok()?;
                self.left = self.left.checked_sub(module.image().len())?;
                module.crc_ok().then_some(PlacedModule { offset, module })
            })
        })
    }

    fn read(&mut self) -> Result<Option<PlacedModule<'a>>, ModuleError> {
        let offset = self.at;
        let Some(last) = self.last else {
            let module = Module::parse(self.file)?;
            self.start_address = module.prefix().start_address;
            return Ok(Some(self.keep(offset, module)));
        };
        if last.prefix().flags.contains(Flags::COMBINED) {
            let module = Module::parse(self.trailing())?;
            self.arrangement = Arrangement::Combined;
            return Ok(Some(self.keep(offset, module)));
        }
        if self.arrangement == Arrangement::Combined {
            return Ok(None);
        }
        let Some(PlacedModule { offset, module }) = self.next_in_flash() else { return Ok(None) };
        self.arrangement = Arrangement::FlashImage;
        Ok(Some(self.keep(offset, module)))
    }
}

fn fits(prefix: &Prefix, start: u32) -> bool {
    prefix.start_address == start && prefix.function != ModuleFunction::None && prefix.length().is_some()
}

impl<'a> Iterator for Modules<'a> {
    type Item = Result<PlacedModule<'a>, ModuleError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = self.read().transpose();
        if !matches!(item, Some(Ok(_))) {
            self.ended = true;
        }
        item
    }
}

impl FusedIterator for Modules<'_> {}

#[cfg(feature = "alloc")]
pub use join::{CombineError, combine, separate};

#[cfg(feature = "alloc")]
mod join {
    use super::Flags;
    use crate::module::view::{Module, ModuleError, resign_at};
    use alloc::vec::Vec;

    /// Where the flags are in a prefix.
    const FLAGS: usize = 9;

    /// Why modules cannot be combined.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
    #[non_exhaustive]
    pub enum CombineError {
        /// A file is no module.
        #[error("file {index}")]
        Module {
            /// Which of them, from 0.
            index: usize,
            /// Why not.
            #[source]
            error: ModuleError,
        },
        /// The CRC of a module is wrong.
        #[error("file {index}: the CRC of the module is wrong")]
        Crc {
            /// Which of them, from 0.
            index: usize,
        },
        /// Something follows a module, perhaps because it is combined already.
        #[error("file {index}: {len} bytes follow the module")]
        Trailing {
            /// Which of them, from 0.
            index: usize,
            /// Their number.
            len: usize,
        },
        /// A module says that another one follows.
        #[error("file {index}: the module is a piece of a combined file; separate it first")]
        Combined {
            /// Which of them, from 0.
            index: usize,
        },
        /// There are none.
        #[error("there are no modules to combine")]
        Nothing,
    }

    /// One file of several modules, with the flag in each but the last, and new checksums. A single module stays as it is.
    ///
    /// # Errors
    /// [`CombineError`].
    pub fn combine(files: &[&[u8]]) -> Result<Vec<u8>, CombineError> {
        let last = files.len().checked_sub(1).ok_or(CombineError::Nothing)?;
        let mut all = Vec::with_capacity(files.iter().map(|file| file.len()).sum());
        for (index, file) in files.iter().enumerate() {
            let bad = |error| CombineError::Module { index, error };
            let module = Module::parse(file).map_err(bad)?;
            if module.prefix().flags.contains(Flags::COMBINED) {
                return Err(CombineError::Combined { index });
            }
            match module.trailing().len() {
                0 => {}
                len => return Err(CombineError::Trailing { index, len }),
            }
            if !module.crc_ok() {
                return Err(CombineError::Crc { index });
            }
            let flags = module.prefix().flags;
            let flags = if index == last { flags } else { flags | Flags::COMBINED };
            all.extend(with_flags(&module, flags).map_err(bad)?);
        }
        Ok(all)
    }

    /// A module of a combined file as a file of its own: without the flag, and with new checksums if it had it.
    ///
    /// # Errors
    /// [`ModuleError`] never of a module that [`Module::parse`] has read.
    pub fn separate(module: &Module<'_>) -> Result<Vec<u8>, ModuleError> {
        with_flags(module, module.prefix().flags.without(Flags::COMBINED))
    }

    fn with_flags(module: &Module<'_>, flags: Flags) -> Result<Vec<u8>, ModuleError> {
        let mut file = module.image().to_vec();
        if flags != module.prefix().flags {
            if let Some(place) = file.get_mut(module.prefix_offset().saturating_add(FLAGS)) {
                *place = flags.0;
            }
            resign_at(&mut file, module.prefix_offset())?;
        }
        Ok(file)
    }
}

#[cfg(test)]
#[cfg(feature = "alloc")]
mod tests {
    use super::*;
    use crate::module::{ModuleBuilder, ModuleFunction};
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn part(index: u8, len: usize) -> Vec<u8> {
        let body: Vec<u8> = (0..len).map(|at| at.to_le_bytes()[0] ^ index).collect();
        let builder = ModuleBuilder::new(6, ModuleFunction::System, index, 2202).vector_table(0x2002_0000);
        builder.body(&body).build().unwrap()
    }

    fn user() -> Vec<u8> {
        ModuleBuilder::new(6, ModuleFunction::User, 1, 6).body(&[7; 100]).build().unwrap()
    }

    #[test]
    fn combined_modules_come_apart_as_they_were() {
        let files = [part(1, 300), part(2, 500), user()];
        let combined = combine(&[&files[0], &files[1], &files[2]]).unwrap();
        let mut modules = Modules::of(&combined);
        let mut offset = 0;
        for file in &files {
            let placed = modules.next().unwrap().unwrap();
            assert_eq!(placed.offset, offset);
            assert!(placed.module.crc_ok() && placed.module.sha256_ok());
            assert_eq!(separate(&placed.module).unwrap(), *file);
            offset += file.len();
        }
        assert_eq!((modules.next(), modules.trailing().len()), (None, 0));
        assert_eq!(modules.arrangement(), Arrangement::Combined);
        assert_eq!(combine(&[&files[0]]).unwrap(), files[0]);
    }

    #[test]
    fn modules_in_a_picture_of_the_flash_are_found_by_their_addresses() {
        let mut image = vec![0; 0x8_0000];
        let files = [part(1, 3000), part(2, 5000), user()];
        image.extend(&files[2]);
        image[..files[0].len()].copy_from_slice(&files[0]);
        image[0x4_0000..][..files[1].len()].copy_from_slice(&files[1]);
        let mut modules = Modules::of(&image);
        let found: Vec<_> = modules
            .by_ref()
            .map(Result::unwrap)
            .map(|placed| (placed.offset, placed.module.image()))
            .collect();
        assert_eq!(found, [(0, &files[0][..]), (0x4_0000, &files[1]), (0x8_0000, &files[2])]);
        assert_eq!(modules.arrangement(), Arrangement::FlashImage);
        // Elsewhere it is not where its address says.
        let mut moved = files[0].clone();
        moved.resize(0x5_0000, 0xff);
        moved.extend(&files[1]);
        assert_eq!(Modules::of(&moved).count(), 1);
    }

    #[test]
    fn a_flag_without_a_next_module_is_an_error() {
        let combined = combine(&[&part(1, 300), &user()]).unwrap();
        let first = part(1, 300).len();
        for end in [first, first + 3, combined.len() - 1] {
            let mut modules = Modules::of(&combined[..end]);
            assert!(modules.next().unwrap().is_ok());
            assert!(modules.next().unwrap().is_err(), "{end}");
            assert_eq!(modules.next(), None);
        }
        assert!(Modules::of(&[0; 100]).next().unwrap().is_err());
        assert_eq!(Modules::of(&[0; 100]).count(), 1);
    }

    #[test]
    fn what_is_not_a_good_single_module_is_not_combined() {
        let (one, two) = (part(1, 300), user());
        let combined = combine(&[&one, &two]).unwrap();
        assert_eq!(combine(&[]), Err(CombineError::Nothing));
        assert_eq!(combine(&[&two, &combined]), Err(CombineError::Combined { index: 1 }));
        let padded = [&one[..], &[0; 8]].concat();
        assert_eq!(combine(&[&padded, &two]), Err(CombineError::Trailing { index: 0, len: 8 }));
        let mut damaged = one.clone();
        damaged[500] ^= 1;
        assert_eq!(combine(&[&damaged, &two]), Err(CombineError::Crc { index: 0 }));
        assert!(matches!(combine(&[&two, b"no module"]), Err(CombineError::Module { index: 1, .. })));
    }

    proptest! {
        #[test]
        fn any_file_comes_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..9000), flags: u8) {
            let mut file = user();
            file[9] = flags;
            crate::module::resign_at(&mut file, 0).unwrap();
            let len = file.len();
            file.extend(bytes);
            let mut modules = Modules::of(&file);
            prop_assert!(modules.by_ref().count() <= file.len() / 64);
            prop_assert!(modules.trailing().len() <= file.len() - len || modules.trailing().len() == file.len());
        }
    }
}
