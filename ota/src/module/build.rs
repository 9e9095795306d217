//! Building modules.

use super::extension::{Extension, ExtensionEncodeError};
use super::prefix::{Dependency, Flags, ModuleFunction, Prefix};
use super::search::SEARCH_END;
use super::suffix::{Product, Suffix};
use super::view::sign;
use super::{FlashLayout, Store, VECTOR_TABLE_LEN, is_stack_pointer};
use alloc::vec::Vec;

/// Why a module cannot be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The module would end behind the last 32-bit address.
    #[error("a module of {len} bytes does not fit behind {start:#010x}")]
    TooLong {
        /// Bytes without CRC.
        len: usize,
        /// Where it starts.
        start: u32,
    },
    /// A device would not recognise the vector table by this word.
    #[error("{word:#010x} is not a stack pointer into RAM")]
    StackPointer {
        /// The word.
        word: u32,
    },
    /// Without a vector table, the start address is the first word, and this one looks like a stack pointer.
    #[error("a device would take the start address {start:#010x} for a stack pointer")]
    StartAddress {
        /// The address.
        start: u32,
    },
    /// The vector table would have no whole number of entries, or the prefix would not be looked for behind it.
    #[error("a prefix is not looked for at offset {offset}; take a multiple of 4 from 4 to 8192")]
    PrefixOffset {
        /// The offset.
        offset: usize,
    },
    /// An extension cannot be written.
    #[error(transparent)]
    Extension(#[from] ExtensionEncodeError),
    /// The suffix has more bytes than its size can say; 0xffff means a blank one.
    #[error("a suffix of {len} bytes is too long")]
    SuffixTooLong {
        /// Its bytes.
        len: usize,
    },
}

/// The pieces of a module that is put together: end address, size of the suffix and checksums come by themselves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assembly<'a> {
    pub(super) prefix: Prefix,
    pub(super) vector_table: &'a [u8],
    pub(super) prefix_extensions: &'a [u8],
    pub(super) body: &'a [u8],
    pub(super) suffix_extensions: &'a [u8],
    pub(super) reserved: u16,
}

impl<'a> Assembly<'a> {
    /// The pieces of a module that is there.
    #[cfg(feature = "inflate")]
    pub(super) const fn of(module: &super::Module<'a>, parts: super::Parts<'a>) -> Self {
        let super::Parts { vector_table, prefix_extensions, body, suffix_extensions } = parts;
        let (prefix, reserved) = (*module.prefix(), module.suffix().reserved);
        Self { prefix, vector_table, prefix_extensions, body, suffix_extensions, reserved }
    }

    /// Bytes without CRC.
    pub(super) fn len(&self) -> usize {
        let pieces = [self.vector_table, self.prefix_extensions, self.body, self.suffix_extensions];
        pieces.iter().fold(Prefix::LEN + Suffix::LEN, |len, piece| len.saturating_add(piece.len()))
    }

    pub(super) fn build(&self) -> Result<Vec<u8>, BuildError> {
        let (start, len) = (self.prefix.start_address, self.len());
        let end_address = u32::try_from(len).ok().and_then(|len| start.checked_add(len));
        let Some(end_address) = end_address.filter(|end| *end < u32::MAX - 4) else {
            return Err(BuildError::TooLong { len, start });
        };
        let suffix_len = self.suffix_extensions.len().saturating_add(Suffix::LEN);
        let size = u16::try_from(suffix_len).ok().filter(|size| *size != u16::MAX);
        let size = size.ok_or(BuildError::SuffixTooLong { len: suffix_len })?;
        let mut file = Vec::with_capacity(len.saturating_add(4));
        file.extend(self.vector_table);
        file.extend(Prefix { end_address, ..self.prefix }.encode());
        file.extend(self.prefix_extensions);
        file.extend(self.body);
        file.extend(self.suffix_extensions);
        file.extend(self.reserved.to_le_bytes());
        file.extend([0; 32]);
        file.extend(size.to_le_bytes());
        file.extend([0; 4]);
        sign(&mut file, len);
        Ok(file)
    }
}

/// Builds a module from its parts, with right checksums.
///
/// ```
/// use spark_ota::module::{Dependency, Module, ModuleBuilder, ModuleFunction};
///
/// // As large as the released file, whose content we do not have.
/// let part1 = ModuleBuilder::new(6, ModuleFunction::System, 1, 2202)
///     .depends_on([Dependency::system(2, 207), Dependency::NONE])
///     .vector_table(0x2002_0000);
/// let body: Vec<u8> = (0..part1.body_len(250_956).unwrap()).map(|at| (at / 4) as u8 ^ at as u8).collect();
/// let file = part1.body(&body).build()?;
/// assert_eq!(file.len(), 250_956);
/// assert!(Module::parse(&file).unwrap().crc_ok());
/// # Ok::<(), spark_ota::module::BuildError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ModuleBuilder<'a> {
    prefix: Prefix,
    stack_pointer: Option<u32>,
    vector_table_len: usize,
    product: Option<Product>,
    prefix_extensions: &'a [Extension<'a>],
    suffix_extensions: &'a [Extension<'a>],
    body: &'a [u8],
}

impl<'a> ModuleBuilder<'a> {
    /// A module without dependencies, for no product, at the address where the platform keeps such modules (0 if that
    /// is not known).
    pub fn new(platform_id: u16, function: ModuleFunction, index: u8, version: u16) -> Self {
        let slot = FlashLayout::of(platform_id).and_then(|layout| layout.slot(function, index, Store::Main));
        let start_address = slot.map_or(0, |slot| slot.region.address);
        Self {
            prefix: Prefix {
                start_address,
                end_address: start_address,
                reserved: 0,
                flags: Flags(0),
                version,
                platform_id,
                function,
                index,
                dependencies: [Dependency::NONE; 2],
            },
            stack_pointer: None,
            vector_table_len: VECTOR_TABLE_LEN as usize,
            product: Some(Product::NONE),
            prefix_extensions: &[],
            suffix_extensions: &[],
            body: &[],
        }
    }

    /// Address of the first byte.
    pub const fn start_address(mut self, address: u32) -> Self {
        self.prefix.start_address = address;
        self
    }

    /// What the module needs.
    pub const fn depends_on(mut self, dependencies: [Dependency; 2]) -> Self {
        self.prefix.dependencies = dependencies;
        self
    }

    /// Begins the module with a vector table of this initial stack pointer, so that the prefix comes to
    /// [`VECTOR_TABLE_LEN`]. All its handlers point at the first bytes of the body.
    pub const fn vector_table(mut self, stack_pointer: u32) -> Self {
        self.stack_pointer = Some(stack_pointer);
        self
    }

    /// The same with a vector table of another length, for platforms whose prefix is elsewhere: 0x200 on the third
    /// generation, 0x10c on a Core, 0xc0 on Bluz.
    pub const fn vector_table_of(mut self, stack_pointer: u32, len: usize) -> Self {
        self.vector_table_len = len;
        self.vector_table(stack_pointer)
    }

    /// Flags. That for extensions behind the prefix comes by itself; a module that is to be compressed or combined is
    /// built first and then compressed or combined.
    pub const fn flags(mut self, flags: Flags) -> Self {
        self.prefix.flags = flags;
        self
    }

    /// Extensions behind the prefix. An end is added if there is none.
    pub const fn prefix_extensions(mut self, extensions: &'a [Extension<'a>]) -> Self {
        self.prefix_extensions = extensions;
        self
    }

    /// Extensions before the suffix. Product fields come behind them, and an end in between, unless the last one is
    /// [`Extension::Product`], or there are to be no product fields.
    pub const fn suffix_extensions(mut self, extensions: &'a [Extension<'a>]) -> Self {
        self.suffix_extensions = extensions;
        self
    }

    /// Product fields; `None` builds the shorter suffix of Device OS 0.4.0, which has none.
    pub const fn product(mut self, product: Option<Product>) -> Self {
        self.product = product;
        self
    }

    /// What lies between prefix and suffix.
    pub const fn body(mut self, body: &'a [u8]) -> Self {
        self.body = body;
        self
    }

    /// How long the body of a file of `file_len` bytes is; `None` if the rest alone is longer, or cannot be built.
    #[must_use]
    pub fn body_len(&self, file_len: usize) -> Option<usize> {
        let mut pieces = Pieces::default();
        let empty = Self { body: &[], ..self.clone() };
        file_len.checked_sub(empty.assembly(&mut pieces).ok()?.len().checked_add(4)?)
    }

    /// The module, CRC included.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let start = self.prefix.start_address;
        match self.stack_pointer {
            Some(_)
                if !self.vector_table_len.is_multiple_of(4)
                    || !(4..=SEARCH_END).contains(&self.vector_table_len) =>
            {
                return Err(BuildError::PrefixOffset { offset: self.vector_table_len });
            }
            Some(word) if !is_stack_pointer(word) => return Err(BuildError::StackPointer { word }),
            None if is_stack_pointer(start) => return Err(BuildError::StartAddress { start }),
            _ => {}
        }
        self.assembly(&mut Pieces::default())?.build()
    }

    fn assembly<'p>(&self, pieces: &'p mut Pieces) -> Result<Assembly<'p>, BuildError>
    where
        'a: 'p,
    {
        let Pieces { vector_table, before, behind } = pieces;
        if let Some(stack_pointer) = self.stack_pointer {
            vector_table.extend(stack_pointer.to_le_bytes());
            // The lowest bit of a handler's address says Thumb code.
            let len = u32::try_from(self.vector_table_len).unwrap_or(u32::MAX).saturating_add(24);
            let handler = self.prefix.start_address.saturating_add(len) | 1;
            while vector_table.len() < self.vector_table_len.min(SEARCH_END) {
                vector_table.extend(handler.to_le_bytes());
            }
        }
        let ends = |last: Option<&Extension<'_>>| matches!(last, Some(Extension::End(_)));
        self.prefix_extensions.iter().try_for_each(|extension| extension.append_to(before))?;
        let mut flags = self.prefix.flags;
        if !self.prefix_extensions.is_empty() {
            flags = flags | Flags::PREFIX_EXTENSIONS;
        }
        if flags.contains(Flags::PREFIX_EXTENSIONS) && !ends(self.prefix_extensions.last()) {
            Extension::End(&[]).append_to(before)?;
        }
        self.suffix_extensions.iter().try_for_each(|extension| extension.append_to(behind))?;
        let last = self.suffix_extensions.last();
        let raw = self.product.filter(|_| !matches!(last, Some(Extension::Product(_))));
        if raw.is_some() && last.is_some() && !ends(last) {
            Extension::End(&[]).append_to(behind)?;
        }
        behind.extend(raw.iter().flat_map(Product::encode));
        Ok(Assembly {
            prefix: Prefix { flags, ..self.prefix },
            vector_table,
            prefix_extensions: before,
            body: self.body,
            suffix_extensions: behind,
            reserved: 0,
        })
    }
}

/// What a builder makes of its parts.
#[derive(Default)]
struct Pieces {
    vector_table: Vec<u8>,
    before: Vec<u8>,
    behind: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{Module, ModuleError, resign};
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn user_part_has_the_bytes_of_the_layout() {
        let file = ModuleBuilder::new(6, ModuleFunction::User, 1, 6)
            .depends_on([Dependency::system(2, 2202), Dependency::NONE])
            .product(Some(Product { id: 1234, version: 5 }))
            .body(b"body")
            .build()
            .unwrap();
        let expected = hex!(
            "00000a08 44000a08 00 00 0600 0600 05 01  04 02 9a08  00 00 0000"
            "626f6479"
            "d204 0500 0000"
        );
        assert_eq!(file[..34], expected);
        assert_eq!(file[66..68], hex!("2800"));
        assert_eq!(file.len(), 72);
        let sha256: [u8; 32] =
            sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), &file[..34])).into();
        assert_eq!(file[34..66], sha256);
        assert_eq!(file[68..], crate::crc32(&file[..68]).to_be_bytes());
    }

    #[test]
    fn vector_table_begins_with_a_word_that_devices_recognise() {
        let file = ModuleBuilder::new(6, ModuleFunction::Bootloader, 0, 1005)
            .vector_table(0x2002_0000)
            .body(&[1; 64])
            .build()
            .unwrap();
        assert_eq!(file[..8], hex!("00000220 9d010008"));
        let module = Module::parse(&file).unwrap();
        assert_eq!((module.prefix_offset(), module.prefix().start_address), (0x184, 0x0800_0000));
    }

    #[test]
    fn prefix_comes_to_where_other_platforms_have_it() {
        let builder = ModuleBuilder::new(13, ModuleFunction::System, 1, 2202).body(&[1; 900]);
        for len in [4, 0x20, 0xc0, 0x10c, 0x184, 0x200, 8192] {
            let file = builder.clone().vector_table_of(0x2000_8000, len).build().unwrap();
            let module = Module::parse(&file).unwrap();
            assert!(module.crc_ok() && module.sha256_ok());
            assert_eq!((module.prefix_offset(), file.len()), (len, len + 24 + 900 + 44));
        }
        for offset in [0, 3, 6, 8196] {
            let error = builder.clone().vector_table_of(0x2000_8000, offset).build().unwrap_err();
            assert_eq!(error, BuildError::PrefixOffset { offset });
        }
    }

    #[test]
    fn what_a_device_would_misread_is_not_built() {
        let builder = ModuleBuilder::new(6, ModuleFunction::User, 1, 6);
        let error = builder.clone().vector_table(0x0802_0000).build().unwrap_err();
        assert_eq!(error, BuildError::StackPointer { word: 0x0802_0000 });
        let error = builder.clone().start_address(0x2000_0000).build().unwrap_err();
        assert_eq!(error, BuildError::StartAddress { start: 0x2000_0000 });
        let error = builder.start_address(u32::MAX - 64).build().unwrap_err();
        assert_eq!(error, BuildError::TooLong { len: 64, start: u32::MAX - 64 });
    }

    #[test]
    fn edited_module_is_good_again_after_resigning() {
        let mut file = ModuleBuilder::new(6, ModuleFunction::User, 1, 6).body(&[1; 64]).build().unwrap();
        file[10] = 7;
        assert!(!Module::parse(&file).unwrap().crc_ok());
        resign(&mut file).unwrap();
        let module = Module::parse(&file).unwrap();
        assert!(module.crc_ok() && module.sha256_ok());
        assert_eq!(module.prefix().version, 7);
        assert!(matches!(resign(&mut [0; 100]), Err(ModuleError::NotAModule { best: None })));
    }

    proptest! {
        #[test]
        fn built_modules_parse_to_their_parts(
            body in proptest::collection::vec(any::<u8>(), 0..600),
            index: u8, version: u16,
            table: bool,
            product in proptest::option::of((any::<u16>(), any::<u16>())),
            need in 1u8..=9, need_index: u8, need_version: u16,
        ) {
            let dependency =
                Dependency { function: ModuleFunction::from_number(need), index: need_index, version: need_version };
            let product = product.map(|(id, version)| Product { id, version });
            let mut builder = ModuleBuilder::new(10, ModuleFunction::System, index, version)
                .depends_on([dependency, Dependency::bootloader(version)])
                .product(product)
                .start_address(0x0804_0000)
                .body(&body);
            if table {
                builder = builder.vector_table(0x2002_0000);
            }
            let file = builder.build().unwrap();
            let module = Module::parse(&file).unwrap();
            prop_assert!(module.crc_ok() && module.sha256_ok() && module.trailing().is_empty());
            prop_assert_eq!((module.prefix().index, module.prefix().version), (index, version));
            prop_assert_eq!(module.prefix().dependencies, [dependency, Dependency::bootloader(version)]);
            prop_assert_eq!(module.suffix().product, product);
            let begin = module.prefix_offset() + Prefix::LEN;
            prop_assert_eq!(&file[begin..begin + body.len()], &body[..]);
            prop_assert_eq!(builder.body_len(file.len()), Some(body.len()));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000), at in 0usize..2100) {
            let _ = Module::parse(&bytes);
            let _ = Module::parse_at(&bytes, at);
        }
    }
}
