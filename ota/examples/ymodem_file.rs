//! Sends or receives files by YMODEM over standard input and output, as `sb` and `rb` of lrzsz do.
//!
//! ```text
//! cargo run -p spark-ota --example ymodem_file -- send FILE        # to rb; --small: packets of 128 bytes
//! cargo run -p spark-ota --example ymodem_file -- receive DIR      # from sb; until all files are there
//! cargo run -p spark-ota --example ymodem_file                     # one to the other in memory
//! ```

use core::error::Error;
use core::time::Duration;
use spark_ota::ymodem::{BlockSize, Receiver, ReceiverOutput, ReceiverProfile, Sender, SenderProfile};
use std::fs::File;
use std::io::{Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver as Channel, RecvTimeoutError, channel};
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["send", file] => send(Path::new(file), BlockSize::Large),
        ["send", "--small", file] => send(Path::new(file), BlockSize::Small),
        ["receive", folder] => receive(Path::new(folder)),
        [] => in_memory(),
        _ => Err("give `send [--small] FILE`, `receive DIR`, or nothing".into()),
    }
}

/// Standard input as pieces with a limit of time: reading from it alone would wait for ever.
fn input() -> Channel<Vec<u8>> {
    let (pieces, channel) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // The end of the input ends the thread, and with it the channel.
        while let Ok(len @ 1..) = stdin().lock().read(&mut buffer) {
            if pieces.send(buffer[..len].to_vec()).is_err() {
                break;
            }
        }
    });
    channel
}

/// The next piece, empty at the deadline; `None` if the other end is gone.
fn next(input: &Channel<Vec<u8>>, now: Duration, deadline: Option<Duration>) -> Option<Vec<u8>> {
    let wait = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_sub(now));
    match input.recv_timeout(wait.min(Duration::from_secs(3600))) {
        Ok(piece) => Some(piece),
        Err(RecvTimeoutError::Timeout) => Some(Vec::new()),
        Err(RecvTimeoutError::Disconnected) => None,
    }
}

fn say(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

fn send(path: &Path, block_size: BlockSize) -> Result<(), Box<dyn Error>> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("the file has no name")?;
    let start = Instant::now();
    let profile = SenderProfile { block_size, ..SenderProfile::STANDARD };
    let mut sender = Sender::new(start.elapsed(), name, std::fs::read(path)?, profile)?;
    let input = input();
    loop {
        while let Some(bytes) = sender.poll_output(start.elapsed()) {
            say(bytes)?;
        }
        if let Some(outcome) = sender.outcome() {
            return Ok(outcome?);
        }
        match next(&input, start.elapsed(), sender.next_deadline()) {
            Some(piece) => sender.handle_input(start.elapsed(), &piece),
            None => {
                sender.handle_close();
                continue;
            }
        };
        sender.handle_deadline(start.elapsed());
    }
}

/// Where a file goes that the sender calls so: never out of the folder.
fn place(folder: &Path, name: &[u8]) -> Option<PathBuf> {
    let name = core::str::from_utf8(name).ok()?;
    Some(folder.join(Path::new(name).file_name()?))
}

fn receive(folder: &Path) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    // Programs throw away what was said before they began.
    let profile = ReceiverProfile { byte_timeout: Duration::from_secs(2), ..ReceiverProfile::STANDARD };
    let mut receiver = Receiver::new(start.elapsed(), profile, u32::MAX);
    let input = input();
    let mut piece = Vec::new();
    let mut file = None;
    loop {
        while let Some(output) = receiver.poll_output() {
            let done = match output {
                ReceiverOutput::Send(bytes) => {
                    say(bytes)?;
                    continue;
                }
                ReceiverOutput::Begin(header) => {
                    let path = place(folder, header.name);
                    file = path.and_then(|path| File::create_new(path).ok());
                    file.is_some()
                }
                ReceiverOutput::Write { data, .. } => {
                    file.as_mut().is_some_and(|file| file.write_all(data).is_ok())
                }
                ReceiverOutput::Finish { .. } => file.take().is_some_and(|file| file.sync_all().is_ok()),
                _ => false,
            };
            receiver.work_done(start.elapsed(), done);
        }
        if let Some(outcome) = receiver.outcome() {
            outcome?;
            return Ok(());
        }
        if piece.is_empty() {
            piece = next(&input, start.elapsed(), receiver.next_deadline()).ok_or("the other end is gone")?;
            receiver.handle_deadline(start.elapsed());
        }
        let used = receiver.handle_input(start.elapsed(), &piece);
        piece.drain(..used);
    }
}

fn in_memory() -> Result<(), Box<dyn Error>> {
    let now = Duration::ZERO;
    let image: Vec<u8> = (0..10_000_u32).map(|at| at.to_le_bytes()[0]).collect();
    let mut sender = Sender::new(now, "binary", &image, SenderProfile::PARTICLE)?;
    let mut receiver = Receiver::new(now, ReceiverProfile::V2_0, 0x4_0000);
    let mut flash = Vec::new();
    let mut stream = Vec::new();
    while sender.outcome().is_none() {
        let mut said = Vec::new();
        while let Some(output) = receiver.poll_output() {
            match output {
                ReceiverOutput::Send(bytes) => {
                    said.extend_from_slice(bytes);
                    continue;
                }
                ReceiverOutput::Write { data, .. } => flash.extend_from_slice(data),
                _ => {}
            }
            receiver.work_done(now, true);
        }
        sender.handle_input(now, &said);
        if let Some(packet) = sender.poll_output(now) {
            stream.extend_from_slice(packet);
        }
        let used = receiver.handle_input(now, &stream);
        stream.drain(..used);
        if receiver.outcome().is_some()
            && let Some(deadline) = sender.next_deadline()
        {
            // Both are silent now; that is what the sender waits for.
            sender.handle_deadline(deadline);
        }
    }
    println!("{:?}, {:?}", sender.outcome(), receiver.outcome());
    println!("{} bytes arrived, filling included", flash.len());
    if flash.get(..image.len()) == Some(&image[..]) { Ok(()) } else { Err("they differ".into()) }
}
