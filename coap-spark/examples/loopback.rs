//! A device and a server in one process: handshake, Hello, one event, one function call.
//!
//! `cargo run -p coap-spark --features rsa --example loopback`

use coap_spark::coap::Type;
use coap_spark::connection::{DeviceConnection, Profile, Request, ServerConnection, ServerPolicy};
use coap_spark::handshake::{DeviceId, device, server};
use coap_spark::message::{Event, FromDevice, FromServer, Hello, HelloFlags, Name, Response};
use coap_spark::session::SessionKeys;
use core::time::Duration;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use rsa::RsaPrivateKey;

fn main() -> Result<(), Box<dyn core::error::Error>> {
    // A fixed seed for the example; take a system source for real keys and nonces.
    let mut rng = ChaCha20Rng::seed_from_u64(2013);
    let now = Duration::ZERO;
    let server_key = RsaPrivateKey::new(&mut rng, 2048)?;
    let device_key = RsaPrivateKey::new(&mut rng, 1024)?;

    // Steps 1 to 3, both ends in turn.
    let mut nonce = [0; 40];
    rng.fill_bytes(&mut nonce);
    let mut at_server = server::AwaitIdentity::start(nonce, now);
    let mut at_device = device::AwaitNonce::start(now);
    at_device.push(at_server.nonce());
    let id: DeviceId = "53ff6d065072534212345667".parse()?;
    let (waiting, job) = at_device.complete(id, None).map_err(|_| "nonce is incomplete")?;
    let (mut at_device, identity) = waiting.resume(job.run(&server_key.to_public_key(), &mut rng), now)?;
    at_server.push(&identity);
    let mut session = [0; 40];
    rng.fill_bytes(&mut session);
    let look_up = |asked: DeviceId, _: Option<&[u8; 162]>| (asked == id).then(|| device_key.to_public_key());
    let accepted = server::answer(at_server, &server_key, look_up, SessionKeys::new(session), &mut rng)?;
    at_device.push(&accepted.message);
    let (waiting, job) = at_device.complete().map_err(|_| "session message is incomplete")?;
    let keys = waiting.resume(job.run(&device_key, &server_key.to_public_key(), &mut rng))?;

    // The session.
    let mut at_server: ServerConnection =
        ServerConnection::new(&accepted.session, ServerPolicy::DEFAULT, 1, now);
    let mut at_device: DeviceConnection = DeviceConnection::new(&keys, Profile::V0_7_0, now);
    let (mut out, mut wire) = ([0; 1024], Vec::new());
    let hello = FromDevice::Hello(Hello::new(6, 1, HelloFlags::default(), 6));
    wire.extend(at_device.send(Type::NonConfirmable, hello, &mut out)?.bytes);
    let event = Event { name: Name::new("temp"), public: false, max_age: None, data: Some(b"21.5") };
    wire.extend(at_device.send(Type::NonConfirmable, FromDevice::Event(event), &mut out)?.bytes);

    let mut to_device = Vec::new();
    let mut rest = &wire[..];
    while !rest.is_empty() {
        rest = &rest[at_server.handle_input(now, rest)?..];
        if let Some(message) = at_server.poll_message() {
            println!("server sees {:?}", message.body);
        }
        while let Some(frame) = at_server.poll_output(&mut out)? {
            to_device.extend_from_slice(frame);
        }
    }
    let call = FromServer::FunctionCall { name: b"brew", argument: b"coffee" };
    to_device.extend(at_server.send(call, &mut out)?.bytes);
    let mut rest = &to_device[..];
    while !rest.is_empty() {
        rest = &rest[at_device.handle_input(now, rest)?..];
        let Some(message) = at_device.poll_message() else { continue };
        println!("device sees {:?}", message.body);
        if let Some(request) = Request::of(&message) {
            let result = Response { code: coap_spark::coap::Code::CHANGED, payload: &42i32.to_be_bytes() };
            println!("device answers with {} bytes", at_device.reply(request, result, &mut out)?.len());
        }
    }
    Ok(())
}
