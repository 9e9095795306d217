//! `coap-spark`: codec, frames, handshake, connection.

use crate::input::Input;
use coap_spark::coap::{Message, ParseOptions, Type, Writer};
use coap_spark::connection::{DeviceConnection, Profile, Request, SendError, ServerConnection, ServerPolicy};
use coap_spark::handshake::{IDENTITY_WITH_KEY, IDENTITY_WITHOUT_KEY, server};
use coap_spark::message::describe::{Describe, DocumentBuf, Metrics, MetricsWriter};
use coap_spark::message::{
    Envelope, Event, FromDevice, FromServer, Goodbye, Name, PresenceAnnouncement, Response, SystemEvent,
    Value, VariableType,
};
use coap_spark::session::{
    Decoded, FrameBuffer, FrameLimit, Opener, SavedSession, Sealer, SessionBatch, SessionKeys, Unsealed,
    seal_batches, sealed_len, split,
};
use core::time::Duration;

/// What parses by the letter is emitted byte for byte; what parses with tolerance is emitted as the same message.
pub fn message(data: &[u8]) {
    let Ok(message) = Message::parse(data, ParseOptions::SPARK) else {
        assert!(Message::parse(data, ParseOptions::STRICT).is_err(), "strict takes less than tolerant");
        return;
    };
    let mut out = vec![0; data.len()];
    let (kind, code, id, token) = (message.kind(), message.code(), message.id(), message.token());
    let mut writer = Writer::new(&mut out, kind, code, id, token).expect("no longer than the input");
    for option in message.options() {
        writer.option(option.number, option.value).expect("no longer than the input");
    }
    let bytes = writer.payload(message.payload().unwrap_or_default()).expect("no longer than the input");
    if let Ok(strict) = Message::parse(data, ParseOptions::STRICT) {
        assert_eq!(strict, message);
        assert_eq!(bytes, data, "the coding of a strict message is unique");
    }
    let again = Message::parse(bytes, ParseOptions::SPARK).expect("our own message");
    assert!((again.kind(), again.code(), again.id(), again.token()) == (kind, code, id, token));
    assert!(again.options().eq(message.options()));
    assert_eq!(again.payload(), message.payload().filter(|payload| !payload.is_empty()));
}

macro_rules! fixed_point {
    ($body:ident, $data:expr) => {
        if let Ok(first) = Envelope::<$body<'_>>::decode($data) {
            let (mut out, mut out2) = (vec![0; $data.len() + 64], vec![0; $data.len() + 64]);
            // A ttl above what devices take is refused; everything else that decodes can be sent.
            if let Ok(bytes) = first.encode_into(&mut out) {
                let second = Envelope::<$body<'_>>::decode(bytes).expect("our own message");
                assert_eq!((second.kind, second.id, second.token), (first.kind, first.id, first.token));
                // Empty data is sent like none, and a refusal with the code byte 04 as 4.00.
                let text = |body| format!("{body:?}").replace("Some([])", "None").replace("0.04", "4.00");
                assert_eq!(text(second.body), text(first.body));
                let bytes2 = second.encode_into(&mut out2).expect("it was emitted before");
                assert_eq!(bytes2, bytes, "{first:?}");
            }
        }
    };
}

/// Decoding, encoding and decoding again is the same message from either end.
pub fn envelope(data: &[u8]) {
    fixed_point!(FromDevice, data);
    fixed_point!(FromServer, data);
}

const KEYS: [u8; 40] = [7; 40];
const LIMIT: usize = 256;

/// Frames are the same whatever way the stream was cut, and what was sealed opens.
pub fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let cuts = input.array::<4>().map(|cut| usize::from(cut % 32) + 1);
    let stream = if input.byte() & 1 == 0 {
        input.rest().to_vec()
    } else {
        let (mut sealer, mut stream) = (Sealer::new(&SessionKeys::new(KEYS)), Vec::new());
        while !input.is_empty() {
            let plain = input.block();
            let mut out = [0; sealed_len(255)];
            let frame = sealer.seal(plain, &mut out).expect("255 bytes at most");
            assert_eq!(frame.len(), sealed_len(plain.len()));
            stream.extend(frame);
        }
        stream
    };

    let mut whole = Vec::new();
    let mut rest = &stream[..];
    let end = loop {
        match split(rest, FrameLimit::new(LIMIT)) {
            Ok(Decoded::Frame { body, used }) => {
                whole.push(body.to_vec());
                rest = &rest[used..];
            }
            Ok(Decoded::NeedMore { at_least }) => {
                assert!(at_least > rest.len());
                break None;
            }
            Err(error) => break Some(error),
        }
    };

    let (mut buffer, mut pieces) = (FrameBuffer::<LIMIT>::new(), Vec::new());
    let (mut rest, mut failure) = (&stream[..], None);
    for cut in cuts.into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        match buffer.push(&rest[..cut.min(rest.len())]) {
            Ok(used) => rest = &rest[used..],
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
        if let Some(body) = buffer.frame() {
            pieces.push(body.to_vec());
            buffer.clear();
        }
    }
    assert_eq!((&pieces, failure), (&whole, end));

    let mut opener = Opener::new(&SessionKeys::new(KEYS));
    let mut input = Input::new(data);
    let is_sealed = { (input.array::<4>(), input.byte()).1 & 1 == 1 };
    for mut body in whole {
        let opened = opener.open_in_place(&mut body);
        if is_sealed {
            assert_eq!(&body[..opened.expect("our own frame")], input.block());
        }
    }
}

/// Any decrypted identity, with any cut of the ciphertext: only one with the right nonce and length is taken.
pub fn handshake(data: &[u8]) {
    let mut input = Input::new(data);
    let cut = usize::from(input.byte());
    let nonce = [0x42; 40];
    let mut waiting = server::AwaitIdentity::start(nonce, Duration::ZERO);
    let ciphertext = [1; 256];
    let used = waiting.push(&ciphertext[..cut]);
    assert_eq!((used, waiting.missing()), (cut, 256 - cut));
    assert_eq!(waiting.push(&ciphertext), 256 - cut);
    let Ok((waiting, job)) = waiting.complete() else { panic!("256 bytes are complete") };
    let message = input.rest();
    let Ok(identified) = waiting.resume(job.finish(Some(message))) else { return };
    assert!(message.starts_with(&nonce));
    assert!([IDENTITY_WITH_KEY, IDENTITY_WITHOUT_KEY].contains(&message.len()));
    assert_eq!(identified.offered_key().is_some(), message.len() == IDENTITY_WITH_KEY);
}

/// A description that was read is written and read as the same, by both readers.
pub fn describe(data: &[u8]) {
    let bounded = DocumentBuf::<8, 8, 4>::from_json(data);
    if let Ok(first) = &bounded {
        let mut out = vec![0; data.len() * 2 + 64];
        let text = first.as_document().write_into(&mut out).expect("hardly longer than the input");
        let second = DocumentBuf::<8, 8, 4>::from_json(text).expect("our own JSON");
        assert_eq!(second.as_document(), first.as_document());
    }
    let Ok(first) = Describe::from_json(data) else { return };
    if let Ok(bounded) = &bounded {
        let bounded = bounded.as_document();
        assert_eq!(bounded.platform_id, first.platform_id);
        let functions =
            first.functions.as_ref().map(|names| names.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(bounded.functions.map(<[_]>::to_vec), functions);
        let variables = first.variables.as_ref();
        let variables =
            variables.map(|list| list.iter().map(|(name, kind)| (&name[..], *kind)).collect::<Vec<_>>());
        assert_eq!(bounded.variables.map(<[_]>::to_vec), variables);
    }
    let text = first.to_json();
    let second = Describe::from_json(text.as_bytes()).expect("our own JSON");
    assert_eq!(second, first);
    assert_eq!(second.to_json(), text);
    let mut merged = first.clone();
    merged.merge(second);
    assert_eq!(merged, first);
}

/// The small structures in payloads: what was read is written and read as the same.
pub fn payload(data: &[u8]) {
    let mut out = vec![0; data.len() + 64];
    if let Ok(first) = Goodbye::decode(data)
        && let Ok(bytes) = first.encode_into(&mut out)
    {
        assert!(bytes.len() <= Goodbye::MAX_LEN && bytes.len() <= data.len().max(1));
        assert_eq!(Goodbye::decode(bytes), Ok(first));
    }
    if let Ok(first) = Metrics::parse(data) {
        let mut writer = MetricsWriter::new(&mut out).expect("no longer than the input");
        first.iter().for_each(|metric| writer.push(metric).expect("no longer than the input"));
        let bytes = writer.finish();
        assert_eq!(Metrics::parse(bytes), Ok(first));
        assert!(bytes == data || data.len() > bytes.len(), "only further sizes are left out");
    }
    if let Ok(first) = PresenceAnnouncement::decode(data) {
        assert_eq!(PresenceAnnouncement::decode(&first.encode()), Ok(first));
    }
    let Some((&first, rest)) = data.split_first() else { return };
    if let Ok(value) = Value::decode(VariableType::from(first), rest) {
        let bytes = value.encode_into(&mut out).expect("no longer than the input");
        assert_eq!(bytes.len(), value.encoded_len());
        assert!(bytes == rest || value == Value::Bool(true));
    }
    // A name as long as the first byte says, then data.
    let Some((name, data)) = rest.split_at_checked(usize::from(first)) else { return };
    let Ok(name) = core::str::from_utf8(name).map(Name::new) else { return };
    let event = Event { name, public: false, max_age: None, data: Some(data) };
    let typed = SystemEvent::of(&event);
    let again = typed.to_event(&mut out).expect("no longer than the input");
    assert_eq!((again.name, SystemEvent::of(&again)), (name, typed));
}

/// Any bytes as a saved session or connection: what is taken is saved as equal bytes from then on, and goes on.
pub fn saved(data: &[u8]) {
    if let Ok(session) = SavedSession::from_bytes(data) {
        assert_eq!(session.to_bytes()[..], *data);
    }
    // Late enough that no time in it is before the clock began.
    let now = Duration::from_secs(10_000_000);
    let Ok(connection) = ServerConnection::<256>::import(data, ServerPolicy::DEFAULT, now) else { return };
    let (mut out, mut again) = (vec![0; data.len()], vec![0; data.len()]);
    let bytes = connection.export_into(now, &mut out).expect("as long as it was");
    let import = |bytes| ServerConnection::<256>::import(bytes, ServerPolicy::DEFAULT, now);
    assert_eq!(import(bytes).expect("our own bytes").export_into(now, &mut again).expect("as long"), bytes);
    let mut connection = import(bytes).expect("our own bytes");
    let _ = connection.handle_input(now, &[0; 300]);
    let _ = connection.handle_deadline(connection.next_deadline());
}

/// Frames sealed at once, of one session and of many, are those sealed one by one.
pub fn batch(data: &[u8]) {
    let mut input = Input::new(data);
    let mut sessions: Vec<Vec<Vec<u8>>> = Vec::new();
    while !input.is_empty() && sessions.len() < 40 {
        let frames = usize::from(input.byte() % 12);
        let len = |input: &mut Input<'_>| usize::from(input.word() % 300);
        sessions.push((0..frames).map(|i| vec![i.to_le_bytes()[0]; len(&mut input)]).collect());
    }
    let keys = |at: usize| SessionKeys::new(core::array::from_fn(|i| (i ^ at).to_le_bytes()[0]));
    let mut sealers: Vec<_> = (0..sessions.len()).map(|at| Sealer::new(&keys(at))).collect();
    let lay = |message: &Vec<u8>| {
        let mut buffer = vec![0; sealed_len(message.len())];
        buffer[2..2 + message.len()].copy_from_slice(message);
        buffer
    };
    let mut buffers: Vec<Vec<_>> = sessions.iter().map(|session| session.iter().map(lay).collect()).collect();
    let mut frames: Vec<Vec<_>> = buffers
        .iter_mut()
        .zip(&sessions)
        .map(|(buffers, messages)| {
            let all = buffers.iter_mut().zip(messages);
            all.map(|(buffer, message)| Unsealed { buffer, len: message.len() }).collect()
        })
        .collect();
    let mut batches: Vec<_> =
        sealers.iter_mut().zip(&mut frames).map(|(sealer, frames)| SessionBatch { sealer, frames }).collect();
    seal_batches(&mut batches).expect("every buffer is long enough");
    for (at, (messages, frames)) in sessions.iter().zip(&frames).enumerate() {
        let (mut alone, mut out) = (Sealer::new(&keys(at)), [0; sealed_len(300)]);
        for (message, frame) in messages.iter().zip(frames) {
            assert_eq!(alone.seal(message, &mut out).expect("short"), frame.sealed());
        }
    }
}

/// Any bytes or any messages into either end: replies fit their buffers, errors end the connection.
pub fn connection(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.byte();
    let keys = SessionKeys::new(KEYS);
    if mode & 1 == 0 { at_server(&mut input, mode, &keys) } else { at_device(&mut input, mode, &keys) }
}

/// The next bytes for an end: raw, or sealed as the peer would.
fn received(input: &mut Input<'_>, raw: bool, sealer: &mut Sealer) -> Vec<u8> {
    let bytes = input.block();
    if raw {
        return bytes.to_vec();
    }
    let mut out = [0; sealed_len(255)];
    sealer.seal(bytes, &mut out).expect("255 bytes at most").to_vec()
}

fn at_server(input: &mut Input<'_>, mode: u8, keys: &SessionKeys) {
    let mut now = Duration::ZERO;
    let mut server = ServerConnection::<128>::new(keys, ServerPolicy::DEFAULT, 1, now);
    let (mut sealer, mut out) = (Sealer::new(keys), [0; 512]);
    while !input.is_empty() {
        now += Duration::from_secs(u64::from(input.byte() % 8));
        if server.handle_deadline(now).is_err() {
            return;
        }
        let bytes = received(input, mode & 2 == 0, &mut sealer);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let Ok(used) = server.handle_input(now, rest) else { return };
            rest = &rest[used..];
            let asked = server.poll_message().map(|message| (message.id, message.token));
            assert!(server.poll_message().is_none(), "a message is shown once");
            while server.poll_output(&mut out[..64]).expect("64 bytes are enough").is_some() {}
            if let Some((id, token)) = asked {
                let response = Response { code: coap_spark::coap::Code::CONTENT, payload: b"1234" };
                server.respond(id, token, response, &mut out).expect("a small answer");
            }
        }
        if server.is_up() {
            let before = server.send(FromServer::Ping, &mut out).expect("a ping").id;
            match server.request(now, FromServer::Describe { flags: None }, &mut out) {
                Ok(sent) => assert_eq!(sent.id, before.wrapping_add(1)),
                Err(error) => assert_eq!(
                    (error, server.waiting().count()),
                    (SendError::TooManyRequests { limit: 8 }, 8)
                ),
            }
        }
        while let Some(expired) = server.poll_expired(now) {
            assert!(expired.deadline <= now && !expired.answered);
        }
        if mode & 8 != 0 {
            let deadline = server.next_deadline();
            let bytes = server.export_into(now, &mut out).expect("everything was polled, there is room");
            server = ServerConnection::import(bytes, ServerPolicy::DEFAULT, now).expect("our own bytes");
            assert_eq!(server.next_deadline(), deadline, "times of this test are whole seconds");
        }
    }
}

fn at_device(input: &mut Input<'_>, mode: u8, keys: &SessionKeys) {
    let mut now = Duration::ZERO;
    let profile = if mode & 4 == 0 { Profile::V0_7_0 } else { Profile::V2_3_1 };
    let mut device = DeviceConnection::<128>::new(keys, profile, now);
    let (mut sealer, mut out) = (Sealer::new(keys), [0; 512]);
    while !input.is_empty() {
        now += Duration::from_secs(u64::from(input.byte() % 8));
        if device.handle_deadline(now).is_err() {
            return;
        }
        let bytes = received(input, mode & 2 == 0, &mut sealer);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let Ok(used) = device.handle_input(now, rest) else { return };
            rest = &rest[used..];
            let request = device.poll_message().and_then(|message| Request::of(&message));
            assert!(device.poll_message().is_none(), "a message is shown once");
            if let Some(request) = request {
                let response = Response { code: coap_spark::coap::Code::CONTENT, payload: b"1234" };
                device.reply(request, response, &mut out).expect("a small answer");
            }
            while device.poll_output(now, &mut out[..64]).expect("64 bytes are enough").is_some() {}
        }
        device.send(Type::NonConfirmable, FromDevice::TimeRequest, &mut out).expect("a small message");
        let event = Event { name: Name::new("e"), public: true, max_age: None, data: None };
        match device.publish(now, event, mode & 8 != 0, &mut out) {
            Ok(_) => {}
            Err(SendError::TooManyEvents { due }) => assert!(due > now),
            Err(error) => assert_eq!(error, SendError::TooManyRequests { limit: 8 }),
        }
        while let Some(expired) = device.poll_expired(now) {
            assert!(expired.deadline <= now);
        }
    }
}
