//! A server and a device on blocking sockets of the standard library, one thread each.
//!
//! `cargo run -p coap-spark --features rsa --example blocking`

use coap_spark::coap::{Code, Type};
use coap_spark::connection::{DeviceConnection, Machine, Profile, Request, ServerConnection, ServerPolicy};
use coap_spark::handshake::{DeviceId, device, server};
use coap_spark::message::{FromDevice, FromServer, Hello, HelloFlags, Response};
use coap_spark::session::SessionKeys;
use core::error::Error;
use core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use rsa::{RsaPrivateKey, RsaPublicKey};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

type Result<T> = core::result::Result<T, Box<dyn Error + Send + Sync>>;

const ID: DeviceId = DeviceId(*b"blocking one");

/// What moves the bytes of either end: one socket, one machine, one clock.
struct Driver<M> {
    socket: TcpStream,
    machine: M,
    started: Instant,
}

impl<M: Machine<Error: Error + Send + Sync + 'static>> Driver<M> {
    /// Sends what is due, then waits for bytes or for the deadline. Gives one frame's bytes to the machine at a time:
    /// look at it before the next call.
    fn turn(&mut self, unread: &mut Vec<u8>) -> Result<()> {
        let mut out = [0; 1024];
        while let Some(bytes) = self.machine.poll_output(self.started.elapsed(), &mut out)? {
            self.socket.write_all(bytes)?;
        }
        if unread.is_empty() {
            let wait =
                self.machine.next_deadline().map(|deadline| deadline.saturating_sub(self.started.elapsed()));
            // A time-out of zero would mean to wait for ever.
            self.socket.set_read_timeout(wait.map(|wait| wait.max(Duration::from_millis(1))))?;
            let mut input = [0; 2048];
            match self.socket.read(&mut input) {
                Ok(0) => return Err("the peer closed the connection".into()),
                Ok(count) => unread.extend(&input[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error.into()),
            }
        }
        let used = self.machine.handle_input(self.started.elapsed(), unread)?;
        unread.drain(..used);
        Ok(self.machine.handle_deadline(self.started.elapsed())?)
    }
}

fn serve(listener: &TcpListener, key: &RsaPrivateKey, known: &RsaPublicKey) -> Result<i32> {
    let (mut socket, _) = listener.accept()?;
    let started = Instant::now();
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (mut nonce, mut session) = ([0; 40], [0; 40]);
    rng.fill_bytes(&mut nonce);
    rng.fill_bytes(&mut session);
    let mut waiting = server::AwaitIdentity::start(nonce, Duration::ZERO);
    socket.set_read_timeout(Some(server::IDENTITY_TIMEOUT))?;
    socket.write_all(waiting.nonce())?;
    let mut identity = [0; 256];
    socket.read_exact(&mut identity)?;
    waiting.push(&identity);
    let look_up = |id, _: Option<&[u8; 162]>| (id == ID).then(|| known.clone());
    let accepted = server::answer(waiting, key, look_up, SessionKeys::new(session), &mut rng)?;
    socket.write_all(&accepted.message)?;

    let policy = ServerPolicy::DEFAULT;
    let machine: ServerConnection = ServerConnection::new(&accepted.session, policy, 1, started.elapsed());
    let (mut driver, mut unread, mut out) = (Driver { socket, machine, started }, Vec::new(), [0; 1024]);
    loop {
        driver.turn(&mut unread)?;
        let Some(message) = driver.machine.poll_message() else { continue };
        match (message.body, message.answers) {
            (FromDevice::Hello(_), _) => {
                let call = FromServer::FunctionCall { name: b"brew", argument: b"coffee" };
                // Replies first: the server's Hello has to come before its first request.
                while let Some(bytes) = driver.machine.poll_output(&mut out)? {
                    driver.socket.write_all(bytes)?;
                }
                let sent = driver.machine.request(driver.started.elapsed(), call, &mut out)?;
                driver.socket.write_all(sent.bytes)?;
            }
            (FromDevice::Response(response), Some(_)) => {
                return Ok(i32::from_be_bytes(response.payload.try_into()?));
            }
            _ => {}
        }
    }
}

fn connect(mut socket: TcpStream, key: &RsaPrivateKey, server_key: &RsaPublicKey) -> Result<()> {
    let started = Instant::now();
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    socket.set_read_timeout(Some(device::READ_TIMEOUT))?;
    let mut waiting = device::AwaitNonce::start(Duration::ZERO);
    let mut nonce = [0; 40];
    socket.read_exact(&mut nonce)?;
    waiting.push(&nonce);
    let (waiting, job) = waiting.complete(ID, None).map_err(|_| "the nonce is incomplete")?;
    let (mut waiting, message) = waiting.resume(job.run(server_key, &mut rng), started.elapsed())?;
    socket.write_all(&message)?;
    let mut session = [0; 384];
    socket.read_exact(&mut session)?;
    waiting.push(&session);
    let (waiting, job) = waiting.complete().map_err(|_| "the session message is incomplete")?;
    let keys = waiting.resume(job.run(key, server_key, &mut rng))?;

    let mut machine: DeviceConnection = DeviceConnection::new(&keys, Profile::V2_3_1, started.elapsed());
    let (mut out, mut unread) = ([0; 1024], Vec::new());
    let hello = FromDevice::Hello(Hello::new(6, 1, HelloFlags(0x16), 6));
    socket.write_all(machine.send(Type::NonConfirmable, hello, &mut out)?.bytes)?;
    let mut driver = Driver { socket, machine, started };
    loop {
        driver.turn(&mut unread)?;
        let Some(message) = driver.machine.poll_message() else { continue };
        println!("device sees {:?}", message.body);
        if let Some(request) = Request::of(&message) {
            let result = Response { code: Code::CHANGED, payload: &42_i32.to_be_bytes() };
            driver.socket.write_all(driver.machine.reply(request, result, &mut out)?)?;
            return Ok(());
        }
    }
}

fn main() -> Result<()> {
    // Fixed seeds for the example; take a system source for real keys and nonces.
    let mut rng = ChaCha20Rng::seed_from_u64(2013);
    let server_key = RsaPrivateKey::new(&mut rng, 2048)?;
    let device_key = RsaPrivateKey::new(&mut rng, 1024)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let socket = TcpStream::connect(listener.local_addr()?)?;
    let server_public = server_key.to_public_key();
    thread::scope(|scope| {
        let device = scope.spawn(|| connect(socket, &device_key, &server_public));
        let result = serve(&listener, &server_key, &device_key.to_public_key())?;
        println!("server: brew(coffee) = {result}");
        device.join().map_err(|_| "the device's thread ended early")?
    })
}
