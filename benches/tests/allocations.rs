//! Counts allocations: none on the paths that claim to need no heap.
//!
//! Its own `main`, because a test harness allocates on other threads while a test runs.
#![allow(clippy::unwrap_used, reason = "test code")]

use coap_spark::coap::{Message, ParseOptions, Token, Type, Writer};
use coap_spark::connection::{
    DeviceConnection, ParkedConnection, Profile, Request, RequestKind, ServerConnection, ServerPolicy,
};
use coap_spark::diagnosis::{End, FailurePoint, Led, Observation, by_failure, log};
use coap_spark::handshake::{Cause, Failure, Stage};
use coap_spark::message::describe::{
    Document, DocumentBuf, Metric, Metrics, MetricsWriter, Module, ModuleStore,
};
use coap_spark::message::{
    CloudReason, Envelope, FromDevice, FromServer, Goodbye, Hello, HelloFlags, Response, SystemEvent,
    VariableType,
};
use coap_spark::session::{Opener, Sealer, SessionBatch, SessionKeys, Unsealed, seal_batches, sealed_len};
use coap_spark::udp::{Endpoint, Incoming, Timing};
use core::hint::black_box;
use core::time::Duration;
use spark_benches::{CHUNK_HEAD, EVENT, HELLO, LAYOUT, image};
use spark_dct::wiced::{Generation, Sectors, Write, factory_sector, sector_crc};
use spark_dfu::SetupPacket;
use spark_dfu::descriptor::Description;
use spark_dfu::device::{self, Device, Work};
use spark_dfu::file::dfuse::{
    DfuSeFile, Element, Event, Image, ParseOptions as FileOptions, Reader, TargetImage,
};
use spark_dfu::host::{
    Clock, Connect, ControlTransfer, Download, Link, Plan, TransferFailure, WriteOptions, drive,
};
use spark_dfu::layout::MemoryLayout;
use spark_ota::module::{self, Extension, ModuleBuilder, ModuleFunction, Modules, check_in_flash};
use spark_ota::transfer::{Bitmap, Chunks, Options, Sender};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[path = "../benches/ota/path.rs"]
mod path;
#[path = "../benches/ota/program.rs"]
mod program;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allocations and bytes of one call.
fn count(work: impl FnOnce()) -> (usize, usize) {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    (change.allocations + change.reallocations, change.bytes_allocated)
}

fn nothing(name: &str, work: impl FnOnce()) {
    let counted = count(work);
    println!("{name}: {} allocations, {} bytes", counted.0, counted.1);
    assert_eq!(counted, (0, 0), "{name} allocates");
}

/// Our host against our device: compare, erase, write, read back.
fn dfu_job() {
    let image = [0x5A; 10_000];
    let device = Device::new(Description::photon("1"), device::Profile::STRICT, [0; 4096]).unwrap();
    let mut bus = Bus { device, flash: [0; 16384], now: Duration::ZERO };
    let layout = MemoryLayout::parse(LAYOUT).unwrap();
    let options = WriteOptions { skip_equal: true, verify: true, ..WriteOptions::DEFAULT };
    let plan = Plan::write(&layout, START, image.len(), options).unwrap();
    let element = Element { address: START, data: &image };
    let link = Link::new(0, &Description::photon("1").functional);
    let mut buffer = [0; 4096];
    drive(&mut Connect::new(link), &mut bus, &mut buffer, |_| ()).unwrap();
    drive(&mut Download::new(link, &plan, element, [0; 4096]).unwrap(), &mut bus, &mut buffer, |_| ())
        .unwrap();
    assert_eq!(bus.flash[..image.len()], image);
}

/// Every chunk is there at once.
fn v3_transfer(sender: &mut spark_ota::v3::Sender<&Vec<u8>>) {
    use spark_ota::v3::{Receiver, ReceiverOutput, SenderInput, SenderOutput};
    let (mut receiver, now) = (Receiver::new(1136, 1 << 20), Duration::ZERO);
    let mut bitmap = [0; 32];
    while sender.outcome().is_none() {
        match sender.poll_output(now).unwrap() {
            SenderOutput::Start(start) => receiver.handle_start(start),
            SenderOutput::Chunk { index, data } => receiver.handle_chunk(now, index, data.len()),
            SenderOutput::Finish(finish) => receiver.handle_finish(finish),
            _ => unreachable!(),
        }
        while let Some(output) = receiver.poll_output() {
            match output {
                ReceiverOutput::Begin(_) => receiver.begun(now, Ok(0)),
                ReceiverOutput::Save { .. } => receiver.saved(now, true),
                ReceiverOutput::Validate(_) => receiver.validated(Ok(())),
                ReceiverOutput::StartAnswer(answer) => {
                    sender.handle_input(now, SenderInput::StartAnswered(answer));
                }
                ReceiverOutput::Acknowledge => {
                    let acknowledgement = receiver.acknowledgement(&mut bitmap);
                    sender.handle_input(now, SenderInput::Acknowledged(acknowledgement));
                }
                ReceiverOutput::FinishAnswer { .. } => sender.handle_input(now, SenderInput::FinishAnswered),
                _ => {}
            }
        }
    }
    assert_eq!(sender.outcome(), Some(Ok(())));
}

const START: u32 = 0x080A_0000;

/// A device with the first 16 KiB of a page.
struct Bus {
    device: Device<'static, [u8; 4096]>,
    flash: [u8; 16384],
    now: Duration,
}

struct Memory<'f>(&'f mut [u8; 16384]);

impl device::Memory for Memory<'_> {
    fn read(&mut self, _: u8, address: u32, out: &mut [u8]) -> usize {
        let from = &self.0[usize::try_from(address - START).unwrap()..];
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        len
    }

    fn estimate(&self, _: &Work<'_>) -> Duration {
        Duration::ZERO
    }
}

impl Bus {
    fn transfer(
        &mut self,
        setup: SetupPacket,
        out: &[u8],
        input: &mut [u8],
    ) -> Result<usize, TransferFailure> {
        let now = self.now;
        let answer = self.device.control(now, &mut Memory(&mut self.flash), &setup.to_bytes(), out, input);
        while let Some(work) = self.device.work(now) {
            match work {
                Work::Program { address, data, .. } => {
                    let at = usize::try_from(address - START).unwrap();
                    self.flash[at..][..data.len()].copy_from_slice(data);
                }
                _ => self.flash.fill(0xFF),
            }
            self.device.work_done(now, Ok(())).unwrap();
        }
        answer.map_err(|_| TransferFailure::Stalled)
    }
}

impl ControlTransfer for Bus {
    fn control_out(&mut self, setup: SetupPacket, data: &[u8]) -> Result<(), TransferFailure> {
        self.transfer(setup, data, &mut []).map(|_| ())
    }

    fn control_in(&mut self, setup: SetupPacket, buffer: &mut [u8]) -> Result<usize, TransferFailure> {
        self.transfer(setup, &[], buffer)
    }
}

impl Clock for Bus {
    fn now(&mut self) -> Duration {
        self.now
    }

    fn wait_until(&mut self, until: Duration) {
        self.now = until;
    }
}

/// Both ends of a session, from Hello to another process.
fn coap_connections(keys: &SessionKeys) {
    let (now, mut out, mut reply) = (Duration::ZERO, [0; 1024], [0; 1024]);
    let mut device: DeviceConnection = DeviceConnection::new(keys, Profile::V2_3_1, now);
    let mut server: ServerConnection = ServerConnection::new(keys, ServerPolicy::DEFAULT, 1, now);
    nothing("Hello from a device to a server and back", || {
        let hello = FromDevice::Hello(Hello::new(6, 1, HelloFlags::default(), 6));
        let sent = device.send(Type::NonConfirmable, hello, &mut out).unwrap();
        server.handle_input(now, sent.bytes).unwrap();
        let back = server.poll_output(&mut reply).unwrap().unwrap();
        device.handle_input(now, back).unwrap();
        assert!(server.is_up() && device.is_up() && device.poll_message().is_some());
    });
    nothing("a function call of the server and its answer", || {
        let call = FromServer::FunctionCall { name: b"brew", argument: b"coffee" };
        let sent = server.request(now, call, &mut out).unwrap();
        device.handle_input(now, sent.bytes).unwrap();
        let request = Request::of(&device.poll_message().unwrap()).unwrap();
        let result = 42_i32.to_be_bytes();
        let mut answer = device.reply(request, Response::changed(&result), &mut reply).unwrap();
        let mut answered = None;
        while !answer.is_empty() {
            answer = &answer[server.handle_input(now, answer).unwrap()..];
            answered = server.poll_message().and_then(|message| message.answers).or(answered);
        }
        assert_eq!(answered.map(|answers| answers.kind), Some(RequestKind::Function));
    });
    nothing("a question of the device and its answer", || {
        let sent = device.ask_time(now, &mut out).unwrap();
        server.handle_input(now, sent.bytes).unwrap();
        let Envelope { id, token, .. } = server.poll_message().unwrap().envelope;
        let answer = server.respond_time(id, token, 1_700_000_000, &mut reply).unwrap();
        device.handle_input(now, answer).unwrap();
        let received = device.poll_message().unwrap();
        assert!(received.answers.is_some() && matches!(received.body, FromServer::Response(_)));
    });
    let mut server = Some(server);
    nothing("park and resume a connection", || {
        let parked: ParkedConnection = server.take().unwrap().park().unwrap();
        server = Some(parked.resume(ServerPolicy::DEFAULT));
    });
    nothing("export and import a connection", || {
        let bytes = server.take().unwrap().export_into(now, &mut out).unwrap();
        server = Some(ServerConnection::import(bytes, ServerPolicy::DEFAULT, now).unwrap());
    });
    assert!(server.is_some_and(|server| server.is_up()));
    nothing("diagnose a failure, an LED and a line of a log", || {
        let failure = Failure { stage: Stage::OpenIdentity, cause: Cause::Rejected };
        assert_eq!(by_failure(&failure, End::Server).code, "identity-rejected");
        assert_eq!(FailurePoint::ALL.iter().filter(|point| point.rows().next().is_some()).count(), 8);
        let seen = Observation { led: Some(Led::Magenta), ..Observation::default() };
        assert!(seen.rows().map(|row| row.code).eq(["server-key-mismatch"]));
        let line = "0000012345 [comm.sparkprotocol.handshake] ERROR: Unable to receive key -19";
        assert!(log::read(line).is_some_and(|found| found.rows().next().is_some()));
    });
}

/// A confirmable Hello that is lost once, its acknowledgement, and a keep-alive.
fn coap_udp() {
    let (mut message, mut datagram) = ([0; 128], [0; 128]);
    nothing("a message over UDP, repeated and acknowledged, and a keep-alive", || {
        let now = Duration::ZERO;
        let mut device = Endpoint::<128>::new(Timing::DEVICE, now);
        let mut server = Endpoint::<128>::new(Timing::SERVER, now);
        let body = FromDevice::Hello(Hello::new(10, 1, HelloFlags::default(), 10));
        let hello = Envelope { kind: Type::Confirmable, id: 1, token: Token::EMPTY, body };
        device.send(hello.encode_into(&mut message).unwrap(), 99).unwrap();
        assert!(device.poll_output(now, &mut datagram).unwrap().is_some());
        let now = device.next_deadline().unwrap();
        device.handle_deadline(now, 17).unwrap();
        let record = device.poll_output(now, &mut datagram).unwrap().unwrap();
        assert!(matches!(server.handle_datagram(now, record), Ok(Incoming::Message(_))));
        server.acknowledge(1).unwrap();
        let record = server.poll_output(now, &mut datagram).unwrap().unwrap();
        assert!(matches!(device.handle_datagram(now, record), Ok(Incoming::Acknowledged(_))));
        let now = device.next_deadline().unwrap();
        device.handle_deadline(now, 17).unwrap();
        let record = device.poll_output(now, &mut datagram).unwrap().unwrap();
        assert_eq!(server.handle_datagram(now, record), Ok(Incoming::KeepAlive));
    });
}

fn main() {
    assert!(count(|| drop(black_box(vec![0_u8; 100]))) == (1, 100), "the counter does not count");

    let keys = SessionKeys::new([7; 40]);
    let (message, image) = (image(512), image(100_000));
    let mut out = [0; 1024];
    nothing("seal and open a frame of 512 bytes", || {
        let len = Sealer::new(&keys).seal(&message, &mut out).unwrap().len();
        let opened = Opener::new(&keys).open_in_place(&mut out[2..len]).unwrap();
        assert_eq!(out[2..2 + opened], message);
    });
    let mut buffers = [[0; sealed_len(512)]; 24];
    nothing("seal 16 frames of one session and 8 of eight sessions at once", || {
        let mut frames = buffers.each_mut().map(|buffer| Unsealed { buffer, len: 512 });
        let (one, eight) = frames.split_at_mut(16);
        Sealer::new(&keys).seal_batch(one).unwrap();
        let mut sealers = [(); 8].map(|()| Sealer::new(&keys));
        let mut eight = eight.chunks_mut(1);
        let mut batches = sealers
            .each_mut()
            .map(|sealer| SessionBatch { sealer, frames: eight.next().unwrap_or_default() });
        seal_batches(&mut batches).unwrap();
    });
    assert_eq!(buffers[0], buffers[16]);
    let chunk = [&CHUNK_HEAD[..], &message].concat();
    nothing("parse and emit a Hello, an event and a chunk", || {
        for bytes in [&HELLO[..], &EVENT, &chunk] {
            let parsed = Message::parse(bytes, ParseOptions::STRICT).unwrap();
            let (kind, code, id, token) = (parsed.kind(), parsed.code(), parsed.id(), parsed.token());
            let mut writer = Writer::new(&mut out, kind, code, id, token).unwrap();
            for option in parsed.options() {
                writer.option(option.number, option.value).unwrap();
            }
            assert_eq!(writer.payload(parsed.payload().unwrap()).unwrap(), bytes);
        }
    });
    nothing("decode and encode a Hello, an event and a chunk", || {
        let hello = Envelope::<FromDevice<'_>>::decode(&HELLO).unwrap();
        assert_eq!(hello.encode_into(&mut out).unwrap(), HELLO);
        let event = Envelope::<FromDevice<'_>>::decode(&EVENT).unwrap();
        // A device's form: the whole name in one option, three bytes of ttl.
        assert_eq!(event.encode_into(&mut out).unwrap().len(), EVENT.len() + 3);
        let body = Envelope::<FromServer<'_>>::decode(&chunk).unwrap();
        assert_eq!(body.encode_into(&mut out).unwrap(), chunk);
    });
    nothing("read and write a Goodbye, metrics and a system event", || {
        let goodbye = Goodbye { cloud_reason: Some(CloudReason::Sleep), ..Goodbye::default() };
        let bytes = goodbye.encode_into(&mut out).unwrap();
        assert_eq!(Goodbye::decode(bytes), Ok(goodbye));
        let metric = Metric { id: 25, value: Err(-160) };
        let mut metrics = MetricsWriter::new(&mut out).unwrap();
        metrics.push(metric).unwrap();
        assert!(Metrics::parse(metrics.finish()).unwrap().iter().eq([metric]));
        let event = SystemEvent::MaxBinary(393_216);
        assert_eq!(SystemEvent::of(&event.to_event(&mut out).unwrap()), event);
    });
    nothing("write and read a Describe document", || {
        let document = Document {
            functions: Some(&["brew", "setLed"]),
            variables: Some(&[("temp", VariableType::Double)]),
            platform_id: Some(6),
            modules: Some(&[Module::empty(262_144, ModuleStore::Main)]),
            ..Document::default()
        };
        let json = document.write_into(&mut out).unwrap();
        assert_eq!(DocumentBuf::<4, 4, 4>::from_json(json).unwrap().as_document(), document);
    });
    coap_connections(&keys);
    coap_udp();
    nothing("cut 100 kB into chunks with their CRC", || {
        let chunks = Chunks::new(&image, 512, true).unwrap();
        assert_ne!(chunks.iter().fold(0, |all, chunk| all ^ chunk.crc()), 0);
    });
    nothing("start a transfer and list missing chunks", || {
        let mut sender = Sender::new(&image, Options::DEFAULT).unwrap();
        assert!(sender.poll_output(Duration::ZERO).is_some());
        let mut bitmap = Bitmap::<128>::new();
        assert!(bitmap.reset(1000, false) && bitmap.missing().count() == 1000);
    });
    let chunks = spark_benches::image(path::CHUNKS * path::CHUNK);
    let mut server = path::Path::new(&chunks);
    nothing("200 chunks of a transfer, from the image to frames", || {
        assert_eq!((server.batches(), server.one_by_one()), (200 * 546, 200 * 546));
    });
    let mut sender = spark_ota::v3::Sender::new(&chunks, spark_ota::v3::Options::DEFAULT).unwrap();
    nothing("a transfer by protocol v3, both ends", || v3_transfer(&mut sender));
    let list = [Extension::Name(b"blink"), Extension::SecurityMode { mode: 1, certificate: &[] }];
    let builder = ModuleBuilder::new(6, ModuleFunction::User, 1, 6).suffix_extensions(&list).body(&image);
    let module = builder.build().unwrap();
    nothing("check a module of 100 kB and read its extensions, in memory and in flash", || {
        let found = Modules::of(&module).next().unwrap().unwrap().module;
        assert!(found.crc_ok() && found.sha256_ok() && found.extensions().count() == 3);
        assert!(module::Module::parse(&module).unwrap().parts().unwrap().body == image);
        let found = check_in_flash(0, u32::try_from(module.len()).unwrap(), |address, out| {
            let start = usize::try_from(address).unwrap();
            out.copy_from_slice(&module[start..start + out.len()]);
            Ok::<(), ()>(())
        });
        assert!(found.is_ok_and(|found| found.crc_ok() && found.sha256_ok));
    });
    let mut esp8266 = program::program();
    nothing("check an ESP8266 image of 239 kB and patch it both ways", || {
        program::check(&esp8266);
        assert_ne!(program::toggle(&mut esp8266), program::toggle(&mut esp8266));
        program::check(&esp8266);
    });
    nothing("a DFU download and a read-back, host and device", dfu_job);
    nothing("parse a layout string", || {
        let layout = MemoryLayout::parse(LAYOUT).unwrap();
        assert_eq!(layout.page_at(0x080A_1234).unwrap().start, 0x080A_0000);
    });
    let mut file = vec![0; image.len() + 400];
    let elements = [Element { address: 0x080A_0000, data: &image }];
    let targets = [TargetImage { alternate: 0, name: Some(b"ST..."), elements: &elements }];
    let mut len = 0;
    nothing("write a DfuSe file", || {
        len = Image::new(0x2B04, 0xD006, &targets).encode_into(&mut file).unwrap().len();
    });
    nothing("view a DfuSe file", || {
        let file = DfuSeFile::parse(&file[..len]).unwrap();
        assert!(file.targets().flat_map(|target| target.elements()).eq(elements));
    });
    nothing("read a DfuSe file in pieces", || {
        let (mut reader, mut total) = (Reader::new(FileOptions::STRICT), 0);
        for mut piece in file[..len].chunks(100) {
            while let Some(event) = reader.read(&mut piece).unwrap() {
                if let Event::Data { bytes, .. } = event {
                    total += bytes.len();
                }
            }
        }
        assert!(total == image.len() && reader.finish().is_ok());
    });
    nothing("check and load a device key", || {
        let der = include_bytes!("../../keys/tests/vectors/rsa1024_608.der");
        assert!(
            spark_keys::load_device_key(der).is_ok_and(|key| spark_keys::check(key.as_field()).is_clean())
        );
    });
    let mut sector = [0xFF; 16384];
    nothing("plan a DCT write and check the sector", || {
        factory_sector(&[0; 100], &mut sector).unwrap();
        let mut write =
            Write::new(Sectors::new(&sector, &sector), Generation::V0_7_0, 34, &[1; 612]).unwrap();
        let operations = core::iter::from_fn(|| write.next_op().map(|_| ())).count();
        assert!(operations > 100 && sector_crc(&sector) != 0);
    });
}
