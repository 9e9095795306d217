//! `coap-spark`: frames, CoAP messages, the server's side of the handshake.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use aes::Aes128;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};
use coap_spark::coap::{Message, ParseOptions, Writer};
use coap_spark::handshake::{DEVICE_PUBLIC_KEY_LEN, server};
use coap_spark::message::{Envelope, FromServer};
use coap_spark::session::{Opener, Sealer, SessionBatch, SessionKeys, Unsealed, seal_batches, sealed_len};
use core::hint::black_box;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rsa::{Pkcs1v15Encrypt, Pkcs1v15Sign};
use shared::Handshake;
#[cfg(feature = "openssl")]
use shared::OpenSsl;
use spark_benches::{CHUNK_HEAD, EVENT, HELLO, image};

#[path = "coap/shared.rs"]
mod shared;

use shared::KEYS;

/// What one writes without the crate: two allocations a frame.
fn naive_seal(key: &[u8; 16], iv: &mut [u8; 16], message: &[u8]) -> Vec<u8> {
    let body = cbc::Encryptor::<Aes128>::new(key.into(), (&*iv).into()).encrypt_padded_vec::<Pkcs7>(message);
    iv.copy_from_slice(&body[..16]);
    let mut frame = u16::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

fn naive_open(key: &[u8; 16], iv: &mut [u8; 16], frame: &[u8]) -> Vec<u8> {
    let body = &frame[2..];
    let plain = cbc::Decryptor::<Aes128>::new(key.into(), (&*iv).into()).decrypt_padded_vec::<Pkcs7>(body);
    iv.copy_from_slice(&body[..16]);
    plain.unwrap()
}

fn seal(c: &mut Criterion) {
    let keys = SessionKeys::new(KEYS);
    for len in [32_usize, 512] {
        let message = image(len);
        let mut out = [0; 600];
        let sealed = Sealer::new(&keys).seal(&message, &mut out).unwrap().to_vec();
        assert_eq!(sealed, naive_seal(&keys.key(), &mut keys.iv(), &message));

        let mut group = c.benchmark_group(format!("frame/seal/{len}"));
        group.throughput(Throughput::Bytes(len as u64));
        let mut sealer = Sealer::new(&keys);
        group.bench_function("coap-spark", |b| {
            b.iter(|| {
                let frame = sealer.seal(black_box(&message), &mut out).unwrap();
                assert_eq!(frame.len(), sealed_len(len));
            });
        });
        #[cfg(feature = "openssl")]
        {
            assert_eq!(OpenSsl::sealer(&keys).seal(&message, &mut out), sealed);
            let mut peer = OpenSsl::sealer(&keys);
            group.bench_function("openssl", |b| {
                b.iter(|| assert_eq!(peer.seal(black_box(&message), &mut out).len(), sealed_len(len)));
            });
        }
        let mut iv = keys.iv();
        group.bench_function("cbc, naive", |b| {
            b.iter(|| {
                let frame = naive_seal(&KEYS[..16].try_into().unwrap(), &mut iv, black_box(&message));
                assert_eq!(frame.len(), sealed_len(len));
            });
        });
        group.finish();
        seal_many(c, &message);
    }
}

/// Many frames at once; the throughput counts all of them.
fn seal_many(c: &mut Criterion, message: &[u8]) {
    let keys = SessionKeys::new(KEYS);
    let len = message.len();
    for count in [8_usize, 64] {
        let mut group = c.benchmark_group(format!("frame/seal/{len}/{count} at once"));
        group.throughput(Throughput::Bytes((len * count) as u64));
        let mut buffers = vec![vec![0; sealed_len(len)]; count];
        let check = |sealer: &mut Sealer, buffers: &[Vec<u8>]| {
            let mut out = [0; 600];
            buffers.iter().for_each(|frame| assert_eq!(sealer.seal(message, &mut out).unwrap(), frame));
        };
        let lay = |buffers: &'_ mut [Vec<u8>]| {
            buffers.iter_mut().for_each(|buffer| buffer[2..2 + len].copy_from_slice(black_box(message)));
        };

        let mut sealer = Sealer::new(&keys);
        let mut one_session = |buffers: &mut [Vec<u8>]| {
            lay(buffers);
            let mut frames: Vec<_> = buffers.iter_mut().map(|buffer| Unsealed { buffer, len }).collect();
            sealer.seal_batch(&mut frames).unwrap();
        };
        one_session(&mut buffers);
        check(&mut Sealer::new(&keys), &buffers);
        group.bench_function("coap-spark, one session", |b| b.iter(|| one_session(&mut buffers)));

        let mut sealers: Vec<_> = (0..count).map(|_| Sealer::new(&keys)).collect();
        let mut sessions = |buffers: &mut [Vec<u8>]| {
            lay(buffers);
            let mut frames: Vec<_> = buffers.iter_mut().map(|buffer| [Unsealed { buffer, len }]).collect();
            let mut batches: Vec<_> = sealers
                .iter_mut()
                .zip(&mut frames)
                .map(|(sealer, frames)| SessionBatch { sealer, frames })
                .collect();
            seal_batches(&mut batches).unwrap();
        };
        sessions(&mut buffers);
        buffers.iter().for_each(|frame| check(&mut Sealer::new(&keys), core::slice::from_ref(frame)));
        group.bench_function("coap-spark, as many sessions", |b| b.iter(|| sessions(&mut buffers)));

        #[cfg(feature = "openssl")]
        {
            let mut peer = OpenSsl::sealer(&keys);
            let mut one_by_one = |buffers: &mut [Vec<u8>]| {
                for buffer in buffers {
                    assert_eq!(peer.seal(black_box(message), buffer).len(), sealed_len(len));
                }
            };
            let mut longer = vec![vec![0; sealed_len(len) + 16]; count];
            one_by_one(&mut longer);
            longer.iter_mut().for_each(|frame| frame.truncate(sealed_len(len)));
            check(&mut Sealer::new(&keys), &longer);
            longer.iter_mut().for_each(|frame| frame.resize(sealed_len(len) + 16, 0));
            group.bench_function("openssl, one by one", |b| b.iter(|| one_by_one(&mut longer)));
        }
        group.finish();
    }
}

fn open(c: &mut Criterion) {
    let keys = SessionKeys::new(KEYS);
    for len in [32_usize, 512] {
        let message = image(len);
        let mut out = [0; 600];
        let sealed = Sealer::new(&keys).seal(&message, &mut out).unwrap().to_vec();
        // Opened again and again: only the first block depends on the IV, the rest is as it was.
        let mut group = c.benchmark_group(format!("frame/open/{len}"));
        group.throughput(Throughput::Bytes(len as u64));
        let mut opener = Opener::new(&keys);
        let mut frame = sealed.clone();
        // Opening in place destroys the frame, so each round begins with a copy of it; this is what the copy costs.
        group.bench_function("the copy alone", |b| {
            b.iter(|| {
                frame.copy_from_slice(black_box(&sealed));
                black_box(&mut frame);
            });
        });
        group.bench_function("coap-spark", |b| {
            b.iter(|| {
                frame.copy_from_slice(black_box(&sealed));
                let plain = opener.open_in_place(&mut frame[2..]).unwrap();
                assert_eq!((plain, frame[2 + plain - 1]), (len, message[len - 1]));
            });
        });
        #[cfg(feature = "openssl")]
        {
            let mut peer = OpenSsl::opener(&keys);
            assert_eq!(peer.open(&sealed[2..], &mut out), len);
            assert_eq!(out[..len], message);
            frame.resize(sealed.len() + 16, 0);
            group.bench_function("openssl", |b| {
                b.iter(|| {
                    frame[..sealed.len()].copy_from_slice(black_box(&sealed));
                    let plain = peer.open_in_place(&mut frame[2..]);
                    assert_eq!((plain, frame[2 + plain - 1]), (len, message[len - 1]));
                });
            });
            group.bench_function("openssl, into another buffer", |b| {
                b.iter(|| {
                    let plain = peer.open(black_box(&sealed[2..]), &mut out);
                    assert_eq!((plain, out[plain - 1]), (len, message[len - 1]));
                });
            });
        }
        let mut iv = keys.iv();
        group.bench_function("cbc, naive", |b| {
            b.iter(|| {
                let plain = naive_open(&KEYS[..16].try_into().unwrap(), &mut iv, black_box(&sealed));
                assert_eq!((plain.len(), plain[len - 1]), (len, message[len - 1]));
            });
        });
        group.finish();
    }
}

/// Options and payload.
type Parsed = (Vec<(u16, Vec<u8>)>, Vec<u8>);

/// Reads the options of a message into vectors, as a first version would.
fn naive_parse(mut rest: &[u8]) -> Option<Parsed> {
    let token_len = usize::from(rest.first()? & 15);
    rest = rest.get(4 + token_len..)?;
    let (mut number, mut options) = (0, Vec::new());
    while let Some((&first, more)) = rest.split_first() {
        if first == 0xFF {
            return Some((options, more.to_vec()));
        }
        // Extended numbers and lengths are left out.
        let (delta, len) = (first >> 4, usize::from(first & 15));
        if delta > 12 || len > 12 {
            return None;
        }
        number += u16::from(delta);
        options.push((number, more.get(..len)?.to_vec()));
        rest = more.get(len..)?;
    }
    Some((options, Vec::new()))
}

/// A message of each size, with the bytes in its options and its payload.
fn message_cases() -> [(&'static str, Vec<u8>, usize, usize); 3] {
    [
        ("hello", HELLO.to_vec(), 1, 8),
        ("event", EVENT.to_vec(), 20, 6),
        ("chunk", [&CHUNK_HEAD[..], &image(512)].concat(), 7, 512),
    ]
}

fn messages(c: &mut Criterion) {
    for (name, bytes, option_bytes, payload_bytes) in message_cases() {
        parse(c, name, &bytes, (option_bytes, payload_bytes));
        emit(c, name, &bytes);
    }
}

fn parse(c: &mut Criterion, name: &str, bytes: &[u8], expected: (usize, usize)) {
    let mut group = c.benchmark_group(format!("coap/parse/{name}"));
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("coap-spark", |b| {
        b.iter(|| {
            let message = Message::parse(black_box(bytes), ParseOptions::STRICT).unwrap();
            let options: usize = message.options().map(|option| option.value.len()).sum();
            assert_eq!((options, message.payload().map_or(0, <[u8]>::len)), expected);
        });
    });
    group.bench_function("naive", |b| {
        b.iter(|| {
            let (options, payload) = naive_parse(black_box(bytes)).unwrap();
            let options = options.iter().map(|(_, value)| value.len()).sum();
            assert_eq!((options, payload.len()), expected);
        });
    });
    group.bench_function("coap-lite", |b| {
        b.iter(|| {
            let packet = coap_lite::Packet::from_bytes(black_box(bytes)).unwrap();
            let options = packet.options().flat_map(|(_, values)| values).map(Vec::len).sum();
            assert_eq!((options, packet.payload.len()), expected);
        });
    });
    // One direction knows the chunk, the other the rest.
    group.bench_function("coap-spark, typed", |b| {
        b.iter(|| match Envelope::<FromServer<'_>>::decode(black_box(bytes)).unwrap().body {
            FromServer::Hello => assert_eq!(name, "hello"),
            FromServer::Event(event) => assert_eq!(event.data.map_or(0, <[u8]>::len), expected.1),
            FromServer::Chunk(chunk) => assert_eq!(chunk.data.len(), expected.1),
            other => panic!("{other:?}"),
        });
    });
    group.finish();
}

fn emit(c: &mut Criterion, name: &str, bytes: &[u8]) {
    let parsed = Message::parse(bytes, ParseOptions::STRICT).unwrap();
    let (kind, code, id, token) = (parsed.kind(), parsed.code(), parsed.id(), parsed.token());
    let options: Vec<_> = parsed.options().collect();
    let payload = parsed.payload().unwrap();
    let packet = coap_lite::Packet::from_bytes(bytes).unwrap();
    let mut group = c.benchmark_group(format!("coap/emit/{name}"));
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let mut out = [0; 600];
    group.bench_function("coap-spark", |b| {
        b.iter(|| {
            let mut writer = Writer::new(&mut out, kind, code, black_box(id), token).unwrap();
            for option in black_box(&options) {
                writer.option(option.number, option.value).unwrap();
            }
            assert_eq!(writer.payload(black_box(payload)).unwrap(), bytes);
        });
    });
    group.bench_function("naive", |b| {
        b.iter(|| {
            let mut out = vec![bytes[0], code.0];
            out.extend(black_box(id).to_be_bytes());
            out.extend(token.as_bytes());
            let mut previous = 0;
            for option in black_box(&options) {
                let (delta, len) = (option.number - previous, option.value.len());
                out.push(u8::try_from((usize::from(delta) << 4) | len).unwrap());
                out.extend(option.value);
                previous = option.number;
            }
            out.push(0xFF);
            out.extend(black_box(payload));
            assert_eq!(out, bytes);
        });
    });
    group.bench_function("coap-lite", |b| {
        b.iter(|| assert_eq!(black_box(&packet).to_bytes().unwrap(), bytes));
    });
    group.finish();
}

fn handshake(c: &mut Criterion) {
    let Handshake { mut rng, server_key, device_public, id, identity, waiting, .. } = Handshake::new();
    let look_up =
        |asked, _: Option<&[u8; DEVICE_PUBLIC_KEY_LEN]>| (asked == id).then(|| device_public.clone());

    let mut group = c.benchmark_group("handshake/server");
    group.throughput(Throughput::Elements(1)).sample_size(50);
    group.bench_function("coap-spark, rsa", |b| {
        b.iter(|| {
            let session = SessionKeys::new(black_box(KEYS));
            let accepted = server::answer(waiting.clone(), &server_key, look_up, session, &mut rng).unwrap();
            assert_eq!(accepted.device_id, id);
        });
    });
    #[cfg(feature = "openssl")]
    {
        use shared::{BareOperations, OpenSslServer};
        let mut server = OpenSslServer::new();
        group.bench_function("coap-spark, openssl", |b| b.iter(|| server.answer()));
        // What cannot be saved: the two operations with the server's key, without padding. The encryption for the
        // device is not among them.
        let mut bare = BareOperations::new(Handshake::new().server_pem, identity);
        group.bench_function("openssl, two bare private operations", |b| b.iter(|| bare.run()));
        bare.check();
    }
    group.bench_function("rsa alone, naive", |b| {
        b.iter(|| {
            let plain = server_key.decrypt_blinded(&mut rng, Pkcs1v15Encrypt, black_box(&identity)).unwrap();
            assert_eq!(plain.len(), 52);
            let cipher = device_public.encrypt(&mut rng, Pkcs1v15Encrypt, &KEYS).unwrap();
            let digest = [cipher[0]; 20];
            let signature =
                server_key.sign_with_rng(&mut rng, Pkcs1v15Sign::new_unprefixed(), &digest).unwrap();
            assert_eq!(signature.len(), 256);
        });
    });
    group.finish();
}

criterion_group!(all, seal, open, messages, handshake);
criterion_main!(all);
