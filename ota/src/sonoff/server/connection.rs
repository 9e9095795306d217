//! One connection of somebody.

use super::files::FileId;
use super::job::{Delivery, FINAL_STAGE};
use crate::sonoff::frame::{End, FrameReader};
use crate::sonoff::http::{Pace, Pacer};
use crate::sonoff::limits;
use crate::sonoff::secret::{ApiKey, Hidden};
use crate::sonoff::text::DeviceId;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use core::ops::Range;
use core::time::Duration;
use zeroize::Zeroizing;

/// A connection, by the number that [`Service::connected`](super::Service::connected) has given.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ConnectionId(pub(super) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What to do with a connection. Do it, and then poll the next one.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Send these bytes. They may hold keys.
    Send(Vec<u8>),
    /// Send these bytes of a file.
    SendFile {
        /// Which.
        file: FileId,
        /// From where to where.
        range: Range<u32>,
    },
    /// Everything is said: stop sending, and close once the other end has.
    Finish,
    /// Close now.
    Close,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => f.debug_tuple("Send").field(&Hidden(bytes)).finish(),
            Self::SendFile { file, range } => {
                f.debug_struct("SendFile").field("file", file).field("range", range).finish()
            }
            Self::Finish => f.write_str("Finish"),
            Self::Close => f.write_str("Close"),
        }
    }
}

/// A head or a first message has to be complete within this.
pub(super) const HEAD: Duration = Duration::from_secs(10);
/// Without a request for so long a connection is closed.
pub(super) const IDLE: Duration = Duration::from_secs(120);
/// An end that was told to close has to do so within this.
pub(super) const LINGER: Duration = Duration::from_secs(10);
/// The final image is sent in pieces of so many bytes, so that it is seen to move: a device that it is broken off for has no
/// firmware any more.
pub(super) const FINAL_PIECE: u32 = 16 * 1024;
/// After the final image: a device that has not got it asks again within this.
pub(super) const ARRIVED: Duration = Duration::from_secs(60);

/// What a connection is.
pub(super) enum Kind {
    /// HTTP, so far.
    Http,
    /// A WebSocket.
    WebSocket {
        frames: FrameReader,
        /// Who has registered, or at least claims to be it.
        device_id: Option<DeviceId>,
    },
    /// Over, except for what is to be sent.
    Ending,
}

/// Bytes of a file on their way.
#[derive(Clone)]
pub(super) struct Writing {
    pub(super) file: FileId,
    pub(super) device_id: Option<DeviceId>,
    pub(super) range: Range<u32>,
}

/// An answer with a file that is being sent.
pub(super) struct Sending {
    pub(super) file: FileId,
    pub(super) device_id: Option<DeviceId>,
    /// Head of the answer, as long as it has not gone.
    pub(super) head: Option<Vec<u8>>,
    pub(super) body: Range<u32>,
    pub(super) pacer: Option<Pacer>,
    pub(super) keep: bool,
}

impl Sending {
    pub(super) fn pace(delivery: Delivery, length: u32) -> Option<Pacer> {
        (delivery == Delivery::Paced).then(|| Pacer::new(length, Pace::SLOW))
    }
}

pub(super) struct Connection {
    pub(super) peer: IpAddr,
    /// For a device that registers on it.
    pub(super) session_key: ApiKey,
    pub(super) kind: Kind,
    /// Not yet understood. Dispatch requests hold keys.
    pub(super) received: Zeroizing<Vec<u8>>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) sending: Option<Sending>,
    /// Bytes of a file that were polled last: they are taken by the network when the next output is polled.
    pub(super) writing: Option<Writing>,
    /// The final image is sent over it, as a whole …
    pub(super) final_image: bool,
    /// … and has gone …
    pub(super) final_image_gone: bool,
    /// … to this device.
    pub(super) final_device: Option<DeviceId>,
    /// Bytes that the other end has not acknowledged yet, if that can be known.
    pub(super) unacknowledged: Option<u64>,
    pub(super) deadline: Duration,
    /// An end that acknowledges nothing more of the final image is waited for until then.
    pub(super) wait_until: Duration,
    /// It is in the list of those with something to poll.
    pub(super) is_listed: bool,
}

impl Connection {
    pub(super) fn new(now: Duration, peer: IpAddr, session_key: ApiKey) -> Self {
        Self {
            peer,
            session_key,
            kind: Kind::Http,
            received: Zeroizing::new(Vec::new()),
            outputs: VecDeque::new(),
            sending: None,
            writing: None,
            final_image: false,
            final_image_gone: false,
            final_device: None,
            unacknowledged: None,
            deadline: now.saturating_add(HEAD),
            wait_until: Duration::ZERO,
            is_listed: false,
        }
    }

    /// What is still taken in of what came, while an answer is on its way.
    pub(super) fn room(&self) -> usize {
        (limits::REQUEST_HEAD + limits::REQUEST_BODY).saturating_sub(self.received.len())
    }

    pub(super) fn open_websocket(&mut self, now: Duration) {
        self.kind = Kind::WebSocket { frames: FrameReader::new(End::Device), device_id: None };
        self.deadline = now.saturating_add(HEAD);
    }

    /// How long an answer may take; of the final image every [`FINAL_PIECE`].
    pub(super) const fn patience(&self) -> Duration {
        if self.final_image { FINAL_STAGE } else { limits::DOWNLOAD }
    }

    /// The final image is on its way, or what is known of it is that it has not arrived.
    pub(super) fn is_sending_final_image(&self) -> bool {
        let is_moving = self.sending.is_some() || self.writing.is_some();
        self.final_image && (is_moving || (self.final_image_gone && !self.is_acknowledged()))
    }

    /// Nothing is known to be on its way still.
    pub(super) fn is_acknowledged(&self) -> bool {
        self.unacknowledged.is_none_or(|bytes| bytes == 0)
    }

    /// A sign of life of a device. Before it has registered it does not count.
    pub(super) fn alive(&mut self, now: Duration, silence: Duration) {
        if let Kind::WebSocket { device_id: Some(_), .. } = &self.kind {
            self.deadline = now.saturating_add(silence);
        }
    }

    /// Says it, and nothing behind it.
    pub(super) fn finish(&mut self, now: Duration, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.outputs.push_back(Output::Send(bytes));
        }
        self.outputs.push_back(Output::Finish);
        self.kind = Kind::Ending;
        self.received = Zeroizing::new(Vec::new());
        self.deadline = now.saturating_add(LINGER);
    }

    pub(super) fn close(&mut self) {
        self.outputs.push_back(Output::Close);
        self.kind = Kind::Ending;
        self.sending = None;
        self.deadline = Duration::MAX;
        self.received = Zeroizing::new(Vec::new());
    }

    pub(super) fn next_deadline(&self) -> Duration {
        // What was told once is not due again before it is polled.
        let sending = self.sending.as_ref().filter(|_| !self.is_listed);
        let pace = sending.and_then(|sending| sending.pacer.as_ref());
        pace.and_then(Pacer::next_deadline).map_or(self.deadline, |due| due.min(self.deadline))
    }
}
