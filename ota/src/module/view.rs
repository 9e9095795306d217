//! A module in memory.

use super::extension::{AssetDependency, Extension, ExtensionError, Extensions, PlacedExtension};
use super::prefix::{Flags, Prefix};
use super::search::{FoundPrefix, MAXIMUM_SCORE, find_cut, find_prefix, prefix_at};
use super::suffix::{Product, Suffix};
use crate::checksum::crc32;
use sha2::{Digest, Sha256};

/// Why bytes are not a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The bytes end before the module does.
    #[error("the file has {available} bytes, the module in it needs {needed}")]
    Truncated {
        /// Where the prefix was found, or looked for.
        offset: usize,
        /// Bytes the module has, CRC included.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// Nothing in the file is a prefix beyond doubt, and the CRC of the likeliest one is wrong.
    #[error("the file is not a module")]
    NotAModule {
        /// The likeliest prefix, if any is possible.
        best: Option<FoundPrefix>,
    },
    /// The prefix at this offset has an end that is not behind its start.
    #[error("the module at byte {offset} ends at {end:#010x}, not behind its start {start:#010x}")]
    EmptyRange {
        /// Where the prefix is.
        offset: usize,
        /// Start address.
        start: u32,
        /// End address.
        end: u32,
    },
    /// The module is too short to hold its own prefix and suffix.
    #[error(
        "the module with its prefix at byte {offset} has {length} bytes, fewer than the {minimum} of an empty one"
    )]
    TooShort {
        /// Where the prefix is.
        offset: usize,
        /// Bytes without CRC.
        length: usize,
        /// The least for this offset.
        minimum: usize,
    },
}

/// A module whose layout was checked; its checksums may still be wrong.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use spark_ota::module::{Module, ModuleBuilder, ModuleFunction};
///
/// let mut file = ModuleBuilder::new(6, ModuleFunction::User, 1, 6).body(&[7; 100]).build()?;
/// file.extend([0xff; 20]); // padding, as in a capture of the flash
///
/// let module = Module::parse(&file).unwrap();
/// assert!(module.crc_ok() && module.sha256_ok());
/// assert_eq!((module.prefix().version, module.trailing().len()), (6, 20));
/// # }
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module<'a> {
    prefix_offset: usize,
    prefix: Prefix,
    suffix: Suffix,
    /// Up to the CRC.
    covered: &'a [u8],
    stored_crc: u32,
    image: &'a [u8],
    trailing: &'a [u8],
}

/// The pieces of a module between which nothing is missing: with prefix, suffix and CRC, these are all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Parts<'a> {
    /// What comes before the prefix: a vector table, or nothing.
    pub vector_table: &'a [u8],
    /// Extensions behind the prefix, as stored.
    pub prefix_extensions: &'a [u8],
    /// The content.
    pub body: &'a [u8],
    /// Extensions or product fields before the suffix, as stored.
    pub suffix_extensions: &'a [u8],
}

impl<'a> Module<'a> {
    /// What the linker leaves where the CRC belongs.
    pub const UNFINISHED_CRC: u32 = 0x7856_3412;

    /// Finds and checks the module that `file` begins with.
    ///
    /// A file is taken for a module if its prefix is beyond doubt ([`MAXIMUM_SCORE`]; the CRC may then be wrong, see
    /// [`Module::crc_ok`]) or if the CRC at the place given by its likeliest prefix is right.
    ///
    /// # Errors
    /// [`ModuleError::Truncated`] if the file has a good prefix and ends too early, [`ModuleError::TooShort`],
    /// [`ModuleError::NotAModule`].
    pub fn parse(file: &'a [u8]) -> Result<Self, ModuleError> {
        let best = find_prefix(file);
        if let Some(found) = best {
            let module = Self::parse_at(file, found.offset);
            if found.score == MAXIMUM_SCORE || module.is_ok_and(|module| module.crc_ok()) {
                return module;
            }
        }
        if let Some(cut) = find_cut(file) {
            return Self::parse_at(file, cut.offset);
        }
        Err(ModuleError::NotAModule { best })
    }

    /// Reads the module at the likeliest prefix, whatever its CRC says: for showing what is left of a damaged file. Most
    /// files that are no modules have some prefix, too.
    ///
    /// # Errors
    /// [`ModuleError::NotAModule`] if no prefix is possible, [`ModuleError::Truncated`], [`ModuleError::TooShort`].
    pub fn parse_likeliest(file: &'a [u8]) -> Result<Self, ModuleError> {
        match Self::parse(file) {
            Err(ModuleError::NotAModule { best: Some(best) }) => Self::parse_at(file, best.offset),
            result => result,
        }
    }

    /// Reads the module that `file` begins with and whose prefix lies at `prefix_offset`, however unlikely it looks.
    ///
    /// # Errors
    /// [`ModuleError::Truncated`], [`ModuleError::EmptyRange`], [`ModuleError::TooShort`].
    pub fn parse_at(file: &'a [u8], prefix_offset: usize) -> Result<Self, ModuleError> {
        let (offset, available) = (prefix_offset, file.len());
        let truncated = |needed| ModuleError::Truncated { offset, needed, available };
        let minimum = offset.saturating_add(Prefix::LEN + Suffix::LEN);
        let prefix = prefix_at(file, offset).ok_or_else(|| truncated(minimum.saturating_add(4)))?;
        let length = prefix.length().ok_or(ModuleError::EmptyRange {
            offset,
            start: prefix.start_address,
            end: prefix.end_address,
        })?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length < minimum {
            return Err(ModuleError::TooShort { offset, length, minimum });
        }
        let needed = length.saturating_add(4);
        let (image, trailing) = file.split_at_checked(needed).ok_or_else(|| truncated(needed))?;
        let (covered, crc) = image.split_last_chunk().ok_or_else(|| truncated(needed))?;
        let suffix = covered.last_chunk().ok_or_else(|| truncated(needed))?;
        Ok(Self {
            prefix_offset,
            prefix,
            suffix: Suffix::decode(suffix),
            covered,
            stored_crc: u32::from_be_bytes(*crc),
            image,
            trailing,
        })
    }

    /// Where the prefix begins: the length of the vector table, if there is one.
    #[must_use]
    pub const fn prefix_offset(&self) -> usize {
        self.prefix_offset
    }

    /// What the module is.
    #[must_use]
    pub const fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// What it ends with.
    #[must_use]
    pub const fn suffix(&self) -> &Suffix {
        &self.suffix
    }

    /// Extensions behind the prefix; none unless [`Flags::PREFIX_EXTENSIONS`] is set.
    #[must_use]
    pub fn prefix_extensions(&self) -> Extensions<'a> {
        let start = self.prefix_end();
        match self.covered.get(start..self.covered.len().saturating_sub(Suffix::LEN)) {
            Some(area) if self.prefix.flags.contains(Flags::PREFIX_EXTENSIONS) => {
                Extensions::new(area, start, true)
            }
            _ => Extensions::NONE,
        }
    }

    /// Extensions before the suffix; none if its size leaves no room for them, or is wrong.
    #[must_use]
    pub fn suffix_extensions(&self) -> Extensions<'a> {
        let start = self.covered.len().saturating_sub(self.suffix.size.into());
        match self.covered.get(start..self.covered.len().saturating_sub(Suffix::LEN)) {
            Some(area) if self.suffix.has_extensions() && start >= self.prefix_end() => {
                Extensions::new(area, start, false)
            }
            _ => Extensions::NONE,
        }
    }

    /// All extensions, those behind the prefix first.
    pub fn extensions(&self) -> impl Iterator<Item = Result<PlacedExtension<'a>, ExtensionError>> + use<'a> {
        self.prefix_extensions().chain(self.suffix_extensions())
    }

    /// What the product fields say, wherever they are: in the suffix, in an extension, or behind the extensions. `None` if
    /// there are none, or if they cannot be read.
    #[must_use]
    pub fn product(&self) -> Option<Product> {
        if self.suffix.product.is_some() {
            return self.suffix.product;
        }
        let mut extensions = self.suffix_extensions();
        for item in extensions.by_ref() {
            if let Extension::Product(data) = item.ok()?.extension {
                return data.product();
            }
        }
        extensions.rest().try_into().ok().map(Product::decode)
    }

    /// The assets that the application needs. Ends where extensions cannot be read.
    pub fn asset_dependencies(&self) -> impl Iterator<Item = AssetDependency<'a>> + use<'a> {
        self.extensions().map_while(Result::ok).filter_map(|item| match item.extension {
            Extension::AssetDependency(asset) => Some(asset),
            _ => None,
        })
    }

    /// The module in pieces.
    ///
    /// # Errors
    /// [`ExtensionError`] if the extensions behind the prefix have no end, so that nobody knows where the body begins, or
    /// if the size of the suffix is wrong. Those before the suffix are not looked at.
    pub fn parts(&self) -> Result<Parts<'a>, ExtensionError> {
        let start = self.prefix_end();
        let mut list = self.prefix_extensions();
        // Without an error, there was an end, and its padding belongs to the list.
        list.by_ref().try_for_each(|item| item.map(drop))?;
        let body_start = start.max(list.offset());
        let size = self.suffix.size;
        let available = self.covered.len().saturating_sub(body_start);
        let length = usize::from(size);
        let wrong = ExtensionError::SuffixSize { size, available };
        if length < Suffix::LEN || length > available {
            return Err(wrong);
        }
        let body_end = self.covered.len().saturating_sub(length);
        let piece = |from: usize, to: usize| self.covered.get(from..to).ok_or(wrong);
        Ok(Parts {
            vector_table: piece(0, self.prefix_offset)?,
            prefix_extensions: piece(start, body_start)?,
            body: piece(body_start, body_end)?,
            suffix_extensions: piece(body_end, self.covered.len().saturating_sub(Suffix::LEN))?,
        })
    }

    /// Checksums were put in after it was built. A file that never got them is no module for any device.
    #[must_use]
    pub fn is_finalised(&self) -> bool {
        !self.suffix.is_unfinished() && self.stored_crc != Self::UNFINISHED_CRC
    }

    const fn prefix_end(&self) -> usize {
        self.prefix_offset.saturating_add(Prefix::LEN)
    }

    /// Exactly the module, CRC included.
    #[must_use]
    pub const fn image(&self) -> &'a [u8] {
        self.image
    }

    /// What follows in the file: padding, or the next module of a combined file.
    #[must_use]
    pub const fn trailing(&self) -> &'a [u8] {
        self.trailing
    }

    /// The CRC as stored.
    #[must_use]
    pub const fn stored_crc(&self) -> u32 {
        self.stored_crc
    }

    /// The CRC as it should be. Goes over the whole image.
    #[must_use]
    pub fn computed_crc(&self) -> u32 {
        crc32(self.covered)
    }

    /// The image is what was built.
    #[must_use]
    pub fn crc_ok(&self) -> bool {
        self.stored_crc == self.computed_crc()
    }

    /// The SHA-256 as it should be. Goes over the whole image.
    #[must_use]
    pub fn computed_sha256(&self) -> [u8; 32] {
        let end = self.covered.len().saturating_sub(Suffix::SHA256_FROM_END);
        Sha256::digest(self.covered.get(..end).unwrap_or_default()).into()
    }

    /// The stored SHA-256 is right. Devices do not look at it; the cloud knows modules by it.
    #[must_use]
    pub fn sha256_ok(&self) -> bool {
        self.suffix.sha256 == self.computed_sha256()
    }
}

/// Gives the edited module that `file` begins with a right SHA-256 and then a right CRC. Other bytes stay.
///
/// # Errors
/// [`ModuleError`] as from [`Module::parse`]; use [`resign_at`] if the edit makes the prefix doubtful.
pub fn resign(file: &mut [u8]) -> Result<(), ModuleError> {
    let offset = Module::parse(file)?.prefix_offset();
    resign_at(file, offset)
}

/// The same for a module whose prefix lies at `prefix_offset`.
///
/// # Errors
/// [`ModuleError`] as from [`Module::parse_at`].
pub fn resign_at(file: &mut [u8], prefix_offset: usize) -> Result<(), ModuleError> {
    let length = Module::parse_at(file, prefix_offset)?.covered.len();
    sign(file, length);
    Ok(())
}

/// Writes the SHA-256 into the suffix that ends at `length`, and the CRC behind it.
pub(super) fn sign(file: &mut [u8], length: usize) {
    let Some((covered, rest)) = file.split_at_mut_checked(length) else { return };
    let Some((hashed, _)) = covered.split_last_chunk::<{ Suffix::SHA256_FROM_END }>() else { return };
    let sha256: [u8; 32] = Sha256::digest(hashed).into();
    if let Some([place @ .., _, _]) = covered.last_chunk_mut::<{ Suffix::SHA256_FROM_END }>() {
        place.copy_from_slice(&sha256);
    }
    let crc = crc32(covered);
    if let Some(place) = rest.first_chunk_mut() {
        *place = crc.to_be_bytes();
    }
}
