//! What the benchmarks, the example `ota_ratios` and the count of allocations share: the whole way of a chunk out of a
//! server, from the image to frames for the socket.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "three binaries use it, each a part")]

use coap_spark::coap::Type;
use coap_spark::connection::{DeviceConnection, Profile, ServerConnection, ServerPolicy};
use coap_spark::message::{Envelope, FromDevice, FromServer, Hello, HelloFlags, Response, UpdateReady};
use coap_spark::session::{Opener, SessionKeys};
use core::time::Duration;
use spark_ota::coap::Upload;
use spark_ota::transfer::Options;

/// Chunks of one round.
pub const CHUNKS: usize = 200;
pub const CHUNK: usize = 512;
const KEYS: [u8; 40] = [7; 40];
const NOW: Duration = Duration::from_secs(1);

/// A server that may send all chunks of an image now.
pub struct Path<'i> {
    connection: ServerConnection<1024>,
    ready: Upload<&'i [u8]>,
    opener: Opener,
    /// Room for eight frames.
    out: [u8; 8 * 546],
}

impl<'i> Path<'i> {
    pub fn new(image: &'i [u8]) -> Self {
        assert_eq!(image.len(), CHUNKS * CHUNK);
        let keys = SessionKeys::new(KEYS);
        let mut device = DeviceConnection::<800>::new(&keys, Profile::V2_3_1, NOW);
        let mut connection = ServerConnection::<1024>::new(&keys, ServerPolicy::DEFAULT, 0, NOW);
        let mut opener = Opener::new(&keys);
        let mut out = [0; 8 * 546];
        let hello = FromDevice::Hello(Hello::new(6, 1, HelloFlags(0), 6));
        connection
            .handle_input(NOW, device.send(Type::NonConfirmable, hello, &mut out).unwrap().bytes)
            .unwrap();
        connection.poll_message().unwrap();
        open(&mut opener, connection.poll_output(&mut out).unwrap().unwrap());
        let mut ready = Upload::new(image, Options::DEFAULT).unwrap();
        let begin = open(&mut opener, ready.poll_send(NOW, &mut connection, &mut out).unwrap().unwrap());
        let token = Envelope::<FromServer<'_>>::decode(&begin).unwrap().token;
        let body = Response::changed(&[UpdateReady::FAST.0]);
        let said = device.respond(Type::NonConfirmable, token, body, &mut out).unwrap();
        connection.handle_input(NOW, said.bytes).unwrap();
        let message = connection.poll_message().unwrap();
        let mut copy = [0; 64];
        let copy = message.encode_into(&mut copy).unwrap();
        let _ = ready.handle_message(NOW, &Envelope::<FromDevice<'_>>::decode(copy).unwrap());
        assert!(ready.progress().fast);
        Self { connection, ready, opener, out }
    }

    /// Sends every chunk, a frame at a time. Gives the bytes for the socket.
    pub fn one_by_one(&mut self) -> usize {
        let mut upload = self.ready.clone();
        let mut sent = 0;
        for _ in 0..CHUNKS {
            sent += upload.poll_send(NOW, &mut self.connection, &mut self.out).unwrap().unwrap().len();
        }
        sent
    }

    /// Sends every chunk, eight frames at a time.
    pub fn batches(&mut self) -> usize {
        let mut upload = self.ready.clone();
        let mut sent = 0;
        while let Some(frames) = upload.poll_send_batch(&mut self.connection, &mut self.out).unwrap() {
            sent += frames.len();
        }
        sent
    }

    /// Sends all once more and looks at what a device would get.
    pub fn check(mut self, image: &[u8]) {
        let mut upload = self.ready.clone();
        let mut at = 0;
        while let Some(frames) = upload.poll_send_batch(&mut self.connection, &mut self.out).unwrap() {
            let mut rest = frames;
            while let [high, low, ..] = rest {
                let (frame, behind) = rest.split_at(2 + usize::from(u16::from_be_bytes([*high, *low])));
                let message = open(&mut self.opener, frame);
                let message = Envelope::<FromServer<'_>>::decode(&message).unwrap();
                let FromServer::Chunk(chunk) = message.body else { panic!("{message:?}") };
                assert_eq!(chunk.data, &image[at..at + CHUNK]);
                assert_eq!(chunk.crc, spark_ota::crc32(chunk.data));
                assert_eq!(usize::from(chunk.index.unwrap()), at / CHUNK);
                (at, rest) = (at + CHUNK, behind);
            }
        }
        assert_eq!(at, image.len());
    }
}

fn open(opener: &mut Opener, frame: &[u8]) -> Vec<u8> {
    let mut body = frame[2..].to_vec();
    let len = opener.open_in_place(&mut body).unwrap();
    body.truncate(len);
    body
}
