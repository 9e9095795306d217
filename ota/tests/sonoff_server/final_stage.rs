//! The final stage, decided by bytes.

use super::client::{Bench, LENGTH, Sent, id};
use core::time::Duration;
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::server::{
    Config, ConnectionId, Diagnosis, Event, FINAL_STAGE, Failure, FileProblem, Files, HINT, Output, Policy,
    Report, Role, Stage,
};

const AT: [u8; 4] = [192, 168, 4, 1];

fn installed() -> Bench {
    let policy = Policy { final_stage: true, ..Policy::ONCE };
    install(Bench::new(Config { policy, ..Config::default() }))
}

fn install(mut bench: Bench) -> Bench {
    let connection = bench.ready();
    let sequence = bench.offer(connection);
    for first in (0..LENGTH).step_by(4096) {
        bench.get(Slot::User2, Some((first, first + 4095)));
    }
    bench.act(connection, &format!(r#""error":0,"sequence":"{sequence}""#));
    bench.service.closed(bench.now, connection, false);
    bench
}

fn stage(bench: &Bench) -> Stage {
    bench.service.session(&id()).unwrap().stage().unwrap().clone()
}

fn get(bench: &mut Bench, role: Role) -> (ConnectionId, Vec<Sent>) {
    let connection = bench.connect_from(AT, super::client::SESSION_KEY);
    let request = format!("GET {} HTTP/1.0\r\nHost: 192.168.4.2:8080\r\n\r\n", role.final_path().unwrap());
    let sent = bench.input(connection, request.as_bytes());
    (connection, sent)
}

#[test]
fn whole_way_from_slot_1() {
    let mut bench = installed();
    // It looks whether somebody is there, several times.
    for _ in 0..3 {
        let empty = bench.connect_from(AT, super::client::SESSION_KEY);
        bench.service.closed(bench.now, empty, true);
    }
    let (connection, sent) = get(&mut bench, Role::FinalUser2);
    assert!(matches!(&sent[..], [Sent::Bytes(head), Sent::File(_, range), Sent::Finish]
        if head.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n") && *range == (0..LENGTH)));
    bench.service.closed(bench.now, connection, true);
    assert_eq!(stage(&bench), Stage::Final { sent: 0, total: 0 });
    let (connection, _) = get(&mut bench, Role::FinalImage);
    assert_eq!(stage(&bench), Stage::Final { sent: LENGTH, total: LENGTH });
    bench.service.closed(bench.now, connection, true);
    assert_eq!(stage(&bench), Stage::Done { closed: true });
}

#[test]
fn broken_transfer_is_no_end_and_a_new_one_begins_again() {
    let mut bench = installed();
    let (connection, _) = get(&mut bench, Role::FinalImage);
    bench.service.closed(bench.now, connection, false);
    assert_eq!(stage(&bench), Stage::Final { sent: LENGTH, total: LENGTH });
    let (connection, _) = get(&mut bench, Role::FinalImage);
    bench.service.closed(bench.now, connection, true);
    assert_eq!(stage(&bench), Stage::Done { closed: true });
    // It asks once more: so it had not got it.
    let (connection, _) = get(&mut bench, Role::FinalImage);
    assert!(matches!(stage(&bench), Stage::Final { .. }));
    // A device that restarts does not close: after a minute without another request that is probable, and said so.
    assert!(bench.pass(connection, Duration::from_millis(59_999)).is_empty());
    assert!(matches!(stage(&bench), Stage::Final { .. }));
    assert_eq!(bench.pass(connection, Duration::from_millis(1)), [Sent::Close]);
    assert_eq!(stage(&bench), Stage::Done { closed: false });
}

#[test]
fn device_that_asks_again_and_again_is_served_slowly() {
    let mut bench = installed();
    let mut paced = Vec::new();
    for _ in 0..5 {
        let (connection, sent) = get(&mut bench, Role::FinalImage);
        paced.push(sent.iter().any(|sent| matches!(sent, Sent::File(_, range) if *range == (0..10))));
        bench.service.closed(bench.now, connection, false);
    }
    assert_eq!(paced, [false, false, false, true, true]);
    let (connection, _) = get(&mut bench, Role::FinalImage);
    bench.pass(connection, Duration::from_secs(4));
    bench.service.closed(bench.now, connection, true);
    assert_eq!(stage(&bench), Stage::Done { closed: true });
}

#[test]
fn strangers_who_fetch_the_final_image_are_not_the_device() {
    let mut bench = installed();
    let connection = bench.connect_from([192, 168, 77, 99], super::client::SESSION_KEY);
    bench.input(connection, b"GET /ota/image_arduino.bin HTTP/1.0\r\n\r\n");
    bench.service.closed(bench.now, connection, true);
    bench.drain(connection);
    assert_eq!(stage(&bench), Stage::Installed { version: None });
    assert!(bench.reports.iter().any(|report| matches!(report, Report::FinalImageArrived { .. })));
    // Nor is who names it in an upgrade.
    let mut bench = Bench::new(Config::default());
    let socket = bench.ready();
    bench.offer(socket);
    let connection = bench.connect_from([192, 168, 77, 99], super::client::SESSION_KEY);
    bench.input(connection, b"GET /ota/user2.bin?deviceid=1000abcdef HTTP/1.1\r\n\r\n");
    assert_eq!(stage(&bench), Stage::Offered);
}

#[test]
fn what_was_not_acknowledged_has_not_arrived() {
    let mut bench = installed();
    let (connection, _) = get(&mut bench, Role::FinalImage);
    bench.service.unacknowledged(bench.now, connection, 1000);
    bench.service.closed(bench.now, connection, true);
    assert!(matches!(stage(&bench), Stage::Final { .. }));
    let (connection, _) = get(&mut bench, Role::FinalImage);
    bench.service.unacknowledged(bench.now, connection, 1000);
    bench.pass(connection, Duration::from_secs(61));
    assert!(matches!(stage(&bench), Stage::Final { .. }));
    let (connection, _) = get(&mut bench, Role::FinalImage);
    bench.service.unacknowledged(bench.now, connection, 0);
    bench.service.closed(bench.now, connection, true);
    assert_eq!(stage(&bench), Stage::Done { closed: true });
}

#[test]
fn without_an_upgrade_the_arrival_is_told_all_the_same() {
    let mut bench = Bench::new(Config::default());
    let (connection, _) = get(&mut bench, Role::FinalImage);
    bench.service.closed(bench.now, connection, true);
    bench.drain(connection);
    assert!(bench.reports.iter().any(|report| matches!(report, Report::FinalImageArrived { .. })));
}

#[test]
fn lengths_of_the_final_stage_have_their_limits() {
    for (role, limit) in [(Role::FinalImage, 0x8_0000), (Role::FinalUser2, 0x7_f000)] {
        let path = role.final_path().unwrap();
        for (length, fits) in [(4095, false), (4096, true), (limit, true), (limit + 1, false)] {
            let added = Files::new().add(path, role, length);
            assert_eq!(added.is_ok(), fits, "{role:?} {length}");
            assert!(fits || matches!(added, Err(FileProblem::FinalLength { .. })));
        }
    }
    assert_eq!(Files::new().add("/a", Role::Upgrade(Slot::User1), 0), Err(FileProblem::Empty));
}

#[test]
fn part_of_the_image_and_bytes_that_nobody_takes_are_no_end() {
    let mut bench = installed();
    // One byte of it.
    let connection = bench.connect_from(AT, super::client::SESSION_KEY);
    let request = "GET /ota/image_arduino.bin HTTP/1.0\r\nRange: bytes=9999-9999\r\n\r\n";
    bench.input(connection, request.as_bytes());
    bench.service.closed(bench.now, connection, true);
    assert!(matches!(stage(&bench), Stage::Final { .. }));
    // All of it, but the network does not take it: the output after it is never polled.
    let connection = bench.connect_from(AT, super::client::SESSION_KEY);
    let request = "GET /ota/image_arduino.bin HTTP/1.0\r\n\r\n";
    bench.service.handle_input(bench.now, connection, request.as_bytes());
    assert!(matches!(bench.service.poll_output(bench.now, connection), Some(Output::Send(_))));
    assert!(matches!(bench.service.poll_output(bench.now, connection), Some(Output::SendFile { .. })));
    bench.now += Duration::from_secs(100);
    bench.service.handle_deadline(bench.now);
    assert!(matches!(stage(&bench), Stage::Final { sent: 0, .. }));
    bench.service.closed(bench.now, connection, false);
    assert!(matches!(stage(&bench), Stage::Final { .. }));
}

#[test]
fn silence_is_explained_and_has_an_end() {
    let mut bench = installed();
    let connection = bench.connect();
    bench.pass(connection, HINT);
    assert!(bench.events().contains(&Event::Hint(Diagnosis::FinalStageSilent)));
    bench.pass(connection, FINAL_STAGE - HINT);
    assert_eq!(stage(&bench), Stage::Failed(Failure::NoFinalStage));

    let mut bench = installed();
    let (broken, _) = get(&mut bench, Role::FinalImage);
    bench.service.closed(bench.now, broken, false);
    let connection = bench.connect();
    bench.pass(connection, HINT);
    assert!(bench.events().contains(&Event::Hint(Diagnosis::FinalStageRepeats)));
    bench.pass(connection, FINAL_STAGE - HINT);
    assert_eq!(stage(&bench), Stage::Failed(Failure::FinalStage { sent: LENGTH, total: LENGTH }));
}

#[test]
fn two_devices_go_through_the_final_stage_one_after_the_other() {
    let policy = Policy { final_stage: true, ..Policy::ONCE };
    let mut bench = Bench::new(Config { policy, ..Config::default() });
    for (number, id) in ["1000abcdef", "1000abcdee"].into_iter().enumerate() {
        let as_this = |text: &str| text.replace("1000abcdef", id);
        let socket = bench.websocket();
        let register = r#"{"apikey":"11111111-2222-4333-8444-555555555555","deviceid":"1000abcdef","action":"register","romVersion":"1.5.5","model":"ITA-GZ1-GL"}"#;
        bench.say(socket, &as_this(register));
        for rest in [r#""action":"date""#, r#""action":"update""#] {
            let json =
                format!(r#"{{"apikey":"{}","deviceid":"1000abcdef",{rest}}}"#, super::client::SESSION_KEY);
            bench.say(socket, &as_this(&json));
        }
        let device = spark_ota::sonoff::DeviceId::new(id).unwrap();
        bench.service.offer(bench.now, &device, &super::client::offer()).unwrap();
        let sequence = super::client::sequence(&super::client::messages(&bench.drain(socket)));
        for first in (0..LENGTH).step_by(4096) {
            let request = format!(
                "GET /ota/user2.bin?deviceid={id} HTTP/1.1\r\nRange: bytes={first}-{}\r\n\r\n",
                first + 4095
            );
            bench.ask(&request);
        }
        let json = format!(
            r#"{{"apikey":"{}","deviceid":"{id}","error":0,"sequence":"{sequence}"}}"#,
            super::client::SESSION_KEY
        );
        bench.say(socket, &json);
        bench.service.closed(bench.now, socket, false);
        bench.now += Duration::from_secs(30);
        let (connection, _) = get(&mut bench, Role::FinalImage);
        bench.service.closed(bench.now, connection, true);
        let stage = bench.service.session(&device).unwrap().stage().cloned();
        assert_eq!(stage, Some(Stage::Done { closed: true }), "device {number}");
    }
}

#[test]
fn device_that_asks_again_has_not_got_what_went_before() {
    let mut bench = installed();
    // Its first connection stays open, as after a power cycle.
    let (first, _) = get(&mut bench, Role::FinalImage);
    bench.pass(first, Duration::from_secs(45));
    let (second, _) = get(&mut bench, Role::FinalImage);
    bench.pass(second, Duration::from_secs(20));
    assert!(matches!(stage(&bench), Stage::Final { .. }), "the first one tells nothing any more");
    bench.service.closed(bench.now, first, true);
    assert!(matches!(stage(&bench), Stage::Final { .. }));
    bench.pass(second, Duration::from_secs(45));
    assert_eq!(stage(&bench), Stage::Done { closed: false });
}

#[test]
fn slow_arrival_is_waited_for() {
    let mut bench = installed();
    let (connection, _) = get(&mut bench, Role::FinalImage);
    bench.service.unacknowledged(bench.now, connection, 1000);
    assert!(bench.service.is_sending_final_image());
    assert!(bench.pass(connection, Duration::from_secs(300)).is_empty());
    assert!(!bench.events().iter().any(|event| matches!(event, Event::Hint(_))), "it is slow, not silent");
    bench.service.unacknowledged(bench.now, connection, 0);
    assert!(!bench.service.is_sending_final_image());
    bench.service.closed(bench.now, connection, true);
    assert_eq!(stage(&bench), Stage::Done { closed: true });
    // As long as it moves, however slowly.
    let mut bench = installed();
    let (connection, _) = get(&mut bench, Role::FinalImage);
    for bytes in (0..5).rev() {
        bench.service.unacknowledged(bench.now, connection, bytes * 1000);
        assert_eq!(bench.service.is_sending_final_image(), bytes > 0);
        if bytes > 0 {
            assert!(bench.pass(connection, FINAL_STAGE - Duration::from_secs(1)).is_empty(), "{bytes}");
        }
    }
    bench.service.closed(bench.now, connection, true);
    assert_eq!(stage(&bench), Stage::Done { closed: true });
    // But not for ever.
    let mut bench = installed();
    let (connection, _) = get(&mut bench, Role::FinalImage);
    bench.service.unacknowledged(bench.now, connection, 1000);
    let sent = bench.pass(connection, FINAL_STAGE * 3);
    assert_eq!(sent, [Sent::Close]);
    assert!(matches!(stage(&bench), Stage::Failed(Failure::FinalStage { .. })), "{:?}", stage(&bench));
}

/// A bench whose final image is as large as it may be, and a device that has asked for it; its head was taken.
fn large() -> (Bench, ConnectionId) {
    let policy = Policy { final_stage: true, ..Policy::ONCE };
    let mut files = Files::new();
    files.add("/ota/user1.bin", Role::Upgrade(Slot::User1), LENGTH).unwrap();
    files.add("/ota/user2.bin", Role::Upgrade(Slot::User2), LENGTH).unwrap();
    files.add(Role::FinalImage.final_path().unwrap(), Role::FinalImage, LARGE).unwrap();
    let config = Config { policy, ..Config::default() };
    let mut bench = install(Bench::with_files(config, files, 1_795_232_913_130));
    let connection = bench.connect_from(AT, super::client::SESSION_KEY);
    let request = format!("GET {} HTTP/1.0\r\n\r\n", Role::FinalImage.final_path().unwrap());
    bench.service.handle_input(bench.now, connection, request.as_bytes());
    assert!(matches!(bench.service.poll_output(bench.now, connection), Some(Output::Send(_))));
    (bench, connection)
}

const LARGE: u32 = 0x8_0000;

/// Only time passes: the network takes nothing.
fn wait(bench: &mut Bench, time: Duration) {
    let end = bench.now + time;
    while let Some(deadline) = bench.service.next_deadline().filter(|deadline| *deadline <= end) {
        bench.now = bench.now.max(deadline);
        bench.service.handle_deadline(bench.now);
        assert!(bench.service.next_deadline().is_none_or(|next| next > deadline), "{deadline:?}");
    }
    bench.now = end;
}

/// The network takes a piece, and the next one comes.
fn next_piece(bench: &mut Bench, connection: ConnectionId) -> Option<core::ops::Range<u32>> {
    match bench.service.poll_output(bench.now, connection) {
        Some(Output::SendFile { range, .. }) => Some(range),
        Some(Output::Finish) => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn final_image_may_take_hours_as_long_as_it_moves() {
    let (mut bench, connection) = large();
    let mut sent = 0;
    while let Some(range) = next_piece(&mut bench, connection) {
        assert_eq!(stage(&bench), Stage::Final { sent, total: LARGE });
        assert!(range.start == sent && range.end > sent && range.end <= LARGE);
        sent = range.end;
        wait(&mut bench, FINAL_STAGE - Duration::from_secs(1));
    }
    assert_eq!(sent, LARGE);
    assert!(bench.now > Duration::from_secs(7 * 3600));
    bench.service.closed(bench.now, connection, true);
    bench.drain(connection);
    assert_eq!(stage(&bench), Stage::Done { closed: true });
    assert!(!bench.events().iter().any(|event| matches!(event, Event::Hint(_))), "it is slow, not silent");
    // One that does not move has an end, of the connection and of the upgrade.
    let (mut bench, connection) = large();
    next_piece(&mut bench, connection);
    let is_listed = |bench: &mut Bench| {
        let listed = core::iter::from_fn(|| bench.service.poll_connection());
        listed.filter(|id| *id == connection).count() == 1
    };
    is_listed(&mut bench);
    wait(&mut bench, FINAL_STAGE - Duration::from_secs(1));
    assert!(!is_listed(&mut bench) && matches!(stage(&bench), Stage::Final { .. }));
    wait(&mut bench, Duration::from_secs(1));
    assert!(is_listed(&mut bench));
    assert!(matches!(bench.service.poll_output(bench.now, connection), Some(Output::Close)));
    wait(&mut bench, HINT);
    assert!(matches!(stage(&bench), Stage::Failed(Failure::FinalStage { .. })));
}

/// What begins after the end does not put it off, although its bytes move.
#[test]
fn final_stage_that_repeats_has_an_end() {
    let (mut bench, connection) = large();
    let begun = bench.now;
    next_piece(&mut bench, connection);
    bench.service.closed(bench.now, connection, false);
    let mut requests = 1;
    while !matches!(stage(&bench), Stage::Failed(_)) {
        wait(&mut bench, Duration::from_secs(50));
        let (connection, _) = get(&mut bench, Role::FinalImage);
        bench.service.closed(bench.now, connection, false);
        requests += 1;
        assert!(requests < 20);
    }
    assert!((FINAL_STAGE..FINAL_STAGE + Duration::from_secs(51)).contains(&(bench.now - begun)));
}

#[test]
fn only_a_whole_file_with_its_bytes_takes_back_what_went_before() {
    let path = Role::FinalImage.final_path().unwrap();
    let others = [
        format!("HEAD {path} HTTP/1.0\r\n\r\n"),
        format!("POST {path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n"),
        format!("GET {path} HTTP/1.0\r\nRange: bytes=99999-\r\n\r\n"),
        format!("GET {path} HTTP/1.0\r\nRange: bytes=0-9\r\n\r\n"),
    ];
    for (at, other) in others.iter().enumerate() {
        let mut bench = installed();
        let (first, _) = get(&mut bench, Role::FinalImage);
        let second = bench.connect_from(AT, super::client::SESSION_KEY);
        bench.input(second, other.as_bytes());
        bench.service.closed(bench.now, second, true);
        bench.service.closed(bench.now, first, true);
        assert_eq!(stage(&bench), Stage::Done { closed: true }, "{other}");
        let third = bench.connect_from(AT, super::client::SESSION_KEY);
        bench.input(third, other.as_bytes());
        assert_eq!(stage(&bench), Stage::Done { closed: true }, "{at}: it has got it already");
    }
    // On the same connection: behind the whole image it asks for a part.
    let mut bench = installed();
    let connection = bench.connect_from(AT, super::client::SESSION_KEY);
    bench.input(connection, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes());
    bench.input(connection, format!("GET {path} HTTP/1.1\r\nRange: bytes=0-9\r\n\r\n").as_bytes());
    bench.service.closed(bench.now, connection, true);
    assert_eq!(stage(&bench), Stage::Done { closed: true });
}

#[test]
fn strangers_do_not_take_back_what_others_without_an_id_have_got() {
    let mut bench = Bench::new(Config::default());
    let request = b"GET /ota/image_arduino.bin HTTP/1.0\r\n\r\n";
    let [first, second] = [[192, 168, 77, 30], [192, 168, 77, 31]].map(|peer| {
        let connection = bench.connect_from(peer, super::client::SESSION_KEY);
        bench.service.handle_input(bench.now, connection, request);
        // Head and file: the network has it, and has not said so yet.
        for _ in 0..2 {
            assert!(bench.service.poll_output(bench.now, connection).is_some());
        }
        connection
    });
    assert!(bench.service.is_sending_final_image());
    while bench.service.poll_output(bench.now, second).is_some() {}
    bench.service.closed(bench.now, second, true);
    assert!(bench.service.is_sending_final_image(), "the first one still writes");
    bench.drain(first);
    bench.service.closed(bench.now, first, true);
    bench.drain(first);
    let arrived = bench.reports.iter().filter(|report| matches!(report, Report::FinalImageArrived { .. }));
    assert_eq!(arrived.count(), 2);
}

#[test]
fn device_that_asks_without_end_is_told_of_and_fails_in_time() {
    let mut bench = installed();
    let begun = bench.now;
    let repeats = Event::Hint(Diagnosis::FinalStageRepeats);
    let mut requests = 0;
    while matches!(stage(&bench), Stage::Installed { .. } | Stage::Final { .. }) {
        assert!(bench.now - begun <= FINAL_STAGE, "requests put the end off");
        let (connection, _) = get(&mut bench, Role::FinalImage);
        bench.service.closed(bench.now, connection, false);
        requests += 1;
        assert_eq!(bench.events().contains(&repeats), requests >= 4, "{requests}");
        let other = bench.connect();
        bench.pass(other, Duration::from_secs(50));
        bench.service.closed(bench.now, other, true);
    }
    assert!(matches!(stage(&bench), Stage::Failed(Failure::FinalStage { .. })), "{:?}", stage(&bench));
    assert_eq!(bench.events().iter().filter(|event| **event == repeats).count(), 1);
}

#[test]
fn file_of_the_final_stage_that_is_not_served_has_its_reason() {
    let policy = Policy { final_stage: true, ..Policy::ONCE };
    let mut files = Files::new();
    files.add("/ota/user1.bin", Role::Upgrade(Slot::User1), LENGTH).unwrap();
    files.add("/ota/user2.bin", Role::Upgrade(Slot::User2), LENGTH).unwrap();
    files.add(Role::FinalImage.final_path().unwrap(), Role::FinalImage, LENGTH).unwrap();
    let bench = Bench::with_files(Config { policy, ..Config::default() }, files, 1_795_232_913_130);
    let mut bench = install(bench);
    for _ in 0..3 {
        let (connection, sent) = get(&mut bench, Role::FinalUser2);
        assert!(matches!(&sent[..], [Sent::Bytes(head), ..] if head.starts_with(b"HTTP/1.1 404 ")));
        bench.service.closed(bench.now, connection, true);
    }
    let missing = Event::Hint(Diagnosis::FinalStageMissing);
    assert_eq!(bench.events().iter().filter(|event| **event == missing).count(), 1, "{:?}", bench.events());
    let told = bench.reports.iter().filter_map(|report| match report {
        Report::Rejected { why, .. } => why.diagnosis(),
        _ => None,
    });
    assert_eq!(told.collect::<Vec<_>>(), [Diagnosis::FinalStageMissing; 3]);
    let connection = bench.connect();
    bench.pass(connection, FINAL_STAGE);
    assert_eq!(stage(&bench), Stage::Failed(Failure::FinalFileMissing));
}
