//! The cloud's session with one device, message by message and without a network.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use coap_spark::coap::Type;
use coap_spark::connection::{DeviceConnection, Profile, Request, ServerConnection, ServerPolicy};
use coap_spark::handshake::DeviceId;
use coap_spark::message::describe::DescribeFlags;
use coap_spark::message::{
    Envelope, Event as Publication, FromDevice, FromServer, Hello, HelloFlags, Name, Response, Scope,
    Subscribe,
};
use coap_spark::session::SessionKeys;
use core::time::Duration;
use spark_cli::cloud::catalogue::Catalogue;
use spark_cli::cloud::session::{Session, SessionOptions};
use spark_cli::cloud::{Event, Relayed};
use spark_cli::synthetic;
use std::sync::Arc;

const HELLO: FromDevice<'static> = FromDevice::Hello(Hello::new(6, 1, HelloFlags(0), 6));
const OTHER: DeviceId = DeviceId([9; 12]);

/// A scripted device beside the session.
struct Pair {
    session: Session,
    device: DeviceConnection<800>,
    now: Duration,
}

impl Pair {
    fn new() -> Self {
        let keys = SessionKeys::new([5; 40]);
        let now = Duration::ZERO;
        let connection = ServerConnection::new(&keys, ServerPolicy::DEFAULT, 1, now);
        let catalogue = Arc::new(Catalogue::new(synthetic::small(true).unwrap()));
        let session = Session::new(DeviceId([1; 12]), connection, catalogue, SessionOptions::default());
        let mut pair = Self { session, device: DeviceConnection::new(&keys, Profile::V2_3_1, now), now };
        pair.says(Type::NonConfirmable, HELLO);
        pair
    }

    fn says(&mut self, kind: Type, body: FromDevice<'_>) {
        let mut out = [0; 1024];
        let frame = self.device.send(kind, body, &mut out).unwrap().bytes.to_vec();
        self.session.handle_input(self.now, 1_500_000_000, &frame).unwrap();
    }

    /// What the server sends, in words; Describe is answered with `describe` if there is one.
    fn hears(&mut self, describe: Option<&str>) -> Vec<String> {
        let mut heard = Vec::new();
        let mut out = [0; 2048];
        while let Some(frame) = self.session.poll_send(self.now, &mut out).unwrap() {
            let frame = frame.to_vec();
            assert_eq!(self.device.handle_input(self.now, &frame), Ok(frame.len()));
            let mut buffer = [0; 800];
            let Some(message) = self.device.take_message(&mut buffer) else { continue };
            heard.push(words(&message));
            if let (Some(request), Some(describe)) = (Request::of(&message), describe) {
                let response =
                    Response { code: coap_spark::coap::Code::CONTENT, payload: describe.as_bytes() };
                let mut reply = [0; 2048];
                let frames = self.device.reply(request, response, &mut reply).unwrap().to_vec();
                self.session.handle_input(self.now, 0, &frames).unwrap();
            }
        }
        heard
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn subscribes(&mut self, prefix: &str, scope: Scope<'_>) -> Vec<String> {
        let subscribe = Subscribe { prefix: Name::new(prefix), scope };
        self.says(Type::Confirmable, FromDevice::Subscribe(subscribe));
        self.hears(None)
    }
}

fn words(message: &Envelope<FromServer<'_>>) -> String {
    match message.body {
        FromServer::Event(event) => {
            let data = event.data.map(<[u8]>::escape_ascii).map(|data| data.to_string());
            format!("event {} {:?} ttl {:?}", event.name, data, event.max_age)
        }
        FromServer::Response(response) => {
            format!("response {} {}", response.code, response.payload.escape_ascii())
        }
        FromServer::UpdateBegin(begin) => format!("update begin {}", begin.file_length),
        other => format!("{other:?}"),
    }
}

fn relayed(name: &str, data: &[u8], public: bool) -> Relayed {
    Relayed {
        device: Some(OTHER),
        name: name.to_owned(),
        data: Some(data.to_vec()),
        max_age: Some(5),
        public,
    }
}

/// A device that lacks system part 2 of 1404.
const OUTDATED: &str = r#"{"p":6,"m":[{"s":16384,"l":"m","vc":30,"vv":30,"f":"b","n":"0","v":1005,"d":[]},{"s":262144,"l":"m","vc":30,"vv":30,"f":"s","n":"1","v":2202,"d":[]},{"s":262144,"l":"m","vc":30,"vv":30,"f":"s","n":"2","v":207,"d":[]},{"s":131072,"l":"m","vc":30,"vv":26,"f":"u","n":"1","v":6,"d":[{"f":"s","n":"2","v":1404}]}]}"#;

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
    assert!(heard[3].starts_with("event spark/safe-mode-updater/updating"), "{heard:?}");
    assert!(heard[4].starts_with("update begin"), "{heard:?}");
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
