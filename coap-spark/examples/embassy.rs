//! A device's firmware on embassy: everything on the stack, over whatever reads and writes by `embedded-io-async`.
//!
//! It runs on the host, over a pipe to a server in the same program. In a firmware `io` is a TCP socket of embassy-net and
//! the RSA operations are the chip's own or a C library's, behind the traits [`RsaPrivate`] and [`RsaPublic`].
//!
//! `cargo run -p coap-spark --features rsa --example embassy`

use coap_spark::coap::{Code, Type};
use coap_spark::connection::{DeviceConnection, Machine, Profile, Request, ServerConnection, ServerPolicy};
use coap_spark::handshake::{DeviceId, RsaPrivate, RsaPublic, device, server};
use coap_spark::message::{Event, FromDevice, FromServer, Hello, HelloFlags, Name, Response};
use coap_spark::session::SessionKeys;
use core::time::Duration;
use embassy_futures::block_on;
use embassy_futures::join::join;
use embassy_futures::select::{Either, select};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::pipe::Pipe;
use embassy_time::{Instant, Timer};
use embedded_io_async::{ErrorType, Read, Write};
use rand_chacha::ChaCha20Rng;
use rand_core::{CryptoRng, Rng, SeedableRng};
use rsa::RsaPrivateKey;

const ID: DeviceId = DeviceId(*b"on embassy!!");

/// What a firmware would do with an error: log it, close, and connect again after a while.
#[derive(Debug)]
struct Lost;

fn lost<E>(_: E) -> Lost {
    Lost
}

fn now() -> Duration {
    Duration::from_micros(Instant::now().as_micros())
}

/// From the fresh TCP connection to its end.
async fn device(
    mut io: impl Read + Write,
    key: &impl RsaPrivate,
    server_key: &impl RsaPublic,
    rng: &mut dyn CryptoRng,
) -> Result<(), Lost> {
    let mut waiting = device::AwaitNonce::start(now());
    let mut nonce = [0; 40];
    io.read_exact(&mut nonce).await.map_err(lost)?;
    waiting.push(&nonce);
    let (waiting, job) = waiting.complete(ID, None).map_err(lost)?;
    let (mut waiting, message) = waiting.resume(job.run(server_key, rng), now()).map_err(lost)?;
    io.write_all(&message).await.map_err(lost)?;
    let mut session = [0; 384];
    io.read_exact(&mut session).await.map_err(lost)?;
    waiting.push(&session);
    let (waiting, job) = waiting.complete().map_err(lost)?;
    let keys = waiting.resume(job.run(key, server_key, rng)).map_err(lost)?;

    let mut connection: DeviceConnection = DeviceConnection::new(&keys, Profile::V2_3_1, now());
    let mut out = [0; 1024];
    let hello = FromDevice::Hello(Hello::new(6, 1, HelloFlags(0x16), 6));
    let sent = connection.send(Type::NonConfirmable, hello, &mut out).map_err(lost)?;
    io.write_all(sent.bytes).await.map_err(lost)?;
    loop {
        turn(&mut io, &mut connection, &mut out).await?;
        let Some(message) = connection.poll_message() else { continue };
        match message.body {
            FromServer::Hello => {
                let event = Event { name: Name::new("boot"), public: false, max_age: None, data: Some(b"1") };
                let sent = connection.publish(now(), event, false, &mut out).map_err(lost)?;
                io.write_all(sent.bytes).await.map_err(lost)?;
            }
            _ => {
                let Some(request) = Request::of(&message) else { continue };
                println!("device is asked for {:?}", request.kind);
                let response = Response { code: Code::CHANGED, payload: &42_i32.to_be_bytes() };
                let frames = connection.reply(request, response, &mut out).map_err(lost)?;
                return io.write_all(frames).await.map_err(lost);
            }
        }
    }
}

/// Sends what is due, then waits for one byte or more, or for the deadline.
async fn turn<M: Machine>(io: &mut (impl Read + Write), machine: &mut M, out: &mut [u8]) -> Result<(), Lost> {
    while let Some(bytes) = machine.poll_output(now(), out).map_err(lost)? {
        io.write_all(bytes).await.map_err(lost)?;
    }
    // One byte at a time, so that nothing is left over; a firmware reads more and keeps the rest.
    let mut byte = [0];
    let deadline =
        machine.next_deadline().map_or(u64::MAX, |at| u64::try_from(at.as_micros()).unwrap_or(u64::MAX));
    match select(io.read(&mut byte), Timer::at(Instant::from_micros(deadline))).await {
        Either::First(read) => {
            if read.map_err(lost)? == 0 {
                return Err(Lost);
            }
            machine.handle_input(now(), &byte).map_err(lost)?;
        }
        Either::Second(()) => {}
    }
    machine.handle_deadline(now()).map_err(lost)
}

/// The other end, to have something to talk to.
async fn serve(mut io: impl Read + Write, key: &RsaPrivateKey, known: &impl RsaPublic) -> Result<i32, Lost> {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (mut nonce, mut session, mut identity) = ([0; 40], [0; 40], [0; 256]);
    rng.fill_bytes(&mut nonce);
    rng.fill_bytes(&mut session);
    let mut waiting = server::AwaitIdentity::start(nonce, now());
    io.write_all(waiting.nonce()).await.map_err(lost)?;
    io.read_exact(&mut identity).await.map_err(lost)?;
    waiting.push(&identity);
    let (waiting, job) = waiting.complete().map_err(lost)?;
    let identified = waiting.resume(job.run(key, &mut rng)).map_err(lost)?;
    let (waiting, job) = identified.accept(SessionKeys::new(session));
    let accepted = waiting.resume(job.run(known, key, &mut rng)).map_err(lost)?;
    io.write_all(&accepted.message).await.map_err(lost)?;

    let mut connection: ServerConnection =
        ServerConnection::new(&accepted.session, ServerPolicy::DEFAULT, 1, now());
    let mut out = [0; 1024];
    loop {
        turn(&mut io, &mut connection, &mut out).await?;
        let Some(message) = connection.poll_message() else { continue };
        match (message.body, message.answers) {
            (FromDevice::Event(event), _) => {
                println!("server sees the event {}", event.name);
                let call = FromServer::FunctionCall { name: b"brew", argument: b"coffee" };
                let sent = connection.request(now(), call, &mut out).map_err(lost)?;
                io.write_all(sent.bytes).await.map_err(lost)?;
            }
            (FromDevice::Response(response), Some(_)) => {
                return response.payload.try_into().map(i32::from_be_bytes).map_err(lost);
            }
            _ => {}
        }
    }
}

/// Two pipes, seen from one of their ends.
struct Wire<'p>(&'p Pipe<NoopRawMutex, 256>, &'p Pipe<NoopRawMutex, 256>);

impl ErrorType for Wire<'_> {
    type Error = core::convert::Infallible;
}

impl Read for Wire<'_> {
    async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Self::Error> {
        Ok(self.0.read(buffer).await)
    }
}

impl Write for Wire<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
        Ok(self.1.write(bytes).await)
    }

    async fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn core::error::Error>> {
    // Fixed seeds for the example; take the chip's random source for real keys.
    let mut rng = ChaCha20Rng::seed_from_u64(2013);
    let server_key = RsaPrivateKey::new(&mut rng, 2048)?;
    let device_key = RsaPrivateKey::new(&mut rng, 1024)?;
    let (server_public, device_public) = (server_key.to_public_key(), device_key.to_public_key());
    let (up, down) = (Pipe::new(), Pipe::new());
    let device = device(Wire(&down, &up), &device_key, &server_public, &mut rng);
    let (device, result) = block_on(join(device, serve(Wire(&up, &down), &server_key, &device_public)));
    device.map_err(|_| "the device lost its connection")?;
    println!("brew(coffee) = {}", result.map_err(|_| "the server lost its connection")?);
    Ok(())
}
