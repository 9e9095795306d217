//! What a server meets with each firmware: the same application, answered and announced in every generation's way.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

mod common;

use coap_spark::coap::{Code, Token, Type};
use coap_spark::connection::ReplyStyle;
use coap_spark::message::describe::Describe;
use coap_spark::message::{
    Chunk, CloudReason, Event, FromServer, Hello, Name, ResetReason, Store, UpdateBegin, VariableType,
};
use common::server::{Cloud, Heard, connected, healthy, recorded, rng, shake_hands};
use common::{KEYS, configured, system};
use core::time::Duration;
use spark_dct::App;
use spark_sim::{
    Answer, Application, Client, Content, End, Firmware, Happening, Photon, Program, Publication,
    PublishError, ReceivedEvent, Receiver, Saying, Sender, Started, UnknownVariable,
};
use std::sync::Arc;

const NOW: Duration = Duration::ZERO;

fn program() -> Arc<Program> {
    let mut program = Program::empty();
    program.add_function("brew", Answer::Length).unwrap();
    program.add_function("a-name-that-only-new-firmware-keeps", Answer::Constant(-7)).unwrap();
    program.add_variable("on", Content::Bool(true)).unwrap();
    program.add_variable("count", Content::Int(-123_456)).unwrap();
    program.add_variable("name", Content::String("hello-world".to_owned())).unwrap();
    program.add_variable("pi", Content::Double(core::f64::consts::PI)).unwrap();
    program.add_subscription("alarm", Sender::MyDevices).unwrap();
    program.add_subscription("weather/", Sender::All).unwrap();
    Arc::new(program)
}

/// A device of each row of the table.
fn each(mut visit: impl FnMut(&'static Firmware, Photon)) {
    for firmware in Firmware::all() {
        let mut photon = healthy(2202);
        photon.set_firmware(Some(firmware));
        photon.set_application(Application::new(program()));
        assert_eq!(photon.power_on(), Started::Running);
        visit(firmware, photon);
    }
}

fn happenings(client: &mut Client<'_>) -> Vec<Happening> {
    core::iter::from_fn(|| client.poll_happening()).collect()
}

fn say(cloud: &mut Cloud, client: &mut Client<'_>, name: &str, data: &str) -> Vec<Heard> {
    let event = Event { name: Name::new(name), public: false, max_age: None, data: Some(data.as_bytes()) };
    cloud.ask(client, FromServer::Event(event)).2
}

/// Code and payload of an answer in this style.
fn answer((id, token, heard): (u16, Token, Vec<Heard>), style: ReplyStyle) -> (Code, Vec<u8>) {
    let wanted = match style {
        ReplyStyle::Piggybacked => Type::Acknowledgement,
        ReplyStyle::SeparateConfirmable => Type::Confirmable,
        _ => Type::NonConfirmable,
    };
    let (Heard::Response { kind, id: of, token: with, code, payload }, before) = heard.split_last().unwrap()
    else {
        panic!("{heard:?}")
    };
    assert_eq!((*kind, *with), (wanted, token));
    if style == ReplyStyle::Piggybacked {
        assert!(before.is_empty() && *of == id, "{heard:?}");
    } else {
        assert_eq!(before, [Heard::Ack { id }]);
    }
    (*code, payload.clone())
}

#[test]
fn every_firmware_introduces_itself_in_its_order() {
    each(|firmware, mut photon| {
        photon.set_claim_code("Ab3/").unwrap();
        connected(&mut photon, |client, _, heard| {
            let flags = firmware.hello_flags;
            assert_eq!(heard[0], Heard::Hello(Hello::new(6, 0xffff, flags, 6)), "{firmware}");
            let mut expected = Vec::new();
            for saying in firmware.introduction {
                match saying {
                    Saying::ClaimCode => expected.push(Heard::event("spark/device/claim/code", "Ab3/")),
                    Saying::MaxBinary => expected.push(Heard::event("spark/hardware/max_binary", "262144")),
                    Saying::OtaChunkSize => {
                        expected.push(Heard::event("spark/hardware/ota_chunk_size", "512"));
                    }
                    Saying::LastReset => {
                        expected.push(Heard::event("spark/device/last_reset", "power_down"));
                    }
                    Saying::UpdatesEnabled => {
                        expected.push(Heard::event("particle/device/updates/enabled", "true"));
                    }
                    Saying::UpdatesForced => {
                        expected.push(Heard::event("particle/device/updates/forced", "false"));
                    }
                    Saying::Time => expected.push(Heard::Time),
                    Saying::Subscriptions => {
                        let own = [("alarm", true), ("weather/", false)];
                        let system = firmware.system_subscriptions.iter().map(|prefix| (*prefix, true));
                        expected.extend(system.chain(own).map(|(prefix, mine)| {
                            let prefix = prefix.to_owned();
                            Heard::Subscribe { prefix, mine }
                        }));
                    }
                    _ => {}
                }
            }
            assert_eq!(heard[1..], expected, "{firmware}");
            let told = happenings(client);
            assert_eq!(told[0], Happening::Connected);
            assert!(told.contains(&Happening::Time(1_500_000_000)), "{told:?}");
        });
        // Why it restarted is told once.
        connected(&mut photon, |_, _, heard| {
            assert!(!heard.contains(&Heard::event("spark/device/last_reset", "power_down")), "{firmware}");
        });
    });
}

#[test]
fn the_rows_are_as_the_specification_says() {
    let row = |name: &str| Firmware::named(name).unwrap();
    let says = |name: &str, saying| row(name).introduction.contains(&saying);
    assert!(!says("1.2.0", Saying::UpdatesEnabled) && says("1.2.1", Saying::UpdatesEnabled));
    assert!(!says("0.5.3", Saying::LastReset) && says("0.6.0", Saying::LastReset));
    assert_eq!(row("0.7.0").system_subscriptions, ["spark"]);
    assert_eq!(row("0.8.0").system_subscriptions, ["spark", "particle"]);
    assert_eq!(
        Firmware::all().iter().map(|row| row.hello_flags.0).collect::<Vec<_>>(),
        [0, 0, 0, 2, 2, 6, 6, 0x16, 0, 2]
    );
    assert!(Firmware::all().iter().all(|row| row.says_goodbye == (row.profile == "C4")));
}

#[test]
fn describe_lists_functions_and_variables_with_the_names_that_firmware_keeps() {
    each(|firmware, mut photon| {
        let document = photon.describe();
        connected(&mut photon, |client, cloud, _| {
            let (id, token, mut heard) = cloud.ask(client, FromServer::Describe { flags: None });
            if firmware.describes_twice {
                let Some(Heard::Response { kind, token: with, payload, .. }) = heard.pop() else { panic!() };
                assert_eq!((kind, with), (Type::Acknowledgement, token));
                let second = Describe::from_json(&payload).unwrap();
                assert!(second.modules.is_none() && second.platform_id.is_none());
                assert_eq!(
                    (&second.functions, &second.variables),
                    (&document.functions, &document.variables)
                );
            }
            let (code, payload) = answer((id, token, heard), firmware.link.describe);
            assert_eq!((code, Describe::from_json(&payload).unwrap()), (Code::CONTENT, document.clone()));
        });
        let limit = usize::from(firmware.link.limits.function_name).min(35);
        let long = "a-name-that-only-new-firmware-keeps"[..limit].to_owned();
        assert_eq!(document.functions, Some(vec!["brew".to_owned(), long]), "{firmware}");
        let types: Vec<_> = document.variables.unwrap().into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(
            types,
            [VariableType::Bool, VariableType::Int, VariableType::String, VariableType::Double]
        );
    });
}

#[test]
fn functions_give_what_they_were_told_to() {
    each(|firmware, mut photon| {
        connected(&mut photon, |client, cloud, _| {
            happenings(client);
            // A server would keep to what it takes the device for.
            cloud.connection.set_limits(None);
            let mut call = |name: &[u8], argument: &[u8]| {
                let (code, payload) = cloud.call(client, name, argument);
                assert_eq!(code, Code::CHANGED, "{firmware}");
                i32::from_be_bytes(payload.try_into().unwrap())
            };
            assert_eq!(call(b"brew", b"coffee"), 6);
            let limit = usize::from(firmware.link.limits.function_name).min(35);
            assert_eq!(call(&b"a-name-that-only-new-firmware-keeps"[..limit], b""), -7, "{firmware}");
            assert_eq!(call(b"digitalread", b"D7"), -1, "no Tinker here");
            let longest = vec![b'x'; usize::from(firmware.link.limits.function_argument)];
            assert_eq!(call(b"brew", &longest), i32::try_from(longest.len()).unwrap());
            let called = Happening::FunctionCalled {
                name: b"brew".to_vec(),
                argument: b"coffee".to_vec(),
                result: Some(6),
            };
            assert_eq!(happenings(client)[0], called);
            // One byte more is refused.
            let argument = vec![b'x'; longest.len() + 1];
            let request = FromServer::FunctionCall { name: b"brew", argument: &argument };
            let (id, _, heard) = cloud.ask(client, request);
            let [Heard::Response { kind: Type::Acknowledgement, id: of, code, .. }] = &heard[..] else {
                panic!("{firmware}: {heard:?}")
            };
            assert_eq!((*of, *code), (id, Code::BAD_REQUEST));
            assert!(happenings(client).is_empty());
        });
    });
}

#[test]
fn variables_are_sent_in_the_form_of_their_type_and_of_the_firmware() {
    each(|firmware, mut photon| {
        connected(&mut photon, |client, cloud, _| {
            let mut read = |name: &[u8]| {
                let asked = cloud.ask(client, FromServer::VariableRequest { name });
                answer(asked, firmware.link.variable)
            };
            for (name, expected) in [
                (&b"on"[..], &[1][..]),
                (b"count", &[0xff, 0xfe, 0x1d, 0xc0]),
                (b"name", b"hello-world"),
                (b"pi", &[0x18, 0x2d, 0x44, 0x54, 0xfb, 0x21, 0x09, 0x40]),
            ] {
                assert_eq!(read(name), (Code::CONTENT, expected.to_vec()), "{firmware}");
            }
            let asked = cloud.ask(client, FromServer::VariableRequest { name: b"nothing" });
            match firmware.unknown_variable {
                UnknownVariable::NotFound => {
                    assert_eq!(answer(asked, ReplyStyle::Piggybacked), (Code::NOT_FOUND, Vec::new()));
                }
                _ => {
                    // The bootloader's stack pointer.
                    let (code, payload) = answer(asked, firmware.link.variable);
                    assert_eq!((code, &payload[..]), (Code::CONTENT, &[0x20, 0x02, 0, 0][..]));
                }
            }
            let told = happenings(client);
            let read = |name: &[u8], found| Happening::VariableRead { name: name.to_vec(), found };
            assert_eq!(told[told.len() - 2..], [read(b"pi", true), read(b"nothing", false)]);
        });
    });
}

#[test]
fn longest_string_still_fits_the_frame() {
    each(|firmware, mut photon| {
        let mut program = Program::empty();
        program.add_variable("long", Content::String("0123456789".repeat(100))).unwrap();
        photon.set_application(Application::new(Arc::new(program)));
        connected(&mut photon, |client, cloud, _| {
            let asked = cloud.ask(client, FromServer::VariableRequest { name: b"long" });
            let (code, payload) = answer(asked, firmware.link.variable);
            assert_eq!((code, payload.len()), (Code::CONTENT, 777), "{firmware}");
        });
    });
}

#[test]
fn signal_and_key_change_are_answered_as_ever() {
    each(|firmware, mut photon| {
        connected(&mut photon, |client, cloud, _| {
            happenings(client);
            let asked = cloud.ask(client, FromServer::Signal { on: true });
            assert_eq!(answer(asked, ReplyStyle::Piggybacked).0, Code::CHANGED, "{firmware}");
            let (id, _, heard) = cloud.ask(client, FromServer::KeyChange { discard_session: false });
            let expected =
                if firmware.link.answers_key_change { vec![Heard::Ack { id }] } else { Vec::new() };
            assert_eq!(heard, expected, "{firmware}");
            assert_eq!(happenings(client), [Happening::Signal { on: true }, Happening::KeyChange]);
        });
    });
}

#[test]
fn events_go_out_as_they_were_meant_and_four_a_second() {
    each(|firmware, mut photon| {
        connected(&mut photon, |client, cloud, _| {
            happenings(client);
            let event = Publication {
                public: true,
                ttl: Some(3600),
                acknowledged: true,
                ..Publication::new("temperature", b"21.5")
            };
            let id = client.publish(NOW, &event).unwrap();
            let kind =
                if firmware.link.confirmable_events { Type::Confirmable } else { Type::NonConfirmable };
            let (name, data) = ("temperature".to_owned(), "21.5".to_owned());
            let expected = Heard::Event { kind, name, data, public: true, ttl: 3600 };
            assert_eq!(cloud.exchange(client), [expected], "{firmware}");
            let told = happenings(client);
            assert_eq!(told.contains(&Happening::Acknowledged(id)), kind == Type::Confirmable, "{firmware}");

            let plain = Publication::new("t", b"");
            for _ in 1..4 {
                client.publish(NOW, &plain).unwrap();
            }
            let Err(PublishError::Refused(refused)) = client.publish(NOW, &plain) else { panic!() };
            assert!(refused.to_string().contains("too many events"), "{refused}");
            let later = Duration::from_secs(1);
            cloud.now = later;
            client.publish(later, &plain).unwrap();
            assert_eq!(cloud.exchange(client).len(), 4);
            let long = "n".repeat(65);
            assert!(matches!(
                client.publish(later, &Publication::new(&long, b"")),
                Err(PublishError::Refused(_))
            ));
        });
    });
}

#[test]
fn unacknowledged_event_is_told() {
    let mut photon = healthy(2202);
    connected(&mut photon, |client, _, _| {
        happenings(client);
        let event = Publication { acknowledged: true, ..Publication::new("t", b"") };
        let id = client.publish(NOW, &event).unwrap();
        // The server never sees it, but says something now and then.
        client.handle_deadline(Duration::from_secs(16));
        client.handle_deadline(Duration::from_secs(20));
        assert_eq!(happenings(client), [Happening::Unanswered(id)]);
    });
}

#[test]
fn received_events_are_told_with_who_takes_them() {
    each(|firmware, mut photon| {
        connected(&mut photon, |client, cloud, _| {
            happenings(client);
            let particle = firmware.system_subscriptions.contains(&"particle");
            for (name, receiver) in [
                ("alarm/fire", Receiver::Application(0)),
                ("weather/rain", Receiver::Application(1)),
                ("weather", Receiver::Nobody),
                ("spark/device/name", Receiver::System),
                (
                    "particle/device/updates/pending",
                    if particle { Receiver::System } else { Receiver::Nobody },
                ),
            ] {
                assert_eq!(say(cloud, client, name, "yes"), [], "{firmware}");
                let event = ReceivedEvent {
                    name: name.to_owned(),
                    data: Some(b"yes".to_vec()),
                    public: false,
                    ttl: 60,
                    receiver,
                };
                assert_eq!(happenings(client), [Happening::Event(event)], "{firmware}");
            }
        });
    });
}

#[test]
fn refused_subscription_is_told() {
    let mut photon = healthy(1512);
    photon.set_application(Application::new(program()));
    let mut rng = rng();
    let mut client = Client::connect(&mut photon, &mut rng, NOW);
    let opened = shake_hands(&mut client, Some(&recorded(&KEYS.device)));
    let (_, heard) = Cloud::refusing(&mut client, &opened.session.unwrap(), "weather/");
    assert!(heard.contains(&Heard::Subscribe { prefix: "weather/".to_owned(), mine: false }));
    let refused = happenings(&mut client).into_iter().filter(|it| matches!(it, Happening::Refused(_)));
    assert_eq!(refused.count(), 1);
}

#[test]
fn reset_event_restarts_the_device_as_it_says() {
    each(|firmware, mut photon| {
        let cases = [
            ("reboot", End::Reboot, Started::Running, ResetReason::User),
            ("safe mode", End::EnterSafeMode, Started::SafeMode, ResetReason::SafeMode),
            ("dfu", End::EnterDfuMode, Started::DfuMode, ResetReason::DfuMode),
        ];
        for (data, end, started, reason) in cases {
            let heard = ended(&mut photon, |client, cloud| say(cloud, client, "spark/device/reset", data));
            assert_eq!(heard.1, end, "{firmware}");
            let goodbye = Heard::Goodbye { cloud: Some(CloudReason::SystemReset), reset: Some(reason) };
            let expected = if firmware.says_goodbye { vec![goodbye] } else { Vec::new() };
            assert_eq!(heard.0, expected, "{firmware}");
            assert_eq!(photon.start(), started, "{firmware}");
            assert_eq!(photon.application_runs(), started != Started::SafeMode);
            if started != Started::DfuMode {
                connected(&mut photon, |_, _, heard| {
                    let safe_mode = heard.contains(&Heard::event("spark/device/safemode", ""));
                    assert_eq!(safe_mode, started == Started::SafeMode, "{firmware}");
                    let told =
                        heard.contains(&Heard::event("spark/device/last_reset", reason.name().unwrap()));
                    assert_eq!(told, firmware.introduction.contains(&Saying::LastReset), "{firmware}");
                });
            }
            // The next reset is an ordinary one.
            assert_eq!(photon.start(), Started::Running);
        }
        if firmware.restarts_network {
            let (_, end) =
                ended(&mut photon, |client, cloud| say(cloud, client, "spark/device/reset", "network"));
            assert_eq!(end, End::NetworkReset);
        } else {
            connected(&mut photon, |client, cloud, _| {
                assert_eq!(say(cloud, client, "spark/device/reset", "network"), []);
            });
        }
    });
}

/// A connection that ends by what `act` does.
fn ended(
    photon: &mut Photon,
    act: impl FnOnce(&mut Client<'_>, &mut Cloud) -> Vec<Heard>,
) -> (Vec<Heard>, End) {
    let mut rng = rng();
    let mut client = Client::connect(photon, &mut rng, NOW);
    let opened = shake_hands(&mut client, Some(&recorded(&KEYS.device)));
    let (mut cloud, _) = Cloud::open(&mut client, &opened.session.unwrap());
    let heard = act(&mut client, &mut cloud);
    (heard, client.end().unwrap().clone())
}

#[test]
fn update_is_told_and_no_event_goes_out_while_it_runs() {
    each(|firmware, mut photon| {
        connected(&mut photon, |client, cloud, _| {
            happenings(client);
            let begin =
                UpdateBegin { flags: 1, chunk_size: 512, file_length: 5000, store: Store(0), address: 0 };
            cloud.ask(client, FromServer::UpdateBegin(begin));
            assert_eq!(happenings(client), [Happening::UpdateBegan], "{firmware}");
            let refused = client.publish(NOW, &Publication::new("t", b""));
            assert!(matches!(refused, Err(PublishError::Refused(_))), "{firmware}: {refused:?}");
        });
        // Its watch ends it, and the device says why it restarted.
        let (_, end) = ended(&mut photon, |client, cloud| {
            let begin =
                UpdateBegin { flags: 1, chunk_size: 512, file_length: 5000, store: Store(0), address: 0 };
            let heard = cloud.ask(client, FromServer::UpdateBegin(begin)).2;
            client.handle_deadline(NOW + firmware.transfer.watch + Duration::from_secs(1));
            heard
        });
        assert_eq!(end, End::UpdateStalled, "{firmware}");
        photon.start();
        connected(&mut photon, |_, _, heard| {
            let told = heard.contains(&Heard::event("spark/device/last_reset", "update_timeout"));
            assert_eq!(told, firmware.introduction.contains(&Saying::LastReset), "{firmware}");
        });
    });
}

#[test]
fn chunk_that_is_lost_without_an_update_begins_none() {
    each(|firmware, mut photon| {
        photon.lose_chunks([1]);
        let mut rng = rng();
        let mut client = Client::connect(&mut photon, &mut rng, NOW);
        let opened = shake_hands(&mut client, Some(&recorded(&KEYS.device)));
        let (mut cloud, _) = Cloud::open(&mut client, &opened.session.unwrap());
        happenings(&mut client);
        cloud.ask(&mut client, FromServer::Chunk(Chunk { crc: 0, index: Some(0), data: b"chunk" }));
        assert_eq!(happenings(&mut client), [Happening::ChunkLost(0)], "{firmware}");
        client.handle_deadline(NOW + firmware.transfer.watch);
        assert_ne!(client.end(), Some(&End::UpdateStalled), "{firmware}");
    });
}

#[test]
fn device_that_leaves_says_goodbye_where_it_can() {
    each(|firmware, mut photon| {
        let (heard, end) = ended(&mut photon, |client, cloud| {
            client.leave(NOW);
            cloud.exchange(client)
        });
        let goodbye = Heard::Goodbye { cloud: Some(CloudReason::User), reset: None };
        assert_eq!(end, End::Left);
        assert_eq!(heard, if firmware.says_goodbye { vec![goodbye] } else { Vec::new() }, "{firmware}");
    });
}

#[test]
fn claim_code_is_told_until_the_server_settles_the_claim() {
    each(|firmware, mut photon| {
        let code = "x".repeat(63);
        assert!(photon.set_claim_code(&"x".repeat(64)).is_err());
        photon.set_claim_code(&code).unwrap();
        let told = Heard::event("spark/device/claim/code", &code);
        for _ in 0..2 {
            connected(&mut photon, |_, _, heard| assert!(heard.contains(&told), "{firmware}"));
            photon.power_on();
        }
        connected(&mut photon, |client, cloud, _| {
            happenings(client);
            say(cloud, client, "spark/device/claims", "none");
            assert_eq!(happenings(client).len(), 1);
            say(cloud, client, "spark/device/claim/confirm", "");
            assert!(happenings(client).contains(&Happening::ClaimSettled), "{firmware}");
        });
        connected(&mut photon, |_, _, heard| {
            assert!(
                !heard.iter().any(|it| matches!(it, Heard::Event { name, .. } if name.ends_with("code")))
            );
        });
        assert_eq!(photon.claim_code(), None);
        assert!(App::new(&photon.configuration()).unwrap().claimed());
    });
}

#[test]
fn rsa_work_can_be_done_elsewhere() {
    let mut photon = healthy(2202);
    let mut server_rng = rng();
    let mut client = Client::start(&mut photon, NOW);
    assert!(client.take_job().is_none());
    // The whole handshake, with each job on another thread.
    let run = |client: &mut Client<'_>| {
        let job = client.take_job().unwrap();
        assert!(client.poll_output().is_none() && client.next_deadline().is_none());
        let done = std::thread::spawn(move || job.run(&mut rng())).join().unwrap();
        client.job_done(NOW, done);
    };
    let mut waiting = coap_spark::handshake::server::AwaitIdentity::start([9; 40], NOW);
    client.handle_input(NOW, waiting.nonce());
    run(&mut client);
    waiting.push(&client.poll_output().unwrap());
    let accepted = coap_spark::handshake::server::answer(
        waiting,
        &KEYS.server,
        |_, _: Option<&[u8; 162]>| Some(recorded(&KEYS.device)),
        coap_spark::session::SessionKeys::new([3; 40]),
        &mut server_rng,
    )
    .unwrap();
    client.handle_input(NOW, &accepted.message);
    run(&mut client);
    let (_, heard) = Cloud::open(&mut client, &accepted.session);
    assert!(matches!(heard[0], Heard::Hello(_)));
}

#[test]
fn endless_input_while_a_job_is_out_ends_the_connection() {
    let mut photon = healthy(2202);
    let mut client = Client::start(&mut photon, NOW);
    client.handle_input(NOW, &[0; 40]);
    for _ in 0..4 {
        client.handle_input(NOW, &[0; 1000]);
        assert_eq!(client.end(), None);
    }
    client.handle_input(NOW, &[0; 1000]);
    assert_eq!(client.end(), Some(&End::Protocol));
}

#[test]
fn device_without_a_running_application_has_no_variables() {
    for firmware in Firmware::all() {
        let mut modules = system(2202);
        modules.push((common::APPLICATION, common::application(6, 2203)));
        let mut photon = configured(&modules, Some(&KEYS.device), Some(&KEYS.server));
        photon.set_firmware(Some(firmware));
        photon.set_application(Application::new(program()));
        assert_eq!(photon.power_on(), Started::SafeMode);
        let document = photon.describe();
        assert_eq!((document.functions, document.variables), (Some(Vec::new()), Some(Vec::new())));
        connected(&mut photon, |client, cloud, heard| {
            let own = Heard::Subscribe { prefix: "alarm".to_owned(), mine: true };
            assert!(!heard.contains(&own), "{firmware}");
            cloud.ask(client, FromServer::VariableRequest { name: b"on" });
            let read = Happening::VariableRead { name: b"on".to_vec(), found: false };
            assert_eq!(happenings(client).last(), Some(&read), "{firmware}");
        });
    }
}
