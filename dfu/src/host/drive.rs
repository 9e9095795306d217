//! Running a machine over a blocking transport.

use core::time::Duration;

use super::{Action, HostError, Input, Machine, Place, Progress, Step};
use crate::request::SetupPacket;

/// Why a control transfer brought nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(
    clippy::exhaustive_enums,
    reason = "what a machine can tell apart; map other errors of a USB stack to these"
)]
pub enum TransferFailure {
    /// The device stalled (a "pipe error" in libusb's words).
    #[error("the device stalled the transfer")]
    Stalled,
    /// No answer in time. Use 5 s or more: some devices erase inside a request.
    #[error("the transfer timed out")]
    TimedOut,
    /// The device is gone, or the bus failed for good.
    #[error("the device is gone")]
    Disconnected,
    /// This transport cannot do it.
    #[error("the transport cannot do this")]
    Unsupported,
}

/// Control transfers of a USB stack, a simulator or a test.
pub trait ControlTransfer {
    /// Sends `data` (exactly `setup.length` bytes, maybe none).
    ///
    /// # Errors
    /// [`TransferFailure`].
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure>;

    /// Receives up to `buffer.len()` bytes, which is `setup.length`, and returns their number.
    ///
    /// # Errors
    /// [`TransferFailure`].
    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure>;

    /// Resets the bus, for [`Action::ResetBus`]. A transport that cannot keeps this body.
    ///
    /// # Errors
    /// [`TransferFailure`].
    fn reset_bus(&mut self) -> Result<(), TransferFailure> {
        Err(TransferFailure::Unsupported)
    }

    /// Looks for the device in DFU mode until the time of [`Action::FindAgain`]; the next transfers go to what was found.
    /// `false` if it did not come. A transport that cannot keeps this body.
    ///
    /// # Errors
    /// [`TransferFailure`].
    fn find_again(&mut self, _until: Duration) -> Result<bool, TransferFailure> {
        Err(TransferFailure::Unsupported)
    }
}

/// Time for [`drive`].
pub trait Clock {
    /// Time since any fixed start.
    fn now(&mut self) -> Duration;

    /// Returns at this time or later; earlier is harmless but busy.
    fn wait_until(&mut self, until: Duration);
}

/// Runs a machine to its end. `buffer` takes the IN data and has to hold one block, wTransferSize bytes.
///
/// # Errors
/// [`HostError`] of the machine, or [`HostError::TransferBuffer`].
pub fn drive<M, T>(
    machine: &mut M,
    bus: &mut T,
    buffer: &mut [u8],
    on_progress: impl FnMut(Progress),
) -> Result<(), HostError>
where
    M: Machine + ?Sized,
    T: ControlTransfer + Clock + ?Sized,
{
    drive_while(machine, bus, buffer, on_progress, || true)
}

/// [`drive`], but the machine is cancelled when `keep_going` first says no; it is asked at the start and after every action.
///
/// # Errors
/// As [`drive`], and [`HostError::Cancelled`].
pub fn drive_while<M, T>(
    machine: &mut M,
    bus: &mut T,
    buffer: &mut [u8],
    mut on_progress: impl FnMut(Progress),
    mut keep_going: impl FnMut() -> bool,
) -> Result<(), HostError>
where
    M: Machine + ?Sized,
    T: ControlTransfer + Clock + ?Sized,
{
    let mut going = true;
    if !keep_going() {
        return Err(HostError::Cancelled { place: Place { step: Step::Start, block: 0, address: 0 } });
    }
    loop {
        let input = match machine.action() {
            Action::Finished => return Ok(()),
            Action::Out { setup, data } => match bus.control_out(setup, data) {
                Ok(()) => Input::OutDone,
                Err(failure) => failure.into(),
            },
            Action::In { setup } => {
                let (needed, available) = (usize::from(setup.length), buffer.len());
                let Some(target) = buffer.get_mut(..needed) else {
                    return Err(HostError::TransferBuffer { needed, available });
                };
                match bus.control_in(setup, target) {
                    Ok(len) => match target.get(..len) {
                        Some(data) => Input::InDone(data),
                        None => {
                            let place = Place { step: Step::Read, block: setup.value, address: 0 };
                            return Err(HostError::UnexpectedInput { place });
                        }
                    },
                    Err(failure) => failure.into(),
                }
            }
            Action::Wait { until } => {
                bus.wait_until(until);
                Input::TimeReached
            }
            Action::ResetBus => bus.reset_bus().map_or_else(Into::into, |()| Input::BusReset),
            Action::FindAgain { until } => match bus.find_again(until) {
                Ok(true) => Input::Found,
                Ok(false) => {
                    bus.wait_until(until);
                    Input::TimeReached
                }
                Err(failure) => failure.into(),
            },
        };
        // Before the machine moves on: it would begin the next page.
        if going && !keep_going() {
            going = false;
            machine.cancel();
        }
        if let Some(progress) = machine.handle(bus.now(), input)? {
            on_progress(progress);
        }
    }
}

impl From<TransferFailure> for Input<'_> {
    fn from(failure: TransferFailure) -> Self {
        match failure {
            TransferFailure::Stalled => Self::Stalled,
            TransferFailure::TimedOut => Self::TimedOut,
            TransferFailure::Disconnected => Self::Disconnected,
            TransferFailure::Unsupported => Self::Unsupported,
        }
    }
}
