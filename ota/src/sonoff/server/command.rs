//! What a server asks of a device beside upgrades.

use crate::sonoff::message::{ServerBody, Switches, Unsendable};
use crate::sonoff::text::{Sequence, ServerName, Text};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Something to ask of a device that has registered; upgrades are [offered](super::Session::offer).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Command {
    /// `update`: switch relays.
    Switch(Switches),
    /// `redirect`: go to another server, in two to four seconds.
    Redirect {
        /// Its name or address.
        ip: ServerName,
        /// Its port.
        port: u16,
    },
    /// `notify`: give signs of life after this many seconds without traffic. This server waits accordingly.
    Notify {
        /// In seconds, at least 1.
        hb_interval: u16,
    },
    /// `restart` into the image that was stored; later firmware, after an upgrade without `autoRestart`.
    Restart,
    /// `queryDev`: tell these parts of the state; later firmware.
    QueryDevice {
        /// Their names, 1 to 16.
        params: Vec<Text<20>>,
    },
}

impl Command {
    pub(super) fn body(&self) -> ServerBody {
        match self.clone() {
            Self::Switch(switches) => ServerBody::Update { switches },
            Self::Redirect { ip, port } => ServerBody::Redirect { ip, port },
            Self::Notify { hb_interval } => ServerBody::Notify { hb_interval },
            Self::Restart => ServerBody::Restart,
            Self::QueryDevice { params } => ServerBody::QueryDevice { params },
        }
    }

    /// Devices answer these without their `sequence`.
    const fn is_answered_without_sequence(&self) -> bool {
        matches!(self, Self::Redirect { .. } | Self::Notify { .. })
    }
}

/// Why a command was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CommandError {
    /// It is not known, or has no WebSocket on which it has registered.
    #[error("the device is not connected")]
    Away,
    /// An interval or a port of 0.
    #[error("0 is no interval and no port")]
    Zero,
    /// Devices could not read it.
    #[error("the device could not read the message")]
    Unsendable(#[source] Unsendable),
    /// It has not answered the ones before.
    #[error("{limit} commands wait for the device already")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

/// Commands that a device has not answered yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Commands {
    waiting: VecDeque<(Sequence, bool)>,
}

impl Commands {
    /// So many may wait. Devices of the older generation do not answer all of them, so the oldest are forgotten.
    pub(super) const LIMIT: usize = 16;

    pub(super) fn sent(&mut self, sequence: Sequence, command: &Command) {
        if self.waiting.len() >= Self::LIMIT {
            self.waiting.pop_front();
        }
        self.waiting.push_back((sequence, command.is_answered_without_sequence()));
    }

    /// Which one an answer belongs to.
    pub(super) fn answered(&mut self, sequence: Option<Sequence>) -> Option<Sequence> {
        let at = self.waiting.iter().position(|(sent, without)| match sequence {
            Some(sequence) => *sent == sequence,
            None => *without,
        })?;
        self.waiting.remove(at).map(|(sequence, _)| sequence)
    }

    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}
