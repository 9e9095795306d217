//! `spark-ota`: protocol v3, both ends, and its messages.

use crate::input::Input;
use coap_spark::coap::{Message, ParseOptions, Token, Type};
use core::time::Duration;
use spark_ota::coap::v3::{FromDevice, FromServer};
use spark_ota::v3::{
    Acknowledgement, Finish, Options, Receiver, ReceiverOutput, Rejection, Sender, SenderInput, SenderOutput,
    Start, StartAnswer,
};

/// What the flash holds of an image.
#[derive(Default)]
struct Image {
    /// Where the transfer began, and what was written behind it.
    there: u32,
    written: Vec<bool>,
    chunk_size: usize,
}

impl Image {
    /// Polls until `None` and does what is asked, with success except where a bit of `luck` is set.
    fn drain(&mut self, receiver: &mut Receiver, now: Duration, len: usize, luck: u8) {
        let mut steps = 0;
        while let Some(output) = receiver.poll_output() {
            steps += 1;
            assert!(steps < 16, "outputs do not end");
            match output {
                ReceiverOutput::Begin(start) => {
                    assert!(start.chunk_size.is_multiple_of(4) && start.file_size > 0);
                    self.chunk_size = usize::from(start.chunk_size);
                    self.written = vec![false; start.file_size as usize];
                    // Anything may be there, more than the image even.
                    self.there = if luck & 8 == 0 { 0 } else { u32::from(luck) * 300 };
                    let result = if luck & 1 == 0 { Ok(self.there) } else { Err(Rejection::INVALID_STATE) };
                    receiver.begun(now, result);
                }
                ReceiverOutput::StartAnswer(answer) => {
                    assert!(answer.window > 0 && answer.offset as usize <= self.written.len());
                    self.written[..answer.offset as usize].fill(true);
                }
                ReceiverOutput::Save { offset } => {
                    let end = offset as usize + len;
                    assert!(end <= self.written.len(), "outside of the image");
                    assert!(len == self.chunk_size || end == self.written.len());
                    let ok = luck & 2 == 0;
                    if ok {
                        self.written[offset as usize..end].fill(true);
                    }
                    receiver.saved(now, ok);
                }
                ReceiverOutput::Acknowledge => {
                    let mut bitmap = [0; 32];
                    let acknowledgement = receiver.acknowledgement(&mut bitmap);
                    assert!(acknowledgement.beyond().all(|index| index > acknowledgement.in_order + 1));
                    assert_ne!(acknowledgement.bitmap.last_chunk(), Some(&[0; 4]));
                }
                ReceiverOutput::Validate(_) => {
                    assert!(self.written.iter().all(|written| *written), "an image with holes");
                    let result = if luck & 4 == 0 { Ok(()) } else { Err(Rejection::new(-1, "no")) };
                    receiver.validated(result);
                }
                ReceiverOutput::Apply(_) => {
                    assert!(self.written.iter().all(|written| *written), "an image with holes");
                }
                _ => {}
            }
        }
        assert!(receiver.received_len() as usize <= self.written.len());
    }
}

/// Any messages, in any order: nothing is written outside of the image, none with holes is applied.
pub fn receiver(data: &[u8]) {
    let mut input = Input::new(data);
    let mut receiver = Receiver::new(1136, 60_000);
    let mut image = Image::default();
    let mut now = Duration::ZERO;
    while !input.is_empty() {
        let (kind, luck) = (input.byte(), input.byte());
        let mut len = 0;
        match kind % 8 {
            0 => receiver.handle_start(Start {
                file_size: u32::from(input.word()),
                chunk_size: if kind & 128 == 0 { 512 } else { input.word() },
                sha256: (kind & 8 != 0).then_some([kind; 32]),
                discard: kind & 16 != 0,
                module_function: None,
            }),
            1..=4 => {
                let index = if kind & 128 == 0 { u32::from(input.byte()) } else { input.long() };
                let start = (index as usize).saturating_sub(1).saturating_mul(image.chunk_size);
                let whole = image.written.len().saturating_sub(start + image.there as usize);
                // Most chunks have their real length.
                len = if kind & 8 == 0 { whole.min(image.chunk_size) } else { usize::from(input.word()) };
                receiver.handle_chunk(now, index, len);
            }
            5 => receiver.handle_finish(Finish { cancel: kind & 8 != 0, discard: kind & 16 != 0 }),
            6 => {
                now += Duration::from_millis(u64::from(input.word()) * 8);
                receiver.handle_deadline(now);
            }
            _ if kind & 8 != 0 => drop(receiver.abort()),
            _ => receiver.handle_acknowledged(),
        }
        image.drain(&mut receiver, now, len, luck);
        let _ = (receiver.next_deadline(), receiver.is_updating());
    }
}

/// Any answers of a device: chunks are the image's, within the window, and without further answers the transfer ends.
pub fn sender(data: &[u8]) {
    let mut input = Input::new(data);
    let choice = input.byte();
    let options = Options {
        chunk_size: 512 + 4 * u16::from(input.byte()),
        resumable: choice & 1 != 0,
        window: u16::from(input.byte()),
        resend_factor: 2,
        ..Options::DEFAULT
    };
    let image: Vec<u8> = (0..input.word()).map(|i| (i % 251) as u8).collect();
    let Ok(mut sender) = Sender::new(&image, options) else { return };
    let mut now = Duration::ZERO;
    let poll = |sender: &mut Sender<&Vec<u8>>, now| {
        let mut steps = 0;
        let before = sender.progress();
        while let Some(output) = sender.poll_output(now) {
            steps += 1;
            assert!(steps <= 1 + 2 * usize::from(options.window), "outputs do not end");
            if let SenderOutput::Chunk { index, data } = output {
                let size = usize::from(options.chunk_size);
                let start = before.resumed_at as usize + (index as usize - 1) * size;
                assert_eq!(data, &image[start..(start + size).min(image.len())]);
                assert!(index <= before.arrived + u32::from(options.window), "beyond the window");
            }
        }
    };
    poll(&mut sender, now);
    while !input.is_empty() && sender.outcome().is_none() {
        let kind = input.byte();
        match kind % 8 {
            0 => {
                let answer = StartAnswer { window: u16::from(input.byte()), offset: u32::from(input.byte()) };
                sender.handle_input(now, SenderInput::StartAnswered(answer));
            }
            1 => sender.handle_input(now, SenderInput::StartRefused { code: input.byte() }),
            2..=3 => {
                let in_order = if kind & 128 == 0 { u32::from(input.byte()) } else { input.long() };
                let bitmap = input.block();
                let acknowledgement = Acknowledgement { in_order, bitmap };
                sender.handle_input(now, SenderInput::Acknowledged(acknowledgement));
            }
            4 if kind & 128 != 0 => sender.handle_input(now, SenderInput::Reset),
            4 => sender.handle_input(now, SenderInput::FinishAnswered),
            5 => sender.handle_input(now, SenderInput::FinishRefused { code: input.byte() }),
            6 if kind & 128 != 0 => sender.cancel(kind & 64 != 0),
            _ => {
                now += Duration::from_millis(u64::from(input.word()) * 8);
                sender.handle_deadline(now);
            }
        }
        poll(&mut sender, now);
    }
    for _ in 0..300 {
        if sender.outcome().is_some() {
            return;
        }
        now = sender.next_deadline().expect("it waits for something").max(now);
        sender.handle_deadline(now);
        poll(&mut sender, now);
    }
    panic!("the transfer does not end");
}

/// Any CoAP message: what is read is written the same again.
pub fn message(data: &[u8]) {
    let Ok(message) = Message::parse(data, ParseOptions::STRICT) else { return };
    let (id, mut out) = (message.id(), vec![0; data.len() + 64]);
    let again = |bytes: &[u8]| Message::parse(bytes, ParseOptions::STRICT).map(|message| message.id() == id);
    if let Ok(Some(body)) = FromServer::decode(&message) {
        let bytes = body.encode_into(id, message.token(), &mut out).expect("it was that long before");
        assert_eq!(again(bytes), Ok(true));
        let read = Message::parse(bytes, ParseOptions::STRICT).expect("just looked at");
        assert_eq!(FromServer::decode(&read), Ok(Some(body)));
    }
    if let Ok(Some(body)) = FromDevice::decode(&message) {
        let token = Token::byte(7);
        let bytes =
            body.encode_into(Type::Confirmable, id, token, &mut out).expect("it was that long before");
        let read = Message::parse(bytes, ParseOptions::STRICT).expect("just written");
        assert_eq!(FromDevice::decode(&read), Ok(Some(body)));
    }
}
