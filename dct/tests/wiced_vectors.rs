//! The container against images made by the real firmware objects in an emulator.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{Flash, json, vector};
use spark_dct::wiced::*;
use spark_dct::{App, Field};

fn key_of(flash: &Flash, id: SectorId) -> Vec<u8> {
    flash.sectors().app_of(id)[34..34 + 612].to_vec()
}

/// Operations of the vectors: ("write", address, length) or ("erase", ..).
fn recorded_ops(step: usize, name: &str) -> Vec<(String, u64, u64)> {
    let scenario = json("photon_wiced.json");
    scenario["scenario"][step][name]
        .as_array()
        .unwrap()
        .iter()
        .map(|op| (op[0].as_str().unwrap().into(), op[1].as_u64().unwrap(), op[2].as_u64().unwrap()))
        .collect()
}

fn log(op: FlashOp<'_>) -> (String, u64, u64) {
    match op {
        FlashOp::Erase { sector } => {
            let first = if sector == SectorId::Dct1 { 8 } else { 16 };
            ("erase".into(), first, first)
        }
        FlashOp::Program { sector, offset, data } => {
            ("write".into(), u64::from(sector.address()) + offset as u64, data.len() as u64)
        }
        _ => panic!("unknown operation"),
    }
}

fn run(
    before: &Flash,
    generation: Generation,
    offset: usize,
    data: &[u8],
) -> (Flash, Vec<(String, u64, u64)>) {
    let mut after = before.clone();
    let mut write = Write::new(before.sectors(), generation, offset, data).unwrap();
    let mut ops = Vec::new();
    while let Some(op) = write.next_op() {
        ops.push(log(op));
        after.apply(op);
    }
    (after, ops)
}

#[test]
fn current_sector_is_the_one_that_the_firmware_chose() {
    for (file, generation, address) in [
        ("photon_0_factory.bin", Generation::V0_4_4, 0x0800_5D7C),
        ("photon_1_old_inplace.bin", Generation::V0_4_4, 0x0800_5D7C),
        ("photon_2_old_swapped.bin", Generation::V0_4_4, 0x0800_9D7C),
        ("photon_2_old_swapped.bin", Generation::V0_7_0, 0x0800_9D7C),
        ("photon_3_new_first.bin", Generation::V0_7_0, 0x0800_5D7C),
        ("photon_4_new_second.bin", Generation::V0_7_0, 0x0800_9D7C),
        ("photon_5_new_blank_init.bin", Generation::V0_7_0, 0x0800_5D7C),
    ] {
        let flash = Flash::load(file);
        let current = flash.sectors().current(generation).unwrap();
        assert_eq!(current.address() as usize + APP_OFFSET, address, "{file}");
    }
}

#[test]
fn stored_crc_is_recomputed_from_the_content() {
    for (file, id) in
        [("photon_3_new_first.bin", SectorId::Dct1), ("photon_4_new_second.bin", SectorId::Dct2)]
    {
        let flash = Flash::load(file);
        let sector = flash.sectors().sector(id);
        assert_eq!(sector_crc(sector), VersionRecord::of_sector(sector).crc, "{file}");
        assert!(matches!(flash.sectors().state(id), SectorState::Versioned { crc: CrcCheck::Good, .. }));
    }
}

#[test]
fn previous_generation_has_a_good_crc_once_its_current_byte_is_set_back() {
    let mut flash = Flash::load("photon_4_new_second.bin");
    assert!(matches!(
        flash.sectors().state(SectorId::Dct1),
        SectorState::Versioned { crc: CrcCheck::Bad { .. }, .. }
    ));
    flash.0[0][9] = 1;
    assert!(matches!(
        flash.sectors().state(SectorId::Dct1),
        SectorState::Versioned { crc: CrcCheck::Good, .. }
    ));
}

#[test]
fn old_write_over_erased_flash_is_done_in_place_as_recorded() {
    let before = Flash::load("photon_0_factory.bin");
    let after = Flash::load("photon_1_old_inplace.bin");
    let (result, ops) = run(&before, Generation::V0_4_4, 34, &key_of(&after, SectorId::Dct1));
    assert!(result == after);
    assert_eq!(ops, recorded_ops(1, "ops"));
}

#[test]
fn old_write_of_another_key_swaps_sectors_as_recorded() {
    let before = Flash::load("photon_1_old_inplace.bin");
    let after = Flash::load("photon_2_old_swapped.bin");
    let (result, ops) = run(&before, Generation::V0_4_4, 34, &key_of(&after, SectorId::Dct2));
    assert!(result == after);
    assert_eq!(ops, recorded_ops(2, "ops"));
}

#[test]
fn old_write_of_equal_data_is_one_program_operation_as_recorded() {
    let before = Flash::load("photon_2_old_swapped.bin");
    let (result, ops) = run(&before, Generation::V0_4_4, 34, &key_of(&before, SectorId::Dct2));
    assert!(result == before);
    assert_eq!(ops, recorded_ops(3, "ops"));
}

#[test]
fn first_version_does_nothing_for_equal_data_and_swaps_otherwise() {
    let before = Flash::load("photon_2_old_swapped.bin");
    let (result, ops) = run(&before, Generation::V0_4_0, 34, &key_of(&before, SectorId::Dct2));
    assert!(result == before && ops.is_empty());
    let (result, _) = run(&before, Generation::V0_4_0, 34, &[0x55; 612]);
    assert_eq!(result.sectors().current(Generation::V0_4_0), Some(SectorId::Dct1));
    assert_eq!(key_of(&result, SectorId::Dct1), [0x55; 612]);
}

#[test]
fn new_writes_give_the_recorded_images_byte_for_byte() {
    for (step, before, after) in [
        (4, "photon_2_old_swapped.bin", "photon_3_new_first.bin"),
        (5, "photon_3_new_first.bin", "photon_4_new_second.bin"),
    ] {
        let (result, ops) = run(&Flash::load(before), Generation::V0_7_0, Field::CLAIMED.offset(), b"1");
        assert!(result == Flash::load(after), "{after}");
        let scenario = json("photon_wiced.json");
        assert_eq!(ops.len() as u64, scenario["scenario"][step]["n_ops"].as_u64().unwrap());
        let last = recorded_ops(step, "last_ops");
        assert_eq!(ops[ops.len() - last.len()..], last);
        let app = App::new(result.sectors().app(Generation::V0_7_0).unwrap()).unwrap();
        assert!(app.claimed());
    }
}

#[test]
fn blank_flash_is_initialised_as_each_generation_does() {
    let scenario = json("photon_wiced.json");
    for (step, generation) in [(6, Generation::V0_7_0), (7, Generation::V0_4_4)] {
        let mut flash = Flash::blank();
        assert_eq!(flash.sectors().current(generation), None);
        let mut initialise = Initialise::new(generation);
        let mut ops = Vec::new();
        while let Some(op) = initialise.next_op() {
            // v0.7.0 erases by pages of 2 KiB, from the first to the last
            ops.push(match (log(op), generation) {
                ((erase, first, _), Generation::V0_7_0) if erase == "erase" => (erase, first, first + 7),
                (op, _) => op,
            });
            flash.apply(op);
        }
        assert_eq!(ops, recorded_ops(step, "ops"));
        let state = &scenario["scenario"][step]["state"];
        assert_eq!(flash.digests(), ["dct1", "dct2"].map(|sector| state[sector]["sha256"].as_str().unwrap()));
        if generation == Generation::V0_7_0 {
            assert!(flash == Flash::load("photon_5_new_blank_init.bin"));
        }
    }
}

#[test]
fn kept_images_have_the_recorded_digests() {
    for step in json("photon_wiced.json")["scenario"].as_array().unwrap() {
        if let Some(file) = step["file"].as_str() {
            let state = ["dct1", "dct2"].map(|sector| step["state"][sector]["sha256"].as_str().unwrap());
            assert_eq!(Flash::load(file).digests(), state, "{file}");
        }
    }
}

#[test]
fn factory_sector_equals_the_factory_image() {
    let image = Flash::load("photon_0_factory.bin");
    let mut sector = [0; SECTOR_SIZE];
    factory_sector(&image.0[0][APP_OFFSET..APP_OFFSET + 4258], &mut sector).unwrap();
    assert!(sector == image.0[0]);
    let app = App::new(image.sectors().app(Generation::V0_4_4).unwrap()).unwrap();
    assert!(app.device_private_key().is_none());
    assert!(app.server_public_key().is_some());
    assert_eq!(
        app.server_address().unwrap(),
        Some(spark_dct::ServerAddress::domain("device.spark.io", None).unwrap())
    );
}

#[test]
fn writes_behind_the_limit_are_refused() {
    let flash = Flash::load("photon_4_new_second.bin");
    for generation in [Generation::V0_4_0, Generation::V0_4_4, Generation::V0_7_0] {
        assert!(Write::new(flash.sectors(), generation, WRITE_LIMIT - 1, &[0]).is_ok());
        for (offset, data) in [(WRITE_LIMIT, &[0][..]), (WRITE_LIMIT - 1, &[0, 0]), (usize::MAX, &[0])] {
            let end = offset.saturating_add(data.len());
            assert_eq!(
                Write::new(flash.sectors(), generation, offset, data).unwrap_err(),
                WriteError::TooLong { end, limit: WRITE_LIMIT }
            );
        }
    }
    assert_eq!(
        Write::new(Flash::blank().sectors(), Generation::V0_7_0, 0, &[0]).unwrap_err(),
        WriteError::NoCurrentSector
    );
}

#[test]
fn sectors_need_both_images() {
    let bytes = vector("photon_4_new_second.bin");
    assert!(Sectors::from_slice(&bytes).is_some());
    for length in (0..bytes.len()).step_by(97).chain([32767]) {
        assert!(Sectors::from_slice(&bytes[..length]).is_none());
    }
}

#[test]
fn flipped_content_bit_makes_the_crc_bad_and_the_other_sector_is_not_current_by_chance() {
    let flash = Flash::load("photon_4_new_second.bin");
    for at in (388..16368).step_by(101) {
        let mut damaged = flash.clone();
        damaged.0[1][at] ^= 1;
        assert!(matches!(
            damaged.sectors().state(SectorId::Dct2),
            SectorState::Versioned { crc: CrcCheck::Bad { .. }, .. }
        ));
        // both bad: DCT1 only when its is_current byte is not zero
        assert_eq!(damaged.sectors().current(Generation::V0_7_0), Some(SectorId::Dct2));
        damaged.0[0][9] = 1;
        assert_eq!(damaged.sectors().current(Generation::V0_7_0), Some(SectorId::Dct1));
    }
}

#[test]
fn version_beats_legacy_and_unknown_loses() {
    let versioned = Flash::load("photon_3_new_first.bin");
    let legacy = Flash::load("photon_0_factory.bin");
    let mut both = Flash::blank();
    both.0[0] = legacy.0[0];
    both.0[1] = versioned.0[0];
    assert_eq!(both.sectors().current(Generation::V0_7_0), Some(SectorId::Dct2));
    both.0[1] = legacy.0[0];
    both.0[0][9] = 0;
    assert_eq!(
        both.sectors().current(Generation::V0_7_0),
        Some(SectorId::Dct1),
        "is_current is not consulted"
    );
    assert_eq!(both.sectors().current(Generation::V0_4_4), Some(SectorId::Dct2), "but old firmware does");
    both.0[0][12] = 0;
    assert_eq!(both.sectors().current(Generation::V0_7_0), Some(SectorId::Dct2));
}

/// A sector with that record and, unless it is to be bad, the right CRC.
fn versioned(version: u16, initial_write: u8, sequence: u8, good: bool) -> Sector {
    let mut sector = Flash::load("photon_3_new_first.bin").0[0];
    let record = VersionRecord { version, initial_write, sequence, ..VersionRecord::of_sector(&sector) };
    sector[VersionRecord::OFFSET..].copy_from_slice(&record.encode());
    let crc = sector_crc(&sector) ^ u32::from(!good);
    sector[VersionRecord::OFFSET..].copy_from_slice(&VersionRecord { crc, ..record }.encode());
    sector
}

/// As [`versioned`], with the mark of a first write, on which the CRC is not checked.
fn unchecked(sequence: u8) -> Sector {
    let mut sector = versioned(VersionRecord::CURRENT, 1, sequence, true);
    let record = VersionRecord { crc: 0, ..VersionRecord::of_sector(&sector) };
    sector[VersionRecord::OFFSET..].copy_from_slice(&record.encode());
    sector
}

#[test]
fn new_firmware_selects_by_version_then_mark_then_sequence() {
    use spark_dct::select::Reason;
    const NOW: u16 = VersionRecord::CURRENT;
    let legacy = Flash::load("photon_0_factory.bin").0[0];
    let (dct1, dct2) = (Some(SectorId::Dct1), Some(SectorId::Dct2));
    let cases = [
        // versions: the number alone, and a sector without record counts as 0330
        (versioned(NOW - 1, 0, 9, true), versioned(NOW, 0, 1, true), dct2, Reason::HigherVersion),
        (versioned(NOW, 0, 1, true), versioned(NOW - 1, 1, 9, true), dct1, Reason::HigherVersion),
        (versioned(NOW, 0, 1, false), legacy, dct1, Reason::HigherVersion),
        (versioned(0x0331, 0, 1, true), legacy, dct1, Reason::HigherVersion),
        (versioned(0x032F, 0, 1, true), legacy, dct2, Reason::HigherVersion),
        (legacy, versioned(1, 0, 1, true), dct1, Reason::HigherVersion),
        (legacy, versioned(0x0330, 0, 9, true), dct1, Reason::BothValid),
        // none at all: 0, and what is above the highest that is known
        (legacy, versioned(NOW + 1, 0, 9, true), dct1, Reason::BothValid),
        (legacy, versioned(0, 1, 9, true), dct1, Reason::BothValid),
        // the mark of a first write, of the second sector first; FF is none
        (versioned(NOW, 0, 9, true), versioned(NOW, 1, 1, true), dct2, Reason::InitialWrite),
        (versioned(NOW, 0, 9, true), versioned(NOW, 7, 1, true), dct2, Reason::InitialWrite),
        (versioned(NOW, 1, 1, true), versioned(NOW, 0, 9, true), dct1, Reason::InitialWrite),
        (versioned(NOW, 1, 1, true), versioned(NOW, 1, 9, true), dct2, Reason::InitialWrite),
        (versioned(NOW, 255, 1, true), versioned(NOW, 255, 9, true), dct2, Reason::Newer),
        (unchecked(1), versioned(NOW, 0, 9, true), dct1, Reason::InitialWrite),
        (versioned(NOW, 0, 9, true), unchecked(1), dct2, Reason::InitialWrite),
        // a wrong CRC takes the mark away
        (versioned(NOW, 0, 1, true), versioned(NOW, 7, 9, false), dct1, Reason::OnlyGoodCrc),
        (versioned(NOW, 7, 9, false), versioned(NOW, 0, 1, true), dct2, Reason::OnlyGoodCrc),
        (versioned(NOW, 0, 0, true), versioned(NOW, 0, 255, false), dct1, Reason::OnlyGoodCrc),
        // sequences: the larger number, which is not always the newer one
        (versioned(NOW, 0, 1, true), versioned(NOW, 0, 2, true), dct2, Reason::Newer),
        (versioned(NOW, 0, 255, true), versioned(NOW, 0, 0, true), dct1, Reason::SequenceWrapped),
        (versioned(NOW, 0, 3, true), versioned(NOW, 0, 254, true), dct2, Reason::SequenceWrapped),
        (versioned(NOW, 0, 127, true), versioned(NOW, 0, 0, true), dct1, Reason::Newer),
        (versioned(NOW, 0, 5, true), versioned(NOW, 0, 5, true), dct1, Reason::Tie),
        (versioned(NOW, 0, 5, false), versioned(NOW, 0, 9, false), dct1, Reason::BothCrcBad),
    ];
    for (index, (one, two, sector, reason)) in cases.iter().enumerate() {
        let selection = Sectors::new(one, two).select(Generation::V0_7_0);
        assert_eq!((selection.sector, selection.reason), (*sector, *reason), "case {index}");
    }
    let flash = Flash(Box::new([unchecked(1), [0xFF; SECTOR_SIZE]]));
    assert!(matches!(
        flash.sectors().state(SectorId::Dct1),
        SectorState::Versioned { crc: CrcCheck::Skipped, initial_write: 1, .. }
    ));
    // CRC 0 without the mark is one like any other
    let mut marked = unchecked(1);
    marked[VersionRecord::INITIAL_WRITE_AT] = 0;
    let flash = Flash(Box::new([marked, [0xFF; SECTOR_SIZE]]));
    assert!(matches!(
        flash.sectors().state(SectorId::Dct1),
        SectorState::Versioned { crc: CrcCheck::Bad { stored: 0, .. }, .. }
    ));
}

#[test]
fn edited_sections_are_read_back_and_the_sector_stays_selected() {
    let mut flash = Flash::load("photon_4_new_second.bin");
    let before = flash.clone();
    let home = AccessPoint::new(b"home", WifiSecurity::WPA2_AES, b"password").unwrap();
    let soft = SoftAp::new(b"Photon-ABCD", WifiSecurity::OPEN, 6, b"").unwrap();
    let mut edit = SectorMut::new(&mut flash.0[1]);
    edit.wifi_config().set_configured(true);
    for slot in 0..5 {
        edit.wifi_config().set_access_point(slot, &home).unwrap();
    }
    assert_eq!(edit.wifi_config().set_access_point(5, &home), Err(SectionError::Slot { slot: 5 }));
    edit.wifi_config().clear_access_point(3).unwrap();
    edit.wifi_config().set_soft_ap(&soft);
    edit.wifi_config().set_config_ap(&soft);
    edit.wifi_config().set_country(0x5553);
    edit.wifi_config().set_mac_address([1, 2, 3, 4, 5, 6]);
    edit.set_mfg_text(MfgText::Serial, b"0123456789").unwrap();
    edit.set_private_key(b"key").unwrap();
    edit.set_certificate(b"certificate").unwrap();
    edit.set_cooee_key(&[7; 16]);
    edit.set_network_config(0, b"photon").unwrap();
    assert!(edit.set_network_config(0, &[b'x'; 33]).is_err());
    assert!(edit.set_mfg_text(MfgText::BomRevision, b"123456789").is_err());
    edit.seal();

    let view = SectorView::new(&flash.0[1]);
    let wifi = view.wifi_config();
    assert!(wifi.is_configured());
    assert_eq!(wifi.access_point(4), Some(home));
    assert!(!wifi.access_point(3).unwrap().is_used());
    assert_eq!(wifi.access_point(5), None);
    assert_eq!((wifi.soft_ap(), wifi.config_ap()), (soft, soft));
    assert_eq!((wifi.country(), wifi.mac_address()), (0x5553, &[1, 2, 3, 4, 5, 6]));
    assert_eq!(view.mfg_info().text(MfgText::Serial), Some(&b"0123456789"[..]));
    assert_eq!(view.header().mfg_info_programmed(), 1);
    assert_eq!(view.security().private_key(), Some(&b"key"[..]));
    assert_eq!(view.security().certificate(), Some(&b"certificate"[..]));
    assert_eq!(view.security().cooee_key(), Some(&[7; 16]));
    assert_eq!(view.network_config().hostname(), Some(&b"photon"[..]));
    assert!(!format!("{view:?} {wifi:?} {:?}", view.security()).contains("password"));
    // the application section is not touched, and firmware still selects the sector
    assert_eq!(view.app()[..8784], before.0[1][APP_OFFSET..][..8784]);
    assert_eq!(flash.sectors().current(Generation::V0_7_0), Some(SectorId::Dct2));
    assert!(matches!(
        flash.sectors().state(SectorId::Dct2),
        SectorState::Versioned { crc: CrcCheck::Good, .. }
    ));
}
