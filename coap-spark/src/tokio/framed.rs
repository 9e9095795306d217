//! A machine on a byte stream.

use crate::connection::{Machine, Received, SendError, Waiting};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes read at once: a few frames.
const READ: usize = 4096;
/// Room for one output of a machine.
const FRAME: usize = 2048;
/// A peer that takes no bytes for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(50);

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error<E> {
    /// The peer closed the connection.
    #[error("the peer closed the connection")]
    Closed,
    /// The transport failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
    /// The peer takes no bytes.
    #[error("the peer takes no bytes for {waited:?}")]
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

/// A machine and the stream it speaks over, with a clock that starts when it is made.
#[derive(Debug)]
pub struct Framed<S, M> {
    io: S,
    pub(super) machine: M,
    started: Instant,
    write_timeout: Duration,
    input: Box<[u8]>,
    /// Which part of `input` the machine has not taken.
    unread: core::ops::Range<usize>,
    /// The peer sends no more.
    at_end: bool,
    /// Sealed and not written.
    output: Vec<u8>,
    pub(super) frame: Box<[u8]>,
}

impl<S: AsyncRead + AsyncWrite + Unpin, M: Machine> Framed<S, M> {
    /// Begins. The machine's clock must have begun at `started`.
    pub fn new(io: S, machine: M, started: Instant) -> Self {
        Self {
            io,
            machine,
            started,
            write_timeout: WRITE_TIMEOUT,
            input: Box::new([0; READ]),
            unread: 0..0,
            at_end: false,
            output: Vec::new(),
            frame: Box::new([0; FRAME]),
        }
    }

    /// Gives the peer this long to take bytes, 50 s otherwise.
    pub const fn set_write_timeout(&mut self, timeout: Duration) {
        self.write_timeout = timeout;
    }

    /// The time on the machine's clock.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The machine.
    #[must_use]
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// The machine; what it then wants to send goes out with the next [`Framed::turn`] or [`Framed::flush`].
    pub const fn machine_mut(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The stream and the machine, and what was read and not taken by it.
    #[must_use]
    pub fn into_parts(self) -> (S, M, Vec<u8>) {
        let unread = self.input.get(self.unread).unwrap_or_default().into();
        (self.io, self.machine, unread)
    }

    /// One step: sends what is due, waits for bytes or for the machine's deadline if nothing was, and hands over what
    /// came. Afterwards look at the machine. May be dropped at any time without loss.
    ///
    /// While the machine always has something to send, as in a fast update, each step sends one frame and looks whether
    /// bytes have come, without waiting for any.
    ///
    /// # Errors
    /// [`Error`]; close the stream.
    pub async fn turn(&mut self) -> Result<(), Error<M::Error>> {
        self.write_pending().await?;
        let has_sent = self.stage_output()?;
        self.write_pending().await?;
        if self.unread.is_empty() {
            self.read(has_sent).await?;
        }
        let now = self.now();
        let bytes = self.input.get(self.unread.clone()).unwrap_or_default();
        if !bytes.is_empty() {
            let used = self.machine.handle_input(now, bytes).map_err(Error::Machine)?;
            self.unread.start += used;
            if used == 0 && !has_sent {
                // It wants to send first, or wait for something that only its owner can do.
                tokio::task::yield_now().await;
            }
        }
        self.machine.handle_deadline(now).map_err(Error::Machine)
    }

    /// Sends all that is due.
    ///
    /// # Errors
    /// [`Error`]; close the stream.
    pub async fn flush(&mut self) -> Result<(), Error<M::Error>> {
        loop {
            self.write_pending().await?;
            if !self.stage_output()? {
                return Ok(());
            }
        }
    }

    /// Sends the bytes that the machine has sealed into `frame`, and all else that is due.
    pub(super) async fn send_staged(&mut self, len: usize) -> Result<(), Error<M::Error>> {
        self.output.extend_from_slice(self.frame.get(..len).unwrap_or_default());
        self.flush().await
    }

    /// The machine's next output, if it has one.
    fn stage_output(&mut self) -> Result<bool, Error<M::Error>> {
        let now = self.started.elapsed();
        match self.machine.poll_output(now, &mut self.frame).map_err(Error::Send)? {
            Some(bytes) => {
                self.output.extend_from_slice(bytes);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// While the peer takes nothing, what it sends is read: it may be waiting for that.
    async fn write_pending(&mut self) -> Result<(), Error<M::Error>> {
        let waited = self.write_timeout;
        while !self.output.is_empty() {
            let write = poll_fn(|context| {
                let written = Pin::new(&mut self.io).poll_write(context, &self.output);
                if written.is_pending() {
                    while let Poll::Ready(filled) = self.poll_fill(context) {
                        match filled {
                            Ok(0) => break,
                            Ok(_) => {}
                            Err(error) => return Poll::Ready(Err(error)),
                        }
                    }
                }
                written
            });
            let count = timeout(waited, write).await.map_err(|_| Error::Stuck { waited })??;
            if count == 0 {
                return Err(Error::Closed);
            }
            self.output.drain(..count);
        }
        Ok(())
    }

    /// Reads what there is; `at_once` does not wait for it.
    async fn read(&mut self, at_once: bool) -> Result<(), Error<M::Error>> {
        if self.at_end {
            return Err(Error::Closed);
        }
        let deadline = self.machine.next_deadline().map(|deadline| self.started + deadline);
        let read = poll_fn(|context| match self.poll_fill(context) {
            Poll::Pending if at_once => Poll::Ready(Ok(None)),
            filled => filled.map_ok(Some),
        });
        let read = match deadline {
            // The deadline's work is done by the caller.
            Some(deadline) => timeout_at(deadline, read).await.unwrap_or(Ok(None)),
            None => read.await,
        };
        match read? {
            Some(0) => Err(Error::Closed),
            _ => Ok(()),
        }
    }

    /// Reads behind what is unread; 0 at the end, and when there is no room.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let room = self.input.get_mut(self.unread.end..).unwrap_or_default();
        if room.is_empty() || self.at_end {
            return Poll::Ready(Ok(0));
        }
        let mut buffer = ReadBuf::new(room);
        Pin::new(&mut self.io).poll_read(context, &mut buffer).map_ok(|()| {
            let count = buffer.filled().len();
            self.at_end = count == 0;
            self.unread.end += count;
            count
        })
    }
}
