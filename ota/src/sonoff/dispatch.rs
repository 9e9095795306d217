//! Which server a device shall use: its first request after it has joined the network.
//!
//! A device reads the answer literally: `HTTP/1.1 200 OK`, `Content-Length: ` and a blank line, at most 2048 bytes, no chunks;
//! `error` 0, `IP` and `port`, which must be a number.
//!
//! # Source
//! Firmware of the IoTgo 2.0 generation; recorded requests of SonOTA@40dba7c and simple-sonoff-server@53227a0. The latter
//! answers with the port as text, and devices of its users connect: older firmware takes that.

use super::http::{CONTENT_LENGTH, Framed, OK, framed, json_response};
use super::json::{FieldProblem, Fields, Writer, required};
use super::limits;
use super::message::{MessageError, object};
use super::secret::ApiKey;
use super::text::{DeviceId, Model, ServerName, Text, Version};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use zeroize::Zeroizing;

/// Path of the request.
pub const PATH: &str = "/dispatch/device";

/// What a device asks.
///
/// ```
/// use spark_ota::sonoff::dispatch::DispatchRequest;
///
/// let body = br#"{"accept":"ws;2","version":2,"ts":933,"deviceid":"1000abcdef",
///     "apikey":"11111111-2222-4333-8444-555555555555","model":"ITA-GZ1-GL","romVersion":"1.5.5"}"#;
/// let request = DispatchRequest::from_json(body)?;
/// assert_eq!((request.model.as_str(), request.rom_version.as_str()), ("ITA-GZ1-GL", "1.5.5"));
/// # Ok::<(), spark_ota::sonoff::message::MessageError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DispatchRequest {
    /// `accept`: `ws;2`.
    pub accept: Option<Text<16>>,
    /// `version` of the protocol: 2.
    pub version: Option<u32>,
    /// `ts`: some number, not a time.
    pub ts: Option<i64>,
    /// `deviceid`.
    pub device_id: DeviceId,
    /// `apikey`: the factory key.
    pub api_key: ApiKey,
    /// `model`.
    pub model: Model,
    /// `romVersion`.
    pub rom_version: Version,
}

impl DispatchRequest {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`MessageError`]. Answer with [`DispatchAnswer::Refused`] and 400.
    pub fn from_json(json: &[u8]) -> Result<Self, MessageError> {
        let value = object(json, limits::REQUEST_BODY)?;
        let fields = Fields(value.as_object().ok_or(MessageError::NotAnObject)?);
        let error = |field| move |problem| MessageError::Field { field, problem };
        let key = required(fields.str("apikey")).map_err(error("apikey"))?;
        Ok(Self {
            accept: fields.text("accept").map_err(error("accept"))?,
            version: fields.number("version").map_err(error("version"))?,
            ts: fields.number("ts").map_err(error("ts"))?,
            device_id: required(fields.text("deviceid")).map_err(error("deviceid"))?,
            api_key: ApiKey::new(key).map_err(FieldProblem::Text).map_err(error("apikey"))?,
            model: required(fields.text("model")).map_err(error("model"))?,
            rom_version: required(fields.text("romVersion")).map_err(error("romVersion"))?,
        })
    }

    /// The body in the order of a device. **Secret.**
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let writer = Writer::object()
            .with(self.accept.as_ref(), |writer, accept| writer.text("accept", accept.as_str()))
            .with(self.version, |writer, version| writer.number("version", version))
            .with(self.ts, |writer, ts| writer.number("ts", ts))
            .text("deviceid", self.device_id.as_str())
            .text("apikey", self.api_key.expose())
            .text("model", self.model.as_str())
            .text("romVersion", self.rom_version.as_str());
        Zeroizing::new(writer.finish())
    }

    /// The whole request. **Secret.**
    #[must_use]
    pub fn to_http(&self, host: &str) -> Zeroizing<Vec<u8>> {
        let json = self.to_json();
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{CONTENT_LENGTH}{}\r\n\r\n",
            json.len()
        );
        let mut request = Vec::with_capacity(head.len() + json.len());
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(json.as_bytes());
        Zeroizing::new(request)
    }
}

/// What a server answers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DispatchAnswer {
    /// Use this server.
    Server {
        /// `IP`: its address or name.
        ip: ServerName,
        /// Its port.
        port: u16,
    },
    /// No.
    Refused {
        /// `error`, not 0.
        error: u16,
        /// `reason`, for a log.
        reason: Text<64>,
    },
}

/// Why a device cannot use the answer to its dispatch request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DispatchError {
    /// Another first line than `HTTP/1.1 200 OK`.
    #[error("the answer does not begin with HTTP/1.1 200 OK")]
    Status,
    /// More than 2048 bytes.
    #[error("the answer has more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// The body.
    #[error("the body of the answer cannot be used")]
    Body(#[source] MessageError),
}

impl DispatchAnswer {
    /// The body.
    #[must_use]
    pub fn to_json(&self) -> String {
        match self {
            Self::Server { ip, port } => Writer::object()
                .number("error", 0)
                .text("reason", "ok")
                .text("IP", ip.as_str())
                .number("port", *port)
                .finish(),
            Self::Refused { error, reason } => {
                Writer::object().number("error", *error).text("reason", reason.as_str()).finish()
            }
        }
    }

    /// The whole answer. Its status is 200 in any case: a device looks at `error`.
    ///
    /// ```
    /// use spark_ota::sonoff::ServerName;
    /// use spark_ota::sonoff::dispatch::DispatchAnswer;
    ///
    /// let answer = DispatchAnswer::Server { ip: ServerName::new("192.168.77.10")?, port: 8443 };
    /// let bytes = answer.to_http();
    /// assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n"));
    /// assert!(bytes.ends_with(br#"{"error":0,"reason":"ok","IP":"192.168.77.10","port":8443}"#));
    /// assert_eq!(DispatchAnswer::read(&bytes, false), Ok(Some(answer)));
    /// # Ok::<(), spark_ota::sonoff::TextError>(())
    /// ```
    #[must_use]
    pub fn to_http(&self) -> Vec<u8> {
        json_response(&self.to_json(), false)
    }

    /// Reads an answer as a device does; `None` if bytes are missing. Older firmware also takes a `port_as_text`.
    ///
    /// # Errors
    /// [`DispatchError`].
    pub fn read(bytes: &[u8], port_as_text: bool) -> Result<Option<Self>, DispatchError> {
        let known = bytes.get(..OK.len()).unwrap_or(bytes);
        if !OK.as_bytes().starts_with(known) {
            return Err(DispatchError::Status);
        }
        let limit = limits::DISPATCH_ANSWER;
        let too_long = DispatchError::TooLong { limit };
        if bytes.len() > limit {
            return Err(too_long);
        }
        let Some(body) = framed(bytes) else { return Ok(None) };
        let body = match body {
            Framed::Whole(body) => body,
            Framed::Missing { total } if total > limit => return Err(too_long),
            Framed::Missing { .. } => return Ok(None),
        };
        answer(body, port_as_text).map(Some).map_err(DispatchError::Body)
    }
}

fn answer(json: &[u8], port_as_text: bool) -> Result<DispatchAnswer, MessageError> {
    let value = object(json, limits::DISPATCH_ANSWER)?;
    let fields = Fields(value.as_object().ok_or(MessageError::NotAnObject)?);
    let error = |field| move |problem| MessageError::Field { field, problem };
    let code: u16 = required(fields.number("error")).map_err(error("error"))?;
    if code != 0 {
        let reason = fields.text("reason").ok().flatten();
        let reason = reason.or_else(|| Text::new("-").ok());
        let reason = reason.ok_or(MessageError::NoKind)?;
        return Ok(DispatchAnswer::Refused { error: code, reason });
    }
    let ip = required(fields.text("IP")).map_err(error("IP"))?;
    if !port_as_text && fields.get("port").is_some_and(|port| !port.is_number()) {
        return Err(error("port")(FieldProblem::NotNumber));
    }
    let port: u16 = required(fields.number("port")).map_err(error("port"))?;
    if port == 0 {
        return Err(error("port")(FieldProblem::NotNumber));
    }
    Ok(DispatchAnswer::Server { ip, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sonoff::text::TextError;
    use proptest::prelude::*;

    fn server() -> DispatchAnswer {
        DispatchAnswer::Server { ip: Text::new("192.168.77.10").unwrap(), port: 8443 }
    }

    fn request() -> DispatchRequest {
        DispatchRequest {
            accept: Text::new("ws;2").ok(),
            version: Some(2),
            ts: Some(933),
            device_id: Text::new("1000abcdef").unwrap(),
            api_key: ApiKey::new("11111111-2222-4333-8444-555555555555").unwrap(),
            model: Text::new("ITA-GZ1-GL").unwrap(),
            rom_version: Text::new("1.5.5").unwrap(),
        }
    }

    fn http(head: &str, body: &str) -> Vec<u8> {
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[test]
    fn every_truncation_of_an_answer_needs_more() {
        let bytes = server().to_http();
        for end in 0..bytes.len() {
            assert_eq!(DispatchAnswer::read(&bytes[..end], false), Ok(None), "cut at {end}");
        }
        let refused = DispatchAnswer::Refused { error: 400, reason: Text::new("no apikey").unwrap() };
        assert_eq!(DispatchAnswer::read(&refused.to_http(), false), Ok(Some(refused)));
        let longest = DispatchAnswer::Server { ip: Text::new(&"n".repeat(50)).unwrap(), port: 65535 };
        assert!(longest.to_http().len() <= limits::DISPATCH_ANSWER);
    }

    #[test]
    fn answers_that_devices_do_not_understand_are_told_apart() {
        let body = server().to_json();
        let read = |bytes: &[u8]| DispatchAnswer::read(bytes, false);
        for status in
            ["HTTP/1.0 200 OK\r\n", "HTTP/1.1 200 ok\r\n", "HTTP/1.1 200\r\n", "HTTP/1.1 302 Found\r\n"]
        {
            assert_eq!(read(&http(status, &body)), Err(DispatchError::Status), "{status}");
        }
        let of_length = |length: usize| {
            let rest = length - http(OK, &format!("{body}{}", " ".repeat(1900))).len() + 1900;
            http(OK, &format!("{body}{}", " ".repeat(rest)))
        };
        assert_eq!(of_length(2048).len(), 2048);
        assert!(matches!(read(&of_length(2048)), Ok(Some(_))));
        assert_eq!(read(&of_length(2049)), Err(DispatchError::TooLong { limit: 2048 }));
        let long = format!("{body}{}", " ".repeat(2048));
        assert_eq!(read(&http(OK, &long)), Err(DispatchError::TooLong { limit: 2048 }));
        assert_eq!(read(&http(OK, &long)[..100]), Err(DispatchError::TooLong { limit: 2048 }));
        // Without a length in this spelling only what has come is seen.
        let other = format!("{OK}content-length: {}\r\n\r\n{}", body.len(), &body[..20]);
        let error = read(other.as_bytes()).unwrap_err();
        assert!(matches!(error, DispatchError::Body(MessageError::NotJson { .. })));
        assert_eq!(read(format!("{OK}\r\n{body}").as_bytes()), Ok(Some(server())));
        let field = |field, problem| Err(DispatchError::Body(MessageError::Field { field, problem }));
        let text = http(OK, &body.replace("8443", "\"8443\""));
        assert_eq!(read(&text), field("port", FieldProblem::NotNumber));
        assert_eq!(DispatchAnswer::read(&text, true), Ok(Some(server())));
        assert_eq!(read(&http(OK, &body.replace("8443", "0"))), field("port", FieldProblem::NotNumber));
        assert_eq!(read(&http(OK, r#"{"error":0,"port":1}"#)), field("IP", FieldProblem::Missing));
        assert_eq!(read(&http(OK, r#"{"IP":"a","port":1}"#)), field("error", FieldProblem::Missing));
        assert!(
            read(&http(OK, r#"{"error":0,"IP":"a","port":1}"#)).unwrap().is_some(),
            "reason may be absent"
        );
    }

    #[test]
    fn requests_survive_and_their_limits_hold() {
        let json = request().to_json();
        assert_eq!(DispatchRequest::from_json(json.as_bytes()), Ok(request()));
        for end in 0..json.len() {
            assert!(matches!(
                DispatchRequest::from_json(&json.as_bytes()[..end]),
                Err(MessageError::NotJson { .. })
            ));
        }
        let error = |from: &str, to: &str| match DispatchRequest::from_json(json.replace(from, to).as_bytes())
        {
            Err(MessageError::Field { field, problem }) => (field, problem),
            other => panic!("{other:?}"),
        };
        let too_long = |length, limit| FieldProblem::Text(TextError::TooLong { length, limit });
        assert_eq!(error("1000abcdef", "1000abcdef0"), ("deviceid", too_long(11, 10)));
        assert_eq!(error("ITA-GZ1-GL", &"m".repeat(21)), ("model", too_long(21, 20)));
        assert_eq!(error("romVersion", "rom"), ("romVersion", FieldProblem::Missing));
        let key = FieldProblem::Text(TextError::Length { length: 35, expected: 36 });
        assert_eq!(error("11111111-", "1111111-"), ("apikey", key));
        assert_eq!(
            DispatchRequest::from_json(&[b' '; 2049]),
            Err(MessageError::TooLong { length: 2049, limit: 2048 })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes: Vec<u8>, body in r#"[{}":a-z0-9,]{0,40}"#) {
            let _ = DispatchAnswer::read(&bytes, true);
            let _ = DispatchAnswer::read(&http(OK, &body), false);
            let _ = DispatchRequest::from_json(body.as_bytes());
        }
    }
}
