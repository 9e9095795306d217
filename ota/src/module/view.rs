//! A module in memory.

use super::prefix::Prefix;
use super::search::{FoundPrefix, MAXIMUM_SCORE, find_cut, find_prefix, prefix_at};
use super::suffix::Suffix;
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

impl<'a> Module<'a> {
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
