//! How a server behaves, and how the two JavaScript servers do.

use super::ids::IdCheck;
use crate::session::MAX_SERVER_FRAME;
use core::time::Duration;

/// Which events a server acknowledges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum EventAcks {
    /// Those that ask for it.
    Confirmable,
    /// All, whether they ask or not.
    Every,
    /// Those whose name begins with `spark`: a device that waits for another one gives up after 20 s.
    SystemOnly,
}

/// Events that one device may publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct EventLimit {
    /// So many.
    pub events: u16,
    /// In this time.
    pub per: Duration,
}

/// What a server demands of a device, and what it does for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ServerPolicy {
    /// Wait for the device's Hello.
    pub hello_timeout: Duration,
    /// Silence that ends the connection.
    pub idle_timeout: Duration,
    /// The same during a firmware update, when devices neither ping nor answer fast chunks.
    pub update_timeout: Duration,
    /// Wait for the answer to a request.
    pub request_timeout: Duration,
    /// Comparison of message ids.
    pub ids: IdCheck,
    /// Largest ciphertext to send.
    pub max_frame: usize,
    /// Learn from the device's Hello what it takes, and refuse to send more.
    pub learn_limits: bool,
    /// Which events are acknowledged.
    pub event_acks: EventAcks,
    /// More events of the application than this are dropped. Where one would be acknowledged, it is refused with 4.00.
    pub event_limit: Option<EventLimit>,
    /// Acknowledge a Describe answer that comes as a confirmable message of its own (Device OS 2).
    pub acknowledges_describe: bool,
    /// Its Hello carries a token.
    pub hello_token: bool,
    /// The highest token.
    pub last_token: u8,
}

impl ServerPolicy {
    /// What every Core, Photon and P1 gets along with. Devices ping after 15 s and give up 10 s later; the silence that
    /// is tolerated is two such rounds.
    pub const DEFAULT: Self = Self {
        hello_timeout: Duration::from_secs(30),
        idle_timeout: Duration::from_secs(50),
        update_timeout: Duration::from_secs(600),
        request_timeout: Duration::from_secs(15),
        ids: IdCheck::DEFAULT,
        max_frame: MAX_SERVER_FRAME,
        learn_limits: true,
        event_acks: EventAcks::Confirmable,
        event_limit: None,
        acknowledges_describe: true,
        hello_token: false,
        last_token: 255,
    };

    /// As the Brewskey server does (spark-protocol@f664ab3), for tests of devices.
    pub const BREWSKEY: Self = Self {
        hello_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(31),
        ids: IdCheck::Strict,
        max_frame: LONGEST_FRAME,
        learn_limits: false,
        event_acks: EventAcks::SystemOnly,
        acknowledges_describe: false,
        ..Self::DEFAULT
    };

    /// As the particle-iot server does (spark-protocol@2c745e7), for tests of devices. It waits for ever where it has no
    /// timer; here that is a day.
    pub const PARTICLE: Self = Self {
        idle_timeout: DAY,
        request_timeout: DAY,
        ids: IdCheck::Strict,
        max_frame: LONGEST_FRAME,
        learn_limits: false,
        event_acks: EventAcks::Every,
        acknowledges_describe: false,
        hello_token: true,
        last_token: 254,
        ..Self::DEFAULT
    };
}

impl ServerPolicy {
    /// The silence that ends the connection.
    pub(super) const fn patience(&self, is_up: bool, updating: bool) -> Duration {
        match (is_up, updating) {
            (false, _) => self.hello_timeout,
            (true, true) => self.update_timeout,
            (true, false) => self.idle_timeout,
        }
    }
}

/// What the prefix can express: these servers have no limit of their own.
const LONGEST_FRAME: usize = 65_520;
const DAY: Duration = Duration::from_secs(86_400);

impl Default for ServerPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}
