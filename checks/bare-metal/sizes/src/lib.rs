//! Uses one machine of `spark-dfu`, so that what is left after link-time optimisation is that machine and no more.
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
