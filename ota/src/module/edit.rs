//! Changing what a finished module says of itself.

use super::build::{Assembly, BuildError};
use super::extension::{
    AssetDependency, Extension, ExtensionEncodeError, ExtensionError, Extensions, ProductData,
};
use super::prefix::{Flags, ModuleFunction, Prefix};
use super::suffix::Product;
use super::view::{Module, ModuleError, Parts};
use alloc::vec::Vec;

/// Which of the two places of extensions is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "a module has no other places")]
pub enum ExtensionPlace {
    /// Behind the prefix.
    Prefix,
    /// Before the suffix.
    Suffix,
}

impl ExtensionPlace {
    /// Where tools put the assets that a module needs: behind the prefix if that has extensions already, and in user parts
    /// that grow downwards, those of the RTL872x platforms (P2, Tracker M, M SoM, Electron 2); else before the suffix.
    #[must_use]
    pub const fn of(prefix: &Prefix) -> Self {
        let grows_down = matches!(prefix.function, ModuleFunction::User)
            && matches!(prefix.platform_id, 28 | 32 | 35 | 37);
        if grows_down || prefix.flags.contains(Flags::PREFIX_EXTENSIONS) {
            Self::Prefix
        } else {
            Self::Suffix
        }
    }
}

/// Why a module cannot be edited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The file is no module.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// What it says of itself cannot be read.
    #[error(transparent)]
    Extensions(#[from] ExtensionError),
    /// Its CRC is wrong: signing it again would hide the damage.
    #[error("the CRC of the module is wrong")]
    Crc,
    /// It is compressed or a piece of a combined file.
    #[error("the module is compressed or combined; edit the original")]
    Packed,
    /// Something follows it.
    #[error("{len} bytes follow the module")]
    Trailing {
        /// Their number.
        len: usize,
    },
    /// Extensions behind the prefix move the body, which a vector table has addresses of.
    #[error("a module with a vector table can have no extensions behind its prefix")]
    VectorTable,
    /// It would begin before the first address.
    #[error("the module has {len} bytes and ends at {end:#010x}: it would begin before address 0")]
    TooLong {
        /// Bytes without CRC.
        len: usize,
        /// Where it ends.
        end: u32,
    },
    /// An extension cannot be written.
    #[error(transparent)]
    Encode(#[from] ExtensionEncodeError),
    /// The module cannot be put together.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Extensions as stored, without the end of the list.
type List = Vec<(u16, Vec<u8>)>;

/// A module whose extensions, product and fields can be changed, and which is then signed again.
///
/// ```
/// use spark_ota::module::{Extension, ExtensionPlace, Module, ModuleBuilder, ModuleEditor, ModuleFunction, Product};
///
/// let file = ModuleBuilder::new(6, ModuleFunction::User, 1, 6).body(&[7; 100]).build()?;
/// let mut editor = ModuleEditor::new(&file)?;
/// editor.set_product(Product { id: 1234, version: 5 })?;
/// editor.add(ExtensionPlace::Suffix, &[Extension::Name(b"blink")])?;
/// let file = editor.finish()?;
/// let module = Module::parse(&file)?;
/// assert!(module.crc_ok() && module.sha256_ok());
/// assert_eq!(module.product(), Some(Product { id: 1234, version: 5 }));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModuleEditor<'a> {
    parts: Parts<'a>,
    prefix: Prefix,
    reserved: u16,
    before: List,
    behind: List,
    /// The list before the suffix had an end.
    ended: bool,
    /// What follows it: product fields.
    tail: Vec<u8>,
}

/// Modules with extensions behind the prefix begin at multiples of this.
const START_ALIGNMENT: u32 = 8;

impl<'a> ModuleEditor<'a> {
    /// The module that `file` is. One that was never [finalised](Module::is_finalised) will be.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn new(file: &'a [u8]) -> Result<Self, EditError> {
        let module = Module::parse(file)?;
        let flags = module.prefix().flags;
        if flags.0 & (Flags::COMPRESSED | Flags::COMBINED).0 != 0 {
            return Err(EditError::Packed);
        }
        match module.trailing().len() {
            0 => {}
            len => return Err(EditError::Trailing { len }),
        }
        if module.is_finalised() && !module.crc_ok() {
            return Err(EditError::Crc);
        }
        let parts = module.parts()?;
        let (before, ..) = list(module.prefix_extensions())?;
        let (behind, ended, tail) = match module.suffix().has_extensions() {
            true => list(module.suffix_extensions())?,
            false => (List::new(), false, parts.suffix_extensions.to_vec()),
        };
        let (prefix, reserved) = (*module.prefix(), module.suffix().reserved);
        Ok(Self { parts, prefix, reserved, before, behind, ended, tail })
    }

    /// The fields of the prefix. Flags for extensions and the end address come by themselves, the start address as well if
    /// there are extensions behind the prefix.
    pub const fn prefix_mut(&mut self) -> &mut Prefix {
        &mut self.prefix
    }

    /// Sets the product fields where they are, or adds them.
    ///
    /// # Errors
    /// [`EditError::Encode`] never in practice.
    pub fn set_product(&mut self, product: Product) -> Result<(), EditError> {
        let extension = Extension::Product(ProductData::from(product));
        match self.behind.iter_mut().find(|(kind, _)| *kind == extension.kind()) {
            Some((_, raw)) => {
                raw.clear();
                extension.append_to(raw)?;
            }
            None => self.tail = product.encode().to_vec(),
        }
        Ok(())
    }

    /// Adds extensions: behind the others of the prefix, or before the others of the suffix, as tools do it. Ends are left
    /// out; they come by themselves.
    ///
    /// # Errors
    /// [`EditError::Encode`], [`EditError::VectorTable`].
    pub fn add(&mut self, place: ExtensionPlace, extensions: &[Extension<'_>]) -> Result<(), EditError> {
        if place == ExtensionPlace::Prefix && !self.parts.vector_table.is_empty() {
            return Err(EditError::VectorTable);
        }
        let mut new = List::new();
        for extension in extensions.iter().filter(|extension| !matches!(extension, Extension::End(_))) {
            let mut raw = Vec::new();
            extension.append_to(&mut raw)?;
            new.push((extension.kind(), raw));
        }
        match place {
            ExtensionPlace::Prefix => self.before.append(&mut new),
            ExtensionPlace::Suffix => drop(self.behind.splice(..0, new)),
        }
        Ok(())
    }

    /// Removes all extensions of a type, from both places.
    pub fn remove(&mut self, kind: u16) {
        self.before.retain(|(other, _)| *other != kind);
        self.behind.retain(|(other, _)| *other != kind);
    }

    /// Makes these the assets that the module needs, in the place [for it](ExtensionPlace::of).
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn set_asset_dependencies(&mut self, assets: &[AssetDependency<'_>]) -> Result<(), EditError> {
        let extensions: Vec<_> = assets.iter().copied().map(Extension::AssetDependency).collect();
        let place = ExtensionPlace::of(&self.prefix);
        if let Some(extension) = extensions.first() {
            self.remove(extension.kind());
        }
        self.add(place, &extensions)
    }

    /// The module with new checksums.
    ///
    /// With extensions behind its prefix its end stays and its start moves, to a multiple of 8 and in the dynamic location
    /// as well; else its start stays.
    ///
    /// # Errors
    /// [`EditError`].
    pub fn finish(mut self) -> Result<Vec<u8>, EditError> {
        let product = Extension::Product(ProductData::from(Product::NONE)).kind();
        let mut before: Vec<u8> = self.before.iter().flat_map(|(_, raw)| raw).copied().collect();
        let grows_down = self.prefix.flags.contains(Flags::PREFIX_EXTENSIONS) || !before.is_empty();
        let needs_end = match self.behind.last() {
            Some((kind, _)) => *kind != product || !self.tail.is_empty(),
            // Product fields alone need none, anything longer would be read as extensions.
            None => self.ended && self.tail.len() > 4,
        };
        if grows_down {
            let ends = |list: &List| list.iter().map(|(_, raw)| raw.len()).sum::<usize>();
            let end = if needs_end { Extension::HEADER_LEN } else { 0 };
            let suffix = ends(&self.behind).saturating_add(end).saturating_add(self.tail.len());
            let fixed = Prefix::LEN + super::Suffix::LEN + Extension::HEADER_LEN;
            let len = before
                .len()
                .saturating_add(self.parts.body.len())
                .saturating_add(suffix)
                .saturating_add(fixed);
            let end = self.prefix.end_address;
            let too_long = EditError::TooLong { len, end };
            let start = u32::try_from(len).ok().and_then(|len| end.checked_sub(len)).ok_or(too_long)?;
            let padding = start % START_ALIGNMENT;
            self.prefix.start_address = start - padding;
            self.prefix.flags = self.prefix.flags | Flags::PREFIX_EXTENSIONS;
            let zeros = [0; START_ALIGNMENT as usize];
            let padding = usize::try_from(padding).ok().and_then(|padding| zeros.get(..padding));
            Extension::End(padding.unwrap_or_default()).append_to(&mut before)?;
            move_location(&mut before, self.prefix.start_address);
            for (_, raw) in &mut self.behind {
                move_location(raw, self.prefix.start_address);
            }
        }
        let mut behind: Vec<u8> = self.behind.iter().flat_map(|(_, raw)| raw).copied().collect();
        if needs_end {
            Extension::End(&[]).append_to(&mut behind)?;
        }
        behind.extend(&self.tail);
        let assembly = Assembly {
            prefix: self.prefix,
            vector_table: self.parts.vector_table,
            prefix_extensions: &before,
            body: self.parts.body,
            suffix_extensions: &behind,
            reserved: self.reserved,
        };
        Ok(assembly.build()?)
    }
}

/// The items of a list without its end, whether it had one, and what follows it.
fn list(mut extensions: Extensions<'_>) -> Result<(List, bool, Vec<u8>), EditError> {
    let (mut list, mut ended) = (List::new(), false);
    for item in extensions.by_ref() {
        let extension = item?.extension;
        ended = matches!(extension, Extension::End(_));
        if !ended {
            let mut raw = Vec::new();
            extension.append_to(&mut raw)?;
            list.push((extension.kind(), raw));
        }
    }
    Ok((list, ended, extensions.rest().to_vec()))
}

/// Sets the start address in every dynamic location of a list.
fn move_location(list: &mut [u8], start_address: u32) {
    let places: Vec<usize> = Extensions::new(list, 0, false)
        .map_while(Result::ok)
        .filter(|item| matches!(item.extension, Extension::DynamicLocation(_)))
        .map(|item| item.offset.saturating_add(Extension::HEADER_LEN))
        .collect();
    for at in places {
        if let Some(place) = list.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = start_address.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{DynamicLocation, ModuleBuilder, ModuleHash, PlacedExtension};
    use proptest::prelude::*;

    fn user(platform_id: u16) -> ModuleBuilder<'static> {
        ModuleBuilder::new(platform_id, ModuleFunction::User, 1, 6).start_address(0x0800_1000).body(&[7; 100])
    }

    fn extensions(file: &[u8]) -> Vec<Extension<'_>> {
        let module = Module::parse(file).unwrap();
        module.extensions().map(|item: Result<PlacedExtension<'_>, _>| item.unwrap().extension).collect()
    }

    #[test]
    fn extensions_go_where_the_platform_has_them() {
        let digest = [3; 32];
        let needs = [AssetDependency { hash: ModuleHash::sha256(&digest), name: b"cat.jpg" }];
        for (platform_id, place) in [(6, ExtensionPlace::Suffix), (32, ExtensionPlace::Prefix)] {
            let file = user(platform_id).product(Some(Product { id: 9, version: 2 })).build().unwrap();
            let before = Module::parse(&file).unwrap();
            assert_eq!(ExtensionPlace::of(before.prefix()), place);
            let mut editor = ModuleEditor::new(&file).unwrap();
            editor.set_asset_dependencies(&needs).unwrap();
            let edited = editor.finish().unwrap();
            let module = Module::parse(&edited).unwrap();
            assert!(module.crc_ok() && module.sha256_ok());
            assert!(module.asset_dependencies().eq(needs));
            assert_eq!(module.product(), Some(Product { id: 9, version: 2 }));
            assert_eq!(module.parts().unwrap().body, [7; 100]);
            let (old, new) = (before.prefix(), module.prefix());
            match place {
                ExtensionPlace::Suffix => assert_eq!(new.start_address, old.start_address),
                ExtensionPlace::Prefix => {
                    assert_eq!((new.end_address, new.start_address % 8), (old.end_address, 0));
                    assert!(new.start_address < old.start_address && new.flags == Flags::PREFIX_EXTENSIONS);
                }
            }
            // Again is the same, and other assets replace these.
            let mut editor = ModuleEditor::new(&edited).unwrap();
            editor.set_asset_dependencies(&needs).unwrap();
            assert_eq!(editor.clone().finish().unwrap(), edited);
            editor.set_asset_dependencies(&[AssetDependency { name: b"dog.jpg", ..needs[0] }]).unwrap();
            let other = editor.finish().unwrap();
            assert_eq!(Module::parse(&other).unwrap().asset_dependencies().count(), 1);
        }
    }

    #[test]
    fn dynamic_location_follows_the_start() {
        let location = DynamicLocation {
            module_start_address: 0x0800_1000,
            dynalib_load_address: 1,
            dynalib_start_address: 2,
        };
        let list = [
            Extension::DynamicLocation(location),
            Extension::Product(ProductData { id: 0x0020_ffff, version: 4 }),
        ];
        let file = user(32).suffix_extensions(&list).build().unwrap();
        let mut editor = ModuleEditor::new(&file).unwrap();
        editor.add(ExtensionPlace::Prefix, &[Extension::Name(b"four")]).unwrap();
        editor.set_product(Product { id: 33, version: 5 }).unwrap();
        let file = editor.finish().unwrap();
        let module = Module::parse(&file).unwrap();
        let start = module.prefix().start_address;
        let found = extensions(&file);
        assert_eq!(found[0], Extension::Name(b"four"));
        assert_eq!(
            found[2],
            Extension::DynamicLocation(DynamicLocation { module_start_address: start, ..location })
        );
        assert_eq!(module.product(), Some(Product { id: 33, version: 5 }));
        assert_eq!((start % 8, found.len()), (0, 4));
    }

    #[test]
    fn oldest_suffix_gets_product_fields() {
        let file = user(6).product(None).build().unwrap();
        let mut editor = ModuleEditor::new(&file).unwrap();
        assert_eq!(editor.clone().finish().unwrap(), file);
        editor.set_product(Product { id: 1, version: 2 }).unwrap();
        editor.prefix_mut().version = 7;
        let file = editor.finish().unwrap();
        let module = Module::parse(&file).unwrap();
        assert_eq!((module.suffix().size, module.product()), (40, Some(Product { id: 1, version: 2 })));
        assert_eq!(module.prefix().version, 7);
    }

    #[test]
    fn damaged_packed_and_padded_modules_are_refused() {
        let file = user(6).build().unwrap();
        let edit = |file: &[u8]| ModuleEditor::new(file).map(|_| ());
        let mut damaged = file.clone();
        damaged[50] ^= 1;
        assert_eq!(edit(&damaged), Err(EditError::Crc));
        assert_eq!(edit(&[&file[..], &[0; 3]].concat()), Err(EditError::Trailing { len: 3 }));
        for flags in [Flags::COMPRESSED, Flags::COMBINED] {
            assert_eq!(edit(&user(6).flags(flags).build().unwrap()), Err(EditError::Packed));
        }
        let table = user(6).vector_table(0x2002_0000).build().unwrap();
        let name = [Extension::Name(b"a")];
        let mut editor = ModuleEditor::new(&table).unwrap();
        assert_eq!(editor.add(ExtensionPlace::Prefix, &name), Err(EditError::VectorTable));
        let low = user(6).start_address(2).build().unwrap();
        let mut editor = ModuleEditor::new(&low).unwrap();
        editor.add(ExtensionPlace::Prefix, &name).unwrap();
        assert!(matches!(editor.finish(), Err(EditError::TooLong { .. })));
    }

    #[test]
    fn module_that_was_never_finalised_becomes_so() {
        let mut file = user(6).build().unwrap();
        let len = file.len();
        file[len - 38..len - 6].copy_from_slice(&crate::module::Suffix::UNFINISHED_SHA256);
        file[len - 4..].copy_from_slice(&Module::UNFINISHED_CRC.to_be_bytes());
        assert!(!Module::parse(&file).unwrap().is_finalised());
        let file = ModuleEditor::new(&file).unwrap().finish().unwrap();
        let module = Module::parse(&file).unwrap();
        assert!(module.is_finalised() && module.crc_ok() && module.sha256_ok());
    }

    proptest! {
        #[test]
        fn edited_lists_come_back(
            names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..4),
            prefix: bool, with_product: bool,
        ) {
            let list: Vec<Extension<'_>> = names.iter().map(|name| Extension::Name(name)).collect();
            let last = [Extension::Product(ProductData { id: u32::MAX, version: 0xffff })];
            let builder = user(32).suffix_extensions(if with_product { &last } else { &[] });
            let file = builder.build().unwrap();
            let mut editor = ModuleEditor::new(&file).unwrap();
            editor.add(if prefix { ExtensionPlace::Prefix } else { ExtensionPlace::Suffix }, &list).unwrap();
            let edited = editor.finish().unwrap();
            let module = Module::parse(&edited).unwrap();
            prop_assert!(module.crc_ok());
            let found: Vec<_> = extensions(&edited).into_iter().filter(|one| matches!(one, Extension::Name(_))).collect();
            prop_assert_eq!(found, list);
            let mut editor = ModuleEditor::new(&edited).unwrap();
            editor.remove(0x11);
            let back = editor.finish().unwrap();
            prop_assert_eq!(module.product(), Some(Product::NONE));
            if !prefix {
                prop_assert_eq!(back, file);
            }
        }
    }
}
