//! What a server asks beside upgrades.

use super::client::{Bench, SESSION_KEY, Sent, id};
use core::time::Duration;
use serde_json::{Value, json};
use spark_ota::sonoff::message::{Switch, Switches, Unsendable, Update};
use spark_ota::sonoff::server::{Command, CommandError, Config, ConnectionId, Event, SILENCE};
use spark_ota::sonoff::{Sequence, ServerName, Text};

/// Asks, and gives the message as the device gets it.
fn ask(bench: &mut Bench, connection: ConnectionId, command: &Command) -> Value {
    let sequence = bench.service.command(bench.now, &id(), command).unwrap();
    let sent = super::client::messages(&bench.drain(connection));
    let [message] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((&message["apikey"], &message["sequence"]), (&json!(SESSION_KEY), &json!(sequence.as_str())));
    message.clone()
}

fn answers(bench: &mut Bench) -> Vec<(Sequence, u16, Option<Update>)> {
    let answers = bench.events().into_iter().filter_map(|event| match event {
        Event::Answered { sequence, error, state } => Some((sequence, error, state)),
        _ => None,
    });
    let answers = answers.collect();
    bench.reports.clear();
    answers
}

fn redirect() -> Command {
    Command::Redirect { ip: ServerName::new("10.0.0.9").unwrap(), port: 443 }
}

#[test]
fn commands_are_sent_and_their_answers_belong_to_them() {
    let mut bench = Bench::new(Config::default());
    let connection = bench.ready();
    bench.reports.clear();
    let names = ["switch", "rssi"].map(|name| Text::new(name).unwrap());
    for (command, member, value) in [
        (Command::Switch(Switches::One(Switch::On)), "params", json!({"switch": "on"})),
        (
            Command::Switch(Switches::Several(vec![(Switch::Off, 0), (Switch::On, 3)])),
            "params",
            json!({"switches": [{"switch": "off", "outlet": 0}, {"switch": "on", "outlet": 3}]}),
        ),
        (Command::Restart, "action", json!("restart")),
        (Command::QueryDevice { params: names.to_vec() }, "params", json!(["switch", "rssi"])),
    ] {
        let message = ask(&mut bench, connection, &command);
        assert_eq!(message[member], value, "{message}");
        let sequence = message["sequence"].as_str().unwrap();
        assert_eq!(
            bench.act(connection, &format!(r#""error":0,"sequence":"{sequence}""#)),
            Vec::<Value>::new()
        );
        assert_eq!(answers(&mut bench), [(Text::new(sequence).unwrap(), 0, None)]);
        // Once.
        bench.act(connection, &format!(r#""error":0,"sequence":"{sequence}""#));
        assert_eq!(answers(&mut bench), []);
    }
    // A refusal, a state, and what is answered without a number.
    let first = ask(&mut bench, connection, &Command::Restart)["sequence"].as_str().unwrap().to_owned();
    let second = ask(&mut bench, connection, &Command::QueryDevice { params: names.to_vec() });
    let second = second["sequence"].as_str().unwrap();
    assert_ne!(first, second);
    bench.act(
        connection,
        &format!(r#""error":0,"sequence":"{second}","params":{{"switch":"on","rssi":-41}}"#),
    );
    bench.act(connection, &format!(r#""error":400,"sequence":"{first}""#));
    let state = Update { switches: Some(Switches::One(Switch::On)), rssi: Some(-41), ..Update::default() };
    let expected = [(Text::new(second).unwrap(), 0, Some(state)), (Text::new(&first).unwrap(), 400, None)];
    assert_eq!(answers(&mut bench), expected);
    for command in [redirect(), Command::Notify { hb_interval: 30 }] {
        let message = ask(&mut bench, connection, &command);
        bench.act(connection, r#""error":0"#);
        assert_eq!(
            answers(&mut bench),
            [(Text::new(message["sequence"].as_str().unwrap()).unwrap(), 0, None)]
        );
    }
    bench.act(connection, r#""error":0"#);
    assert_eq!(answers(&mut bench), []);
}

#[test]
fn what_cannot_be_asked_is_refused_and_nothing_sent() {
    let command = |bench: &mut Bench, command: &Command| bench.service.command(bench.now, &id(), command);
    let mut bench = Bench::new(Config::default());
    assert_eq!(command(&mut bench, &Command::Restart), Err(CommandError::Away), "nobody knows it");
    let connection = bench.websocket();
    assert_eq!(command(&mut bench, &Command::Restart), Err(CommandError::Away), "it has not registered");
    bench.register(connection, "1.5.5");
    for (refused, error) in [
        (Command::Notify { hb_interval: 0 }, CommandError::Zero),
        (Command::Redirect { ip: ServerName::new("a").unwrap(), port: 0 }, CommandError::Zero),
        (
            Command::Switch(Switches::Several(Vec::new())),
            CommandError::Unsendable(Unsendable::Elements { field: "switches", count: 0, limit: 8 }),
        ),
        (
            Command::QueryDevice { params: vec![Text::new("a").unwrap(); 17] },
            CommandError::Unsendable(Unsendable::Elements { field: "params", count: 17, limit: 16 }),
        ),
    ] {
        assert_eq!(command(&mut bench, &refused), Err(error));
    }
    assert_eq!(bench.drain(connection), []);
    ask(&mut bench, connection, &Command::Restart);
    bench.service.closed(bench.now, connection, true);
    assert_eq!(command(&mut bench, &Command::Restart), Err(CommandError::Away), "it has gone");
    // What it did not answer is forgotten with its connection.
    let connection = bench.ready();
    bench.reports.clear();
    bench.act(connection, r#""error":0"#);
    assert_eq!(answers(&mut bench), []);
}

#[test]
fn silence_is_that_of_the_interval_that_was_told() {
    for (hb_interval, silence) in [(30, SILENCE), (145, SILENCE), (600, Duration::from_secs(637))] {
        let mut bench = Bench::new(Config::default());
        let connection = bench.ready();
        ask(&mut bench, connection, &Command::Notify { hb_interval });
        assert!(bench.pass(connection, silence - Duration::from_millis(1)).is_empty(), "{hb_interval}");
        assert_eq!(bench.pass(connection, Duration::from_millis(1)), [Sent::Close], "{hb_interval}");
        // A new connection has the usual one again.
        let connection = bench.ready();
        assert_eq!(bench.pass(connection, SILENCE), [Sent::Close]);
    }
}

#[test]
fn clock_that_is_put_right_is_told() {
    let mut bench = Bench::new(Config::default());
    let connection = bench.websocket();
    bench.register(connection, "1.5.5");
    let date = |bench: &mut Bench| bench.act(connection, r#""action":"date""#)[0]["date"].clone();
    assert_eq!(date(&mut bench), "2026-11-21T03:48:33.130Z");
    bench.now = Duration::from_secs(90);
    bench.service.set_clock(bench.now, 1_795_305_600_000);
    assert_eq!(date(&mut bench), "2026-11-22T00:00:00.000Z");
    bench.now += Duration::from_secs(1);
    assert_eq!(date(&mut bench), "2026-11-22T00:00:01.000Z");
    // Numbers of requests go on all the same.
    let first = ask(&mut bench, connection, &Command::Restart)["sequence"].as_str().unwrap().to_owned();
    bench.service.set_clock(bench.now, 0);
    let second = ask(&mut bench, connection, &Command::Restart)["sequence"].as_str().unwrap().to_owned();
    assert!(second > first, "{first} {second}");
}
