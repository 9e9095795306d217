//! Whole transfers as messages over a bad link, under a virtual clock: every profile, slow and fast, every fault. The
//! device ends with the exact image, or both ends know that it has not.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod lossy;

use coap_spark::coap::{Code, Message, OptionNumber, ParseOptions, Token, Type};
use coap_spark::message::{Chunk, Envelope, FromDevice, FromServer, Response, Store, UpdateBegin};
use core::time::Duration;
use lossy::{Delivery, Fault, Lossy, To};
use spark_ota::coap::{Datagrams, Download, DownloadError, Ids, Target, Upload};
use spark_ota::transfer::{Failure, Options, Plan, Profile, ResetCause, ResultForm, Success};

const REGION: u32 = 0x2_0000;
/// A server sends this often in fast mode.
const PACE: Duration = Duration::from_millis(2);
const LATENCY: Duration = Duration::from_millis(50);
const PROFILES: [(&str, Profile); 6] = [
    ("S1", Profile::S1),
    ("S2", Profile::S2),
    ("C1", Profile::C1),
    ("C2", Profile::C2),
    ("C3", Profile::C3),
    ("C4", Profile::C4),
];
const FAULTS: [Fault; 13] = [
    Fault::None,
    Fault::Loss(1),
    Fault::Loss(10),
    Fault::Burst(40),
    Fault::Corrupt(5),
    Fault::Duplicate(10),
    Fault::Reorder(10),
    Fault::Silence(30),
    Fault::Silence(0),
    Fault::Anything(5),
    Fault::Reset(1),
    Fault::Reset(10),
    Fault::Reset(79),
];

fn image(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// A flash whose power fails at one of its operations.
struct Flash {
    cells: Vec<u8>,
    operations: u32,
    cut_at: Option<u32>,
    applied: Option<u32>,
    /// Images are not valid.
    refuses: bool,
    reset: Option<ResetCause>,
}

impl Flash {
    fn new(cut_at: Option<u32>) -> Self {
        Self {
            cells: vec![0xff; usize::try_from(REGION).unwrap()],
            operations: 0,
            cut_at,
            applied: None,
            refuses: false,
            reset: None,
        }
    }

    /// Counts; `false` once the power is off.
    fn has_power(&mut self) -> bool {
        self.operations += 1;
        self.cut_at.is_none_or(|cut| self.operations <= cut)
    }

    fn is_dead(&self) -> bool {
        self.cut_at.is_some_and(|cut| self.operations > cut)
    }

    fn holds(&self, image: &[u8]) -> bool {
        self.applied == u32::try_from(image.len()).ok() && self.cells.starts_with(image)
    }
}

impl Target for Flash {
    fn check(&mut self, _: &Plan) -> bool {
        true
    }

    fn prepare(&mut self, _: &Plan) -> bool {
        self.cells.fill(0xff);
        self.has_power()
    }

    fn save(&mut self, offset: u32, data: &[u8]) -> bool {
        let start = usize::try_from(offset).unwrap();
        // What the power cut interrupts is half there.
        let len = if self.has_power() { data.len() } else { data.len() / 2 };
        self.cells[start..start + len].copy_from_slice(&data[..len]);
        len == data.len()
    }

    fn validate(&mut self, _: &Plan) -> bool {
        !self.refuses
    }

    fn apply(&mut self, plan: &Plan) {
        if self.has_power() {
            self.applied = Some(plan.file_length);
        }
    }

    fn reset(&mut self, _: &Plan, cause: ResetCause) {
        self.reset = Some(cause);
    }
}

fn is_chunk(bytes: &[u8]) -> bool {
    let message = Message::parse(bytes, ParseOptions::SPARK).unwrap();
    message.code() == Code::POST && message.values(OptionNumber::URI_PATH).next() == Some(b"c")
}

/// Chunks with an index may come twice. The others are confirmable like all requests: a transport delivers them once.
fn is_fast_chunk(bytes: &[u8]) -> bool {
    let message = Message::parse(bytes, ParseOptions::SPARK).unwrap();
    is_chunk(bytes) && message.values(OptionNumber::URI_QUERY).count() == 2
}

/// A server and a device with a link between them.
struct World<'f> {
    link: Lossy,
    upload: Upload<Vec<u8>>,
    server: Datagrams,
    download: Download,
    device: Datagrams,
    flash: &'f mut Flash,
    next_send: Duration,
    /// Chunks that the device gets before it loses its update.
    reset_after: Option<u64>,
    /// The device ended the session, or has no power.
    gone: bool,
}

impl<'f> World<'f> {
    fn new(image: &[u8], fast: bool, profile: Profile, link: Lossy, flash: &'f mut Flash) -> Self {
        let expects_result = profile.result != ResultForm::None;
        let options = Options { chunk_size: 256, offer_fast: fast, expects_result, ..Options::DEFAULT };
        Self {
            next_send: link.now,
            reset_after: link.reset_after(),
            link,
            upload: Upload::new(image.to_vec(), options).unwrap(),
            server: Datagrams::new(Ids { id: 1, token: 250 }),
            download: Download::new(profile, REGION),
            device: Datagrams::new(Ids { id: 0x8000, token: 0 }),
            flash,
            gone: false,
        }
    }

    /// Until the server knows.
    fn run(&mut self) -> Result<Success, Failure> {
        let mut out = [0; 1024];
        while self.upload.outcome().is_none() {
            if self.gone {
                // The connection breaks.
                self.upload.cancel();
                break;
            }
            let mut quiet = true;
            if self.link.now >= self.next_send
                && let Some(message) =
                    self.upload.poll_send(self.link.now, &mut self.server, &mut out).unwrap()
            {
                self.link.send(To::Device, message, is_chunk(message));
                self.next_send = self.link.now + PACE;
                quiet = false;
            }
            while let Some(delivery) = self.link.receive(|delivery: &Delivery| is_fast_chunk(&delivery.bytes))
            {
                self.deliver(&delivery);
                quiet = false;
            }
            if !quiet {
                continue;
            }
            let deadlines = [
                self.link.next_arrival(),
                self.upload.next_deadline(),
                self.download.next_deadline(),
                (self.next_send > self.link.now).then_some(self.next_send),
            ];
            self.link.now = deadlines.into_iter().flatten().min().expect("somebody waits").max(self.link.now);
            assert!(self.link.now < Duration::from_secs(7200), "never ends");
            self.upload.handle_deadline(self.link.now);
            let Self { download, device, flash, link, .. } = self;
            let mut said = Vec::new();
            let result =
                download.handle_deadline(link.now, device, *flash, &mut |m: &[u8]| said.push(m.to_vec()));
            self.says(result, said);
        }
        self.upload.outcome().unwrap()
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let now = self.link.now;
        match delivery.to {
            To::Device => {
                let message = Envelope::<FromServer<'_>>::decode(&delivery.bytes).unwrap();
                let Self { download, device, flash, reset_after, .. } = self;
                let mut said = Vec::new();
                let mut say = |message: &[u8]| said.push(message.to_vec());
                let result = download.handle_message(now, &message, device, *flash, &mut say);
                if let Some(left) = reset_after
                    && is_chunk(&delivery.bytes)
                {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        download.abort();
                        *reset_after = None;
                    }
                }
                self.says(result.map(|_| ()), said);
            }
            To::Server => {
                let message = Envelope::<FromDevice<'_>>::decode(&delivery.bytes).unwrap();
                self.upload.handle_message(now, &message);
            }
        }
    }

    fn says(&mut self, result: Result<(), DownloadError>, said: Vec<Vec<u8>>) {
        if self.flash.is_dead() {
            self.gone = true;
            return;
        }
        said.iter().for_each(|message| self.link.send(To::Server, message, false));
        // What was said before the session ended is on its way.
        self.gone |= result.is_err() && self.flash.applied.is_none() && self.flash.reset.is_none();
    }
}

/// One transfer, and if it fails, another one over a good link.
fn transfer(name: &str, profile: Profile, fast: bool, fault: Fault, seed: u64) {
    let image = image(20_000);
    let mut flash = Flash::new(None);
    let mut world = World::new(&image, fast, profile, Lossy::new(fault, LATENCY, seed), &mut flash);
    let outcome = world.run();
    let (lost, disturbed) = (world.link.lost, world.link.disturbed);
    let resent = world.upload.progress().resent;
    let what =
        format!("{name}, fast {fast}, {fault:?}, seed {seed}: {outcome:?}, {lost} lost, {resent} again");
    if flash.applied.is_some() {
        assert!(flash.holds(&image), "{what}: another image is applied");
    }
    // Up to 0.6.4 a device that has lost its update says yes to its end, and nobody can tell.
    let cannot_know = matches!(fault, Fault::Reset(_)) && profile.result == ResultForm::None;
    if let Ok(success) = outcome {
        assert!(flash.applied.is_some() || cannot_know && !success.confirmed, "{what}: nothing is applied");
        assert!(success.confirmed || success.by_device || profile.result == ResultForm::None, "{what}");
    }
    assert!(resent <= lost * 3 / 2 + disturbed + 64, "{what}");
    let has_to_work = match fault {
        Fault::None | Fault::Duplicate(_) | Fault::Reorder(_) => true,
        Fault::Loss(_) | Fault::Burst(_) | Fault::Corrupt(_) => fast,
        _ => false,
    };
    assert!(outcome.is_ok() || !has_to_work, "{what}");
    if matches!(fault, Fault::Silence(_)) {
        assert!(outcome.is_err(), "{what}");
    }
    if let Fault::Reset(_) = fault {
        assert!(flash.applied.is_none(), "{what}");
    }
    if flash.applied.is_none() {
        let link = Lossy::new(Fault::None, LATENCY, seed);
        let outcome = World::new(&image, fast, profile, link, &mut flash).run();
        assert!(outcome.is_ok() && flash.holds(&image), "{what}: the next try does not work");
    }
}

#[test]
fn every_fault_in_every_profile_ends_with_the_image_or_an_honest_failure() {
    for (name, profile) in PROFILES {
        for fast in [false, true] {
            for fault in FAULTS {
                for seed in 0..8 {
                    transfer(name, profile, fast, fault, seed);
                }
            }
        }
    }
}

/// The session ends when the `n`th flash operation is interrupted; the device starts anew and takes the image then.
#[test]
fn power_cut_at_every_flash_operation_leaves_nothing_half_applied() {
    let image = image(5_000);
    for (name, profile) in PROFILES {
        for fast in [false, true] {
            let good = || Lossy::new(Fault::None, LATENCY, 0);
            let mut flash = Flash::new(None);
            assert!(World::new(&image, fast, profile, good(), &mut flash).run().is_ok());
            // Erasing, one for each chunk, applying.
            assert_eq!(flash.operations, 1 + 20 + 1, "{name}");
            for cut in 0..flash.operations {
                let mut flash = Flash::new(Some(cut));
                let outcome = World::new(&image, fast, profile, good(), &mut flash).run();
                let what = format!("{name}, fast {fast}, cut at {cut}: {outcome:?}");
                assert_eq!(flash.applied, None, "{what}");
                // Before it applies, a device says that it has all: the next Hello tells whether it took it.
                assert!(outcome.is_err() || cut + 1 == 22, "{what}");
                flash.cut_at = None;
                let outcome = World::new(&image, fast, profile, good(), &mut flash).run();
                assert!(outcome.is_ok() && flash.holds(&image), "{what}");
            }
        }
    }
}

/// A device that is reset in the middle has lost everything: the server has to begin again, and can.
#[test]
fn second_begin_forgets_what_came_before() {
    let image = image(5_000);
    for (name, profile) in PROFILES {
        let mut flash = Flash::new(None);
        let link = Lossy::new(Fault::Silence(7), LATENCY, 0);
        let mut world = World::new(&image, true, profile, link, &mut flash);
        world.run().unwrap_err();
        let download = core::mem::replace(&mut world.download, Download::new(profile, REGION));
        assert!(download.is_updating(), "{name}");
        // The same device, without a reset.
        let mut again = World::new(&image, true, profile, Lossy::new(Fault::None, LATENCY, 1), &mut flash);
        again.download = download;
        assert!(again.run().is_ok() && flash.holds(&image), "{name}");
    }
}

#[test]
fn image_that_is_not_valid_is_never_applied() {
    let image = image(5_000);
    for (name, profile) in PROFILES {
        for fast in [false, true] {
            let mut flash = Flash::new(None);
            flash.refuses = true;
            let link = Lossy::new(Fault::Loss(if fast { 10 } else { 0 }), LATENCY, 3);
            let outcome = World::new(&image, fast, profile, link, &mut flash).run();
            let what = format!("{name}, fast {fast}: {outcome:?}");
            assert_eq!((flash.applied, flash.reset), (None, Some(ResetCause::BadImage)), "{what}");
            if profile.result != ResultForm::None {
                assert_eq!(outcome, Err(Failure::ImageRefused), "{what}");
            }
        }
    }
}

/// A server that leaves before all chunks are there. In slow mode firmware does not ask for the others.
#[test]
fn end_of_a_slow_transfer_before_its_last_chunk_resets_without_applying() {
    let data = [7; 64];
    for (name, profile) in PROFILES {
        let mut download = Download::<16>::new(profile, REGION);
        let mut flash = Flash::new(None);
        let mut link = Datagrams::default();
        let mut give = |body: FromServer<'_>| {
            let message = Envelope { kind: Type::Confirmable, id: 1, token: Token::byte(1), body };
            let mut said = Vec::new();
            let mut say = |message: &[u8]| said.push(message.to_vec());
            download.handle_message(Duration::ZERO, &message, &mut link, &mut flash, &mut say).unwrap();
            said
        };
        let begin = UpdateBegin { flags: 0, chunk_size: 64, file_length: 320, store: Store(0), address: 0 };
        give(FromServer::UpdateBegin(begin));
        for _ in 0..3 {
            give(FromServer::Chunk(Chunk { crc: spark_ota::crc32(&data), index: None, data: &data }));
        }
        let said = give(FromServer::UpdateDone);
        let result: &[u8] = match profile.result {
            ResultForm::None => b"",
            ResultForm::Words => b"{\"r\":\"error\"}",
            _ => b"{\"r\":-240}",
        };
        let answer = Envelope::<FromDevice<'_>>::decode(&said[0]).unwrap();
        assert_eq!(answer.body, FromDevice::Response(Response::changed(result)), "{name}");
        assert_eq!((flash.applied, flash.reset), (None, Some(ResetCause::BadImage)), "{name}");
        assert!(!download.is_updating());
    }
}
