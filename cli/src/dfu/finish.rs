//! The end of a job: starting the firmware, resetting the bus.

use super::port::Port;
use super::{DeviceOptions, job_failed};
use crate::exit::{Failure, chain};
use crate::ui::Ui;
use spark_dfu::host::{Leave, LeaveOutcome, Link, TransferFailure, drive};

/// Starts the firmware.
pub(super) fn leave(
    ui: &Ui,
    port: &mut dyn Port,
    link: Link,
    start: Option<u32>,
) -> Result<&'static str, Failure> {
    let mut leave = Leave::new(link, start);
    drive(&mut leave, port, &mut [0; 64], |_| ()).map_err(|error| job_failed(&error))?;
    ui.line("left DFU mode");
    Ok(match leave.outcome() {
        Some(LeaveOutcome::Answered(_)) => "answered",
        Some(LeaveOutcome::Disconnected) => "disconnected",
        _ => "unanswered",
    })
}

/// `-R`. The job is done; a device that cannot be reset is worth a word, not a failure. One that is gone became its
/// application, now or earlier.
pub(super) fn reset(options: &DeviceOptions, port: &mut dyn Port) {
    match port.reset_bus() {
        Ok(()) | Err(TransferFailure::Disconnected) => {}
        Err(error) => options.ui().line(&format!("the bus was not reset: {}", chain(&error))),
    }
}
