//! Sectors that no firmware takes, because a few bits of their mark, or all of it, are gone.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{Flash, vector};
use spark_dct::flash::SectorId::{self, Dct1, Dct2};
use spark_dct::recovery::*;
use spark_dct::{App, Field, dcd, wiced};

const OLD: Target = Target::Wiced(wiced::Generation::V0_4_4);

fn dump(flash: &Flash) -> Dump<'_> {
    Dump::new(&flash.0[0], &flash.0[1])
}

fn nobody(_: Field, _: &[u8]) -> Judgement {
    Judgement::Unknown
}

fn standing(flash: &Flash, id: SectorId) -> (Option<Format>, Standing) {
    let candidate = dump(flash).candidate(id);
    (candidate.format, candidate.standing)
}

/// A sector of an Electron without a footer, as v1 writes it.
fn electron() -> Flash {
    let mut flash = Flash::blank();
    let sector = &mut flash.0[0];
    sector[..8].copy_from_slice(&dcd::Header::VALID.encode());
    let app = vector("photon_0_factory.bin")[wiced::APP_OFFSET..][..8391].to_vec();
    sector[dcd::APP_OFFSET..][..app.len()].copy_from_slice(&app);
    flash
}

#[test]
fn table_is_found_behind_every_wrong_bit_of_its_mark() {
    let whole = Flash::load("photon_1_old_inplace.bin");
    let expected = dump(&whole).candidate(Dct1).app.to_vec();
    for bit in 96..128 {
        let mut flash = Flash::load("photon_1_old_inplace.bin");
        flash.0[0][bit / 8] ^= 1 << (bit % 8);
        assert_eq!(standing(&flash, Dct1), (Some(Format::Wiced), Standing::MarkDamaged), "bit {bit}");
        assert_eq!(dump(&flash).select(OLD).sector, None, "bit {bit}: no firmware takes it");
        let candidate = dump(&flash).candidate(Dct1);
        assert_eq!(candidate.app, expected, "bit {bit}");

        let plan = Plan::new(dump(&flash), OLD, Options::default(), nobody).unwrap();
        assert_eq!(plan.base().id, Dct1);
        assert!(plan.confidence() > Confidence::Damaged);
        assert!(!plan.is_whole(), "bit {bit}: what hit the mark may have hit more");
        let mut sectors = [[0; 16384]; 2];
        plan.build_sectors(&mut sectors).unwrap();
        let built = wiced::Sectors::new(&sectors[0], &sectors[1]);
        assert_eq!(built.current(wiced::Generation::V0_4_4), Some(Dct1));
        assert_eq!(built.app_of(Dct1)[..4258], expected[..4258]);
    }
}

#[test]
fn eight_wrong_bits_are_a_damaged_mark_and_nine_are_none() {
    let mut flash = Flash::load("photon_1_old_inplace.bin");
    for (wrong, bit) in (96..105).enumerate() {
        if wrong > 0 {
            assert_eq!(standing(&flash, Dct1), (Some(Format::Wiced), Standing::MarkDamaged), "{wrong} bits");
        }
        flash.0[0][bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(standing(&flash, Dct1), (None, Standing::Incomplete));

    for (bits, expected) in
        [(4, (Some(Format::Dcd), Standing::MarkDamaged)), (5, (None, Standing::Incomplete))]
    {
        let mut flash = electron();
        flash.0[0][0] ^= (1_u8 << bits) - 1;
        assert_eq!(standing(&flash, Dct1), expected, "{bits} bits of the watermark");
    }
    // An unfinished write has a mark, too, but is none of these.
    let mut flash = electron();
    flash.0[0][..8].copy_from_slice(&[0x9B, 0x27, 0x1C, 0x1E, 0xFF, 0xFF, 0xFF, 0xFF]);
    assert_eq!(standing(&flash, Dct1), (None, Standing::Incomplete));
    let mut flash = Flash::load("photon_1_old_inplace.bin");
    flash.0[0][8] = 1;
    flash.0[0][12] ^= 1;
    assert_eq!(standing(&flash, Dct1), (Some(Format::Wiced), Standing::Incomplete));
}

/// Firmware that finds no valid sector starts an empty table in DCT1; the old one is still in DCT2.
#[test]
fn empty_table_that_was_started_beside_a_damaged_mark_does_not_hide_the_old_one() {
    let mut flash = Flash::load("photon_2_old_swapped.bin");
    let old = dump(&flash).candidate(Dct2).app.to_vec();
    flash.0[0] = Flash::load("photon_5_new_blank_init.bin").0[0];
    flash.0[1][12] &= 0xF0;
    assert_eq!(standing(&flash, Dct2), (Some(Format::Wiced), Standing::MarkDamaged));
    let plan = Plan::new(dump(&flash), OLD, Options::default().base(Dct2), nobody).unwrap();
    let mut app = vec![0; 8391];
    let built = plan.build_app(&mut app).unwrap();
    assert_eq!(built[..4258], old[..4258]);
    assert_eq!(
        App::new(built).unwrap().bytes(Field::DEVICE_PRIVATE_KEY),
        &old[Field::DEVICE_PRIVATE_KEY.range()]
    );
}

#[test]
fn sector_without_any_mark_is_read_as_the_caller_says() {
    let mut flash = Flash::load("photon_1_old_inplace.bin");
    let expected = dump(&flash).candidate(Dct1).app.to_vec();
    flash.0[0][..388].fill(0xFF);
    assert_eq!(standing(&flash, Dct1), (None, Standing::Incomplete));
    assert!(Plan::new(dump(&flash), OLD, Options::default(), nobody).is_err());

    let assumed = dump(&flash).assume(Format::Wiced);
    let candidates = assumed.candidates();
    assert_eq!((candidates[0].format, candidates[0].app), (Some(Format::Wiced), &expected[..]));
    assert_eq!((candidates[1].format, candidates[1].standing), (None, Standing::Blank));
    let plan = Plan::new(assumed, OLD, Options::default(), nobody).unwrap();
    assert!(!plan.is_whole());
    let mut app = vec![0; 8391];
    assert_eq!(plan.build_app(&mut app).unwrap()[..4258], expected[..4258]);
    // What has a mark is what it says.
    let electron = electron();
    assert_eq!(dump(&electron).assume(Format::Wiced).candidate(Dct1).format, Some(Format::Dcd));
}

/// The checksum of v0.7.0 and later covers the mark, so it tells whether anything else is wrong.
#[test]
fn newer_table_whose_mark_alone_is_damaged_is_the_one_that_is_recovered() {
    let target = Target::Wiced(wiced::Generation::V0_7_0);
    let whole = Flash::load("photon_4_new_second.bin");
    let newer = dump(&whole).candidate(Dct2).app.to_vec();
    for bit in 96..128 {
        let mut flash = Flash::load("photon_4_new_second.bin");
        flash.0[1][bit / 8] ^= 1 << (bit % 8);
        assert_eq!(standing(&flash, Dct2), (Some(Format::Wiced), Standing::Unfinished), "bit {bit}");
        let plan = Plan::new(dump(&flash), target, Options::default(), nobody).unwrap();
        assert_eq!((plan.base().id, plan.is_whole()), (Dct2, true), "bit {bit}");
        let mut app = vec![0; 8391];
        assert_eq!(plan.build_app(&mut app).unwrap(), &newer[..8391]);
        // With anything else wrong it is not known what.
        flash.0[1][wiced::APP_OFFSET + 100] ^= 1;
        assert_eq!(standing(&flash, Dct2), (Some(Format::Wiced), Standing::MarkDamaged), "bit {bit}");
    }
}
