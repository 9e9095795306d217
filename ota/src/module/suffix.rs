//! What a module ends with.

/// Product fields of a module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Product {
    /// Product id; 0xffff if the module belongs to none.
    pub id: u16,
    /// Version of the product's firmware.
    pub version: u16,
}

impl Product {
    /// Belongs to no product.
    pub const NONE: Self = Self { id: 0xffff, version: 0xffff };

    /// Belongs to no product.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.id == 0xffff
    }

    /// From four bytes: id, version, little-endian.
    #[must_use]
    pub const fn decode(raw: [u8; 4]) -> Self {
        let [i0, i1, v0, v1] = raw;
        Self { id: u16::from_le_bytes([i0, i1]), version: u16::from_le_bytes([v0, v1]) }
    }

    /// The four bytes.
    #[must_use]
    pub const fn encode(&self) -> [u8; 4] {
        let ([i0, i1], [v0, v1]) = (self.id.to_le_bytes(), self.version.to_le_bytes());
        [i0, i1, v0, v1]
    }
}

/// The suffix of a module.
///
/// | offset from the end address | size | field, little-endian |
/// |---|---|---|
/// | −40 | 2 | product id, only if the size is 40 |
/// | −38 | 2 | product version, only if the size is 40 |
/// | −36 | 2 | reserved |
/// | −34 | 32 | SHA-256 over everything before it |
/// | −2 | 2 | size of the suffix: 36, 40, or more with extensions |
///
/// Sizes above 40 mean [extensions](super::Extensions), which begin where the suffix of that size begins; product fields are
/// then among or behind them, see [`Module::product`](super::Module::product). Size 0xffff is a blank suffix, seen in padded factory bootloaders.
///
/// # Source
/// device-os@v2.3.1: `module_info_suffix_t` in `module_info.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Suffix {
    /// Product fields, if the suffix has the size that includes them.
    pub product: Option<Product>,
    /// Reserved.
    pub reserved: u16,
    /// SHA-256 as stored.
    pub sha256: [u8; 32],
    /// Size as stored.
    pub size: u16,
}

impl Suffix {
    /// Bytes of the part that every suffix has.
    pub const LEN: usize = 36;
    /// Bytes with product fields.
    pub const LEN_WITH_PRODUCT: usize = 40;
    /// Where the SHA-256 lies before the end address; it covers everything before itself.
    pub const SHA256_FROM_END: usize = 34;

    const SIZE_WITH_PRODUCT: u16 = 40;

    /// Reads the 40 bytes before the end address.
    #[must_use]
    pub fn decode(raw: &[u8; Self::LEN_WITH_PRODUCT]) -> Self {
        let [i0, i1, v0, v1, r0, r1, rest @ ..] = raw;
        let (sha256, size) = rest.split_last_chunk().unwrap_or((&[], &[0; 2]));
        let size = u16::from_le_bytes(*size);
        let product = Product::decode([*i0, *i1, *v0, *v1]);
        Self {
            product: (size == Self::SIZE_WITH_PRODUCT).then_some(product),
            reserved: u16::from_le_bytes([*r0, *r1]),
            sha256: sha256.first_chunk().copied().unwrap_or_default(),
            size,
        }
    }

    /// The bytes before the end address; the first four of them belong to the body unless the size is 40.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN_WITH_PRODUCT] {
        let product = self.product.unwrap_or(Product::NONE);
        let fields: [&[u8]; 4] =
            [&product.encode(), &self.reserved.to_le_bytes(), &self.sha256, &self.size.to_le_bytes()];
        let mut raw = [0; Self::LEN_WITH_PRODUCT];
        for (place, byte) in raw.iter_mut().zip(fields.into_iter().flatten()) {
            *place = *byte;
        }
        raw
    }

    /// What the linker leaves where the SHA-256 belongs: 1, 2, … 32.
    pub const UNFINISHED_SHA256: [u8; 32] = {
        let mut sha256 = [0; 32];
        let mut at: u8 = 0;
        while at < 32 {
            sha256[at as usize] = at + 1;
            at += 1;
        }
        sha256
    };

    /// The SHA-256 was never put in.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.sha256 == Self::UNFINISHED_SHA256
    }

    /// Was never written: padding, or a build that was not finished.
    #[must_use]
    pub const fn is_blank(&self) -> bool {
        self.size == 0xffff
    }

    /// Extensions lie before this suffix.
    #[must_use]
    pub const fn has_extensions(&self) -> bool {
        self.size > Self::SIZE_WITH_PRODUCT && !self.is_blank()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn product_fields_are_there_for_size_40_only() {
        let raw = hex!(
            "d204 0500 0000"
            "069cbe1bfe5485b7e9c055a465c6a96d5ef69cd99b395caf53d313a82450e413"
            "2800"
        );
        let suffix = Suffix::decode(&raw);
        assert_eq!(suffix.product, Some(Product { id: 1234, version: 5 }));
        assert_eq!((suffix.reserved, suffix.size, suffix.sha256[31]), (0, 40, 0x13));
        assert_eq!(suffix.encode(), raw);
        for (size, blank, extensions) in [(36, false, false), (62, false, true), (0xffff, true, false)] {
            let mut raw = raw;
            raw[38..].copy_from_slice(&u16::to_le_bytes(size));
            let suffix = Suffix::decode(&raw);
            assert_eq!(
                (suffix.product, suffix.is_blank(), suffix.has_extensions()),
                (None, blank, extensions)
            );
        }
    }
}
