//! `coap-spark`: reliable messages of UDP devices.

use crate::input::Input;
use coap_spark::coap::{Code, Message, ParseOptions, Token, Type, Writer};
use coap_spark::udp::{Endpoint, Incoming, KEEP_ALIVE, MAX_TRANSMIT_SPAN, SendError, Timing};
use core::time::Duration;

type End = Endpoint<64, 2, 4, 2>;

/// A message of few ids, so that they meet.
fn message(input: &mut Input<'_>, out: &mut [u8; 64]) -> Vec<u8> {
    let [shape, id, payload] = input.array();
    let kind =
        [Type::Confirmable, Type::NonConfirmable, Type::Acknowledgement, Type::Reset][usize::from(shape & 3)];
    let code = [Code::EMPTY, Code::GET, Code::POST, Code::CONTENT][usize::from(shape >> 2 & 3)];
    let token = if shape & 0x10 == 0 || code == Code::EMPTY { Token::EMPTY } else { Token::byte(shape >> 5) };
    let payload = if code == Code::EMPTY { &[][..] } else { &[payload; 32][..usize::from(payload % 33)] };
    let writer = Writer::new(out, kind, code, u16::from(id % 16), token).expect("64 bytes are enough");
    writer.payload(payload).expect("64 bytes are enough").to_vec()
}

#[derive(Default)]
struct Seen {
    /// Confirmable messages that were delivered.
    delivered: Vec<(u16, Duration)>,
    /// Confirmable messages that went out, once for each sending.
    sent: Vec<u16>,
}

impl Seen {
    fn fetch(&mut self, end: &mut End, now: Duration) -> usize {
        let (mut out, mut count) = ([0; 64], 0);
        while let Some(datagram) = end.poll_output(now, &mut out).expect("64 bytes are enough") {
            count += 1;
            assert!(end.closed().is_none() && count <= 9, "replies, a keep-alive, one loose and two pending");
            if datagram == KEEP_ALIVE {
                continue;
            }
            let message = Message::parse(datagram, ParseOptions::STRICT).expect("one of ours");
            if message.kind() == Type::Confirmable {
                self.sent.push(message.id());
                let sends = self.sent.iter().filter(|id| **id == message.id()).count();
                assert!(sends <= 4, "{} was sent {sends} times", message.id());
            }
        }
        count
    }

    fn take(&mut self, end: &mut End, now: Duration, datagram: &[u8]) {
        let before: Vec<u16> = end.pending().collect();
        match end.handle_datagram(now, datagram) {
            Ok(Incoming::Message(message)) if message.kind() == Type::Confirmable => {
                let id = message.id();
                let twice =
                    self.delivered.iter().any(|&(other, at)| other == id && now < at + MAX_TRANSMIT_SPAN);
                assert!(!twice, "{id} was delivered twice");
                self.delivered.push((id, now));
            }
            Ok(Incoming::Acknowledged(message)) => assert!(before.contains(&message.id())),
            Ok(Incoming::Reset { .. }) => assert!(end.closed().is_some()),
            Ok(_) => assert!(end.closed().is_none()),
            Err(_) => assert!(end.pending().eq(before.iter().copied()), "an error changes nothing"),
        }
        // What is not pending any more may be sent again under the same id.
        self.sent.retain(|id| end.pending().any(|pending| pending == *id));
    }
}

/// Any calls at any times: nothing is delivered twice, sent more than four times or sent after the end.
pub fn udp(data: &[u8]) {
    let mut input = Input::new(data);
    let timing = if input.byte() & 1 == 0 { Timing::DEVICE } else { Timing::SERVER };
    let mut now = Duration::ZERO;
    let mut end = End::new(timing, now);
    let (mut seen, mut out) = (Seen::default(), [0; 64]);
    while !input.is_empty() {
        match input.byte() % 8 {
            0 => now += Duration::from_millis(250) * u32::from(input.byte()),
            1 => seen.take(&mut end, now, input.block()),
            2 => {
                let datagram = message(&mut input, &mut out);
                seen.take(&mut end, now, &datagram);
            }
            3 => {
                let message = message(&mut input, &mut out);
                let before = end.pending().count();
                match end.send(&message, input.byte()) {
                    Ok(()) => assert!(end.closed().is_none()),
                    Err(SendError::Closed(closed)) => assert_eq!(end.closed(), Some(closed)),
                    Err(_) => assert_eq!(end.pending().count(), before),
                }
            }
            4 => {
                let id = u16::from(input.byte() % 16);
                let known = seen.delivered.iter().any(|&(other, _)| other == id);
                if end.acknowledge(id).is_ok() {
                    assert!(known || end.closed().is_none());
                }
            }
            5 => {
                seen.fetch(&mut end, now);
                assert_eq!(seen.fetch(&mut end, now), 0);
            }
            6 => {
                let early = end.next_deadline().is_none_or(|deadline| now < deadline);
                let owed = end.closed().is_none() && early && seen.fetch(&mut end, now) == 0;
                let result = end.handle_deadline(now, input.byte());
                assert_eq!(result.err(), end.closed());
                // Too early: nothing happens. What was fetched just now may be due in this moment at the soonest.
                if owed && early {
                    assert_eq!(seen.fetch(&mut end, now), 0);
                }
            }
            _ => {
                if let Some(deadline) = end.next_deadline() {
                    now = now.max(deadline);
                    let _ = end.handle_deadline(now, input.byte());
                }
            }
        }
        assert!(end.pending().count() <= 2);
        assert!(end.closed().is_none() || end.next_deadline().is_none());
    }
}
