//! A machine at an open port: bytes and time in, bytes out.

use super::ports::Port;
use crate::exit::{Code, Failure, chain};
use core::time::Duration;
use serialport::{ClearBuffer, ErrorKind, SerialPort};
use spark_ota::serial::{Ask, AskError, Flash, Question, WifiSetup};
use std::io::{Read, Write};
use std::time::Instant;

/// Longest wait for bytes at once: between two looks at the clock and at Ctrl-C.
const SLICE: Duration = Duration::from_millis(50);
/// A port that takes nothing for this long is stuck.
const WRITE: Duration = Duration::from_secs(5);

/// What all machines of `spark_ota::serial` have in common.
pub(super) trait Machine {
    fn output(&mut self, now: Duration) -> Option<Vec<u8>>;
    fn input(&mut self, now: Duration, bytes: &[u8]);
    fn deadline(&self) -> Option<Duration>;
    fn time(&mut self, now: Duration);
    fn is_done(&self) -> bool;
    /// The port is gone; `false` if that is a failure.
    fn close(&mut self, _now: Duration) -> bool {
        false
    }
}

impl<const N: usize> Machine for Ask<N> {
    fn output(&mut self, _now: Duration) -> Option<Vec<u8>> {
        self.poll_output().map(|letter| vec![letter])
    }

    fn input(&mut self, now: Duration, bytes: &[u8]) {
        self.handle_input(now, bytes);
    }

    fn deadline(&self) -> Option<Duration> {
        self.next_deadline()
    }

    fn time(&mut self, now: Duration) {
        self.handle_deadline(now);
    }

    fn is_done(&self) -> bool {
        self.outcome().is_some()
    }
}

impl Machine for WifiSetup<'_> {
    fn output(&mut self, _now: Duration) -> Option<Vec<u8>> {
        self.poll_output().map(<[u8]>::to_vec)
    }

    fn input(&mut self, now: Duration, bytes: &[u8]) {
        self.handle_input(now, bytes);
    }

    fn deadline(&self) -> Option<Duration> {
        self.next_deadline()
    }

    fn time(&mut self, now: Duration) {
        self.handle_deadline(now);
    }

    fn is_done(&self) -> bool {
        self.outcome().is_some()
    }
}

impl<I: AsRef<[u8]>> Machine for Flash<I> {
    fn output(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.poll_output(now).map(<[u8]>::to_vec)
    }

    fn input(&mut self, now: Duration, bytes: &[u8]) {
        self.handle_input(now, bytes);
    }

    fn deadline(&self) -> Option<Duration> {
        self.next_deadline()
    }

    fn time(&mut self, now: Duration) {
        self.handle_deadline(now);
    }

    fn is_done(&self) -> bool {
        self.outcome().is_some()
    }

    fn close(&mut self, now: Duration) -> bool {
        self.handle_close(now);
        true
    }
}

/// An open port.
pub(super) struct Link {
    port: Box<dyn SerialPort>,
    name: String,
    started: Instant,
}

impl Link {
    /// Opens a port at this speed. What the device said before is forgotten.
    pub(super) fn open(port: &Port, baud: u32) -> Result<Self, Failure> {
        let name = port.port.clone();
        let opened = serialport::new(&name, baud).timeout(SLICE).open();
        let port = opened.map_err(|error| cannot_open(&name, &error))?;
        // Pseudo-terminals cannot; whoever cannot forget is asked all the same.
        let _ = port.clear(ClearBuffer::All);
        Ok(Self { port, name, started: Instant::now() })
    }

    /// Time since the port was opened.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Runs a machine until it is done; `each` looks at it after every step.
    pub(super) fn drive<M: Machine>(
        &mut self,
        machine: &mut M,
        mut each: impl FnMut(&mut M, Duration),
    ) -> Result<(), Failure> {
        let mut buffer = [0; 1024];
        loop {
            each(machine, self.now());
            while let Some(bytes) = machine.output(self.now()) {
                let sent = self.port.set_timeout(WRITE).map_err(std::io::Error::from);
                let sent = sent.and_then(|()| self.port.write_all(&bytes)).and_then(|()| self.port.flush());
                if let Err(error) = sent {
                    // A device that takes nothing is not one that has gone, which may be a good end.
                    if error.kind() == std::io::ErrorKind::TimedOut {
                        return Err(self.gone(&error));
                    }
                    return self.closed(machine, &error);
                }
            }
            if machine.is_done() {
                return Ok(());
            }
            let now = self.now();
            let wait = machine.deadline().map_or(SLICE, |deadline| deadline.saturating_sub(now));
            // A wait of no time at all is none for some systems.
            let wait = wait.clamp(Duration::from_millis(1), SLICE);
            let read = self.port.set_timeout(wait).map_err(std::io::Error::from);
            match read.and_then(|()| self.port.read(&mut buffer)) {
                Ok(0) => return self.closed(machine, &std::io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => machine.input(self.now(), buffer.get(..len).unwrap_or_default()),
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::TimedOut | std::io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return self.closed(machine, &error),
            }
            machine.time(self.now());
        }
    }

    fn closed<M: Machine>(&self, machine: &mut M, error: &std::io::Error) -> Result<(), Failure> {
        if machine.close(self.now()) {
            return Ok(());
        }
        Err(self.gone(error))
    }

    fn gone(&self, error: &std::io::Error) -> Failure {
        Failure::new(
            Code::Io,
            format_args!("{} is gone: {error}", self.name),
            "plug the device in again, bring it into listening mode (it blinks blue) and repeat the command",
        )
    }

    /// Asks a question.
    pub(super) fn ask(&mut self, question: Question) -> Result<Result<Vec<u8>, AskError>, Failure> {
        let mut ask = Ask::<16_384>::new(self.now(), question);
        self.drive(&mut ask, |_, _| ())?;
        let silent = Err(AskError::Silent { question });
        Ok(ask.outcome().map_or(silent, |outcome| outcome.map(<[u8]>::to_vec)))
    }

    /// Asks what every device in listening mode can tell.
    pub(super) fn must_tell(&mut self, question: Question) -> Result<Vec<u8>, Failure> {
        self.ask(question)?.map_err(|error| {
            let code =
                if matches!(error, AskError::Silent { .. }) { Code::Unavailable } else { Code::Protocol };
            Failure::new(code, format_args!("{}: {error}", self.name), LISTEN)
        })
    }

    /// The port's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// What to do with a silent device.
pub(super) const LISTEN: &str =
    "hold its SETUP (or MODE) button for three seconds until it blinks blue, then repeat the command";

fn cannot_open(name: &str, error: &serialport::Error) -> Failure {
    let next = match error.kind() {
        ErrorKind::Io(std::io::ErrorKind::PermissionDenied) => {
            "get the right to open it: on Linux, become a member of its group (often dialout) and log in again"
        }
        ErrorKind::NoDevice | ErrorKind::Io(std::io::ErrorKind::NotFound) => {
            "see `spark serial list`; another program may have the port, too"
        }
        _ => "check the name of the port, and that no other program has it",
    };
    Failure::new(Code::Io, format_args!("cannot open {name}: {}", chain(error)), next)
}
