//! The vendor's firmware over sockets.

use super::link::{Event, What};
use super::report::{self, Said};
use super::{Simulation, Stop};
use crate::exit::{Code, Failure};
use core::time::Duration;
use serde_json::json;
use spark_ota::sonoff::device::{Device, Identity, Link, Output, Profile, State};
use spark_ota::sonoff::message::Switches;
use spark_ota::sonoff::provisioning::Access;
use spark_ota::sonoff::upgrade::Slot;
use tokio::net::TcpListener;
use tokio::time::sleep_until;

/// The machine, and what it knows of its network.
pub(super) struct Vendor {
    pub(super) machine: Device,
    pub(super) access: Option<Access>,
}

pub(super) fn start(now: Duration, identity: Identity, profile: Profile, access: Option<Access>) -> Vendor {
    let machine = match &access {
        Some(access) => Device::with_access(now, identity, profile, access.clone()),
        None => Device::pairing(now, identity, profile),
    };
    Vendor { machine, access }
}

/// How far it is to run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Reboot,
    Ready,
}

/// Runs it until it reboots into the slot that this gives.
pub(super) async fn until_reboot(
    simulation: &mut Simulation,
    machine: &mut Device,
    listener: Option<TcpListener>,
    access: &mut Option<Access>,
) -> Result<Slot, Stop> {
    run(simulation, machine, listener, access, Until::Reboot).await
}

/// It starts again and registers.
pub(super) async fn come_back(
    simulation: &mut Simulation,
    identity: Identity,
    profile: Profile,
    access: Option<Access>,
) -> Result<(), Stop> {
    let mut device = start(simulation.now(), identity, profile, access);
    run(simulation, &mut device.machine, None, &mut device.access, Until::Ready).await.map(drop)
}

async fn run(
    simulation: &mut Simulation,
    machine: &mut Device,
    mut listener: Option<TcpListener>,
    access: &mut Option<Access>,
    until: Until,
) -> Result<Slot, Stop> {
    let mut state = machine.state();
    let mut trouble: Option<String> = None;
    loop {
        while let Some(output) = machine.poll_output() {
            if let Output::Join(joined) = &output {
                // The access point closes; what was said there still goes out.
                listener = None;
                *access = Some(joined.clone());
            }
            if let Some(slot) = carry_out(simulation, machine, output, &mut trouble) {
                simulation.links.close_all();
                return Ok(slot);
            }
        }
        if core::mem::replace(&mut state, machine.state()) != machine.state() {
            tell_state(simulation, state, machine);
            state = machine.state();
        }
        if until == Until::Ready && state == State::Ready {
            return Ok(machine.identity().running);
        }
        if state == State::Off {
            return Err(Stop::Failed(Failure::new(
                Code::Unavailable,
                format_args!("{}: nobody came to its access point in 180 s", simulation.report.id),
                "run `spark sonoff provision` while it is open",
            )));
        }
        let deadline = machine.next_deadline().map(|deadline| simulation.instant(deadline));
        let waits_for_client = listener.is_some() && !simulation.links.has(Link::AccessPoint);
        let until_now = simulation.until;
        tokio::select! {
            event = simulation.links.next() => happened(simulation, machine, event, &mut trouble),
            accepted = accept(listener.as_ref()), if waits_for_client => {
                if let Ok((socket, _)) = accepted {
                    simulation.links.adopt(Link::AccessPoint, socket);
                }
            }
            () = sleep_until(deadline.unwrap_or(simulation.started)), if deadline.is_some() => {
                machine.handle_deadline(simulation.now());
            }
            () = sleep_until(until_now.unwrap_or(simulation.started)), if until_now.is_some() => {
                return Err(simulation.given_up(doing(state), trouble.as_deref()));
            }
        }
    }
}

async fn accept(
    listener: Option<&TcpListener>,
) -> std::io::Result<(tokio::net::TcpStream, std::net::SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => core::future::pending().await,
    }
}

const fn doing(state: State) -> &'static str {
    match state {
        State::Pairing => "its access point is open",
        State::Joining => "it joins its network",
        State::Dispatching => "it asks for its server",
        State::Opening => "it opens the WebSocket",
        State::Registering => "it registers",
        State::Dating => "it asks for the date",
        State::Ready => "it waits for an upgrade",
        State::Upgrading => "it downloads",
        State::Verifying => "it checks the image in its flash",
        State::Rebooting => "it reboots",
        _ => "it is off",
    }
}

fn tell_state(simulation: &Simulation, before: State, machine: &Device) {
    let state = machine.state();
    if before == state {
        return;
    }
    let text = format!("{state:?}").to_lowercase();
    simulation.report.tell(doing(state), "state", json!({ "state": text }));
}

/// Does what the machine wants; gives the slot into which it reboots.
fn carry_out(
    simulation: &mut Simulation,
    machine: &mut Device,
    output: Output,
    trouble: &mut Option<String>,
) -> Option<Slot> {
    let report = simulation.report;
    match output {
        Output::Join(access) => {
            let (ssid, server) = (access.ssid(), access.server_name().as_str());
            let fields = json!({ "ssid": ssid, "server": server, "port": access.port() });
            report.tell(format_args!("joins {ssid:?}; server {server}:{}", access.port()), "joining", fields);
            machine.joined(simulation.now(), true);
        }
        Output::Connect { link, host, port, tls } => {
            let fields = json!({ "link": report::name(link), "host": host, "port": port, "tls": tls });
            let how = if tls { " with TLS" } else { "" };
            let text = format_args!("{}: connects to {host}:{port}{how}", report::name(link));
            report.tell(text, "connecting", fields);
            simulation.links.connect(link, &host, port, tls);
        }
        Output::Send { link, bytes } => {
            if link == Link::WebSocket
                && let Some(said) = Said::of(&bytes)
            {
                let fields = json!({ "message": said.message, "code": said.code });
                report.tell(said.text(), "said", fields);
                if said.code.is_some_and(|code| code != 0) {
                    *trouble = Some(format!("it {}", said.text()));
                }
            }
            if link == Link::Download
                && let Some((path, range)) = report::asked(&bytes)
            {
                // A line for each of sixty ranges is for programs.
                if report.json || range.as_deref().is_none_or(|range| range.starts_with("bytes=0-")) {
                    let text = format!("GET {path} {}", range.as_deref().unwrap_or("without a range"));
                    report.tell(text, "get", json!({ "path": path, "range": range }));
                }
            }
            simulation.links.send(link, bytes);
        }
        Output::Close(link) => simulation.links.close(link),
        Output::Switch(switches) => {
            let on = match switches {
                Switches::One(switch) => switch.as_str(),
                _ => "several",
            };
            report.tell(format_args!("relay: {on}"), "switched", json!({ "switch": on }));
        }
        Output::Erase { address } => {
            let done = simulation.flash.erase(address);
            flashed(simulation, machine, done, address, trouble);
        }
        Output::Write { address, data } => {
            let done = simulation.flash.write(address, &data);
            flashed(simulation, machine, done, address, trouble);
        }
        Output::Hash { address, length } => {
            let fields = json!({ "address": address, "length": length });
            report.tell(format_args!("has {length} bytes at {address:#x}"), "downloaded", fields);
            machine.hashed(simulation.now(), simulation.flash.hash(address, length));
        }
        Output::Reboot(slot) => {
            report.tell(
                format_args!("reboots into {slot}"),
                "rebooting",
                json!({ "slot": slot.file_name() }),
            );
            return Some(slot);
        }
        _ => {}
    }
    None
}

fn flashed(
    simulation: &Simulation,
    machine: &mut Device,
    done: bool,
    address: u32,
    trouble: &mut Option<String>,
) {
    if !done {
        *trouble = Some(format!("flash cannot be written at {address:#x}"));
        machine.flash_failed(simulation.now());
    }
}

fn happened(simulation: &mut Simulation, machine: &mut Device, event: Event, trouble: &mut Option<String>) {
    let (now, link, report) = (simulation.now(), event.link, simulation.report);
    match event.what {
        What::Connected(tls) => {
            let named = tls.map(|(version, cipher)| json!({ "version": version, "cipher": cipher }));
            let how = tls.map(|(version, cipher)| format!(" ({version}, {cipher})")).unwrap_or_default();
            let text = format_args!("{}: connected{how}", report::name(link));
            report.tell(text, "connected", json!({ "link": report::name(link), "tls": named }));
            machine.connected(now, link);
        }
        What::Data(bytes) => machine.handle_input(now, link, &bytes),
        What::Closed { code, reason } => {
            if link != Link::AccessPoint {
                let text = format!("{}: {reason}", report::name(link));
                let fields = json!({ "link": report::name(link), "code": code, "reason": reason });
                report.tell(&text, "closed", fields);
                *trouble = Some(text);
            }
            machine.closed(now, link);
        }
    }
}
