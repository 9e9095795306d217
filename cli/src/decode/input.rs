//! What kind of input it is, and the way through it in bounded pieces.

use super::capture::{Capture, CaptureError, Form, MAGIC_LEN};
use super::dialogue::Dialogue;
use super::message;
use super::record::{Record, Told, What};
use super::table::Table;
use super::talk::Talk;
use super::{Args, Known, Output, Speaker};
use crate::exit::{Code, Failure};
use coap_spark::handshake::{NONCE_LEN, SEALED_IDENTITY_LEN, SESSION_MESSAGE_LEN};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

const PIECE: usize = 4096;
/// Longest decrypted message: the plaintext of the longest frame that a length can express.
const MAX_MESSAGE: usize = 65_519;

/// Decodes all of an input.
pub(super) fn decode(
    mut input: impl Read,
    path: &Path,
    args: &Args,
    known: &Known,
    output: &mut Output,
) -> Result<(), Failure> {
    let reading = |error: &std::io::Error| Failure::reading(path, error);
    let mut head = Vec::with_capacity(MAGIC_LEN);
    input.by_ref().take(MAGIC_LEN as u64).read_to_end(&mut head).map_err(|error| reading(&error))?;
    if head.is_empty() {
        return Err(Failure::new(
            Code::NoInput,
            format_args!("{} is empty", path.display()),
            "capture the connection from its beginning, and stop the capture before it is read",
        ));
    }
    let form = Form::of(&head);
    let input = head.as_slice().chain(input);
    match (form, args.from) {
        (Some(form), None) => capture(input, path, form, args, known, output),
        (Some(_), Some(_)) => Err(Failure::new(
            Code::Usage,
            format_args!("{} is a capture, which has both directions", path.display()),
            "leave --from away",
        )),
        (None, Some(speaker)) if args.plain => plain(input, path, speaker, args, output),
        (None, Some(speaker)) => raw(input, path, speaker, known, output),
        (None, None) => Err(Failure::new(
            Code::Usage,
            format_args!("{} is no capture file (pcap, pcapng)", path.display()),
            "if it has the raw bytes of one direction, say whose with --from device or --from server",
        )),
    }
}

fn trouble(code: &'static str, message: String, next: Option<&'static str>, offset: Option<u64>) -> Record {
    let what = What::Trouble { code, message, next, offset };
    Record { at: None, connection: None, speaker: None, what }
}

fn capture(
    input: impl Read,
    path: &Path,
    form: Form,
    args: &Args,
    known: &Known,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut records = Vec::new();
    let mut table = Table::new(args.port.clone());
    let end = packets(input, form, &mut table, known, output, &mut records);
    let end = match end {
        Ok(end) => end,
        Err(Stopped::Output(failure)) => return Err(failure),
        Err(Stopped::Capture(CaptureError::Io(error))) => {
            table.end(known, &mut records);
            output.show(&mut records)?;
            return Err(Failure::reading(path, &error));
        }
        Err(Stopped::Capture(CaptureError::Cut { offset })) => Some(trouble(
            "capture-cut",
            "the file ends inside a packet".to_owned(),
            Some("copy it after the capture has stopped"),
            Some(offset),
        )),
        Err(Stopped::Capture(CaptureError::Damaged { offset, what })) => Some(trouble(
            "capture-damaged",
            format!("the file cannot be read further: {what}"),
            Some("capture again, or repair the file with a tool for it"),
            Some(offset),
        )),
    };
    records.extend(end);
    table.end(known, &mut records);
    output.show(&mut records)
}

enum Stopped {
    Capture(CaptureError),
    Output(Failure),
}

impl From<CaptureError> for Stopped {
    fn from(error: CaptureError) -> Self {
        Self::Capture(error)
    }
}

fn packets(
    input: impl Read,
    form: Form,
    table: &mut Table,
    known: &Known,
    output: &mut Output,
    records: &mut Vec<Record>,
) -> Result<Option<Record>, Stopped> {
    // Small pieces: a live capture should be shown as it comes.
    let mut capture = Capture::open(BufReader::with_capacity(64 * 1024, input), form)?;
    while let Some(packet) = capture.next()? {
        table.packet(packet.at, packet.link, packet.bytes, known, records);
        output.show(records).map_err(Stopped::Output)?;
        if output.is_closed {
            return Ok(None);
        }
    }
    Ok(None)
}

/// The bytes of one direction.
fn raw(
    mut input: impl Read,
    path: &Path,
    speaker: Speaker,
    known: &Known,
    output: &mut Output,
) -> Result<(), Failure> {
    if known.sessions.is_empty() {
        return Err(Failure::new(
            Code::Usage,
            "the bytes of one direction cannot be read without their session bytes",
            "give them with --session HEX; from a capture of both directions --device-key can find them; for messages that \
             are decrypted already there is --plain",
        ));
    }
    let lead = match speaker {
        Speaker::Device => SEALED_IDENTITY_LEN,
        Speaker::Server => NONCE_LEN + SESSION_MESSAGE_LEN,
    };
    let mut talk = Talk::new(known.sessions.clone(), true, lead, known.with_bytes);
    let mut piece = vec![0; PIECE];
    loop {
        let len = match input.read(&mut piece) {
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::reading(path, &error)),
        };
        let mut lines = Vec::new();
        match piece.get(..len) {
            Some(bytes) if len > 0 => talk.push(speaker, bytes, &mut lines),
            _ => talk.end(&mut lines),
        }
        let record = |(speaker, what)| Record { at: None, connection: None, speaker, what };
        let mut records = lines.into_iter().map(record).collect();
        output.show(&mut records)?;
        if len == 0 || output.is_closed {
            return Ok(());
        }
    }
}

/// Messages that are decrypted already.
fn plain(
    input: impl Read,
    path: &Path,
    speaker: Speaker,
    args: &Args,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut input = BufReader::new(input);
    let mut dialogue = Dialogue::default();
    let mut number = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        // Hex, its end, and one byte to see that there are more.
        let limit = 2 * MAX_MESSAGE as u64 + 3;
        let read = input.by_ref().take(limit).read_until(b'\n', &mut line);
        let len = read.map_err(|error| Failure::reading(path, &error))?;
        if len == 0 || output.is_closed {
            return Ok(());
        }
        let text = line.trim_ascii();
        if text.is_empty() && number > 0 {
            continue;
        }
        let binary = match hex::decode(text) {
            Ok(bytes) if !bytes.is_empty() => bytes,
            // Only the whole file can be one binary message.
            _ if number == 0 => {
                let room = (MAX_MESSAGE + 1).saturating_sub(line.len());
                let rest = input.by_ref().take(room as u64).read_to_end(&mut line);
                rest.map_err(|error| Failure::reading(path, &error))?;
                if line.len() > MAX_MESSAGE {
                    return Err(too_long(path));
                }
                line.clone()
            }
            _ if line.len() as u64 >= limit => return Err(too_long(path)),
            _ => {
                number += 1;
                let record = trouble("not-hex", format!("line {number} is no message in hex"), None, None);
                output.show(&mut vec![record])?;
                continue;
            }
        };
        number += 1;
        let reading = message::read(speaker, &binary, Some(number), &mut dialogue);
        let plaintext = args.bytes.then(|| hex::encode(&binary));
        let length = binary.len();
        let told = Told { frame: Some(number), offset: None, length, reading, plaintext, ciphertext: None };
        let what = What::Message(Box::new(told));
        output.show(&mut vec![Record { at: None, connection: None, speaker: Some(speaker), what }])?;
    }
}

fn too_long(path: &Path) -> Failure {
    Failure::new(
        Code::Data,
        format_args!("{} has a message of more than {MAX_MESSAGE} bytes", path.display()),
        "give one message in binary, or messages in hex, one a line",
    )
}
