//! Compressed modules.

use super::extension::ExtensionError;
use super::prefix::{Flags, Prefix};
use super::view::Module;

/// Why a module is not one that can be inflated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressedError {
    /// [`Flags::COMPRESSED`] is not set.
    #[error("the module is not compressed")]
    NotCompressed,
    /// Nobody knows where the body begins or ends.
    #[error("the compressed data cannot be found")]
    Extensions(#[from] ExtensionError),
    /// The header says that it is shorter than it can be, or longer than the body.
    #[error("the header of the compressed data has {size} bytes, in a body of {available}")]
    HeaderSize {
        /// Size as stored; 0 if not even that is there.
        size: u16,
        /// Bytes of the body.
        available: usize,
    },
    /// A method other than raw Deflate.
    #[error("the compression method {method} is not known")]
    Method {
        /// As stored.
        method: u8,
    },
    /// A window that Deflate does not have.
    #[error("a window of {bits} bits is none of Deflate's")]
    WindowBits {
        /// As stored.
        bits: u8,
    },
}

/// What compressed data begins with.
///
/// | offset | size | field, little-endian |
/// |---|---|---|
/// | 0 | 2 | size of the header; bytes beyond the eighth are skipped |
/// | 2 | 1 | method: 0, raw Deflate |
/// | 3 | 1 | window bits, 8 to 15; 0 is 15 |
/// | 4 | 4 | size of the inflated data |
///
/// # Source
/// device-os@v2.3.1: `compressed_module_header` in `module_info.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CompressedHeader {
    /// Bytes of the header.
    pub size: u16,
    /// Method; 0 is raw Deflate.
    pub method: u8,
    /// Window bits; 0 is 15.
    pub window_bits: u8,
    /// Bytes of the inflated data.
    pub original_size: u32,
}

impl CompressedHeader {
    /// Bytes of a header.
    pub const LEN: usize = 8;

    /// Reads a header. Any eight bytes are one; [`Compressed::new`] judges it.
    #[must_use]
    pub const fn decode(raw: &[u8; Self::LEN]) -> Self {
        let [s0, s1, method, window_bits, o0, o1, o2, o3] = *raw;
        Self {
            size: u16::from_le_bytes([s0, s1]),
            method,
            window_bits,
            original_size: u32::from_le_bytes([o0, o1, o2, o3]),
        }
    }

    /// The bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; Self::LEN] {
        let ([s0, s1], [o0, o1, o2, o3]) = (self.size.to_le_bytes(), self.original_size.to_le_bytes());
        [s0, s1, self.method, self.window_bits, o0, o1, o2, o3]
    }

    /// How far back the data refers at most. zlib has no raw Deflate with a window of 8 bits and takes 9.
    #[must_use]
    pub const fn window_len(&self) -> usize {
        match self.window_bits {
            0 => 1 << 15,
            8 => 1 << 9,
            bits => 1 << (bits & 15),
        }
    }
}

/// A compressed module whose header was checked.
///
/// With [`Flags::DROP_INFO`] the data is the body of the original module, without prefix and suffix, else the whole original
/// module. Prefix, suffix and checksums of the module around it are those of the stored bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compressed<'a> {
    prefix: Prefix,
    header: CompressedHeader,
    data: &'a [u8],
}

impl<'a> Compressed<'a> {
    /// The compressed data of a module.
    ///
    /// # Errors
    /// [`CompressedError`].
    pub fn new(module: &Module<'a>) -> Result<Self, CompressedError> {
        let prefix = *module.prefix();
        if !prefix.flags.contains(Flags::COMPRESSED) {
            return Err(CompressedError::NotCompressed);
        }
        let body = module.parts()?.body;
        let available = body.len();
        let header = body.first_chunk().map(CompressedHeader::decode);
        let header = header.ok_or(CompressedError::HeaderSize { size: 0, available })?;
        let CompressedHeader { size, method, window_bits: bits, .. } = header;
        let data = body.get(size.into()..).filter(|_| usize::from(size) >= CompressedHeader::LEN);
        let data = data.ok_or(CompressedError::HeaderSize { size, available })?;
        if method != 0 {
            return Err(CompressedError::Method { method });
        }
        if bits != 0 && !(8..=15).contains(&bits) {
            return Err(CompressedError::WindowBits { bits });
        }
        Ok(Self { prefix, header, data })
    }

    /// What the data begins with.
    #[must_use]
    pub const fn header(&self) -> &CompressedHeader {
        &self.header
    }

    /// The data is only the body of the original module.
    #[must_use]
    pub const fn is_body_only(&self) -> bool {
        self.prefix.flags.contains(Flags::DROP_INFO)
    }

    /// The deflated data.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }
}

#[cfg(feature = "inflate")]
pub use inflate::{CompressError, CompressOptions, InflateError, compress, decompress};

#[cfg(feature = "inflate")]
mod inflate {
    use super::{Compressed, CompressedError, CompressedHeader};
    use crate::module::build::{Assembly, BuildError};
    use crate::module::extension::ExtensionError;
    use crate::module::prefix::Flags;
    use crate::module::view::{Module, ModuleError};
    use alloc::boxed::Box;
    use alloc::vec;
    use alloc::vec::Vec;
    use miniz_oxide::DataFormat;
    use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, TDEFLStatus, compress_to_output};
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::inflate_flags::{
        TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
    };
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress as step};

    /// Why a compressed module cannot be inflated.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
    #[non_exhaustive]
    pub enum InflateError {
        /// It is none.
        #[error(transparent)]
        Compressed(#[from] CompressedError),
        /// It says that it becomes larger than allowed.
        #[error("the inflated data would have {size} bytes, more than {limit}")]
        TooLarge {
            /// Bytes according to the header.
            size: u32,
            /// Bytes allowed.
            limit: usize,
        },
        /// The data is no Deflate stream.
        #[error("the compressed data is damaged")]
        Damaged,
        /// The data refers further back than its header says: a device with such a window could not inflate it.
        #[error("the compressed data needs a window of more than {window_len} bytes")]
        Window {
            /// Bytes according to the header.
            window_len: usize,
        },
        /// The data becomes shorter or longer than the header says.
        #[error("the inflated data should have {expected} bytes; it has {found} or more")]
        Size {
            /// Bytes according to the header.
            expected: u32,
            /// Bytes that came out.
            found: usize,
        },
        /// More bytes follow where the stream has ended.
        #[error("{len} bytes follow the compressed data")]
        Leftover {
            /// Their number.
            len: usize,
        },
        /// What came out is not a module.
        #[error("the inflated data is not a module")]
        NotAModule(#[source] ModuleError),
        /// What came out is a module whose CRC is wrong, or something follows it.
        #[error("the inflated module is damaged")]
        ModuleDamaged,
        /// The original module cannot be put together.
        #[error("the original module cannot be put together")]
        Build(#[from] BuildError),
    }

    impl Compressed<'_> {
        /// The inflated data: exactly as many bytes as the header says.
        ///
        /// Allocates that many bytes, and some 40 KiB for the time of the call. Work is bounded by the limit.
        ///
        /// # Errors
        /// [`InflateError`], all but the last three.
        pub fn inflate(&self, limit: usize) -> Result<Vec<u8>, InflateError> {
            let CompressedHeader { original_size, window_bits, .. } = self.header;
            let too_large = InflateError::TooLarge { size: original_size, limit };
            let size = usize::try_from(original_size).map_err(|_| too_large)?;
            // Deflate shrinks nothing to less than 1/1032: a lie need not be paid for in memory.
            let possible = self.data.len().saturating_mul(1032).saturating_add(1032);
            if size > limit {
                return Err(too_large);
            }
            let mut out = vec![0; size.min(possible)];
            let mut inflator = Box::<DecompressorOxide>::default();
            let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
            let (status, used, found) = step(&mut inflator, self.data, &mut out, 0, flags);
            match status {
                TINFLStatus::Done if found == size => {}
                TINFLStatus::Done | TINFLStatus::HasMoreOutput => {
                    return Err(InflateError::Size { expected: original_size, found });
                }
                _ => return Err(InflateError::Damaged),
            }
            match self.data.len().saturating_sub(used) {
                0 => {}
                len => return Err(InflateError::Leftover { len }),
            }
            let is_small = window_bits != 0 && self.header.window_len() < 1 << 15;
            if is_small && !self.fits_window() {
                return Err(InflateError::Window { window_len: self.header.window_len() });
            }
            Ok(out)
        }

        /// Inflates into a ring of the window's size, as a device does.
        fn fits_window(&self) -> bool {
            let mut ring = vec![0; self.header.window_len()];
            let mut inflator = Box::<DecompressorOxide>::default();
            let (mut rest, mut at) = (self.data, 0);
            loop {
                let (status, used, written) =
                    step(&mut inflator, rest, &mut ring, at, TINFL_FLAG_HAS_MORE_INPUT);
                rest = rest.get(used..).unwrap_or_default();
                at += written;
                match status {
                    TINFLStatus::Done => return true,
                    TINFLStatus::HasMoreOutput if at >= ring.len() => at = 0,
                    _ => return false,
                }
            }
        }
    }

    /// The original of a compressed module.
    ///
    /// With [`Flags::DROP_INFO`] it is put together from the prefix, the extensions and the suffix of the compressed one, with
    /// new checksums; else it is what the data inflates to.
    ///
    /// # Errors
    /// [`InflateError`]; also if the data would become larger than `limit`.
    pub fn decompress(module: &Module<'_>, limit: usize) -> Result<Vec<u8>, InflateError> {
        let compressed = Compressed::new(module)?;
        let data = compressed.inflate(limit)?;
        if !compressed.is_body_only() {
            let original = Module::parse(&data).map_err(InflateError::NotAModule)?;
            if !original.crc_ok() || !original.trailing().is_empty() {
                return Err(InflateError::ModuleDamaged);
            }
            return Ok(data);
        }
        let parts = module.parts().map_err(CompressedError::from)?;
        let mut assembly = Assembly::of(module, parts);
        assembly.prefix.flags = assembly.prefix.flags.without(Flags::COMPRESSED);
        assembly.body = &data;
        Ok(assembly.build()?)
    }

    /// How to compress.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    #[allow(clippy::exhaustive_structs, reason = "meant for struct update from DEFAULT")]
    pub struct CompressOptions {
        /// 0 not at all, 6 usual, 9 small, 10 smallest.
        pub level: u8,
        /// Window bits for the header, 9 to 15, or 0 for 15. A smaller window needs less memory in the device, and here costs
        /// size: the data is cut into pieces of the window that do not refer to each other.
        pub window_bits: u8,
    }

    impl CompressOptions {
        /// Small, and any window.
        pub const DEFAULT: Self = Self { level: 9, window_bits: 0 };
    }

    impl Default for CompressOptions {
        fn default() -> Self {
            Self::DEFAULT
        }
    }

    /// Why a module cannot be compressed.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
    #[non_exhaustive]
    pub enum CompressError {
        /// The file is none.
        #[error(transparent)]
        Module(#[from] ModuleError),
        /// Nobody knows where the body begins or ends.
        #[error("the body of the module cannot be found")]
        Extensions(#[from] ExtensionError),
        /// Its CRC is wrong.
        #[error("the CRC of the module is wrong")]
        Crc,
        /// It is compressed.
        #[error("the module is compressed already")]
        Already,
        /// Modules of a combined file are compressed one by one.
        #[error("the module is part of a combined file; separate it first")]
        Combined,
        /// Something follows the module.
        #[error("{len} bytes follow the module")]
        Trailing {
            /// Their number.
            len: usize,
        },
        /// The prefix cannot be left out of a module that begins with something else.
        #[error("a module with a vector table cannot have the flag drop-info")]
        VectorTable,
        /// No window that can be asked for.
        #[error("a window of {bits} bits cannot be made; 9 to 15 can, and 0 is 15")]
        WindowBits {
            /// As asked.
            bits: u8,
        },
        /// The module is too large.
        #[error(transparent)]
        Build(#[from] BuildError),
    }

    /// Compresses the module that `file` is.
    ///
    /// # Errors
    /// [`CompressError`].
    pub fn compress(file: &[u8], options: CompressOptions) -> Result<Vec<u8>, CompressError> {
        let bits = options.window_bits;
        if bits != 0 && !(9..=15).contains(&bits) {
            return Err(CompressError::WindowBits { bits });
        }
        let module = Module::parse(file)?;
        let flags = module.prefix().flags;
        if flags.contains(Flags::COMPRESSED) {
            return Err(CompressError::Already);
        }
        if flags.contains(Flags::COMBINED) {
            return Err(CompressError::Combined);
        }
        match module.trailing().len() {
            0 => {}
            len => return Err(CompressError::Trailing { len }),
        }
        if !module.crc_ok() {
            return Err(CompressError::Crc);
        }
        let parts = module.parts()?;
        let original = match (flags.contains(Flags::DROP_INFO), module.prefix_offset()) {
            (false, _) => module.image(),
            (true, 0) => parts.body,
            (true, _) => return Err(CompressError::VectorTable),
        };
        let len = original.len();
        let original_size = u32::try_from(len)
            .map_err(|_| BuildError::TooLong { len, start: module.prefix().start_address })?;
        let header = CompressedHeader { size: 8, method: 0, window_bits: bits, original_size };
        let mut body = header.encode().to_vec();
        deflate(original, header.window_len(), options.level, &mut body);
        let mut assembly = Assembly::of(&module, parts);
        assembly.prefix.flags = assembly.prefix.flags | Flags::COMPRESSED;
        // The vector table is in the data.
        assembly.vector_table = &[];
        assembly.body = &body;
        Ok(assembly.build()?)
    }

    fn deflate(data: &[u8], window_len: usize, level: u8, out: &mut Vec<u8>) {
        let mut deflator = Box::new(CompressorOxide::new(0));
        deflator.set_format_and_level(DataFormat::Raw, level.min(10));
        // The window of the deflator is of 15 bits; nothing else limits how far back it looks than forgetting all.
        let piece = if window_len < 1 << 15 { window_len } else { data.len().max(1) };
        let mut put = |piece: &[u8], flush| {
            let (status, _) = compress_to_output(&mut deflator, piece, flush, |bytes| {
                out.extend_from_slice(bytes);
                true
            });
            debug_assert!(matches!(status, TDEFLStatus::Okay | TDEFLStatus::Done));
        };
        let mut pieces = data.chunks(piece).peekable();
        while let Some(piece) = pieces.next() {
            put(piece, if pieces.peek().is_some() { TDEFLFlush::Full } else { TDEFLFlush::Finish });
        }
        if data.is_empty() {
            put(&[], TDEFLFlush::Finish);
        }
    }
}

#[cfg(test)]
#[cfg(feature = "inflate")]
mod tests {
    use super::*;
    use crate::module::{Dependency, ModuleBuilder, ModuleFunction, resign};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn body(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 7 % 90 * (at % 3)).to_le_bytes()[0]).collect()
    }

    fn module(flags: Flags, table: bool, len: usize) -> Vec<u8> {
        let body = body(len);
        let builder = ModuleBuilder::new(13, ModuleFunction::System, 1, 3103)
            .start_address(0x30000)
            .flags(flags)
            .depends_on([Dependency::bootloader(1000), Dependency::NONE])
            .body(&body);
        let builder = if table { builder.vector_table(0x2002_0000) } else { builder };
        builder.build().unwrap()
    }

    fn header_of(file: &mut [u8]) -> &mut [u8] {
        &mut file[24..32]
    }

    fn changed(mut file: Vec<u8>, change: impl Fn(&mut [u8])) -> Vec<u8> {
        change(&mut file);
        resign(&mut file).unwrap();
        file
    }

    #[test]
    fn original_comes_back_with_every_window_and_level() {
        for (flags, table) in [(Flags(0), false), (Flags(0), true), (Flags::DROP_INFO, false)] {
            let original = module(flags, table, 40_000);
            for window_bits in [0, 9, 10, 12, 15] {
                for level in [0, 1, 6, 9, 10, 255] {
                    let file = compress(&original, CompressOptions { level, window_bits }).unwrap();
                    let module = Module::parse(&file).unwrap();
                    assert!(module.crc_ok() && module.sha256_ok() && module.prefix_offset() == 0);
                    assert_eq!(module.prefix().flags, flags | Flags::COMPRESSED);
                    assert_eq!(module.suffix().product, Module::parse(&original).unwrap().suffix().product);
                    let compressed = Compressed::new(&module).unwrap();
                    assert_eq!(compressed.header().window_bits, window_bits);
                    assert_eq!(compressed.is_body_only(), flags == Flags::DROP_INFO);
                    assert_eq!(decompress(&module, 50_000).unwrap(), original, "{window_bits} {level}");
                    if level > 0 {
                        assert!(file.len() < original.len() / 3 * 2, "{} {window_bits} {level}", file.len());
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_larger_than_the_limit_or_than_the_header_says_comes_out() {
        let original = module(Flags(0), false, 40_000);
        let size = u32::try_from(original.len()).unwrap();
        let file = compress(&original, CompressOptions::DEFAULT).unwrap();
        let inflate = |file: &[u8], limit| decompress(&Module::parse(file).unwrap(), limit);
        assert_eq!(inflate(&file, original.len()).unwrap(), original);
        assert_eq!(
            inflate(&file, original.len() - 1),
            Err(InflateError::TooLarge { size, limit: original.len() - 1 })
        );
        let says = |size: u32| {
            changed(file.clone(), |file| header_of(file)[4..].copy_from_slice(&size.to_le_bytes()))
        };
        assert_eq!(
            inflate(&says(u32::MAX), 1 << 20),
            Err(InflateError::TooLarge { size: u32::MAX, limit: 1 << 20 })
        );
        let found = original.len();
        assert_eq!(inflate(&says(size + 1), 1 << 20), Err(InflateError::Size { expected: size + 1, found }));
        assert!(matches!(inflate(&says(size - 1), 1 << 20), Err(InflateError::Size { .. })));
        assert!(matches!(inflate(&says(0), 1 << 20), Err(InflateError::Size { .. })));
    }

    #[test]
    fn data_that_refers_beyond_its_window_is_refused() {
        // 4 KiB of noise, twice: the second time only as a reference far back.
        let noise: Vec<u8> = (0..4096u32).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        let noise = [&noise[..], &noise].concat();
        let original = ModuleBuilder::new(13, ModuleFunction::System, 1, 1)
            .start_address(0x30000)
            .body(&noise)
            .build()
            .unwrap();
        let file = compress(&original, CompressOptions::DEFAULT).unwrap();
        assert!(file.len() < 5000);
        for (bits, ok) in [(8, false), (9, false), (11, false), (13, true), (15, true)] {
            let file = changed(file.clone(), |file| header_of(file)[3] = bits);
            let result = decompress(&Module::parse(&file).unwrap(), 1 << 20);
            assert_eq!(result.is_ok(), ok, "{bits}: {result:?}");
            if let Err(error) = result {
                let window_len = if bits < 10 { 512 } else { 2048 };
                assert_eq!(error, InflateError::Window { window_len });
            }
        }
    }

    #[test]
    fn damage_in_header_and_data_is_named() {
        let original = module(Flags(0), false, 1000);
        let file = compress(&original, CompressOptions::DEFAULT).unwrap();
        let available = Module::parse(&file).unwrap().parts().unwrap().body.len();
        let inflate = |file: &[u8]| decompress(&Module::parse(file).unwrap(), 1 << 20).unwrap_err();
        let with =
            |change: &dyn Fn(&mut [u8])| inflate(&changed(file.clone(), |file| change(header_of(file))));
        assert_eq!(with(&|header| header[2] = 1), CompressedError::Method { method: 1 }.into());
        assert_eq!(with(&|header| header[3] = 7), CompressedError::WindowBits { bits: 7 }.into());
        assert_eq!(with(&|header| header[3] = 16), CompressedError::WindowBits { bits: 16 }.into());
        for size in [0, 7, 0xffff] {
            let error = CompressedError::HeaderSize { size, available }.into();
            assert_eq!(with(&|header| header[..2].copy_from_slice(&size.to_le_bytes())), error);
        }
        assert_eq!(inflate(&changed(file.clone(), |file| file[32] = 0xff)), InflateError::Damaged);
        assert_eq!(inflate(&original), CompressedError::NotCompressed.into());
        assert_eq!(compress(&file, CompressOptions::DEFAULT), Err(CompressError::Already));
        let bits = CompressOptions { window_bits: 8, ..CompressOptions::DEFAULT };
        assert_eq!(compress(&original, bits), Err(CompressError::WindowBits { bits: 8 }));
        let padded = [&original[..], &[0; 4]].concat();
        assert_eq!(compress(&padded, CompressOptions::DEFAULT), Err(CompressError::Trailing { len: 4 }));
        assert_eq!(
            compress(&module(Flags::DROP_INFO, true, 100), CompressOptions::DEFAULT),
            Err(CompressError::VectorTable)
        );
    }

    #[test]
    fn header_of_more_than_eight_bytes_is_skipped() {
        let original = module(Flags(0), false, 1000);
        let file = compress(&original, CompressOptions::DEFAULT).unwrap();
        let mut longer = file[..32].to_vec();
        longer[24] = 11;
        longer.extend([1, 2, 3]);
        longer.extend(&file[32..]);
        let end = u32::from_le_bytes([longer[4], longer[5], longer[6], longer[7]]) + 3;
        longer[4..8].copy_from_slice(&end.to_le_bytes());
        resign(&mut longer).unwrap();
        assert_eq!(decompress(&Module::parse(&longer).unwrap(), 1 << 20).unwrap(), original);
    }

    proptest! {
        #[test]
        fn any_data_is_inflated_or_refused(data in proptest::collection::vec(any::<u8>(), 0..300), bits: u8, size: u32) {
            let mut body = CompressedHeader { size: 8, method: 0, window_bits: bits % 16, original_size: size % 5000 }.encode().to_vec();
            body.extend(&data);
            let builder = ModuleBuilder::new(13, ModuleFunction::System, 1, 1).start_address(0x30000).body(&body);
            let file = builder.flags(Flags::COMPRESSED).build().unwrap();
            let module = Module::parse(&file).unwrap();
            if let Ok(compressed) = Compressed::new(&module) {
                let result = compressed.inflate(4000);
                if let Ok(inflated) = &result {
                    prop_assert_eq!(u32::try_from(inflated.len()).unwrap(), size % 5000);
                }
            }
            let _ = decompress(&module, 4000);
        }
    }
}
