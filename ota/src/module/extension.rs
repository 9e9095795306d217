//! Extensions: what newer modules say beyond prefix and suffix.

use super::prefix::{Dependency, ModuleFunction};
use super::suffix::Product;
use core::fmt;
use core::iter::FusedIterator;

/// Why an area of extensions cannot be read to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionError {
    /// A length that does not even count the header: reading on would never end.
    #[error("the extension at byte {offset} says that it has {length} bytes, fewer than its header")]
    BadLength {
        /// Where it begins in the module.
        offset: usize,
        /// Its length field.
        length: u16,
    },
    /// It reaches out of the area.
    #[error("the extension at byte {offset} has {length} bytes, but its area ends after {available}")]
    Truncated {
        /// Where it begins in the module.
        offset: usize,
        /// Bytes it should have.
        length: usize,
        /// Bytes there are.
        available: usize,
    },
    /// A known type with content that does not fit it.
    #[error("the extension at byte {offset} of type {kind:#06x} has content that does not fit its type")]
    Malformed {
        /// Where it begins in the module.
        offset: usize,
        /// Its type.
        kind: u16,
    },
    /// Extensions behind a prefix have to end with one that says so.
    #[error("the extensions of the prefix have no end at byte {offset}")]
    NoEnd {
        /// Where one more extension should have begun.
        offset: usize,
    },
    /// The suffix says that it is shorter than it can be, or longer than the module.
    #[error("the suffix of {size} bytes does not fit a module that has room for {available}")]
    SuffixSize {
        /// Size as stored.
        size: u16,
        /// Bytes behind the prefix.
        available: usize,
    },
}

/// Why an extension cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtensionEncodeError {
    /// Its length, or that of its hash, does not fit its field.
    #[error("an extension of {len} bytes is too long")]
    TooLong {
        /// Bytes of what is too long.
        len: usize,
    },
    /// The buffer is too small.
    #[error("an extension of {needed} bytes does not fit a buffer of {available}")]
    BufferTooSmall {
        /// Bytes of the extension.
        needed: usize,
        /// Bytes of the buffer.
        available: usize,
    },
}

/// Product fields as an extension.
///
/// The field of the firmware is a 32-bit id. Tools write the 16-bit ids of today so that id and version come to lie where
/// modules without extensions have them: 0xffff in the lower half, the id in the upper one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ProductData {
    /// Product id as stored.
    pub id: u32,
    /// Version of the product's firmware.
    pub version: u16,
}

impl ProductData {
    /// The product of 16 bits, in either half; `None` for an id beyond that.
    #[must_use]
    pub fn product(&self) -> Option<Product> {
        let [low_0, low_1, high_0, high_1] = self.id.to_le_bytes();
        let (low, high) = (u16::from_le_bytes([low_0, low_1]), u16::from_le_bytes([high_0, high_1]));
        let id = match (low, high) {
            (0xffff, id) | (id, 0) => id,
            _ => return None,
        };
        Some(Product { id, version: self.version })
    }
}

impl From<Product> for ProductData {
    fn from(product: Product) -> Self {
        Self { id: u32::from(product.id) << 16 | 0xffff, version: product.version }
    }
}

/// Where a module that is placed by its end was linked to, on RTL872x platforms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DynamicLocation {
    /// Start address of the module; the same as that of the prefix.
    pub module_start_address: u32,
    /// Where the table of exported functions is loaded from.
    pub dynalib_load_address: u32,
    /// Where it runs.
    pub dynalib_start_address: u32,
}

/// SHA-256, the only hash that there is.
pub const HASH_SHA256: u8 = 0;

/// A digest in an extension.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ModuleHash<'a> {
    /// [`HASH_SHA256`].
    pub hash_type: u8,
    /// The digest.
    pub digest: &'a [u8],
}

impl<'a> ModuleHash<'a> {
    /// A SHA-256.
    #[must_use]
    pub const fn sha256(digest: &'a [u8; 32]) -> Self {
        Self { hash_type: HASH_SHA256, digest }
    }
}

/// An asset that an application needs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AssetDependency<'a> {
    /// Of the asset's content, without the module around it.
    pub hash: ModuleHash<'a>,
    /// Its name, usually UTF-8.
    pub name: &'a [u8],
}

/// One extension.
///
/// | offset | size | field, little-endian |
/// |---|---|---|
/// | 0 | 2 | type |
/// | 2 | 2 | length, these four bytes included |
/// | 4 | | content |
///
/// | type | content |
/// |---|---|
/// | 0 | end; perhaps padding |
/// | 1 | product: id (4), version (2) |
/// | 2 | dynamic location: three addresses |
/// | 3 | dependency: function, index, version (2), target id (4) |
/// | 0x10 | hash: type, length, digest |
/// | 0x11 | name |
/// | 0x12 | asset dependency: hash as above, name |
/// | 0x13 | security mode, perhaps a certificate |
/// | 0x14 | asset type, reserved byte |
/// | 0xffff | stops the list |
///
/// # Source
/// device-os@v6.2.0: `module_info.h`; binary-version-reader@4.2.0: `lib/HalModuleParser.js`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Extension<'a> {
    /// 0: end of the list, and padding in it.
    End(&'a [u8]),
    /// 1: product fields.
    Product(ProductData),
    /// 2: where the module was linked to.
    DynamicLocation(DynamicLocation),
    /// 3: a module that this one needs, beyond the two of the prefix.
    Dependency {
        /// The module.
        dependency: Dependency,
        /// Which processor it is for.
        target_id: u32,
    },
    /// 0x10: hash of the content.
    Hash(ModuleHash<'a>),
    /// 0x11: name of the content, usually UTF-8.
    Name(&'a [u8]),
    /// 0x12: an asset that the application needs.
    AssetDependency(AssetDependency<'a>),
    /// 0x13: what the module does to the protection of the device.
    SecurityMode {
        /// 0 none, 1 protected.
        mode: u8,
        /// Certificate, empty if there is none.
        certificate: &'a [u8],
    },
    /// 0x14: what an asset is for.
    AssetType {
        /// 0 an asset of the application, 1 and 2 environment variables.
        asset_type: u8,
        /// 0.
        reserved: u8,
    },
    /// Any other type.
    Unknown {
        /// Type.
        kind: u16,
        /// Content.
        data: &'a [u8],
    },
}

impl<'a> Extension<'a> {
    /// Bytes before the content.
    pub const HEADER_LEN: usize = 4;
    /// Stops a list that has no end.
    pub const INVALID: u16 = 0xffff;

    /// Type as a number.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match self {
            Self::End(_) => 0,
            Self::Product(_) => 1,
            Self::DynamicLocation(_) => 2,
            Self::Dependency { .. } => 3,
            Self::Hash(_) => 0x10,
            Self::Name(_) => 0x11,
            Self::AssetDependency(_) => 0x12,
            Self::SecurityMode { .. } => 0x13,
            Self::AssetType { .. } => 0x14,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Content of a type; `None` if it does not fit it.
    fn decode(kind: u16, data: &'a [u8]) -> Option<Self> {
        Some(match kind {
            0 => Self::End(data),
            1 => {
                let (id, version) = data.split_first_chunk()?;
                Self::Product(ProductData {
                    id: u32::from_le_bytes(*id),
                    version: u16::from_le_bytes(exactly(version)?),
                })
            }
            2 => {
                let (words, rest) = data.as_chunks();
                let [start, load, run] = *words else { return None };
                Self::DynamicLocation(DynamicLocation {
                    module_start_address: u32::from_le_bytes(start),
                    dynalib_load_address: u32::from_le_bytes(load),
                    dynalib_start_address: u32::from_le_bytes(run),
                })
                .if_nothing_is_left(rest)?
            }
            3 => {
                let [function, index, low, high, target @ ..] = data else { return None };
                let function = ModuleFunction::from_number(*function);
                let version = u16::from_le_bytes([*low, *high]);
                let dependency = Dependency { function, index: *index, version };
                Self::Dependency { dependency, target_id: u32::from_le_bytes(exactly(target)?) }
            }
            0x10 => {
                let (hash, rest) = hash(data)?;
                Self::Hash(hash).if_nothing_is_left(rest)?
            }
            0x11 => Self::Name(data),
            0x12 => {
                let (hash, name) = hash(data)?;
                Self::AssetDependency(AssetDependency { hash, name })
            }
            0x13 => {
                let (mode, certificate) = data.split_first()?;
                Self::SecurityMode { mode: *mode, certificate }
            }
            0x14 => {
                let [asset_type, reserved] = exactly(data)?;
                Self::AssetType { asset_type, reserved }
            }
            kind => Self::Unknown { kind, data },
        })
    }

    fn if_nothing_is_left(self, rest: &[u8]) -> Option<Self> {
        rest.is_empty().then_some(self)
    }

    /// The content in pieces, those of fixed size in `fixed`.
    fn pieces(&self, fixed: &mut [u8; 12]) -> Result<(usize, [&'a [u8]; 2]), ExtensionEncodeError> {
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            for (place, byte) in fixed.iter_mut().skip(len).zip(bytes) {
                *place = *byte;
                len += 1;
            }
        };
        let tail: [&[u8]; 2] = match *self {
            Self::End(data) | Self::Name(data) | Self::Unknown { data, .. } => [data, &[]],
            Self::Product(ProductData { id, version }) => {
                put(&id.to_le_bytes());
                put(&version.to_le_bytes());
                [&[]; 2]
            }
            Self::DynamicLocation(location) => {
                put(&location.module_start_address.to_le_bytes());
                put(&location.dynalib_load_address.to_le_bytes());
                put(&location.dynalib_start_address.to_le_bytes());
                [&[]; 2]
            }
            Self::Dependency { dependency, target_id } => {
                put(&[dependency.function.number(), dependency.index]);
                put(&dependency.version.to_le_bytes());
                put(&target_id.to_le_bytes());
                [&[]; 2]
            }
            Self::Hash(hash) => {
                put(&hash.header()?);
                [hash.digest, &[]]
            }
            Self::AssetDependency(AssetDependency { hash, name }) => {
                put(&hash.header()?);
                [hash.digest, name]
            }
            Self::SecurityMode { mode, certificate } => {
                put(&[mode]);
                [certificate, &[]]
            }
            Self::AssetType { asset_type, reserved } => {
                put(&[asset_type, reserved]);
                [&[]; 2]
            }
        };
        Ok((len, tail))
    }

    /// Bytes of the extension, header included.
    ///
    /// # Errors
    /// [`ExtensionEncodeError::TooLong`] if that or the length of a digest does not fit its field.
    pub fn encoded_len(&self) -> Result<usize, ExtensionEncodeError> {
        let (fixed, [first, second]) = self.pieces(&mut [0; 12])?;
        let len = (Self::HEADER_LEN + fixed).saturating_add(first.len()).saturating_add(second.len());
        if len > u16::MAX.into() { Err(ExtensionEncodeError::TooLong { len }) } else { Ok(len) }
    }

    /// Writes the extension to the start of `out` and returns it.
    ///
    /// # Errors
    /// [`ExtensionEncodeError`].
    pub fn encode_into<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], ExtensionEncodeError> {
        let needed = self.encoded_len()?;
        let available = out.len();
        let Some(place) = out.get_mut(..needed) else {
            return Err(ExtensionEncodeError::BufferTooSmall { needed, available });
        };
        let mut fixed = [0; 12];
        let (len, [first, second]) = self.pieces(&mut fixed)?;
        let kind = self.kind().to_le_bytes();
        let length =
            u16::try_from(needed).map_err(|_| ExtensionEncodeError::TooLong { len: needed })?.to_le_bytes();
        let all = [&kind[..], &length, fixed.get(..len).unwrap_or_default(), first, second];
        for (place, byte) in place.iter_mut().zip(all.into_iter().flatten()) {
            *place = *byte;
        }
        Ok(place)
    }

    /// Appends the extension.
    ///
    /// # Errors
    /// [`ExtensionEncodeError::TooLong`].
    #[cfg(feature = "alloc")]
    pub fn append_to(&self, out: &mut alloc::vec::Vec<u8>) -> Result<(), ExtensionEncodeError> {
        let at = out.len();
        out.resize(at.saturating_add(self.encoded_len()?), 0);
        self.encode_into(out.get_mut(at..).unwrap_or_default()).map(|_| ())
    }
}

impl ModuleHash<'_> {
    fn header(&self) -> Result<[u8; 2], ExtensionEncodeError> {
        let len = self.digest.len();
        Ok([self.hash_type, u8::try_from(len).map_err(|_| ExtensionEncodeError::TooLong { len })?])
    }
}

fn exactly<const N: usize>(data: &[u8]) -> Option<[u8; N]> {
    data.try_into().ok()
}

fn hash(data: &[u8]) -> Option<(ModuleHash<'_>, &[u8])> {
    let [hash_type, len, rest @ ..] = data else { return None };
    let (digest, rest) = rest.split_at_checked(usize::from(*len))?;
    Some((ModuleHash { hash_type: *hash_type, digest }, rest))
}

/// `name`, as text where it is.
impl fmt::Display for AssetDependency<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            if chunk.invalid().is_empty() { Ok(()) } else { f.write_str("\u{fffd}") }
        })
    }
}

/// An extension where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PlacedExtension<'a> {
    /// Where its header begins in the module.
    pub offset: usize,
    /// What it says.
    pub extension: Extension<'a>,
}

/// The extensions of one area; ends with [`Extension::End`], or where the area does.
///
/// At most one item per four bytes. Nothing comes after an error.
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    rest: &'a [u8],
    offset: usize,
    /// The area has no other end than that of the list.
    needs_end: bool,
    ended: bool,
}

impl<'a> Extensions<'a> {
    pub(super) const NONE: Self = Self { rest: &[], offset: 0, needs_end: false, ended: true };

    pub(super) const fn new(area: &'a [u8], offset: usize, needs_end: bool) -> Self {
        Self { rest: area, offset, needs_end, ended: false }
    }

    /// Bytes behind what was read so far; after the end of the list, what the area still holds.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Where [`rest`](Self::rest) begins in the module.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    fn read(&mut self) -> Result<Option<PlacedExtension<'a>>, ExtensionError> {
        let (offset, available) = (self.offset, self.rest.len());
        let truncated = |length| ExtensionError::Truncated { offset, length, available };
        if available == 0 {
            return if self.needs_end { Err(ExtensionError::NoEnd { offset }) } else { Ok(None) };
        }
        let Some(([k0, k1, l0, l1], _)) = self.rest.split_first_chunk() else {
            return Err(truncated(Extension::HEADER_LEN));
        };
        let (kind, length) = (u16::from_le_bytes([*k0, *k1]), u16::from_le_bytes([*l0, *l1]));
        if kind == Extension::INVALID {
            return if self.needs_end { Err(ExtensionError::NoEnd { offset }) } else { Ok(None) };
        }
        if usize::from(length) < Extension::HEADER_LEN {
            return Err(ExtensionError::BadLength { offset, length });
        }
        let Some((raw, rest)) = self.rest.split_at_checked(length.into()) else {
            return Err(truncated(length.into()));
        };
        let data = raw.get(Extension::HEADER_LEN..).unwrap_or_default();
        let extension = Extension::decode(kind, data).ok_or(ExtensionError::Malformed { offset, kind })?;
        self.ended = matches!(extension, Extension::End(_));
        (self.rest, self.offset) = (rest, offset + raw.len());
        Ok(Some(PlacedExtension { offset, extension }))
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Result<PlacedExtension<'a>, ExtensionError>;

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

impl FusedIterator for Extensions<'_> {}

#[cfg(test)]
mod tests;
