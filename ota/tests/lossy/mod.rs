//! A link under a virtual clock that treats messages badly.
#![allow(dead_code, unreachable_pub, reason = "each test uses its part of it")]

use core::time::Duration;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashSet};

/// Who gets a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    Device,
    Server,
}

/// What happens to chunks on their way; other messages arrive, as over TCP, unless it says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    None,
    /// Of a hundred chunks, so many are lost.
    Loss(u32),
    /// Of so many chunks, ten in a row are lost.
    Burst(u64),
    /// Of a hundred chunks, so many have another byte.
    Corrupt(u32),
    /// Of a hundred messages, so many come twice.
    Duplicate(u32),
    /// Of a hundred messages, so many are overtaken.
    Reorder(u32),
    /// After so many chunks nothing arrives any more.
    Silence(u64),
    /// Of a hundred messages of any kind, so many are lost.
    Anything(u32),
    /// After so many chunks the device loses its update, and the session lives on. The link does nothing.
    Reset(u64),
}

/// One message on its way.
pub struct Delivery {
    pub to: To,
    pub bytes: Vec<u8>,
}

/// The link.
pub struct Lossy {
    pub now: Duration,
    fault: Fault,
    latency: Duration,
    random: ChaCha8Rng,
    queue: BTreeMap<(Duration, u64), Delivery>,
    serial: u64,
    chunks: u64,
    /// Ids that arrived at each end, chunks excepted: a transport delivers what it repeats once.
    seen: [HashSet<u16>; 2],
    /// Chunks that did not arrive as they were.
    pub lost: u32,
    /// Messages that came twice or late.
    pub disturbed: u32,
}

impl Lossy {
    pub fn new(fault: Fault, latency: Duration, seed: u64) -> Self {
        Self {
            now: Duration::from_secs(1),
            fault,
            latency,
            random: ChaCha8Rng::seed_from_u64(seed),
            queue: BTreeMap::new(),
            serial: 0,
            chunks: 0,
            seen: [HashSet::new(), HashSet::new()],
            lost: 0,
            disturbed: 0,
        }
    }

    fn happens(&mut self, percent: u32) -> bool {
        self.random.next_u32() % 100 < percent
    }

    fn put(&mut self, to: To, bytes: Vec<u8>, delay: Duration) {
        self.serial += 1;
        self.queue.insert((self.now + delay, self.serial), Delivery { to, bytes });
    }

    /// Puts a message on its way. The data of a chunk is at its end.
    pub fn send(&mut self, to: To, bytes: &[u8], is_chunk: bool) {
        self.chunks += u64::from(is_chunk);
        let (mut bytes, latency) = (bytes.to_vec(), self.latency);
        let mut delay = latency;
        let fault = self.fault;
        match fault {
            Fault::Loss(percent) if is_chunk && self.happens(percent) => return self.lost += 1,
            Fault::Anything(percent) if self.happens(percent) => return self.lost += u32::from(is_chunk),
            Fault::Burst(of) if is_chunk && self.chunks % of < 10 => return self.lost += 1,
            Fault::Silence(after) if self.chunks > after => return self.lost += u32::from(is_chunk),
            Fault::Corrupt(percent) if is_chunk && self.happens(percent) => {
                self.lost += 1;
                *bytes.last_mut().unwrap() ^= 0x10;
            }
            Fault::Duplicate(percent) if self.happens(percent) => {
                self.disturbed += 1;
                self.put(to, bytes.clone(), latency * 2);
            }
            Fault::Reorder(percent) if self.happens(percent) => {
                self.disturbed += 1;
                delay += Duration::from_millis(7);
            }
            _ => {}
        }
        self.put(to, bytes, delay);
    }

    /// Puts a message on its way that takes so much longer.
    pub fn send_late(&mut self, to: To, bytes: &[u8], delay: Duration) {
        self.put(to, bytes.to_vec(), self.latency + delay);
    }

    /// Chunks after which the device loses its update.
    pub fn reset_after(&self) -> Option<u64> {
        match self.fault {
            Fault::Reset(chunks) => Some(chunks),
            _ => None,
        }
    }

    pub fn next_arrival(&self) -> Option<Duration> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next message that has arrived. `is_chunk` tells messages that may be delivered more than once.
    pub fn receive(&mut self, is_chunk: impl Fn(&Delivery) -> bool) -> Option<Delivery> {
        loop {
            let first = self.queue.first_entry()?;
            if first.key().0 > self.now {
                return None;
            }
            let delivery = first.remove();
            let id = u16::from_be_bytes([delivery.bytes[2], delivery.bytes[3]]);
            let is_reply = delivery.bytes[0] & 0x30 == 0x20;
            let seen = &mut self.seen[usize::from(delivery.to == To::Device)];
            if is_chunk(&delivery) || is_reply || seen.insert(id) {
                return Some(delivery);
            }
        }
    }
}
