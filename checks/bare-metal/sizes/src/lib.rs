//! Uses one part of a crate, so that what is left after link-time optimisation is that part and no more: each feature is
//! one. `cloud` is a device's end of the cloud protocol; its RSA arithmetic is someone else's and not counted.
//! `run` reads section and symbol sizes from the object file.
#![no_std]

use core::hint::black_box;
use core::time::Duration;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The RAM of the machines as symbols: the length of each array is a size.
#[unsafe(no_mangle)]
pub static RAM_DEVICE_WITHOUT_BLOCK: [u8; size_of::<spark_dfu::device::Device<'static, &mut [u8]>>()] =
    [1; size_of::<spark_dfu::device::Device<'static, &mut [u8]>>()];
#[unsafe(no_mangle)]
pub static RAM_RUNTIME: [u8; size_of::<spark_dfu::device::Runtime<'static>>()] =
    [1; size_of::<spark_dfu::device::Runtime<'static>>()];
#[unsafe(no_mangle)]
pub static RAM_HOST_CONNECT: [u8; size_of::<spark_dfu::host::Connect>()] =
    [1; size_of::<spark_dfu::host::Connect>()];
type Download = spark_dfu::host::Download<'static, spark_dfu::host::Element<'static>, &'static mut [u8]>;
#[unsafe(no_mangle)]
pub static RAM_HOST_DOWNLOAD_WITHOUT_BUFFER: [u8; size_of::<Download>()] = [1; size_of::<Download>()];
type PlainDownload = spark_dfu::host::plain::Download<&'static [u8], &'static mut [u8]>;
#[unsafe(no_mangle)]
pub static RAM_HOST_PLAIN_DOWNLOAD_WITHOUT_BUFFER: [u8; size_of::<PlainDownload>()] =
    [1; size_of::<PlainDownload>()];
#[unsafe(no_mangle)]
pub static RAM_HOST_UPLOAD: [u8; size_of::<spark_dfu::host::Upload<'static>>()] =
    [1; size_of::<spark_dfu::host::Upload<'static>>()];
#[unsafe(no_mangle)]
pub static RAM_HOST_LEAVE: [u8; size_of::<spark_dfu::host::Leave>()] =
    [1; size_of::<spark_dfu::host::Leave>()];

/// A whole DFU-mode device: descriptors, standard requests, DfuSe and plain DFU, all profiles.
#[cfg(feature = "device")]
#[unsafe(no_mangle)]
pub extern "C" fn device(setup: &[u8; 8], data: &mut [u8; 256]) -> usize {
    use spark_dfu::descriptor::Description;
    use spark_dfu::device::{Device, Memory, Profile, Work};

    struct Nothing;
    impl Memory for Nothing {
        fn read(&mut self, _: u8, _: u32, out: &mut [u8]) -> usize {
            black_box(out).len()
        }
        fn estimate(&self, work: &Work<'_>) -> Duration {
            black_box(work);
            Duration::from_millis(5)
        }
    }
    // Nothing is known beforehand, so that no branch falls away.
    let description = black_box(Description::photon("1"));
    let Ok(mut device) = Device::new(description, black_box(Profile::STRICT), [0_u8; 4096]) else { return 0 };
    let now = black_box(Duration::ZERO);
    let mut reply = [0; 64];
    let len = device.control(now, &mut Nothing, setup, data, &mut reply).unwrap_or(0);
    while let Some(work) = device.work(now) {
        black_box(&work);
        let _ = device.work_done(now, Ok(()));
    }
    device.bus_reset();
    black_box(&reply);
    len
}

/// The run-time device.
#[cfg(feature = "runtime")]
#[unsafe(no_mangle)]
pub extern "C" fn runtime(setup: &[u8; 8], reply: &mut [u8; 64]) -> bool {
    use spark_dfu::descriptor::Description;
    use spark_dfu::device::Runtime;

    let mut device = Runtime::new(black_box(Description::photon("1")));
    let now = black_box(Duration::ZERO);
    black_box(device.control(now, setup, reply).is_ok());
    device.bus_reset(now);
    device.work().is_some()
}

/// A host's whole DfuSe job, planning included.
#[cfg(feature = "host")]
#[unsafe(no_mangle)]
pub extern "C" fn host(image: &[u8; 256], reply: &[u8; 64]) -> usize {
    use spark_dfu::host::{
        Connect, Download, Element, Input, Leave, Link, Machine, Plan, ReadPlan, Upload, WriteOptions,
    };
    use spark_dfu::layout::MemoryLayout;

    fn step(machine: &mut dyn Machine, reply: &[u8]) -> usize {
        let _ = black_box(machine.action());
        usize::from(machine.handle(black_box(Duration::ZERO), black_box(Input::InDone(reply))).is_ok())
    }
    let link = black_box(Link::PHOTON);
    let address = 0x0802_0000;
    let Ok(layout) = MemoryLayout::parse(reply) else { return 0 };
    let Ok(plan) = Plan::write(&layout, address, image.len(), black_box(WriteOptions::DEFAULT)) else {
        return 0;
    };
    let Ok(read_plan) = ReadPlan::new(&layout, address, image.len()) else { return 0 };
    let (mut read, mut block) = ([0; 256], [0; 256]);
    let mut done = step(&mut Connect::new(link), reply) + step(&mut Leave::new(link, Some(1)), reply);
    if let Ok(mut download) = Download::new(link, &plan, Element { address, data: image }, &mut block[..]) {
        done += step(&mut download, reply);
    }
    if let Ok(mut upload) = Upload::new(link, &read_plan, &mut read) {
        done += step(&mut upload, reply);
    }
    done
}

/// The RAM of a device's end of the cloud protocol. The states of the handshake follow each other, so one at a time.
#[cfg(feature = "cloud")]
mod cloud_ram {
    use coap_spark::connection::DeviceConnection;
    use coap_spark::handshake::device::{
        AwaitEncryption, AwaitNonce, AwaitOpening, AwaitSession, EncryptJob, Encrypted, OpenJob, Opened,
    };
    use coap_spark::session::{Opener, Sealer};

    macro_rules! ram {
        ($($name:ident: $what:ty),* $(,)?) => {
            $(#[unsafe(no_mangle)]
            pub static $name: [u8; size_of::<$what>()] = [1; size_of::<$what>()];)*
        };
    }
    ram! {
        RAM_CLOUD_AWAIT_NONCE: AwaitNonce,
        RAM_CLOUD_ENCRYPT_JOB_AND_STATE: (AwaitEncryption, EncryptJob),
        RAM_CLOUD_ENCRYPTED: Encrypted,
        RAM_CLOUD_AWAIT_SESSION: AwaitSession,
        RAM_CLOUD_OPEN_JOB_AND_STATE: (AwaitOpening, OpenJob),
        RAM_CLOUD_OPENED: Opened,
        RAM_CLOUD_SEALER: Sealer,
        RAM_CLOUD_OPENER: Opener,
        RAM_CLOUD_DEVICE_CONNECTION: DeviceConnection,
        RAM_CLOUD_DEVICE_CONNECTION_WITHOUT_FRAME_BUFFER: DeviceConnection<0>,
    }
}

/// A whole device: handshake, Hello, events, subscription, time, calls, variables, Describe, updates, keep-alive.
#[cfg(feature = "cloud")]
#[unsafe(no_mangle)]
pub extern "C" fn cloud(input: &[u8; 1024], out: &mut [u8; 1024]) -> usize {
    use coap_spark::coap::{Code, Type};
    use coap_spark::connection::{DeviceConnection, Profile, Request};
    use coap_spark::handshake::device::AwaitNonce;
    use coap_spark::handshake::{DeviceId, RsaFailure, RsaPrivate, RsaPublic};
    use coap_spark::message::{
        Event, FromDevice, FromServer, Goodbye, Hello, HelloFlags, Indices, Name, Response, Scope, Subscribe,
    };
    use core::convert::Infallible;
    use rand_core::{TryCryptoRng, TryRng};

    /// Keys and randomness that are the firmware's own.
    struct Hardware;
    impl RsaPublic for Hardware {
        fn encrypt(
            &self,
            _: &mut dyn rand_core::CryptoRng,
            message: &[u8],
            out: &mut [u8],
        ) -> Result<(), RsaFailure> {
            black_box((message, out));
            black_box(Ok(()))
        }
        fn verify_bare(&self, digest: &[u8; 20], signature: &[u8]) -> Result<(), RsaFailure> {
            black_box((digest, signature));
            black_box(Ok(()))
        }
    }
    impl RsaPrivate for Hardware {
        fn decrypt(
            &self,
            _: &mut dyn rand_core::CryptoRng,
            ciphertext: &[u8],
            out: &mut [u8],
        ) -> Result<usize, RsaFailure> {
            black_box((ciphertext, out));
            black_box(Ok(40))
        }
        fn sign_bare(
            &self,
            _: &mut dyn rand_core::CryptoRng,
            digest: &[u8; 20],
            signature: &mut [u8],
        ) -> Result<(), RsaFailure> {
            black_box((digest, signature));
            black_box(Ok(()))
        }
    }
    impl TryRng for Hardware {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            Ok(black_box(1))
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            Ok(black_box(1))
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            black_box(out);
            Ok(())
        }
    }
    impl TryCryptoRng for Hardware {}

    let now = black_box(Duration::ZERO);
    let input = &input[..];
    let mut done = 0;
    let mut nonce = AwaitNonce::start(now);
    nonce.push(input);
    let Ok((waiting, job)) = nonce.complete(DeviceId([7; 12]), black_box(None)) else { return 1 };
    let Ok((mut waiting, identity)) = waiting.resume(job.run(&Hardware, &mut Hardware), now) else {
        return 2;
    };
    black_box(identity);
    waiting.push(input);
    let Ok((waiting, job)) = waiting.complete() else { return 3 };
    let Ok(keys) = waiting.resume(job.run(&Hardware, &Hardware, &mut Hardware)) else { return 4 };

    // Nothing is known beforehand, so that no branch falls away.
    let mut device: DeviceConnection = DeviceConnection::new(&keys, black_box(Profile::V0_7_0), now);
    let hello = Hello::new(6, black_box(1), HelloFlags::default(), 6);
    let kind = black_box(Type::NonConfirmable);
    let sent = device.send(kind, FromDevice::Hello(hello), out);
    done += usize::from(sent.is_ok());
    let (name, data) = (Name::new("temp"), black_box(Some(&b"21.5"[..])));
    let event = Event { name, public: black_box(false), max_age: black_box(None), data };
    done += usize::from(device.publish(now, event, black_box(true), out).is_ok());
    let subscribe = Subscribe { prefix: Name::new("door"), scope: black_box(Scope::MyDevices) };
    done += usize::from(device.subscribe(now, subscribe, out).is_ok());
    done += usize::from(device.ask_time(now, out).is_ok());
    if let Ok(missed) = Indices::from_bytes(black_box(&[0, 1])) {
        done += usize::from(device.send(Type::Confirmable, FromDevice::ChunkMissed(missed), out).is_ok());
    }
    done +=
        usize::from(device.send(Type::Confirmable, FromDevice::UpdateDone(data.unwrap_or(b"")), out).is_ok());
    let goodbye = FromDevice::Goodbye { no_response: true, goodbye: black_box(Goodbye::default()) };
    done += usize::from(device.send(kind, goodbye, out).is_ok());
    if device.handle_input(now, input).is_err() {
        return done;
    }
    if let Some(message) = device.poll_message() {
        let request = Request::of(&message.envelope);
        match message.envelope.body {
            FromServer::UpdateBegin(begin) => done += usize::from(black_box(begin).chunk_size),
            FromServer::Chunk(chunk) => done += black_box(chunk).data.len(),
            other => {
                black_box(other);
            }
        }
        if let Some(request) = request {
            let response = Response { code: black_box(Code::CONTENT), payload: data.unwrap_or_default() };
            done += device.reply(request, response, out).map_or(0, <[u8]>::len);
        }
    }
    while let Ok(Some(bytes)) = device.poll_output(now, out) {
        done += bytes.len();
    }
    if device.next_deadline().is_some_and(|deadline| deadline <= now) {
        done += usize::from(device.handle_deadline(now).is_ok());
        done += usize::from(device.poll_expired(now).is_some());
    }
    device.set_updating(black_box(true));
    done
}
