//! `spark-dfu`: layout strings, and a download from our host into our device.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use core::hint::black_box;
use core::time::Duration;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use spark_benches::{LAYOUT, image};
use spark_dfu::descriptor::Description;
use spark_dfu::device::{Device, Memory, Profile, Work};
use spark_dfu::host::{
    Clock, ControlTransfer, Download, Element, Link, Plan, TransferFailure, WriteOptions, drive,
};
use spark_dfu::{SetupPacket, layout::MemoryLayout};

/// Splits the string with `str` methods into (count, size) pairs; accepts much that is wrong.
fn naive_layout(text: &str) -> Option<Vec<(u32, u32)>> {
    let sectors = text.rsplit('/').next()?;
    sectors
        .split(',')
        .map(|sector| {
            let (count, size) = sector.split_once('*')?;
            Some((count.parse().ok()?, size.get(..size.len() - 2)?.parse::<u32>().ok()? * 1024))
        })
        .collect()
}

fn layout(c: &mut Criterion) {
    let mut group = c.benchmark_group("dfu/layout");
    group.throughput(Throughput::Bytes(LAYOUT.len() as u64));
    let total = 1024 * 1024;
    group.bench_function("spark-dfu", |b| {
        b.iter(|| {
            let layout = MemoryLayout::parse(black_box(LAYOUT)).unwrap();
            assert_eq!(
                layout.segments().map(|segment| segment.pages * segment.page_size).sum::<u32>(),
                total
            );
        });
    });
    let text = core::str::from_utf8(LAYOUT).unwrap();
    group.bench_function("naive", |b| {
        b.iter(|| {
            let sectors = naive_layout(black_box(text)).unwrap();
            assert_eq!(sectors.iter().map(|(count, size)| count * size).sum::<u32>(), total);
        });
    });
    // Reads only the part behind the last slash and drops addresses and access letters.
    group.bench_function("dfu-core", |b| {
        b.iter(|| {
            let sectors = black_box(text).rsplit('/').next().unwrap();
            let pages = dfu_core::memory_layout::MemoryLayout::try_from(sectors).unwrap();
            assert_eq!(pages.iter().sum::<u32>(), total);
        });
    });
    group.finish();
}

const START: u32 = 0x080A_0000;

struct Flash(Vec<u8>);

impl Memory for Flash {
    fn read(&mut self, _: u8, _: u32, _: &mut [u8]) -> usize {
        0
    }

    fn estimate(&self, _: &Work<'_>) -> Duration {
        Duration::ZERO
    }
}

struct Bus {
    device: Device<'static, [u8; 4096]>,
    flash: Flash,
    now: Duration,
}

impl Bus {
    fn transfer(
        &mut self,
        setup: SetupPacket,
        out: &[u8],
        input: &mut [u8],
    ) -> Result<usize, TransferFailure> {
        let answer = self.device.control(self.now, &mut self.flash, &setup.to_bytes(), out, input);
        while let Some(work) = self.device.work(self.now) {
            if let Work::Program { address, data, .. } = work {
                let at = usize::try_from(address - START).unwrap();
                self.flash.0[at..][..data.len()].copy_from_slice(data);
            }
            self.device.work_done(self.now, Ok(())).unwrap();
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
        self.now = self.now.max(until);
    }
}

fn download(c: &mut Criterion) {
    let image = image(100_000);
    let layout = MemoryLayout::parse(LAYOUT).unwrap();
    let plan = Plan::write(&layout, START, image.len(), WriteOptions::DEFAULT).unwrap();
    let device = Device::new(Description::photon("1"), Profile::STRICT, [0; 4096]).unwrap();
    let link = Link::new(0, &Description::photon("1").functional);
    let mut bus = Bus { device, flash: Flash(vec![0; image.len()]), now: Duration::ZERO };
    let mut buffer = [0; 4096];
    let mut group = c.benchmark_group("dfu/download");
    group.throughput(Throughput::Bytes(image.len() as u64));
    group.bench_function("spark-dfu, host and device", |b| {
        b.iter(|| {
            bus.device.bus_reset();
            bus.flash.0.fill(0);
            let image = Element { address: START, data: black_box(&image) };
            let mut machine = Download::new(link, &plan, image, [0; 4096]).unwrap();
            drive(&mut machine, &mut bus, &mut buffer, |_| ()).unwrap();
            assert!(bus.flash.0 == image.data);
        });
    });
    group.bench_function("naive, two copies", |b| {
        b.iter(|| {
            bus.flash.0.fill(0);
            for (to, from) in bus.flash.0.chunks_mut(4096).zip(black_box(&image).chunks(4096)) {
                buffer[..from.len()].copy_from_slice(black_box(from));
                to.copy_from_slice(&black_box(&buffer)[..from.len()]);
            }
            assert!(bus.flash.0 == image);
        });
    });
    group.finish();
}

criterion_group!(all, layout, download);
criterion_main!(all);
