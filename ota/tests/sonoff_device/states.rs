//! Every state against every event.

use super::bench::{
    Bench, dating, dispatching, joining, off, opening, pairing, ready, rebooting, registering, upgrading,
    verifying,
};
use spark_ota::sonoff::device::{Link, Profile, State};

#[test]
fn every_state_takes_every_event_and_only_those_that_belong_to_it_change_it() {
    type Make = fn() -> Bench;
    let states: [(State, Make); 11] = [
        (State::Pairing, pairing),
        (State::Joining, || joining(Profile::RANGES)),
        (State::Dispatching, || dispatching(Profile::RANGES)),
        (State::Opening, || opening(Profile::RANGES)),
        (State::Registering, || registering(Profile::RANGES)),
        (State::Dating, || dating(Profile::RANGES)),
        (State::Ready, || ready(Profile::RANGES)),
        (State::Upgrading, || upgrading(Profile::RANGES)),
        (State::Verifying, || verifying(Profile::RANGES)),
        (State::Rebooting, || rebooting(Profile::RANGES)),
        (State::Off, off),
    ];
    type Event = fn(&mut Bench);
    let events: [(&str, Event); 13] = [
        ("joined", |bench| bench.device.joined(bench.now, true)),
        ("not joined", |bench| bench.device.joined(bench.now, false)),
        ("dispatch connected", |bench| bench.connected(Link::Dispatch)),
        ("dispatch closed", |bench| bench.closed(Link::Dispatch)),
        ("socket connected", |bench| bench.connected(Link::WebSocket)),
        ("socket closed", |bench| bench.closed(Link::WebSocket)),
        ("download connected", |bench| bench.connected(Link::Download)),
        ("download closed", |bench| bench.closed(Link::Download)),
        ("nonsense from the dispatcher", |bench| bench.input(Link::Dispatch, b"nonsense")),
        ("nonsense on the socket", |bench| bench.input(Link::WebSocket, &[0xff; 3000])),
        ("nonsense as image", |bench| bench.input(Link::Download, b"nonsense")),
        ("nonsense at the access point", |bench| bench.input(Link::AccessPoint, b"GET / HTTP/1.1\r\n\r\n")),
        ("hash", |bench| bench.device.hashed(bench.now, [0; 32])),
    ];
    for (state, make) in states {
        for (event, happens) in events {
            let mut bench = make();
            assert_eq!(bench.device.state(), state);
            happens(&mut bench);
            bench.drain();
            let expected = match (state, event) {
                (State::Joining, "joined") => State::Dispatching,
                (
                    State::Opening | State::Registering | State::Dating | State::Ready,
                    "socket closed" | "nonsense on the socket",
                ) => State::Dispatching,
                (State::Upgrading, "nonsense as image") | (State::Verifying, "hash") => State::Ready,
                _ => state,
            };
            assert_eq!(bench.device.state(), expected, "{event} in {state:?}");
        }
    }
}
