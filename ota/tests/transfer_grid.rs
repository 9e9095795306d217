//! Whole transfers as messages over a bad link, under a virtual clock: every profile, slow and fast, every fault. The
//! device ends with the exact image, or both ends know that it has not.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod lossy;
mod transfer;

use coap_spark::coap::{Code, Token, Type};
use coap_spark::message::{Chunk, Envelope, FromDevice, FromServer, Indices, Response, Store, UpdateBegin};
use core::time::Duration;
use lossy::{Delivery, Fault, Lossy, To};
use spark_ota::coap::{Datagrams, DeviceLink, Download, DownloadError, Handled, Ids, ServerLink, Upload};
use spark_ota::transfer::{Failure, Options, Profile, ResetCause, ResultForm, SenderError, Success};
use transfer::{Flash, LATENCY, PACE, PROFILES, REGION, Stream, image, is_chunk, is_fast_chunk};

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

/// A server and a device with a link between them.
struct World<'f> {
    link: Lossy,
    upload: Upload<Vec<u8>>,
    server: Stream,
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
            server: Stream(Datagrams::new(Ids { id: 1, token: 250 })),
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
                let _ = self.upload.handle_message(now, &message);
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
fn try_twice(name: &str, profile: Profile, fast: bool, fault: Fault, seed: u64) {
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
                    try_twice(name, profile, fast, fault, seed);
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
        // Its watch would reset the device before the server gives up.
        let profile = Profile { watch: Duration::from_secs(300), ..profile };
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

/// A server over a link that does not repeat, ready to send chunks of 64 bytes.
fn ready(len: usize, fast: bool) -> (Upload<Vec<u8>>, Stream) {
    let options = Options { chunk_size: 64, offer_fast: fast, ..Options::DEFAULT };
    let mut upload = Upload::new(image(len), options).unwrap();
    let mut link = Stream::default();
    let begin = next(&mut upload, &mut link, Duration::ZERO).unwrap();
    answer(&mut upload, Duration::ZERO, Type::NonConfirmable, begin, Response::changed(&[u8::from(fast)]));
    (upload, link)
}

/// Id and token of the next message.
fn next(upload: &mut Upload<Vec<u8>>, link: &mut Stream, now: Duration) -> Option<(u16, Token)> {
    let mut out = [0; 1024];
    let sent = upload.poll_send(now, link, &mut out).unwrap()?;
    let message = Envelope::<FromServer<'_>>::decode(sent).unwrap();
    Some((message.id, message.token))
}

fn answer(
    upload: &mut Upload<Vec<u8>>,
    now: Duration,
    kind: Type,
    to: (u16, Token),
    response: Response<'_>,
) -> bool {
    let id = if kind == Type::Acknowledgement { to.0 } else { 999 };
    upload
        .handle_message(now, &Envelope { kind, id, token: to.1, body: FromDevice::Response(response) })
        .is_mine()
}

const DAMAGED: Response<'_> = Response { code: Code::BAD_REQUEST, payload: &[] };

/// The first sending of a chunk was taken, and its answer comes when nobody waits for it any more.
#[test]
fn late_answer_to_a_repeated_chunk_ends_the_transfer_whenever_it_comes() {
    let non = Type::NonConfirmable;
    for chunks_between in [0, 1, 4] {
        for late in [Response::changed(&[]), DAMAGED] {
            let (mut upload, mut link) = ready(5 * 64, false);
            let first = next(&mut upload, &mut link, Duration::ZERO).unwrap();
            let now = upload.next_deadline().unwrap();
            upload.handle_deadline(now);
            for _ in 0..=chunks_between {
                let chunk = next(&mut upload, &mut link, now).unwrap();
                assert!(answer(&mut upload, now, non, chunk, Response::changed(&[])));
            }
            // After the fifth chunk this is the end.
            next(&mut upload, &mut link, now).unwrap();
            assert!(answer(&mut upload, now, non, first, late));
            let counted = late.code.is_success().then_some(Err(Failure::OutOfStep { index: 0 }));
            assert_eq!(upload.outcome(), counted, "{chunks_between}");
        }
    }
}

#[test]
fn one_slow_chunk_of_a_transfer_is_repeated_after_silence_and_none_where_the_link_does_so() {
    let (mut upload, mut link) = ready(5 * 64, false);
    next(&mut upload, &mut link, Duration::ZERO).unwrap();
    let mut now = Duration::from_secs(15);
    upload.handle_deadline(now);
    let chunk = next(&mut upload, &mut link, now).unwrap();
    answer(&mut upload, now, Type::NonConfirmable, chunk, Response::changed(&[]));
    next(&mut upload, &mut link, now).unwrap();
    now += Duration::from_secs(15);
    upload.handle_deadline(now);
    assert_eq!(upload.outcome(), Some(Err(Failure::ChunkUnanswered { index: 1 })));

    let (mut upload, Stream(mut link)) = ready(5 * 64, false);
    let mut out = [0; 1024];
    upload.poll_send(Duration::ZERO, &mut link, &mut out).unwrap().unwrap();
    upload.handle_deadline(upload.next_deadline().unwrap());
    assert_eq!(upload.poll_send(Duration::ZERO, &mut link, &mut out).unwrap(), None);
    assert_eq!(upload.outcome(), Some(Err(Failure::ChunkUnanswered { index: 0 })));
}

#[test]
fn answer_to_any_end_since_the_last_chunk_counts() {
    for answered in 0..3 {
        let (mut upload, mut link) = ready(64, true);
        next(&mut upload, &mut link, Duration::ZERO).unwrap();
        let mut dones = Vec::new();
        for second in [0, 10, 20] {
            let now = Duration::from_secs(second);
            upload.handle_deadline(now);
            dones.push(next(&mut upload, &mut link, now).unwrap());
        }
        let now = Duration::from_secs(21);
        assert!(answer(
            &mut upload,
            now,
            Type::Acknowledgement,
            dones[answered],
            Response::changed(b"{\"r\":0}")
        ));
        assert_eq!(upload.outcome(), Some(Ok(Success { by_device: false, confirmed: true })));
    }
    // Chunks went out in between: what was said before does not count.
    let (mut upload, mut link) = ready(64, true);
    next(&mut upload, &mut link, Duration::ZERO).unwrap();
    let first = next(&mut upload, &mut link, Duration::ZERO).unwrap();
    answer(&mut upload, Duration::ZERO, Type::Acknowledgement, first, DAMAGED);
    let mut list = [0; 2];
    let missed = FromDevice::ChunkMissed(Indices::encode_into(core::iter::once(0), &mut list));
    let missed = Envelope { kind: Type::Confirmable, id: 7, token: Token::EMPTY, body: missed };
    assert_eq!(upload.handle_message(Duration::ZERO, &missed), Handled::Acknowledge(7));
    next(&mut upload, &mut link, Duration::ZERO).unwrap();
    assert!(!answer(&mut upload, Duration::ZERO, Type::Acknowledgement, first, Response::changed(&[])));
    assert_eq!(upload.outcome(), None);
}

/// Firmware counts slow chunks and writes each to where the count says, whatever it holds, behind the image too; and to the
/// end it says yes. `late`: the answer to every fourth chunk takes so much longer.
fn careless(mut server: impl ServerLink, fault: Fault, seed: u64, late: Duration) {
    let image = image(5_000);
    let mut link = Lossy::new(fault, LATENCY, seed);
    let options = Options { chunk_size: 256, offer_fast: false, ..Options::DEFAULT };
    let mut upload = Upload::new(image.clone(), options).unwrap();
    let mut device = Datagrams::new(Ids { id: 0x8000, token: 0 });
    let (mut cells, mut index, mut out) = (vec![0xff; 0x4000], 0, [0; 1024]);
    while upload.outcome().is_none() {
        while let Some(message) = upload.poll_send(link.now, &mut server, &mut out).unwrap() {
            link.send(To::Device, message, is_chunk(message));
        }
        let Some(delivery) = link.receive(|_| true) else {
            let next = link.next_arrival().into_iter().chain(upload.next_deadline()).min();
            link.now = next.unwrap().max(link.now);
            upload.handle_deadline(link.now);
            continue;
        };
        if delivery.to == To::Server {
            let _ = upload
                .handle_message(link.now, &Envelope::<FromDevice<'_>>::decode(&delivery.bytes).unwrap());
            continue;
        }
        let message = Envelope::<FromServer<'_>>::decode(&delivery.bytes).unwrap();
        let (id, token) = (message.id, message.token);
        let said = match message.body {
            FromServer::UpdateBegin(_) => device.respond(token, Response::changed(&[0]), &mut out),
            FromServer::Chunk(chunk) if chunk.crc == spark_ota::crc32(chunk.data) => {
                cells[index * 256..][..chunk.data.len()].copy_from_slice(chunk.data);
                index += 1;
                device.respond(token, Response::changed(&[]), &mut out)
            }
            FromServer::Chunk(_) => device.respond(token, DAMAGED, &mut out),
            FromServer::UpdateDone => device.piggyback(id, token, Response::changed(&[]), &mut out),
            other => panic!("{other:?}"),
        };
        let bytes = said.unwrap().to_vec();
        if id % 4 == 3 {
            link.send_late(To::Server, &bytes, late);
        } else {
            link.send(To::Server, &bytes, false);
        }
    }
    let (outcome, good) = (upload.outcome().unwrap(), cells.starts_with(&image));
    let what = format!("{fault:?}, seed {seed}, {late:?} late: {outcome:?}");
    assert!(outcome.is_err() || good, "{what}");
    let has_to_work = late < Duration::from_secs(15) && !matches!(fault, Fault::Anything(_));
    assert!(outcome.is_ok() || !has_to_work, "{what}");
}

#[test]
fn image_that_firmware_wrote_to_the_wrong_place_is_no_success() {
    for seed in 0..20 {
        for late in [0, 3, 14, 16, 29, 31, 46] {
            let late = Duration::from_secs(late);
            for fault in [Fault::None, Fault::Corrupt(5)] {
                careless(Stream::default(), fault, seed, late);
            }
            for fault in [Fault::None, Fault::Corrupt(5), Fault::Anything(3), Fault::Anything(10)] {
                careless(Datagrams::default(), fault, seed, late);
            }
        }
    }
}

#[test]
fn chunk_without_room_for_its_padding_is_refused() {
    let options = Options { chunk_size: 1025, device_buffer: 4096, ..Options::DEFAULT };
    let error = SenderError::ChunkSize { chunk_size: 1025, limit: 1024 };
    assert_eq!(Upload::new(image(100), options).unwrap_err(), error);
    assert!(Upload::new(image(100), Options { chunk_size: 1024, ..options }).is_ok());
}

/// Spec 1.7.5: the device resets by itself.
#[test]
fn device_whose_chunks_stop_to_come_resets_in_every_profile() {
    let data = [7; 64];
    let crc = spark_ota::crc32(&data);
    for ((name, profile), watch) in PROFILES.into_iter().zip([30, 30, 90, 90, 30, 30]) {
        for fast in [false, true] {
            for (chunks, done) in [(0, false), (3, false), (3, true)] {
                let what = format!("{name}, fast {fast}, {chunks} chunks, end {done}");
                let mut download = Download::<16>::new(profile, REGION);
                let (mut flash, mut link) = (Flash::new(None), Datagrams::default());
                let mut now = Duration::from_secs(5);
                let mut give = |download: &mut Download<16>, flash: &mut Flash, now, body: FromServer<'_>| {
                    let message = Envelope { kind: Type::Confirmable, id: 1, token: Token::byte(1), body };
                    download.handle_message(now, &message, &mut link, flash, &mut |_: &[u8]| {}).unwrap();
                };
                let (flags, store) = (u8::from(fast), Store(0));
                let begin = UpdateBegin { flags, chunk_size: 64, file_length: 640, store, address: 0 };
                give(&mut download, &mut flash, now, FromServer::UpdateBegin(begin));
                for index in 0..chunks {
                    now += Duration::from_secs(1);
                    let chunk = Chunk { crc, index: fast.then_some(index), data: &data };
                    give(&mut download, &mut flash, now, FromServer::Chunk(chunk));
                }
                if done && fast {
                    give(&mut download, &mut flash, now, FromServer::UpdateDone);
                }
                let (last, mut asked) = (now, 0);
                assert!(download.is_updating());
                while let Some(deadline) = download.next_deadline() {
                    assert!(download.is_updating() && flash.reset.is_none(), "{what}");
                    now = deadline;
                    let mut say = |_: &[u8]| asked += 1;
                    download.handle_deadline(now, &mut link, &mut flash, &mut say).unwrap();
                }
                assert_eq!((now - last).as_secs(), watch, "{what}");
                assert_eq!((flash.reset, flash.applied), (Some(ResetCause::Stalled), None), "{what}");
                assert!(!download.is_updating() && !link.is_updating(), "{what}");
                let asks = done && fast && profile.repeat_after.is_some();
                assert_eq!(asked > 0, asks, "{what}");
            }
        }
    }
}
