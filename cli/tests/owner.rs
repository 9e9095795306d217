//! What the owner asks of one device and how its session goes about it, message by message and without a network.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

mod pair;

use coap_spark::coap::{Code, Type};
use coap_spark::connection::Request;
use coap_spark::message::{Event as Publication, FromDevice, Name, Response, system_event};
use core::time::Duration;
use pair::{HELLO, OUTDATED, Pair};
use spark_cli::cloud::Event;
use spark_cli::cloud::catalogue::ModuleFile;
use spark_cli::cloud::plan::{Plan, PlanState, PlanStep, StepState};
use spark_cli::cloud::session::{Answer, Call, CallError, Introduction, VariableValue};
use spark_cli::synthetic;

const DESCRIBED: &str = r#"{"f":["brew"],"v":{"temp":9,"cups":2,"on":1,"what":4},"p":6,"m":[]}"#;

fn ready() -> Pair {
    let mut pair = Pair::new();
    pair.hears(Some(DESCRIBED));
    pair.events();
    pair
}

fn function(name: &str, argument: &str) -> Call {
    Call::Function { name: name.to_owned(), argument: argument.to_owned() }
}

fn variable(name: &str) -> Call {
    Call::Variable { name: name.to_owned() }
}

/// What the device gets, answered with `answer`; `None` is not answered at all.
fn answered(pair: &mut Pair, answer: Option<(Code, &[u8])>) -> Vec<String> {
    let mut heard = Vec::new();
    let mut out = [0; 2048];
    while let Some(frame) = pair.session.poll_send(pair.now, &mut out).unwrap() {
        let frame = frame.to_vec();
        assert_eq!(pair.device.handle_input(pair.now, &frame), Ok(frame.len()));
        let mut buffer = [0; 800];
        // A ping is answered without being shown.
        if let Some(message) = pair.device.take_message(&mut buffer) {
            heard.push(pair::words(&message));
            if let (Some(request), Some((code, payload))) = (Request::of(&message), answer) {
                let (response, mut reply) = (Response { code, payload }, [0; 2048]);
                let frames = pair.device.reply(request, response, &mut reply).unwrap().to_vec();
                pair.session.handle_input(pair.now, 0, &frames).unwrap();
            }
        }
        let mut owed = [0; 64];
        while let Some(frame) = pair.device.poll_output(pair.now, &mut owed).unwrap() {
            let frame = frame.to_vec();
            pair.session.handle_input(pair.now, 0, &frame).unwrap();
        }
    }
    heard
}

fn answers(pair: &mut Pair) -> Vec<(u64, Result<Answer, CallError>)> {
    core::iter::from_fn(|| pair.session.poll_answer()).collect()
}

#[test]
fn function_returns_a_number_to_whoever_asked() {
    let mut pair = ready();
    pair.session.call(pair.now, 7, function("brew", "coffee&milk")).unwrap();
    let heard = answered(&mut pair, Some((Code::CHANGED, &(-3i32).to_be_bytes())));
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(answers(&mut pair), [(7, Ok(Answer::Returned(-3)))]);
}

#[test]
fn variables_of_every_type_are_read_as_described() {
    let cases: [(&str, &[u8], VariableValue); 4] = [
        ("temp", &21.5f64.to_le_bytes(), VariableValue::Double(21.5)),
        ("cups", &7i32.to_be_bytes(), VariableValue::Int(7)),
        ("on", &[1], VariableValue::Bool(true)),
        ("what", b"latte", VariableValue::Text("latte".to_owned())),
    ];
    let mut pair = ready();
    for (at, (name, payload, value)) in (0..).zip(cases) {
        pair.session.call(pair.now, at, variable(name)).unwrap();
        answered(&mut pair, Some((Code::CONTENT, payload)));
        assert_eq!(answers(&mut pair), [(at, Ok(Answer::Value(value)))], "{name}");
    }
    pair.session.call(pair.now, 9, variable("cups")).unwrap();
    answered(&mut pair, Some((Code::CONTENT, &[1, 2])));
    assert!(matches!(answers(&mut pair)[..], [(9, Err(CallError::Malformed(_)))]));
}

#[test]
fn what_the_device_does_not_have_is_not_asked_for() {
    let mut pair = ready();
    let no_such = |what, name: &str| Err(CallError::NoSuch { what, name: name.to_owned() });
    pair.session.call(pair.now, 1, function("clean", "")).unwrap();
    pair.session.call(pair.now, 2, variable("beans")).unwrap();
    assert!(pair.hears(None).is_empty());
    assert_eq!(answers(&mut pair), [(1, no_such("function", "clean")), (2, no_such("variable", "beans"))]);

    // Before it has described itself nobody knows, and it is not asked.
    let mut pair = Pair::new();
    pair.hears(None);
    pair.session.call(pair.now, 3, variable("beans")).unwrap();
    assert!(pair.hears(None).is_empty() && answers(&mut pair).is_empty());
}

#[test]
fn device_that_refuses_or_says_nothing_or_goes_is_told_as_that() {
    let mut pair = ready();
    pair.session.call(pair.now, 1, function("brew", "x")).unwrap();
    answered(&mut pair, Some((Code::BAD_REQUEST, &[])));
    let refused = Err(CallError::Refused { code: Code::BAD_REQUEST.0 });
    assert_eq!(answers(&mut pair), [(1, refused)]);

    pair.session.call(pair.now, 2, function("brew", "x")).unwrap();
    pair.session.call(pair.now, 3, variable("cups")).unwrap();
    answered(&mut pair, None);
    assert!(answers(&mut pair).is_empty());
    pair.now += Duration::from_secs(15);
    pair.session.handle_deadline(pair.now).unwrap();
    assert_eq!(answers(&mut pair), [(2, Err(CallError::TimedOut))], "one after the other");

    answered(&mut pair, None);
    pair.session.handle_end(pair.now);
    assert_eq!(answers(&mut pair), [(3, Err(CallError::Offline))]);
}

#[test]
fn call_that_waited_too_long_or_whose_caller_has_gone_is_never_sent() {
    let mut pair = ready();
    for ticket in 1..=3 {
        pair.session.call(pair.now, ticket, function("brew", "x")).unwrap();
    }
    answered(&mut pair, None);
    pair.session.forget_call(2);
    pair.now += Duration::from_secs(15);
    pair.session.handle_deadline(pair.now).unwrap();
    assert_eq!(answers(&mut pair), [(1, Err(CallError::TimedOut))]);
    assert_eq!(answered(&mut pair, None).len(), 1, "the third");
    for ticket in 4..=5 {
        pair.session.call(pair.now, ticket, function("brew", "y")).unwrap();
    }
    pair.now += Duration::from_secs(21);
    pair.session.handle_deadline(pair.now).unwrap();
    let timed_out = [3, 4, 5].map(|ticket| (ticket, Err(CallError::TimedOut)));
    assert_eq!(answers(&mut pair), timed_out);
    assert!(answered(&mut pair, None).is_empty());
}

#[test]
fn core_that_tells_no_modules_is_described_all_the_same() {
    let mut pair = Pair::new();
    pair.hears(Some(r#"{"f":["brew"],"v":{}}"#));
    pair.session.call(pair.now, 1, function("brew", "x")).unwrap();
    pair.session.call(pair.now, 2, Call::Describe).unwrap();
    pair.now += Duration::from_secs(3);
    assert_eq!(pair.session.next_deadline(), pair.now, "more may follow, but not for long");
    pair.session.handle_deadline(pair.now).unwrap();
    assert!(pair.events().iter().any(|event| matches!(event, Event::Described { .. })));
    assert!(matches!(answers(&mut pair)[..], [(2, Ok(Answer::Description(_)))]));
    answered(&mut pair, Some((Code::CHANGED, &[0, 0, 0, 5])));
    assert_eq!(answers(&mut pair), [(1, Ok(Answer::Returned(5)))]);
}

#[test]
fn device_of_nobody_hears_nothing_and_is_not_updated() {
    let mut pair = Pair::new();
    pair.session.set_claimed(pair.now, false);
    pair.session.set_plan(Some(plan_of(&part2())));
    let heard = pair.hears(Some(OUTDATED));
    assert!(heard.iter().all(|words| !words.starts_with("update begin")), "{heard:?}");
    pair.session.set_claimed(pair.now, true);
    pair.session.set_plan(Some(plan_of(&part2())));
    let heard = pair.hears(Some(OUTDATED));
    assert!(heard.iter().any(|words| words.starts_with("update begin")), "{heard:?}");
    // Given up in the middle: the transfer is broken off.
    pair.session.set_claimed(pair.now, false);
    assert!(!pair.session.is_updating());
}

#[test]
fn update_that_waits_for_a_description_asks_again() {
    let mut pair = ready();
    pair.session.set_plan(Some(plan_of(&part2())));
    assert!(pair.hears(None).iter().any(|words| words.starts_with("Describe")));
    pair.now += Duration::from_secs(15);
    pair.session.handle_deadline(pair.now).unwrap();
    assert!(pair.hears(None).is_empty());
    pair.now += Duration::from_secs(60);
    pair.session.handle_deadline(pair.now).unwrap_or_default();
    assert!(pair.hears(None).iter().any(|words| words.starts_with("Describe")));
}

#[test]
fn ping_and_signal_are_done_when_they_are_acknowledged() {
    let mut pair = ready();
    pair.session.call(pair.now, 1, Call::Ping).unwrap();
    pair.session.call(pair.now, 2, Call::Signal { on: true }).unwrap();
    answered(&mut pair, Some((Code::CHANGED, &[])));
    assert_eq!(answers(&mut pair), [(1, Ok(Answer::Done)), (2, Ok(Answer::Done))]);
}

#[test]
fn argument_that_the_device_would_cut_is_refused_here() {
    let mut pair = ready();
    pair.session.call(pair.now, 1, function("brew", &"x".repeat(700))).unwrap();
    pair.session.call(pair.now, 2, Call::Ping).unwrap();
    answered(&mut pair, Some((Code::CHANGED, &[])));
    let answers = answers(&mut pair);
    assert!(matches!(&answers[..], [(1, Err(CallError::TooLong(_))), (2, Ok(Answer::Done))]), "{answers:?}");
}

#[test]
fn everybody_who_asks_for_the_description_gets_the_same_one() {
    let mut pair = ready();
    pair.session.call(pair.now, 1, Call::Describe).unwrap();
    pair.session.call(pair.now, 2, Call::Describe).unwrap();
    let heard = answered(&mut pair, Some((Code::CONTENT, DESCRIBED.as_bytes())));
    assert_eq!(heard.iter().filter(|words| words.starts_with("Describe")).count(), 1, "{heard:?}");
    let answers = answers(&mut pair);
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|(_, answer)| matches!(answer, Ok(Answer::Description(_)))));
}

#[test]
fn nobody_is_asked_before_hello_and_too_many_questions_are_refused() {
    let mut pair = Pair::new();
    pair.hears(Some(DESCRIBED));
    let mut taken = 0;
    while pair.session.call(pair.now, taken, Call::Ping).is_ok() {
        taken += 1;
        assert!(taken < 1000, "no bound");
    }
    assert_eq!(pair.session.call(pair.now, 9999, Call::Ping), Err(CallError::Busy));
}

#[test]
fn device_that_asks_for_its_name_and_address_is_told() {
    let mut pair = ready();
    pair.session.set_introduction(Introduction { name: "brewer".to_owned(), address: "10.0.0.7".to_owned() });
    for (name, wanted) in [
        (system_event::DEVICE_NAME, "event spark/device/name Some(\"brewer\") ttl Some(60)"),
        (system_event::DEVICE_IP, "event spark/device/ip Some(\"10.0.0.7\") ttl Some(60)"),
    ] {
        let event = Publication { name: Name::new(name), public: false, max_age: None, data: None };
        pair.says(Type::NonConfirmable, FromDevice::Event(event));
        assert_eq!(pair.hears(None), [wanted]);
    }
    let event = Publication {
        name: Name::new(system_event::CLAIM_CODE),
        public: false,
        max_age: None,
        data: Some(b"secret"),
    };
    pair.says(Type::NonConfirmable, FromDevice::Event(event));
    let events = pair.events();
    assert!(events.iter().any(|event| matches!(event, Event::ClaimCode { code, .. } if code == "secret")));
    let shown = serde_json::to_string(&events).unwrap();
    assert!(!shown.contains("secret"), "{shown}");
}

fn part2() -> ModuleFile {
    synthetic::small(true).unwrap().into_iter().find(|file| file.prefix.index == 2).unwrap()
}

fn plan_of(file: &ModuleFile) -> Plan {
    Plan::new(1, 0, false, vec![PlanStep::new(file, "it was asked for".to_owned())])
}

fn states(pair: &mut Pair) -> Vec<(PlanState, StepState)> {
    let events = pair.events();
    let plans = events.iter().filter_map(|event| match event {
        Event::PlanChanged { plan, .. } => Some((plan.state, plan.steps[0].state)),
        _ => None,
    });
    plans.collect()
}

#[test]
fn plan_begins_at_once_and_calls_are_refused_meanwhile() {
    let mut pair = ready();
    pair.session.call(pair.now, 1, variable("cups")).unwrap();
    pair.session.set_plan(Some(plan_of(&part2())));
    let heard = pair.hears(Some(OUTDATED));
    assert!(heard.iter().any(|words| words.starts_with("update begin")), "{heard:?}");
    assert_eq!(answers(&mut pair), [(1, Err(CallError::Updating))]);
    assert_eq!(pair.session.call(pair.now, 2, Call::Ping), Err(CallError::Updating));
    assert_eq!(states(&mut pair), [(PlanState::Running, StepState::Sending)]);
    assert!(pair.session.is_updating());

    pair.session.handle_end(pair.now);
    assert_eq!(states(&mut pair), [(PlanState::Running, StepState::Sending)], "it goes on next time");
    assert!(pair.session.plan().unwrap().reason.is_some());
}

#[test]
fn cancelled_plan_stops_the_transfer_and_the_device_is_free_again() {
    let mut pair = ready();
    pair.session.set_plan(Some(plan_of(&part2())));
    pair.hears(Some(OUTDATED));
    states(&mut pair);
    pair.session.cancel_plan(pair.now);
    assert_eq!(states(&mut pair).last(), Some(&(PlanState::Cancelled, StepState::Sending)));
    assert!(!pair.session.is_updating());
    assert_eq!(pair.session.call(pair.now, 1, Call::Ping), Ok(()));
}

#[test]
fn module_that_is_gone_from_the_store_fails_its_plan() {
    let mut pair = ready();
    let mut file = part2();
    file.sha256 = [0; 32];
    pair.session.set_plan(Some(plan_of(&file)));
    pair.hears(Some(OUTDATED));
    assert_eq!(states(&mut pair), [(PlanState::Failed, StepState::Waiting)]);
}

#[test]
fn finished_plan_does_nothing_when_the_device_comes_back() {
    let mut pair = Pair::new();
    let mut plan = plan_of(&part2());
    plan.cancel();
    pair.session.set_plan(Some(plan));
    let heard = pair.hears(Some(DESCRIBED));
    assert!(heard.iter().all(|words| !words.starts_with("update begin")), "{heard:?}");
    assert!(states(&mut pair).is_empty());
    // A repeated Hello means nothing.
    pair.says(Type::NonConfirmable, HELLO);
    assert!(pair.hears(None).is_empty());
}
