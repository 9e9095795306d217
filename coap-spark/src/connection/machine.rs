//! What every end has in common for the code that moves its bytes.

use super::device::DeviceConnection;
use super::link::{ConnectionError, SendError};
use super::server::ServerConnection;
use core::time::Duration;

/// Bytes and time in, bytes and deadlines out: what an adapter for a transport drives.
///
/// Both connections are such machines, and so can be an application's own type around one.
pub trait Machine {
    /// Why it ended.
    type Error;

    /// Takes bytes and says how many. None means that output has to be sent first.
    ///
    /// # Errors
    /// The machine has ended.
    fn handle_input(&mut self, now: Duration, input: &[u8]) -> Result<usize, Self::Error>;

    /// The next bytes to send, in `out`. Call until `None`.
    ///
    /// # Errors
    /// [`SendError`]; with 2048 bytes of room none is expected.
    fn poll_output<'o>(&mut self, now: Duration, out: &'o mut [u8]) -> Result<Option<&'o [u8]>, SendError>;

    /// When [`Machine::handle_deadline`] has something to do.
    fn next_deadline(&self) -> Option<Duration>;

    /// Does what the clock asks for. Early calls are harmless.
    ///
    /// # Errors
    /// The machine has ended.
    fn handle_deadline(&mut self, now: Duration) -> Result<(), Self::Error>;
}

impl<const N: usize, const P: usize> Machine for ServerConnection<N, P> {
    type Error = ConnectionError;

    fn handle_input(&mut self, now: Duration, input: &[u8]) -> Result<usize, ConnectionError> {
        Self::handle_input(self, now, input)
    }

    fn poll_output<'o>(&mut self, _: Duration, out: &'o mut [u8]) -> Result<Option<&'o [u8]>, SendError> {
        Self::poll_output(self, out)
    }

    fn next_deadline(&self) -> Option<Duration> {
        Some(Self::next_deadline(self))
    }

    fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        Self::handle_deadline(self, now)
    }
}

impl<const N: usize, const P: usize> Machine for DeviceConnection<N, P> {
    type Error = ConnectionError;

    fn handle_input(&mut self, now: Duration, input: &[u8]) -> Result<usize, ConnectionError> {
        Self::handle_input(self, now, input)
    }

    fn poll_output<'o>(&mut self, now: Duration, out: &'o mut [u8]) -> Result<Option<&'o [u8]>, SendError> {
        Self::poll_output(self, now, out)
    }

    fn next_deadline(&self) -> Option<Duration> {
        Self::next_deadline(self)
    }

    fn handle_deadline(&mut self, now: Duration) -> Result<(), ConnectionError> {
        Self::handle_deadline(self, now)
    }
}
