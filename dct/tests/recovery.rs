//! Recovery of containers that were cut and torn at every operation, and of recorded images.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{Flash, vector};
use proptest::prelude::*;
use spark_dct::flash::{FlashOp, SectorId};
use spark_dct::recovery::*;
use spark_dct::select::Reason;
use spark_dct::{App, AppMut, Entry, Field, dcd, wiced};

const KEY: Field = Field::DEVICE_PRIVATE_KEY;
const FIELDS: usize = 8391;

fn key(seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) | 0x1234_5600;
    let mut bytes: Vec<u8> = (0..608)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect();
    bytes[..4].copy_from_slice(&[0x30, 0x82, 0x02, 0x5C]);
    bytes[607] = 1;
    bytes.extend([0xFF; 4]);
    bytes
}

fn judge_of<'a>(known: &'a [&'a [u8]]) -> impl FnMut(Field, &[u8]) -> Judgement + 'a {
    move |field, bytes| match field {
        KEY if known.contains(&&bytes[..612]) => Judgement::Valid,
        KEY => Judgement::Invalid,
        _ => Judgement::Unknown,
    }
}

fn nobody(_: Field, _: &[u8]) -> Judgement {
    Judgement::Unknown
}

fn app_of(flash: &Flash, target: Target, id: SectorId) -> Vec<u8> {
    let app = match target {
        Target::Wiced(_) => flash.sectors().app_of(id),
        Target::Dcd(generation) => flash.dcd().app_of(id, generation),
        _ => panic!("unknown target"),
    };
    app[..FIELDS].to_vec()
}

fn dump(flash: &Flash) -> Dump<'_> {
    Dump::new(&flash.0[0], &flash.0[1])
}

/// An operation with data of its own.
#[derive(Clone)]
enum Op {
    Erase(SectorId),
    Program(SectorId, usize, Vec<u8>),
}

fn own(op: FlashOp<'_>) -> Op {
    match op {
        FlashOp::Erase { sector } => Op::Erase(sector),
        FlashOp::Program { sector, offset, data } => Op::Program(sector, offset, data.to_vec()),
        _ => panic!("unknown operation"),
    }
}

fn ops(before: &Flash, target: Target, offset: usize, data: &[u8]) -> Vec<Op> {
    let mut list = Vec::new();
    match target {
        Target::Wiced(generation) => {
            let mut write = wiced::Write::new(before.sectors(), generation, offset, data).unwrap();
            while let Some(op) = write.next_op() {
                list.push(own(op));
            }
        }
        Target::Dcd(generation) => {
            let mut write = dcd::Write::new(before.dcd(), generation, offset, data).unwrap();
            while let Some(op) = write.next_op() {
                list.push(own(op));
            }
        }
        _ => panic!("unknown target"),
    }
    list
}

fn run(flash: &mut Flash, op: &Op) {
    match op {
        Op::Erase(sector) => flash.apply(FlashOp::Erase { sector: *sector }),
        Op::Program(sector, offset, data) => {
            flash.apply(FlashOp::Program { sector: *sector, offset: *offset, data });
        }
    }
}

/// The operation as a power cut leaves it: only some bytes, or only some bits of each.
fn tear(flash: &mut Flash, op: &Op, how: usize) {
    let noise = |at: usize| u8::try_from((at * 167 + how * 59) % 251).unwrap();
    match op {
        Op::Program(sector, offset, data) => {
            let torn: Vec<u8> = match how {
                0 => data[..data.len() / 2].to_vec(),
                1 => data[..data.len().saturating_sub(1)].to_vec(),
                2 => data[..data.len().min(3)].to_vec(),
                // single bits that are not yet cleared
                _ => data.iter().enumerate().map(|(at, byte)| byte | noise(at)).collect(),
            };
            flash.apply(FlashOp::Program { sector: *sector, offset: *offset, data: &torn });
        }
        Op::Erase(sector) => {
            let cells = &mut flash.0[sector.index()];
            match how {
                0 => cells[..8192].fill(0xFF),
                1 => cells[8192..].fill(0xFF),
                2 => cells[2000..].fill(0xFF),
                _ => cells.iter_mut().enumerate().for_each(|(at, cell)| *cell |= noise(at)),
            }
        }
    }
}

/// Every state that a cut can leave: before each operation, in the middle of it in four ways, and after the last.
fn states(before: &Flash, ops: &[Op]) -> Vec<Flash> {
    let mut all = Vec::new();
    let mut flash = before.clone();
    for op in ops {
        all.push(flash.clone());
        for how in 0..4 {
            let mut torn = flash.clone();
            tear(&mut torn, op, how);
            all.push(torn);
        }
        run(&mut flash, op);
    }
    all.push(flash);
    all
}

/// One of [`states`], without the others: five for each operation, and one behind them.
fn state(before: &Flash, ops: &[Op], index: usize) -> Flash {
    let mut flash = before.clone();
    ops[..index / 5].iter().for_each(|op| run(&mut flash, op));
    if let (Some(op), how @ 1..) = (ops.get(index / 5), index % 5) {
        tear(&mut flash, op, how - 1);
    }
    flash
}

fn start(target: Target, old: &[u8]) -> Flash {
    let file = match target {
        Target::Wiced(wiced::Generation::V0_7_0) => "photon_4_new_second.bin",
        Target::Wiced(_) => "photon_2_old_swapped.bin",
        Target::Dcd(dcd::Generation::V1) => "electron_3_v1_after_v2.bin",
        _ => "electron_2_v2_second.bin",
    };
    let mut flash = Flash::load(file);
    for (field, data) in [(KEY, old), (Field::CLAIMED, b"1"), (Field::SSID_PREFIX, b"\x06Photon")] {
        for op in ops(&flash.clone(), target, field.offset(), data) {
            run(&mut flash, &op);
        }
    }
    flash
}

/// What holds for every plan, whatever the state.
fn check(plan: &Plan<'_>, target: Target, truths: [&[u8]; 2], keys: [&[u8]; 2]) {
    let state = plan.base().standing;
    for decision in plan.decisions() {
        let bytes = plan.bytes(decision);
        match decision.confidence {
            // as stored means: as one of the two generations was; and here, where one write was cut, so does plausible
            Confidence::Stored | Confidence::Plausible => {
                let range = decision.field.range();
                assert!(truths.iter().any(|truth| &truth[range.clone()] == bytes), "{state}: {decision}");
            }
            Confidence::Judged => {
                assert!(keys.iter().any(|key| bytes.starts_with(key)), "{state}: {decision}");
            }
            _ => {}
        }
    }
    let mut app = vec![0; FIELDS];
    let app = plan.build_app(&mut app).unwrap().to_vec();
    for decision in plan.decisions().iter().filter(|decision| decision.field.end() <= app.len()) {
        assert!(app[decision.field.offset()..].starts_with(plan.bytes(decision)), "{decision}");
    }
    let mut sectors = Box::new([[0; 16384]; 2]);
    plan.build_sectors(&mut sectors).unwrap();
    let repaired = Flash(sectors);
    let selection = dump(&repaired).select(target);
    assert_eq!((selection.sector, selection.reason), (Some(SectorId::Dct1), Reason::OnlyValid), "{state}");
    assert_eq!(app_of(&repaired, target, SectorId::Dct1)[..app.len()], app);
    let good = match target {
        Target::Wiced(wiced::Generation::V0_7_0) | Target::Dcd(dcd::Generation::V2) => Standing::Verified,
        _ => Standing::Unchecked,
    };
    assert_eq!(dump(&repaired).candidate(SectorId::Dct1).standing, good);
}

fn every_cut(target: Target, mut each: impl FnMut(&Flash, [&[u8]; 2], [&[u8]; 2])) {
    let (old_key, new_key) = (key(7), key(99));
    let before = start(target, &old_key);
    let list = ops(&before, target, KEY.offset(), &new_key);
    let states = states(&before, &list);
    let current = |flash: &Flash| app_of(flash, target, dump(flash).select(target).sector.unwrap());
    let (old, new) = (current(&before), current(states.last().unwrap()));
    assert_eq!(old[KEY.offset()..][..612], old_key);
    assert_eq!(new[KEY.offset()..][..612], new_key);
    assert_eq!(states.len(), 5 * list.len() + 1);
    assert!(
        *states.last().unwrap() == state(&before, &list, 5 * list.len())
            && states[7] == state(&before, &list, 7)
    );
    for state in &states {
        each(state, [&old, &new], [&old_key, &new_key]);
    }
}

#[test]
fn without_mixing_everything_comes_from_one_sector_and_no_confidence_is_false() {
    for target in Target::ALL {
        every_cut(target, |flash, truths, keys| {
            for judged in [false, true] {
                let plan = if judged {
                    Plan::new(dump(flash), target, Options::default(), judge_of(&keys))
                } else {
                    Plan::new(dump(flash), target, Options::default(), nobody)
                }
                .unwrap();
                assert!(!plan.is_mixed());
                check(&plan, target, truths, keys);
                let whole = plan.base().app;
                assert!(plan.decisions().iter().all(|d| plan.bytes(d) == &whole[d.field.range()]));
            }
        });
    }
}

#[test]
fn formats_with_a_checksum_always_give_back_one_whole_generation() {
    for target in [Target::Wiced(wiced::Generation::V0_7_0), Target::Dcd(dcd::Generation::V2)] {
        every_cut(target, |flash, truths, keys| {
            let plan = Plan::new(dump(flash), target, Options::default(), nobody).unwrap();
            assert!(plan.confidence() == Confidence::Stored, "{plan:?}");
            let mut app = vec![0; FIELDS];
            let app = plan.build_app(&mut app).unwrap();
            assert!(truths.iter().any(|truth| *truth == app));
            check(&plan, target, truths, keys);
        });
    }
}

#[test]
fn with_the_new_key_at_hand_every_cut_ends_with_a_good_key() {
    for target in Target::ALL {
        every_cut(target, |flash, truths, keys| {
            let written = [(KEY, keys[1])];
            let options = Options::default().mix(true).written(&written);
            let plan = Plan::new(dump(flash), target, options, judge_of(&keys)).unwrap();
            let decision = plan.decision(KEY);
            assert_eq!(decision.confidence, Confidence::Judged, "{decision}");
            let bytes = plan.bytes(&decision);
            assert!(keys.iter().any(|key| bytes.starts_with(key)), "{decision}");
            // mixed exactly where the decision says so
            let mixed = plan.decisions().iter().any(|d| d.source != Source::Sector(plan.base().id));
            assert_eq!(plan.is_mixed(), mixed);
            assert!(plan.decisions().iter().all(|d| d.better.is_none()));
            check(&plan, target, truths, keys);
        });
    }
}

#[test]
fn without_mixing_a_better_source_is_named_and_not_taken() {
    let target = Target::Wiced(wiced::Generation::V0_4_4);
    let mut named = 0;
    every_cut(target, |flash, _, keys| {
        let written = [(KEY, keys[1])];
        let plan =
            Plan::new(dump(flash), target, Options::default().written(&written), judge_of(&keys)).unwrap();
        let decision = plan.decision(KEY);
        if decision.confidence == Confidence::Damaged {
            assert_eq!(decision.why, Why::MixingNotAllowed);
            assert!(decision.better.is_some());
            named += 1;
        }
    });
    assert!(named > 10, "{named}");
}

#[test]
fn in_place_damage_is_named_for_what_it_is() {
    let target = Target::Wiced(wiced::Generation::V0_4_4);
    let (old_key, new_key) = (key(7), key(99));
    let before = start(target, &old_key);
    let list = ops(&before, target, KEY.offset(), &new_key);
    let mut flash = before.clone();
    run(&mut flash, &list[0]);
    let live = dump(&flash).select(target).sector.unwrap();
    // alone, nothing tells: the caller may know the new key, or an old backup
    let damaged = app_of(&flash, target, live)[KEY.range()].to_vec();
    let backup = app_of(&before, target, live)[KEY.range()].to_vec();
    let new_field = [&new_key[..], &backup[612..]].concat();
    assert_eq!(sign_of(&damaged, Some(&backup), Some(&new_field)), Some(Sign::And));
    assert!(matches!(sign_of(&damaged, None, Some(&new_field)), Some(Sign::BitsCleared { .. })));
    let written = [(KEY, &new_key[..])];
    let plan = Plan::new(dump(&flash), target, Options::default().written(&written), nobody).unwrap();
    let decision = plan.decision(KEY);
    assert!(matches!(decision.sign, Some(Sign::BitsCleared { .. })), "{decision}");
    assert_eq!((decision.confidence, decision.better), (Confidence::Damaged, Some(Source::Given)));
    // nothing is known about the key alone, and nothing is claimed
    let plan = Plan::new(dump(&flash), target, Options::default(), nobody).unwrap();
    assert!(plan.decision(KEY).confidence <= Confidence::Unknown);

    // with the other sector complete, the AND against it shows
    for op in &list[1..list.len() - 1] {
        run(&mut flash, op);
    }
    let plan = Plan::new(dump(&flash), target, Options::default(), nobody).unwrap();
    let other = plan.base().id.other();
    assert_eq!(plan.decision(KEY).better, Some(Source::Sector(other)));
    let plan = Plan::new(dump(&flash), target, Options::default().mix(true), nobody).unwrap();
    assert_eq!(plan.decision(KEY).source, Source::Sector(other));
    assert_eq!(plan.decision(KEY).why, Why::BaseDamaged);
    assert!(plan.bytes(&plan.decision(KEY)).starts_with(&new_key));
    assert_eq!(plan.decision(Field::CLAIMED).confidence, Confidence::Plausible);
}

/// A pair of v0.6.4 whose sectors are alike but for the server's key.
fn pair_with_server_keys(keys: [&[u8]; 2]) -> Flash {
    let mut flash = Flash::load("photon_0_factory.bin");
    let [dct1, dct2] = &mut *flash.0;
    *dct2 = *dct1;
    for (sector, key) in [dct1, dct2].into_iter().zip(keys) {
        sector[wiced::APP_OFFSET + Field::SERVER_PUBLIC_KEY.offset()..][..key.len()].copy_from_slice(key);
    }
    flash
}

#[test]
fn half_written_public_key_is_damaged_although_it_reads() {
    let target = Target::Wiced(wiced::Generation::V0_4_4);
    let (old, new) = (key(7), key(99));
    let and: Vec<u8> = old.iter().zip(&new).map(|(old, new)| old & new).collect();
    let flash = pair_with_server_keys([&and, &old]);
    for written in [&[(Field::SERVER_PUBLIC_KEY, &new[..])][..], &[]] {
        let plan = Plan::new(dump(&flash), target, Options::default().written(written), nobody).unwrap();
        let decision = plan.decision(Field::SERVER_PUBLIC_KEY);
        assert_eq!((plan.base().id, decision.confidence), (SectorId::Dct1, Confidence::Damaged));
        assert_eq!(decision.better, Some(Source::Sector(SectorId::Dct2)), "{decision}");
        assert_eq!(plan.confidence(), Confidence::Damaged);
    }
}

#[test]
fn good_value_is_not_blamed_for_the_bits_that_the_other_sector_lost_or_gained() {
    let target = Target::Wiced(wiced::Generation::V0_4_4);
    let (old, new) = (key(7), key(99));
    let and: Vec<u8> = old.iter().zip(&new).map(|(old, new)| old & new).collect();
    let flash = pair_with_server_keys([&old, &and]);
    let plan = Plan::new(dump(&flash), target, Options::default().mix(true), nobody).unwrap();
    let decision = plan.decision(Field::SERVER_PUBLIC_KEY);
    assert_eq!((decision.source, decision.why), (Source::Sector(SectorId::Dct1), Why::Base), "{decision}");
    assert_eq!(decision.confidence, Confidence::Unknown);

    // the erase of the other sector was interrupted
    let mut flash = pair_with_server_keys([&old, &old]);
    flash.0[1][wiced::APP_OFFSET..].iter_mut().step_by(2).for_each(|byte| *byte |= 0x5A);
    assert_eq!(dump(&flash).candidate(SectorId::Dct2).standing, Standing::PartlyErased);
    let plan = Plan::new(dump(&flash), target, Options::default(), nobody).unwrap();
    let decision = plan.decision(Field::SERVER_PUBLIC_KEY);
    assert_eq!((decision.sign, decision.confidence), (None, Confidence::Unknown), "{decision}");
}

#[test]
fn recorded_images_have_their_standing_and_order() {
    use SectorId::{Dct1, Dct2};
    for (file, standings, newer) in [
        ("photon_0_factory.bin", [Standing::Unchecked, Standing::Blank], None),
        ("photon_2_old_swapped.bin", [Standing::Blank, Standing::Unchecked], None),
        ("photon_3_new_first.bin", [Standing::Verified, Standing::Unchecked], Some(Dct1)),
        ("photon_4_new_second.bin", [Standing::Replaced, Standing::Verified], Some(Dct2)),
        ("photon_5_new_blank_init.bin", [Standing::Unchecked, Standing::Blank], None),
        ("electron_1_v2_written.bin", [Standing::Unchecked, Standing::Verified], Some(Dct2)),
        ("electron_2_v2_second.bin", [Standing::Verified, Standing::Replaced], Some(Dct1)),
        ("electron_3_v1_after_v2.bin", [Standing::Replaced, Standing::Unchecked], Some(Dct2)),
    ] {
        let flash = Flash::load(file);
        let dump = dump(&flash);
        for (id, expected) in [(Dct1, standings[0]), (Dct2, standings[1])] {
            assert_eq!(dump.candidate(id).standing, expected, "{file} {id:?}");
        }
        assert_eq!(dump.newer(), newer, "{file}");
    }
}

#[test]
fn newer_table_without_a_checksum_is_taken_until_it_shows_damage() {
    let mut flash = Flash::load("electron_3_v1_after_v2.bin");
    let target = Target::Dcd(dcd::Generation::V2);
    let plan = Plan::new(dump(&flash), target, Options::default(), nobody).unwrap();
    assert_eq!(plan.base().id, SectorId::Dct2, "what the device has worked with since");
    assert!(!plan.is_mixed() && plan.confidence() > Confidence::Damaged);

    let key = Field::DEVICE_PRIVATE_KEY.offset() + 8;
    flash.0[1][key + 200..key + 600].fill(0xFF);
    let plan = Plan::new(dump(&flash), target, Options::default(), nobody).unwrap();
    assert_eq!(plan.base().id, SectorId::Dct1, "the older one is whole and checked");
    let wanted = Options::default().base(SectorId::Dct2);
    assert_eq!(Plan::new(dump(&flash), target, wanted, nobody).unwrap().base().id, SectorId::Dct2);
}

#[test]
fn wrong_crc_is_told_from_a_write_that_has_none() {
    let mut flash = Flash::load("electron_2_v2_second.bin");
    flash.0[0][5000] ^= 1;
    assert!(matches!(dump(&flash).candidate(SectorId::Dct1).standing, Standing::CrcBad { .. }));
    let mut flash = Flash::load("photon_4_new_second.bin");
    flash.0[1][9000] ^= 1;
    let standing = dump(&flash).candidate(SectorId::Dct2).standing;
    assert!(matches!(standing, Standing::CrcBad { .. }));
    assert!(standing.to_string().starts_with("damaged: CRC "), "{standing}");
    // both firmware generations of the Electron write without complaint over each other
    let flash = Flash::load("electron_3_v1_after_v2.bin");
    assert_eq!(dump(&flash).candidate(SectorId::Dct2).standing, Standing::Unchecked);
}

#[test]
fn sizes_are_what_the_readme_says() {
    assert!(size_of::<wiced::Write<'_>>() < 550, "{}", size_of::<wiced::Write<'_>>());
    assert!(size_of::<dcd::Write<'_>>() < 200, "{}", size_of::<dcd::Write<'_>>());
    assert!(size_of::<Plan<'_>>() < 8192, "{}", size_of::<Plan<'_>>());
}

#[test]
fn every_firmware_is_told_with_its_reason() {
    let flash = Flash::load("photon_4_new_second.bin");
    let found = Target::ALL.map(|target| {
        let selection = dump(&flash).select(target);
        (selection.sector, selection.reason)
    });
    assert_eq!(
        found,
        [
            (Some(SectorId::Dct2), Reason::OnlyValid),
            (Some(SectorId::Dct2), Reason::OnlyValid),
            (Some(SectorId::Dct2), Reason::OnlyGoodCrc),
            (None, Reason::NoneValid),
            (None, Reason::NoneValid),
        ]
    );
    assert!(Reason::NoneValid.to_string().contains("all data is gone"));
}

#[test]
fn a_sector_whose_last_mark_is_missing_is_found_and_checked() {
    let mut flash = Flash::load("photon_4_new_second.bin");
    flash.0[1][8] = 1;
    assert_eq!(dump(&flash).candidate(SectorId::Dct2).standing, Standing::Unfinished);
    // the firmware reads the older one, and so does the plan; the newer one is there for who asks
    let target = Target::Wiced(wiced::Generation::V0_7_0);
    let plan = Plan::new(dump(&flash), target, Options::default(), nobody).unwrap();
    assert_eq!(plan.base().id, SectorId::Dct1);
    let plan = Plan::new(dump(&flash), target, Options::default().base(SectorId::Dct2), nobody).unwrap();
    assert_eq!((plan.base().id, plan.confidence()), (SectorId::Dct2, Confidence::Stored));
}

#[test]
fn everything_outside_of_the_application_section_survives_on_a_photon() {
    let mut flash = Flash::load("photon_4_new_second.bin");
    let home = wiced::AccessPoint::new(b"home", wiced::WifiSecurity::WPA2_AES, b"password").unwrap();
    let mut edit = wiced::SectorMut::new(&mut flash.0[1]);
    edit.wifi_config().set_access_point(0, &home).unwrap();
    edit.set_network_config(0, b"photon").unwrap();
    edit.seal();
    for target in Target::ALL {
        let plan = Plan::new(dump(&flash), target, Options::default(), nobody).unwrap();
        assert_eq!((plan.base().id, plan.confidence()), (SectorId::Dct2, Confidence::Stored));
        let mut sectors = Box::new([[0; 16384]; 2]);
        plan.build_sectors(&mut sectors).unwrap();
        if let Target::Wiced(_) = target {
            let view = wiced::SectorView::new(&sectors[0]);
            assert_eq!(view.wifi_config().access_point(0), Some(home));
            assert_eq!(view.network_config().hostname(), Some(&b"photon"[..]));
            assert_eq!(sectors[0][388..16332], flash.0[1][388..16332]);
        }
        let app = app_of(&Flash(sectors), target, SectorId::Dct1);
        assert_eq!(app, app_of(&flash, Target::Wiced(wiced::Generation::V0_7_0), SectorId::Dct2));
    }
}

#[test]
fn blank_and_foreign_flash_is_no_plan_and_short_dumps_are_refused() {
    let target = Target::Wiced(wiced::Generation::V0_7_0);
    let blank = Flash::blank();
    let error = Plan::new(dump(&blank), target, Options::default(), nobody).unwrap_err();
    assert_eq!(error, PlanError::NothingFound);
    let foreign = Flash(Box::new([[0x5A; 16384]; 2]));
    assert!(Plan::new(dump(&foreign), target, Options::default(), nobody).is_err());
    assert_eq!(dump(&foreign).candidate(SectorId::Dct1).standing, Standing::Incomplete);
    let bytes = vector("photon_4_new_second.bin");
    for length in (0..bytes.len()).step_by(1009).chain([16384, 32767]) {
        assert_eq!(Dump::from_slice(&bytes[..length]).unwrap_err(), DumpError::Length { length });
    }
    assert!(Dump::from_slice(&bytes).is_ok());
}

#[test]
fn given_values_that_do_not_fit_are_refused_when_built() {
    let flash = start(Target::Wiced(wiced::Generation::V0_4_4), &key(7));
    let target = Target::Wiced(wiced::Generation::V0_4_4);
    let too_long = vec![1; 1217];
    let written = [(KEY, &too_long[..])];
    let good = judge_of(&[]);
    let mut judge = good;
    let plan =
        Plan::new(dump(&flash), target, Options::default().mix(true).written(&written), |field, bytes| {
            if bytes.len() == 1217 { Judgement::Valid } else { judge(field, bytes) }
        })
        .unwrap();
    let mut app = vec![0; FIELDS];
    let error = plan.build_app(&mut app).unwrap_err();
    assert_eq!(error, BuildError::Given { field: "device_private_key", length: 1217, room: 1216 });
    assert_eq!(
        Plan::new(dump(&flash), target, Options::default(), nobody)
            .unwrap()
            .build_app(&mut [0; 10])
            .unwrap_err(),
        BuildError::BufferTooSmall { needed: 4258, available: 10 }
    );
}

#[test]
fn difference_names_every_changed_entry_and_hides_secrets() {
    let mut before = vec![0xFF; FIELDS];
    AppMut::new(&mut before).unwrap().set_prefix(KEY, &key(7)).unwrap();
    let mut after = before.clone();
    let mut edit = AppMut::new(&mut after).unwrap();
    let changes = [
        ("ip_config.host", "10.0.0.2"),
        ("claim_code", "abcdefgh"),
        ("claimed", "true"),
        ("server_public_key.address", "cloud.example.org:5683"),
        ("product_store.3", "7"),
        ("eap_config.security_key", "pass-word"),
    ];
    for (name, text) in changes {
        edit.set_text(Entry::by_name(name).unwrap(), text).unwrap();
    }
    let damaged: Vec<u8> = key(7).iter().zip(key(99)).map(|(a, b)| a & b).collect();
    edit.set_prefix(KEY, &damaged).unwrap();
    let (before, after) = (App::new(&before).unwrap(), App::new(&after).unwrap());
    let mut names: Vec<_> = changes.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.push("device_private_key".to_owned());
    names.sort();
    let mut found: Vec<_> = diff(before, after).map(|difference| difference.entry.to_string()).collect();
    found.sort();
    assert_eq!(found, names);
    let text = format!("{:?}", diff(before, after).collect::<Vec<_>>());
    assert!(
        !text.contains("pass-word")
            && !text.contains("abcdefgh")
            && !text.contains(&hex::encode(&damaged[4..40]))
    );
    let key = diff(before, after).find(|difference| difference.entry.field() == KEY).unwrap();
    assert!(matches!(key.second_sign, Some(Sign::BitsCleared { .. })));
    assert_eq!(diff(before, before).count(), 0);
}

/// Whether the pieces of 32 bytes have the same sum: the Photon's checksum does not see such a difference.
fn cancels(ours: &[u8], theirs: &[u8]) -> bool {
    let mut sum = [0; 32];
    for (at, (ours, theirs)) in ours[388..16356].iter().zip(&theirs[388..16356]).enumerate() {
        sum[at % 32] ^= ours ^ theirs;
    }
    sum == [0; 32] && ours[16356..16368] == theirs[16356..16368]
}

#[test]
fn damage_that_the_photons_checksum_cannot_see_is_called_as_stored() {
    let mut flash = Flash::load("photon_4_new_second.bin");
    let clean = flash.clone();
    // two whole pieces of erased bytes, both changed alike
    flash.0[1][388 + 32 * 400..][..64].fill(0x5A);
    assert!(cancels(&flash.0[1], &clean.0[1]));
    let target = Target::Wiced(wiced::Generation::V0_7_0);
    assert_eq!(dump(&flash).candidate(SectorId::Dct2).standing, Standing::Verified);
    assert_eq!(dump(&flash).select(target).sector, Some(SectorId::Dct2));
    let plan = Plan::new(dump(&flash), target, Options::default(), nobody).unwrap();
    assert_eq!(plan.confidence(), Confidence::Stored);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn cut_and_then_damaged_containers_give_no_false_confidence(
        target in 0usize..5, cut in any::<prop::sample::Index>(), mix: bool, judged: bool, known: bool,
        patches in proptest::collection::vec((any::<bool>(), 0usize..16384, any::<u8>(), 1usize..40), 0..8),
    ) {
        let target = Target::ALL[target];
        let (old_key, new_key) = (key(7), key(99));
        let before = start(target, &old_key);
        let list = ops(&before, target, KEY.offset(), &new_key);
        let last = 5 * list.len();
        let current = |flash: &Flash| app_of(flash, target, dump(flash).select(target).sector.unwrap());
        let (old, new) = (current(&before), current(&state(&before, &list, last)));
        // the generation before the old one is there until the write erases it
        let previous = app_of(&before, target, dump(&before).select(target).sector.unwrap().other());
        let mut flash = state(&before, &list, cut.index(last + 1));
        for (second, at, byte, length) in patches {
            flash.0[usize::from(second)].iter_mut().skip(at).take(length).for_each(|cell| *cell = byte);
        }
        let written = [(KEY, &new_key[..])];
        let options = Options::default().mix(mix).written(if known { &written } else { &[] });
        let keys: [&[u8]; 2] = [&old_key, &new_key];
        let mut judge = judge_of(&keys);
        let plan = Plan::new(dump(&flash), target, options, |field, bytes| {
            if judged { judge(field, bytes) } else { Judgement::Unknown }
        });
        let Ok(plan) = plan else { return Ok(()) };
        prop_assert!(mix || !plan.is_mixed());
        for decision in plan.decisions() {
            let bytes = plan.bytes(decision);
            match decision.confidence {
                Confidence::Stored => {
                    let range = decision.field.range();
                    prop_assert!([&previous, &old, &new].iter().any(|truth| truth[range.clone()] == *bytes), "{}", decision);
                }
                Confidence::Judged => prop_assert!(judged && keys.iter().any(|key| bytes.starts_with(key))),
                _ => {}
            }
        }
    }

    #[test]
    fn any_damage_is_looked_at_without_panic_and_claims_nothing_false(
        file in prop_oneof![Just("photon_3_new_first.bin"), Just("photon_4_new_second.bin"), Just("photon_2_old_swapped.bin"),
            Just("electron_2_v2_second.bin"), Just("electron_3_v1_after_v2.bin")],
        patches in proptest::collection::vec(
            (any::<bool>(), prop_oneof![0usize..20, 16352usize..16384, 0usize..16384], any::<u8>(), 1usize..300), 0..12),
        target in 0usize..5, mix: bool,
    ) {
        let clean = Flash::load(file);
        let mut flash = clean.clone();
        for (second, at, byte, length) in patches {
            flash.0[usize::from(second)].iter_mut().skip(at).take(length).for_each(|cell| *cell = byte);
        }
        let target = Target::ALL[target];
        if let Ok(plan) = Plan::new(dump(&flash), target, Options::default().mix(mix), nobody) {
            let mut sectors = Box::new([[0; 16384]; 2]);
            plan.build_sectors(&mut sectors).unwrap();
            prop_assert_eq!(dump(&Flash(sectors)).select(target).sector, Some(SectorId::Dct1));
            prop_assert!(mix || !plan.is_mixed());
            for decision in plan.decisions() {
                prop_assert!(decision.confidence != Confidence::Judged);
                if decision.confidence == Confidence::Stored {
                    // the CRC of that sector was not made by us: it is one of the recorded sectors, but for its marks
                    let Source::Sector(id) = decision.source else { panic!("nothing was given") };
                    let (ours, theirs) = (&flash.0[id.index()], &clean.0[id.index()]);
                    let wiced = ours[388..16368] == theirs[388..16368] || cancels(ours, theirs);
                    prop_assert!(wiced || ours[8..16352] == theirs[8..16352]);
                }
            }
        }
    }
}

/// One of them is damaged, and the bits tell which.
#[test]
fn intact_value_beside_a_damaged_one_has_no_sign() {
    let good = vector("app_v2.3.1.bin");
    let (old, new) = (34..34 + 600, 2082..2082 + 600);
    let mut other = good.clone();
    let more: Vec<u8> = good[new].to_vec();
    other[old].iter_mut().zip(&more).for_each(|(byte, more)| *byte &= more.rotate_left(3));
    let (good, lost) = (App::new(&good).unwrap(), App::new(&other).unwrap());
    for (first, second) in [(good, lost), (lost, good)] {
        let found: Vec<_> = diff(first, second).collect();
        let [difference] = &found[..] else { panic!("{found:?}") };
        let (intact, damaged) = if first.as_bytes() == good.as_bytes() {
            (difference.first_sign, difference.second_sign)
        } else {
            (difference.second_sign, difference.first_sign)
        };
        assert_eq!(intact, None);
        assert!(matches!(damaged, Some(Sign::BitsCleared { .. })), "{damaged:?}");
    }
}
