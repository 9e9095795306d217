//! Reading memory by DfuSe: into a buffer, or to compare it.

use core::time::Duration;

use super::{
    Action, HostError, Input, Link, Machine, PlanError, Progress, ReadPlan, Step, pages::Span, reader::Reader,
};

/// Reads the range of a plan into a buffer: SET_ADDRESS, ABORT, then blocks 2, 3, 4 and so on, and ABORT.
///
/// The length is the plan's, since a Photon never ends an upload by itself. Before block numbers run out the pointer is
/// set anew, so blocks never wrap into the reserved numbers 0 and 1. Starts and ends in dfuIDLE.
///
/// # Source
/// ST AN3156, section 4.2; dfu-util 0.11: src/dfuse.c.
pub struct Upload<'b> {
    job: Job,
    buffer: &'b mut [u8],
}

/// Without the bytes: they may be a private key.
impl core::fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Upload").field("job", &self.job).finish_non_exhaustive()
    }
}

impl<'b> Upload<'b> {
    /// An upload of as many bytes as the plan and the buffer have.
    ///
    /// # Errors
    /// [`PlanError::LengthDiffers`] if the buffer has another length, [`PlanError::NoTransferSize`].
    pub fn new(link: Link, plan: &ReadPlan, buffer: &'b mut [u8]) -> Result<Self, PlanError> {
        Ok(Self { job: Job::new(link, plan, buffer.len(), Step::Read)?, buffer })
    }

    /// Bytes at the start of the buffer that are read.
    #[must_use]
    pub const fn received(&self) -> u32 {
        self.job.reader.done()
    }
}

impl Machine for Upload<'_> {
    fn action(&self) -> Action<'_> {
        self.job.action()
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let Some((offset, data)) = self.job.handle(now, input)? else { return Ok(None) };
        let target = self.buffer.get_mut(offset..).unwrap_or_default();
        for (to, from) in target.iter_mut().zip(data) {
            *to = *from;
        }
        let (done, total) = self.job.progress();
        Ok(Some(Progress::Read { done, total: Some(total) }))
    }

    fn cancel(&mut self) {
        self.job.cancelled = true;
    }
}

/// Reads like [`Upload`] and compares with the expected bytes while they come; stops at the first difference.
#[derive(Clone)]
pub struct Verify<'a> {
    job: Job,
    expected: &'a [u8],
}

/// Without the bytes: they may be a private key.
impl core::fmt::Debug for Verify<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Verify").field("job", &self.job).finish_non_exhaustive()
    }
}

impl<'a> Verify<'a> {
    /// A comparison of the range of the plan with `expected`.
    ///
    /// # Errors
    /// [`PlanError::LengthDiffers`] if `expected` has another length, [`PlanError::NoTransferSize`].
    pub fn new(link: Link, plan: &ReadPlan, expected: &'a [u8]) -> Result<Self, PlanError> {
        Ok(Self { job: Job::new(link, plan, expected.len(), Step::Verify)?, expected })
    }
}

impl Machine for Verify<'_> {
    fn action(&self) -> Action<'_> {
        self.job.action()
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let Some((offset, data)) = self.job.handle(now, input)? else { return Ok(None) };
        let wanted = self.expected.get(offset..).unwrap_or_default();
        if let Some(error) = mismatch(self.job.address_of(offset), wanted, data) {
            self.job.failed = true;
            return Err(error);
        }
        let (done, total) = self.job.progress();
        Ok(Some(Progress::Verified { done, total }))
    }

    fn cancel(&mut self) {
        self.job.cancelled = true;
    }
}

/// The first difference between what was expected and what was found, as an error.
pub(super) fn mismatch(address: u32, expected: &[u8], found: &[u8]) -> Option<HostError> {
    if expected.get(..found.len()) == Some(found) {
        return None;
    }
    let mut pairs = (0..).zip(expected.iter().zip(found));
    let (offset, (&expected, &found)) = pairs.find(|(_, (expected, found))| expected != found)?;
    Some(HostError::Mismatch { address: address.saturating_add(offset), expected, found })
}

/// The part that [`Upload`] and [`Verify`] share: it hands the data out with its offset.
#[derive(Debug, Clone)]
struct Job {
    link: Link,
    span: Span,
    reader: Reader,
    cancelled: bool,
    failed: bool,
}

impl Job {
    fn new(link: Link, plan: &ReadPlan, given: usize, purpose: Step) -> Result<Self, PlanError> {
        let span = plan.span;
        if usize::try_from(span.len) != Ok(given) {
            return Err(PlanError::LengthDiffers { planned: span.len, given });
        }
        if link.block_size() == 0 {
            return Err(PlanError::NoTransferSize);
        }
        Ok(Self { link, span, reader: Reader::new(span, purpose), cancelled: false, failed: false })
    }

    fn action(&self) -> Action<'_> {
        if self.failed { Action::Finished } else { self.reader.action(&self.link) }
    }

    fn address_of(&self, offset: usize) -> u32 {
        self.span.address.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX))
    }

    fn progress(&self) -> (u64, u64) {
        (self.reader.done().into(), self.span.len.into())
    }

    fn handle<'d>(
        &mut self,
        now: Duration,
        input: Input<'d>,
    ) -> Result<Option<(usize, &'d [u8])>, HostError> {
        let place = self.reader.place();
        if self.failed {
            return Err(HostError::UnexpectedInput { place });
        }
        let result = self.reader.handle(now, input, &self.link);
        if self.cancelled {
            self.reader.stop();
        }
        let short = self.reader.is_finished() && self.reader.done() < self.span.len;
        let result = if result.is_ok() && short { Err(HostError::Cancelled { place }) } else { result };
        self.failed = result.is_err();
        let offset =
            |address: u32| usize::try_from(address.wrapping_sub(self.span.address)).unwrap_or(usize::MAX);
        Ok(result?.map(|(address, data)| (offset(address), data)))
    }
}
