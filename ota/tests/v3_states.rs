//! Every input in every state of both ends of protocol v3.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use core::time::Duration;
use spark_ota::v3::{
    ACK_DELAY, Acknowledgement, Failure, Finish, Options, Receiver, ReceiverOutput, Rejection, SILENCE,
    Sender, SenderError, SenderInput, SenderOutput, Start, StartAnswer,
};

const NOW: Duration = Duration::from_secs(1);
const ANSWER: StartAnswer = StartAnswer { window: 8, offset: 0 };

const fn arrived(in_order: u32) -> SenderInput<'static> {
    SenderInput::Acknowledged(Acknowledgement { in_order, bitmap: &[] })
}

fn sender(state: &str) -> Sender<Vec<u8>> {
    let mut sender = Sender::new(vec![1; 1500], Options::DEFAULT).unwrap();
    let drain = |sender: &mut Sender<Vec<u8>>| while sender.poll_output(NOW).is_some() {};
    drain(&mut sender);
    if state == "start" {
        return sender;
    }
    if state == "cancelling start" {
        sender.cancel(true);
        drain(&mut sender);
        return sender;
    }
    sender.handle_input(NOW, SenderInput::StartAnswered(ANSWER));
    drain(&mut sender);
    match state {
        "sending" => {}
        "cancelling" => sender.cancel(true),
        "finish" => sender.handle_input(NOW, arrived(3)),
        "ended" => sender.handle_input(NOW, SenderInput::Reset),
        other => panic!("{other}"),
    }
    drain(&mut sender);
    sender
}

#[test]
fn every_input_in_every_state_of_the_sender_is_taken_or_leaves_it_alone() {
    let inputs: [(&str, SenderInput<'_>); 6] = [
        ("answered", SenderInput::StartAnswered(ANSWER)),
        ("refused", SenderInput::StartRefused { code: 0xa3 }),
        ("arrived", arrived(1)),
        ("reset", SenderInput::Reset),
        ("finished", SenderInput::FinishAnswered),
        ("not taken", SenderInput::FinishRefused { code: 0xa3 }),
    ];
    let taken: [(&str, &[&str]); 6] = [
        ("start", &["answered", "refused", "reset"]),
        ("cancelling start", &["answered", "refused", "reset"]),
        ("sending", &["arrived", "reset"]),
        ("finish", &["reset", "finished", "not taken"]),
        ("cancelling", &["reset", "finished", "not taken"]),
        ("ended", &[]),
    ];
    for (state, expected) in taken {
        for (name, input) in inputs {
            let mut sender = sender(state);
            let before = format!("{sender:?} {:?}", sender.next_deadline());
            sender.handle_input(NOW + Duration::from_millis(1), input);
            let changed = format!("{sender:?} {:?}", sender.next_deadline()) != before;
            assert_eq!(changed, expected.contains(&name), "{name} in {state}: {sender:?}");
        }
    }
}

#[test]
fn every_wait_of_the_sender_ends_in_a_typed_failure() {
    for (state, expected, after) in [
        ("start", Failure::StartUnanswered, 90),
        ("finish", Failure::FinishUnanswered, 90),
        ("cancelling start", Failure::Cancelled, 90),
        ("cancelling", Failure::Cancelled, 90),
        ("sending", Failure::Silence { arrived: 0 }, 302),
    ] {
        let mut sender = sender(state);
        let mut now = NOW;
        while sender.outcome().is_none() {
            now = sender.next_deadline().unwrap();
            sender.handle_deadline(now.saturating_sub(Duration::from_millis(1)));
            assert_eq!(sender.outcome(), None, "early calls are harmless");
            sender.handle_deadline(now);
            while sender.poll_output(now).is_some() {}
        }
        let waited = (now - NOW).as_secs();
        assert_eq!(sender.outcome(), Some(Err(expected)), "{state}");
        assert!(waited >= after && waited < after + 16, "{state}: {waited} s");
        assert_eq!(sender.next_deadline(), None);
    }
}

#[test]
fn silence_brings_the_first_missing_chunk_again_less_and_less_often() {
    let mut sender = sender("sending");
    let mut now = NOW;
    for wait in [2, 4, 8, 16, 16] {
        assert_eq!(sender.next_deadline(), Some(now + Duration::from_secs(wait)));
        now += Duration::from_secs(wait);
        sender.handle_deadline(now);
        assert!(matches!(sender.poll_output(now), Some(SenderOutput::Chunk { index: 1, .. })));
        assert_eq!(sender.poll_output(now), None);
    }
    // Its answer tells of the others, and the next silence begins with two seconds.
    let bitmap = [0x04];
    let acknowledgement = Acknowledgement { in_order: 1, bitmap: &[] };
    sender.handle_input(now, SenderInput::Acknowledged(acknowledgement));
    assert_eq!(sender.next_deadline(), Some(now + Duration::from_secs(2)));
    let beyond = Acknowledgement { in_order: 1, bitmap: &bitmap };
    sender.handle_input(now, SenderInput::Acknowledged(beyond));
    assert_eq!(
        sender.outcome(),
        Some(Err(Failure::AcknowledgedTooMuch { in_order: 4, sent: 3 })),
        "there is no fourth"
    );
}

#[test]
fn answers_that_make_no_sense_end_the_transfer() {
    for (answer, options) in [
        (StartAnswer { window: 0, offset: 0 }, Options::DEFAULT),
        (StartAnswer { window: 8, offset: 1501 }, Options::DEFAULT),
        (StartAnswer { window: 8, offset: 512 }, Options { resumable: false, ..Options::DEFAULT }),
        (StartAnswer { window: 8, offset: 512 }, Options { discard: true, ..Options::DEFAULT }),
    ] {
        let mut sender = Sender::new(vec![1; 1500], options).unwrap();
        sender.poll_output(NOW);
        sender.handle_input(NOW, SenderInput::StartAnswered(answer));
        let StartAnswer { window, offset } = answer;
        assert_eq!(sender.outcome(), Some(Err(Failure::Unusable { window, offset })));
    }
    // All is there: nothing is left but to say so.
    let mut sender = Sender::new(vec![1; 1500], Options::DEFAULT).unwrap();
    sender.poll_output(NOW);
    sender.handle_input(NOW, SenderInput::StartAnswered(StartAnswer { window: 8, offset: 1500 }));
    assert_eq!(sender.poll_output(NOW), Some(SenderOutput::Finish(Finish::default())));
}

#[test]
fn jobs_that_cannot_work_are_refused_before_anything_is_sent() {
    let new = |len, options| Sender::new(vec![1; len], options).map(|_| ()).unwrap_err();
    assert_eq!(new(0, Options::DEFAULT), SenderError::Empty);
    for chunk_size in [0, 508, 514] {
        assert_eq!(new(1, Options { chunk_size, ..Options::DEFAULT }), SenderError::ChunkSize { chunk_size });
    }
    assert_eq!(new(1, Options { window: 0, ..Options::DEFAULT }), SenderError::Window);
}

const START: Start =
    Start { file_size: 1200, chunk_size: 512, sha256: None, discard: false, module_function: None };

/// A receiver in each of its states, and what it was last told to do.
fn receiver(state: &str) -> Receiver {
    let mut receiver = Receiver::new(1136, 100_000);
    if state == "idle" {
        return receiver;
    }
    receiver.handle_start(START);
    drain(&mut receiver);
    if state == "beginning" {
        return receiver;
    }
    receiver.begun(NOW, Ok(0));
    drain(&mut receiver);
    if state == "receiving" {
        return receiver;
    }
    if state == "failed" {
        receiver.handle_finish(Finish::default());
        drain(&mut receiver);
        return receiver;
    }
    for (index, len) in [(1, 512), (2, 512), (3, 176)] {
        receiver.handle_chunk(NOW, index, len);
        drain(&mut receiver);
        receiver.saved(NOW, true);
        drain(&mut receiver);
    }
    if state == "complete" {
        return receiver;
    }
    receiver.handle_finish(Finish::default());
    drain(&mut receiver);
    if state == "validating" {
        return receiver;
    }
    receiver.validated(Ok(()));
    drain(&mut receiver);
    assert_eq!(state, "finished");
    receiver
}

fn drain(receiver: &mut Receiver) -> Vec<&'static str> {
    core::iter::from_fn(|| receiver.poll_output())
        .map(|output| match output {
            ReceiverOutput::AcknowledgeRequest => "request came",
            ReceiverOutput::RefuseStart(_) => "refuse",
            ReceiverOutput::Begin(_) => "begin",
            ReceiverOutput::StartAnswer(_) => "answer start",
            ReceiverOutput::StartFailed(_) => "start failed",
            ReceiverOutput::Save { .. } => "save",
            ReceiverOutput::Acknowledge => "acknowledge",
            ReceiverOutput::Reset => "reset",
            ReceiverOutput::Validate(_) => "validate",
            ReceiverOutput::FinishAnswer { complete: true } => "answer finish",
            ReceiverOutput::FinishAnswer { complete: false } => "answer cancel",
            ReceiverOutput::FinishFailed(_) => "finish failed",
            ReceiverOutput::Apply(_) => "apply",
            ReceiverOutput::Cancel { discard: false } => "cancel",
            ReceiverOutput::Cancel { discard: true } => "cancel and discard",
            ReceiverOutput::CloseSession => "close",
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn every_event_in_every_state_of_the_receiver_has_its_outputs() {
    type Event = fn(&mut Receiver);
    let events: [(&str, Event); 9] = [
        ("start", |receiver| receiver.handle_start(START)),
        ("start, odd", |receiver| receiver.handle_start(Start { chunk_size: 510, ..START })),
        ("chunk", |receiver| receiver.handle_chunk(NOW, 1, 512)),
        ("chunk, short", |receiver| receiver.handle_chunk(NOW, 1, 511)),
        ("chunk 0", |receiver| receiver.handle_chunk(NOW, 0, 512)),
        ("finish", |receiver| receiver.handle_finish(Finish::default())),
        ("cancel", |receiver| receiver.handle_finish(Finish { cancel: true, discard: true })),
        ("acknowledged", Receiver::handle_acknowledged),
        ("silence", |receiver| receiver.handle_deadline(NOW + SILENCE)),
    ];
    let gone: &[&str] = &["reset", "cancel", "close"];
    let no: &[&str] = &["request came", "finish failed"];
    let table: [(&str, [&[&str]; 9]); 7] = [
        (
            "idle",
            [&["request came", "begin"], &["refuse"], &["reset"], &["reset"], &["reset"], no, no, &[], &[]],
        ),
        ("beginning", [&["request came", "begin"], &["refuse"], &[], &[], &[], &[], &[], &[], &[]]),
        (
            "receiving",
            [
                &["request came", "begin"],
                &["refuse"],
                &["save"],
                gone,
                gone,
                no,
                &["request came", "cancel and discard", "answer cancel"],
                &[],
                &["cancel", "close"],
            ],
        ),
        (
            "complete",
            [
                &["request came", "begin"],
                &["refuse"],
                &["acknowledge"],
                gone,
                gone,
                &["request came", "validate"],
                &["request came", "cancel and discard", "answer cancel"],
                &[],
                &["cancel", "close"],
            ],
        ),
        ("validating", [&["request came", "begin"], &["refuse"], &[], &[], &[], &[], &[], &[], &[]]),
        (
            "finished",
            [
                &["request came", "begin"],
                &["refuse"],
                &[],
                &[],
                &[],
                &["request came", "answer finish"],
                &["request came", "cancel and discard", "answer cancel"],
                &["apply"],
                &[],
            ],
        ),
        (
            "failed",
            [
                &["request came", "begin"],
                &["refuse"],
                &[],
                &[],
                &[],
                no,
                &["request came", "cancel and discard", "answer cancel"],
                &["cancel", "close"],
                &[],
            ],
        ),
    ];
    for (state, expected) in table {
        for ((name, event), expected) in events.iter().zip(expected) {
            let mut receiver = receiver(state);
            event(&mut receiver);
            assert_eq!(drain(&mut receiver), expected, "{name} in {state}");
        }
    }
}

#[test]
fn work_that_fails_is_told() {
    let mut receiver = receiver("beginning");
    receiver.begun(NOW, Err(Rejection::new(-1, "disabled")));
    assert_eq!(drain(&mut receiver), ["start failed"]);
    assert!(!receiver.is_updating());

    let mut receiver = self::receiver("validating");
    receiver.validated(Err(Rejection::new(-1, "bad")));
    assert_eq!(drain(&mut receiver), ["finish failed"]);
    receiver.handle_acknowledged();
    assert_eq!(drain(&mut receiver), ["cancel and discard", "close"]);

    // A chunk that could not be written counts as lost.
    let mut receiver = self::receiver("receiving");
    receiver.handle_chunk(NOW, 1, 512);
    assert_eq!(drain(&mut receiver), ["save"]);
    receiver.saved(NOW, false);
    assert_eq!(drain(&mut receiver), [""; 0]);
    assert_eq!((receiver.received_len(), receiver.statistics().received), (0, 0));
    receiver.handle_chunk(NOW, 1, 512);
    assert_eq!(drain(&mut receiver), ["save"]);
}

#[test]
fn lone_chunk_is_acknowledged_by_the_clock() {
    let mut receiver = receiver("receiving");
    receiver.handle_chunk(NOW, 1, 512);
    drain(&mut receiver);
    receiver.saved(NOW, true);
    assert_eq!(drain(&mut receiver), [""; 0]);
    assert_eq!(receiver.next_deadline(), Some(NOW + ACK_DELAY));
    receiver.handle_deadline(NOW + ACK_DELAY - Duration::from_millis(1));
    assert_eq!(drain(&mut receiver), [""; 0]);
    receiver.handle_deadline(NOW + ACK_DELAY);
    assert_eq!(drain(&mut receiver), ["acknowledge"]);
    assert_eq!(receiver.next_deadline(), Some(NOW + SILENCE));
}

#[test]
fn chunk_beyond_the_window_is_ignored() {
    // 128 KiB in chunks of 512 bytes are 256.
    let mut receiver = Receiver::new(1136, 1 << 20);
    receiver.handle_start(Start { file_size: 300 * 512, ..START });
    drain(&mut receiver);
    receiver.begun(NOW, Ok(0));
    drain(&mut receiver);
    receiver.handle_chunk(NOW, 257, 512);
    assert_eq!(drain(&mut receiver), [""; 0]);
    receiver.handle_chunk(NOW, 256, 512);
    assert_eq!(drain(&mut receiver), ["save"]);
    receiver.saved(NOW, true);
    assert_eq!(drain(&mut receiver), ["acknowledge"]);
    let mut bitmap = [0; 32];
    let acknowledgement = receiver.acknowledgement(&mut bitmap);
    assert_eq!((acknowledgement.in_order, acknowledgement.bitmap.len()), (0, 32));
    assert!(acknowledgement.beyond().eq([256]));
}

#[test]
fn cancelled_start_is_followed_by_a_finish_that_cancels() {
    let mut unsent = Sender::new(vec![1; 1500], Options::DEFAULT).unwrap();
    unsent.cancel(false);
    assert_eq!(unsent.outcome(), Some(Err(Failure::Cancelled)), "the device knows nothing");
    assert_eq!(unsent.poll_output(NOW), None);

    let mut sender = sender("cancelling start");
    assert_eq!((sender.outcome(), sender.poll_output(NOW)), (None, None));
    sender.handle_input(NOW, SenderInput::StartAnswered(ANSWER));
    assert_eq!(sender.poll_output(NOW), Some(SenderOutput::Finish(Finish { cancel: true, discard: true })));
    sender.handle_input(NOW, SenderInput::FinishAnswered);
    assert_eq!(sender.outcome(), Some(Err(Failure::Cancelled)));
    for answer in [SenderInput::StartRefused { code: 0xa3 }, SenderInput::Reset] {
        let mut sender = self::sender("cancelling start");
        sender.handle_input(NOW, answer);
        assert_eq!(sender.outcome(), Some(Err(Failure::Cancelled)));
    }
}

#[test]
fn finish_that_was_not_sent_yet_is_cancelled_like_a_transfer() {
    let mut sender = sender("sending");
    sender.handle_input(NOW, arrived(3));
    sender.cancel(false);
    assert_eq!(sender.poll_output(NOW), Some(SenderOutput::Finish(Finish { cancel: true, discard: false })));
    // One that is on its way is not taken back: its answer is not acknowledged.
    let mut sender = self::sender("finish");
    sender.cancel(false);
    assert_eq!((sender.outcome(), sender.poll_output(NOW)), (Some(Err(Failure::Cancelled)), None));
}

#[test]
fn rejection_is_repeated_word_for_word() {
    let rejections = |receiver: &mut Receiver| -> Vec<String> {
        core::iter::from_fn(|| receiver.poll_output())
            .filter_map(|output| match output {
                ReceiverOutput::FinishFailed(rejection) => Some(rejection.to_string()),
                _ => None,
            })
            .collect()
    };
    let mut receiver = receiver("validating");
    // A second one while the image is looked at brings no second answer.
    receiver.handle_finish(Finish::default());
    receiver.validated(Err(Rejection::new(-7, "bad")));
    let said = rejections(&mut receiver);
    receiver.handle_finish(Finish::default());
    assert_eq!((said.len(), &rejections(&mut receiver)), (1, &said));
}
