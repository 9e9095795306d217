//! Resolution of system updates: recorded Describe documents, the Photon's and the Electron's releases, random
//! catalogues.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use coap_spark::message::describe::Describe;
use proptest::prelude::*;
use serde_json::Value;
use spark_ota::module::{Dependency, Installed, Module, ModuleFunction, ModuleKey, Store};
use spark_ota::resolve::{
    Attempt, CatalogueEntry, Gate, PlannedStep, Reason, Request, Room, Step, Why, next_step, plan,
};

const NONE: Dependency = Dependency::NONE;
const BOOTLOADER: ModuleKey = ModuleKey { function: ModuleFunction::Bootloader, index: 0 };
const USER: ModuleKey = ModuleKey { function: ModuleFunction::User, index: 1 };

const fn part(index: u8) -> ModuleKey {
    ModuleKey { function: ModuleFunction::System, index }
}

const fn entry(key: ModuleKey, version: u16, dependencies: [Dependency; 2]) -> CatalogueEntry {
    let ModuleKey { function, index } = key;
    CatalogueEntry { platform_id: 6, function, index, version, dependencies, size: 1000, sha256: None }
}

const fn have(key: ModuleKey, version: u16, dependencies: [Dependency; 2]) -> Installed {
    Installed::main(key.function, key.index, version, dependencies)
}

const fn one(dependency: Dependency) -> [Dependency; 2] {
    [dependency, NONE]
}

/// The released set for the Photon.
const V2_2_0: [CatalogueEntry; 3] = [
    entry(part(2), 2202, [Dependency::system(1, 2202), Dependency::bootloader(1003)]),
    entry(part(1), 2202, one(Dependency::system(2, 207))),
    entry(BOOTLOADER, 1005, [NONE; 2]),
];
const V0_7_0: [CatalogueEntry; 2] = [
    entry(part(1), 207, [NONE; 2]),
    entry(part(2), 207, [Dependency::system(1, 207), Dependency::bootloader(7)]),
];

fn photon(system: u16, bootloader: u16, needs: u16) -> [Installed; 4] {
    [
        have(BOOTLOADER, bootloader, [NONE; 2]),
        have(part(1), system, [NONE; 2]),
        have(part(2), system, one(Dependency::system(1, system))),
        have(USER, 6, one(Dependency::system(2, needs))),
    ]
}

fn order(steps: &[PlannedStep]) -> Vec<(ModuleKey, u16)> {
    steps.iter().map(|step| (step.key, step.version)).collect()
}

fn apply(installed: &[Installed], entry: &CatalogueEntry) -> Vec<Installed> {
    let mut after: Vec<Installed> =
        installed.iter().filter(|have| have.key() != entry.key()).copied().collect();
    let mut new = have(entry.key(), entry.version, entry.dependencies);
    new.sha256 = entry.sha256;
    after.push(new);
    after
}

#[test]
fn photon_goes_from_0_7_0_to_2_2_0_by_bootloader_part_1_part_2() {
    let installed = photon(207, 7, 1404);
    let steps = plan(&Request::new(6, &installed, &V2_2_0)).unwrap();
    assert_eq!(order(&steps), [(BOOTLOADER, 1005), (part(1), 2202), (part(2), 2202)]);
    let texts: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "bootloader version 1005: system part 2 version 2202 needs at least 1003, installed is 7",
            "system part 1 version 2202: system part 2 version 2202 needs at least 2202, installed is 207",
            "system part 2 version 2202: user part version 6 needs at least 1404, installed is 207",
        ]
    );
}

#[test]
fn asking_again_after_each_update_gives_the_same_plan() {
    let mut installed = photon(207, 7, 1404).to_vec();
    let planned = plan(&Request::new(6, &installed, &V2_2_0)).unwrap();
    let mut done = Vec::new();
    loop {
        match next_step(&Request::new(6, &installed, &V2_2_0)) {
            Step::Flash(step) => {
                done.push((step.key, step.version));
                installed = apply(&installed, &V2_2_0[step.entry]);
            }
            Step::Done => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(done, order(&planned));
}

#[test]
fn photon_below_0_7_0_is_a_cycle_and_the_0_7_0_set_breaks_it() {
    let installed = photon(108, 1005, 1404);
    let keys = vec![part(1), part(2)];
    let alone = plan(&Request::new(6, &installed, &V2_2_0)).unwrap_err();
    assert_eq!(alone, Reason::Cycle { keys: keys.clone(), bootstrap: None });
    assert_eq!(
        alone.to_string(),
        "system part 1 and system part 2 wait for each other and the catalogue has no older module to begin with"
    );

    let catalogue = [&V2_2_0[..], &V0_7_0[..]].concat();
    let request = Request::new(6, &installed, &catalogue);
    assert_eq!(plan(&request), Err(Reason::Cycle { keys, bootstrap: Some(4) }));
    let first = plan(&Request { target: Some(4), ..request }).unwrap();
    assert_eq!(order(&first), [(part(1), 207), (part(2), 207)]);
    let all = plan(&Request { use_bootstrap: true, ..request }).unwrap();
    assert_eq!(order(&all), [(part(1), 207), (part(2), 207), (part(1), 2202), (part(2), 2202)]);
    assert_eq!(all[1].why, Why::Bootstrap);
}

/// Found by fuzzing: the preparatory step takes the newest module out of the cycle.
#[test]
fn plan_with_a_bootstrap_survives_its_own_first_step() {
    let catalogue = [
        entry(part(3), 100, one(Dependency::system(2, 20))),
        entry(part(2), 20, [Dependency::system(1, 189), Dependency::system(3, 100)]),
        entry(part(1), 189, one(Dependency::system(3, 10))),
        entry(part(3), 120, one(Dependency::system(1, 220))),
        entry(part(1), 220, [NONE; 2]),
    ];
    let mut installed = vec![have(part(1), 14, [NONE; 2]), have(USER, 6, one(Dependency::system(2, 20)))];
    for expected in [(part(1), 220), (part(3), 120), (part(2), 20)] {
        let request = Request { use_bootstrap: true, ..Request::new(6, &installed, &catalogue) };
        let Step::Flash(step) = next_step(&request) else { panic!("{:?}", next_step(&request)) };
        assert_eq!((step.key, step.version), expected);
        installed = apply(&installed, &catalogue[step.entry]);
    }
    assert_eq!(next_step(&Request::new(6, &installed, &catalogue)), Step::Done);
}

/// The older part 2 is chosen first and then replaced, for part 1 needs the newer one: what the older one needs is not needed.
#[test]
fn needs_of_a_module_that_was_replaced_by_a_newer_one_do_not_count() {
    let catalogue = [
        entry(part(2), 1002, one(Dependency::bootloader(9))),
        entry(part(2), 1512, [NONE; 2]),
        entry(part(1), 5, one(Dependency::system(2, 1512))),
        entry(BOOTLOADER, 9, [NONE; 2]),
    ];
    let installed = [
        have(part(2), 207, [NONE; 2]),
        have(USER, 6, [Dependency::system(2, 1000), Dependency::system(1, 1)]),
    ];
    for catalogue in [&catalogue[..], &catalogue[..3]] {
        let steps = plan(&Request::new(6, &installed, catalogue)).unwrap();
        assert_eq!(order(&steps), [(part(2), 1512), (part(1), 5)]);
    }
}

/// The same with a longer way to the reason for the newer one.
#[test]
fn missing_module_is_told_only_if_what_needs_it_stays() {
    let catalogue = [
        entry(part(1), 1, one(Dependency::bootloader(9))),
        entry(part(1), 2, [NONE; 2]),
        entry(part(2), 1, one(Dependency::system(3, 1))),
        entry(part(3), 1, one(Dependency::system(1, 2))),
    ];
    let installed = [have(USER, 6, [Dependency::system(1, 1), Dependency::system(2, 1)])];
    let steps = plan(&Request::new(6, &installed, &catalogue)).unwrap();
    assert_eq!(order(&steps), [(part(1), 2), (part(3), 1), (part(2), 1)]);
    let needed = Reason::Missing { key: BOOTLOADER, at_least: 9, by: part(1), by_version: 1 };
    assert_eq!(plan(&Request::new(6, &installed, &catalogue[..3])), Err(needed));
}

#[test]
fn bootloader_is_not_sent_in_vain_before_a_cycle() {
    let installed = photon(108, 7, 1404);
    assert!(matches!(
        next_step(&Request::new(6, &installed, &V2_2_0)),
        Step::Impossible(Reason::Cycle { bootstrap: None, .. })
    ));
}

#[test]
fn electron_files_go_by_index_not_by_name() {
    let electron =
        |key, version, dependencies| CatalogueEntry { platform_id: 10, ..entry(key, version, dependencies) };
    let catalogue = [
        electron(part(3), 2202, one(Dependency::system(2, 110))),
        electron(part(1), 2202, one(Dependency::system(3, 2202))),
        electron(part(2), 2202, [Dependency::system(1, 2202), Dependency::bootloader(1003)]),
        electron(BOOTLOADER, 1006, [NONE; 2]),
    ];
    let installed = [
        have(BOOTLOADER, 7, [NONE; 2]),
        have(part(1), 207, one(Dependency::system(3, 207))),
        have(part(2), 207, one(Dependency::system(1, 207))),
        have(part(3), 207, [NONE; 2]),
        have(USER, 6, one(Dependency::system(2, 1404))),
    ];
    let steps = plan(&Request::new(10, &installed, &catalogue)).unwrap();
    let versions = [(BOOTLOADER, 1006), (part(3), 2202), (part(1), 2202), (part(2), 2202)];
    assert_eq!(order(&steps), versions);
}

#[test]
fn lowest_sufficient_version_of_this_platform_is_taken() {
    let installed = photon(207, 1005, 300);
    let other = |version| CatalogueEntry { platform_id: 8, ..entry(part(2), version, [NONE; 2]) };
    let catalogue = [
        other(300),
        entry(part(2), 400, [NONE; 2]),
        entry(part(2), 301, [NONE; 2]),
        entry(part(2), 299, [NONE; 2]),
    ];
    let steps = plan(&Request::new(6, &installed, &catalogue)).unwrap();
    assert_eq!(order(&steps), [(part(2), 301)]);
    let missing = Reason::Missing { key: part(2), at_least: 300, by: USER, by_version: 6 };
    assert_eq!(plan(&Request::new(6, &installed, &catalogue[3..])), Err(missing.clone()));
    assert_eq!(plan(&Request::new(6, &installed, &catalogue[..1])), Err(missing));
}

#[test]
fn damaged_modules_are_absent_and_other_stores_do_not_count() {
    let mut installed = photon(2202, 1005, 2202);
    assert_eq!(next_step(&Request::new(6, &installed, &V2_2_0)), Step::Done);
    installed[2].integrity_ok = false;
    let step = plan(&Request::new(6, &installed, &V2_2_0)).unwrap()[0];
    assert_eq!(step.why, Why::Needed { by: USER, by_version: 6, at_least: 2202, installed: None });
    installed[2] = Installed { integrity_ok: true, store: Store::Factory, ..installed[2] };
    assert_eq!(order(&plan(&Request::new(6, &installed, &V2_2_0)).unwrap()), [(part(2), 2202)]);
}

#[test]
fn new_user_part_comes_after_the_system_it_needs() {
    let installed = photon(207, 7, 207);
    let mut catalogue = V2_2_0.to_vec();
    catalogue.push(entry(USER, 6, one(Dependency::system(2, 2202))));
    let request = Request { target: Some(3), ..Request::new(6, &installed, &catalogue) };
    // The same version as the installed one, and nobody knows a digest: taken for installed.
    assert_eq!(plan(&request), Ok(vec![]));
    catalogue[3].sha256 = Some([1; 32]);
    let mut installed = installed;
    installed[3].sha256 = Some([2; 32]);
    let request = Request { target: Some(3), ..Request::new(6, &installed, &catalogue) };
    let steps = plan(&request).unwrap();
    assert_eq!(order(&steps), [(BOOTLOADER, 1005), (part(1), 2202), (part(2), 2202), (USER, 6)]);
    assert_eq!(steps[3].why, Why::Target { installed: Some(6) });
}

#[test]
fn downgrade_replaces_what_needs_the_newer_version_first() {
    let mut installed = photon(2202, 1005, 2202);
    installed[1].dependencies = one(Dependency::system(2, 207));
    installed[2].dependencies = V2_2_0[0].dependencies;
    let mut catalogue = V0_7_0.to_vec();
    let blocked =
        Reason::DowngradeBlocked { key: part(2), version: 207, by: USER, by_version: 6, at_least: 2202 };
    let request = Request { target: Some(0), ..Request::new(6, &installed, &catalogue) };
    assert_eq!(plan(&request), Err(blocked));

    catalogue.push(entry(USER, 5, one(Dependency::system(2, 100))));
    let request = Request { target: Some(0), ..Request::new(6, &installed, &catalogue) };
    let steps = plan(&request).unwrap();
    assert_eq!(order(&steps), [(USER, 5), (part(2), 207), (part(1), 207)]);
    assert_eq!(steps[1].why, Why::NeedsNewer { than: part(1), version: 207 });
}

#[test]
fn target_that_an_installed_part_does_not_run_with_is_blocked() {
    let installed = photon(2202, 1005, 6);
    let catalogue = [entry(part(1), 207, [NONE; 2])];
    let request = Request { target: Some(0), ..Request::new(6, &installed, &catalogue) };
    let reason = plan(&request).unwrap_err();
    assert_eq!(
        reason.to_string(),
        "system part 1 cannot go to version 207: system part 2 version 2202 needs at least 2202"
    );
}

#[test]
fn target_of_another_platform_or_outside_the_catalogue_is_refused() {
    let installed = photon(207, 1005, 6);
    let catalogue = [CatalogueEntry { platform_id: 10, ..V2_2_0[0] }];
    let request = Request::new(6, &installed, &catalogue);
    let wrong = Reason::PlatformMismatch { entry: 0, found: 10, expected: 6 };
    assert_eq!(plan(&Request { target: Some(0), ..request }), Err(wrong));
    assert_eq!(plan(&Request { target: Some(1), ..request }), Err(Reason::NoSuchTarget { entry: 1, len: 1 }));
}

#[test]
fn module_that_does_not_stick_is_not_sent_a_third_time() {
    let installed = photon(207, 7, 1404);
    let attempt = |times| [Attempt { key: BOOTLOADER, version: 1005, times }];
    let step =
        |attempts: &[Attempt]| next_step(&Request { attempts, ..Request::new(6, &installed, &V2_2_0) });
    assert!(matches!(step(&attempt(1)), Step::Flash(PlannedStep { key: BOOTLOADER, .. })));
    let reason = Reason::NotApplied { key: BOOTLOADER, version: 1005, times: 2 };
    assert_eq!(step(&attempt(2)), Step::Impossible(reason));
    // It stuck at last: what is next was not tried yet.
    let installed = photon(207, 1005, 1404);
    let attempts = attempt(2);
    let next = next_step(&Request { attempts: &attempts, ..Request::new(6, &installed, &V2_2_0) });
    assert!(matches!(next, Step::Flash(PlannedStep { version: 2202, .. })));
}

/// A module is refused before anything is sent, wherever in the plan it comes.
#[test]
fn module_that_does_not_fit_its_place_is_too_big() {
    let installed = photon(207, 7, 2202);
    let mut catalogue = V2_2_0;
    catalogue[1].size = 0x4_0000;
    let key = catalogue[1].key();
    for (size, fits) in [(0x4_0000, true), (0x3_ffff, false)] {
        let rooms = [Room { key, size }];
        let request = Request { rooms: &rooms, ..Request::new(6, &installed, &catalogue) };
        let expected = Reason::TooBig { key, version: catalogue[1].version, size: 0x4_0000, room: size };
        assert_eq!(plan(&request).err(), (!fits).then_some(expected));
    }
    let reason = Reason::TooBig { key: part(1), version: 2202, size: 300, room: 200 };
    assert_eq!(reason.to_string(), "system part 1 version 2202 has 300 bytes, the device has room for 200");
}

#[test]
fn gate_is_passed_once_the_plan_has_brought_what_it_needs() {
    let installed = photon(207, 7, 2202);
    let last = V2_2_0.iter().find(|entry| entry.key() == part(2)).unwrap();
    for (needs, from, open) in [
        // The bootloader comes before.
        (Dependency::bootloader(1005), 2202, true),
        (Dependency::bootloader(1006), 2202, false),
        (Dependency::bootloader(1006), 2203, true),
        (Dependency::system(3, 1), 0, false),
    ] {
        let gates = [Gate { key: part(2), from, needs }];
        let request = Request { gates: &gates, ..Request::new(6, &installed, &V2_2_0) };
        let result = plan(&request);
        assert_eq!(result.is_ok(), open, "{needs:?}: {result:?}");
        if let Err(reason) = result {
            let Reason::Gated { key, version, at_least, .. } = reason else { panic!("{reason:?}") };
            assert_eq!((key, version, at_least), (part(2), last.version, needs.version));
        }
    }
    let text = |installed| {
        Reason::Gated { key: part(2), version: 2202, needs: BOOTLOADER, at_least: 1006, installed }
            .to_string()
    };
    let words = "system part 2 version 2202 can only be taken by a device with bootloader of at least 1006";
    assert_eq!(text(Some(1005)), format!("{words}, it has 1005"));
    assert_eq!(text(None), format!("{words}, it has none"));
}

#[test]
fn rooms_are_read_out_of_a_describe_document() {
    let (case, _) = recorded("photon-user-needs-newer-part2");
    let json = serde_json::to_vec(&case["describe"]).unwrap();
    let rooms = spark_ota::describe::rooms(&Describe::from_json(&json).unwrap());
    assert_eq!(rooms.len(), 4);
    assert!(rooms.contains(&Room { key: part(2), size: 0x4_0000 }));
}

fn recorded(case: &str) -> (Value, Vec<Installed>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/modules/resolve.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let found = all["cases"].as_array().unwrap().iter().find(|entry| entry["case"] == case).unwrap().clone();
    let describe = Describe::from_json(found["describe"].to_string().as_bytes()).unwrap();
    (found, spark_ota::describe::installed(&describe))
}

/// What the reference says is missing, and how it comes to that: it looks at each need by itself, not at the catalogue, and
/// not at what those modules need in turn.
fn naive(case: &Value) -> Vec<(String, String, u64)> {
    let describe = Describe::from_json(case["describe"].to_string().as_bytes()).unwrap();
    let modules = describe.modules.unwrap();
    let present = || modules.iter().filter(|module| module.store != "f");
    let mut found: Vec<(String, String, u64)> = Vec::new();
    for need in present().flat_map(|module| &module.dependencies) {
        let is_met = present().any(|module| {
            module.function.as_deref() == Some(&*need.function)
                && module.index.as_deref() == Some(&*need.index)
                && module.version >= Some(need.version)
        });
        let need = (need.function.clone(), need.index.clone(), u64::from(need.version));
        if !is_met && !found.contains(&need) {
            found.push(need);
        }
    }
    let missing = case["any_missing"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let recorded: Vec<_> =
        missing.map(|need| (text(&need["f"]), text(&need["n"]), need["v"].as_u64().unwrap())).collect();
    assert_eq!(found, recorded);
    recorded
}

#[test]
fn recorded_user_part_that_needs_a_newer_part_2_gets_it_with_all_that_this_needs() {
    let (case, installed) = recorded("photon-user-needs-newer-part2");
    assert_eq!(naive(&case), [("s".into(), "2".into(), 6)]);
    // The reference stops here; part 2 of version 6 needs part 1 of version 6 before.
    let catalogue = [entry(part(2), 6, one(Dependency::system(1, 6))), entry(part(1), 6, [NONE; 2])];
    let steps = plan(&Request::new(6, &installed, &catalogue)).unwrap();
    assert_eq!(order(&steps), [(part(1), 6), (part(2), 6)]);
}

#[test]
fn recorded_complete_devices_need_nothing() {
    for name in ["photon-all-satisfied", "factory-copy-with-newer-need"] {
        let (case, installed) = recorded(name);
        assert_eq!(naive(&case), []);
        assert_eq!(next_step(&Request::new(6, &installed, &V2_2_0)), Step::Done, "{name}");
    }
}

#[test]
fn recorded_half_updated_photon_needs_one_part_2_only() {
    let (case, installed) = recorded("photon-cyclic-half-updated");
    // The same module twice, in the version that would not be enough too.
    assert_eq!(naive(&case), [("s".into(), "2".into(), 207), ("s".into(), "2".into(), 2202)]);
    let catalogue = [&V2_2_0[..], &V0_7_0[..]].concat();
    let steps = plan(&Request::new(6, &installed, &catalogue)).unwrap();
    assert_eq!(order(&steps), [(part(2), 2202)]);
}

#[test]
fn recorded_old_bootloader_is_found_though_the_user_part_is_content() {
    let (case, installed) = recorded("photon-bootloader-too-old");
    assert_eq!(naive(&case), [("b".into(), "0".into(), 7)]);
    assert_eq!(case["user_missing_first"], "nothing missing");
    let steps = plan(&Request::new(6, &installed, &V2_2_0)).unwrap();
    assert_eq!(order(&steps), [(BOOTLOADER, 1005)]);
}

#[test]
fn recorded_electron_without_part_3_gets_it_or_hears_that_there_is_none() {
    let (case, installed) = recorded("electron-missing-part3");
    assert_eq!(naive(&case), [("s".into(), "3".into(), 102)]);
    let catalogue = [CatalogueEntry { platform_id: 10, ..entry(part(3), 102, [NONE; 2]) }];
    let steps = plan(&Request::new(10, &installed, &catalogue)).unwrap();
    let why = Why::Needed { by: USER, by_version: 3, at_least: 102, installed: None };
    assert_eq!((steps.len(), steps[0].why), (1, why));
    assert!(matches!(plan(&Request::new(10, &installed, &[])), Err(Reason::Missing { .. })));
}

#[test]
fn generated_modules_are_ordered_as_by_the_reference_sorter() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/modules");
    let names = ["synth-photon-user.bin", "synth-photon-part2.bin", "synth-photon-part1.bin"];
    let catalogue = names.map(|name| {
        let file = std::fs::read(format!("{folder}/{name}")).unwrap();
        CatalogueEntry::from(&Module::parse(&file).unwrap())
    });
    let installed = photon(207, 100, 207);
    let request = Request { target: Some(0), ..Request::new(6, &installed, &catalogue) };
    // The user part has the installed one's version, but the device did not tell a digest.
    assert_eq!(plan(&request), Ok(vec![]));
    let installed = photon(207, 100, 207).map(|have| Installed { sha256: Some([0; 32]), ..have });
    let request = Request { target: Some(0), ..Request::new(6, &installed, &catalogue) };
    let entries: Vec<usize> = plan(&request).unwrap().iter().map(|step| step.entry).collect();
    assert_eq!(entries, [2, 1, 0]);
}

fn any_key() -> impl Strategy<Value = ModuleKey> {
    prop_oneof![Just(BOOTLOADER), (1u8..4).prop_map(part), Just(USER)]
}

fn any_dependencies() -> impl Strategy<Value = [Dependency; 2]> {
    let dependency = prop_oneof![
        2 => Just(NONE),
        3 => (any_key(), 0u16..6).prop_map(|(key, version)| Dependency { function: key.function, index: key.index, version }),
    ];
    [dependency.clone(), dependency]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_step_of_a_plan_finds_what_it_needs_and_the_end_is_complete(
        installed in proptest::collection::btree_map(any_key(), (0u16..6, any_dependencies()), 0..5),
        catalogue in proptest::collection::vec((any_key(), 0u16..8, any_dependencies()), 0..10),
        target in proptest::option::of(0usize..10),
        use_bootstrap: bool,
    ) {
        let mut installed: Vec<Installed> =
            installed.into_iter().map(|(key, (version, needs))| have(key, version, needs)).collect();
        let catalogue: Vec<CatalogueEntry> =
            catalogue.into_iter().map(|(key, version, needs)| entry(key, version, needs)).collect();
        let target = target.filter(|target| *target < catalogue.len());
        let request = Request { target, use_bootstrap, ..Request::new(6, &installed, &catalogue) };
        let Ok(steps) = plan(&request) else { return Ok(()) };
        let find = |installed: &[Installed], key| installed.iter().find(|have| have.key() == key).map(|have| have.version);
        let met = |installed: &[Installed], needs: [Dependency; 2]| needs.into_iter().all(|need| {
            need.is_none() || find(installed, need.into()).is_some_and(|version| version >= need.version)
        });
        for step in &steps {
            let entry = &catalogue[step.entry];
            prop_assert_eq!((step.key, step.version), (entry.key(), entry.version));
            prop_assert!(met(&installed, entry.dependencies), "{}", step);
            if target.is_none() {
                prop_assert!(find(&installed, step.key).is_none_or(|version| version < step.version), "{}", step);
            }
            let breaks = installed.iter().filter(|have| have.key() != step.key).any(|have| {
                have.dependencies.into_iter().any(|need| {
                    let counts = have.function == ModuleFunction::System || met(&installed, [need, NONE]);
                    ModuleKey::from(need) == step.key && need.version > step.version && counts
                })
            });
            prop_assert!(!breaks, "{}", step);
            installed = apply(&installed, entry);
        }
        for have in &installed {
            let beyond = |need: &Dependency| target.is_some_and(|target| {
                catalogue[target].key() == (*need).into() && catalogue[target].version < need.version
            });
            let needs = have.dependencies.map(|need| if beyond(&need) { NONE } else { need });
            prop_assert!(met(&installed, needs), "{:?} in {:?}", have, installed);
        }
        if let Some(target) = target {
            prop_assert_eq!(find(&installed, catalogue[target].key()), Some(catalogue[target].version));
        }
    }
}
