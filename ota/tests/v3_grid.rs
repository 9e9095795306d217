//! Whole v3 transfers as messages over a bad link, under a virtual clock: every fault, resumption, and power cuts.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod lossy;

use coap_spark::coap::{Code, Message, OptionNumber, ParseOptions, Type};
use coap_spark::udp::{Endpoint, Incoming, Timing};
use core::time::Duration;
use lossy::{Delivery, Fault, Lossy, To};
use proptest::prelude::*;
use spark_ota::coap::Ids;
use spark_ota::coap::v3::{Download, DownloadError, Handled, Target, Upload};
use spark_ota::v3::{Failure, Options, Plan, Rejection, Start, max_chunk_size};

const MAX_FILE: u32 = 0x4_0000;
const PACE: Duration = Duration::from_millis(2);
const LATENCY: Duration = Duration::from_millis(50);

fn image(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from((i * 7 + i / 251) % 256).unwrap()).collect()
}

/// A flash that remembers across sessions how far an image came, as firmware does.
struct Flash {
    cells: Vec<u8>,
    there: u32,
    sha256: Option<[u8; 32]>,
    operations: u32,
    cut_at: Option<u32>,
    applied: Option<u32>,
    refuses: bool,
    resumed_at: u32,
}

impl Flash {
    fn new() -> Self {
        Self {
            cells: vec![0xff; usize::try_from(MAX_FILE).unwrap()],
            there: 0,
            sha256: None,
            operations: 0,
            cut_at: None,
            applied: None,
            refuses: false,
            resumed_at: 0,
        }
    }

    fn has_power(&mut self) -> bool {
        self.operations += 1;
        !self.is_dead()
    }

    fn is_dead(&self) -> bool {
        self.cut_at.is_some_and(|cut| self.operations > cut)
    }

    fn holds(&self, image: &[u8]) -> bool {
        self.applied == u32::try_from(image.len()).ok() && self.cells.starts_with(image)
    }
}

impl Target for Flash {
    fn begin(&mut self, start: &Start) -> Result<u32, Rejection> {
        if start.sha256.is_none() || start.discard || start.sha256 != self.sha256 {
            self.there = 0;
        }
        self.sha256 = start.sha256;
        self.resumed_at = self.there;
        Ok(self.there)
    }

    fn save(&mut self, offset: u32, data: &[u8]) -> bool {
        let start = usize::try_from(offset).unwrap();
        let len = if self.has_power() { data.len() } else { data.len() / 2 };
        self.cells[start..start + len].copy_from_slice(&data[..len]);
        len == data.len()
    }

    fn validate(&mut self, _: &Plan) -> Result<(), Rejection> {
        if self.refuses { Err(Rejection::new(-1000, "No")) } else { Ok(()) }
    }

    fn apply(&mut self, plan: &Plan) {
        if self.has_power() {
            self.applied = Some(plan.start.file_size);
        }
    }

    fn cancel(&mut self, discard: bool) {
        if discard {
            (self.there, self.sha256) = (0, None);
        }
    }
}

fn is_chunk(bytes: &[u8]) -> bool {
    let message = Message::parse(bytes, ParseOptions::STRICT).unwrap();
    message.code() == Code::POST && message.values(OptionNumber::URI_PATH).next() == Some(b"C")
}

/// A server and a device, each over an endpoint that repeats what is not acknowledged.
struct World<'f> {
    link: Lossy,
    upload: Upload<Vec<u8>>,
    server: (Endpoint<1200>, Ids),
    download: Download,
    device: (Endpoint<1200, 4>, Ids),
    flash: &'f mut Flash,
    next_send: Duration,
    gone: bool,
}

impl<'f> World<'f> {
    fn new(image: &[u8], options: Options, link: Lossy, flash: &'f mut Flash) -> Self {
        let now = link.now;
        Self {
            next_send: now,
            link,
            upload: Upload::new(image.to_vec(), options).unwrap(),
            server: (Endpoint::new(Timing::SERVER, now), Ids { id: 1, token: 250 }),
            download: Download::new(max_chunk_size(1152), MAX_FILE),
            device: (Endpoint::new(Timing::SERVER, now), Ids { id: 0x8000, token: 0 }),
            flash,
            gone: false,
        }
    }

    /// Until both know.
    fn run(&mut self) -> Result<(), Failure> {
        let mut out = [0; 1200];
        loop {
            let mut quiet = true;
            let now = self.link.now;
            if now >= self.next_send
                && let Some(message) = self.upload.poll_send(now, &mut self.server.1, &mut out).unwrap()
            {
                self.server.0.send(message, 0).unwrap();
                self.next_send = now + PACE;
                quiet = false;
            }
            while let Some(delivery) = self.link.receive(|_: &Delivery| true) {
                self.deliver(&delivery);
                quiet = false;
            }
            while let Some(record) = self.server.0.poll_output(now, &mut out).unwrap() {
                self.link.send(To::Device, record, is_chunk(record));
                quiet = false;
            }
            while let Some(record) = self.device.0.poll_output(now, &mut out).unwrap() {
                if !self.gone {
                    self.link.send(To::Server, record, false);
                }
                quiet = false;
            }
            if !quiet {
                continue;
            }
            let ended = self.upload.outcome().is_some();
            if ended && self.link.next_arrival().is_none() {
                break;
            }
            let deadlines = [
                self.link.next_arrival(),
                self.upload.next_deadline(),
                self.download.next_deadline().filter(|_| !self.gone),
                self.server.0.next_deadline(),
                self.device.0.next_deadline().filter(|_| !self.gone),
                (self.next_send > now && !ended).then_some(self.next_send),
            ];
            self.link.now = deadlines.into_iter().flatten().min().expect("somebody waits").max(now);
            assert!(self.link.now < Duration::from_secs(7200), "never ends");
            let now = self.link.now;
            self.upload.handle_deadline(now);
            if self.server.0.handle_deadline(now, 0).is_err() {
                break;
            }
            if !self.gone {
                self.gone |= self.device.0.handle_deadline(now, 0).is_err();
                let mut said = Vec::new();
                let (ids, target) = (&mut self.device.1, &mut *self.flash);
                let result = self.download.handle_deadline(now, ids, target, &mut |m| said.push(m.to_vec()));
                self.says(result, said);
            }
        }
        // How far it came is there after a reset; the rest of the window is not.
        self.flash.there = self.download.receiver().received_len();
        self.upload.outcome().unwrap_or(Err(Failure::Silence { arrived: 0 }))
    }

    fn deliver(&mut self, delivery: &Delivery) {
        let now = self.link.now;
        if delivery.to == To::Server {
            match self.server.0.handle_datagram(now, &delivery.bytes) {
                Ok(Incoming::Message(message) | Incoming::Acknowledged(message)) => {
                    if let Some(id) = self.upload.handle_message(now, &message).acknowledge() {
                        self.server.0.acknowledge(id).unwrap();
                    }
                }
                Ok(Incoming::Reset { id }) => self.upload.handle_reset(now, id),
                _ => {}
            }
        } else if !self.gone {
            let incoming = self.device.0.handle_datagram(now, &delivery.bytes);
            let Ok(Incoming::Message(message) | Incoming::Acknowledged(message)) = incoming else { return };
            let mut said = Vec::new();
            let (ids, target) = (&mut self.device.1, &mut *self.flash);
            let result =
                self.download.handle_message(now, &message, ids, target, &mut |m| said.push(m.to_vec()));
            self.says(result.map(|_| ()), said);
        }
    }

    fn says(&mut self, result: Result<(), DownloadError>, said: Vec<Vec<u8>>) {
        if self.flash.is_dead() {
            self.gone = true;
            return;
        }
        for message in said {
            self.device.0.send(&message, 0).unwrap();
            let mut out = [0; 1200];
            while let Some(record) = self.device.0.poll_output(self.link.now, &mut out).unwrap() {
                self.link.send(To::Server, record, false);
            }
        }
        self.gone |= result.is_err();
    }
}

fn options() -> Options {
    // Two minutes of silence are enough for a test.
    Options { silence: Duration::from_secs(120), ..Options::DEFAULT }
}

#[test]
fn every_fault_ends_with_the_image_or_an_honest_failure_and_is_resumed() {
    let image = image(60_000);
    for fault in [
        Fault::None,
        Fault::Loss(1),
        Fault::Loss(10),
        Fault::Loss(40),
        Fault::Burst(40),
        Fault::Duplicate(10),
        Fault::Reorder(10),
        Fault::Silence(30),
        Fault::Silence(0),
        Fault::Anything(1),
        Fault::Anything(10),
    ] {
        for seed in 0..12 {
            let mut flash = Flash::new();
            let link = Lossy::new(fault, LATENCY, seed);
            let mut world = World::new(&image, options(), link, &mut flash);
            let outcome = world.run();
            let (lost, disturbed) = (world.link.lost, world.link.disturbed);
            let resent = world.upload.progress().resent;
            let what = format!("{fault:?}, seed {seed}: {outcome:?}, {lost} lost, {resent} again");
            assert!(flash.applied.is_none() || flash.holds(&image), "{what}");
            // The answer is the device's; whether it applies is decided by the acknowledgement.
            let may_fail = matches!(fault, Fault::Silence(_) | Fault::Anything(_));
            assert!(may_fail || outcome.is_ok() && flash.holds(&image), "{what}");
            assert!(resent <= lost * 3 / 2 + disturbed + 256, "{what}");
            if matches!(fault, Fault::Silence(_)) {
                assert!(outcome.is_err() && flash.applied.is_none(), "{what}");
            }
            if flash.applied.is_none() {
                let there = flash.there;
                let link = Lossy::new(Fault::None, LATENCY, seed);
                let mut world = World::new(&image, options(), link, &mut flash);
                assert_eq!(world.run(), Ok(()), "{what}");
                assert_eq!(world.upload.progress().resumed_at, there, "{what}");
                assert!(flash.holds(&image), "{what}");
            }
        }
    }
}

#[test]
fn good_link_needs_nothing_twice() {
    for len in [1, 511, 512, 513, 131_072, 131_073, 200_000] {
        let (image, mut flash) = (image(len), Flash::new());
        let link = Lossy::new(Fault::None, LATENCY, 0);
        let mut world = World::new(&image, options(), link, &mut flash);
        assert_eq!(world.run(), Ok(()));
        let progress = world.upload.progress();
        assert_eq!((progress.resent, progress.sent), (0, u32::try_from(len.div_ceil(512)).unwrap()));
        assert!(flash.holds(&image));
    }
}

#[test]
fn power_cut_at_every_flash_operation_is_resumed_where_it_was() {
    let image = image(5_000);
    for cut in 0..11 {
        let mut flash = Flash::new();
        flash.cut_at = Some(cut);
        let link = Lossy::new(Fault::None, LATENCY, 0);
        let outcome = World::new(&image, options(), link, &mut flash).run();
        assert_eq!(flash.applied, None, "cut at {cut}");
        assert!(outcome.is_err() || cut == 10, "cut at {cut}: {outcome:?}");
        flash.cut_at = None;
        let link = Lossy::new(Fault::None, LATENCY, 0);
        assert_eq!(World::new(&image, options(), link, &mut flash).run(), Ok(()), "cut at {cut}");
        assert_eq!(flash.resumed_at, (cut * 512).min(5_000));
        assert!(flash.holds(&image), "cut at {cut}");
    }
}

#[test]
fn refused_image_is_not_applied_and_not_resumed() {
    let (image, mut flash) = (image(5_000), Flash::new());
    flash.refuses = true;
    let link = Lossy::new(Fault::None, LATENCY, 0);
    let mut world = World::new(&image, options(), link, &mut flash);
    assert_eq!(world.run(), Err(Failure::ImageRefused { code: Code::SERVICE_UNAVAILABLE.0 }));
    assert_eq!((flash.applied, flash.sha256), (None, None), "it is discarded");
}

#[test]
fn another_image_is_not_resumed() {
    let (first, second, mut flash) = (image(20_000), vec![9; 20_000], Flash::new());
    let link = Lossy::new(Fault::Silence(10), LATENCY, 0);
    World::new(&first, options(), link, &mut flash).run().unwrap_err();
    assert!(flash.there > 0);
    for (image, options, resumed_at) in [
        (&second, options(), 0),
        (&first, Options { discard: true, ..options() }, 0),
        (&first, Options { resumable: false, ..options() }, 0),
    ] {
        let link = Lossy::new(Fault::None, LATENCY, 0);
        assert_eq!(World::new(image, options, link, &mut flash).run(), Ok(()));
        assert_eq!(flash.resumed_at, resumed_at);
        assert!(flash.holds(image));
        (flash.there, flash.sha256) = (1024, None);
    }
}

#[test]
fn cancelled_transfer_can_be_resumed_unless_it_is_discarded() {
    let image = image(50_000);
    for discard in [false, true] {
        let mut flash = Flash::new();
        let link = Lossy::new(Fault::None, LATENCY, 0);
        let mut world = World::new(&image, options(), link, &mut flash);
        let mut out = [0; 1200];
        // A few steps by hand: Start and its answer, some chunks.
        for message in 0..12 {
            let now = world.link.now;
            if let Some(bytes) = world.upload.poll_send(now, &mut world.server.1, &mut out).unwrap() {
                let bytes = bytes.to_vec();
                let parsed = Message::parse(&bytes, ParseOptions::STRICT).unwrap();
                assert_eq!(parsed.kind() == Type::Confirmable, message == 0);
                let mut said = Vec::new();
                let (ids, target) = (&mut world.device.1, &mut *world.flash);
                world
                    .download
                    .handle_message(now, &parsed, ids, target, &mut |m| said.push(m.to_vec()))
                    .unwrap();
                for message in said {
                    let parsed = Message::parse(&message, ParseOptions::STRICT).unwrap();
                    let _ = world.upload.handle_message(now, &parsed);
                }
            }
        }
        world.upload.cancel(discard);
        assert_eq!(world.run(), Err(Failure::Cancelled));
        assert_eq!(flash.sha256.is_none(), discard);
        assert_eq!(flash.there, 11 * 512);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_image_in_any_chunks_over_any_loss_is_exact(
        len in 1usize..40_000, size in 128u16..=284, loss in 0u32..30, window in 1u16..=256, seed: u64,
    ) {
        let (image, mut flash) = (image(len), Flash::new());
        let options = Options { chunk_size: size * 4, window, ..options() };
        let link = Lossy::new(Fault::Loss(loss), LATENCY, seed);
        prop_assert_eq!(World::new(&image, options, link, &mut flash).run(), Ok(()));
        prop_assert!(flash.holds(&image));
    }
}

/// Both ends without a link between them: what one says is handed over by the test.
struct Hands {
    upload: Upload<Vec<u8>>,
    download: Download,
    flash: Flash,
    ids: [Ids; 2],
    now: Duration,
}

impl Hands {
    fn new() -> Self {
        Self {
            upload: Upload::new(image(1_500), options()).unwrap(),
            download: Download::new(max_chunk_size(1152), MAX_FILE),
            flash: Flash::new(),
            ids: [Ids { id: 1, token: 1 }, Ids { id: 0x8000, token: 0 }],
            now: Duration::ZERO,
        }
    }

    fn server_says(&mut self) -> Option<Vec<u8>> {
        let mut out = [0; 1200];
        self.upload.poll_send(self.now, &mut self.ids[0], &mut out).unwrap().map(<[u8]>::to_vec)
    }

    fn device_hears(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        let message = Message::parse(bytes, ParseOptions::STRICT).unwrap();
        let Self { download, flash, ids, now, .. } = self;
        let _ = download
            .handle_message(*now, &message, &mut ids[1], flash, &mut |m: &[u8]| said.push(m.to_vec()));
        said
    }

    fn server_hears(&mut self, bytes: &[u8]) -> Handled {
        let message = Message::parse(bytes, ParseOptions::STRICT).unwrap();
        self.upload.handle_message(self.now, &message)
    }

    fn device_hears_acknowledgement(&mut self, of: &[u8]) {
        assert_eq!(self.device_hears(&[0x60, 0, of[2], of[3]]), [[0_u8; 0]; 0]);
    }

    /// Until the device has answered Finish, and the server has not heard it: Finish and the answer.
    fn finish(&mut self) -> (Vec<u8>, Vec<u8>) {
        loop {
            let said = self.server_says().unwrap();
            let answers = self.device_hears(&said);
            if Message::parse(&said, ParseOptions::STRICT).unwrap().values(OptionNumber::URI_PATH).next()
                == Some(b"F")
            {
                return (said, answers.last().unwrap().clone());
            }
            for answer in answers {
                let _ = self.server_hears(&answer);
            }
        }
    }
}

#[test]
fn answer_to_finish_is_not_acknowledged_once_the_transfer_has_failed() {
    for cancels in [true, false] {
        let mut hands = Hands::new();
        let (_, answer) = hands.finish();
        if cancels {
            hands.upload.cancel(false);
        } else {
            hands.now = hands.upload.next_deadline().unwrap();
            hands.upload.handle_deadline(hands.now);
        }
        let failure = if cancels { Failure::Cancelled } else { Failure::FinishUnanswered };
        assert_eq!(hands.upload.outcome(), Some(Err(failure)));
        assert_eq!(hands.server_hears(&answer), Handled::Taken);
        // Its endpoint ends the session, for want of an acknowledgement.
        assert!(hands.download.abort());
        assert_eq!(hands.flash.applied, None);
    }
}

#[test]
fn cancelled_start_leaves_no_update_on_the_device() {
    let mut hands = Hands::new();
    let start = hands.server_says().unwrap();
    let answers = hands.device_hears(&start);
    hands.upload.cancel(true);
    assert_eq!((hands.server_says(), hands.upload.outcome()), (None, None));
    assert!(matches!(hands.server_hears(&answers[1]), Handled::Acknowledge(_)));
    let finish = hands.server_says().unwrap();
    let answers = hands.device_hears(&finish);
    assert!(!hands.download.receiver().is_updating());
    assert!(matches!(hands.server_hears(&answers[1]), Handled::Acknowledge(_)));
    assert_eq!(hands.upload.outcome(), Some(Err(Failure::Cancelled)));
}

#[test]
fn second_finish_gets_the_same_answer_and_either_acknowledgement_counts() {
    for refuses in [false, true] {
        for acknowledged in 0..2 {
            let mut hands = Hands::new();
            hands.flash.refuses = refuses;
            let (mut finish, first) = hands.finish();
            // A new request, as of a server that has lost its message ids.
            finish[2] = 0x77;
            let said = hands.device_hears(&finish);
            assert_eq!(said.len(), 2);
            assert_eq!((first[1], &first[4..]), (said[1][1], &said[1][4..]), "all but the id");
            let words = [first, said[1].clone()];
            let mut said = Vec::new();
            let bytes = [0x60, 0, words[acknowledged][2], words[acknowledged][3]];
            let message = Message::parse(&bytes, ParseOptions::STRICT).unwrap();
            let Hands { download, flash, ids, now, .. } = &mut hands;
            let result = download
                .handle_message(*now, &message, &mut ids[1], flash, &mut |m: &[u8]| said.push(m.to_vec()));
            let expected = if refuses { Err(DownloadError::CloseSession) } else { Ok(true) };
            assert_eq!((result, said.len()), (expected, 0));
            assert_eq!((flash.holds(&image(1_500)), flash.applied.is_some()), (!refuses, !refuses));
            // The other one changes nothing any more.
            flash.applied = None;
            hands.device_hears_acknowledgement(&words[1 - acknowledged]);
            assert_eq!(hands.flash.applied, None);
        }
    }
}

#[test]
fn acknowledgement_of_a_refusal_without_an_update_applies_nothing() {
    let mut hands = Hands::new();
    // Finish of an update that the device does not have.
    let refusal = hands.device_hears(&[0x41, 2, 0x77, 1, 9, 0xb1, b'F'])[1].clone();
    let (_, answer) = hands.finish();
    hands.device_hears_acknowledgement(&refusal);
    assert_eq!(hands.flash.applied, None);
    hands.device_hears_acknowledgement(&answer);
    assert!(hands.flash.applied.is_some());
}

#[test]
fn cancel_before_the_answer_to_finish_is_acknowledged_wins() {
    let mut hands = Hands::new();
    let (finish, answer) = hands.finish();
    let mut cancel = finish;
    cancel[2] = 0x77;
    // Option 2073, empty, behind the path.
    cancel.extend([0xe0, 0x07, 0x01]);
    let said = hands.device_hears(&cancel);
    assert_eq!(said[1][1], Code::CHANGED.0);
    hands.device_hears_acknowledgement(&answer);
    hands.device_hears_acknowledgement(&said[1]);
    assert_eq!(hands.flash.applied, None);
}

#[test]
fn reset_of_a_request_ends_the_transfer_at_once() {
    let mut hands = Hands::new();
    let start = hands.server_says().unwrap();
    hands.upload.handle_reset(hands.now, u16::from_be_bytes([start[2], start[3]]));
    assert_eq!(hands.upload.outcome(), Some(Err(Failure::Reset)));
    let mut hands = Hands::new();
    let (finish, _) = hands.finish();
    hands.upload.handle_reset(hands.now, u16::from_be_bytes([finish[2], finish[3]]));
    assert_eq!(hands.upload.outcome(), Some(Err(Failure::Reset)));
}
