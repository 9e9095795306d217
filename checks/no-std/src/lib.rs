//! Uses each of the five crates without features, but for `json-core`, which promises to need no heap either, in a
//! library with its own panic handler and no allocator.
//!
//! If anything drags in std, the build stops with E0152 (two panic handlers); if anything drags in `alloc`, with "no
//! global memory allocator". `run` builds it, and then with each fault switched on to see that it would be found.
#![no_std]

#[cfg(feature = "with-alloc")]
extern crate alloc;

use coap_spark::coap::Type;
use coap_spark::connection::{DeviceConnection, Profile, ServerConnection, ServerPolicy};
use coap_spark::diagnosis::log;
use coap_spark::handshake::server::AwaitIdentity;
use coap_spark::message::describe::{DocumentBuf, Metrics};
use coap_spark::message::{Envelope, FromDevice, FromServer, Hello, HelloFlags, SystemEvent};
use coap_spark::session::SessionKeys;
use coap_spark::udp::{Endpoint, Timing};
use core::convert::Infallible;
use core::time::Duration;
use rand_core::{TryCryptoRng, TryRng};
use spark_dct::flash::FlashStep;
use spark_dct::wiced::{Generation, Sectors, StreamWrite, Write};
use spark_dct::{App, AppMut, ServerAddress};
use spark_dfu::descriptor::Description;
use spark_dfu::device::{Device, Memory, Profile as DeviceProfile, Work};
use spark_dfu::file::dfuse::{Event, Image, ParseOptions, Reader, TargetImage};
use spark_dfu::file::{Kind, prefix::PrefixedContent, recognise, suffix::Suffix};
use spark_dfu::host::{Action, Connect, Download, Element, Link, Machine, Plan, WriteOptions};
use spark_dfu::layout::{LayoutText, MemoryLayout, ParseOptions as LayoutOptions};
use spark_keys::check::{ServerKeyKind, check_ec, check_server_key};
use spark_keys::load::{MAX_DER, load};
use spark_keys::{EcDeviceKey, KeyForm, generate};
use spark_ota::esp8266::{Expectations, ImageFile, Patch, Purpose, Slot};
use spark_ota::serial::{Listening, Profile as Console};
use spark_ota::transfer::{Chunks, Options, Profile as Update, Receiver, Sender};
use spark_ota::ymodem::{Sender as FileSender, SenderProfile};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The one symbol of the library; `bytes` keeps the compiler from knowing the answers.
#[unsafe(no_mangle)]
pub extern "C" fn use_everything(bytes: &mut [u8; 16384]) -> usize {
    let now = Duration::ZERO;
    #[cfg(feature = "with-alloc")]
    let now = now + Duration::from_secs(alloc::vec::Vec::from(&bytes[..]).len() as u64);
    dfu(bytes, now) + files(bytes) + dct(bytes) + keys(bytes) + coap(bytes, now) + ota(bytes, now)
}

struct Nothing;

impl Memory for Nothing {
    fn read(&mut self, _: u8, _: u32, _: &mut [u8]) -> usize {
        0
    }

    fn estimate(&self, _: &Work<'_>) -> Duration {
        Duration::ZERO
    }
}

fn dfu(bytes: &mut [u8; 16384], now: Duration) -> usize {
    let mut reply = [0; 64];
    let setup = bytes.first_chunk().copied().unwrap_or_default();
    let device = Device::new(Description::photon("1"), DeviceProfile::STRICT, [0_u8; 4096]);
    let answered = device.map(|mut device| device.control(now, &mut Nothing, &setup, &[], &mut reply));
    let layout = MemoryLayout::parse(bytes);
    let plan = layout.map(|layout| Plan::write(&layout, 0x0802_0000, 64, WriteOptions::DEFAULT));
    let pages = match &plan {
        Ok(Ok(plan)) => {
            let image = Element { address: 0x0802_0000, data: &bytes[..64] };
            Download::new(Link::PHOTON, plan, image, [0; 4096])
                .is_ok_and(|download| download.action() == Action::Finished)
        }
        _ => false,
    };
    usize::from(pages)
        + usize::from(answered.is_ok())
        + Connect::new(Link::PHOTON).last_reply().map_or(0, |_| 1)
}

fn files(bytes: &mut [u8; 16384]) -> usize {
    let known = match recognise(bytes) {
        Kind::Plain(file) => {
            PrefixedContent::parse(file.content()).map_or(1, |content| content.payload().len())
        }
        Kind::DfuSe(file) => file.targets().flat_map(|target| target.elements()).count(),
        _ => 0,
    };
    let mut reader = Reader::new(ParseOptions::STRICT);
    let mut read = 0;
    for mut piece in bytes.chunks(100) {
        while let Ok(Some(event)) = reader.read(&mut piece) {
            read += if let Event::Data { bytes, .. } = event { bytes.len() } else { 1 };
        }
    }
    let strict = MemoryLayout::parse_with(bytes, LayoutOptions::STRICT);
    let segment = strict.ok().and_then(|layout| layout.segments().next());
    let (payload, out) = bytes.split_at_mut(100);
    let elements = [Element { address: 7, data: payload }];
    let targets = [TargetImage { alternate: 0, name: None, elements: &elements }];
    let built = Image::new(1, 2, &targets).encode_into(out).is_ok();
    let appended = Suffix::new(1, 2).append_into(payload, out).is_ok();
    let text = segment.and_then(|segment| {
        LayoutText::new("x", &[segment]).ok().and_then(|text| text.encode_into(out).ok().map(<[u8]>::len))
    });
    known
        + read
        + usize::from(built)
        + usize::from(appended)
        + usize::from(reader.finish().is_ok())
        + text.unwrap_or(0)
}

fn dct(bytes: &mut [u8; 16384]) -> usize {
    if let (Ok(mut image), Ok(address)) = (AppMut::new(bytes), ServerAddress::domain("a.b", Some(1))) {
        let _ = image.set_server_address(&address);
    }
    let claimed = App::new(bytes).is_ok_and(|app| app.claimed());
    let mut write = Write::new(Sectors::new(bytes, bytes), Generation::V0_7_0, 34, &[1, 2, 3]).ok();
    let operations = core::iter::from_fn(|| write.as_mut()?.next_op().map(|_| 1)).sum::<usize>();
    usize::from(claimed) + operations + stream(bytes)
}

/// As a bootloader writes, which reads its flash in pieces.
fn stream(bytes: &[u8; 16384]) -> usize {
    let Ok(mut write) = StreamWrite::new(Generation::V0_7_0, 34, &[1, 2, 3]) else { return 0 };
    let mut steps = 0;
    while let Ok(Some(step)) = write.next_step() {
        steps += 1;
        if let FlashStep::Read { offset, len, .. } = step {
            write.handle_read(&bytes[offset..offset + len]);
        }
    }
    steps
}

/// Takes its randomness from the bytes.
struct Bytes<'a>(&'a [u8; 16384], usize);

impl TryRng for Bytes<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|word| word as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut word = [0; 8];
        self.try_fill_bytes(&mut word)?;
        Ok(u64::from_le_bytes(word))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for byte in out {
            self.1 = (self.1 + 1) % self.0.len();
            *byte = self.0[self.1];
        }
        Ok(())
    }
}

impl TryCryptoRng for Bytes<'_> {}

fn keys(bytes: &mut [u8; 16384]) -> usize {
    let server = check_server_key(ServerKeyKind::Rsa, bytes).device_works();
    let findings = spark_keys::check(&bytes[..612]).findings().chain(check_ec(bytes).findings()).count();
    let repaired = spark_keys::repair(&bytes[..612]).map_or(0, |repaired| repaired.recomputed().count());
    let generated = generate::device_key(&mut Bytes(bytes, 0)).map_or(0, |key| key.as_der().len());
    let ec = EcDeviceKey::generate(&mut Bytes(bytes, 0)).as_der().len();
    let (mut scratch, mut out) = ([0; MAX_DER], [0; MAX_DER]);
    let written = load(bytes, &mut scratch)
        .map_or(0, |loaded| loaded.key.encode_into(KeyForm::SpkiRsa, &mut out).map_or(1, <[u8]>::len));
    usize::from(server) + findings + repaired + generated + ec + written
}

fn coap(bytes: &mut [u8; 16384], now: Duration) -> usize {
    let keys = SessionKeys::new([9; 40]);
    let mut out = [0; 1024];
    let mut waiting = AwaitIdentity::start([7; 40], now);
    waiting.push(bytes);
    let identified =
        waiting.complete().is_ok_and(|(state, job)| state.resume(job.finish(Some(bytes))).is_ok());
    let mut device: DeviceConnection = DeviceConnection::new(&keys, Profile::V2_3_1, now);
    let mut server: ServerConnection = ServerConnection::new(&keys, ServerPolicy::DEFAULT, 1, now);
    let hello = FromDevice::Hello(Hello::new(6, 1, HelloFlags::default(), 6));
    let sent = device.send(Type::NonConfirmable, hello, &mut out);
    let used = sent.is_ok_and(|sent| server.handle_input(now, sent.bytes).is_ok());
    let described = DocumentBuf::<8, 8, 8>::from_json(bytes)
        .map_or(0, |document| document.as_document().write_into(&mut out).map_or(1, <[u8]>::len));
    let meant = Envelope::<FromServer<'_>>::decode(bytes).is_ok_and(|message| match message.body {
        FromServer::Event(event) => SystemEvent::of(&event).to_event(&mut out).is_ok(),
        FromServer::Response(response) => response.as_time().is_ok() || response.as_function_result().is_ok(),
        _ => false,
    });
    usize::from(identified)
        + usize::from(used)
        + described
        + usize::from(meant)
        + Metrics::parse(bytes).map_or(0, |metrics| metrics.iter().count())
        + server.poll_output(&mut out).ok().flatten().map_or(0, <[u8]>::len)
        + core::str::from_utf8(bytes).ok().and_then(log::read).map_or(0, |found| found.rows().count())
        + udp(bytes, now)
}

fn udp(bytes: &mut [u8; 16384], now: Duration) -> usize {
    let mut end: Endpoint<256> = Endpoint::new(Timing::DEVICE, now);
    let came = end.handle_datagram(now, bytes).is_ok();
    let sent = end.send(&bytes[..64], 1).is_ok();
    let kept = end.handle_deadline(now, 2).is_ok();
    usize::from(came && sent && kept)
        + end.poll_output(now, &mut bytes[64..]).ok().flatten().map_or(0, <[u8]>::len)
}

fn ota(bytes: &mut [u8; 16384], now: Duration) -> usize {
    let crc = Chunks::new(&*bytes, 512, true)
        .map_or(0, |chunks| chunks.iter().map(|chunk| chunk.crc() as usize).sum());
    let mut receiver = Receiver::<128>::new(Update::C4, 65_536);
    receiver.handle_chunk(now, Some(1), 2, &bytes[..512]);
    let sent =
        Sender::new(&*bytes, Options::DEFAULT).is_ok_and(|mut sender| sender.poll_output(now).is_some());
    crc ^ receiver.missing().count() ^ usize::from(sent) ^ serial(bytes, now) ^ esp8266(bytes)
}

fn esp8266(bytes: &mut [u8; 16384]) -> usize {
    let findings = ImageFile::parse(&*bytes)
        .map_or(0, |file| file.check(&Expectations::of(Purpose::Upgrade(Slot::User2))).count());
    let patched = Patch::DOUT.apply(bytes);
    findings ^ patched.map_or(0, |patched| patched.changes().count() ^ patched.sha256.as_str().len())
}

fn serial(bytes: &[u8; 16384], now: Duration) -> usize {
    let mut console = Listening::new(Console::V2_0, 4096);
    let used = console.handle_input(now, bytes);
    let sent = FileSender::new(now, "binary", bytes, SenderProfile::PARTICLE).is_ok_and(|mut sender| {
        sender.start();
        sender.poll_output(now).is_some()
    });
    used ^ usize::from(sent) ^ usize::from(console.poll_output().is_some())
}
