//! The cloud's session with one device, message by message and without a network.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

mod pair;

use coap_spark::coap::Type;
use coap_spark::handshake::DeviceId;
use coap_spark::message::describe::DescribeFlags;
use coap_spark::message::{Event as Publication, FromDevice, Name, Scope};
use core::time::Duration;
use pair::{HELLO, OUTDATED, Pair};
use spark_cli::cloud::{Event, Relayed};

const OTHER: DeviceId = DeviceId([9; 12]);

fn relayed(name: &str, data: &[u8], public: bool) -> Relayed {
    Relayed {
        device: Some(OTHER),
        name: name.to_owned(),
        data: Some(data.to_vec()),
        max_age: Some(5),
        public,
    }
}

#[test]
fn hello_is_answered_and_describe_is_asked_for() {
    let mut pair = Pair::new();
    assert_eq!(pair.hears(None), ["Hello", "Describe { flags: None }"]);
    assert!(matches!(pair.events()[..], [Event::Online { platform_id: Some(6), .. }]));
}

#[test]
fn device_that_does_not_answer_describe_is_left_alone() {
    let mut pair = Pair::new();
    pair.hears(None);
    pair.events();
    pair.now = Duration::from_secs(15);
    assert_eq!(pair.session.next_deadline(), pair.now);
    pair.session.handle_deadline(pair.now).unwrap();
    assert!(matches!(pair.events()[..], [Event::CannotUpdate { .. }]));
    assert!(pair.hears(None).is_empty());
}

#[test]
fn time_is_told_and_subscriptions_are_acknowledged_or_refused() {
    let mut pair = Pair::new();
    pair.hears(None);
    pair.says(Type::Confirmable, FromDevice::TimeRequest);
    assert_eq!(pair.hears(None), ["response 2.05 Yh/\\x00"]);
    assert_eq!(pair.subscribes("", Scope::MyDevices), ["Ack"]);
    assert_eq!(pair.subscribes("", Scope::All), ["response 4.00 "], "everything of everybody");
    for at in 0..15 {
        assert_eq!(pair.subscribes(&format!("x{at}"), Scope::All), ["Ack"]);
    }
    assert_eq!(pair.subscribes("x15", Scope::All), ["response 4.00 "], "16 are enough");
    assert_eq!(pair.subscribes("x14", Scope::All), ["Ack"], "it has this one");
}

#[test]
fn events_reach_those_who_subscribed_as_they_were_published() {
    let cases: [(Scope<'_>, &[bool; 2]); 4] = [
        (Scope::All, &[true, false]),
        (Scope::MyDevices, &[true, true]),
        (Scope::Device(DeviceId([9; 12])), &[true, true]),
        (Scope::Device(DeviceId([0xaa; 12])), &[false, false]),
    ];
    for (scope, expected) in cases {
        let mut pair = Pair::new();
        pair.hears(None);
        pair.subscribes("room/", scope);
        for (public, wanted) in [true, false].into_iter().zip(expected) {
            pair.session.offer(&relayed("room/temp", b"\xff\x00 21.5", public));
            pair.session.offer(&relayed("kitchen", b"", public));
            let heard = pair.hears(None);
            let event = "event room/temp Some(\"\\\\xff\\\\x00 21.5\") ttl Some(5)".to_owned();
            assert_eq!(heard, if *wanted { vec![event] } else { Vec::new() }, "{scope:?} public {public}");
        }
    }
}

#[test]
fn system_events_stay_between_a_device_and_the_server() {
    let mut pair = Pair::new();
    pair.hears(None);
    for (name, relayed) in
        [("spark/device/safemode", false), ("particle/device/updates/forced", false), ("room/temp", true)]
    {
        let event = Publication { name: Name::new(name), public: false, max_age: None, data: Some(b"true") };
        pair.says(Type::NonConfirmable, FromDevice::Event(event));
        assert_eq!(pair.session.poll_published().is_some(), relayed, "{name}");
    }
    let published =
        pair.events().into_iter().filter(|event| matches!(event, Event::Published { .. })).count();
    assert_eq!(published, 3, "the log shows all of them");
}

#[test]
fn event_that_a_device_cannot_take_is_dropped_and_the_connection_stays() {
    let mut pair = Pair::new();
    pair.hears(None);
    pair.subscribes("", Scope::MyDevices);
    pair.session.offer(&relayed("big", &[b'x'; 900], true));
    pair.session.offer(&relayed("small", b"y", true));
    assert_eq!(pair.hears(None), ["event small Some(\"y\") ttl Some(5)"]);
}

#[test]
fn device_that_asks_faster_than_it_reads_is_not_read_any_more() {
    let mut pair = Pair::new();
    let mut asked = 0;
    while pair.session.wants_input() {
        pair.says(Type::Confirmable, FromDevice::TimeRequest);
        asked += 1;
        assert!(asked < 100, "no bound");
    }
    assert!(pair.hears(None).len() >= asked);
    assert!(pair.session.wants_input(), "once it has read, it may go on");
}

#[test]
fn nothing_that_a_device_says_restarts_a_running_update() {
    let mut pair = Pair::new();
    let heard = pair.hears(Some(OUTDATED));
    assert_eq!(heard[..2], ["Hello", "Describe { flags: None }"]);
    assert_eq!(heard[2], "Ack", "of the confirmable answer");
    assert!(heard[3].starts_with("update begin"), "{heard:?}");
    pair.events();

    pair.says(Type::NonConfirmable, HELLO);
    pair.says(
        Type::Confirmable,
        FromDevice::DescribePost { flags: DescribeFlags(3), payload: OUTDATED.as_bytes() },
    );
    pair.says(
        Type::Confirmable,
        FromDevice::DescribePost { flags: DescribeFlags(4), payload: &[0, 4, 0, 2, 0, 4, 0] },
    );
    let mode =
        Publication { name: Name::new("spark/device/safemode"), public: false, max_age: None, data: None };
    pair.says(Type::NonConfirmable, FromDevice::Event(mode));
    pair.session.offer(&relayed("room", b"", true));
    assert!(pair.hears(None).iter().all(|words| words == "Ack"), "owed acknowledgements and nothing else");
    assert!(pair.events().iter().all(|event| matches!(event, Event::Published { .. })));

    // The connection ends: the update has failed, and did not count as one that the device refused.
    pair.session.handle_end(pair.now);
    assert!(matches!(&pair.events()[..], [Event::UpdateFinished { failure: Some(_), .. }]));
    assert_eq!(*pair.session.attempts(), spark_cli::cloud::updates::Attempts::default());
}

#[test]
fn image_without_room_is_not_sent_and_chunks_are_as_the_device_likes_them() {
    for (name, value, sent) in [
        ("spark/hardware/max_binary", "1400", false),
        ("spark/hardware/max_binary", "393216", true),
        ("spark/hardware/ota_chunk_size", "256", true),
    ] {
        let mut pair = Pair::new();
        let event =
            Publication { name: Name::new(name), public: false, max_age: None, data: Some(value.as_bytes()) };
        pair.says(Type::NonConfirmable, FromDevice::Event(event));
        let heard = pair.hears(Some(OUTDATED));
        assert_eq!(heard.iter().any(|words| words.starts_with("update begin")), sent, "{name} {heard:?}");
        let refused = pair.events().into_iter().find_map(|event| match event {
            Event::CannotUpdate { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(refused.is_none(), sent);
        assert!(refused.is_none_or(|reason| reason.ends_with("the device has room for 1400")));
        if let Some((_, progress)) = pair.session.progress() {
            // Of this module there are 2,800 bytes.
            assert_eq!(progress.chunks, if value == "256" { 11 } else { 6 });
        }
    }
}

#[test]
fn metrics_are_no_describe_document() {
    let mut pair = Pair::new();
    pair.hears(None);
    pair.events();
    pair.says(
        Type::Confirmable,
        FromDevice::DescribePost { flags: DescribeFlags(4), payload: &[0, 4, 0, 2, 0, 4, 0] },
    );
    assert!(pair.events().is_empty());
}

#[test]
fn silence_during_an_update_is_longer_than_elsewhere() {
    let mut pair = Pair::new();
    pair.hears(None);
    assert_eq!(pair.session.handle_deadline(Duration::from_secs(49)), Ok(()));
    let mut pair = Pair::new();
    pair.hears(Some(OUTDATED));
    assert_eq!(
        pair.session.handle_deadline(Duration::from_secs(80)),
        Ok(()),
        "the update has its own limits"
    );
}
