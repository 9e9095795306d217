//! Writes that read the flash in pieces do what the others do, on flash that changes under them.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{Flash, json};
use proptest::prelude::*;
use spark_dct::flash::{FlashOp, FlashStep, READ_LEN, SectorId};
use spark_dct::{dcd, wiced};

/// An operation with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Op {
    Erase(SectorId),
    Program(SectorId, usize, Vec<u8>),
}

impl Op {
    fn of(op: FlashOp<'_>) -> Self {
        match op {
            FlashOp::Erase { sector } => Op::Erase(sector),
            FlashOp::Program { sector, offset, data } => Op::Program(sector, offset, data.to_vec()),
            _ => panic!("unknown operation"),
        }
    }

    fn apply(&self, flash: &mut Flash) {
        flash.apply(match self {
            Op::Erase(sector) => FlashOp::Erase { sector: *sector },
            Op::Program(sector, offset, data) => FlashOp::Program { sector: *sector, offset: *offset, data },
        });
    }
}

/// Both kinds of machine, so that each container has the same tests.
trait Stream {
    fn step(&mut self) -> Result<Option<FlashStep<'_>>, String>;
    fn read(&mut self, bytes: &[u8]);
    fn ends_in(&self) -> Option<SectorId>;
}

macro_rules! stream {
    ($machine:ty) => {
        impl Stream for $machine {
            fn step(&mut self) -> Result<Option<FlashStep<'_>>, String> {
                self.next_step().map_err(|error| error.to_string())
            }

            fn read(&mut self, bytes: &[u8]) {
                self.handle_read(bytes);
            }

            fn ends_in(&self) -> Option<SectorId> {
                self.target()
            }
        }
    };
}

stream!(wiced::StreamWrite<'_>);
stream!(dcd::StreamWrite<'_>);

/// Runs on the flash in place; `piece` bytes at a time are read, and copied.
fn run(flash: &mut Flash, mut machine: impl Stream, piece: usize) -> Result<Vec<Op>, String> {
    let (mut ops, mut bytes_read) = (Vec::new(), 0);
    while let Some(step) = machine.step()? {
        let op = match step {
            FlashStep::Read { sector, offset, len } => {
                assert!(ops.is_empty() && (1..=READ_LEN).contains(&len));
                let bytes = flash.0[sector.index()][offset..offset + len.min(piece)].to_vec();
                bytes_read += bytes.len();
                machine.read(&bytes);
                continue;
            }
            FlashStep::Erase { sector } => Op::Erase(sector),
            FlashStep::Program { sector, offset, data } => Op::Program(sector, offset, data.to_vec()),
            FlashStep::Copy { from, from_offset, to, to_offset, len } => {
                assert!(from != to && len > 0);
                let bytes = flash.0[from.index()][from_offset..from_offset + len].to_vec();
                for (index, part) in bytes.chunks(piece).enumerate() {
                    let offset = to_offset + index * piece;
                    flash.apply(FlashOp::Program { sector: to, offset, data: part });
                }
                ops.push(Op::Program(to, to_offset, bytes));
                continue;
            }
            _ => panic!("unknown step"),
        };
        op.apply(flash);
        ops.push(op);
    }
    assert_eq!(bytes_read, 32768, "each sector once");
    Ok(ops)
}

/// The operations of a machine that has both sectors, and the flash behind each of them.
fn recorded<'a>(before: &Flash, mut next: impl FnMut() -> Option<Op> + 'a) -> (Vec<Op>, Flash) {
    let mut after = before.clone();
    let ops: Vec<_> = core::iter::from_fn(&mut next).inspect(|op| op.apply(&mut after)).collect();
    (ops, after)
}

fn wiced_both(before: &Flash, generation: wiced::Generation, offset: usize, data: &[u8], piece: usize) {
    let label = format!("{generation:?} {} bytes at {offset}", data.len());
    let mut after = before.clone();
    let stream = wiced::StreamWrite::new(generation, offset, data);
    let found = stream.map_err(|error| error.to_string()).and_then(|it| run(&mut after, it, piece));
    match wiced::Write::new(before.sectors(), generation, offset, data) {
        Err(error) => {
            assert_eq!(found, Err(error.to_string()), "{label}");
            assert!(after == *before);
        }
        Ok(mut write) => {
            let (ops, expected) = recorded(before, || write.next_op().map(Op::of));
            assert!(found.unwrap() == ops, "{label}");
            assert!(after == expected, "{label}");
        }
    }
}

fn dcd_both(before: &Flash, generation: dcd::Generation, offset: usize, data: &[u8], piece: usize) {
    let label = format!("{generation:?} {} bytes at {offset}", data.len());
    let mut after = before.clone();
    let stream = dcd::StreamWrite::new(generation, offset, data);
    let found = stream.map_err(|error| error.to_string()).and_then(|it| run(&mut after, it, piece));
    match dcd::Write::new(before.dcd(), generation, offset, data) {
        Err(error) => {
            assert_eq!(found, Err(error.to_string()), "{label}");
            assert!(after == *before);
        }
        Ok(mut write) => {
            let (ops, expected) = recorded(before, || write.next_op().map(Op::of));
            assert!(found.unwrap() == ops, "{label}");
            assert!(after == expected, "{label}");
        }
    }
}

const IMAGES: [&str; 11] = [
    "photon_0_factory.bin",
    "photon_1_old_inplace.bin",
    "photon_2_old_swapped.bin",
    "photon_3_new_first.bin",
    "photon_4_new_second.bin",
    "photon_5_new_blank_init.bin",
    "electron_0_factory.bin",
    "electron_1_v2_written.bin",
    "electron_2_v2_second.bin",
    "electron_3_v1_after_v2.bin",
    "",
];

const WICED: [wiced::Generation; 3] =
    [wiced::Generation::V0_4_0, wiced::Generation::V0_4_4, wiced::Generation::V0_7_0];
const DCD: [dcd::Generation; 2] = [dcd::Generation::V1, dcd::Generation::V2];

fn image(name: &str) -> Flash {
    if name.is_empty() { Flash::blank() } else { Flash::load(name) }
}

#[test]
fn every_write_has_the_operations_of_the_other_machine() {
    let key: Vec<u8> = (0..612_u32).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    for name in IMAGES {
        let flash = image(name);
        let present = flash.sectors().app_of(SectorId::Dct2)[34..646].to_vec();
        for (offset, data) in [
            (34, &key[..]),
            (34, &present),
            (34, &[0; 612]),
            (0, b"x"),
            (0, &[]),
            (1825, b"1"),
            (8784 - 612, &key),
            (8783, b"xx"),
            (16343, b"x"),
            (16344 - 612, &key),
            (16375, b"x"),
            (16376, b"x"),
            (usize::MAX, b"x"),
        ] {
            WICED.into_iter().for_each(|generation| wiced_both(&flash, generation, offset, data, READ_LEN));
            DCD.into_iter().for_each(|generation| dcd_both(&flash, generation, offset, data, READ_LEN));
        }
    }
}

#[test]
fn tables_are_begun_and_migrated_as_by_the_other_machine() {
    for name in IMAGES {
        let before = image(name);
        for generation in DCD {
            let mut after = before.clone();
            let ops = run(&mut after, dcd::StreamWrite::initialise(generation), 100).unwrap();
            let mut write = dcd::Write::initialise(before.dcd(), generation);
            let (expected_ops, expected) = recorded(&before, || write.next_op().map(Op::of));
            assert!(ops == expected_ops && after == expected, "{name} {generation:?}");

            let mut after = before.clone();
            let ops = run(&mut after, dcd::StreamWrite::migrate(generation), 100).unwrap();
            match dcd::Write::migrate(before.dcd(), generation) {
                Some(mut write) => {
                    let (expected_ops, expected) = recorded(&before, || write.next_op().map(Op::of));
                    assert!(ops == expected_ops && after == expected, "{name} {generation:?}");
                }
                None => assert!(ops.is_empty() && after == before, "{name} {generation:?}"),
            }
        }
    }
}

/// The emulator's images and operations, without the other machine.
#[test]
fn recorded_images_come_out_byte_for_byte() {
    let key = |name: &str, id| Flash::load(name).sectors().app_of(id)[34..646].to_vec();
    let (first, second) =
        (key("photon_1_old_inplace.bin", SectorId::Dct1), key("photon_2_old_swapped.bin", SectorId::Dct2));
    for (step, before, generation, offset, data, after) in [
        (1, "photon_0_factory.bin", wiced::Generation::V0_4_4, 34, &first[..], "photon_1_old_inplace.bin"),
        (2, "photon_1_old_inplace.bin", wiced::Generation::V0_4_4, 34, &second, "photon_2_old_swapped.bin"),
        (4, "photon_2_old_swapped.bin", wiced::Generation::V0_7_0, 1825, b"1", "photon_3_new_first.bin"),
        (5, "photon_3_new_first.bin", wiced::Generation::V0_7_0, 1825, b"1", "photon_4_new_second.bin"),
    ] {
        let mut flash = Flash::load(before);
        let write = wiced::StreamWrite::new(generation, offset, data).unwrap();
        let ops = run(&mut flash, write, READ_LEN).unwrap();
        assert!(flash == Flash::load(after), "{after}");
        let recorded = &json("photon_wiced.json")["scenario"][step];
        let count =
            recorded["n_ops"].as_u64().unwrap_or_else(|| recorded["ops"].as_array().unwrap().len() as u64);
        assert_eq!(ops.len() as u64, count, "{after}");
    }
    let new = Flash::load("electron_1_v2_written.bin").dcd().app_of(SectorId::Dct2, dcd::Generation::V2)
        [34..642]
        .to_vec();
    let mut flash = Flash::load("electron_0_factory.bin");
    run(&mut flash, dcd::StreamWrite::new(dcd::Generation::V2, 34, &new).unwrap(), READ_LEN).unwrap();
    assert!(flash == Flash::load("electron_1_v2_written.bin"));
    run(&mut flash, dcd::StreamWrite::new(dcd::Generation::V2, 2977, &[0]).unwrap(), READ_LEN).unwrap();
    assert!(flash == Flash::load("electron_2_v2_second.bin"));
    run(&mut flash, dcd::StreamWrite::new(dcd::Generation::V1, 1825, b"1").unwrap(), READ_LEN).unwrap();
    assert!(flash == Flash::load("electron_3_v1_after_v2.bin"));
}

/// A cut before any step, and a new start: what firmware reads is what it reads after a cut of the other machine.
#[test]
fn cuts_leave_what_cuts_of_the_other_machine_leave() {
    fn stopped(before: &Flash, mut machine: impl Stream, limit: usize) -> (Flash, bool) {
        let (mut flash, mut done) = (before.clone(), 0);
        while let Some(step) = machine.step().unwrap() {
            match step {
                FlashStep::Read { sector, offset, len } => {
                    let bytes = flash.0[sector.index()][offset..offset + len].to_vec();
                    machine.read(&bytes);
                    continue;
                }
                _ if done == limit => return (flash, false),
                FlashStep::Copy { from, from_offset, to, to_offset, len } => {
                    let data = flash.0[from.index()][from_offset..from_offset + len].to_vec();
                    flash.apply(FlashOp::Program { sector: to, offset: to_offset, data: &data });
                }
                FlashStep::Erase { sector } => flash.apply(FlashOp::Erase { sector }),
                FlashStep::Program { sector, offset, data } => {
                    flash.apply(FlashOp::Program { sector, offset, data });
                }
                _ => panic!("unknown step"),
            }
            done += 1;
        }
        (flash, true)
    }
    let new = [0x33; 612];
    for (name, generation) in [
        ("photon_1_old_inplace.bin", WICED[0]),
        ("photon_1_old_inplace.bin", WICED[1]),
        ("photon_4_new_second.bin", WICED[2]),
    ] {
        let before = Flash::load(name);
        for limit in 0.. {
            let stream = wiced::StreamWrite::new(generation, 34, &new).unwrap();
            let (found, complete) = stopped(&before, stream, limit);
            let mut expected = before.clone();
            let mut write = wiced::Write::new(before.sectors(), generation, 34, &new).unwrap();
            assert_eq!(expected.write(&mut write, limit), complete);
            assert!(found == expected, "{name} {generation:?} {limit}");
            if complete {
                assert!(limit > 3);
                break;
            }
        }
    }
    for (name, generation) in [("electron_3_v1_after_v2.bin", DCD[0]), ("electron_2_v2_second.bin", DCD[1])] {
        let before = Flash::load(name);
        for limit in 0.. {
            let stream = dcd::StreamWrite::new(generation, 34, &new).unwrap();
            let (found, complete) = stopped(&before, stream, limit);
            let mut expected = before.clone();
            let mut write = dcd::Write::new(before.dcd(), generation, 34, &new).unwrap();
            (0..limit).for_each(|_| expected.apply(write.next_op().unwrap()));
            assert!(found == expected, "{name} {generation:?} {limit}");
            if complete {
                assert!(write.next_op().is_none());
                break;
            }
        }
    }
}

#[test]
fn read_is_repeated_until_its_bytes_are_there() {
    let mut write = wiced::StreamWrite::new(wiced::Generation::V0_7_0, 0, b"x").unwrap();
    let first = FlashStep::Read { sector: SectorId::Dct1, offset: 0, len: READ_LEN };
    assert_eq!(write.next_step(), Ok(Some(first)));
    write.handle_read(&[]);
    assert_eq!(write.next_step(), Ok(Some(first)));
    write.handle_read(&[0xFF; 100]);
    let rest = FlashStep::Read { sector: SectorId::Dct1, offset: 100, len: READ_LEN };
    assert_eq!(write.target(), None);
    assert_eq!(write.next_step(), Ok(Some(rest)));
    // more than was asked for
    write.handle_read(&[0xFF; 20_000]);
    let rest = FlashStep::Read { sector: SectorId::Dct1, offset: 356, len: READ_LEN };
    assert_eq!(write.next_step(), Ok(Some(rest)));
    for _ in 0..200 {
        write.handle_read(&[0xFF; READ_LEN]);
    }
    assert_eq!(write.next_step(), Err(wiced::WriteError::NoCurrentSector));
    assert_eq!(write.next_step(), Err(wiced::WriteError::NoCurrentSector), "and again");
}

#[test]
fn target_is_known_once_both_sectors_are_read() {
    let flash = Flash::load("photon_4_new_second.bin");
    let mut write = wiced::StreamWrite::new(wiced::Generation::V0_7_0, 1825, b"1").unwrap();
    while let Ok(Some(FlashStep::Read { sector, offset, len })) = write.step() {
        assert_eq!(write.ends_in(), None);
        write.read(&flash.0[sector.index()][offset..offset + len]);
    }
    assert_eq!(write.ends_in(), Some(SectorId::Dct1));
}

#[test]
fn machines_are_small() {
    assert!(size_of::<wiced::StreamWrite<'_>>() < 1200, "{}", size_of::<wiced::StreamWrite<'_>>());
    assert!(size_of::<dcd::StreamWrite<'_>>() < 300, "{}", size_of::<dcd::StreamWrite<'_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_sectors_make_no_difference(
        file in 0..IMAGES.len(),
        patches in proptest::collection::vec(
            (any::<bool>(), prop_oneof![0usize..20, 16352usize..16384, 0usize..16384], any::<u8>()), 0..12),
        offset in 0usize..9000, data in proptest::collection::vec(any::<u8>(), 0..700), piece in 1usize..300
    ) {
        let mut flash = image(IMAGES[file]);
        for (second, at, byte) in patches {
            flash.0[usize::from(second)][at] = byte;
        }
        let piece = piece.min(READ_LEN);
        WICED.into_iter().for_each(|generation| wiced_both(&flash, generation, offset, &data, piece));
        DCD.into_iter().for_each(|generation| dcd_both(&flash, generation, offset, &data, piece));
    }
}
