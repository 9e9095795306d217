//! Every state of a device against every event.

use super::client::{Bench, ID, LENGTH, SESSION_KEY, Sent, id, messages, offer, sequence};
use core::time::Duration;
use spark_ota::esp8266::Slot;
use spark_ota::sonoff::server::{
    Config, ConnectionId, DOWNLOADED, Event, Failure, OFFERED, Policy, Presence, REMEMBERED, SERVED, STALLED,
    Stage,
};
use spark_ota::sonoff::upgrade::Refusal;

/// How a device gets into a state.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Start {
    Opened,
    Registered,
    Dated,
    Ready,
    Offered,
    Accepted,
    Downloading,
    Streaming,
    Served,
    Installed,
}

const ALL: [Start; 10] = [
    Start::Opened,
    Start::Registered,
    Start::Dated,
    Start::Ready,
    Start::Offered,
    Start::Accepted,
    Start::Downloading,
    Start::Streaming,
    Start::Served,
    Start::Installed,
];

struct Case {
    bench: Bench,
    connection: ConnectionId,
    sequence: String,
}

fn once() -> Config {
    Config { policy: Policy::ONCE, ..Config::default() }
}

fn start(state: Start, config: Config) -> Case {
    let mut bench = Bench::new(config);
    let connection = bench.websocket();
    let mut sequence = "0".to_owned();
    let at = ALL.iter().position(|found| *found == state).unwrap();
    if at >= 1 {
        bench.register(connection, "1.5.5");
    }
    if at >= 2 {
        bench.act(connection, r#""action":"date""#);
    }
    if at >= 3 {
        bench.act(connection, r#""action":"update","params":{"switch":"off"}"#);
    }
    if at >= 4 {
        sequence = bench.offer(connection);
    }
    let say = |bench: &mut Bench, sequence: &str| {
        bench.act(connection, &format!(r#""error":0,"sequence":"{sequence}""#))
    };
    match state {
        Start::Accepted => drop(say(&mut bench, &sequence)),
        Start::Downloading => drop(bench.get(Slot::User2, Some((0, 4095)))),
        Start::Streaming => drop(bench.get(Slot::User2, None)),
        Start::Served | Start::Installed => {
            for first in (0..LENGTH).step_by(4096) {
                bench.get(Slot::User2, Some((first, first + 4095)));
            }
            if state == Start::Installed {
                say(&mut bench, &sequence);
            }
        }
        _ => {}
    }
    Case { bench, connection, sequence }
}

impl Case {
    fn stage(&self) -> Option<Stage> {
        self.bench.service.session(&id()).and_then(|session| session.stage().cloned())
    }

    fn code(&self) -> &'static str {
        self.stage().map_or("none", |stage| match stage {
            Stage::Failed(failure) => failure.code(),
            stage => stage.code(),
        })
    }

    fn result(&mut self, code: u16) -> &'static str {
        let sequence = self.sequence.clone();
        let said = self.bench.act(self.connection, &format!(r#""error":{code},"sequence":"{sequence}""#));
        assert!(
            said.iter().all(|message| message["action"] == "upgrade"),
            "an answer is not answered: {said:?}"
        );
        self.code()
    }

    fn state(&mut self, code: u16) -> &'static str {
        let sequence = self.sequence.clone();
        let rest = format!(r#""action":"update","params":{{"upgradeState":{code}}},"d_seq":"{sequence}""#);
        let said = self.bench.act(self.connection, &rest);
        assert_eq!(said.first().map(|answer| &answer["error"]), Some(&0.into()), "an update is answered");
        self.code()
    }
}

/// What each state becomes by an event, in the order of `ALL` from `Offered` on.
fn table(event: impl Fn(&mut Case) -> &'static str, expected: [&str; 6]) {
    for (state, expected) in ALL[4..].iter().zip(expected) {
        let mut case = start(*state, once());
        let found = event(&mut case);
        assert_eq!(found, expected, "{state:?}");
    }
}

#[test]
fn states_are_what_they_are_called() {
    table(|case| case.code(), ["offered", "accepted", "downloading", "streaming", "served", "installed"]);
    for state in &ALL[..4] {
        assert_eq!(start(*state, once()).code(), "none");
    }
}

#[test]
fn results_by_state() {
    table(
        |case| case.result(0),
        ["accepted", "accepted", "downloading", "streaming", "installed", "installed"],
    );
    let bad = "bad-request";
    table(|case| case.result(400), [bad, bad, bad, bad, bad, "installed"]);
    table(
        |case| case.result(404),
        ["no-download", "no-download", "first-piece", "download", "download", "installed"],
    );
    table(|case| case.result(406), ["model", "model", "model", "model", "model", "installed"]);
    table(|case| case.result(411), ["model", "model", "model", "model", "model", "installed"]);
    table(|case| case.result(409), ["digest", "digest", "digest", "digest", "digest", "installed"]);
    table(|case| case.result(410), ["version", "version", "version", "version", "version", "installed"]);
    let unknown = "unknown-code";
    table(|case| case.result(999), [unknown, unknown, unknown, unknown, unknown, "installed"]);
}

#[test]
fn last_words_by_state() {
    let early = "not-served";
    table(|case| case.state(0), [early, early, early, early, "installed", "installed"]);
    table(
        |case| case.state(404),
        ["no-download", "no-download", "first-piece", "download", "download", "installed"],
    );
    table(|case| case.state(409), ["digest", "digest", "digest", "digest", "digest", "installed"]);
}

#[test]
fn results_of_something_else_are_not_taken_for_this_one() {
    for sequence in [r#","sequence":"17""#, ""] {
        table(
            |case| {
                let rest = format!(r#""error":404{sequence}"#);
                assert!(case.bench.act(case.connection, &rest).is_empty());
                case.code()
            },
            ["offered", "accepted", "downloading", "streaming", "served", "installed"],
        );
    }
}

#[test]
fn requests_by_state() {
    table(
        |case| {
            case.bench.get(Slot::User2, Some((4096, 8191)));
            case.code()
        },
        ["downloading", "downloading", "downloading", "downloading", "served", "installed"],
    );
    table(
        |case| {
            case.bench.get(Slot::User2, None);
            case.code()
        },
        ["streaming", "streaming", "streaming", "streaming", "served", "installed"],
    );
}

#[test]
fn deadlines_by_state() {
    for (state, wait, failure) in [
        (Start::Offered, OFFERED, Failure::NoDownload { answered: false }),
        (Start::Accepted, OFFERED, Failure::NoDownload { answered: false }),
        (Start::Downloading, STALLED, Failure::Download { sent: 4096, total: LENGTH, last: 0..4096 }),
        (Start::Served, SERVED, Failure::NoResult),
    ] {
        let mut case = start(state, once());
        let connection = case.connection;
        let before = case.stage();
        case.bench.pass(connection, wait - Duration::from_millis(1));
        assert_eq!(case.stage(), before, "{state:?} too early");
        case.bench.pass(connection, Duration::from_millis(1));
        assert_eq!(case.stage(), Some(Stage::Failed(failure)), "{state:?}");
    }
    // A paced file stalls when its connection is gone.
    let mut case = start(Start::Offered, once());
    let connection = case.bench.connect();
    case.bench.input(connection, format!("GET /ota/user2.bin?deviceid={ID} HTTP/1.1\r\n\r\n").as_bytes());
    case.bench.service.closed(case.bench.now, connection, false);
    let connection = case.connection;
    case.bench.pass(connection, STALLED - Duration::from_millis(1));
    assert_eq!(case.code(), "streaming");
    case.bench.pass(connection, Duration::from_millis(1));
    let failure = Failure::Download { sent: 10, total: LENGTH, last: 0..LENGTH };
    assert_eq!(case.stage(), Some(Stage::Failed(failure)));
    // However often something is asked for, a download has its end.
    let mut case = start(Start::Downloading, once());
    let connection = case.connection;
    for _ in 0..7 {
        assert_eq!(case.code(), "downloading");
        case.bench.pass(connection, Duration::from_secs(32));
        case.bench.get(Slot::User2, Some((0, 4095)));
        case.bench.input(connection, &spark_ota::sonoff::frame::device_ping([0; 4]));
    }
    case.bench.pass(connection, Duration::from_secs(1));
    assert_eq!((case.code(), case.bench.now), ("download", DOWNLOADED));
    let mut installed = start(Start::Installed, once());
    let connection = installed.connection;
    installed.bench.pass(connection, Duration::from_secs(10_000));
    assert_eq!(installed.code(), "installed");
}

#[test]
fn lost_connections_by_state() {
    // Without a device there is nobody to ask: 180 s after the loss it is given up.
    for (state, code) in [
        (Start::Offered, "closed-on-upgrade"),
        (Start::Accepted, "closed-on-upgrade"),
        (Start::Downloading, "lost"),
        (Start::Served, "no-result"),
        (Start::Installed, "installed"),
    ] {
        let mut case = start(state, Config::default());
        let (now, connection) = (case.bench.now, case.connection);
        case.bench.service.closed(now, connection, false);
        let before = case.code();
        case.bench.pass(connection, REMEMBERED - Duration::from_millis(1));
        assert_eq!(case.code(), before, "{state:?}");
        case.bench.pass(connection, Duration::from_millis(1));
        assert_eq!(case.code(), code, "{state:?}");
        assert_eq!(case.bench.service.session(&id()).unwrap().presence(), Presence::Away);
    }
}

#[test]
fn registering_again_by_state() {
    let again = |case: &mut Case, version: &str, wait: u64| {
        case.bench.now += Duration::from_secs(wait);
        let (now, connection) = (case.bench.now, case.connection);
        case.bench.service.closed(now, connection, false);
        case.connection = case.bench.websocket();
        let connection = case.connection;
        case.bench.register(connection, version);
        case.code()
    };
    // With another version before all of the image was sent, it is not from here.
    let other = "other-version";
    table(|case| again(case, "9.9.9", 1), [other, other, other, other, "installed", "installed"]);
    table(
        |case| again(case, "1.5.5", 12),
        [
            "closed-on-upgrade",
            "closed-on-upgrade",
            "downloading",
            "streaming",
            "did-not-boot",
            "did-not-boot",
        ],
    );
    // Over the connection that it had it goes on with what it does.
    let anew = |case: &mut Case, version: &str| {
        case.bench.now += Duration::from_secs(12);
        let connection = case.connection;
        case.bench.register(connection, version);
        case.bench.act(connection, r#""action":"date""#);
        case.bench.act(connection, r#""action":"update","params":{"switch":"off"}"#);
        case.code()
    };
    table(
        |case| anew(case, "1.5.5"),
        ["offered", "accepted", "downloading", "streaming", "served", "installed"],
    );
    // So soon after the last byte it may not have restarted yet.
    table(
        |case| again(case, "1.5.5", 1),
        ["closed-on-upgrade", "closed-on-upgrade", "downloading", "streaming", "served", "did-not-boot"],
    );
    for (wait, code) in [(9, "served"), (10, "did-not-boot")] {
        let mut case = start(Start::Served, once());
        assert_eq!(again(&mut case, "1.5.5", wait), code, "{wait} s");
    }
    let mut case = start(Start::Served, once());
    again(&mut case, "1.5.5", 1);
    let connection = case.connection;
    case.bench.pass(connection, SERVED);
    assert_eq!(case.code(), "did-not-boot");
}

#[test]
fn what_a_device_asks_by_state() {
    for state in ALL {
        let mut case = start(state, once());
        let connection = case.connection;
        let date = case.bench.act(connection, r#""action":"date""#);
        let update = case.bench.act(connection, r#""action":"update","params":{"switch":"off"}"#);
        let query = case.bench.act(connection, r#""action":"query","params":["timers"]"#);
        let other = case.bench.act(connection, r#""action":"dance""#);
        if state == Start::Opened {
            for said in [date, update, query, other] {
                assert_eq!((said.len(), &said[0]["error"]), (1, &400.into()), "before register");
            }
            continue;
        }
        assert_eq!((date.len(), date[0]["date"].as_str().unwrap().len()), (1, 24), "{state:?}");
        assert_eq!((update.len(), &update[0]["error"], update[0].get("params")), (1, &0.into(), None));
        assert_eq!((query.len(), &query[0]["params"]), (1, &0.into()));
        assert_eq!((other.len(), &other[0]["error"]), (1, &400.into()));
        for said in [&date, &update, &query, &other] {
            assert_eq!((&said[0]["apikey"], &said[0]["deviceid"]), (&SESSION_KEY.into(), &ID.into()));
        }
    }
}

#[test]
fn offers_by_state() {
    for state in ALL {
        let mut case = start(state, once());
        let now = case.bench.now;
        let found = case.bench.service.offer(now, &id(), &offer());
        match state {
            Start::Opened | Start::Registered => assert_eq!(found, Err(vec![Refusal::NotReady]), "{state:?}"),
            Start::Dated | Start::Ready | Start::Installed => assert!(found.is_ok(), "{state:?}: {found:?}"),
            _ => assert_eq!(found, Err(vec![Refusal::Upgrading]), "{state:?}"),
        }
    }
    let mut away = start(Start::Ready, once());
    let (now, connection) = (away.bench.now, away.connection);
    away.bench.service.closed(now, connection, true);
    assert_eq!(away.bench.service.offer(now, &id(), &offer()), Err(vec![Refusal::NotReady]));
}

#[test]
fn attempts_are_made_on_the_same_connection_each_with_its_own_number() {
    let mut case =
        start(Start::Offered, Config { policy: Policy { attempts: 3, ..Policy::ONCE }, ..Config::default() });
    let mut seen = vec![case.sequence.clone()];
    for _ in 0..2 {
        let rest = format!(r#""error":404,"sequence":"{}""#, case.sequence);
        let said = case.bench.act(case.connection, &rest);
        case.sequence = sequence(&said);
        assert!(!seen.contains(&case.sequence));
        seen.push(case.sequence.clone());
    }
    assert_eq!(case.result(404), "no-download");
    let retries =
        case.bench.events().into_iter().filter(|event| matches!(event, Event::Retry { .. })).count();
    assert_eq!(retries, 2);
}

#[test]
fn date_and_ready_are_told_once_and_the_date_whenever_it_is_asked() {
    let mut bench = Bench::new(Config::default());
    let connection = bench.ready();
    for hour in 0..3 {
        bench.pass(connection, Duration::from_secs(100));
        let said = bench.act(connection, r#""action":"date""#);
        assert_eq!(said.len(), 1, "{hour}");
        bench.act(connection, r#""action":"query","params":[]"#);
    }
    let ready = bench.events().into_iter().filter(|event| *event == Event::Ready).count();
    assert_eq!(ready, 1);
    let text = bench.act(connection, r#""action":"date""#)[0]["date"].as_str().unwrap().to_owned();
    assert_eq!(text, "2026-11-21T03:53:33.130Z", "300 s after the start");
}

#[test]
fn paced_files_keep_their_rhythm_and_nothing_is_said_between() {
    let mut case = start(Start::Offered, once());
    let connection = case.bench.connect();
    let request = format!("GET /ota/user2.bin?deviceid={ID} HTTP/1.1\r\n\r\n");
    let sent = case.bench.input(connection, request.as_bytes());
    assert!(
        matches!(&sent[..], [Sent::Bytes(head), Sent::File(_, range)] if head.starts_with(b"HTTP/1.1 200 OK") && *range == (0..10))
    );
    // A second request waits until the first is answered.
    assert!(case.bench.input(connection, request.as_bytes()).is_empty());
    case.bench.now += Duration::from_millis(899);
    assert!(case.bench.drain(connection).is_empty());
    case.bench.now += Duration::from_millis(1);
    assert!(matches!(&case.bench.drain(connection)[..], [Sent::File(_, range)] if *range == (10..1410)));
    let rest = case.bench.pass(connection, Duration::from_millis(300 * 7));
    assert_eq!(messages(&rest).len(), 0);
    let ends: Vec<_> = rest
        .iter()
        .filter_map(|sent| if let Sent::File(_, range) = sent { Some(range.end) } else { None })
        .collect();
    assert_eq!(ends[..7], [2810, 4210, 5610, 7010, 8410, 9810, 10_000]);
    assert!(
        rest.iter().any(|sent| matches!(sent, Sent::Bytes(head) if head.starts_with(b"HTTP/1.1 200 OK")))
    );
}

#[test]
fn what_has_failed_stays_so_when_the_device_listens_again() {
    let mut case =
        start(Start::Offered, Config { policy: Policy { attempts: 3, ..Policy::ONCE }, ..Config::default() });
    case.bench.service.closed(case.bench.now, case.connection, false);
    case.connection = case.bench.websocket();
    let connection = case.connection;
    case.bench.register(connection, "1.5.5");
    // It registers, and does not ask for the date: nothing is offered to it.
    case.bench.pass(connection, REMEMBERED - Duration::from_secs(1));
    assert!(case.bench.events().iter().filter(|event| matches!(event, Event::Offered { .. })).count() == 1);
    case.bench.pass(connection, Duration::from_secs(1));
    assert_eq!(case.code(), "closed-on-upgrade");
    let again = case.bench.websocket();
    case.bench.register(again, "1.5.5");
    case.bench.act(again, r#""action":"date""#);
    let said = case.bench.act(again, r#""action":"update""#);
    assert_eq!((said.len(), case.code()), (1, "closed-on-upgrade"));
}

#[test]
fn another_attempt_waits_until_the_date_was_asked() {
    let policy = Policy { attempts: 3, ..Policy::ONCE };
    let mut case = start(Start::Downloading, Config { policy, ..Config::default() });
    case.bench.service.closed(case.bench.now, case.connection, false);
    case.connection = case.bench.websocket();
    let connection = case.connection;
    case.bench.register(connection, "1.5.5");
    let sent = case.bench.pass(connection, STALLED + Duration::from_secs(1));
    assert!(messages(&sent).is_empty(), "{sent:?}");
    case.bench.act(connection, r#""action":"date""#);
    let said = case.bench.act(connection, r#""action":"update""#);
    assert_eq!(said.last().unwrap()["action"], "upgrade");
    assert_eq!(case.code(), "offered");
}

#[test]
fn device_that_does_not_restart_by_itself_runs_what_it_ran() {
    let mut bench = Bench::new(once());
    let connection = bench.ready();
    let now = bench.now;
    bench
        .service
        .offer(now, &id(), &spark_ota::sonoff::upgrade::Offer { auto_restart: Some(false), ..offer() })
        .unwrap();
    let sequence = sequence(&messages(&bench.drain(connection)));
    let mut case = Case { bench, connection, sequence };
    for first in (0..LENGTH).step_by(4096) {
        case.bench.get(Slot::User2, Some((first, first + 4095)));
    }
    // Its connection is lost before it has said so.
    case.bench.now += Duration::from_secs(30);
    case.bench.service.closed(case.bench.now, case.connection, false);
    case.connection = case.bench.websocket();
    let connection = case.connection;
    case.bench.register(connection, "1.5.5");
    assert_eq!(case.code(), "served");
    assert_eq!(case.state(0), "installed");
    for version in ["1.5.5", "9.9.9", "1.5.5"] {
        case.bench.now += Duration::from_secs(30);
        case.bench.service.closed(case.bench.now, case.connection, false);
        case.connection = case.bench.websocket();
        let connection = case.connection;
        case.bench.register(connection, version);
        assert_eq!(case.code(), "installed", "{version}");
    }
}
