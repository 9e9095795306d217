//! Answers to requests, and what their payloads mean.

use super::DecodeError;
use super::describe::Description;
use super::update::{UpdateReady, UpdateResult};
use super::value::{Value, VariableType, exact};
use crate::coap::Code;

/// A response, alone or piggybacked on an acknowledgement.
///
/// What the payload means depends on the request that has the same token; one `as_…` method for each.
///
/// | request | code | payload | method |
/// |---|---|---|---|
/// | function call | 2.04 | result, 4 bytes, big-endian | [`Response::as_function_result`] |
/// | variable | 2.05 | value | [`Response::as_value`] |
/// | Describe | 2.05 | JSON or metrics | [`Response::as_description`] |
/// | signal | 2.04 | none | |
/// | time | 2.05 | Unix time in seconds, 4 bytes, big-endian | [`Response::as_time`] |
/// | update begin | 2.04 | flags, 1 byte | [`Response::as_update_ready`] |
/// | chunk | 2.04 or 4.00 | none | [`Response::is_refusal`] |
/// | update done | 2.04 or 4.00 | JSON or nothing | [`Response::as_update_result`] |
///
/// ```
/// use coap_spark::message::{Response, ResponseError};
///
/// assert_eq!(Response::changed(&42_i32.to_be_bytes()).as_function_result(), Ok(42));
/// assert!(matches!(Response::REFUSED.as_time(), Err(ResponseError::Refused { .. })));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Response<'a> {
    /// Class 2, 4 or 5; 0.04 from the Brewskey server, see [`Response::is_refusal`].
    pub code: Code,
    /// What the request asked for.
    pub payload: &'a [u8],
}

/// Why a response is not the answer that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The peer refused or failed.
    #[error("the request was refused with {code}")]
    Refused {
        /// With this code.
        code: Code,
    },
    /// The payload is not of the form that the request asks for.
    #[error(transparent)]
    Payload(#[from] DecodeError),
}

impl<'a> Response<'a> {
    /// 4.00 and nothing else: no, whatever it was.
    pub const REFUSED: Self = Self { code: Code::BAD_REQUEST, payload: &[] };

    /// 2.04: it was done. The result of a function goes in as `&result.to_be_bytes()`.
    #[must_use]
    pub const fn changed(payload: &'a [u8]) -> Self {
        Self { code: Code::CHANGED, payload }
    }

    /// 2.05: here it is. The time goes in as `&unix_seconds.to_be_bytes()`; devices take any 2.05 for the time.
    #[must_use]
    pub const fn content(payload: &'a [u8]) -> Self {
        Self { code: Code::CONTENT, payload }
    }

    /// What a device says to a chunk: 2.04 if its CRC was right, else 4.00.
    #[must_use]
    pub const fn chunk_received(good: bool) -> Self {
        if good { Self::changed(&[]) } else { Self::REFUSED }
    }

    /// Class 4 or 5, or the code byte 04.
    ///
    /// The Brewskey server makes its refusals (of a subscription, an event, an update) of the number 4 instead of
    /// 4.00, so they carry [`Code::DELETE`]. They are read here; emitting such a response emits 4.00.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        self.code.is_error() || self.code.0 == Code::DELETE.0
    }

    fn granted(&self) -> Result<&'a [u8], ResponseError> {
        if self.is_refusal() { Err(ResponseError::Refused { code: self.code }) } else { Ok(self.payload) }
    }

    /// What a function returned.
    ///
    /// # Errors
    /// [`ResponseError`]; the result has 4 bytes.
    pub fn as_function_result(&self) -> Result<i32, ResponseError> {
        Ok(i32::from_be_bytes(exact("function result", "4", self.granted()?)?))
    }

    /// The value of a variable of the type that Describe said.
    ///
    /// # Errors
    /// [`ResponseError`]; see [`Value::decode`].
    pub fn as_value(&self, kind: VariableType) -> Result<Value<'a>, ResponseError> {
        Ok(Value::decode(kind, self.granted()?)?)
    }

    /// Unix time in seconds.
    ///
    /// # Errors
    /// [`ResponseError`]; the time has 4 bytes.
    pub fn as_time(&self) -> Result<u32, ResponseError> {
        Ok(u32::from_be_bytes(exact("time", "4", self.granted()?)?))
    }

    /// What a device has and runs.
    ///
    /// # Errors
    /// [`ResponseError`]; see [`Description::decode`].
    pub fn as_description(&self) -> Result<Description<'a>, ResponseError> {
        Ok(Description::decode(self.granted()?)?)
    }

    /// How a device wants its chunks, after update begin.
    ///
    /// # Errors
    /// [`ResponseError`]; the flags have 1 byte.
    pub fn as_update_ready(&self) -> Result<UpdateReady, ResponseError> {
        let [flags] = exact("update ready flags", "1", self.granted()?)?;
        Ok(UpdateReady(flags))
    }

    /// How an update ended. A refusal is an answer here: it says that the update failed.
    #[must_use]
    pub const fn as_update_result(&self) -> UpdateResult<'a> {
        UpdateResult { is_success: !self.is_refusal(), json: self.payload }
    }

    /// The code to emit: never the 0.04 of the Brewskey server.
    pub(super) const fn emitted_code(&self) -> Code {
        if self.code.0 == Code::DELETE.0 { Code::BAD_REQUEST } else { self.code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_name_field_and_lengths_when_they_are_too_short_or_too_long() {
        let bytes = [0, 0, 0, 42, 0];
        for found in [0, 1, 3, 5] {
            let response = Response::content(&bytes[..found]);
            let wrong = |field| ResponseError::Payload(DecodeError::Field { field, expected: "4", found });
            assert_eq!(response.as_function_result(), Err(wrong("function result")));
            assert_eq!(response.as_time(), Err(wrong("time")));
            assert_eq!(response.as_value(VariableType::Int), Err(wrong("int variable")));
        }
        let response = Response::content(&bytes[..4]);
        assert_eq!((response.as_function_result(), response.as_time()), (Ok(42), Ok(42)));
        assert!(response.as_update_ready().is_err());
        assert_eq!(Response::changed(&[1]).as_update_ready(), Ok(UpdateReady::FAST));
    }

    #[test]
    fn code_byte_04_is_a_refusal() {
        for (code, is_refusal) in [
            (Code(0x04), true),
            (Code::BAD_REQUEST, true),
            (Code::NOT_FOUND, true),
            (Code::SERVICE_UNAVAILABLE, true),
            (Code::CHANGED, false),
            (Code::CONTENT, false),
        ] {
            let response = Response { code, payload: b"1234" };
            assert_eq!(response.is_refusal(), is_refusal);
            assert_eq!(response.as_time() == Err(ResponseError::Refused { code }), is_refusal);
            assert_eq!(response.as_update_result().is_success, !is_refusal);
        }
    }
}
