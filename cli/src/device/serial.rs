//! A simulated Photon at a serial port: a pseudo-terminal, which real serial programs can open.

use super::fleet::Member;
use super::report::mode;
use crate::exit::Failure;
use crate::ui;
use coap_spark::handshake::DeviceId;
use serde_json::{Value, json};
use spark_sim::Started;

/// What a device at a serial port tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Note<'a> {
    /// Its port.
    Port(&'a str),
    /// It has started.
    Started(Started),
    /// It waits for commands.
    Listening,
    /// It has left listening mode; only speeds of the port are commands now.
    Left,
    /// A file begins to arrive.
    Receiving,
    /// It has an image and restarts.
    Updated,
    /// It restarts.
    Restarting,
}

fn tell(id: DeviceId, json: bool, note: Note<'_>) {
    let (happening, text, fields): (_, _, Value) = match note {
        Note::Port(name) => ("serial-port", format!("its serial port is {name}"), json!({ "port": name })),
        Note::Started(started) => {
            ("started", format!("started: {}", mode(started)), json!({ "mode": mode(started) }))
        }
        Note::Listening => ("listening", "it listens".to_owned(), json!({})),
        Note::Left => ("listening-left", "it has left listening mode".to_owned(), json!({})),
        Note::Receiving => ("update", "a file arrives".to_owned(), json!({ "state": "began" })),
        Note::Updated => ("reset", "it has an image and restarts".to_owned(), json!({ "code": "update" })),
        Note::Restarting => ("reset", "it restarts".to_owned(), json!({ "code": "reboot" })),
    };
    if !json {
        ui::say(format_args!("{id}: {text}"));
        return;
    }
    let mut line = json!({ "device_id": id.to_string(), "happening": happening });
    if let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) {
        line.extend(fields);
    }
    // A full disk ends nothing here: the device goes on.
    let _ = ui::print(line);
}

/// Runs one device at a pseudo-terminal until it is interrupted.
///
/// # Errors
/// [`Failure`] if there is no pseudo-terminal, or the flash cannot be kept.
#[cfg(unix)]
pub(super) fn run(members: Vec<Member>, json: bool) -> Result<(), Failure> {
    unix::run(members, json)
}

/// There are no pseudo-terminals here.
#[cfg(not(unix))]
pub(super) fn run(_members: Vec<Member>, _json: bool) -> Result<(), Failure> {
    Err(Failure::new(
        crate::exit::Code::Unavailable,
        "a simulated device has a serial port on Unix only",
        "use a computer with Linux or macOS; real devices work here, too",
    ))
}

#[cfg(unix)]
mod unix {
    use super::{Note, tell};
    use crate::device::fleet::Member;
    use crate::exit::{Code, Failure};
    use core::time::Duration;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fd::OwnedFd;
    use rustix::io::Errno;
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    use spark_sim::Started;
    use spark_sim::serial::{SerialEnd, SerialMode};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    /// Between two looks at a port that nobody has opened, at its speed, and at a request to stop.
    const SLICE: Duration = Duration::from_millis(20);
    /// From DFU mode, in which nobody does anything, to the next start.
    const IN_DFU_MODE: Duration = Duration::from_secs(1);

    /// The device's end of a pseudo-terminal.
    struct Pty {
        controller: OwnedFd,
        name: String,
    }

    impl Pty {
        fn open() -> Result<Self, Errno> {
            let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
            grantpt(&controller)?;
            unlockpt(&controller)?;
            let name = ptsname(&controller, Vec::new())?.to_string_lossy().into_owned();
            // A program that does not ask for raw bytes gets them all the same. Some systems know no such thing
            // before the other end was opened.
            if let Ok(mut attributes) = tcgetattr(&controller) {
                attributes.make_raw();
                let _ = tcsetattr(&controller, OptionalActions::Now, &attributes);
            }
            rustix::io::ioctl_fionbio(&controller, true)?;
            Ok(Self { controller, name })
        }

        /// What the host sent; nothing if nobody is there.
        fn read<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
            match rustix::io::read(&self.controller, &mut *buffer) {
                Ok(len) => Ok(buffer.get(..len).unwrap_or_default()),
                // The other end is closed, or not open yet.
                Err(Errno::AGAIN | Errno::INTR | Errno::IO) => Ok(&[]),
                Err(error) => Err(error),
            }
        }

        /// Says all, unless nobody takes it: then it is lost, as on a cable.
        fn write(&self, bytes: &[u8]) -> Result<(), Errno> {
            let mut rest = bytes;
            while !rest.is_empty() {
                match rustix::io::write(&self.controller, rest) {
                    Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => {
                        if !self.wait(PollFlags::OUT, Duration::from_secs(1))? {
                            return Ok(());
                        }
                    }
                    Err(Errno::IO) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        }

        /// Waits for bytes or room; `false` if there is none in time.
        fn wait(&self, what: PollFlags, time: Duration) -> Result<bool, Errno> {
            let mut fds = [PollFd::new(&self.controller, what)];
            let seconds = i64::try_from(time.as_secs()).unwrap_or_default();
            let time = Timespec { tv_sec: seconds, tv_nsec: time.subsec_nanos().into() };
            match poll(&mut fds, Some(&time)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            let events = fds[0].revents();
            if events.contains(PollFlags::HUP) {
                // It stays so until somebody opens the port.
                std::thread::sleep(SLICE);
            }
            Ok(events.intersects(what))
        }

        /// Speed that the host has set.
        fn baud(&self) -> Option<u32> {
            tcgetattr(&self.controller).ok().map(|attributes| attributes.input_speed())
        }
    }

    pub(super) fn run(members: Vec<Member>, json: bool) -> Result<(), Failure> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
                Failure::new(
                    Code::Software,
                    format_args!("cannot start: {error}"),
                    "free some memory or threads",
                )
            })?;
        let Some(member) = members.into_iter().next() else { return Ok(()) };
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        runtime.block_on(async {
            let mut device = tokio::task::spawn_blocking(move || live(member, json, &stopped));
            let ended = tokio::select! {
                ended = &mut device => ended,
                () = crate::interrupt::interrupted() => {
                    stop.store(true, Ordering::Relaxed);
                    device.await
                }
            };
            ended.unwrap_or_else(|error| {
                Err(Failure::new(
                    Code::Software,
                    format_args!("the device fell over: {error}"),
                    "report this",
                ))
            })
        })
    }

    fn live(mut member: Member, json: bool, stop: &AtomicBool) -> Result<(), Failure> {
        let failed = |error: Errno| {
            Failure::new(
                Code::Unavailable,
                format_args!("the pseudo-terminal failed: {error}"),
                "check that /dev/ptmx and /dev/pts are there and may be used",
            )
        };
        let pty = Pty::open().map_err(failed)?;
        let id = member.photon.id();
        let say = |note: Note<'_>| tell(id, json, note);
        say(Note::Port(&pty.name));
        let mut started = member.photon.power_on();
        loop {
            say(Note::Started(started));
            if started == Started::DfuMode && member.photon.system_runs() {
                std::thread::sleep(IN_DFU_MODE);
                started = member.photon.start();
                continue;
            }
            if !matches!(started, Started::Running | Started::SafeMode) {
                let what = format!("{id} does not start: {started:?}");
                return Err(Failure::new(Code::Data, what, "remove the folder to make a new device"));
            }
            let mut mode = SerialMode::Listening;
            let end = loop {
                say(if mode == SerialMode::Listening { Note::Listening } else { Note::Left });
                match serve(&mut member, mode, &pty, stop, &say).map_err(failed)? {
                    Some(SerialEnd::Left) => {
                        keep(&member)?;
                        mode = SerialMode::Running;
                    }
                    end => break end,
                }
            };
            keep(&member)?;
            match end {
                None => return Ok(()),
                Some(SerialEnd::Updated) => say(Note::Updated),
                Some(_) => say(Note::Restarting),
            }
            started = member.photon.start();
        }
    }

    fn keep(member: &Member) -> Result<(), Failure> {
        member.folder.as_ref().map_or(Ok(()), |folder| folder.keep(&member.photon))
    }

    /// Serves the port in one mode; `None` if it was stopped.
    fn serve(
        member: &mut Member,
        mode: SerialMode,
        pty: &Pty,
        stop: &AtomicBool,
        say: &dyn Fn(Note<'_>),
    ) -> Result<Option<SerialEnd>, Errno> {
        let began = Instant::now();
        let mut port = member.photon.serial(mode);
        let mut receiving = false;
        let mut buffer = [0; 4096];
        while !stop.load(Ordering::Relaxed) {
            if let Some(baud) = pty.baud() {
                port.set_baud(began.elapsed(), baud);
            }
            let said = port.handle_deadline(began.elapsed());
            pty.write(&said)?;
            let read = pty.read(&mut buffer)?;
            let said = port.handle_input(began.elapsed(), read);
            pty.write(&said)?;
            if core::mem::replace(&mut receiving, port.is_receiving()) != port.is_receiving() && receiving {
                say(Note::Receiving);
            }
            if let Some(end) = port.end() {
                return Ok(Some(end));
            }
            if read.is_empty() {
                pty.wait(PollFlags::IN, SLICE)?;
            }
        }
        Ok(None)
    }
}
