//! The readable view: one line a record, with colours.

use super::Speaker;
use super::record::{Record, Told, What};
use super::text::json_line;
use anstyle::{AnsiColor, Style};
use core::fmt::{self, Write};
use core::time::Duration;
use serde_json::Value;
use std::collections::HashMap;
use std::rc::Rc;

/// Characters of one value; `--json` has all of them.
const MAX_VALUE: usize = 300;
/// Connections whose numbers are remembered.
const MAX_NUMBERS: usize = 4096;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();
const BAD: Style = AnsiColor::Red.on_default();
const DEVICE: Style = AnsiColor::Cyan.on_default();
const SERVER: Style = AnsiColor::Yellow.on_default();

/// Numbers connections in the order of their lines.
#[derive(Debug, Default)]
pub(super) struct View {
    numbers: HashMap<Rc<str>, u64>,
    next: u64,
}

impl View {
    /// The line of a record, with escape sequences for its colours; nothing else in it is one.
    pub(super) fn line(&mut self, record: &Record) -> String {
        let mut line = String::new();
        // Writing to a string does not fail.
        let _ = self.write(record, &mut line);
        line
    }

    fn write(&mut self, record: &Record, line: &mut String) -> fmt::Result {
        if let Some(at) = record.at {
            write!(line, "{DIM}{}{DIM:#} ", clock(at))?;
        }
        if let Some(connection) = &record.connection {
            write!(line, "#{} ", self.number(connection, &record.what))?;
        }
        match record.speaker {
            Some(Speaker::Device) => write!(line, "{DEVICE}device >{DEVICE:#} ")?,
            Some(Speaker::Server) => write!(line, "{SERVER}server >{SERVER:#} ")?,
            None => {}
        }
        match &record.what {
            What::Connection { begins } => {
                let connection = record.connection.as_deref().unwrap_or_default();
                write!(line, "{BOLD}connection{BOLD:#} {connection}")?;
                if *begins != "start" {
                    write!(line, ", its beginning is not in the capture")?;
                }
            }
            What::Nonce { nonce } => write!(line, "{BOLD}nonce{BOLD:#} {DIM}{nonce}{DIM:#}")?,
            What::Identity { device_id, offered_key } => {
                write!(line, "{BOLD}identity{BOLD:#} ")?;
                match device_id {
                    Some(id) => write!(line, "of device {id}")?,
                    None => write!(line, "(encrypted for the server)")?,
                }
                if let Some(key) = offered_key {
                    write!(line, ", which offers the key {key}")?;
                }
            }
            What::Session { opened, signature_good } => {
                write!(line, "{BOLD}session{BOLD:#} ")?;
                write!(line, "{}", if *opened { "opened" } else { "(encrypted for the device)" })?;
                match signature_good {
                    Some(true) => write!(line, ", signed by the server")?,
                    Some(false) => write!(line, ", {BAD}not signed by this server{BAD:#}")?,
                    None => {}
                }
            }
            What::Message(told) => write_message(told, line)?,
            What::Gap { offset, length } => {
                write!(line, "{BAD}gap{BAD:#} of {length} bytes at {offset}: they are not in the capture")?;
            }
            What::Resumed { offset, skipped } => {
                write!(line, "frames begin again at {offset}, behind {skipped} bytes that are skipped")?;
            }
            What::Trouble { code, message, next, offset } => {
                write!(line, "{BAD}{code}{BAD:#}: {}", harmless(message))?;
                if let Some(offset) = offset {
                    write!(line, " (at byte {offset})")?;
                }
                if let Some(next) = next {
                    write!(line, "\n  next: {next}")?;
                }
            }
            What::End { device_frames, server_frames } => {
                write!(
                    line,
                    "{BOLD}end{BOLD:#} after {device_frames} frames of the device, {server_frames} of the server"
                )?;
            }
        }
        Ok(())
    }

    fn number(&mut self, connection: &Rc<str>, what: &What) -> u64 {
        if self.numbers.len() > MAX_NUMBERS {
            self.numbers.clear();
        }
        // The same addresses may begin anew.
        if matches!(what, What::Connection { .. }) || !self.numbers.contains_key(connection) {
            self.next += 1;
            self.numbers.insert(Rc::clone(connection), self.next);
        }
        self.numbers.get(connection).copied().unwrap_or(self.next)
    }
}

fn write_message(told: &Told, line: &mut String) -> fmt::Result {
    let reading = &told.reading;
    write!(line, "{BOLD}{}{BOLD:#}", reading.word)?;
    for (name, value) in &reading.message {
        let text = match value {
            Value::String(text) => harmless(text),
            other => json_line(other),
        };
        write!(line, " {name}={}", shortened(&text))?;
    }
    if let Some(answers) = &reading.answers {
        write!(line, "{DIM} answers {} {:04x}{DIM:#}", answers.word, answers.id)?;
    }
    write!(line, "{DIM}")?;
    if let (Some(kind), Some(code), Some(id)) = (reading.kind, &reading.code, reading.id) {
        write!(line, "  {kind} {code} {id:04x}")?;
    }
    if let Some(token) = &reading.token {
        write!(line, " token {token}")?;
    }
    write!(line, "{DIM:#}")?;
    if let Some(problem) = &reading.problem {
        write!(line, " {BAD}{}{BAD:#}: {}", problem.code, harmless(&problem.message))?;
        if let Some(offset) = problem.offset {
            write!(line, " (at byte {offset} of the message)")?;
        }
    }
    if let Some(plaintext) = &told.plaintext {
        write!(line, "\n  plaintext  {plaintext}")?;
    }
    if let Some(ciphertext) = &told.ciphertext {
        write!(line, "\n  ciphertext {ciphertext}")?;
    }
    Ok(())
}

/// A text in quotes if it needs them, without anything that a terminal obeys.
fn harmless(text: &str) -> String {
    let escaped = json_line(&text);
    let is_plain = !text.is_empty() && escaped.len() == text.len() + 2 && !text.contains(['=', '"']);
    if is_plain { text.to_owned() } else { escaped }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Time of the day, UTC.
fn clock(at: Duration) -> String {
    let seconds = at.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, at.subsec_micros())
}
