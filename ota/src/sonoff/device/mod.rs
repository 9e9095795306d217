//! The device's side of everything: a Sonoff switch without its hardware, to test servers with.
//!
//! ```text
//! Pairing -> Joining -> Dispatching -> Opening -> Registering -> Dating -> Ready <-> Upgrading -> Verifying -> Rebooting
//!                       ^-------------- connection lost, or a time limit ------'
//! ```
//!
//! [`Device`] takes bytes and time and gives connections to open, bytes to send and flash work. Where firmware generations
//! differ there is one [`Profile`]. It has the limits of real devices ([`limits`]), and fails as they fail.
//!
//! What such a device may run next is [`final_stage`]: the intermediate image with which other firmware takes its place.
//!
//! # Source
//! Firmware of the IoTgo 2.0 generation; for the generation before it, recorded sessions and users' logs. What is not
//! known of that one is said at [`Profile`].

pub mod final_stage;

mod download;
mod profile;
mod random;
mod session;
mod upgrade;

pub use profile::{Downloader, Profile};
pub use random::Random;

use super::limits;
use super::message::Switches;
use super::provisioning::{Access, ApRequest, DeviceInfo};
use super::secret::{ApiKey, Hidden};
use super::text::{DeviceId, Model, Version};
use super::upgrade::Slot;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use session::Session;
use upgrade::Job;

/// Who the device is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// `deviceid`.
    pub device_id: DeviceId,
    /// Its factory key.
    pub factory_key: ApiKey,
    /// `model`.
    pub model: Model,
    /// `romVersion` and `fwVersion`.
    pub rom_version: Version,
    /// The slot that it runs from.
    pub running: Slot,
}

/// A connection of the device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Link {
    /// Somebody at its access point; it is the server there.
    AccessPoint,
    /// To the dispatch server.
    Dispatch,
    /// The WebSocket.
    WebSocket,
    /// To the server with the image.
    Download,
}

/// What to do next.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// Join this network, then call [`Device::joined`].
    Join(Access),
    /// Connect, then call [`Device::connected`] or [`Device::closed`].
    Connect {
        /// As what.
        link: Link,
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// With TLS.
        tls: bool,
    },
    /// Send these bytes. They may hold keys.
    Send {
        /// Where.
        link: Link,
        /// What.
        bytes: Vec<u8>,
    },
    /// Close this connection, also one that is not there yet. [`Device::closed`] need not be called.
    Close(Link),
    /// The relays change.
    Switch(Switches),
    /// Erase the sector of 4096 bytes at this address.
    Erase {
        /// Address in flash.
        address: u32,
    },
    /// Write a whole sector.
    Write {
        /// Address in flash.
        address: u32,
        /// 4096 bytes.
        data: Vec<u8>,
    },
    /// Hash what is in flash with SHA-256, then call [`Device::hashed`].
    Hash {
        /// Address in flash.
        address: u32,
        /// Bytes.
        length: u32,
    },
    /// Start from this slot. The machine is at its end.
    Reboot(Slot),
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join(access) => f.debug_tuple("Join").field(access).finish(),
            Self::Connect { link, host, port, tls } => f
                .debug_struct("Connect")
                .field("link", link)
                .field("host", host)
                .field("port", port)
                .field("tls", tls)
                .finish(),
            Self::Send { link, bytes } => {
                f.debug_struct("Send").field("link", link).field("bytes", &Hidden(bytes)).finish()
            }
            Self::Close(link) => f.debug_tuple("Close").field(link).finish(),
            Self::Switch(switches) => f.debug_tuple("Switch").field(switches).finish(),
            Self::Erase { address } => f.debug_struct("Erase").field("address", address).finish(),
            Self::Write { address, data } => {
                f.debug_struct("Write").field("address", address).field("data", &Hidden(data)).finish()
            }
            Self::Hash { address, length } => {
                f.debug_struct("Hash").field("address", address).field("length", length).finish()
            }
            Self::Reboot(slot) => f.debug_tuple("Reboot").field(slot).finish(),
        }
    }
}

/// Where the device is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum State {
    /// Its access point is open.
    Pairing,
    /// It joins the network.
    Joining,
    /// It asks for its server, or waits before it does so again.
    Dispatching,
    /// It opens the WebSocket.
    Opening,
    /// It has sent `register`.
    Registering,
    /// It has sent `date`.
    Dating,
    /// It is in operation.
    Ready,
    /// It downloads.
    Upgrading,
    /// It hashes what was written.
    Verifying,
    /// It has an image and will start it.
    Rebooting,
    /// Pairing has ended without settings, or it was rebooted.
    Off,
}

/// A device.
///
/// Poll outputs until `None` after every call. It keeps one message and one answer of each connection, some 10 KiB at most.
///
/// ```
/// use core::time::Duration;
/// use spark_ota::sonoff::device::{Device, Identity, Link, Output, Profile, State};
/// use spark_ota::sonoff::provisioning::Access;
/// use spark_ota::sonoff::upgrade::Slot;
/// use spark_ota::sonoff::{ApiKey, DeviceId, Model, Version};
///
/// let identity = Identity {
///     device_id: DeviceId::new("1000abcdef")?,
///     factory_key: ApiKey::new("11111111-2222-4333-8444-555555555555")?,
///     model: Model::new("ITA-GZ1-GL")?,
///     rom_version: Version::new("1.5.5")?,
///     running: Slot::User1,
/// };
/// let access = Access::new("testnet", "secret-123", "192.168.77.10", 8443)?;
/// let mut device = Device::with_access(Duration::ZERO, identity, Profile::RANGES, access);
/// assert!(matches!(device.poll_output(), Some(Output::Join(_))));
/// device.joined(Duration::ZERO, true);
/// assert!(matches!(device.poll_output(), Some(Output::Connect { link: Link::Dispatch, port: 8443, .. })));
/// assert_eq!(device.state(), State::Dispatching);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Device {
    identity: Identity,
    profile: Profile,
    random: Random,
    session: Session,
    job: Option<Job>,
    /// A whole image, verified.
    stored: Option<Slot>,
    reboot_at: Option<Duration>,
    /// Of the access point.
    received: Vec<u8>,
    outputs: VecDeque<Output>,
}

impl Device {
    /// A device after a long press: its access point is open.
    #[must_use]
    pub fn pairing(now: Duration, identity: Identity, profile: Profile) -> Self {
        Self::new(identity, profile, Session::pairing(now))
    }

    /// A device that knows its network.
    #[must_use]
    pub fn with_access(now: Duration, identity: Identity, profile: Profile, access: Access) -> Self {
        let mut device = Self::new(identity, profile, Session::pairing(now));
        device.join(access);
        device
    }

    fn new(identity: Identity, profile: Profile, session: Session) -> Self {
        Self {
            identity,
            profile,
            random: Random::new(),
            session,
            job: None,
            stored: None,
            reboot_at: None,
            received: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> State {
        match &self.job {
            _ if self.reboot_at.is_some() => State::Rebooting,
            Some(job) if self.session.state != State::Off => job.state(),
            _ => self.session.state,
        }
    }

    /// Who it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key that the server has given.
    #[must_use]
    pub const fn session_key(&self) -> Option<&ApiKey> {
        self.session.key.as_ref()
    }

    /// The slot with an image that was verified, if there is one.
    #[must_use]
    pub const fn stored(&self) -> Option<Slot> {
        self.stored
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The network was joined, or not.
    pub fn joined(&mut self, now: Duration, done: bool) {
        if self.session.state != State::Joining {
            return;
        }
        if done {
            self.dispatch(now);
        } else {
            self.session.retry_at = Some(now.saturating_add(self.backoff()));
        }
    }

    /// A connection is there; or, with [`Link::AccessPoint`], somebody has connected to the device.
    pub fn connected(&mut self, now: Duration, link: Link) {
        match link {
            Link::AccessPoint => self.await_request(Some(now)),
            Link::Dispatch | Link::WebSocket if self.profile.pins_certificate && !self.profile.plain => {
                if self.session.waits_for(link) {
                    self.outputs.push_back(Output::Close(link));
                    self.session_failed(now);
                }
            }
            Link::Dispatch | Link::WebSocket => self.session_connected(now, link),
            Link::Download => self.download_connected(now),
        }
    }

    /// A connection could not be made, or was closed by the other end.
    pub fn closed(&mut self, now: Duration, link: Link) {
        match link {
            Link::AccessPoint => self.await_request(None),
            Link::Dispatch | Link::WebSocket => {
                if self.session.waits_for(link) {
                    self.session_failed(now);
                }
            }
            Link::Download => self.download_closed(now),
        }
    }

    /// Takes what came over a connection.
    pub fn handle_input(&mut self, now: Duration, link: Link, bytes: &[u8]) {
        match link {
            Link::AccessPoint => self.asked(now, bytes),
            Link::Dispatch => self.dispatched(now, bytes),
            Link::WebSocket => self.websocket(now, bytes),
            Link::Download => self.downloaded(now, bytes),
        }
    }

    /// The next request over the access point has to be complete in time; without a connection there is none.
    fn await_request(&mut self, now: Option<Duration>) {
        self.received.clear();
        if self.session.state == State::Pairing {
            self.session.packet_by = now.map(|now| now.saturating_add(limits::PACKET));
        }
    }

    /// Somebody at the access point.
    fn asked(&mut self, now: Duration, bytes: &[u8]) {
        if self.session.state != State::Pairing {
            return;
        }
        let room = limits::AP_REQUEST.saturating_sub(self.received.len());
        self.received.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        let Some(request) = ApRequest::find(&self.received) else { return };
        self.await_request(Some(now));
        let answer = match request {
            ApRequest::Device => {
                let info = DeviceInfo {
                    device_id: self.identity.device_id,
                    api_key: self.identity.factory_key.clone(),
                };
                Some(ApRequest::device_answer(&info).to_vec())
            }
            ApRequest::Ap(_) => Some(ApRequest::ap_answer(0)),
            ApRequest::Server(_) | ApRequest::Incomplete => None,
        };
        if let Some(bytes) = answer {
            self.outputs.push_back(Output::Send { link: Link::AccessPoint, bytes });
        }
        if let ApRequest::Ap(access) = request {
            self.outputs.push_back(Output::Close(Link::AccessPoint));
            self.join(access);
        }
    }

    fn join(&mut self, access: Access) {
        self.session = Session::joining(access.clone());
        self.outputs.push_back(Output::Join(access));
    }

    /// When [`Device::handle_deadline`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.session.state == State::Off {
            return None;
        }
        let job = self.job.as_ref().and_then(Job::next_deadline);
        [self.session.next_deadline(), job, self.reboot_at].into_iter().flatten().min()
    }

    /// The deadline has come. Early calls are harmless.
    pub fn handle_deadline(&mut self, now: Duration) {
        if self.session.state == State::Off {
            return;
        }
        if self.reboot_at.is_some_and(|at| now >= at) {
            let slot = self.stored.unwrap_or(self.identity.running);
            (self.reboot_at, self.job) = (None, None);
            self.session = Session::default();
            self.outputs.push_back(Output::Reboot(slot));
            return;
        }
        self.session_deadline(now);
        self.download_deadline(now);
    }
}
