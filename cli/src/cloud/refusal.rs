//! Why a connection ended, in words, as a row of the diagnosis table, and as a word to count by.

use super::crypto::NotDone;
use super::limits::Turned;
use coap_spark::connection::ConnectionError;
use coap_spark::diagnosis::{End, ROWS, Row, by_failure};
use coap_spark::handshake::Failure;
use coap_spark::tokio::Error;
use coap_spark::tokio::handshake::HandshakeError;

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) advice: String,
    /// The row's code, or a word for what is in no row.
    pub(super) cause: &'static str,
    /// It is in the diagnosis table.
    pub(super) row: Option<&'static Row>,
}

/// The row of this code.
pub(super) fn row(code: &str) -> Option<&'static Row> {
    ROWS.iter().copied().find(|row| row.code == code)
}

impl Refusal {
    pub(super) fn of_row(code: &'static str, reason: String, advice: String) -> Self {
        Self { reason, advice, cause: code, row: row(code) }
    }

    pub(super) fn io(error: &std::io::Error) -> Self {
        Self {
            reason: error.to_string(),
            advice: "look at the network between device and server".to_owned(),
            cause: "network",
            row: None,
        }
    }

    pub(super) fn evicted() -> Self {
        Self {
            reason: "it took too long to say who it is while others were waiting".to_owned(),
            advice: "a device connects again by itself; look at who opens connections and says nothing"
                .to_owned(),
            cause: "evicted",
            row: None,
        }
    }

    pub(super) fn replaced() -> Self {
        let reason = "the device has connected anew".to_owned();
        Self { reason, advice: "nothing is wrong".to_owned(), cause: "replaced", row: None }
    }

    pub(super) fn revoked() -> Self {
        let reason = "its key was changed, or it was forgotten".to_owned();
        let advice = "it connects again, and is let in if its key is good".to_owned();
        Self { reason, advice, cause: "revoked", row: None }
    }

    pub(super) fn turned(turned: Turned) -> Self {
        Self {
            reason: turned.reason().to_owned(),
            advice: "devices connect again by themselves; raise the limit if these are all yours".to_owned(),
            cause: turned.code(),
            row: None,
        }
    }

    pub(super) fn of_store(failure: &crate::exit::Failure) -> Self {
        Self {
            reason: failure.what().to_owned(),
            advice: failure.next().to_owned(),
            cause: "store",
            row: None,
        }
    }
}

impl From<NotDone> for Refusal {
    fn from(why: NotDone) -> Self {
        let (reason, cause) = match why {
            NotDone::QueueFull => ("as many handshakes wait as may", "busy"),
            NotDone::Stopped => ("the server is stopping", "stopping"),
        };
        let advice = "the device connects again by itself".to_owned();
        Self { reason: reason.to_owned(), advice, cause, row: None }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        let row = by_failure(&failure, End::Server);
        let (reason, advice) = (failure.to_string(), failure.advice().to_owned());
        Self { reason, advice, cause: row.code, row: Some(row) }
    }
}

impl From<HandshakeError> for Refusal {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Failure(failure) => failure.into(),
            HandshakeError::Io(error) => Self::io(&error),
            other => Self::io(&std::io::Error::other(other)),
        }
    }
}

impl From<Error<ConnectionError>> for Refusal {
    fn from(error: Error<ConnectionError>) -> Self {
        let plain = |reason: &str, cause| Self {
            reason: reason.to_owned(),
            advice: "devices connect again by themselves".to_owned(),
            cause,
            row: None,
        };
        match error {
            Error::Closed => plain("the device closed the connection", "closed"),
            Error::Stuck { .. } => plain("the device does not take any bytes", "stuck"),
            Error::Io(error) => Self::io(&error),
            Error::Machine(ConnectionError::Handshake(failure)) => failure.into(),
            Error::Machine(error @ ConnectionError::Silent { .. }) => {
                Self::by_row("session-silent", &error.to_string())
            }
            Error::Machine(error @ ConnectionError::MessageId { .. }) => {
                Self::by_row("bad-counter", &error.to_string())
            }
            Error::Machine(error) => plain(&error.to_string(), "malformed"),
            other => plain(&other.to_string(), "other"),
        }
    }
}

impl Refusal {
    fn by_row(code: &'static str, reason: &str) -> Self {
        let row = row(code);
        let advice = row.map_or("", |row| row.action).to_owned();
        Self { reason: reason.to_owned(), advice, cause: code, row }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_named_here_exist() {
        for code in
            ["session-silent", "bad-counter", "device-unknown", "device-key-differs", "record-unusable"]
        {
            assert!(row(code).is_some(), "{code}");
        }
        assert!(row("no-such-row").is_none());
    }
}
