//! Simulated devices of every generation against the service, under a virtual clock: what breaks, and the reason that is
//! given for it.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::missing_docs_in_private_items,
    reason = "test code"
)]

mod world;

use core::time::Duration;
use proptest::prelude::*;
use spark_ota::sonoff::ServerName;
use spark_ota::sonoff::device::{Link, Profile};
use spark_ota::sonoff::server::{Command, Diagnosis, Event, Failure, Policy, Presence, Report, Stage};
use world::{Fault, OLD_VERSION, World, device_id};

const LENGTH: usize = 20_000;
const TEN_MINUTES: Duration = Duration::from_secs(600);

fn run(profile: Profile, policy: Policy, faults: &[Fault]) -> (World, Stage) {
    let mut world = World::new(policy, LENGTH, faults);
    let id = world.add_device(profile);
    world.run(TEN_MINUTES);
    let stage = world.stage(&id).expect("an upgrade was offered");
    (world, stage)
}

fn failure(profile: Profile, policy: Policy, faults: &[Fault]) -> Failure {
    match run(profile, policy, faults) {
        (_, Stage::Failed(failure)) => failure,
        (world, stage) => panic!("{profile:?} {faults:?}: {stage:?} {:?}", world.reports),
    }
}

fn has_image(world: &World, number: usize) -> bool {
    let slot = world::identity(number).running.other();
    let image = &world.images[usize::from(slot.number()) - 1];
    world.flash(number)[slot.flash_offset() as usize..].starts_with(image)
}

#[test]
fn every_generation_is_upgraded() {
    for profile in [Profile::OLD, Profile::RANGES, Profile::LATER] {
        let (mut world, stage) = run(profile, Policy::ONCE, &[]);
        assert!(matches!(stage, Stage::Installed { .. }), "{profile:?}: {stage:?}");
        assert!(has_image(&world, 0));
        // It comes back with its new version, which is the last proof.
        world.wait(Duration::from_secs(60));
        let stage = world.stage(&device_id(0)).unwrap();
        assert!(
            matches!(stage, Stage::Installed { version: Some(version) } if version == "9.9.9"),
            "{stage:?}"
        );
    }
}

#[test]
fn device_that_waits_for_its_restart_gets_it() {
    let mut world = World::new(Policy::ONCE, LENGTH, &[]);
    world.auto_restart = Some(false);
    let id = world.add_device(Profile::LATER);
    world.run(TEN_MINUTES);
    world.wait(Duration::from_secs(60));
    let installed =
        |version: Option<&str>| Stage::Installed { version: version.map(|text| text.parse().unwrap()) };
    assert_eq!(world.stage(&id), Some(installed(None)), "it still runs the old one");
    let sequence = world.service.command(world.now, &id, &Command::Restart).unwrap();
    world.wait(Duration::from_secs(60));
    assert_eq!(world.stage(&id), Some(installed(Some("9.9.9"))));
    assert!(world.events(&id).contains(&Event::Answered { sequence, error: 0, state: None }));
}

#[test]
fn redirected_device_comes_back() {
    for profile in [Profile::OLD, Profile::RANGES, Profile::LATER] {
        let mut world = World::new(Policy::ONCE, LENGTH, &[]);
        let id = world.add_device(profile);
        world.run(TEN_MINUTES);
        world.wait(Duration::from_secs(60));
        let before = world.events(&id).len();
        let ip = ServerName::new(world::HOST).unwrap();
        let sequence = world.service.command(world.now, &id, &Command::Redirect { ip, port: 8443 }).unwrap();
        world.wait(Duration::from_secs(60));
        let events = world.events(&id).split_off(before);
        assert!(events.contains(&Event::Answered { sequence, error: 0, state: None }), "{events:?}");
        assert!(events.contains(&Event::Away) && events.contains(&Event::Ready), "{events:?}");
    }
}

#[test]
fn stages_are_told_in_their_order() {
    let (world, _) = run(Profile::LATER, Policy::ONCE, &[]);
    let told: Vec<_> = world
        .events(&device_id(0))
        .into_iter()
        .map(|event| match event {
            Event::Stage(Stage::Downloading { .. }) => "downloading".to_owned(),
            Event::Stage(stage) => format!("{stage:?}").to_lowercase(),
            Event::State { .. } => "state".to_owned(),
            Event::Registered { .. } => "registered".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        })
        .collect();
    assert_eq!(
        told,
        [
            "dispatched",
            "registered",
            "state",
            "ready",
            "offered { attempt: 1 }",
            "accepted",
            "downloading",
            "served",
            "installed { version: none }"
        ]
    );
}

#[test]
fn connection_lost_within_each_answer_is_taken_up_again() {
    for answer in 0..LENGTH.div_ceil(4096) {
        for profile in [Profile::RANGES, Profile::LATER] {
            let (world, stage) = run(profile, Policy::ONCE, &[Fault::DownloadBreaks { answer }]);
            assert!(matches!(stage, Stage::Installed { .. }), "{answer}: {stage:?}");
            assert!(has_image(&world, 0));
        }
    }
    // The old one gives up, and the reason has what it was given.
    let broken = failure(Profile::OLD, Policy::ONCE, &[Fault::DownloadBreaks { answer: 3 }]);
    assert!(matches!(broken, Failure::Download { sent: 2810, .. }), "{broken:?}");
    let (world, stage) = run(Profile::OLD, Policy::default(), &[Fault::DownloadBreaks { answer: 3 }]);
    assert!(matches!(stage, Stage::Installed { .. }), "{stage:?}");
    assert!(world.events(&device_id(0)).iter().any(|event| matches!(event, Event::Retry { .. })));
}

#[test]
fn socket_lost_in_mid_download_is_matched_by_the_id() {
    for answer in 0..LENGTH.div_ceil(4096) {
        for profile in [Profile::RANGES, Profile::LATER] {
            let (world, stage) = run(profile, Policy::ONCE, &[Fault::SocketBreaks { answer }]);
            assert!(
                matches!(stage, Stage::Installed { .. }),
                "{profile:?} {answer}: {stage:?} {:?}",
                world.reports
            );
            assert!(has_image(&world, 0));
        }
    }
}

#[test]
fn wifi_that_comes_back_is_taken_up_again_and_wifi_that_does_not_is_told() {
    for answer in 0..LENGTH.div_ceil(4096) {
        let short = Fault::Wifi { answer, outage: Duration::from_secs(2) };
        let (world, stage) = run(Profile::RANGES, Policy::default(), &[short]);
        assert!(matches!(stage, Stage::Installed { .. }), "{answer}: {stage:?} {:?}", world.reports);
        let long = Fault::Wifi { answer, outage: TEN_MINUTES };
        let lost = failure(Profile::RANGES, Policy::default(), &[long]);
        assert!(matches!(lost, Failure::Lost { .. }), "{answer}: {lost:?}");
        assert_eq!(lost.diagnosis(), Diagnosis::Interrupted);
    }
}

#[test]
fn closed_port_is_told_as_such_after_all_attempts_on_the_same_socket() {
    for (profile, answered) in [(Profile::OLD, true), (Profile::RANGES, true), (Profile::LATER, true)] {
        let (world, stage) = run(profile, Policy::default(), &[Fault::Firewall]);
        assert_eq!(stage, Stage::Failed(Failure::NoDownload { answered }), "{profile:?}");
        let events = world.events(&device_id(0));
        let offers = events.iter().filter(|event| matches!(event, Event::Offered { .. })).count();
        let registered = events.iter().filter(|event| matches!(event, Event::Registered { .. })).count();
        assert_eq!((offers, registered), (3, 1), "{profile:?}");
        let Stage::Failed(failure) = stage else { unreachable!() };
        assert!(failure.advice().contains("firewall"));
    }
}

#[test]
fn old_downloader_is_paced_when_it_is_overrun() {
    let (world, stage) =
        run(Profile::OLD, Policy { attempts: 1, full_speed_first: true, ..Policy::ONCE }, &[]);
    assert!(matches!(stage, Stage::Installed { .. }), "{stage:?}");
    let events = world.events(&device_id(0));
    assert!(events.contains(&Event::Retry { failure: Failure::Overrun }), "{events:?}");
    let paced: Vec<_> = world
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Requested { status: 200, paced, .. } => Some(*paced),
            _ => None,
        })
        .collect();
    assert_eq!(paced, [false, true]);
    // At once if it is not asked to be quick.
    let (world, _) = run(Profile::OLD, Policy::ONCE, &[]);
    assert!(world.events(&device_id(0)).iter().all(|event| !matches!(event, Event::Retry { .. })));
}

#[test]
fn damage_on_the_way_is_another_digest() {
    for answer in [0, LENGTH / 4096] {
        for profile in [Profile::RANGES, Profile::LATER] {
            let digest = failure(profile, Policy::default(), &[Fault::Damage { answer }]);
            assert_eq!((&digest, digest.diagnosis()), (&Failure::Digest, Diagnosis::Digest));
        }
    }
}

#[test]
fn image_that_does_not_boot_is_found_out_when_the_device_comes_back() {
    for profile in [Profile::OLD, Profile::RANGES, Profile::LATER] {
        for fault in [Fault::DoesNotBoot, Fault::WrongSlot] {
            let mut world = World::new(Policy::default(), LENGTH, &[fault]);
            let id = world.add_device(profile);
            world.run(TEN_MINUTES);
            world.wait(Duration::from_secs(60));
            let Some(Stage::Failed(failure)) = world.stage(&id) else { panic!("{:?}", world.stage(&id)) };
            assert!(matches!(failure, Failure::DidNotBoot { rom_version } if rom_version == OLD_VERSION));
            assert_eq!(failure.diagnosis(), Diagnosis::DoesNotBoot);
        }
    }
}

#[test]
fn device_that_closes_on_the_offer_is_asked_again_when_it_is_back() {
    let (world, stage) = run(Profile::RANGES, Policy::default(), &[Fault::ClosesOnOffer { times: 2 }]);
    assert!(matches!(stage, Stage::Installed { .. }), "{stage:?} {:?}", world.reports);
    let closes = [Fault::ClosesOnOffer { times: 9 }];
    let closed = failure(Profile::RANGES, Policy::default(), &closes);
    assert_eq!((&closed, closed.diagnosis()), (&Failure::ClosedOnUpgrade, Diagnosis::Model));
}

// Its reason is known where the TLS handshake is: in the program.
#[test]
fn pinned_firmware_never_says_a_word() {
    let mut world = World::new(Policy::default(), LENGTH, &[]);
    let id = world.add_device(Profile::PINNED);
    world.run(TEN_MINUTES);
    assert!(world.service.session(&id).is_none() && world.reports.is_empty(), "{:?}", world.reports);
}

#[test]
fn several_devices_are_upgraded_at_once_each_from_its_slot() {
    let mut world = World::new(Policy::default(), LENGTH, &[Fault::DownloadBreaks { answer: 1 }]);
    for profile in [Profile::RANGES, Profile::LATER, Profile::OLD, Profile::LATER, Profile::RANGES] {
        world.add_device(profile);
    }
    world.run(TEN_MINUTES);
    for number in 0..5 {
        let stage = world.stage(&device_id(number));
        assert!(matches!(stage, Some(Stage::Installed { .. })), "{number}: {stage:?}");
        assert!(has_image(&world, number));
    }
    assert!(world.warnings.is_empty(), "{:?}", world.warnings);
}

#[test]
fn silent_devices_are_dropped_and_not_asked_with_pings() {
    let (mut world, _) = run(Profile::RANGES, Policy::ONCE, &[]);
    world.wait(Duration::from_secs(1200));
    let session = world.service.session(&device_id(0)).unwrap();
    assert_eq!(session.presence(), Presence::Ready, "its pings keep it here");
    let away =
        |world: &World| world.events(&device_id(0)).iter().filter(|event| **event == Event::Away).count();
    let before = away(&world);
    world.cut(0, Link::WebSocket);
    world.settle();
    assert_eq!(away(&world), before + 1);
}

fn any_fault() -> impl Strategy<Value = Fault> {
    let answer = 0usize..8;
    prop_oneof![
        answer.clone().prop_map(|answer| Fault::DownloadBreaks { answer }),
        answer.clone().prop_map(|answer| Fault::SocketBreaks { answer }),
        answer.clone().prop_map(|answer| Fault::Damage { answer }),
        (answer, 0u64..300)
            .prop_map(|(answer, seconds)| Fault::Wifi { answer, outage: Duration::from_secs(seconds) }),
        (0usize..4).prop_map(|times| Fault::ClosesOnOffer { times }),
        Just(Fault::Firewall),
        Just(Fault::DoesNotBoot),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_upgrade_ends_and_success_is_never_wrong(
        choice in 0usize..3,
        slow in any::<bool>(),
        faults in proptest::collection::vec(any_fault(), 0..4),
    ) {
        let profile = [Profile::OLD, Profile::RANGES, Profile::LATER][choice];
        let policy = Policy { attempts: 3, full_speed_first: slow, ..Policy::ONCE };
        let mut world = World::new(policy, LENGTH, &faults);
        let id = world.add_device(profile);
        world.run(Duration::from_secs(3600));
        let stage = world.stage(&id).expect("an upgrade was offered");
        prop_assert!(stage.is_end(), "{:?} {:?}", stage, world.reports);
        if stage.is_success() {
            prop_assert!(has_image(&world, 0), "{:?}", world.reports);
        }
    }
}
