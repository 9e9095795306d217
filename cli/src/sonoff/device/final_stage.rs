//! The intermediate image over sockets.

use super::link::What;
use super::{Simulation, Stop};
use crate::exit::{Code, Failure};
use serde_json::json;
use spark_ota::sonoff::device::Link;
use spark_ota::sonoff::device::final_stage::{
    AP_NAME, FinalStage, Goal, MAGIC_ADDRESS, Output, Restart, State,
};
use spark_ota::sonoff::upgrade::Slot;
use tokio::time::sleep_until;

/// Its only connection.
const LINK: Link = Link::Download;

fn stopped(code: Code, what: impl core::fmt::Display, next: &str) -> Stop {
    Stop::Failed(Failure::new(code, what, next))
}

/// Runs it until the final image is there.
pub(super) async fn run(
    simulation: &mut Simulation,
    mut running: Slot,
    server: &(String, u16),
    hurry: bool,
) -> Result<(), Stop> {
    let report = simulation.report;
    loop {
        let magic = simulation.flash.part(MAGIC_ADDRESS, 1).first().copied().unwrap_or_default();
        let stage = FinalStage::new(simulation.now(), running, magic);
        let (restart, length) = once(simulation, stage, server, hurry).await?;
        match restart {
            Restart::Slot2 => {
                if let Err(error) = simulation.flash.boots(Slot::User2) {
                    return Err(stopped(
                        Code::Data,
                        format_args!("{}: what is in slot 2 does not start: {error}", report.id),
                        "check the image for user2 with `spark sonoff check --slot 2`",
                    ));
                }
                report.tell("starts again, from user2", "restarted", json!({ "slot": "user2" }));
                running = Slot::User2;
            }
            Restart::Final => {
                if let Err(error) = simulation.flash.boots_from_start(length) {
                    return Err(stopped(
                        Code::Data,
                        format_args!("{}: the final image does not start: {error}", report.id),
                        "a real device would need its serial port now; `spark sonoff check` tells before",
                    ));
                }
                let text = format_args!("done: the final image runs, {length} bytes");
                report.tell(text, "done", json!({ "length": length }));
                return Ok(());
            }
            _ => report.tell("restarts", "restarted", json!({ "slot": running.file_name() })),
        }
    }
}

async fn once(
    simulation: &mut Simulation,
    mut stage: FinalStage,
    server: &(String, u16),
    hurry: bool,
) -> Result<(Restart, u32), Stop> {
    let report = simulation.report;
    let mut trouble: Option<String> = None;
    let mut looks_for_server = false;
    loop {
        while let Some(output) = stage.poll_output() {
            match output {
                Output::OpenAccessPoint => {
                    let text =
                        format_args!("access point {AP_NAME} is open; looks for {}:{}", server.0, server.1);
                    report.tell(text, "final-stage", json!({ "ap": AP_NAME }));
                }
                Output::Connect => {
                    looks_for_server = stage.state() == State::Polling;
                    simulation.links.connect(LINK, &server.0, server.1, false);
                }
                Output::Send(bytes) => {
                    if let Some((path, range)) = super::report::asked(&bytes) {
                        report.tell(
                            format_args!("GET {path}"),
                            "get",
                            json!({ "path": path, "range": range }),
                        );
                    }
                    simulation.links.send(LINK, bytes);
                }
                Output::Close => simulation.links.close(LINK),
                Output::Failed(error) => {
                    let text = error.to_string();
                    report.tell(format_args!("try failed: {text}"), "try-failed", json!({ "reason": text }));
                    trouble = Some(text);
                }
                // What cannot be written is found when it is to start.
                Output::Erase { address } => drop(simulation.flash.erase(address)),
                Output::Write { address, data } => drop(simulation.flash.write(address, &data)),
                Output::Restart(restart) => {
                    simulation.links.close(LINK);
                    return Ok((restart, stage.progress().map_or(0, |(_, length)| length)));
                }
                _ => {}
            }
        }
        match stage.state() {
            State::Stuck => {
                let what = match stage.goal() {
                    Some(Goal::Final) => "the final image",
                    _ => "the image for user2",
                };
                return Err(stopped(
                    Code::Io,
                    format_args!(
                        "{}: the connection was lost in {what}: the device waits for ever",
                        report.id
                    ),
                    "power-cycle a real device; when it does not come back, it needs its serial port",
                ));
            }
            State::NotRecognized => {
                return Err(stopped(
                    Code::Data,
                    format_args!("{}: no image at {MAGIC_ADDRESS:#x}: the device does nothing", report.id),
                    "give a flash with an image in slot 1",
                ));
            }
            State::Blinking if hurry => {
                let left = stage.next_deadline().unwrap_or_default().saturating_sub(simulation.now());
                simulation.skipped = simulation.skipped.saturating_add(left);
            }
            _ => {}
        }
        let deadline = stage.next_deadline().map(|deadline| simulation.instant(deadline));
        let until = simulation.until;
        tokio::select! {
            event = simulation.links.next() => {
                let now = simulation.now();
                match event.what {
                    What::Connected(_) => stage.connected(now),
                    What::Data(bytes) => stage.handle_input(now, &bytes),
                    What::Closed { reason, .. } => {
                        if !looks_for_server || trouble.as_ref() != Some(&reason) {
                            report.tell(&reason, "closed", json!({ "reason": reason }));
                        }
                        trouble = Some(reason);
                        stage.closed(now);
                    }
                }
            }
            () = sleep_until(deadline.unwrap_or(simulation.started)), if deadline.is_some() => {
                stage.handle_deadline(simulation.now());
            }
            () = sleep_until(until.unwrap_or(simulation.started)), if until.is_some() => {
                return Err(simulation.given_up("it is the intermediate image", trouble.as_deref()));
            }
        }
    }
}
