//! Opening the WebSocket.
//!
//! A device asks with a constant key and a `Host` that is not the server's, and looks for the text of the status line only.
//! The answer names no extension and no subprotocol.
//!
//! # Source
//! RFC 6455; recorded requests of SonOTA@40dba7c and simple-sonoff-server@53227a0.

use super::http::RequestHead;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use sha1::{Digest, Sha1};

/// `Sec-WebSocket-Key` of every device.
pub const DEVICE_KEY: &str = "ITEADTmobiM0x1DabcEsnw==";
/// `Sec-WebSocket-Accept` for it.
pub const DEVICE_ACCEPT: &str = "q1/L5gx6qdQ7y3UWgO/Tah/zXBA=";
/// Path that devices ask for.
pub const PATH: &str = "/api/ws";
/// All that a device looks for in the answer.
pub const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols";

/// Why a request does not open a WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HandshakeError {
    /// Another method than GET.
    #[error("a WebSocket is opened with GET")]
    Method,
    /// Another path.
    #[error("there is no WebSocket at this path; devices ask for /api/ws")]
    Path,
    /// No `Upgrade: websocket`.
    #[error("the request does not ask for a WebSocket")]
    NoUpgrade,
    /// Another version than 13.
    #[error("another version of the WebSocket protocol than 13")]
    Version,
    /// No key, or none of 16 bytes in Base64.
    #[error("the request has no usable Sec-WebSocket-Key")]
    Key,
}

/// `Sec-WebSocket-Accept` for any key.
#[must_use]
pub fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    Base64::encode_string(&hash.finalize())
}

/// The answer that opens the WebSocket, for a device or any other client.
///
/// ```
/// use spark_ota::sonoff::handshake::{DEVICE_ACCEPT, answer, request};
/// use spark_ota::sonoff::http::RequestHead;
///
/// let (head, _) = RequestHead::parse(&request())?.unwrap();
/// let answer = String::from_utf8(answer(&head)?)?;
/// assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
/// assert!(answer.contains(DEVICE_ACCEPT));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// # Errors
/// [`HandshakeError`]; answer with status 400 and close.
pub fn answer(head: &RequestHead) -> Result<Vec<u8>, HandshakeError> {
    if head.method != "GET" {
        return Err(HandshakeError::Method);
    }
    if head.path != PATH {
        return Err(HandshakeError::Path);
    }
    let names = |name, wanted: &str| {
        head.header(name)
            .is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
    };
    if !names("Upgrade", "websocket") || !names("Connection", "upgrade") {
        return Err(HandshakeError::NoUpgrade);
    }
    if head.header("Sec-WebSocket-Version") != Some("13") {
        return Err(HandshakeError::Version);
    }
    let key = head.header("Sec-WebSocket-Key").ok_or(HandshakeError::Key)?;
    let mut bytes = [0; 18];
    if Base64::decode(key, &mut bytes).map(<[u8]>::len) != Ok(16) {
        return Err(HandshakeError::Key);
    }
    let accept = accept(key);
    Ok(format!(
        "{SWITCHING}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes())
}

/// The request of a device.
#[must_use]
pub fn request() -> Vec<u8> {
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: iotgo.iteadstudio.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {DEVICE_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_that_of_the_standard_and_of_recorded_servers() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept(DEVICE_KEY), DEVICE_ACCEPT);
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        let request = String::from_utf8(request()).unwrap();
        let change = |from: &str, to: &str| {
            let (head, _) = RequestHead::parse(request.replace(from, to).as_bytes()).unwrap().unwrap();
            answer(&head).map(|_| ())
        };
        assert_eq!(change("Host", "Host"), Ok(()));
        assert_eq!(change("upgrade\r\n", "keep-alive, Upgrade\r\n"), Ok(()));
        for (from, to, expected) in [
            ("GET", "POST", HandshakeError::Method),
            ("/api/ws", "/api", HandshakeError::Path),
            ("Upgrade: websocket", "Upgrade: h2c", HandshakeError::NoUpgrade),
            ("Connection: upgrade", "Connection: close", HandshakeError::NoUpgrade),
            ("Version: 13", "Version: 8", HandshakeError::Version),
            ("Sec-WebSocket-Key", "Key", HandshakeError::Key),
            (DEVICE_KEY, "ITEADTmobiM0x1Dabc==", HandshakeError::Key),
            (DEVICE_KEY, "~", HandshakeError::Key),
        ] {
            assert_eq!(change(from, to), Err(expected), "{from} -> {to}");
        }
    }
}
