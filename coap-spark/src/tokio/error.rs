//! What a stream tells, and why it ends.

use crate::connection::{Received, SendError, Waiting};
use alloc::string::ToString;
use core::mem;
use core::time::Duration;
use std::io;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The transport failed. What had come before is still told by the calls that wait for messages.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The peer takes no bytes, or too few. What had come before is still told, as with [`Error::Io`].
    #[error("the peer has not taken a message for {waited:?}")]
    Stuck {
        /// How long it had.
        waited: Duration,
    },
    /// The protocol was broken, or nothing was heard.
    #[error(transparent)]
    Machine(E),
    /// A message cannot be sent; the connection is unharmed.
    #[error(transparent)]
    Send(SendError),
}

/// What a stream has to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "a message came, or one did not")]
pub enum Event<B, K> {
    /// A message of the peer.
    Message(Received<B, K>),
    /// A message of ours that was not answered in time.
    Unanswered(Waiting<K>),
}

/// Why a transport is of no more use.
#[derive(Debug)]
pub(super) enum Broken {
    Io(io::Error),
    Stuck(Duration),
}

impl Broken {
    /// The first one who is told gets the transport's own error, all later ones a copy of its kind and text.
    pub(super) fn tell<E>(&mut self) -> Error<E> {
        match self {
            Self::Io(error) => {
                let copy = match error.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(error.kind(), error.to_string()),
                };
                Error::Io(mem::replace(error, copy))
            }
            Self::Stuck(waited) => Error::Stuck { waited: *waited },
        }
    }
}
