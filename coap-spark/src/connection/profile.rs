//! Where device firmware generations differ, as one table.

use super::limits::Limits;
use crate::message::system_event::SystemNames;
use core::time::Duration;

/// Byte order in which a device reads its first message id out of the salt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum IdOrder {
    /// Most significant byte first (up to 0.7.0).
    BigEndian,
    /// A native load on ARM (0.8.0 to 2.3.1).
    LittleEndian,
}

/// Where a device's tokens start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TokenSource {
    /// Third byte of the salt, incremented before use.
    Salt,
    /// A counter of its own, incremented before use. Device OS 2 starts it at a random value; here it starts at 0.
    Counter,
}

/// How a device answers a request for data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ReplyStyle {
    /// In the acknowledgement.
    Piggybacked,
    /// Empty acknowledgement, then a confirmable response with a new id.
    SeparateConfirmable,
    /// Empty acknowledgement, then a non-confirmable response with a new id.
    SeparateNonConfirmable,
}

/// What a device firmware generation does on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Profile {
    /// First message id.
    pub id_order: IdOrder,
    /// First token.
    pub token_source: TokenSource,
    /// Answer to Describe.
    pub describe: ReplyStyle,
    /// Answer to a variable request.
    pub variable: ReplyStyle,
    /// Wait for the server's Hello.
    pub hello_timeout: Duration,
    /// Silence after which a ping is sent.
    pub ping_interval: Duration,
    /// Silence after a ping that ends the connection.
    pub ping_timeout: Duration,
    /// Largest ciphertext that it sends.
    pub max_frame: usize,
    /// Largest ciphertext that it takes.
    pub max_received: usize,
    /// Events can be confirmable.
    pub confirmable_events: bool,
    /// `KeyChange` is acknowledged.
    pub answers_key_change: bool,
    /// Which events count as the system's.
    pub system_names: SystemNames,
    /// What it takes of names, arguments and data.
    pub limits: Limits,
}

/// Of Photon, P1 and Core in every version looked at.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

impl Profile {
    /// Device OS 0.6.1 to 0.7.0 on Photon and P1 (`spark_protocol.cpp`).
    pub const V0_7_0: Self = Self {
        id_order: IdOrder::BigEndian,
        token_source: TokenSource::Salt,
        describe: ReplyStyle::Piggybacked,
        variable: ReplyStyle::Piggybacked,
        hello_timeout: Duration::from_secs(2),
        ping_interval: PING_INTERVAL,
        ping_timeout: PING_TIMEOUT,
        max_frame: 784,
        max_received: 800,
        confirmable_events: true,
        answers_key_change: false,
        system_names: SystemNames::SparkInAnyCase,
        limits: Limits::V0_7_0,
    };

    /// Device OS 0.4.9 and 0.5.x on Photon and P1: all events are non-confirmable.
    pub const V0_4_9: Self = Self { confirmable_events: false, ..Self::V0_7_0 };

    /// Every version on the Core, which kept this code to its end, in a buffer of 640 bytes.
    pub const CORE: Self = Self { max_frame: 624, max_received: 640, limits: Limits::CORE, ..Self::V0_7_0 };

    /// Device OS 0.8.0 to 1.4.x on Photon and P1 (`lightssl_message_channel.cpp`).
    pub const V0_8_0: Self = Self {
        id_order: IdOrder::LittleEndian,
        token_source: TokenSource::Counter,
        hello_timeout: Duration::from_secs(4),
        max_received: 768,
        answers_key_change: true,
        limits: Limits::V0_8_0,
        ..Self::V0_7_0
    };

    /// Device OS 1.5.x on Photon and P1: variables are answered separately.
    pub const V1_5_0: Self = Self { variable: ReplyStyle::SeparateNonConfirmable, ..Self::V0_8_0 };

    /// Device OS 2.0.0 to 2.3.1 on Photon and P1 (`lightssl_message_channel.cpp`, `protocol.cpp`).
    pub const V2_3_1: Self = Self {
        describe: ReplyStyle::SeparateConfirmable,
        system_names: SystemNames::SparkOrParticle,
        ..Self::V1_5_0
    };

    /// The id before the first one, from the session's salt.
    #[must_use]
    pub const fn id_base(&self, salt: [u8; 8]) -> u16 {
        let first = [salt[0], salt[1]];
        match self.id_order {
            IdOrder::BigEndian => u16::from_be_bytes(first),
            IdOrder::LittleEndian => u16::from_le_bytes(first),
        }
    }

    /// The token before the first one.
    #[must_use]
    pub const fn token_base(&self, salt: [u8; 8]) -> u8 {
        match self.token_source {
            TokenSource::Salt => salt[2],
            TokenSource::Counter => 0,
        }
    }
}
