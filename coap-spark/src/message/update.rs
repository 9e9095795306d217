//! Firmware update messages: their layout. The sequences are in the crate `spark-ota`.

use super::DecodeError;
use crate::coap::{Message, OptionNumber, WriteError, Writer};

/// Where an image goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Store(pub u8);

impl Store {
    /// The OTA region.
    pub const FIRMWARE: Self = Self(0);
    /// External flash; unsupported by every device since 0.4.0.
    pub const SYSTEM: Self = Self(1);
    /// The application decides; unsupported by every device since 0.4.0.
    pub const APPLICATION: Self = Self(128);
}

/// Payload of `UpdateBegin` and `SaveBegin`, 12 bytes, big-endian.
///
/// | off | size | field |
/// |---|---|---|
/// | 0 | 1 | flags, bit 0: the server offers fast mode |
/// | 1 | 2 | chunk size |
/// | 3 | 4 | file length |
/// | 7 | 1 | store |
/// | 8 | 4 | address: an offset into the OTA region, 0 for firmware |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UpdateBegin {
    /// Bit 0: fast mode offered.
    pub flags: u8,
    /// Bytes per chunk; 0 stands for the device's default of 512.
    pub chunk_size: u16,
    /// Bytes of the image; 0 stands for the size of the OTA region.
    pub file_length: u32,
    /// Where it goes.
    pub store: Store,
    /// Offset into the OTA region.
    pub address: u32,
}

impl UpdateBegin {
    const LEN: usize = 12;

    /// What devices read when the payload is missing.
    pub const EMPTY: Self =
        Self { flags: 0, chunk_size: 0, file_length: 0, store: Store::FIRMWARE, address: 0 };

    pub(super) fn decode(payload: Option<&[u8]>) -> Result<Self, DecodeError> {
        let Some(payload) = payload.filter(|payload| !payload.is_empty()) else {
            return Ok(Self::EMPTY);
        };
        let &[flags, c0, c1, l0, l1, l2, l3, store, a0, a1, a2, a3] = <&[u8; Self::LEN]>::try_from(payload)
            .map_err(|_| DecodeError::Field {
            field: "UpdateBegin payload",
            expected: "0 or 12",
            found: payload.len(),
        })?;
        Ok(Self {
            flags,
            chunk_size: u16::from_be_bytes([c0, c1]),
            file_length: u32::from_be_bytes([l0, l1, l2, l3]),
            store: Store(store),
            address: u32::from_be_bytes([a0, a1, a2, a3]),
        })
    }

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        let [c0, c1] = self.chunk_size.to_be_bytes();
        let [l0, l1, l2, l3] = self.file_length.to_be_bytes();
        let [a0, a1, a2, a3] = self.address.to_be_bytes();
        [self.flags, c0, c1, l0, l1, l2, l3, self.store.0, a0, a1, a2, a3]
    }
}

/// Payload of the answer with which a device is ready for an update: one byte of flags in a NON 2.04.
///
/// A refusal is another message: 4.00 without a token up to 1.1, 5.03 with the token later, both acknowledgements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UpdateReady(pub u8);

impl UpdateReady {
    /// Fast mode: the server sends all chunks without waiting.
    pub const FAST: Self = Self(1);
    /// Each chunk waits for its answer.
    pub const SLOW: Self = Self(0);

    /// Bit 0 is set.
    #[must_use]
    pub const fn is_fast(self) -> bool {
        self.0 & 1 != 0
    }
}

/// How an update ended: the answer to `UpdateDone`.
///
/// | code | payload |
/// |---|---|
/// | 2.04 complete, 4.00 not | none up to 0.6.x, then JSON such as `{"r":"ok"}` |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UpdateResult<'a> {
    /// The image is complete and was accepted.
    pub is_success: bool,
    /// The result as JSON; empty before 0.7.0.
    pub json: &'a [u8],
}

/// One chunk of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Chunk<'a> {
    /// CRC-32/ISO-HDLC over `data`.
    pub crc: u32,
    /// Position in fast mode; its presence alone makes the chunk a fast one.
    pub index: Option<u16>,
    /// The bytes.
    pub data: &'a [u8],
}

impl<'a> Chunk<'a> {
    pub(super) fn decode(message: &Message<'a>) -> Result<Self, DecodeError> {
        let mut queries = message.values(OptionNumber::URI_QUERY);
        let field = |field, expected, value: Option<&[u8]>| DecodeError::Field {
            field,
            expected,
            found: value.map_or(0, <[u8]>::len),
        };
        let crc = queries.next();
        let crc = crc
            .and_then(|value| <[u8; 4]>::try_from(value).ok())
            .ok_or_else(|| field("chunk CRC", "4", crc))?;
        let index = match queries.next() {
            None => None,
            Some(value) => Some(
                <[u8; 2]>::try_from(value)
                    .map(u16::from_be_bytes)
                    .map_err(|_| field("chunk index", "2", Some(value)))?,
            ),
        };
        Ok(Self { crc: u32::from_be_bytes(crc), index, data: message.payload().unwrap_or_default() })
    }

    pub(super) fn write<'b>(&self, mut writer: Writer<'b>) -> Result<&'b [u8], WriteError> {
        writer.option(OptionNumber::URI_QUERY, &self.crc.to_be_bytes())?;
        if let Some(index) = self.index {
            writer.option(OptionNumber::URI_QUERY, &index.to_be_bytes())?;
        }
        writer.payload(self.data)
    }
}

/// The chunk indices of a `ChunkMissed` message: 16-bit, big-endian, ascending; up to 50 in one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Indices<'a> {
    bytes: &'a [u8],
}

impl<'a> Indices<'a> {
    /// Takes the wire form: an even number of bytes.
    ///
    /// # Errors
    /// [`DecodeError::Field`] for an odd length.
    pub const fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.len().is_multiple_of(2) {
            Ok(Self { bytes })
        } else {
            let (expected, found) = ("an even number", bytes.len());
            Err(DecodeError::Field { field: "list of missed chunks", expected, found })
        }
    }

    /// Puts indices into wire form in a buffer of two bytes each; those that do not fit are left out, which is
    /// harmless: the device asks again.
    pub fn encode_into(indices: impl Iterator<Item = u16>, out: &'a mut [u8]) -> Self {
        let mut len = 0;
        for (pair, index) in out.as_chunks_mut::<2>().0.iter_mut().zip(indices) {
            *pair = index.to_be_bytes();
            len += 2;
        }
        Self { bytes: out.get(..len).unwrap_or_default() }
    }

    /// The wire form.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The indices in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u16> + Clone + use<'a> {
        self.bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair))
    }
}
