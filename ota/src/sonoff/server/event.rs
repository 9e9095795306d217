//! What happens to a device.

use super::failure::{Diagnosis, Failure};
use super::job::Stage;
use crate::sonoff::message::{Switches, Update};
use crate::sonoff::text::{Model, Sequence, Version};

/// How near a device is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Presence {
    /// It has no WebSocket.
    Away,
    /// It has registered.
    Registered,
    /// It knows the date.
    Dated,
    /// It has told its state, and listens.
    Ready,
}

/// What has happened to a device.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Event {
    /// It has asked for its server.
    Dispatched,
    /// It has registered.
    Registered {
        /// Its model.
        model: Model,
        /// Its version.
        rom_version: Version,
    },
    /// It listens: an upgrade can be offered.
    Ready,
    /// Its WebSocket is gone.
    Away,
    /// It has told its state.
    State {
        /// Of its relays, if it has said so.
        switches: Option<Switches>,
        /// Strength of the Wi-Fi signal in dBm.
        rssi: Option<i16>,
    },
    /// The upgrade was sent.
    Offered {
        /// Which attempt this is, from 1.
        attempt: u8,
    },
    /// The upgrade is in another stage than before. Progress within a download is not told, see [`Session::stage`](super::Session::stage).
    Stage(Stage),
    /// Nothing was heard for some time, and this may be why.
    Hint(Diagnosis),
    /// It has answered a [`Command`](super::Command).
    Answered {
        /// That of the command.
        sequence: Sequence,
        /// 0, or what failed.
        error: u16,
        /// What it was asked for.
        state: Option<Update>,
    },
    /// An attempt failed, and there is another one.
    Retry {
        /// Why.
        failure: Failure,
    },
    /// A message did not bear a key that this device may use; it was refused.
    WrongKey,
    /// A message did not belong here; it was refused or passed over.
    Unexpected,
}
