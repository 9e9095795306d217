//! What tests of `spark sonoff` begin with: the program, images, a device that waits to be told its server.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code, each file uses its part of it"
)]

use serde_json::Value;
use spark_ota::esp8266::{FlashMode, FlashParameters, ImageBuilder, Slot};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

/// The factory key of a device.
pub const KEY: &str = "11111111-2222-4333-8444-555555555555";
pub const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ota/tests/vectors/sonoff");

/// The path of an image.
pub fn vector(name: &str) -> String {
    format!("{VECTORS}/images/{name}")
}

/// `spark sonoff` with these arguments.
pub fn spark(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spark"));
    command.arg("sonoff").args(arguments);
    command
}

/// An image with code that calls itself, as a real one does.
pub fn image(slot: Slot, len: usize) -> Vec<u8> {
    let mut code: Vec<u8> = (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    for (at, word) in (0..400_u32).zip(code.as_chunks_mut::<4>().0) {
        *word = (slot.link_address() + at * 8).to_le_bytes();
    }
    let parameters = FlashParameters { mode: FlashMode::Dout, ..FlashParameters::SONOFF };
    let segments = [(0x4010_0000, &[1; 300][..]), (0x3ffe_8000, &[2; 40])];
    ImageBuilder::v2(parameters, 0x4010_0004, &code).segments(&segments).build().unwrap()
}

/// What a running program says, an object a line.
pub struct Lines(BufReader<ChildStdout>);

impl Lines {
    pub fn of(child: &mut Child) -> Self {
        Self(BufReader::new(child.stdout.take().unwrap()))
    }

    /// The rest of it, as it stands there.
    pub fn rest(self) -> String {
        std::io::read_to_string(self.0).unwrap()
    }
}

impl Iterator for Lines {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        (self.0.read_line(&mut line).unwrap() != 0).then(|| serde_json::from_str(&line).unwrap())
    }
}

/// Starts a device that has no server yet: the address of its access point, and what it says from then on.
pub fn pairing(mut device: Command) -> (Child, String, Lines) {
    let mut child =
        device.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = Lines::of(&mut child);
    let said = lines.next().unwrap();
    assert_eq!(said["happening"], "access-point");
    (child, said["address"].as_str().unwrap().to_owned(), lines)
}
