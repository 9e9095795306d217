//! Variable values: four types, each with its wire form.

use super::{DecodeError, EncodeError};
use crate::coap::WriteError;

/// Type of a variable, as Describe numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(
    any(feature = "serde", feature = "json", feature = "json-core"),
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "u8", into = "u8")
)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum VariableType {
    /// 1: one byte, 00 or 01.
    Bool,
    /// 2: 32 bits, signed, big-endian.
    Int,
    /// 4: bytes to the end of the payload.
    String,
    /// 9: IEEE 754, 64 bits, little-endian.
    Double,
    /// Any other number.
    Other(u8),
}

impl From<u8> for VariableType {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Bool,
            2 => Self::Int,
            4 => Self::String,
            9 => Self::Double,
            _ => Self::Other(number),
        }
    }
}

impl From<VariableType> for u8 {
    fn from(kind: VariableType) -> Self {
        match kind {
            VariableType::Bool => 1,
            VariableType::Int => 2,
            VariableType::String => 4,
            VariableType::Double => 9,
            VariableType::Other(number) => number,
        }
    }
}

/// Value of a variable, the payload of the answer to a variable request.
///
/// | type | number | bytes |
/// |---|---|---|
/// | bool | 1 | 1: 00 or 01 |
/// | int | 2 | 4, big-endian |
/// | string | 4 | the text, no terminator |
/// | double | 9 | 8, **little-endian** IEEE 754 |
///
/// The bytes do not tell the type: it is known from Describe only. Without it, treat them as bytes.
///
/// ```
/// use coap_spark::message::{Value, VariableType};
///
/// let value = Value::decode(VariableType::Int, &[0xff, 0xfe, 0x1d, 0xc0])?;
/// assert_eq!(value, Value::Int(-123_456));
/// assert_eq!(value.encode_into(&mut [0; 8])?, [0xff, 0xfe, 0x1d, 0xc0]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// # Source
/// device-os@v2.3.1: `communication/src/variables.cpp`; seen on the wire of 0.4.9, 0.6.1, 0.7.0 and 2.3.1.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Value<'a> {
    /// A bool.
    Bool(bool),
    /// An int.
    Int(i32),
    /// A string: what the application wrote, any bytes, cut to the device's buffer.
    String(&'a [u8]),
    /// A double.
    Double(f64),
    /// A type without a known wire form.
    Other {
        /// Its number.
        number: u8,
        /// The payload.
        bytes: &'a [u8],
    },
}

impl<'a> Value<'a> {
    /// Reads a payload as `kind`. Every byte but 00 is `true`.
    ///
    /// # Errors
    /// [`DecodeError::Field`] if a bool is not 1, an int not 4 or a double not 8 bytes long.
    pub fn decode(kind: VariableType, payload: &'a [u8]) -> Result<Self, DecodeError> {
        Ok(match kind {
            VariableType::Bool => Self::Bool(exact::<1>("bool variable", "1", payload)? != [0]),
            VariableType::Int => Self::Int(i32::from_be_bytes(exact("int variable", "4", payload)?)),
            VariableType::String => Self::String(payload),
            VariableType::Double => Self::Double(f64::from_le_bytes(exact("double variable", "8", payload)?)),
            VariableType::Other(number) => Self::Other { number, bytes: payload },
        })
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> VariableType {
        match self {
            Self::Bool(_) => VariableType::Bool,
            Self::Int(_) => VariableType::Int,
            Self::String(_) => VariableType::String,
            Self::Double(_) => VariableType::Double,
            Self::Other { number, .. } => VariableType::Other(*number),
        }
    }

    /// Bytes that [`Value::encode_into`] writes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Int(_) => 4,
            Self::Double(_) => 8,
            Self::String(bytes) | Self::Other { bytes, .. } => bytes.len(),
        }
    }

    /// Emits the payload. Devices cut strings to their buffer: 800 - 18 bytes up to 0.7.0, about 777 later.
    ///
    /// # Errors
    /// [`WriteError::BufferTooSmall`].
    pub fn encode_into<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], EncodeError> {
        let (needed, available) = (self.encoded_len(), out.len());
        let out = out
            .get_mut(..needed)
            .ok_or(EncodeError::Write(WriteError::BufferTooSmall { needed, available }))?;
        match self {
            Self::Bool(value) => out.copy_from_slice(&[u8::from(*value)]),
            Self::Int(value) => out.copy_from_slice(&value.to_be_bytes()),
            Self::Double(value) => out.copy_from_slice(&value.to_le_bytes()),
            Self::String(bytes) | Self::Other { bytes, .. } => out.copy_from_slice(bytes),
        }
        Ok(out)
    }
}

pub(super) fn exact<const N: usize>(
    field: &'static str,
    expected: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Field { field, expected, found: bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;
    use proptest::prelude::*;

    #[test]
    fn recorded_values_read_and_write_the_same() {
        // Sent in tests/vectors/session_brewskey_v0.4.9.json.
        for (value, bytes) in [
            (Value::Int(-123_456), &hex!("fffe1dc0")[..]),
            (Value::Double(core::f64::consts::PI), &hex!("182d4454fb210940")),
            (Value::String(b"hello-world"), b"hello-world"),
            (Value::String(b""), b""),
            (Value::Bool(true), &[1]),
            (Value::Bool(false), &[0]),
            (Value::Other { number: 7, bytes: &[1, 2, 3] }, &[1, 2, 3]),
        ] {
            assert_eq!(Value::decode(value.kind(), bytes), Ok(value));
            assert_eq!(value.encode_into(&mut [0; 16]), Ok(bytes));
            assert_eq!(value.encoded_len(), bytes.len());
        }
    }

    #[test]
    fn wrong_length_names_field_and_lengths() {
        for (kind, field, expected, len) in [
            (VariableType::Bool, "bool variable", "1", 1),
            (VariableType::Int, "int variable", "4", 4),
            (VariableType::Double, "double variable", "8", 8),
        ] {
            for found in (0..12).filter(|found| *found != len) {
                let error = DecodeError::Field { field, expected, found };
                assert_eq!(Value::decode(kind, &[0; 12][..found]), Err(error));
            }
        }
    }

    #[test]
    fn buffer_one_byte_short_is_an_error() {
        let short = WriteError::BufferTooSmall { needed: 8, available: 7 };
        assert_eq!(Value::Double(1.0).encode_into(&mut [0; 7]), Err(EncodeError::Write(short)));
    }

    proptest! {
        #[test]
        fn what_decodes_is_emitted_the_same(
            number: u8, bytes in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let kind = VariableType::from(number);
            prop_assert_eq!(u8::from(kind), number);
            if let Ok(value) = Value::decode(kind, &bytes) {
                let mut out = [0; 12];
                let again = value.encode_into(&mut out).unwrap();
                // Every byte but 0 is true.
                let expected = if kind == VariableType::Bool { &[u8::from(bytes != [0])][..] } else { &bytes };
                prop_assert_eq!(again, expected);
            }
        }
    }
}
