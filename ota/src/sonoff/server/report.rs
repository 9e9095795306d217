//! What a server tells of what happens.

use super::event::Event;
use super::failure::Diagnosis;
use super::files::{FileId, Role};
use crate::sonoff::frame::FrameError;
use crate::sonoff::handshake::HandshakeError;
use crate::sonoff::http::{HeadError, Remark};
use crate::sonoff::message::MessageError;
use crate::sonoff::text::{DeviceId, TextError};
use alloc::string::String;
use core::net::IpAddr;
use core::ops::Range;

/// What happens, for a log or a person. There are no secrets in it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Report {
    /// Something happened to a device.
    Device {
        /// Its id.
        device_id: DeviceId,
        /// What.
        event: Event,
    },
    /// A file was asked for.
    Requested {
        /// The device, as far as that is known.
        device_id: Option<DeviceId>,
        /// By whom.
        peer: IpAddr,
        /// Which.
        file: FileId,
        /// Which bytes the answer has.
        range: Range<u32>,
        /// Status of the answer.
        status: u16,
        /// It is sent slowly.
        paced: bool,
        /// What is unusual.
        remark: Option<Remark>,
    },
    /// The final image has arrived at a device that has no id: more than one upgrade waited for it, or none.
    FinalImageArrived {
        /// At this address.
        peer: IpAddr,
        /// It has closed the connection after the last byte. Otherwise nothing more was heard.
        closed: bool,
    },
    /// Somebody said something that was refused.
    Rejected {
        /// Who.
        peer: IpAddr,
        /// Why.
        why: Rejection,
    },
}

impl Report {
    /// The device that it is about, as far as that is known.
    #[must_use]
    pub fn device_id(&self) -> Option<DeviceId> {
        match self {
            Self::Device { device_id, .. } => Some(*device_id),
            Self::Requested { device_id, .. } => *device_id,
            _ => None,
        }
    }

    /// What somebody may act on, as opposed to what strangers can cause as often as they like: it is never left out.
    #[must_use]
    pub const fn is_needed(&self) -> bool {
        let event = match self {
            Self::Device { event, .. } => event,
            _ => return false,
        };
        !matches!(event, Event::Dispatched | Event::State { .. } | Event::WrongKey | Event::Unexpected)
    }

    /// What happened to it.
    #[must_use]
    pub const fn event(&self) -> Option<&Event> {
        if let Self::Device { event, .. } = self { Some(event) } else { None }
    }
}

/// Why something was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// Not HTTP, or too much of it.
    #[error("the request cannot be read")]
    Request(#[source] HeadError),
    /// Nothing is served at this path.
    #[error("nothing is served at the path {path:?}")]
    NotFound {
        /// Its beginning.
        path: String,
    },
    /// The intermediate image of SonOTA asks for a file that is not served.
    #[error("the final stage asks for {}, which is not served", .role.final_path().unwrap_or_default())]
    FinalFileMissing {
        /// Which.
        role: Role,
    },
    /// Another method than the path has.
    #[error("another method than the path {path:?} has")]
    Method {
        /// Its beginning.
        path: String,
    },
    /// The body of a dispatch request.
    #[error("the dispatch request cannot be used")]
    Dispatch(#[source] MessageError),
    /// A dispatch request or a `register` with another factory key than the device has.
    #[error("the key is not that of device {device_id}")]
    WrongKey {
        /// The device that it claims to be.
        device_id: DeviceId,
    },
    /// The `sign` of a download does not prove the id.
    #[error("the download is not signed by the device that it names")]
    NotSigned,
    /// The WebSocket.
    #[error("the WebSocket cannot be opened")]
    Handshake(#[source] HandshakeError),
    /// A frame.
    #[error("a frame cannot be read")]
    Frame(#[source] FrameError),
    /// A message. It was answered with 400 if it is known for whom, and otherwise passed over.
    #[error("a message cannot be read")]
    Message(#[source] MessageError),
    /// A message of another device than the one that has registered on this connection.
    #[error("a message of another device came over the connection of {device_id}")]
    OtherDevice {
        /// The one that has registered.
        device_id: DeviceId,
    },
    /// Nothing was said in time.
    #[error("nothing was said in time")]
    Silent,
    /// The name of this server is longer than a device keeps.
    #[error("devices cannot keep the name of this server")]
    Host(#[source] TextError),
    /// As many connections as may be are there.
    #[error("there are too many connections")]
    TooManyConnections,
    /// As many devices as may be are known.
    #[error("there are too many devices")]
    TooManyDevices,
}

impl Rejection {
    /// What it is called by, where something can be done about it.
    #[must_use]
    pub const fn diagnosis(&self) -> Option<Diagnosis> {
        match self {
            Self::FinalFileMissing { .. } => Some(Diagnosis::FinalStageMissing),
            _ => None,
        }
    }
}
