//! Writes DfuSe files.

use super::{
    ELEMENT_HEADER_LEN, Element, MAX_NAME_LEN, PREFIX_LEN, SIGNATURE, TARGET_PREFIX_LEN, TARGET_SIGNATURE,
    VERSION,
};
use crate::error::BufferTooSmall;
use crate::file::suffix::{DFUSE_VERSION, Suffix};

/// One target to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "meant to be written as a literal")]
pub struct TargetImage<'a> {
    /// `bAlternateSetting`.
    pub alternate: u8,
    /// The name without NUL, at most 255 bytes. Other programs write "ST...".
    pub name: Option<&'a [u8]>,
    /// At least one.
    pub elements: &'a [Element<'a>],
}

/// A DfuSe file to be written, without a heap; `Builder` (feature `alloc`) is the form with one.
///
/// ```
/// use spark_dfu::file::dfuse::{DfuSeFile, Element, Image, TargetImage};
/// let elements = [Element { address: 0x080A_0000, data: b"application" }];
/// let targets = [TargetImage { alternate: 0, name: Some(b"Internal Flash"), elements: &elements }];
/// let image = Image::new(0x2B04, 0xD006, &targets);
/// let mut out = [0; 512];
/// let file = image.encode_into(&mut out)?;
/// assert_eq!(DfuSeFile::parse(file)?.targets().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the format fixes the fields")]
pub struct Image<'a> {
    /// `idVendor`; 0xFFFF any.
    pub id_vendor: u16,
    /// `idProduct`; 0xFFFF any.
    pub id_product: u16,
    /// `bcdDevice`. ST's and micropython's programs write 0, dfu-suffix 0xFFFF.
    pub bcd_device: u16,
    /// One to 255 targets.
    pub targets: &'a [TargetImage<'a>],
}

impl<'a> Image<'a> {
    /// A file for one device, with `bcdDevice` 0.
    #[must_use]
    pub const fn new(id_vendor: u16, id_product: u16, targets: &'a [TargetImage<'a>]) -> Self {
        Self { id_vendor, id_product, bcd_device: 0, targets }
    }

    /// Length of the file in bytes.
    ///
    /// # Errors
    /// See [`EncodeError`]; everything but the buffer is checked here.
    pub fn encoded_len(&self) -> Result<usize, EncodeError> {
        let count = self.targets.len();
        if count == 0 {
            return Err(EncodeError::NoTargets);
        }
        if count > usize::from(u8::MAX) {
            return Err(EncodeError::TooManyTargets { count });
        }
        let mut len = (PREFIX_LEN + Suffix::ENCODED_LEN) as u64;
        for (number, target) in (0..=u8::MAX).zip(self.targets) {
            len =
                len.saturating_add(TARGET_PREFIX_LEN as u64).saturating_add(u64::from(target.size(number)?));
        }
        // The field holds the length without suffix; so this refuses a little early.
        let fits = u32::try_from(len).ok().and_then(|len| usize::try_from(len).ok());
        fits.ok_or(EncodeError::TooLarge { len })
    }

    /// Encodes the file at the start of `out`. `DFUImageSize` counts the file without suffix.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn encode_into<'o>(&self, out: &'o mut [u8]) -> Result<&'o [u8], EncodeError> {
        let (needed, available) = (self.encoded_len()?, out.len());
        let small = EncodeError::Buffer(BufferTooSmall { needed, available });
        let target = out.get_mut(..needed).ok_or(small)?;
        let (content, end) = target.split_last_chunk_mut().ok_or(small)?;
        let mut rest = &mut *content;
        self.put(&mut |bytes| {
            if let Some((place, after)) = core::mem::take(&mut rest).split_at_mut_checked(bytes.len()) {
                place.copy_from_slice(bytes);
                rest = after;
            }
        })?;
        *end = self.suffix().encode(content);
        Ok(target)
    }

    /// The file in a new vector.
    ///
    /// # Errors
    /// See [`EncodeError`].
    #[cfg(feature = "alloc")]
    pub fn to_vec(&self) -> Result<alloc::vec::Vec<u8>, EncodeError> {
        let mut file = alloc::vec::Vec::with_capacity(self.encoded_len()?);
        self.put(&mut |bytes| file.extend_from_slice(bytes))?;
        let suffix = self.suffix().encode(&file);
        file.extend_from_slice(&suffix);
        Ok(file)
    }

    const fn suffix(&self) -> Suffix {
        let Self { id_vendor, id_product, bcd_device, .. } = *self;
        Suffix { bcd_device, id_product, id_vendor, bcd_dfu: DFUSE_VERSION }
    }

    /// Everything but the suffix.
    fn put(&self, put: &mut dyn FnMut(&[u8])) -> Result<(), EncodeError> {
        let len = self.encoded_len()?.saturating_sub(Suffix::ENCODED_LEN);
        put(&SIGNATURE);
        put(&[VERSION]);
        put(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        put(&[u8::try_from(self.targets.len()).unwrap_or(u8::MAX)]);
        for (number, target) in (0..=u8::MAX).zip(self.targets) {
            let name = target.name.unwrap_or_default();
            put(&TARGET_SIGNATURE);
            put(&[target.alternate, u8::from(target.name.is_some()), 0, 0, 0]);
            put(name);
            put([0; MAX_NAME_LEN].get(name.len()..).unwrap_or_default());
            put(&target.size(number)?.to_le_bytes());
            put(&u32::try_from(target.elements.len()).unwrap_or(u32::MAX).to_le_bytes());
            for element in target.elements {
                put(&element.address.to_le_bytes());
                put(&u32::try_from(element.data.len()).unwrap_or(u32::MAX).to_le_bytes());
                put(element.data);
            }
        }
        Ok(())
    }
}

impl TargetImage<'_> {
    /// `dwTargetSize`, if everything else is right as well.
    fn size(&self, target: u8) -> Result<u32, EncodeError> {
        if self.elements.is_empty() {
            return Err(EncodeError::NoElements { target });
        }
        let name = self.name.unwrap_or_default();
        if name.len() > MAX_NAME_LEN || name.contains(&0) {
            return Err(EncodeError::Name { target, len: name.len() });
        }
        let mut size = 0_u64;
        for &Element { address, data } in self.elements {
            if u64::from(address) + data.len() as u64 > 1 << 32 {
                return Err(EncodeError::BeyondAddressSpace { target, address, len: data.len() });
            }
            size = size.saturating_add((ELEMENT_HEADER_LEN + data.len()) as u64);
        }
        u32::try_from(size).map_err(|_| EncodeError::TooLarge { len: size })
    }
}

/// A DfuSe file that is put together or changed step by step. It borrows the data.
///
/// ```
/// use spark_dfu::file::dfuse::{Builder, DfuSeFile};
/// let mut builder = Builder::new(0x0483, 0xDF11);
/// builder.target(0, Some(b"ST...")).element(0x0800_0000, b"boot").element(0x0802_0000, b"code");
/// let bytes = builder.to_vec()?;
///
/// // The same file for another device, with one more target.
/// let mut builder = Builder::from_file(&DfuSeFile::parse(&bytes)?);
/// (builder.id_vendor, builder.id_product) = (0x2B04, 0xD006);
/// builder.target(1, None).element(34, b"key");
/// assert_eq!(DfuSeFile::parse(&builder.to_vec()?)?.targets().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Builder<'a> {
    /// `idVendor`; 0xFFFF any.
    pub id_vendor: u16,
    /// `idProduct`; 0xFFFF any.
    pub id_product: u16,
    /// `bcdDevice`.
    pub bcd_device: u16,
    /// The targets in the order of the file.
    pub targets: alloc::vec::Vec<TargetBuilder<'a>>,
}

/// One target of a [`Builder`].
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TargetBuilder<'a> {
    /// `bAlternateSetting`.
    pub alternate: u8,
    /// The name without NUL, at most 255 bytes.
    pub name: Option<&'a [u8]>,
    /// The elements in the order of the file.
    pub elements: alloc::vec::Vec<Element<'a>>,
}

#[cfg(feature = "alloc")]
impl<'a> Builder<'a> {
    /// A file for one device without targets yet, with `bcdDevice` 0.
    #[must_use]
    pub const fn new(id_vendor: u16, id_product: u16) -> Self {
        Self { id_vendor, id_product, bcd_device: 0, targets: alloc::vec::Vec::new() }
    }

    /// Everything a file says. What is written from it is the same file, but for `DFUImageSize` where that counts the
    /// suffix, bytes after the NUL of a name, values of `bTargetNamed` other than 0 and 1, and extra vendor bytes of
    /// the suffix.
    #[must_use]
    pub fn from_file(file: &super::DfuSeFile<'a>) -> Self {
        let suffix = file.suffix().suffix;
        let targets = file.targets().map(|target| TargetBuilder {
            alternate: target.alternate(),
            name: target.name(),
            elements: target.elements().collect(),
        });
        Self {
            id_vendor: suffix.id_vendor,
            id_product: suffix.id_product,
            bcd_device: suffix.bcd_device,
            targets: targets.collect(),
        }
    }

    /// Adds a target; give it at least one element.
    pub fn target(&mut self, alternate: u8, name: Option<&'a [u8]>) -> &mut TargetBuilder<'a> {
        self.targets.push_mut(TargetBuilder { alternate, name, elements: alloc::vec::Vec::new() })
    }

    /// Encodes the file.
    ///
    /// # Errors
    /// See [`EncodeError`].
    pub fn to_vec(&self) -> Result<alloc::vec::Vec<u8>, EncodeError> {
        let targets: alloc::vec::Vec<_> = self.targets.iter().map(TargetBuilder::as_image).collect();
        let Self { id_vendor, id_product, bcd_device, .. } = *self;
        Image { id_vendor, id_product, bcd_device, targets: &targets }.to_vec()
    }
}

#[cfg(feature = "alloc")]
impl<'a> TargetBuilder<'a> {
    /// Adds an element.
    pub fn element(&mut self, address: u32, data: &'a [u8]) -> &mut Self {
        self.elements.push(Element { address, data });
        self
    }

    fn as_image(&self) -> TargetImage<'_> {
        TargetImage { alternate: self.alternate, name: self.name, elements: &self.elements }
    }
}

/// A DfuSe file cannot be written so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// There is no target.
    #[error("a DfuSe file has at least one target")]
    NoTargets,
    /// More than one byte can count.
    #[error("a DfuSe file has at most 255 targets, not {count}")]
    TooManyTargets {
        /// How many there are.
        count: usize,
    },
    /// A target has no element.
    #[error("target {target} needs at least one element")]
    NoElements {
        /// Which target, from 0.
        target: u8,
    },
    /// A name is too long or holds a NUL, which would cut it.
    #[error("the name of target {target}, {len} bytes, must have at most 255 bytes and no NUL")]
    Name {
        /// Which target, from 0.
        target: u8,
        /// Bytes of the name.
        len: usize,
    },
    /// An element ends after 4 GiB.
    #[error("the {len} bytes at {address:#010x} of target {target} reach beyond 4 GiB")]
    BeyondAddressSpace {
        /// Which target, from 0.
        target: u8,
        /// Address of the element.
        address: u32,
        /// Bytes of the element.
        len: usize,
    },
    /// The size fields cannot hold it.
    #[error("a file or target of {len} bytes is too large for the size fields of DfuSe")]
    TooLarge {
        /// Bytes of the file or target.
        len: u64,
    },
    /// The output is too small.
    #[error(transparent)]
    Buffer(#[from] BufferTooSmall),
}
