//! `spark-ota`: a whole image over YMODEM, each end by itself, with checksums.
#![allow(missing_docs, clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "benchmarks")]

use core::hint::black_box;
use core::time::Duration;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use spark_benches::image;
use spark_ota::ymodem::{Receiver, ReceiverOutput, ReceiverProfile, Sender, SenderProfile, crc16};

const NOW: Duration = Duration::ZERO;
/// System part 1 of 2.2.0.
const LEN: usize = 250_956;
const DATA: usize = 1024;

fn bit_by_bit(bytes: &[u8]) -> u16 {
    let step = |crc: u16, _| if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ u16::from(*byte) << 8, step))
}

/// A packet in a vector of its own, its checksum bit by bit.
fn naive_packet(number: u8, data: &[u8]) -> Vec<u8> {
    let mut padded = data.to_vec();
    padded.resize(DATA, 0);
    let mut packet = vec![2, number, !number];
    packet.extend_from_slice(&padded);
    packet.extend(bit_by_bit(&padded).to_be_bytes());
    packet
}

fn packets(file: &[u8]) -> Vec<Vec<u8>> {
    let numbers = (1..=255_u8).chain([0]).cycle();
    file.chunks(DATA).zip(numbers).map(|(data, number)| naive_packet(number, data)).collect()
}

/// Sums up what goes over the wire, so that nothing of it is left out.
fn digest(sum: u64, packet: &[u8]) -> u64 {
    let tail = &packet[packet.len() - 2..];
    sum + u64::from(packet[1]) + u64::from(tail[0]) * 256 + u64::from(tail[1])
}

fn send(c: &mut Criterion) {
    let file = image(LEN);
    let expected = packets(&file).iter().fold(0, |sum, packet| digest(sum, packet));
    let profile = SenderProfile { checksums: true, ..SenderProfile::PARTICLE };
    let mut group = c.benchmark_group("ymodem/send");
    group.throughput(Throughput::Bytes(LEN as u64));
    group.bench_function("spark-ota", |b| {
        b.iter(|| {
            let mut sender = Sender::new(NOW, "binary", black_box(&file), profile).unwrap();
            sender.start();
            sender.poll_output(NOW).unwrap();
            sender.handle_input(NOW, b"\x06C");
            let mut sum = 0;
            while let Some(packet) = sender.poll_output(NOW).filter(|packet| packet.len() > 1) {
                sum = digest(sum, packet);
                sender.handle_input(NOW, b"\x06");
            }
            assert_eq!(sum, expected);
        });
    });
    group.bench_function("naive", |b| {
        b.iter(|| {
            let sum = packets(black_box(&file)).iter().fold(0, |sum, packet| digest(sum, packet));
            assert_eq!(sum, expected);
        });
    });
    group.finish();

    let mut group = c.benchmark_group("ymodem/checksum");
    group.throughput(Throughput::Bytes(DATA as u64));
    let first = bit_by_bit(&file[..DATA]);
    group.bench_function("spark-ota", |b| b.iter(|| assert_eq!(crc16(black_box(&file[..DATA])), first)));
    group.bench_function("naive", |b| b.iter(|| assert_eq!(bit_by_bit(black_box(&file[..DATA])), first)));
    group.finish();
}

fn receive(c: &mut Criterion) {
    let file = image(LEN);
    let header = naive_packet(0, format!("binary\0{LEN} ").as_bytes());
    let stream = packets(&file).concat();
    let mut group = c.benchmark_group("ymodem/receive");
    group.throughput(Throughput::Bytes(LEN as u64));
    group.bench_function("spark-ota", |b| {
        let ready = || {
            let mut receiver = Receiver::new(NOW, ReceiverProfile::STRICT, 0x4_0000);
            receiver.poll_output();
            assert_eq!(receiver.handle_input(NOW, &header), header.len());
            (receiver, Vec::with_capacity(LEN))
        };
        b.iter_batched(
            ready,
            |(mut receiver, mut flash)| {
                let mut rest = black_box(&stream[..]);
                loop {
                    while let Some(output) = receiver.poll_output() {
                        if let ReceiverOutput::Write { data, .. } = output {
                            flash.extend_from_slice(data);
                        }
                        receiver.work_done(NOW, true);
                    }
                    if rest.is_empty() {
                        break;
                    }
                    let used = receiver.handle_input(NOW, rest);
                    rest = &rest[used..];
                }
                assert!(flash == file);
                flash
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("naive", |b| {
        b.iter_batched(
            || Vec::with_capacity(LEN),
            |mut flash| {
                for (at, packet) in black_box(&stream).chunks(DATA + 5).enumerate() {
                    let (data, crc) = packet[3..].split_at(DATA);
                    assert_eq!(usize::from(packet[1]), (at + 1) % 256);
                    assert_eq!(bit_by_bit(data).to_be_bytes(), crc);
                    let len = data.len().min(LEN - flash.len());
                    flash.extend_from_slice(&data[..len]);
                }
                assert!(flash == file);
                flash
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(all, send, receive);
criterion_main!(all);
