//! Transfers of protocol v2 to devices that use UDP: an endpoint at each end repeats what is not acknowledged, under a
//! virtual clock, over a bad link.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod lossy;
mod transfer;

use coap_spark::coap::Type;
use coap_spark::message::{Envelope, FromDevice, FromServer};
use coap_spark::udp::{Endpoint, Incoming, SendError, Timing};
use core::time::Duration;
use lossy::{Delivery, Fault, Lossy, To};
use spark_ota::coap::{Datagrams, Download, DownloadError, Handled, Ids, Upload};
use spark_ota::transfer::{Failure, Options, Profile, Success};
use transfer::{Flash, LATENCY, PACE, REGION, image, is_chunk, is_fast_chunk};

const PROFILES: [(&str, Profile); 4] =
    [("C1", Profile::C1), ("C2", Profile::C2), ("C3", Profile::C3), ("C4", Profile::C4)];

/// A server and a device, each over an endpoint that remembers `SEEN` messages.
struct World<'f, const SEEN: usize> {
    link: Lossy,
    upload: Upload<Vec<u8>>,
    server: (Endpoint<1200, 1, SEEN>, Datagrams),
    download: Download,
    device: (Endpoint<1200, 4, SEEN>, Datagrams),
    flash: &'f mut Flash,
    next_send: Duration,
    reset_after: Option<u64>,
    /// The device ended the session.
    gone: bool,
    /// Datagrams with a fast chunk.
    fast_chunks: u32,
}

impl<'f, const SEEN: usize> World<'f, SEEN> {
    fn new(image: &[u8], fast: bool, profile: Profile, link: Lossy, flash: &'f mut Flash) -> Self {
        let options = Options { chunk_size: 256, offer_fast: fast, expects_result: true, ..Options::DEFAULT };
        let now = link.now;
        Self {
            next_send: now,
            reset_after: link.reset_after(),
            link,
            upload: Upload::new(image.to_vec(), options).unwrap(),
            server: (Endpoint::new(Timing::SERVER, now), Datagrams::new(Ids { id: 1, token: 250 })),
            download: Download::new(profile, REGION),
            device: (Endpoint::new(Timing::DEVICE, now), Datagrams::new(Ids { id: 0x8000, token: 0 })),
            flash,
            gone: false,
            fast_chunks: 0,
        }
    }

    /// Until the server knows, and all that was said has arrived.
    fn run(&mut self) -> Result<Success, Failure> {
        let mut out = [0; 1200];
        loop {
            let (now, mut quiet) = (self.link.now, true);
            if now >= self.next_send
                && self.server.0.pending().next().is_none()
                && let Some(message) = self.upload.poll_send(now, &mut self.server.1, &mut out).unwrap()
            {
                let endpoint = &mut self.server.0;
                assert_eq!(self.server.1.is_repeated(), !is_fast_chunk(message));
                if self.server.1.is_repeated() {
                    endpoint.send(message, 0).unwrap();
                } else {
                    endpoint.send_unrepeated(message).unwrap();
                }
                self.next_send = now + PACE;
                quiet = false;
            }
            while let Some(record) = self.server.0.poll_output(now, &mut out).unwrap() {
                self.fast_chunks += u32::from(record.len() > 4 && is_fast_chunk(record));
                self.link.send(To::Device, record, is_chunk(record));
                quiet = false;
            }
            while let Some(record) = self.device.0.poll_output(now, &mut out).unwrap() {
                self.link.send(To::Server, record, false);
                quiet = false;
            }
            while let Some(delivery) = self.link.receive(|_: &Delivery| true) {
                self.deliver(&delivery);
                quiet = false;
            }
            if !quiet {
                continue;
            }
            if self.gone {
                // The device begins a new session; the server learns that.
                self.upload.cancel();
            }
            if let Some(outcome) = self.upload.outcome()
                && self.link.next_arrival().is_none()
            {
                return outcome;
            }
            let deadlines = [
                self.link.next_arrival(),
                self.upload.next_deadline(),
                self.download.next_deadline(),
                self.server.0.next_deadline(),
                self.device.0.next_deadline(),
                (self.next_send > now && self.upload.outcome().is_none()).then_some(self.next_send),
            ];
            self.link.now = deadlines.into_iter().flatten().min().expect("somebody waits").max(now);
            assert!(self.link.now < Duration::from_secs(7200), "never ends");
            self.pass_time();
        }
    }

    fn pass_time(&mut self) {
        let now = self.link.now;
        self.upload.handle_deadline(now);
        if self.server.0.handle_deadline(now, 0).is_err() {
            self.upload.cancel();
        }
        self.gone |= self.device.0.handle_deadline(now, 0).is_err();
        let Self { download, device, flash, .. } = self;
        let mut said = Vec::new();
        let mut say = |message: &[u8]| said.push(message.to_vec());
        let result = download.handle_deadline(now, &mut device.1, *flash, &mut say);
        self.says(result, &said);
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let now = self.link.now;
        if delivery.to == To::Server {
            let incoming = self.server.0.handle_datagram(now, &delivery.bytes);
            let Ok(Incoming::Message(_) | Incoming::Acknowledged(_)) = incoming else { return };
            let message = Envelope::<FromDevice<'_>>::decode(&delivery.bytes).unwrap();
            match self.upload.handle_message(now, &message) {
                Handled::Acknowledge(id) => self.server.0.acknowledge(id).unwrap(),
                // What nobody waits for any more is acknowledged by the session.
                Handled::NotMine if message.kind == Type::Confirmable => {
                    self.server.0.acknowledge(message.id).unwrap();
                }
                _ => {}
            }
            return;
        }
        if self.gone {
            return;
        }
        let incoming = self.device.0.handle_datagram(now, &delivery.bytes);
        let Ok(Incoming::Message(_) | Incoming::Acknowledged(_)) = incoming else { return };
        let message = Envelope::<FromServer<'_>>::decode(&delivery.bytes).unwrap();
        let Self { download, device, flash, reset_after, .. } = self;
        let mut said = Vec::new();
        let mut say = |message: &[u8]| said.push(message.to_vec());
        let result = download.handle_message(now, &message, &mut device.1, *flash, &mut say);
        if matches!(message.body, FromServer::Chunk(chunk) if chunk.index.is_some()) {
            device.0.forget(message.id).unwrap();
        }
        if let Some(left) = reset_after
            && is_chunk(&delivery.bytes)
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                download.abort();
                *reset_after = None;
            }
        }
        self.says(result.map(|_| ()), &said);
    }

    fn says(&mut self, result: Result<(), DownloadError>, said: &[Vec<u8>]) {
        for message in said {
            match self.device.0.send(message, 0) {
                // C1 asks for chunks every three seconds, whether it was heard or not.
                Ok(()) | Err(SendError::Busy { .. } | SendError::Closed(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        self.gone |= result.is_err() && self.flash.applied.is_none();
    }
}

fn try_twice<const SEEN: usize>(name: &str, profile: Profile, fast: bool, fault: Fault, seed: u64) {
    let image = image(20_000);
    let mut flash = Flash::new(None);
    let mut world = World::<SEEN>::new(&image, fast, profile, Lossy::new(fault, LATENCY, seed), &mut flash);
    let outcome = world.run();
    let (lost, took) = (world.link.lost, world.link.now);
    let (resent, fast_chunks) = (world.upload.progress().resent, world.fast_chunks);
    let what = format!("{name}, fast {fast}, {fault:?}, seed {seed}: {outcome:?}, {lost} lost, {took:?}");
    assert!(flash.applied.is_none() || flash.holds(&image), "{what}: another image is applied");
    assert!(outcome.is_err() || flash.applied.is_some(), "{what}: nothing is applied");
    // Nobody but the transfer itself sends a fast chunk again.
    assert!(!fast || fast_chunks <= 79 + resent, "{what}: {fast_chunks}");
    match fault {
        Fault::Silence(_) | Fault::Reset(_) => assert!(outcome.is_err() && flash.applied.is_none(), "{what}"),
        Fault::Anything(_) => {}
        // Ten in a row are more than the repetitions of one message.
        Fault::Burst(_) if !fast => {}
        _ => assert!(outcome.is_ok(), "{what}"),
    }
    if fault == Fault::None {
        assert!(took < Duration::from_secs(if fast { 2 } else { 10 }), "{what}");
    }
    if flash.applied.is_none() {
        let link = Lossy::new(Fault::None, LATENCY, seed);
        let outcome = World::<SEEN>::new(&image, fast, profile, link, &mut flash).run();
        assert!(outcome.is_ok() && flash.holds(&image), "{what}: the next try does not work");
    }
}

#[test]
fn every_fault_over_udp_ends_with_the_image_or_an_honest_failure() {
    for (name, profile) in PROFILES {
        for fast in [false, true] {
            for fault in [
                Fault::None,
                Fault::Loss(1),
                Fault::Loss(10),
                Fault::Burst(40),
                Fault::Corrupt(5),
                Fault::Duplicate(10),
                Fault::Reorder(10),
                Fault::Silence(30),
                Fault::Silence(0),
                Fault::Anything(1),
                Fault::Anything(5),
                Fault::Reset(1),
                Fault::Reset(10),
                Fault::Reset(79),
            ] {
                for seed in 0..8 {
                    // Slow chunks are all remembered for 45 s, fast ones not at all.
                    if fast {
                        try_twice::<64>(name, profile, fast, fault, seed);
                    } else {
                        try_twice::<128>(name, profile, fast, fault, seed);
                    }
                }
            }
        }
    }
}
