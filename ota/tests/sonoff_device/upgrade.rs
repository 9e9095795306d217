//! Upgrades: what is refused, downloads of both kinds, results.

use super::bench::{
    Bench, NOW, SECOND, access, entry, hashed, identity, image, ready, rebooting, result, serve, session_key,
    upgrade, upgrading, verifying,
};
use serde_json::Value;
use spark_ota::sonoff::device::{Device, Identity, Link, Output, Profile, State};
use spark_ota::sonoff::dispatch::DispatchAnswer;
use spark_ota::sonoff::http::{Pace, RequestHead, answer};
use spark_ota::sonoff::message::{Date, DeviceBody, ServerBody, ServerMessage, Upgrade};
use spark_ota::sonoff::upgrade::Slot;
use spark_ota::sonoff::{Model, ServerName, Text, Version, handshake, limits};

#[test]
fn each_fault_of_an_upgrade_has_its_code() {
    let code = |profile: Profile, change: &dyn Fn(&mut Upgrade)| {
        let mut bench = ready(profile);
        let mut upgrade = upgrade();
        change(&mut upgrade);
        bench.send(Some("7"), ServerBody::Upgrade(upgrade));
        match bench.said()[..] {
            [DeviceBody::Result { error, sequence }] => {
                assert_eq!(sequence.unwrap(), "7");
                Some(error)
            }
            _ => None,
        }
    };
    let later = Profile::LATER;
    assert_eq!(code(later, &|_| {}), Some(0), "accepted");
    assert_eq!(code(Profile::RANGES, &|_| {}), None, "not answered yet");
    assert_eq!(code(later, &|upgrade| upgrade.auto_restart = None), Some(400));
    assert_eq!(code(Profile::RANGES, &|upgrade| upgrade.auto_restart = None), None);
    assert_eq!(code(later, &|upgrade| upgrade.bin_list.truncate(1)), Some(400), "it runs from the first");
    assert_eq!(code(later, &|upgrade| upgrade.bin_list = vec![entry(Slot::User2)]), Some(0));
    assert_eq!(code(later, &|upgrade| upgrade.bin_list[1].digest = Text::new("ab").unwrap()), Some(400));
    assert_eq!(code(later, &|upgrade| upgrade.model = Model::new("other").unwrap()), Some(406));
    assert_eq!(code(later, &|upgrade| upgrade.version = Version::new("1.5.5").unwrap()), Some(410));
    assert_eq!(code(later, &|upgrade| upgrade.version = Version::new("1.5.55").unwrap()), Some(410));
    let https = |upgrade: &mut Upgrade| upgrade.bin_list[1].download_url = Text::new("https://a/b").unwrap();
    assert_eq!(code(later, &https), Some(404));
    for field in ["model", "version", "binList", "downloadUrl", "digest", "name"] {
        let mut bench = ready(later);
        let message = ServerMessage {
            device_id: identity().device_id,
            api_key: session_key(),
            sequence: Some(Text::new("7").unwrap()),
            body: ServerBody::Upgrade(upgrade()),
        };
        bench.send_json(&message.to_json().unwrap().replace(field, "other"));
        assert_eq!(bench.said(), [result(400, Some("7"))], "{field}");
    }
}

#[test]
fn what_is_longer_than_a_device_keeps_is_of_no_use_to_it() {
    let answered = |from: &str, to: &str| {
        let mut bench = ready(Profile::LATER);
        let message = ServerMessage {
            device_id: identity().device_id,
            api_key: session_key(),
            sequence: Some(Text::new("7").unwrap()),
            body: ServerBody::Upgrade(upgrade()),
        };
        bench.send_json(&message.to_json().unwrap().replace(from, to));
        bench.said()
    };
    let path = |length: usize| format!("/{}", "p".repeat(length - 1));
    let host = |length: usize| format!("{}:80/", "h".repeat(length));
    assert_eq!(answered("/ota/user2.bin", &path(99)), [result(0, Some("7"))]);
    assert_eq!(answered("/ota/user2.bin", &path(100)), [result(404, Some("7"))]);
    assert_eq!(answered("192.168.77.10:8080/", &host(49)), [result(0, Some("7"))]);
    assert_eq!(answered("192.168.77.10:8080/", &host(50)), [result(404, Some("7"))]);
    // 149 bytes in all, with the longest host.
    let url = |length: usize| {
        let host = format!("http://{}/", "h".repeat(49));
        format!("{host}{}", "p".repeat(length - host.len()))
    };
    let whole = "http://192.168.77.10:8080/ota/user2.bin";
    assert_eq!(answered(whole, &url(149)), [result(0, Some("7"))]);
    assert_eq!(answered(whole, &url(150)), [result(404, Some("7"))]);
    assert_eq!(answered("/ota/user2.bin", "/ota:user2.bin"), [result(404, Some("7"))]);
    assert_eq!(answered("9.9.9", &"9".repeat(40)), [result(400, Some("7"))]);
    assert_eq!(answered("\"7\"", &format!("\"{}\"", "7".repeat(50))), [result(0, Some(&"7".repeat(50)))]);
    assert_eq!(answered("\"7\"", &format!("\"{}\"", "7".repeat(51))), [result(0, None)]);
}

#[test]
fn older_firmware_closes_the_connection_on_another_model() {
    let mut bench = ready(Profile::RANGES);
    let other = Upgrade { model: Model::new("other").unwrap(), ..upgrade() };
    bench.send(Some("7"), ServerBody::Upgrade(other));
    assert_eq!(bench.take(), [Output::Close(Link::WebSocket)]);
}

#[test]
fn second_upgrade_at_once_is_passed_over() {
    for mut bench in [upgrading(Profile::LATER), verifying(Profile::LATER), rebooting(Profile::LATER)] {
        let state = bench.device.state();
        bench.said();
        bench.send(Some("8"), ServerBody::Upgrade(upgrade()));
        assert_eq!((bench.said(), bench.device.state()), (vec![], state));
    }
}

#[test]
fn image_is_asked_for_in_ranges_one_after_the_other() {
    let mut bench = upgrading(Profile::RANGES);
    for (k, range) in ["bytes=0-4095", "bytes=4096-8191", "bytes=8192-9999"].into_iter().enumerate() {
        let outputs = bench.take();
        let Some(Output::Send { link: Link::Download, bytes }) = outputs.last() else {
            panic!("{outputs:?}")
        };
        let (get, _) = RequestHead::parse(bytes).unwrap().unwrap();
        assert_eq!((get.path.as_str(), get.header("Range")), ("/ota/user2.bin", Some(range)));
        if k > 0 {
            let address = 0x8_1000 + 4096 * (u32::try_from(k).unwrap() - 1);
            assert_eq!(outputs[0], Output::Erase { address });
            assert!(
                matches!(&outputs[1], Output::Write { address: at, data } if *at == address && data.len() == 4096)
            );
        }
        serve(&mut bench, &get);
    }
    let outputs = bench.take();
    let [
        Output::Erase { .. },
        Output::Write { data, .. },
        Output::Close(Link::Download),
        Output::Hash { address: 0x8_1000, length: 10_000 },
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(&data[..1808], &image()[8192..]);
    assert!(data[1808..].iter().all(|byte| *byte == 0xff));
}

#[test]
fn device_in_the_second_slot_takes_the_first_image() {
    let running = Identity { running: Slot::User2, ..identity() };
    let mut bench = Bench::new(Device::with_access(NOW, running, Profile::RANGES, access()));
    let ready = ready(Profile::RANGES).device;
    bench.device.joined(NOW, true);
    bench.connected(Link::Dispatch);
    bench.tick();
    let server = DispatchAnswer::Server { ip: ServerName::new("a").unwrap(), port: 1 };
    bench.input(Link::Dispatch, &server.to_http());
    bench.connected(Link::WebSocket);
    let (head, _) = RequestHead::parse(&handshake::request()).unwrap().unwrap();
    bench.input(Link::WebSocket, &handshake::answer(&head).unwrap());
    bench.send(None, ServerBody::Registered { hb_interval: 145 });
    bench.send(None, ServerBody::Date { date: Date::from_unix_milliseconds(0) });
    assert_eq!(bench.device.state(), ready.state());
    bench.send(Some("7"), ServerBody::Upgrade(upgrade()));
    bench.tick();
    bench.connected(Link::Download);
    let gets = bench.gets();
    assert_eq!(gets[0].path, "/ota/user1.bin");
    serve(&mut bench, &gets[0]);
    assert!(bench.outputs.contains(&Output::Erase { address: 0x1000 }));
}

#[test]
fn result_comes_once_or_after_an_acknowledgement() {
    let mut bench = rebooting(Profile::RANGES);
    assert_eq!(bench.said(), [result(0, Some("7"))]);
    assert_eq!(bench.tick(), limits::REBOOT);
    assert_eq!(bench.take(), [Output::Reboot(Slot::User2)]);
    assert_eq!(bench.device.next_deadline(), None);

    let mut bench = rebooting(Profile::LATER);
    let state = |code| DeviceBody::UpgradeState { code, sequence: Some(Text::new("7").unwrap()) };
    assert_eq!(bench.said(), [state(0)]);
    bench.tick();
    assert_eq!(bench.take(), [Output::Reboot(Slot::User2)]);

    let mut bench = verifying(Profile::LATER);
    bench.said();
    bench.device.hashed(bench.now, [0; 32]);
    bench.drain();
    assert_eq!(bench.said(), [state(409)]);
    assert_eq!((bench.device.state(), bench.device.stored()), (State::Ready, None));
}

#[test]
fn later_firmware_waits_for_restart_when_it_shall_not_by_itself() {
    let mut bench = ready(Profile::LATER);
    bench.send(Some("6"), ServerBody::Restart);
    assert_eq!(bench.said(), [result(400, Some("6"))], "there is nothing to start");
    bench.send(Some("7"), ServerBody::Upgrade(Upgrade { auto_restart: Some(false), ..upgrade() }));
    assert_eq!(bench.tick(), limits::DOWNLOAD_DELAY);
    bench.connected(Link::Download);
    for _ in 0..3 {
        let gets = bench.gets();
        serve(&mut bench, &gets[0]);
    }
    hashed(&mut bench);
    assert_eq!((bench.device.state(), bench.device.stored()), (State::Ready, Some(Slot::User2)));
    bench.said();
    bench.send(Some("8"), ServerBody::Restart);
    assert_eq!(bench.said(), [result(0, Some("8"))]);
    assert_eq!(bench.tick(), limits::REBOOT);
    assert_eq!(bench.take(), [Output::Reboot(Slot::User2)]);
}

#[test]
fn broken_download_goes_on_at_its_chunk_three_times() {
    let mut bench = upgrading(Profile::RANGES);
    let gets = bench.gets();
    serve(&mut bench, &gets[0]);
    for n in 1..=3 {
        bench.take();
        bench.input(Link::Download, b"HTTP/1.1 206 Partial Con");
        bench.closed(Link::Download);
        assert_eq!(bench.tick(), n * SECOND);
        assert!(matches!(bench.take()[..], [Output::Connect { link: Link::Download, .. }]));
        bench.connected(Link::Download);
        let gets = bench.gets();
        assert_eq!(gets[0].header("Range"), Some("bytes=4096-8191"));
    }
    bench.closed(Link::Download);
    assert_eq!(bench.said(), [result(404, Some("7"))]);
    assert_eq!(bench.device.state(), State::Ready);
}

#[test]
fn silence_and_slowness_end_a_download() {
    let mut bench = upgrading(Profile::RANGES);
    bench.take();
    assert_eq!(bench.tick(), limits::DOWNLOAD_SILENCE);
    assert_eq!(bench.outputs[0], Output::Close(Link::Download));
    assert_eq!(bench.said(), [result(404, Some("7"))]);

    let mut bench = upgrading(Profile::RANGES);
    let begun = bench.now;
    let gets = bench.gets();
    let bytes = answer(&gets[0], 10_000, "").head;
    bench.input(Link::Download, &bytes);
    while bench.device.state() == State::Upgrading {
        bench.now = (bench.now + 9 * SECOND).min(begun + limits::DOWNLOAD);
        bench.input(Link::Download, &[0]);
        bench.device.handle_deadline(bench.now);
        bench.drain();
    }
    assert_eq!(bench.now - begun, limits::DOWNLOAD);
    assert_eq!(bench.said(), [result(404, Some("7"))]);
}

#[test]
fn answers_that_the_downloader_does_not_take_end_in_404() {
    let good = String::from_utf8({
        let mut bench = upgrading(Profile::RANGES);
        answer(&bench.gets()[0], 10_000, "").head
    })
    .unwrap();
    for (from, to) in [
        ("206 Partial Content", "200 OK"),
        ("Content-Length: 4096", "Content-Length: 4095"),
        ("Content-Length: 4096", "Content-Length: 4097"),
        ("/10000", "/471041"),
        ("Accept-Ranges", &format!("ETag: {}\r\nAccept-Ranges", "e".repeat(1024))),
    ] {
        let mut bench = upgrading(Profile::RANGES);
        bench.input(Link::Download, good.replace(from, to).as_bytes());
        assert_eq!(bench.said(), [result(404, Some("7"))], "{from} -> {to}");
    }
    let mut bench = upgrading(Profile::RANGES);
    bench.input(Link::Download, good.as_bytes());
    assert_eq!(bench.said(), []);
    assert_eq!(bench.device.state(), State::Upgrading);
    bench.device.flash_failed(bench.now);
    bench.drain();
    assert_eq!(bench.said(), [result(404, Some("7"))]);
}

#[test]
fn old_downloader_takes_a_paced_file_and_no_burst() {
    let paced = |burst: usize| {
        let mut bench = upgrading(Profile::OLD);
        let gets = bench.gets();
        assert_eq!(gets[0].header("Range"), None);
        let image = image();
        let head = answer(&gets[0], 10_000, "user2.bin").head;
        bench.input(Link::Download, &head);
        for piece in image.chunks(burst) {
            bench.now += Pace::SLOW.interval;
            bench.input(Link::Download, piece);
        }
        hashed(&mut bench);
        bench.device.state()
    };
    assert_eq!(paced(Pace::SLOW.piece), State::Rebooting);
    assert_eq!(paced(10_000), State::Ready);
    let mut bench = upgrading(Profile::OLD);
    bench.said();
    bench.closed(Link::Download);
    assert_eq!(bench.said(), [result(404, Some("7"))], "it does not come again");
}

#[test]
fn download_goes_on_when_the_socket_is_lost_and_its_result_is_not_told() {
    let mut bench = upgrading(Profile::RANGES);
    bench.closed(Link::WebSocket);
    assert_eq!(bench.device.state(), State::Upgrading);
    for _ in 0..3 {
        let gets = bench.gets();
        serve(&mut bench, &gets[0]);
    }
    hashed(&mut bench);
    assert_eq!((bench.said(), bench.device.state()), (vec![], State::Rebooting));
}

#[test]
fn whatever_is_said_fits_the_limits_and_holds_no_secret_in_debug() {
    let bench = ready(Profile::LATER);
    let debug = format!("{:?}", bench.device);
    assert!(!debug.contains("secret-123") && !debug.contains("55555555"), "{debug}");
    let value: Value = serde_json::from_str(&access().to_json()).unwrap();
    assert_eq!(value["version"], 4);
}
