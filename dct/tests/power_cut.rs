//! Power cuts before every flash operation of a write.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::Flash;
use proptest::prelude::*;
use spark_dct::wiced::*;

fn stored(flash: &Flash, generation: Generation, offset: usize, len: usize) -> Option<Vec<u8>> {
    flash.sectors().app(generation).map(|app| app[offset..offset + len].to_vec())
}

/// What the firmware reads after a cut before each operation, and after none.
fn cuts(before: &Flash, generation: Generation, offset: usize, data: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut results = Vec::new();
    for limit in 0.. {
        let mut flash = before.clone();
        let mut write = Write::new(before.sectors(), generation, offset, data).unwrap();
        let complete = flash.write(&mut write, limit);
        results.push(stored(&flash, generation, offset, data.len()));
        if complete {
            break;
        }
    }
    results
}

const OLD: [u8; 612] = [0b1010_1010; 612];
const NEW: [u8; 612] = [0b0110_0110; 612];

fn with_old_key(generation: Generation) -> Flash {
    let start = Flash::load("photon_0_factory.bin");
    let mut flash = start.clone();
    flash.write(&mut Write::new(start.sectors(), generation, 34, &OLD).unwrap(), usize::MAX);
    flash
}

#[test]
fn new_firmware_reads_old_or_new_after_any_cut_and_new_once_complete() {
    let flash = with_old_key(Generation::V0_7_0);
    let results = cuts(&flash, Generation::V0_7_0, 34, &NEW);
    assert!(results.len() > 200);
    let turn = results.iter().position(|r| r.as_deref() == Some(&NEW[..])).unwrap();
    assert!(results[..turn].iter().all(|r| r.as_deref() == Some(&OLD[..])));
    assert!(results[turn..].iter().all(|r| r.as_deref() == Some(&NEW[..])));
    // incomplete header, record, then the byte that makes it valid: three operations are left after the turn
    assert_eq!(results.len() - turn, 3);
}

#[test]
fn new_firmware_keeps_this_over_more_writes_than_the_sequence_counts() {
    let mut flash = with_old_key(Generation::V0_7_0);
    for round in 0..600u32 {
        let value = round.to_le_bytes();
        let before = flash.clone();
        let mut write = Write::new(before.sectors(), Generation::V0_7_0, 2952, &value).unwrap();
        assert!(flash.write(&mut write, usize::MAX));
        assert_eq!(stored(&flash, Generation::V0_7_0, 2952, 4).unwrap(), value, "round {round}");
    }
}

#[test]
fn new_firmware_survives_a_cut_when_the_sequence_wraps() {
    let mut flash = with_old_key(Generation::V0_7_0);
    for _ in 0..254 {
        let before = flash.clone();
        flash.write(&mut Write::new(before.sectors(), Generation::V0_7_0, 34, &OLD).unwrap(), usize::MAX);
    }
    let current = flash.sectors().current(Generation::V0_7_0).unwrap();
    assert!(matches!(flash.sectors().state(current), SectorState::Versioned { sequence: 255, .. }));
    let results = cuts(&flash, Generation::V0_7_0, 34, &NEW);
    assert!(results.iter().flatten().all(|value| value[..] == OLD || value[..] == NEW));
    assert_eq!(results.last().unwrap().as_deref(), Some(&NEW[..]));
}

#[test]
fn in_place_attempt_leaves_the_and_of_old_and_new_key_until_the_header_is_written() {
    let flash = with_old_key(Generation::V0_4_4);
    assert!(Write::new(flash.sectors(), Generation::V0_4_4, 34, &NEW).unwrap().is_hazardous());
    let results = cuts(&flash, Generation::V0_4_4, 34, &NEW);
    let and: Vec<u8> = OLD.iter().zip(NEW).map(|(a, b)| a & b).collect();
    assert_eq!(results[0].as_deref(), Some(&OLD[..]));
    // program in place, copy, data, copy, header (both valid, DCT1 wins), erase old
    let expected = [&OLD[..], &and, &and, &and, &and, &and, &NEW];
    assert_eq!(results.iter().map(|r| r.as_deref().unwrap()).collect::<Vec<_>>(), expected);
}

#[test]
fn in_place_write_over_erased_bytes_is_no_hazard() {
    let flash = Flash::load("photon_0_factory.bin");
    let write = Write::new(flash.sectors(), Generation::V0_4_4, 34, &NEW).unwrap();
    assert!(!write.is_hazardous());
    assert_eq!(write.target(), SectorId::Dct1);
}

#[test]
fn first_firmware_reads_old_until_the_old_sector_is_erased_when_that_is_dct1() {
    let start = with_old_key(Generation::V0_4_4);
    let results = cuts(&start, Generation::V0_4_0, 34, &NEW);
    let (last, before) = results.split_last().unwrap();
    assert!(before.iter().all(|r| r.as_deref() == Some(&OLD[..])));
    assert_eq!(last.as_deref(), Some(&NEW[..]));
}

/// After a cut before any operation the firmware finds nothing and begins again, or it finds its empty table: never what was
/// there before.
#[test]
fn initialisation_that_is_cut_anywhere_is_done_again_or_was_complete() {
    for generation in [Generation::V0_4_0, Generation::V0_4_4, Generation::V0_7_0] {
        // two sectors full of data, of which the headers are lost
        let mut lost = Flash::load("photon_4_new_second.bin");
        lost.0.iter_mut().for_each(|sector| sector[12] = 0);
        let mut done = lost.clone();
        done.initialise(Initialise::new(generation));
        let mut turn = None;
        for cut in 0.. {
            let mut flash = lost.clone();
            let mut initialise = Initialise::new(generation);
            let mut complete = false;
            for step in 0..=cut {
                match initialise.next_op() {
                    None => complete = true,
                    Some(op) if step < cut => flash.apply(op),
                    Some(_) => {}
                }
            }
            match flash.sectors().select(generation).sector {
                None => assert_eq!(turn, None, "{generation:?} cut {cut}"),
                Some(id) => {
                    turn.get_or_insert(cut);
                    assert_eq!(id, SectorId::Dct1);
                    let end = VersionRecord::OFFSET - APP_OFFSET;
                    assert!(flash.sectors().app_of(id)[..end].iter().all(|byte| *byte == 0xFF));
                }
            }
            if complete {
                break;
            }
            flash.initialise(Initialise::new(generation));
            assert!(flash == done, "{generation:?} cut {cut}: done again");
        }
        // v0.7.0: erase, header, record, mark; then the other sector is erased
        let expected = if generation == Generation::V0_7_0 { 4 } else { 2 };
        assert_eq!(turn, Some(expected), "{generation:?}");
    }
}

#[test]
fn migration_that_is_cut_anywhere_is_done_again_or_was_complete() {
    use spark_dct::dcd;
    for generation in [dcd::Generation::V1, dcd::Generation::V2] {
        for (file, old) in
            [("photon_1_old_inplace.bin", SectorId::Dct1), ("photon_2_old_swapped.bin", SectorId::Dct2)]
        {
            // the sector where it goes is not blank
            let mut before = Flash::load(file);
            before.0[old.other().index()].fill(0x5A);
            let app = before.sectors().app_of(old).to_vec();
            let mut done = before.clone();
            let ops = done.run_dcd(dcd::Write::migrate(before.dcd(), generation).unwrap());
            assert!(ops >= 3, "{ops}");
            for cut in 0..ops {
                let mut flash = before.clone();
                let mut write = dcd::Write::migrate(before.dcd(), generation).unwrap();
                for _ in 0..cut {
                    flash.apply(write.next_op().unwrap());
                }
                assert_eq!(flash.dcd().current(generation), None, "{file} {generation:?} cut {cut}");
                assert!(flash.sectors().app_of(old) == app, "what it comes from is not touched");
                let again = flash.clone();
                flash.run_dcd(dcd::Write::migrate(again.dcd(), generation).unwrap());
                assert!(flash == done, "{file} {generation:?} cut {cut}: done again");
            }
            assert_eq!(done.dcd().current(generation), Some(old.other()));
            assert!(done.dcd().app(generation).unwrap()[..app.len()] == app);
        }
    }
}

#[test]
fn initialisation_of_the_other_container_that_is_cut_anywhere_is_done_again() {
    use spark_dct::dcd;
    for generation in [dcd::Generation::V1, dcd::Generation::V2] {
        let mut lost = Flash::load("electron_2_v2_second.bin");
        lost.0.iter_mut().for_each(|sector| sector[..8].fill(0));
        let mut done = lost.clone();
        let ops = done.run_dcd(dcd::Write::initialise(lost.dcd(), generation));
        for cut in 0..ops {
            let mut flash = lost.clone();
            let mut write = dcd::Write::initialise(lost.dcd(), generation);
            for _ in 0..cut {
                flash.apply(write.next_op().unwrap());
            }
            assert_eq!(flash.dcd().current(generation), None, "{generation:?} cut {cut}");
            let again = flash.clone();
            flash.run_dcd(dcd::Write::initialise(again.dcd(), generation));
            assert!(flash == done, "{generation:?} cut {cut}: done again");
        }
        assert!(done.dcd().app(generation).unwrap().iter().all(|byte| *byte == 0xFF));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn new_firmware_never_mixes(offset in 0usize..WRITE_LIMIT, data in proptest::collection::vec(any::<u8>(), 1..4096), cut in 0usize..270) {
        let data = &data[..data.len().min(WRITE_LIMIT - offset)];
        let flash = Flash::load("photon_4_new_second.bin");
        let old = stored(&flash, Generation::V0_7_0, 0, APP_AREA - 36 - 16).unwrap();
        let mut new = old.clone();
        new[offset..offset + data.len()].copy_from_slice(data);
        let mut after = flash.clone();
        let mut write = Write::new(flash.sectors(), Generation::V0_7_0, offset, data).unwrap();
        let complete = after.write(&mut write, cut);
        let found = stored(&after, Generation::V0_7_0, 0, old.len()).unwrap();
        prop_assert!(found == old || found == new);
        prop_assert!(!complete || found == new);
    }

    #[test]
    fn every_generation_ends_with_the_new_value(offset in 0usize..WRITE_LIMIT, data in proptest::collection::vec(any::<u8>(), 1..600)) {
        let data = &data[..data.len().min(WRITE_LIMIT - offset)];
        for generation in [Generation::V0_4_0, Generation::V0_4_4, Generation::V0_7_0] {
            let flash = Flash::load("photon_2_old_swapped.bin");
            let mut after = flash.clone();
            let mut write = Write::new(flash.sectors(), generation, offset, data).unwrap();
            let target = write.target();
            prop_assert!(after.write(&mut write, usize::MAX));
            prop_assert_eq!(after.sectors().current(generation), Some(target));
            prop_assert_eq!(stored(&after, generation, offset, data.len()).unwrap(), data);
        }
    }
}
