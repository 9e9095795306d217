use super::*;
use crate::module::{Dependency, ModuleBuilder, ModuleError, combine, resign};
use alloc::string::{String, ToString};
use proptest::prelude::*;

use ModuleFunction::{Asset, Bootloader, Monolithic, Ncp, RadioStack, System, User};

fn target(platform_id: u16) -> &'static Target {
    Target::of(platform_id).unwrap()
}

fn builder(platform_id: u16, function: ModuleFunction, index: u8) -> ModuleBuilder<'static> {
    let builder = ModuleBuilder::new(platform_id, function, index, 2202).body(&[7; 300]);
    let place = target(platform_id)
        .places
        .iter()
        .find(|place| place.function == function && place.index.is_none_or(|known| known == index));
    match place {
        Some(place) => builder.start_address(place.region.address),
        None => builder.start_address(0x0800_0000),
    }
}

fn module(platform_id: u16, function: ModuleFunction, index: u8) -> Vec<u8> {
    builder(platform_id, function, index).build().unwrap()
}

fn plan_of<'a>(platform_id: u16, files: &'a [Vec<u8>], options: Options) -> Result<Plan<'a>, Refusal> {
    let files: Vec<&[u8]> = files.iter().map(|file| &file[..]).collect();
    plan(target(platform_id), &files, options)
}

fn refusal(platform_id: u16, files: &[Vec<u8>]) -> Refusal {
    plan_of(platform_id, files, Options::DEFAULT).unwrap_err()
}

/// `alternate address purpose`, with a `!` where the firmware is started.
fn shown(plan: &Plan<'_>) -> Vec<String> {
    let line = |step: &Step<'_>| {
        alloc::format!(
            "{} {:08x} {}{}",
            step.alternate,
            step.address,
            step.purpose,
            if step.leave { "!" } else { "" }
        )
    };
    plan.steps.iter().map(line).collect()
}

const UPDATE: Options = Options { update: true, ..Options::DEFAULT };

#[test]
fn photon_gets_its_bootloader_and_the_flag_before_its_parts() {
    for platform_id in [6, 8] {
        let files = [
            module(platform_id, System, 2),
            module(platform_id, Bootloader, 0),
            module(platform_id, System, 1),
        ];
        let plan = plan_of(platform_id, &files, UPDATE).unwrap();
        assert_eq!(
            shown(&plan),
            [
                "0 080c0000 bootloader as an update",
                "1 000006d9 flag of the update",
                "0 08020000 system part 1",
                "0 08060000 system part 2!",
            ]
        );
        assert_eq!((&*plan.steps[0].bytes, &*plan.steps[1].bytes), (&files[1][..], &[0xa5][..]));
        assert_eq!((plan.steps[0].file, plan.steps[1].file, plan.steps[3].file), (Some(1), None, Some(0)));
        assert!(plan.steps.iter().all(|step| step.pause_before.is_zero()) && plan.warnings.is_empty());
    }
}

#[test]
fn electron_gets_its_parts_by_index_and_the_flag_last() {
    let files =
        [module(10, Bootloader, 0), module(10, System, 3), module(10, System, 1), module(10, System, 2)];
    assert_eq!(
        shown(&plan_of(10, &files, UPDATE).unwrap()),
        [
            "0 08020000 system part 1",
            "0 08040000 system part 2",
            "0 08060000 system part 3",
            "0 080c0000 bootloader as an update",
            "1 000006d9 flag of the update!",
        ]
    );
}

#[test]
fn gen_3_gets_system_radio_bootloader_and_flag_with_pauses() {
    let radio = builder(13, RadioStack, 0).flags(Flags::DROP_INFO).build().unwrap();
    let files = [module(13, Bootloader, 0), radio.clone(), module(13, System, 1)];
    let plan = plan_of(13, &files, UPDATE).unwrap();
    assert_eq!(
        shown(&plan),
        [
            "0 00030000 system part 1",
            "0 00001000 radio stack",
            "2 80289000 bootloader as an update",
            "1 000006d9 flag of the update!",
        ]
    );
    assert_eq!(*plan.steps[1].bytes, radio[24..], "its prefix is dropped");
    let pauses: Vec<u64> = plan.steps.iter().map(|step| step.pause_before.as_secs()).collect();
    assert_eq!(pauses, [0, 2, 2, 2]);
    let without = [files[0].clone(), files[2].clone()];
    assert_eq!(plan_of(13, &without, UPDATE).unwrap().steps.len(), 3);
}

#[test]
fn system_that_is_not_whole_is_no_update() {
    let files = [module(6, System, 2), module(6, Bootloader, 0), module(6, System, 1)];
    for (missing, (function, index)) in [(0, (System, 2)), (1, (Bootloader, 0)), (2, (System, 1))] {
        let mut some = files.to_vec();
        some.remove(missing);
        assert_eq!(
            plan_of(6, &some, UPDATE),
            Err(Refusal::Incomplete { key: ModuleKey { function, index } })
        );
        assert!(plan_of(6, &some, Options::DEFAULT).is_ok());
    }
    assert_eq!(plan_of(0, &[], UPDATE), Err(Refusal::NoSystem { platform_id: 0 }));
}

#[test]
fn firmware_is_started_where_the_application_was_written_unless_told_otherwise() {
    let (user, part) = (module(6, User, 1), module(6, System, 1));
    let leaves = |files: &[Vec<u8>], leave| {
        let plan = plan_of(6, files, Options { leave, ..Options::DEFAULT }).unwrap();
        let (last, others) = plan.steps.split_last().unwrap();
        assert!(others.iter().all(|step| !step.leave));
        last.leave
    };
    for (files, default) in [
        (&[user.clone()][..], true),
        (core::slice::from_ref(&part), false),
        (&[user.clone(), part.clone()], true),
    ] {
        assert_eq!(leaves(files, None), default);
        assert!(leaves(files, Some(true)) && !leaves(files, Some(false)));
    }
    for (platform_id, expected) in
        [(0, "0 08005000 monolithic firmware!"), (6, "0 08020000 monolithic firmware")]
    {
        let files = [module(platform_id, Monolithic, 0)];
        assert_eq!(shown(&plan_of(platform_id, &files, Options::DEFAULT).unwrap()), [expected]);
    }
}

#[test]
fn odd_image_of_a_core_is_padded_and_no_other() {
    let core = builder(0, Monolithic, 0).body(&[7; 301]).build().unwrap();
    let files = [core.clone()];
    let plan = plan_of(0, &files, Options::DEFAULT).unwrap();
    assert_eq!(*plan.steps[0].bytes, [&core[..], &[0]].concat());
    let photon = [builder(6, User, 1).body(&[7; 301]).build().unwrap()];
    assert!(
        matches!(&plan_of(6, &photon, Options::DEFAULT).unwrap().steps[0].bytes, Cow::Borrowed(bytes) if *bytes == photon[0])
    );
}

#[test]
fn factory_copy_goes_where_the_platform_has_it() {
    let factory = Options { factory: true, ..Options::DEFAULT };
    for (platform_id, function, expected) in [
        (0, Monolithic, "1 00020000 monolithic firmware 1 for the factory reset"),
        (6, User, "0 080e0000 user part for the factory reset"),
        (10, User, "0 080a0000 user part for the factory reset"),
        (13, User, "2 00200000 user part for the factory reset"),
        (26, User, "2 00600000 user part for the factory reset"),
    ] {
        assert_eq!(
            shown(&plan_of(platform_id, &[module(platform_id, function, 1)], factory).unwrap()),
            [expected]
        );
    }
    let refused = Refusal::Factory { file: 0, function: System };
    assert_eq!(plan_of(6, &[module(6, System, 1)], factory), Err(refused));
}

#[test]
fn larger_application_of_gen_3_has_its_former_place_erased_first() {
    let user = |start, version, len| {
        let body = alloc::vec![7; len];
        let needs = [Dependency::system(1, version), Dependency::NONE];
        ModuleBuilder::new(13, User, 1, 6).start_address(start).depends_on(needs).body(&body).build().unwrap()
    };
    let first = |file: Vec<u8>| {
        let files = [file];
        let plan = plan_of(13, &files, Options::DEFAULT).unwrap();
        let step = &plan.steps[0];
        assert!(plan.steps.last().unwrap().leave);
        assert!(step.purpose != Purpose::FormerApplication || step.bytes.iter().all(|byte| *byte == 0xff));
        (plan.steps.len(), step.address, step.bytes.len())
    };
    assert_eq!(first(user(0xb_4000, 3103, 100)), (2, 0xd_4000, 0x2_0000));
    assert_eq!(first(user(0xb_4000, 3102, 100)).0, 1);
    assert_eq!(first(user(0xd_4000, 3103, 100)).0, 1);
    // Its own last page is not touched, and nothing behind the old place.
    let (steps, address, len) = first(user(0xb_4000, 4000, 0x2_1000));
    assert_eq!((steps, address, len), (2, 0xd_6000, 0x1_e000));
    assert_eq!(first(user(0xb_4000, 4000, 0x3_ff00)).0, 1);
}

#[test]
fn bad_files_are_refused_by_their_place_in_the_list() {
    let good = module(6, User, 1);
    let refused = |file: Vec<u8>, options| plan_of(6, &[module(6, System, 1), file], options).unwrap_err();
    let key = ModuleKey { function: User, index: 1 };
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    let error = refused(damaged.clone(), Options::DEFAULT);
    assert!(
        matches!(error, Refusal::Crc { file: 1, .. })
            && error.to_string().starts_with("the CRC of the user part is")
    );
    let mut unfinished = good.clone();
    let len = unfinished.len();
    unfinished[len - 38..len - 6].copy_from_slice(&crate::module::Suffix::UNFINISHED_SHA256);
    assert_eq!(refused(unfinished, Options::DEFAULT), Refusal::NotFinalised { file: 1, key });
    assert_eq!(
        refused(module(8, User, 1), Options::DEFAULT),
        Refusal::Platform { file: 1, key, found: 8, expected: 6 }
    );
    assert!(matches!(
        refused(b"text".to_vec(), Options::DEFAULT),
        Refusal::NotAModule { file: 1, error: ModuleError::NotAModule { .. } }
    ));
    for flag in [Flags::COMPRESSED, Flags::ENCRYPTED] {
        let file = builder(6, User, 1).flags(flag).build().unwrap();
        assert_eq!(refused(file, Options::DEFAULT), Refusal::Packed { file: 1, key });
    }
    for function in [Ncp, Asset, ModuleFunction::Resource, ModuleFunction::Other(77)] {
        let file = builder(6, function, 0).build().unwrap();
        assert_eq!(refused(file, Options::DEFAULT), Refusal::NotOverUsb { file: 1, function });
    }
    let third = ModuleKey { function: System, index: 3 };
    assert_eq!(
        refused(module(6, System, 3), Options::DEFAULT),
        Refusal::NoPlace { file: 1, key: third, platform_id: 6 }
    );
    let elsewhere = builder(6, User, 1).start_address(0x080e_0000).build().unwrap();
    assert_eq!(
        refused(elsewhere, Options::DEFAULT),
        Refusal::StartAddress { file: 1, key, start: 0x080e_0000 }
    );
    let long = builder(6, User, 1).body(&[7; 0x2_0000]).build().unwrap();
    assert_eq!(
        refused(long.clone(), Options::DEFAULT),
        Refusal::TooLong { file: 1, key, len: long.len(), room: 0x2_0000 }
    );
    assert_eq!(refused(long.clone(), Options { force: true, ..Options::DEFAULT }).file(), Some(1));
    assert_eq!(plan_of(6, &[], Options::DEFAULT), Err(Refusal::Nothing));

    let force = Options { force: true, ..Options::DEFAULT };
    let files = [damaged, module(8, System, 1)];
    let plan = plan_of(6, &files, force).unwrap();
    assert_eq!(plan.warnings, [Warning::Crc { file: 0 }, Warning::Platform { file: 1, found: 8 }]);
}

#[test]
fn two_modules_for_one_place_are_refused() {
    let key = |function, index| ModuleKey { function, index };
    let overlap = |files: &[Vec<u8>]| plan_of(6, files, Options::DEFAULT).unwrap_err();
    let both = Refusal::Overlap { file: 1, first: key(User, 1), second: key(User, 1), address: 0x080a_0000 };
    assert_eq!(overlap(&[module(6, User, 1), module(6, User, 1)]), both);
    let mono = builder(6, Monolithic, 0).body(&[7; 0x4_8000]).build().unwrap();
    let both =
        Refusal::Overlap { file: 1, first: key(Monolithic, 0), second: key(System, 2), address: 0x0806_0000 };
    assert_eq!(overlap(&[mono, module(6, System, 2)]), both);
    let many: Vec<Vec<u8>> = (0..200).map(|_| module(6, Bootloader, 0)).collect();
    assert!(matches!(overlap(&many), Refusal::Overlap { file: 1, .. }));
}

#[test]
fn blank_suffix_passes_unchecked_with_a_warning_and_as_it_is() {
    let mut file = module(6, Bootloader, 0);
    let len = file.len();
    file[len - 40..].fill(0xff);
    file.resize(0x4000, 0xff);
    let files = [file];
    let plan = plan_of(6, &files, Options::DEFAULT).unwrap();
    assert_eq!(plan.warnings, [Warning::BlankSuffix { file: 0 }]);
    assert_eq!(plan.steps[0].bytes, files[0]);
    // Padding behind a good module is nothing to warn of, and is not written.
    let mut padded = module(6, Bootloader, 0);
    padded.resize(0x4000, 0xff);
    let files = [padded];
    let plan = plan_of(6, &files, Options::DEFAULT).unwrap();
    assert_eq!((plan.warnings.len(), plan.steps[0].bytes.len()), (0, len));
}

#[test]
fn padding_hides_neither_damage_nor_another_platform() {
    for function in [User, System] {
        let mut damaged = module(6, function, 1);
        damaged[200] ^= 1;
        damaged.resize(0x1_0000, 0xff);
        let refusal = refusal(6, &[damaged]);
        // Behind padding nothing but the checksum tells a module from anything else.
        assert!(
            matches!(refusal, Refusal::Crc { file: 0, .. } | Refusal::NotAModule { file: 0, .. }),
            "{refusal:?}"
        );
    }
    let mut bootloader = module(8, Bootloader, 0);
    let len = bootloader.len();
    bootloader[len - 40..].fill(0xff);
    bootloader.resize(0x4000, 0xff);
    assert!(matches!(refusal(6, &[bootloader]), Refusal::Platform { found: 8, .. }));
}

#[test]
fn nothing_in_a_file_is_left_out_in_silence() {
    let (first, second) = (module(6, System, 1), module(6, System, 2));
    let both = [&first[..], &second[..]].concat();
    // The start address of the second one begins with zeros, which are nothing.
    assert_eq!(
        refusal(6, core::slice::from_ref(&both)),
        Refusal::Unknown { file: 0, offset: first.len() + 2 }
    );
    let forced = plan_of(6, core::slice::from_ref(&both), Options { force: true, ..Options::DEFAULT });
    let forced = forced.unwrap();
    assert_eq!(forced.warnings, [Warning::Unknown { file: 0, offset: first.len() + 2 }]);
    assert_eq!(shown(&forced), ["0 08020000 system part 1"]);
    // A picture of the flash whose middle is damaged.
    let mut picture = vec![0; 0x8_0000];
    picture[..first.len()].copy_from_slice(&first);
    picture[0x4_0000..][..second.len()].copy_from_slice(&second);
    picture.extend(module(6, User, 1));
    assert_eq!(plan_of(6, core::slice::from_ref(&picture), Options::DEFAULT).unwrap().steps.len(), 3);
    picture[0x4_0000 + 200] ^= 1;
    assert!(matches!(refusal(6, &[picture]), Refusal::Unknown { file: 0, offset: 0x4_0000.. }));
}

#[test]
fn prefix_to_be_dropped_has_to_be_found_whole() {
    let stack = builder(12, RadioStack, 0).flags(Flags::DROP_INFO).body(&[7; 400]).build().unwrap();
    let good = plan_of(12, core::slice::from_ref(&stack), Options::DEFAULT).unwrap();
    assert_eq!(good.steps[0].bytes.len(), stack.len() - 24);
    let mut bad = stack;
    let len = bad.len();
    // The size of the suffix.
    bad[len - 6..len - 4].copy_from_slice(&35_u16.to_le_bytes());
    resign(&mut bad).unwrap();
    assert!(matches!(refusal(12, &[bad]), Refusal::Prefix { file: 0, .. }));
}

#[test]
fn factory_copy_has_to_be_built_for_where_applications_run() {
    let options = Options { factory: true, ..Options::DEFAULT };
    assert!(plan_of(6, &[module(6, User, 1)], options).is_ok());
    let elsewhere = builder(6, User, 1).start_address(0x0806_0000).body(&[7; 300]).build().unwrap();
    assert!(matches!(
        plan_of(6, &[elsewhere], options),
        Err(Refusal::StartAddress { file: 0, start: 0x0806_0000, .. })
    ));
}

#[test]
fn combined_file_gives_a_step_for_each_module() {
    let (first, second, user) = (module(6, System, 1), module(6, System, 2), module(6, User, 1));
    let files = [combine(&[&user, &second, &first]).unwrap()];
    let plan = plan_of(6, &files, Options::DEFAULT).unwrap();
    assert_eq!(
        shown(&plan),
        ["0 08020000 system part 1", "0 08060000 system part 2", "0 080a0000 user part!"]
    );
    assert!(plan.steps.iter().all(|step| step.file == Some(0)));
}

proptest! {
    #[test]
    fn any_files_make_a_plan_without_overlaps_or_a_refusal(
        choice in proptest::collection::vec((0u16..30, 0u8..10, 0u8..4, 0usize..0x2_2000, 0u8..32, any::<u32>()), 0..8),
        platform in 0usize..12, factory: bool, update: bool, force: bool,
    ) {
        let target = &Target::ALL[platform];
        let files: Vec<Vec<u8>> = choice.iter().filter_map(|(id, function, index, len, flags, damage)| {
            let platform_id = if *id < 25 { target.platform_id } else { *id };
            let function = ModuleFunction::from_number(*function);
            let place = target.places.get(usize::from(*index)).map_or(0x0800_0000, |place| place.region.address);
            let body = alloc::vec![7; *len];
            let flags = if damage % 4 == 0 { *flags } else { 0 };
            let mut file = ModuleBuilder::new(platform_id, function, *index, 6)
                .start_address(place).body(&body).flags(Flags(flags)).build().ok()?;
            if damage % 8 == 1 {
                file.truncate(file.len() / 2);
            }
            Some(file)
        }).collect();
        let refs: Vec<&[u8]> = files.iter().map(|file| &file[..]).collect();
        let options = Options { factory, update, force, leave: None };
        if let Ok(plan) = plan(target, &refs, options) {
            for (number, step) in plan.steps.iter().enumerate() {
                prop_assert!(!step.bytes.is_empty());
                prop_assert!(!step.leave || number + 1 == plan.steps.len());
                prop_assert_eq!(step.bytes.len() % usize::from(target.write_padding), 0);
                for other in plan.steps.iter().skip(number + 1) {
                    prop_assert!(step.alternate != other.alternate || step.address >= other.address + u32::try_from(other.bytes.len()).unwrap()
                        || other.address >= step.address + u32::try_from(step.bytes.len()).unwrap());
                }
            }
        }
    }
}
