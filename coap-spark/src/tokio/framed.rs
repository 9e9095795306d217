//! A machine on a byte stream.

use super::error::{Broken, Error};
use super::parts::Parts;
use crate::connection::{Machine, SendError};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use core::time::Duration;
use std::io;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::{Zeroize, Zeroizing};

/// Bytes read at once: a few frames.
const READ: usize = 4096;
/// Room for one output of a machine.
const FRAME: usize = 2048;
/// A peer that has not taken a message after this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(50);
/// Between two looks at a machine that waits for its owner.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// A machine and the stream it speaks over, with a clock that starts when it is made.
pub struct Framed<S, M> {
    io: S,
    pub(super) machine: M,
    started: Instant,
    write_timeout: Duration,
    /// What was read and not taken by the machine. Nothing is allocated while it is empty: most peers are silent.
    input: Vec<u8>,
    /// Bytes at its beginning that were taken meanwhile.
    taken: usize,
    /// The peer sends no more.
    at_end: bool,
    /// Sealed and not written: what the machine put out at one time, never more.
    output: Vec<u8>,
    /// When that was.
    staged: Instant,
    /// All output has left the transport's buffers too.
    is_flushed: bool,
    /// Nothing more can be written. Told when nothing more can be read either.
    broken: Option<Broken>,
    /// Where the machine encodes and seals.
    frame: Box<Zeroizing<[u8; FRAME]>>,
}

impl<S: fmt::Debug, M: fmt::Debug> fmt::Debug for Framed<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed")
            .field("io", &self.io)
            .field("machine", &self.machine)
            .field("unread", &self.unread().len())
            .field("at_end", &self.at_end)
            .field("output", &self.output.len())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

impl<S, M> Framed<S, M> {
    /// Begins. The machine's clock must have begun at `started`.
    pub fn new(io: S, machine: M, started: Instant) -> Self {
        Self::from_parts(Parts { io, machine, unread: Vec::new(), output: Vec::new(), started })
    }

    /// Goes on where [`Framed::into_parts`] ended. The write time-out begins anew.
    pub fn from_parts(parts: Parts<S, M>) -> Self {
        let Parts { io, machine, unread: input, output, started } = parts;
        Self {
            io,
            machine,
            started,
            write_timeout: WRITE_TIMEOUT,
            input,
            taken: 0,
            at_end: false,
            output,
            staged: Instant::now(),
            is_flushed: false,
            broken: None,
            frame: Box::new(Zeroizing::new([0; FRAME])),
        }
    }

    /// The stream and the machine, what was read and not taken by it, and what it sealed and was not written.
    #[must_use]
    pub fn into_parts(self) -> Parts<S, M> {
        let Self { io, machine, mut input, taken, output, started, .. } = self;
        input.drain(..taken.min(input.len()));
        Parts { io, machine, unread: input, output, started }
    }

    /// Gives the peer this long to take a whole message, 50 s otherwise.
    pub const fn set_write_timeout(&mut self, timeout: Duration) {
        self.write_timeout = timeout;
    }

    fn unread(&self) -> &[u8] {
        self.input.get(self.taken..).unwrap_or_default()
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
}

impl<S: AsyncRead + AsyncWrite + Unpin, M: Machine> Framed<S, M> {
    /// One step: sends what is due, waits for bytes or for the machine's deadline if nothing was, and hands over what
    /// came. Afterwards look at the machine. May be dropped at any time without loss.
    ///
    /// While the machine always has something to send, as in a fast update, each step sends one frame and looks whether
    /// bytes have come, without waiting for any. When the machine does nothing at all, because it waits for its owner,
    /// each step takes some milliseconds.
    ///
    /// # Errors
    /// [`Error`]; close the stream. A failure of the transport is told after all that came before it.
    pub async fn turn(&mut self) -> Result<(), Error<M::Error>> {
        self.write_pending().await?;
        // When nothing can be written, replies have still to be taken from the machine, so that it takes input.
        let has_sent = (self.broken.is_none() || !self.unread().is_empty()) && self.stage_output()?;
        self.write_pending().await?;
        let was_due = self.is_due();
        if self.unread().is_empty() {
            self.read(has_sent || was_due).await?;
        }
        let now = self.now();
        let bytes = self.input.get(self.taken..).unwrap_or_default();
        let used = match bytes {
            [] => 0,
            _ => self.machine.handle_input(now, bytes).map_err(Error::Machine)?,
        };
        self.taken += used;
        if self.unread().is_empty() {
            (self.input, self.taken) = (Vec::new(), 0);
        }
        self.machine.handle_deadline(now).map_err(Error::Machine)?;
        let waits_for_owner = !self.unread().is_empty() || was_due && self.is_due();
        if used == 0 && !has_sent && waits_for_owner {
            sleep(SHORTEST_WAIT).await;
        }
        Ok(())
    }

    /// Sends all that is due. May be dropped at any time without loss.
    ///
    /// # Errors
    /// [`Error`]; close the stream.
    pub async fn flush(&mut self) -> Result<(), Error<M::Error>> {
        loop {
            self.write_pending().await?;
            if let Some(broken) = &mut self.broken {
                return Err(broken.tell());
            }
            if !self.stage_output()? {
                return Ok(());
            }
        }
    }

    /// Sends all that is due, then what `seal` puts into the buffer: it gives a value for the caller and a length. So
    /// owed replies go first, and no more than one message of a caller is ever staged.
    pub(super) async fn send_sealed<T>(
        &mut self,
        seal: impl FnOnce(&mut M, Duration, &mut [u8]) -> Result<(T, usize), SendError>,
    ) -> Result<T, Error<M::Error>> {
        self.flush().await?;
        let now = self.now();
        let frame = self.frame.as_mut_slice();
        match seal(&mut self.machine, now, frame) {
            Ok((value, len)) => {
                self.output.extend_from_slice(frame.get(..len).unwrap_or_default());
                self.mark_staged();
                self.flush().await?;
                Ok(value)
            }
            Err(error) => {
                frame.zeroize();
                Err(Error::Send(error))
            }
        }
    }

    /// The machine's next output, if it has one. There is no other.
    fn stage_output(&mut self) -> Result<bool, Error<M::Error>> {
        let now = self.started.elapsed();
        let frame = self.frame.as_mut_slice();
        match self.machine.poll_output(now, frame) {
            Ok(Some(_)) if self.broken.is_some() => Ok(true),
            Ok(Some(bytes)) => {
                self.output.extend_from_slice(bytes);
                self.mark_staged();
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                frame.zeroize();
                Err(Error::Send(error))
            }
        }
    }

    fn mark_staged(&mut self) {
        self.staged = Instant::now();
        self.is_flushed = false;
    }

    /// Writes what is staged, within its time and the machine's. A failure is kept for later.
    async fn write_pending(&mut self) -> Result<(), Error<M::Error>> {
        while !self.is_flushed && self.broken.is_none() {
            let last = self.last_of_writing();
            // A peer whose bytes nobody has looked at yet is not silent.
            let deadline = if self.unread().is_empty() { self.deadline() } else { None };
            let wake = [last, deadline].into_iter().flatten().min();
            if until(wake, poll_fn(|context| self.poll_written(context))).await.is_some() {
                break;
            }
            if last.is_some_and(|last| Instant::now() >= last) {
                self.broken = Some(Broken::Stuck(self.write_timeout));
                self.at_end = true;
            } else if self.unread().is_empty() {
                let now = self.now();
                self.machine.handle_deadline(now).map_err(Error::Machine)?;
            }
        }
        Ok(())
    }

    /// Writes and flushes. While the peer takes nothing, what it sends is read: it may be waiting for that.
    fn poll_written(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.poll_write_all(context) {
            Poll::Ready(Ok(())) => self.is_flushed = true,
            Poll::Ready(Err(error)) => self.broken = Some(Broken::Io(error)),
            Poll::Pending => {
                while self.poll_fill(context) == Poll::Ready(true) {}
                if self.broken.is_none() {
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(())
    }

    fn poll_write_all(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(context, &self.output))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => drop(self.output.drain(..count)),
            }
        }
        Pin::new(&mut self.io).poll_flush(context)
    }

    /// Reads what there is; `at_once` does not wait for it. The deadline's work is done by the caller.
    async fn read(&mut self, at_once: bool) -> Result<(), Error<M::Error>> {
        // A transport that cannot be written to is not read for ever.
        let last = self.broken.as_ref().and_then(|_| self.last_of_writing());
        let wake = [last, self.deadline()].into_iter().flatten().min();
        let read = poll_fn(|context| match self.poll_fill(context) {
            Poll::Pending if !at_once => Poll::Pending,
            _ => Poll::Ready(()),
        });
        until(wake, read).await;
        self.at_end |= last.is_some_and(|last| Instant::now() >= last);
        if self.at_end && self.unread().is_empty() {
            return Err(self.broken.as_mut().map_or(Error::Closed, Broken::tell));
        }
        Ok(())
    }

    /// Reads behind what is unread; `false` at the end, and when there is no room.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        self.input.drain(..self.taken.min(self.input.len()));
        self.taken = 0;
        let mut space = [const { MaybeUninit::uninit() }; READ];
        let room = space.get_mut(self.input.len()..).unwrap_or_default();
        if room.is_empty() || self.at_end {
            return Poll::Ready(false);
        }
        let mut buffer = ReadBuf::uninit(room);
        let read = ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer));
        let count = buffer.filled().len();
        self.input.extend_from_slice(buffer.filled());
        self.at_end = count == 0;
        if let Err(error) = read {
            self.at_end = true;
            self.broken.get_or_insert(Broken::Io(error));
        }
        Poll::Ready(!self.at_end)
    }

    /// When the staged output has to be written; `None` if that is beyond the clock.
    fn last_of_writing(&self) -> Option<Instant> {
        self.staged.checked_add(self.write_timeout)
    }

    fn is_due(&self) -> bool {
        self.machine.next_deadline().is_some_and(|deadline| deadline <= self.now())
    }

    /// When the machine wants to look at the clock, but never at once. `None` if that is beyond the clock.
    fn deadline(&self) -> Option<Instant> {
        let deadline = self.started.checked_add(self.machine.next_deadline()?)?;
        let now = Instant::now();
        if deadline > now { Some(deadline) } else { now.checked_add(SHORTEST_WAIT) }
    }
}

/// `None` if the time is over first.
async fn until<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}
