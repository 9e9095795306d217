//! `spark decode`: captured traffic as messages.
//!
//! Follow a byte: `input` tells capture files from raw bytes, `capture` reads packets, `segment` finds the TCP segment in
//! one, `table` its connection, `stream` puts segments in order, `connection` takes the handshake off, `frames` opens what
//! follows, `message` and `dialogue` say what it means, `record` and `view` are what is shown.
//!
//! Memory is bounded whatever the input: one packet of 4 MiB; 1024 connections; for each direction 64 KiB of early segments,
//! 16 KiB while the session bytes are not known, one frame of 4 KiB; 256 requests and 1024 variables to remember.

mod capture;
mod connection;
mod dialogue;
mod frames;
mod input;
mod message;
mod record;
mod segment;
mod stream;
mod table;
mod talk;
mod text;
mod view;

use crate::exit::{Code, Failure};
use crate::files;
use crate::key_files::{ServerKey, load_device};
use anstream::AutoStream;
use coap_spark::session::SessionKeys;
use record::Record;
use rsa::{RsaPrivateKey, RsaPublicKey};
use serde::Serialize;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use view::View;
use zeroize::{Zeroize, Zeroizing};

/// Session bytes of some 800 connections.
const MAX_SESSION_FILE: u64 = 64 * 1024;

/// Decodes captured traffic between devices and servers.
///
/// FILE is a capture (pcap or pcapng, told by its first bytes), or the raw bytes of one direction with --from: the frames,
/// or all bytes of the connection from its beginning. With --plain it holds messages that are decrypted already.
///
/// Frames are encrypted with 40 session bytes, which are different in every connection. Give them with --session if your
/// server writes them down. If the handshake is in the capture, --device-key opens it: the session bytes are encrypted for the
/// device, by nobody but it can they be read. The server's private key opens only the other message of the handshake: with
/// --server-key the device's id and the fingerprint of its key are shown, but no messages; either half of that key
/// checks the server's signature when --device-key is given as well.
///
/// Lost segments are told. They cost the frames they are in and the first 16 bytes of the next message; the next frame is
/// found by itself.
///
/// Exit code 0: everything was decoded. 65: something could not be; all else is shown.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file; - is standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The 40 session bytes as 80 hex digits, or @FILE with one set a line; those of several connections may be given, the
    /// right ones are found.
    #[arg(long, value_name = "HEX")]
    pub session: Vec<Hidden>,
    /// The server's RSA-2048 key, private or public, PEM or DER.
    #[arg(long, value_name = "FILE")]
    pub server_key: Option<PathBuf>,
    /// A device's private key, PEM or DER; may be given for several devices.
    #[arg(long, value_name = "FILE")]
    pub device_key: Vec<PathBuf>,
    /// Who sent the bytes of a file that is no capture.
    #[arg(long, value_name = "END", value_enum)]
    pub from: Option<Speaker>,
    /// The file holds decrypted messages: one in binary, or one a line in hex.
    #[arg(long, requires = "from", conflicts_with_all = ["session", "server_key", "device_key"])]
    pub plain: bool,
    /// TCP port of the server in a capture; may be given several times.
    #[arg(long, value_name = "PORT", default_value = "5683")]
    pub port: Vec<u16>,
    /// Show plaintext and ciphertext of every message in hex.
    #[arg(long)]
    pub bytes: bool,
    /// Print JSON, one object a line.
    #[arg(long)]
    pub json: bool,
    /// When to use colours; auto: on a terminal.
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    pub color: Color,
}

/// When to use colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
#[allow(clippy::exhaustive_enums, reason = "yes, no, or let the terminal decide")]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// One end of a connection, as the sender of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum Speaker {
    /// The device.
    Device,
    /// The server.
    Server,
}

impl Speaker {
    const fn other(self) -> Self {
        match self {
            Self::Device => Self::Server,
            Self::Server => Self::Device,
        }
    }
}

/// A secret argument: not shown, also not by a usage error, and wiped.
#[derive(Clone)]
pub struct Hidden(String);

impl core::str::FromStr for Hidden {
    type Err = core::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl core::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Hidden")
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What is known before the first byte.
struct Known {
    sessions: Vec<Rc<SessionKeys>>,
    server_private: Option<RsaPrivateKey>,
    server_public: Option<RsaPublicKey>,
    device_keys: Vec<RsaPrivateKey>,
    with_bytes: bool,
}

impl Known {
    fn load(args: &Args) -> Result<Self, Failure> {
        let mut sessions = Vec::new();
        for Hidden(text) in &args.session {
            match text.strip_prefix('@') {
                Some(path) => {
                    let file = Zeroizing::new(files::read_up_to(Path::new(path), MAX_SESSION_FILE)?);
                    for line in file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
                        if !line.is_empty() {
                            sessions.push(session(line)?);
                        }
                    }
                }
                None => sessions.push(session(text.trim().as_bytes())?),
            }
        }
        let server = args.server_key.as_deref().map(ServerKey::load).transpose()?;
        let device_keys = args.device_key.iter().map(|path| load_device(path).map(|(_, key)| key));
        Ok(Self {
            sessions,
            server_public: server.as_ref().map(ServerKey::public),
            server_private: match server {
                Some(ServerKey::Private(key)) => Some(key),
                _ => None,
            },
            device_keys: device_keys.collect::<Result<_, _>>()?,
            with_bytes: args.bytes,
        })
    }
}

fn session(text: &[u8]) -> Result<Rc<SessionKeys>, Failure> {
    let mut bytes = [0; SessionKeys::LEN];
    // The text itself is not repeated.
    hex::decode_to_slice(text, &mut bytes).map_err(|_| {
        Failure::new(
            Code::Usage,
            format_args!("--session has {} characters that are not 80 hex digits", text.len()),
            "give all 40 session bytes: AES key, IV and salt",
        )
    })?;
    let keys = Rc::new(SessionKeys::new(bytes));
    bytes.zeroize();
    Ok(keys)
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] if nothing can be read or written, or the arguments do not fit; what cannot be decoded is exit code 65
/// without an error.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let known = Known::load(args)?;
    let mut output = Output::new(args);
    if args.file.as_os_str() == "-" {
        input::decode(io::stdin().lock(), Path::new("standard input"), args, &known, &mut output)?;
    } else {
        let file = std::fs::File::open(&args.file).map_err(|error| Failure::reading(&args.file, &error))?;
        input::decode(file, &args.file, args, &known, &mut output)?;
    }
    Ok(if output.is_bad { ExitCode::from(Code::Data as u8) } else { ExitCode::SUCCESS })
}

/// Where lines go.
struct Output {
    to: AutoStream<io::Stdout>,
    view: Option<View>,
    is_bad: bool,
    /// The reader has gone away.
    is_closed: bool,
}

impl Output {
    fn new(args: &Args) -> Self {
        let choice = match args.color {
            _ if args.json => anstream::ColorChoice::Never,
            Color::Auto => AutoStream::choice(&io::stdout()),
            Color::Always => anstream::ColorChoice::AlwaysAnsi,
            Color::Never => anstream::ColorChoice::Never,
        };
        let view = (!args.json).then(View::default);
        Self { to: AutoStream::new(io::stdout(), choice), view, is_bad: false, is_closed: false }
    }

    /// Shows what there is.
    fn show(&mut self, records: &mut Vec<Record>) -> Result<(), Failure> {
        for record in records.drain(..) {
            self.is_bad |= record.is_bad();
            if self.is_closed {
                continue;
            }
            let line = match &mut self.view {
                Some(view) => view.line(&record),
                None => text::json_line(&record),
            };
            match writeln!(self.to, "{line}") {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.is_closed = true,
                Err(error) => return Err(Failure::writing(Path::new("standard output"), &error)),
                Ok(()) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
