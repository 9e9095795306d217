//! What transfers of protocol v1 and v2 share: the flash, the profiles, a link in place of a TCP connection.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses its part of it")]

use coap_spark::coap::{Code, Message, OptionNumber, ParseOptions};
use coap_spark::connection::{SendError, Sent};
use coap_spark::message::FromServer;
use core::time::Duration;
use spark_ota::coap::{Datagrams, ServerLink, Target};
use spark_ota::transfer::{Plan, Profile, ResetCause};

pub const REGION: u32 = 0x2_0000;
/// A server sends this often in fast mode.
pub const PACE: Duration = Duration::from_millis(2);
pub const LATENCY: Duration = Duration::from_millis(50);
pub const PROFILES: [(&str, Profile); 6] = [
    ("S1", Profile::S1),
    ("S2", Profile::S2),
    ("C1", Profile::C1),
    ("C2", Profile::C2),
    ("C3", Profile::C3),
    ("C4", Profile::C4),
];
pub fn image(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// A flash whose power fails at one of its operations.
pub struct Flash {
    pub cells: Vec<u8>,
    pub operations: u32,
    pub cut_at: Option<u32>,
    pub applied: Option<u32>,
    /// Images are not valid.
    pub refuses: bool,
    pub reset: Option<ResetCause>,
}

impl Flash {
    pub fn new(cut_at: Option<u32>) -> Self {
        Self {
            cells: vec![0xff; usize::try_from(REGION).unwrap()],
            operations: 0,
            cut_at,
            applied: None,
            refuses: false,
            reset: None,
        }
    }

    /// Counts; `false` once the power is off.
    fn has_power(&mut self) -> bool {
        self.operations += 1;
        self.cut_at.is_none_or(|cut| self.operations <= cut)
    }

    pub fn is_dead(&self) -> bool {
        self.cut_at.is_some_and(|cut| self.operations > cut)
    }

    pub fn holds(&self, image: &[u8]) -> bool {
        self.applied == u32::try_from(image.len()).ok() && self.cells.starts_with(image)
    }
}

impl Target for Flash {
    fn check(&mut self, _: &Plan) -> bool {
        true
    }

    fn prepare(&mut self, _: &Plan) -> bool {
        self.cells.fill(0xff);
        self.has_power()
    }

    fn save(&mut self, offset: u32, data: &[u8]) -> bool {
        let start = usize::try_from(offset).unwrap();
        // What the power cut interrupts is half there.
        let len = if self.has_power() { data.len() } else { data.len() / 2 };
        self.cells[start..start + len].copy_from_slice(&data[..len]);
        len == data.len()
    }

    fn validate(&mut self, _: &Plan) -> bool {
        !self.refuses
    }

    fn apply(&mut self, plan: &Plan) {
        if self.has_power() {
            self.applied = Some(plan.file_length);
        }
    }

    fn reset(&mut self, _: &Plan, cause: ResetCause) {
        self.reset = Some(cause);
    }
}

pub fn is_chunk(bytes: &[u8]) -> bool {
    let message = Message::parse(bytes, ParseOptions::SPARK).unwrap();
    message.code() == Code::POST && message.values(OptionNumber::URI_PATH).next() == Some(b"c")
}

/// Chunks with an index may come twice. The others are confirmable like all requests: a transport delivers them once.
pub fn is_fast_chunk(bytes: &[u8]) -> bool {
    let message = Message::parse(bytes, ParseOptions::SPARK).unwrap();
    is_chunk(bytes) && message.values(OptionNumber::URI_QUERY).count() == 2
}

/// The messages of [`Datagrams`] over a link that delivers them in order and once, as TCP does.
#[derive(Default)]
pub struct Stream(pub Datagrams);

impl ServerLink for Stream {
    fn sent_len(&self, len: usize) -> usize {
        len
    }

    fn send<'o>(&mut self, body: FromServer<'_>, out: &'o mut [u8]) -> Result<Sent<'o>, SendError> {
        ServerLink::send(&mut self.0, body, out)
    }

    fn repeats(&self) -> bool {
        false
    }

    fn can_batch(&self) -> bool {
        false
    }

    fn send_batch<'o>(&mut self, _: &[FromServer<'_>], _: &'o mut [u8]) -> Result<&'o [u8], SendError> {
        unreachable!()
    }
}
