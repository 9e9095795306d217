//! Sending an image to a plain DFU device.

use core::time::Duration;

use super::super::{
    Action, HostError, Image, Input, Link, Machine, Place, PlanError, Progress, Span, Step,
    exchange::Exchange,
};
use crate::{request::SetupPacket, state::State};

/// How a download ended. All of them are success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Manifested {
    /// The device put the image in place and is in dfuIDLE (bitManifestationTolerant).
    Idle,
    /// The device waited for a bus reset and got it.
    Reset,
    /// The device waits for a bus reset, which this transport cannot do: unplug it.
    NeedsReset,
    /// The device went away while it put the image in place.
    Disconnected,
}

/// Sends an image, tells its end with a zero-length DNLOAD, and sees the manifestation through.
///
/// Starts in dfuIDLE with the alternate setting selected. `buffer` holds one block.
///
/// # Source
/// USB DFU 1.1, sections 6.1 and 7; block numbers and polling of dfu-util 0.11: src/dfu_load.c.
#[derive(Clone)]
pub struct Download<I, B> {
    link: Link,
    image: I,
    buffer: B,
    total: u32,
    done: u32,
    block: u16,
    stage: Stage,
    exchange: Exchange,
    outcome: Option<Manifested>,
    cancelled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Write,
    /// The zero-length DNLOAD and all replies until the image is in place.
    Manifest,
    Reset,
    /// To dfuIDLE, because the job was cancelled.
    Abort,
    Finished,
}

/// Without the image: it may be a private key.
impl<I, B> core::fmt::Debug for Download<I, B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Download")
            .field("total", &self.total)
            .field("done", &self.done)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<I: Image, B: AsRef<[u8]> + AsMut<[u8]>> Download<I, B> {
    /// A download of the first `len` bytes of `image`, whose addresses count from 0.
    ///
    /// # Errors
    /// [`PlanError`]: the image is empty, has 4 GiB or cannot be read, the device has no transfer size, or `buffer` is
    /// shorter than one block.
    pub fn new(link: Link, image: I, len: usize, buffer: B) -> Result<Self, PlanError> {
        let total = Span::new(0, len)?.len;
        let (needed, available) = (usize::from(link.block_size()), buffer.as_ref().len());
        if needed == 0 {
            return Err(PlanError::NoTransferSize);
        }
        if available < needed {
            return Err(PlanError::BufferTooSmall { needed, available });
        }
        let place = Place { step: Step::Write, block: 0, address: 0 };
        let mut machine = Self {
            link,
            image,
            buffer,
            total,
            done: 0,
            block: 0,
            stage: Stage::Write,
            exchange: Exchange::new(place, State::DnloadIdle),
            outcome: None,
            cancelled: false,
        };
        let Ok(()) = machine.load() else { return Err(PlanError::UnreadableImage { address: 0 }) };
        Ok(machine)
    }

    /// How it ended; `None` until then.
    #[must_use]
    pub const fn outcome(&self) -> Option<Manifested> {
        self.outcome
    }

    /// Bytes that are on the device.
    #[must_use]
    pub const fn written(&self) -> u32 {
        self.done
    }

    fn block_len(&self) -> u16 {
        let left = self.total.saturating_sub(self.done);
        u16::try_from(left).map_or(self.link.block_size(), |left| left.min(self.link.block_size()))
    }

    fn load(&mut self) -> Result<(), HostError> {
        let place = self.exchange.place;
        let len = usize::from(self.block_len());
        let target = self.buffer.as_mut().get_mut(..len).unwrap_or_default();
        self.image.read(self.done, target).map_err(|source| HostError::Image { place, source })
    }

    fn begin(&mut self, stage: Stage, step: Step) {
        self.stage = stage;
        let expected = if stage == Stage::Write { State::DnloadIdle } else { State::Idle };
        self.exchange = Exchange::new(Place { step, block: self.block, address: self.done }, expected);
    }

    fn end(&mut self, outcome: Manifested) {
        self.outcome = Some(outcome);
        self.stage = Stage::Finished;
    }

    fn step(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let place = self.exchange.place;
        match (self.stage, input) {
            (Stage::Finished, _) => return Err(HostError::UnexpectedInput { place }),
            (Stage::Manifest, _) if self.exchange.is_settling() => return self.manifest(now, input),
            (Stage::Reset, Input::BusReset | Input::Disconnected) => {
                self.end(Manifested::Reset);
                return Ok(None);
            }
            (Stage::Reset, Input::Unsupported) => {
                self.end(Manifested::NeedsReset);
                return Ok(None);
            }
            (Stage::Reset, Input::Stalled | Input::TimedOut) => return Err(HostError::TimedOut { place }),
            (Stage::Reset, _) => return Err(HostError::UnexpectedInput { place }),
            _ => {}
        }
        if self.exchange.handle(now, input, &self.link)?.is_none() {
            return Ok(None);
        }
        if self.stage == Stage::Abort {
            self.stage = Stage::Finished;
            return Err(HostError::Cancelled { place });
        }
        self.done = self.done.saturating_add(self.block_len().into());
        self.block = self.block.wrapping_add(1);
        let progress = Progress::Written { done: self.done.into(), total: self.total.into() };
        if self.cancelled {
            self.begin(Stage::Abort, Step::Abort);
        } else if self.done < self.total {
            self.begin(Stage::Write, Step::Write);
            self.load()?;
        } else {
            self.begin(Stage::Manifest, Step::Manifest);
        }
        Ok(Some(progress))
    }

    /// Replies after the zero-length DNLOAD. From here on nothing can be taken back, and going away is success.
    fn manifest(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let polling = self.exchange.is_polling();
        let tolerant = self.link.attributes.manifestation_tolerant();
        match input {
            Input::Disconnected => self.end(Manifested::Disconnected),
            Input::Stalled | Input::TimedOut if polling && !tolerant => {
                self.begin(Stage::Reset, Step::Manifest);
            }
            Input::InDone(bytes) if polling => {
                let reply = self.exchange.reply(bytes)?;
                match reply.state {
                    State::Idle => self.end(Manifested::Idle),
                    State::ManifestWaitReset => self.begin(Stage::Reset, Step::Manifest),
                    State::DnloadSync | State::DnBusy | State::ManifestSync | State::Manifest => {
                        self.exchange.wait(now, reply.poll_timeout, &self.link)?;
                    }
                    _ => self.exchange.give_up(reply)?,
                }
            }
            _ => {
                self.exchange.handle(now, input, &self.link)?;
            }
        }
        Ok(None)
    }
}

impl<I: Image, B: AsRef<[u8]> + AsMut<[u8]>> Machine for Download<I, B> {
    fn action(&self) -> Action<'_> {
        let interface = self.link.interface;
        let request = match self.stage {
            Stage::Write => {
                let len = self.block_len();
                let buffer = self.buffer.as_ref();
                let data = buffer.get(..usize::from(len)).unwrap_or(buffer);
                Action::Out { setup: SetupPacket::dnload(interface, self.block, len), data }
            }
            Stage::Manifest => {
                Action::Out { setup: SetupPacket::dnload(interface, self.block, 0), data: &[] }
            }
            Stage::Reset => return Action::ResetBus,
            Stage::Abort => Action::Out { setup: SetupPacket::abort(interface), data: &[] },
            Stage::Finished => return Action::Finished,
        };
        self.exchange.action(interface, request)
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let result = self.step(now, input);
        if result.is_err() {
            self.stage = Stage::Finished;
        }
        result
    }

    fn cancel(&mut self) {
        self.cancelled = true;
    }
}
