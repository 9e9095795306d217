//! `spark decode` on recorded sessions, as raw bytes and as captures of every kind.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

mod captures;

use captures::{CLIENT, Format, Link, Recording, Segment, capture, conversation, keys};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output, Stdio};

fn spark(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_spark"))
        .arg("decode")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends early has seen enough.
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(pipe.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Lines of JSON and the exit code.
fn json_lines(arguments: &[&str], input: &[u8]) -> (Vec<Value>, i32) {
    let mut all = vec!["-", "--json"];
    all.extend(arguments);
    let output = spark(&all, input);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (lines, output.status.code().unwrap())
}

fn messages<'a>(lines: &'a [Value], direction: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["record"] == "message" && line["direction"] == direction).collect()
}

fn troubles(lines: &[Value]) -> Vec<&str> {
    let troubles = lines.iter().filter(|line| line["record"] == "trouble");
    troubles.map(|line| line["code"].as_str().unwrap()).collect()
}

/// The plaintexts are those of the recording, in both directions.
fn assert_complete(lines: &[Value], recording: &Recording) {
    for (direction, expected) in [("device", &recording.from_device), ("server", &recording.from_server)] {
        let found: Vec<&str> =
            messages(lines, direction).iter().map(|line| line["plaintext"].as_str().unwrap()).collect();
        let expected: Vec<String> = expected.iter().map(|frame| hex::encode(&frame.plaintext)).collect();
        assert_eq!(found, expected, "{} from {direction}", recording.name);
    }
}

#[test]
fn raw_bytes_of_each_direction_of_every_recorded_session_are_decoded() {
    for recording in Recording::all() {
        for (direction, frames, lead) in [
            ("device", &recording.from_device, recording.identity.clone()),
            ("server", &recording.from_server, [&recording.nonce[..], &recording.session_message].concat()),
        ] {
            let wire = frames.iter().flat_map(|frame| frame.wire.clone()).collect::<Vec<u8>>();
            for bytes in [wire.clone(), [lead, wire].concat()] {
                let arguments = ["--from", direction, "--bytes", "--session", &recording.session];
                let (lines, code) = json_lines(&arguments, &bytes);
                let found: Vec<&str> = messages(&lines, direction)
                    .iter()
                    .map(|line| line["plaintext"].as_str().unwrap())
                    .collect();
                let expected: Vec<String> =
                    frames.iter().map(|frame| hex::encode(&frame.plaintext)).collect();
                assert_eq!(found, expected, "{} {direction}", recording.name);
                assert_eq!(code, 0, "{} {direction}", recording.name);
            }
        }
    }
}

#[test]
fn capture_of_every_recorded_session_is_decoded_with_types_and_answers() {
    for recording in Recording::all() {
        let packets = conversation(&recording, 1400);
        let file = capture(&packets, Format::Micros, Link::Ethernet);
        let (lines, code) = json_lines(&["--bytes", "--session", &recording.session], &file);
        assert_complete(&lines, &recording);
        assert_eq!(troubles(&lines), [""; 0], "{}", recording.name);
        assert_eq!(code, 0, "{}", recording.name);
        assert!(lines.iter().any(|line| line["type"] == "hello" && line["message"]["platform_id"] == 6));
        // Every answer to a variable request has its typed value: the description came before it.
        for line in &lines {
            if line["type"] == "variable-value" {
                let (name, value) = (line["message"]["name"].as_str().unwrap(), &line["message"]["value"]);
                match name {
                    "count" => assert_eq!(*value, -123_456),
                    "temp" => assert_eq!(*value, std::f64::consts::PI),
                    "msg" => assert_eq!(*value, "hello-world"),
                    "flag" => assert_eq!(*value, true),
                    other => panic!("{other}"),
                }
                assert_eq!(line["answers"]["type"], "variable-request");
            }
        }
    }
}

#[test]
fn recorded_messages_have_these_types() {
    let recording = Recording::load("session_brewskey_v2.3.1.json");
    let file = capture(&conversation(&recording, 1400), Format::NgNanos, Link::Ethernet);
    let (lines, _) = json_lines(&["--session", &recording.session], &file);
    let words = |direction| -> Vec<&str> {
        messages(&lines, direction).iter().map(|line| line["type"].as_str().unwrap()).collect()
    };
    for word in ["hello", "description", "variable-value", "function-result", "event", "subscribe", "ack"] {
        assert!(words("device").contains(&word), "{word} in {:?}", words("device"));
    }
    for word in ["hello", "describe", "variable-request", "function-call", "event", "time"] {
        assert!(words("server").contains(&word), "{word} in {:?}", words("server"));
    }
    let hello = messages(&lines, "device")[0];
    assert_eq!((&hello["frame"], &hello["offset"]), (&json!(1), &json!(256)));
    assert_eq!(
        (&hello["id"], &hello["kind"], &hello["code"]),
        (&json!(0xb2a2), &json!("non"), &json!("0.02"))
    );
    assert!(hello["connection"].as_str().unwrap().starts_with("10.0.0.2:49152 > "));
    let at = hello["at"].as_f64().unwrap();
    assert!(at > 1_700_000_000.0 && at < 1_700_000_100.0, "{at}");
    let result = lines.iter().find(|line| line["type"] == "function-result").unwrap();
    assert_eq!(result["message"]["result"], 42);
    assert_eq!(result["message"]["name"], "brew");
}

#[test]
fn firmware_updates_are_decoded() {
    for name in ["v0.6.1", "v0.7.0", "v2.3.1"] {
        let recording = Recording::load(&format!("session_flash_brewskey_{name}.json"));
        let file = capture(&conversation(&recording, 1400), Format::Micros, Link::Ethernet);
        let (lines, code) = json_lines(&["--session", &recording.session], &file);
        let begin = lines.iter().find(|line| line["type"] == "update-begin").unwrap();
        assert_eq!(begin["message"]["file_length"], 600, "{name}");
        let chunk = lines.iter().find(|line| line["type"] == "chunk").unwrap();
        assert_eq!(chunk["message"]["good"], true, "{name}");
        assert!(lines.iter().any(|line| line["type"] == "update-ready"), "{name}");
        assert_eq!(code, 0, "{name}");
    }
}

#[test]
fn every_format_link_layer_and_address_family_gives_the_same() {
    let recording = Recording::load("session_particle_v0.7.0.json");
    let packets = conversation(&recording, 700);
    for format in Format::ALL {
        for link in Link::ALL {
            let file = capture(&packets, format, link);
            let (lines, code) = json_lines(&["--bytes", "--session", &recording.session], &file);
            assert_complete(&lines, &recording);
            assert_eq!(code, 0, "{format:?} {link:?}");
            let at = messages(&lines, "device")[0]["at"].as_f64().unwrap();
            assert!((at - 1_700_000_000.0).abs() < 100.0, "{format:?}: {at}");
        }
    }
}

#[test]
fn split_repeated_and_exchanged_segments_give_the_same() {
    let recording = Recording::load("session_brewskey_v0.7.0.json");
    for size in [1, 3, 17, 100] {
        let mut packets = conversation(&recording, size);
        // Every third data segment comes twice, and later than the two behind it.
        let handshake = 3;
        for at in (handshake..packets.len().saturating_sub(6)).step_by(3) {
            let repeated = packets[at].clone();
            packets.swap(at, at + 2);
            packets.insert(at + 3, repeated);
        }
        let file = capture(&packets, Format::Micros, Link::Ethernet);
        let (lines, code) = json_lines(&["--bytes", "--session", &recording.session], &file);
        assert_complete(&lines, &recording);
        assert_eq!((troubles(&lines).len(), code), (0, 0), "segments of {size}");
    }
}

#[test]
fn server_and_device_key_open_the_handshake() {
    let recording = Recording::load("session_particle_v2.3.1.json");
    let file = capture(&conversation(&recording, 1400), Format::Micros, Link::Ethernet);
    let keys = keys();
    let (server, device) = (keys.server.to_str().unwrap(), keys.device.to_str().unwrap());

    let (lines, code) = json_lines(&["--bytes", "--server-key", server, "--device-key", device], &file);
    assert_complete(&lines, &recording);
    assert_eq!(code, 0);
    let identity = lines.iter().find(|line| line["record"] == "identity").unwrap();
    assert_eq!(identity["device_id"], "53ff6d065072534212345667");
    assert!(identity["offered_key"].as_str().unwrap().len() >= 32, "{identity}");
    let session = lines.iter().find(|line| line["record"] == "session").unwrap();
    assert_eq!((&session["opened"], &session["signature_good"]), (&json!(true), &json!(true)));

    // The public half checks the signature, and the device's key alone opens the session.
    let public = keys.server_public.to_str().unwrap();
    assert_eq!(json_lines(&["--server-key", public, "--device-key", device], &file).1, 0);
    assert_eq!(json_lines(&["--device-key", device], &file).1, 0);

    // The server's key alone says who it is, and no more.
    let (lines, code) = json_lines(&["--server-key", server], &file);
    assert!(lines.iter().any(|line| line["device_id"] == "53ff6d065072534212345667"));
    assert!(messages(&lines, "device").is_empty());
    let trouble = lines.iter().find(|line| line["code"] == "no-session").unwrap();
    assert!(trouble["next"].as_str().unwrap().contains("--device-key"));
    assert_eq!(code, 65);

    // A wrong server key is told, and does not hide what can be read.
    let other = keys.other_server.to_str().unwrap();
    let (lines, code) = json_lines(&["--bytes", "--server-key", other, "--device-key", device], &file);
    assert_complete(&lines, &recording);
    assert_eq!(troubles(&lines), ["identity-rejected", "signature-wrong"]);
    assert_eq!(code, 65);
}

#[test]
fn session_bytes_are_never_shown() {
    let recording = Recording::load("session_particle_v2.3.1.json");
    let file = capture(&conversation(&recording, 1400), Format::Micros, Link::Ethernet);
    let keys = keys();
    let arguments =
        ["-", "--bytes", "--session", &recording.session, "--device-key", keys.device.to_str().unwrap()];
    for more in [&[][..], &["--json"]] {
        let output = spark(&[&arguments, more].concat(), &file);
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        assert!(!text.contains(&recording.session[..32]) && text.contains("plaintext"));
    }
    let bad = format!("{}zz", recording.session);
    let output = spark(&["-", "--session", &bad], &file);
    assert_eq!(output.status.code(), Some(64));
    assert!(!String::from_utf8(output.stderr).unwrap().contains(&recording.session[..16]));
}

#[test]
fn right_session_bytes_are_found_among_several_for_each_connection() {
    let one = Recording::load("session_brewskey_v0.6.1.json");
    let mut packets = conversation(&one, 1400);
    let other = one.sealed_with([0x77; 40]);
    packets.extend(conversation(&other, 1400).into_iter().map(|mut segment| {
        segment.client_port += 1;
        segment
    }));
    let file = capture(&packets, Format::Micros, Link::Ethernet);
    let wrong = "11".repeat(40);
    let arguments = ["--session", &wrong, "--session", &other.session, "--session", &one.session];
    let (lines, code) = json_lines(&arguments, &file);
    assert_eq!((code, troubles(&lines).len()), (0, 0));
    assert_eq!(messages(&lines, "device").len(), 2 * one.from_device.len());

    // The same from a file.
    let mut listed = tempfile::NamedTempFile::new().unwrap();
    write!(listed, "{wrong}\n\n{}\r\n{}\n", other.session, one.session).unwrap();
    let (lines, code) = json_lines(&["--session", &format!("@{}", listed.path().display())], &file);
    assert_eq!((code, messages(&lines, "device").len()), (0, 2 * one.from_device.len()));

    let (lines, code) = json_lines(&["--session", &wrong], &file);
    assert_eq!(code, 65);
    assert_eq!(troubles(&lines).iter().filter(|code| **code == "wrong-session").count(), 2);
    assert!(messages(&lines, "device").is_empty());
}

#[test]
fn lost_segment_is_told_and_decoding_goes_on_behind_it() {
    let recording = Recording::load("session_brewskey_v0.7.0.json");
    let all = conversation(&recording, 1400);
    let data: Vec<usize> =
        (0..all.len()).filter(|at| all[*at].from_client && !all[*at].payload.is_empty()).collect();
    // Not the handshake, not Hello, and not the last two.
    for &lost in &data[2..data.len() - 2] {
        let mut packets = all.clone();
        packets.remove(lost);
        let file = capture(&packets, Format::Micros, Link::Ethernet);
        let (lines, code) = json_lines(&["--bytes", "--session", &recording.session], &file);
        assert_eq!(code, 65);
        let gaps: Vec<&Value> = lines.iter().filter(|line| line["record"] == "gap").collect();
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0]["length"], all[lost].payload.len());
        let found = messages(&lines, "device");
        let missing = 1 + data.iter().position(|at| *at == lost).unwrap() - 2;
        let expected: Vec<String> =
            recording.from_device.iter().map(|frame| hex::encode(&frame.plaintext)).collect();
        // All before it, one without its beginning, and all behind that.
        assert_eq!(found.len(), expected.len() - 1);
        for (at, line) in found.iter().enumerate() {
            let same = if at < missing { at } else { at + 1 };
            let plaintext = line["plaintext"].as_str().unwrap();
            if at == missing {
                assert_eq!(
                    (&line["type"], &line["problem"]["code"]),
                    (&json!("garbled"), &json!("garbled-start"))
                );
                let tail = expected[same].get(32..).unwrap_or_default();
                assert!(plaintext.is_empty() || plaintext.ends_with(tail), "{plaintext}");
            } else {
                assert_eq!(plaintext, expected[same]);
            }
        }
        assert_eq!(messages(&lines, "server").len(), recording.from_server.len());
    }
}

#[test]
fn connection_that_begins_in_the_middle_is_decoded_from_its_second_frame() {
    let recording = Recording::load("session_brewskey_v2.3.1.json");
    let all = conversation(&recording, 1400);
    for skip in 1..all.len() - 12 {
        let file = capture(&all[skip..], Format::Micros, Link::Ethernet);
        let (lines, _) = json_lines(&["--session", &recording.session], &file);
        let begins = lines.iter().find(|line| line["record"] == "connection").unwrap();
        // The answer to SYN says as much as SYN.
        assert_eq!(begins["begins"], if skip == 1 { "start" } else { "middle" }, "{skip}");
        let sent = |from_client: bool| {
            let data =
                all[skip..].iter().filter(|segment| segment.from_client == from_client && segment.is_frame);
            data.count()
        };
        for (direction, from_client) in [("device", true), ("server", false)] {
            let found = messages(&lines, direction);
            // Two frames are needed to be sure where frames begin, and one of them may be short.
            if sent(from_client) > 2 {
                assert!(found.len() + 1 >= sent(from_client), "{skip} {direction} {}", found.len());
            }
            let unreadable = found.iter().filter(|line| line["problem"].is_object()).count();
            assert!(unreadable <= 1, "{skip} {direction}");
        }
    }
}

#[test]
fn sequence_numbers_wrap() {
    let recording = Recording::load("session_brewskey_v0.4.9.json");
    let mut packets = conversation(&recording, 50);
    for segment in &mut packets {
        segment.seq = segment.seq.wrapping_add(u32::MAX - 700);
        segment.ack = segment.ack.wrapping_add(u32::MAX - 700);
    }
    let file = capture(&packets, Format::Micros, Link::Ethernet);
    let (lines, code) = json_lines(&["--bytes", "--session", &recording.session], &file);
    assert_complete(&lines, &recording);
    assert_eq!(code, 0);
}

#[test]
fn other_ports_are_named_and_can_be_chosen() {
    let recording = Recording::load("session_brewskey_v0.4.9.json");
    let mut packets = conversation(&recording, 1400);
    packets.iter_mut().for_each(|segment| segment.server_port = 8080);
    let file = capture(&packets, Format::Micros, Link::Ethernet);
    let (lines, code) = json_lines(&["--session", &recording.session], &file);
    assert_eq!((troubles(&lines), code), (vec!["no-connection"], 65));
    assert!(lines[0]["message"].as_str().unwrap().contains("8080"));
    assert_eq!(json_lines(&["--session", &recording.session, "--port", "8080"], &file).1, 0);
}

#[test]
fn every_truncation_of_a_capture_is_survived() {
    let recording = Recording::load("session_brewskey_v0.4.9.json");
    let packets = conversation(&recording, 1400);
    for format in [Format::Micros, Format::NgNanos] {
        let file = capture(&packets, format, Link::Ethernet);
        // All of them in one program takes too long: every place in the first records, then some.
        for len in (1..200).chain((200..file.len()).step_by(file.len() / 40)) {
            let output = spark(&["-", "--json", "--session", &recording.session], &file[..len]);
            let code = output.status.code().unwrap();
            assert!(matches!(code, 0 | 64 | 65), "{format:?} {len}: {code}");
            assert!(!String::from_utf8(output.stderr).unwrap().contains("panicked"), "{len}");
        }
    }
}

#[test]
fn decrypted_messages_are_read_from_hex_lines_and_as_one_binary_message() {
    let recording = Recording::load("session_particle_v0.7.0.json");
    let lines: Vec<String> =
        recording.from_device.iter().map(|frame| hex::encode(&frame.plaintext)).collect();
    let (found, code) = json_lines(&["--plain", "--from", "device"], (lines.join("\n") + "\n").as_bytes());
    assert_eq!((found.len(), code), (lines.len(), 0));
    assert_eq!(found[0]["type"], "hello");

    let (found, code) = json_lines(&["--plain", "--from", "device"], &recording.from_device[0].plaintext);
    assert_eq!((found.len(), code, &found[0]["type"]), (1, 0, &json!("hello")));

    let (found, code) = json_lines(&["--plain", "--from", "device"], b"400000\n40000001\nxyz\n5002");
    let codes: Vec<&Value> = found.iter().map(|line| &line["problem"]["code"]).collect();
    assert_eq!((codes[0], &found[1]["type"], code), (&json!("not-coap"), &json!("ping"), 65));
    assert_eq!(found[2]["code"], "not-hex");
    assert_eq!(found[3]["problem"]["offset"], 2);
}

#[test]
fn text_of_devices_cannot_reach_the_terminal() {
    // An event whose name and data have escape sequences, C1 characters and direction marks.
    let mut message = vec![0x50, 2, 0, 1, 0xb1, b'e', 0x05];
    message.extend(b"\x1b[2Ja");
    message.push(0xff);
    message.extend("\u{9b}31m\u{202e}".as_bytes());
    let describe = [&[0x40, 2, 0, 2, 0xb1, b'd', 0x41, 3, 0xff][..], r#"{"f":["\u001b[2J","x"]}"#.as_bytes()];
    let input = format!("{}\n{}\n", hex::encode(message), hex::encode(describe.concat()));
    for more in [&["--json"][..], &["--color", "never"]] {
        let output = spark(&[&["-", "--plain", "--from", "device"], more].concat(), input.as_bytes());
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.contains('\u{202e}') && text.contains("event"));
    }
}

#[test]
fn colours_are_there_when_asked_for() {
    let recording = Recording::load("session_particle_v0.7.0.json");
    let bytes: Vec<u8> = recording.from_device.iter().flat_map(|frame| frame.wire.clone()).collect();
    let arguments = ["-", "--from", "device", "--session", &recording.session];
    for (more, expected) in
        [(&[][..], false), (&["--color", "always"], true), (&["--color", "always", "--json"], false)]
    {
        let output = spark(&[&arguments, more].concat(), &bytes);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.contains('\u{1b}'), expected, "{more:?}");
        assert!(text.contains("hello"));
    }
}

#[test]
fn exit_codes_tell_usage_input_and_data_apart() {
    let zeros = "00".repeat(40);
    let code = |arguments: &[&str], input: &[u8]| {
        let output = spark(arguments, input);
        assert!(!output.stderr.is_empty(), "{arguments:?}");
        output.status.code().unwrap()
    };
    assert_eq!(code(&["/no/such/file"], b""), 66);
    assert_eq!(code(&["-"], b""), 66);
    assert_eq!(code(&["-"], b"neither capture nor direction"), 64);
    assert_eq!(code(&["-", "--from", "device"], b"no session bytes"), 64);
    assert_eq!(code(&["-", "--from", "device", "--session", "00"], b"too short"), 64);
    assert_eq!(code(&["-", "--from", "device", "--session", &zeros], &[0xd4, 0xc3, 0xb2, 0xa1]), 64);
    assert_eq!(code(&["-", "--plain"], b"whose?"), 64);
    let (lines, code) = json_lines(&["--from", "device", "--session", &zeros], &[7; 3000]);
    assert_eq!((troubles(&lines)[0], code), ("wrong-session", 65));
}

#[test]
fn reader_that_goes_away_is_no_failure() {
    let recording = Recording::load("session_particle_v0.7.0.json");
    let file = capture(&conversation(&recording, 1), Format::Micros, Link::Ethernet);
    let mut child = Command::new(env!("CARGO_BIN_EXE_spark"))
        .args(["decode", "-", "--json", "--session", &recording.session])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    drop(child.stdin.take().unwrap().write_all(&file));
    let output = child.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn packets_that_are_cut_or_of_something_else_are_told() {
    let recording = Recording::load("session_brewskey_v0.7.0.json");
    let packets = conversation(&recording, 1400);
    // The last 10 bytes of one packet were not kept.
    let mut cut: Vec<Segment> = packets.clone();
    let at = cut.iter().rposition(|segment| segment.from_client && segment.payload.len() > 60).unwrap();
    cut[at].kept = cut[at].payload.len() - 10;
    let file = capture(&cut, Format::Micros, Link::Ethernet);
    let (lines, code) = json_lines(&["--session", &recording.session], &file);
    assert_eq!(code, 65);
    let gap = lines.iter().find(|line| line["record"] == "gap").unwrap();
    assert_eq!((&gap["length"], &gap["direction"]), (&json!(10), &json!("device")));
    assert!(troubles(&lines).contains(&"lost-frame"));

    let file = capture(&packets, Format::Micros, Link::Wireless);
    let (lines, code) = json_lines(&["--session", &recording.session], &file);
    assert_eq!((troubles(&lines), code), (vec!["unknown-link", "no-connection"], 65));
    assert_eq!(CLIENT.len(), 4);
}
