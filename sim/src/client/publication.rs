//! Events of the application.

use super::{Client, State};
use coap_spark::connection::SendError;
use coap_spark::message::{Event, Name};
use core::time::Duration;

/// An event to be published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publication<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its data.
    pub data: Option<&'a [u8]>,
    /// Everybody may see it.
    pub public: bool,
    /// Time to live in seconds; 60 is not sent.
    pub ttl: Option<u32>,
    /// The server is to acknowledge it, where the firmware can ask for that.
    pub acknowledged: bool,
}

impl<'a> Publication<'a> {
    /// A private event of 60 s without acknowledgement.
    #[must_use]
    pub const fn new(name: &'a str, data: &'a [u8]) -> Self {
        Self { name, data: Some(data), public: false, ttl: None, acknowledged: false }
    }
}

/// Why an event was not published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The server's Hello has not come, or the connection is over.
    #[error("the device is not connected")]
    NotConnected,
    /// Safe mode: only the system runs.
    #[error("the application does not run")]
    NotRunning,
    /// The firmware refuses: too many in a second, too long, or an update runs.
    #[error(transparent)]
    Refused(#[from] SendError),
}

impl Client<'_> {
    /// Publishes an event of the application, and gives its message id. Devices publish at most four in a second.
    ///
    /// # Errors
    /// [`PublishError`]; the connection goes on.
    pub fn publish(&mut self, now: Duration, publication: &Publication<'_>) -> Result<u16, PublishError> {
        let running = self.running;
        let State::Connected(connection) = &mut self.state else { return Err(PublishError::NotConnected) };
        if !connection.is_up() {
            return Err(PublishError::NotConnected);
        }
        if !running {
            return Err(PublishError::NotRunning);
        }
        let Publication { name, data, public, ttl, acknowledged } = *publication;
        let max_age = ttl.filter(|ttl| *ttl != 60);
        let event = Event { name: Name::new(name), public, max_age, data };
        let mut out = [0; 1024];
        let sent = connection.publish(now, event, acknowledged, &mut out)?;
        self.output.push_back(sent.bytes.to_vec());
        Ok(sent.id)
    }
}
