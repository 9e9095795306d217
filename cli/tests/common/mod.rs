//! A simulated Photon and the cloud's session, wired together in memory under a virtual clock.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    reason = "test code, each file uses its part of it"
)]

use coap_spark::connection::{ServerConnection, ServerPolicy};
use coap_spark::handshake::server::{AwaitIdentity, answer};
use coap_spark::session::SessionKeys;
use core::net::Ipv4Addr;
use core::time::Duration;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use rsa::{RsaPrivateKey, RsaPublicKey};
use spark_cli::cloud::Event;
use spark_cli::cloud::catalogue::{Catalogue, ModuleFile};
use spark_cli::cloud::session::{Session, SessionOptions};
use spark_cli::cloud::updates::Attempts;
use spark_cli::photons::{self, Candidates};
use spark_dct::{ServerAddress, ServerKeyRegion};
use spark_keys::{DeviceKey, rsa_backend};
use spark_sim::{Client, End, Photon};
use std::sync::Arc;

/// Everything that a rescue needs beside the device.
pub struct Kit {
    pub server_key: RsaPrivateKey,
    pub device_key: DeviceKey,
    pub device_public: RsaPublicKey,
    pub region: [u8; 512],
    pub catalogue: Arc<Catalogue>,
    pub application: ModuleFile,
    pub candidates: Candidates,
}

impl Kit {
    /// A broken Photon and what will heal it. The same seed gives the same bytes.
    pub fn new(
        old_system: &[ModuleFile],
        application: ModuleFile,
        new_system: Vec<ModuleFile>,
    ) -> (Photon, Self) {
        let mut rng = ChaCha8Rng::seed_from_u64(42);
        let server_key = rsa_backend::generate_server_key(&mut rng).unwrap();
        let device_key = rsa_backend::generate_device_key(&mut rng).unwrap();
        let view = spark_keys::RsaPrivateKeyView::parse(device_key.as_der()).unwrap();
        let device_public = rsa_backend::to_rsa_private(&view).unwrap().to_public_key();
        let spki = rsa_backend::server_spki(server_key.as_public_key()).unwrap();
        let address = ServerAddress::ipv4(Ipv4Addr::LOCALHOST, Some(5683));
        let mut region = [0; 512];
        ServerKeyRegion::new(&spki, Some(address)).encode_into(&mut region).unwrap();
        let (photon, candidates) = photons::broken(old_system, &application, &mut rng).unwrap();
        let catalogue = Arc::new(Catalogue::new(new_system));
        (photon, Self { server_key, device_key, device_public, region, catalogue, application, candidates })
    }

    /// The modules that a healed device has.
    pub fn expected(&self) -> Vec<ModuleFile> {
        self.catalogue.files().iter().chain([&self.application]).cloned().collect()
    }
}

/// What one connection came to.
#[derive(Debug)]
pub struct Connected {
    /// `None`: all is well and the device stays connected.
    pub end: Option<End>,
    pub events: Vec<Event>,
}

/// One connection of the device, from the nonce to its end or until nothing is missing any more.
pub fn connect(
    photon: &mut Photon,
    kit: &Kit,
    attempts: &mut Attempts,
    options: &SessionOptions,
) -> Connected {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let id = photon.id();
    let mut now = Duration::ZERO;
    let mut nonce = [0; 40];
    let mut secret = [0; 40];
    rng.fill_bytes(&mut nonce);
    rng.fill_bytes(&mut secret);
    let mut client = Client::connect(photon, &mut rng, now);
    let mut waiting = AwaitIdentity::start(nonce, now);
    client.handle_input(now, &nonce);
    if let Some(end) = client.end() {
        return Connected { end: Some(end.clone()), events: Vec::new() };
    }
    waiting.push(&client.poll_output().unwrap());
    let mut server_rng = ChaCha8Rng::seed_from_u64(8);
    let look_up = |asked, _: Option<&[u8; 162]>| (asked == id).then_some(&kit.device_public);
    let accepted =
        answer(waiting, &kit.server_key, look_up, SessionKeys::new(secret), &mut server_rng).unwrap();
    client.handle_input(now, &accepted.message);

    let connection = ServerConnection::new(&accepted.session, ServerPolicy::DEFAULT, 1, now);
    let mut session = Session::new(id, connection, Arc::clone(&kit.catalogue), options.clone());
    session.set_attempts(attempts.clone());
    let mut events = Vec::new();
    let mut out = [0; 2048];
    let end = loop {
        let mut moved = false;
        while let Some(bytes) = client.poll_output() {
            session.handle_input(now, 1_500_000_000, &bytes).unwrap();
            moved = true;
        }
        if let Some(end) = client.end() {
            session.handle_end(now);
            break Some(end.clone());
        }
        while let Some(frame) = session.poll_send(now, &mut out).unwrap() {
            client.handle_input(now, frame);
            moved = true;
            if client.end().is_some() {
                break;
            }
        }
        while let Some(event) = session.poll_event() {
            events.push(event);
        }
        if matches!(events.last(), Some(Event::UpToDate { .. } | Event::CannotUpdate { .. })) {
            break None;
        }
        if !moved {
            let client_deadline = client.next_deadline().unwrap_or(Duration::MAX);
            now = now.max(session.next_deadline().min(client_deadline));
            assert!(now < Duration::from_secs(3600), "nothing happens any more");
            client.handle_deadline(now);
            session.handle_deadline(now).unwrap();
        }
    };
    while let Some(event) = session.poll_event() {
        events.push(event);
    }
    *attempts = session.attempts().clone();
    Connected { end, events }
}
