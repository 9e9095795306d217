//! The Electron's container against images made by the real firmware code.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{Flash, json};
use proptest::prelude::*;
use spark_dct::dcd::*;
use spark_dct::flash::{FlashOp, SectorId};
use spark_dct::select::Reason;
use spark_dct::{App, Field};

fn generation(code: &str) -> Generation {
    if code.starts_with("v1") { Generation::V1 } else { Generation::V2 }
}

fn number(text: &str) -> usize {
    text.strip_prefix("0x")
        .map_or_else(|| text.parse().unwrap(), |hex| usize::from_str_radix(hex, 16).unwrap())
}

/// `off=34 len=608` and so on.
fn word(line: &str, name: &str) -> String {
    let start = line.find(&format!("{name}=")).unwrap() + name.len() + 1;
    line[start..].split(' ').next().unwrap().to_owned()
}

/// The data that the scenario wrote is known where an image was kept; the last key comes from the other vectors.
fn written(label: &str, len: usize) -> Vec<u8> {
    let app = |file: &str, sector: SectorId| Flash::load(file).dcd().app_of(sector, Generation::V2).to_vec();
    match label {
        "v2 writes a 608-byte key at 34" => {
            app("electron_1_v2_written.bin", SectorId::Dct2)[34..][..len].to_vec()
        }
        "v2 writes transport byte" => vec![0],
        "v1 code then writes claimed" => vec![b'1'],
        "v2 code reads and writes again" => {
            let photon = Flash::load("photon_2_old_swapped.bin");
            photon.sectors().app_of(SectorId::Dct2)[34..][..len].to_vec()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn every_step_of_the_recorded_scenario_gives_the_recorded_sectors() {
    let mut flash = Flash::load("electron_0_factory.bin");
    let (mut reads, mut writes, mut files) = (0, 0, 0);
    for step in json("electron_dcd.json")["scenario"].as_array().unwrap() {
        let label = step["label"].as_str().unwrap();
        let generation = generation(step["code"].as_str().unwrap());
        for line in step["log"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()) {
            let offset = number(&word(line, "off"));
            if line.starts_with("write") {
                let data = written(label, number(&word(line, "len")));
                let before = flash.clone();
                let ops = flash.run_dcd(Write::new(before.dcd(), generation, offset, &data).unwrap());
                assert_eq!(ops, number(&word(line, "ops")), "{label}");
                writes += 1;
            } else {
                let id = flash.dcd().current(generation).unwrap();
                assert_eq!(0x4000 * (id.index() + 1), number(&word(line, "base")), "{label}");
                let data = hex::decode(word(line, "data")).unwrap();
                assert!(flash.dcd().app(generation).unwrap()[offset..].starts_with(&data), "{label}");
                reads += 1;
            }
        }
        let state = ["sector0", "sector1"].map(|sector| step["state"][sector]["sha256"].as_str().unwrap());
        assert_eq!(flash.digests(), state, "{label}");
        if let Some(file) = step["file"].as_str() {
            assert!(flash == Flash::load(file), "{file}");
            files += 1;
        }
    }
    assert_eq!((reads, writes, files), (7, 4, 3));
}

/// What firmware reads after a cut before each operation, and after none.
fn cuts(
    before: &Flash,
    generation: Generation,
    offset: usize,
    data: &[u8],
) -> Vec<(Option<SectorId>, Option<Vec<u8>>)> {
    let mut results = Vec::new();
    for limit in 0.. {
        let mut flash = before.clone();
        let mut write = Write::new(before.dcd(), generation, offset, data).unwrap();
        let mut complete = false;
        for step in 0..=limit {
            match write.next_op() {
                None => complete = true,
                Some(op) if step < limit => flash.apply(op),
                Some(_) => {}
            }
        }
        let app = flash.dcd().app(generation).map(|app| app[offset..offset + data.len()].to_vec());
        results.push((flash.dcd().current(generation), app));
        if complete {
            return results;
        }
    }
    unreachable!()
}

#[test]
fn a_cut_never_mixes_old_and_new() {
    for (file, generation) in [
        ("electron_1_v2_written.bin", Generation::V2),
        ("electron_2_v2_second.bin", Generation::V2),
        ("electron_3_v1_after_v2.bin", Generation::V2),
        ("electron_0_factory.bin", Generation::V1),
        ("electron_3_v1_after_v2.bin", Generation::V1),
    ] {
        let flash = Flash::load(file);
        let old = flash.dcd().app(generation).unwrap()[34..646].to_vec();
        let new = vec![0x33; 612];
        let results = cuts(&flash, generation, 34, &new);
        assert!(results.len() >= 6);
        for (cut, (_, found)) in results.iter().enumerate() {
            assert!(found.as_ref() == Some(&old) || found.as_ref() == Some(&new), "{file} cut {cut}");
        }
        assert_eq!(results.last().unwrap().1.as_ref(), Some(&new), "{file}");
    }
}

#[test]
fn v2_reads_the_new_value_as_soon_as_the_header_is_there_and_crc_of_both_is_good() {
    let flash = Flash::load("electron_2_v2_second.bin");
    let results = cuts(&flash, Generation::V2, 34, &[0x33; 612]);
    let turn = results.iter().position(|(_, found)| found.as_deref() == Some(&[0x33; 612][..])).unwrap();
    // only the old seal is left then
    assert_eq!(results.len() - 1 - turn, 1);
}

#[test]
fn v1_between_two_seals_prefers_the_second_sector_even_where_it_is_the_older_one() {
    // current is DCT2: a v1 write goes to DCT1, and before the old seal is cleared both are valid
    let flash = Flash::load("electron_3_v1_after_v2.bin");
    assert_eq!(flash.dcd().current(Generation::V1), Some(SectorId::Dct2));
    let before = flash.clone();
    let mut write = Write::new(before.dcd(), Generation::V1, 1825, b"0").unwrap();
    let mut after = flash.clone();
    for _ in 0..5 {
        after.apply(write.next_op().unwrap());
    }
    let selected = after.dcd().select(Generation::V1);
    assert_eq!((selected.sector, selected.reason), (Some(SectorId::Dct2), Reason::BothValid));
    assert!(App::new(after.dcd().app(Generation::V1).unwrap()).unwrap().claimed());
    after.apply(write.next_op().unwrap());
    assert!(write.next_op().is_none());
    assert!(!App::new(after.dcd().app(Generation::V1).unwrap()).unwrap().claimed());
}

#[test]
fn selection_of_v2_follows_seal_and_crc() {
    let good = Flash::load("electron_2_v2_second.bin");
    let select = |flash: &Flash| {
        let selection = flash.dcd().select(Generation::V2);
        (selection.sector, selection.reason)
    };
    assert_eq!(select(&good), (Some(SectorId::Dct1), Reason::OtherReplaced));
    let mut damaged = good.clone();
    damaged.0[0][5000] ^= 1;
    assert_eq!(select(&damaged), (Some(SectorId::Dct2), Reason::FallBack));
    // both seals valid: CRC, then counter
    let mut both = good.clone();
    both.0[1][4..8].copy_from_slice(&Seal::Valid.to_u32().to_le_bytes());
    assert_eq!(select(&both), (Some(SectorId::Dct1), Reason::Newer));
    both.0[0][5000] ^= 1;
    assert_eq!(select(&both), (Some(SectorId::Dct2), Reason::OnlyGoodCrc));
    both.0[1][5000] ^= 1;
    assert_eq!(select(&both), (Some(SectorId::Dct2), Reason::BothCrcBad));
    both.0[0][5000] ^= 1;
    assert_eq!(select(&both), (Some(SectorId::Dct1), Reason::OnlyGoodCrc));
    // the same generation twice
    let mut twice = good.clone();
    twice.0[1] = good.0[0];
    assert_eq!(select(&twice), (Some(SectorId::Dct1), Reason::Tie));
    // cleared by v1: the CRC is not asked
    let v1 = Flash::load("electron_3_v1_after_v2.bin");
    assert!(!v1.dcd().state(SectorId::Dct2).is_crc_good());
    assert_eq!(select(&v1), (Some(SectorId::Dct2), Reason::OnlyValid));
    assert_eq!(select(&Flash::blank()), (None, Reason::NoneValid));
    // the watermark of the other sector is not asked either
    let mut odd = good;
    odd.0[1][0] = 0;
    odd.0[0][5000] ^= 1;
    assert_eq!(select(&odd), (Some(SectorId::Dct2), Reason::FallBack));
}

#[test]
fn blank_flash_is_initialised_where_each_generation_does_it() {
    for (generation, id) in [(Generation::V1, SectorId::Dct1), (Generation::V2, SectorId::Dct2)] {
        let mut flash = Flash::blank();
        assert_eq!(flash.dcd().current(generation), None);
        assert_eq!(Write::new(flash.dcd(), generation, 0, &[0]).unwrap_err(), WriteError::NoCurrentSector);
        let before = flash.clone();
        flash.run_dcd(Write::initialise(before.dcd(), generation));
        assert_eq!(flash.dcd().current(generation), Some(id));
        assert!(flash.dcd().app(generation).unwrap().iter().all(|byte| *byte == 0xFF));
        assert_eq!(flash.dcd().state(id).is_crc_good(), generation == Generation::V2);
        assert!(flash.0[id.other().index()].iter().all(|byte| *byte == 0xFF));
    }
}

#[test]
fn table_of_the_other_container_is_migrated() {
    for generation in [Generation::V1, Generation::V2] {
        for (file, old) in
            [("photon_1_old_inplace.bin", SectorId::Dct1), ("photon_2_old_swapped.bin", SectorId::Dct2)]
        {
            let flash = Flash::load(file);
            let app = flash.sectors().app_of(old).to_vec();
            let mut after = flash.clone();
            let write = Write::migrate(flash.dcd(), generation).unwrap();
            assert_eq!(write.target(), old.other());
            after.run_dcd(write);
            assert_eq!(after.dcd().current(generation), Some(old.other()), "{file}");
            let migrated = after.dcd().app(generation).unwrap();
            assert_eq!(migrated[..app.len()], app);
            assert!(migrated[app.len()..].iter().all(|byte| *byte == 0xFF));
            if generation == Generation::V2 {
                assert!(after.dcd().state(old.other()).is_crc_good());
            }
            // once only
            assert!(Write::migrate(after.dcd(), generation).is_none());
        }
    }
    assert!(Write::migrate(Flash::blank().dcd(), Generation::V1).is_none());
}

#[test]
fn writes_behind_the_section_are_refused_with_the_firmwares_numbers() {
    let flash = Flash::load("electron_2_v2_second.bin");
    for (generation, limit) in [(Generation::V1, 16376), (Generation::V2, 16344)] {
        assert_eq!(generation.app_len(), limit);
        assert!(Write::new(flash.dcd(), generation, limit - 1, &[0]).is_ok());
        let offset = Write::new(flash.dcd(), generation, limit, &[0]).unwrap_err();
        assert_eq!((offset, offset.code()), (WriteError::Offset { offset: limit, limit }, Some(1)));
        let length = Write::new(flash.dcd(), generation, limit - 1, &[0, 0]).unwrap_err();
        assert_eq!((length, length.code()), (WriteError::Length { end: limit + 1, limit }, Some(2)));
        let mut nothing = Write::new(flash.dcd(), generation, 5, &[]).unwrap();
        assert!(nothing.next_op().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn alternating_generations_keep_what_was_written(
        steps in proptest::collection::vec((any::<bool>(), 0usize..9000, proptest::collection::vec(any::<u8>(), 1..300)), 1..12)
    ) {
        let mut flash = Flash::load("electron_0_factory.bin");
        let mut model = flash.dcd().app(Generation::V2).unwrap().to_vec();
        for (v1, offset, data) in steps {
            let generation = if v1 { Generation::V1 } else { Generation::V2 };
            let before = flash.clone();
            let write = Write::new(before.dcd(), generation, offset, &data).unwrap();
            let target = write.target();
            flash.run_dcd(write);
            model[offset..offset + data.len()].copy_from_slice(&data);
            for reader in [Generation::V1, Generation::V2] {
                prop_assert_eq!(flash.dcd().current(reader), Some(target));
                prop_assert!(flash.dcd().app(reader).unwrap()[..model.len()] == model[..]);
            }
        }
    }

    #[test]
    fn any_sectors_are_looked_at_and_written_without_panic(
        patches in proptest::collection::vec((any::<bool>(), prop_oneof![0usize..8, 16352usize..16384, 0usize..16384], any::<u8>()), 0..40),
        offset in 0usize..17000, data in proptest::collection::vec(any::<u8>(), 0..600)
    ) {
        let mut flash = Flash::load("electron_2_v2_second.bin");
        for (second, at, byte) in patches {
            flash.0[usize::from(second)][at] = byte;
        }
        for generation in [Generation::V1, Generation::V2] {
            let before = flash.clone();
            if let Ok(mut write) = Write::new(before.dcd(), generation, offset, &data) {
                let mut after = flash.clone();
                while let Some(op) = write.next_op() {
                    if let FlashOp::Program { offset, data, .. } = op {
                        prop_assert!(!data.is_empty() && offset + data.len() <= 16384);
                    }
                    after.apply(op);
                }
            }
        }
    }
}

#[test]
fn factory_image_has_nothing_but_an_empty_table() {
    let flash = Flash::load("electron_0_factory.bin");
    let app = App::new(flash.dcd().app(Generation::V1).unwrap()).unwrap();
    assert!(app.device_private_key().is_none() && !app.claimed());
    assert!(app.is_erased(Field::ALT_DEVICE_PRIVATE_KEY));
}
