//! What is told: one value a line.

use super::Speaker;
use super::message::Reading;
use core::time::Duration;
use serde::{Serialize, Serializer};
use std::rc::Rc;

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    /// When it was captured.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub(super) at: Option<Duration>,
    /// The device's address and the server's.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "label")]
    pub(super) connection: Option<Rc<str>>,
    #[serde(rename = "direction", skip_serializing_if = "Option::is_none")]
    pub(super) speaker: Option<Speaker>,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub(super) enum What {
    /// A TCP connection is seen for the first time.
    Connection {
        /// `start`, or `middle` if its beginning is not in the capture.
        begins: &'static str,
    },
    /// Step 1 of the handshake.
    Nonce { nonce: String },
    /// Step 2. Only the server's private key tells who it is.
    Identity {
        #[serde(skip_serializing_if = "Option::is_none")]
        device_id: Option<String>,
        /// Fingerprint of the public key that the device offers.
        #[serde(skip_serializing_if = "Option::is_none")]
        offered_key: Option<String>,
    },
    /// Step 3. Only the device's private key opens it.
    Session {
        opened: bool,
        /// Whether the server whose key was given signed it.
        #[serde(skip_serializing_if = "Option::is_none")]
        signature_good: Option<bool>,
    },
    /// A message.
    Message(Box<Told>),
    /// Bytes that are not in the capture.
    Gap { offset: u64, length: u64 },
    /// Frames were found again.
    Resumed { offset: u64, skipped: u64 },
    /// What cannot be decoded, and what to do about it.
    Trouble {
        code: &'static str,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        offset: Option<u64>,
    },
    /// The connection's last line.
    End { device_frames: u64, server_frames: u64 },
}

/// A message and where it was.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frame: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<u64>,
    /// Bytes of plaintext.
    pub(super) length: usize,
    #[serde(flatten)]
    pub(super) reading: Reading,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) plaintext: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ciphertext: Option<String>,
}

impl Record {
    /// Whether it says that something could not be decoded.
    pub(super) fn is_bad(&self) -> bool {
        match &self.what {
            What::Gap { .. } | What::Trouble { .. } => true,
            What::Session { signature_good, .. } => *signature_good == Some(false),
            What::Message(told) => told.reading.problem.is_some(),
            _ => false,
        }
    }
}

/// Seconds with six decimals, which the number holds exactly enough until the year 2242.
#[allow(clippy::ref_option, reason = "serde asks for it")]
fn seconds<S: Serializer>(at: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    let micros = at.unwrap_or_default().as_micros();
    #[allow(clippy::cast_precision_loss, reason = "see above")]
    serializer.serialize_f64(micros as f64 / 1e6)
}

#[allow(clippy::ref_option, reason = "serde asks for it")]
fn label<S: Serializer>(label: &Option<Rc<str>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(label.as_deref().unwrap_or_default())
}
