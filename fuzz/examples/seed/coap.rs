//! Seeds of coap-spark.

use super::{block, bytes, json, list, put};
use coap_spark::connection::{ServerConnection, ServerPolicy};
use coap_spark::message::FromServer;
use coap_spark::session::{Opener, SavedSession, Sealer, SessionKeys};
use core::time::Duration;
use serde_json::Value;
use std::error::Error;

pub(crate) fn coap() -> Result<(), Box<dyn Error>> {
    let cases = json("coap-spark/tests/vectors/coap_decode.json")?;
    for (i, case) in list(&cases["cases"]).iter().enumerate() {
        put("coap_message", &format!("decode_{i:02}"), &bytes(&case["hex"]))?;
    }
    let mut hellos = Vec::new();
    for message in list(&json("coap-spark/tests/vectors/device_messages.json")?["messages"]) {
        let (name, data) = (message["name"].as_str().unwrap_or_default(), bytes(&message["hex"]));
        if data.len() <= 128 {
            put("coap_envelope", name, &data)?;
        }
        if name.starts_with("hello") {
            hellos.push(data);
        }
    }
    for message in list(&json("coap-spark/tests/vectors/server_messages.json")?["messages"]) {
        let name = message["message"].as_str().unwrap_or_default();
        put("coap_envelope", &format!("server_{name}"), &bytes(&message["brewskey_hex"]))?;
    }
    let framing = json("coap-spark/tests/vectors/framing.json")?;
    let wire = bytes(&framing["concatenated_wire_hex"]);
    put("coap_frame", "wire_small_cuts", &[&[0, 1, 2, 3, 0], &wire[..wire.len().min(600)]].concat())?;
    let plain: Vec<u8> = hellos.iter().take(4).flat_map(|hello| block(hello)).collect();
    put("coap_frame", "sealed", &[&[15, 0, 30, 16, 1], &plain[..]].concat())?;
    put(
        "coap_frame",
        "sealed_lengths",
        &[&[1, 1, 1, 1, 1], &block(&[7; 15])[..], &block(&[8; 16])].concat(),
    )?;
    put("coap_frame", "bad_length", &[31, 31, 31, 31, 0, 0, 17, 1, 2, 3])?;

    let nonce = [0x42; 40];
    for (name, len) in [("with_key", 12 + 162), ("without_key", 12), ("short", 11), ("long", 175)] {
        put("coap_handshake", name, &[&[100], &nonce[..], &vec![0x30; len]].concat())?;
    }
    let document = concat!(
        r#"{"f":["brew"],"v":{"temp":2},"p":6,"m":[{"s":262144,"l":"m","vc":30,"vv":30,"#,
        r#""u":"AB12","f":"s","n":"1","v":11,"d":[{"f":"b","n":"0","v":3,"_":""}]}]}"#
    );
    put("coap_describe", "whole", document.as_bytes())?;
    put("coap_describe", "cut", &document.as_bytes()[..100])?;
    put("coap_describe", "empty", b"{}")?;
    put("coap_describe", "unknown_member", br#"{"f":[],"v":{},"x":[1,{"y":null}]}"#)?;

    put(
        "coap_describe",
        "cellular",
        br#"{"f":[],"v":{"x":9},"p":10,"imei":"35","iccid":"89","m":[{"s":1,"l":"t"}]}"#,
    )?;

    for (name, data) in [
        ("goodbye_cloud", &[1, 1][..]),
        ("goodbye_all", &[0x0f, 5, 0x8c, 1, 0x90, 0x1c, 2]),
        ("goodbye_forever", &[0x0f, 5, 0x8c, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 2]),
        ("goodbye_unknown", &[0x91, 2, 1, 1, 0x85]),
        ("metrics", &[0, 4, 0, 2, 0, 4, 0, 1, 0, 0xd2, 0xff, 0xff, 0xff, 0x19, 0x80, 0x60, 0xff, 0xff, 0xff]),
        ("metrics_more_sizes", &[0, 6, 0, 2, 0, 4, 0, 1, 0, 1, 0, 5, 0, 0, 0]),
        ("value_bool", &[1, 1]),
        ("value_int", &[2, 0xff, 0xfe, 0x1d, 0xc0]),
        ("value_string", b"\x04hello-world"),
        ("value_double", &[9, 0x18, 0x2d, 0x44, 0x54, 0xfb, 0x21, 0x09, 0x40]),
        ("event_claim", b"\x17spark/device/claim/code0123456789abcdef"),
        ("event_max_binary", b"\x19spark/hardware/max_binary393216"),
        ("event_last_reset", b"\x17spark/device/last_resetpanic, hard_fault"),
        ("event_reset", b"\x12spark/device/resetsafe mode"),
        ("event_version", b"\x1aspark/cc3000-patch-version1.32"),
        ("event_updates", b"\x1eparticle/device/updates/forcedtrue"),
    ] {
        put("coap_payload", name, data)?;
    }
    for message in list(&json("coap-spark/tests/vectors/device_messages.json")?["messages"]) {
        if message["name"] == "presence_announcement" {
            put("coap_payload", "presence", &bytes(&message["hex"]))?;
        }
    }

    let session = json("coap-spark/tests/vectors/session_particle_v0.7.0.json")?;
    for (mode, from) in [(2, "device_to_server"), (3, "server_to_device"), (7, "server_to_device")] {
        let mut data = vec![mode];
        for message in list(&session["messages"]).iter().filter(|message| message["dir"] == from) {
            data.push(1);
            data.extend(block(&bytes(&message["coap_hex"])));
        }
        put("coap_connection", &format!("session_{mode}"), &data)?;
    }
    let mut out = [0; 64];
    let hello = Sealer::new(&SessionKeys::new([7; 40])).seal(&hellos[0], &mut out)?.to_vec();
    put(
        "coap_connection",
        "raw_hello",
        &[&[0, 1][..], &block(&hello[..5]), &[0], &block(&hello[5..])].concat(),
    )?;
    Ok(())
}

pub(crate) fn coap_diagnosis() -> Result<(), Box<dyn Error>> {
    let line =
        |code: i32, seen: [u8; 3], text: &str| [&code.to_be_bytes()[..], &seen, text.as_bytes()].concat();
    let device = json("coap-spark/tests/vectors/handshake_device_outcomes.json")?;
    for (i, case) in list(&device["cases"]).iter().enumerate() {
        let Some(outcomes) = case["outcome"].as_object() else { continue };
        for (version, outcome) in outcomes.iter().filter(|(version, _)| !version.ends_with("v0.7.0")) {
            let code =
                outcome["result"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
            let text: Vec<&str> = list(&outcome["error_logs"]).iter().filter_map(Value::as_str).collect();
            let data = line(code, [i as u8, 1, i as u8], &text.join(" "));
            put("coap_diagnosis", &format!("device_{i:02}_{version}"), &data)?;
        }
    }
    let server = json("coap-spark/tests/vectors/handshake_server_outcomes.json")?;
    for (i, case) in list(&server["cases"]).iter().enumerate() {
        let text = case["brewskey"]["outcome"].as_str().unwrap_or_default();
        put("coap_diagnosis", &format!("server_{i:02}"), &line(-220, [0, 255, 2], text))?;
    }
    let address = "HAL_FLASH_Read_ServerAddress() = type:255,domain:,ip: 0.0.0.0, port: 0";
    put("coap_diagnosis", "address", &line(-1, [1, 3, 0], address))?;
    put("coap_diagnosis", "blinks", &line(0, [1, 2, 3], "Handling cloud error: 2"))
}

/// `coap::batch`: numbers of frames and their lengths. `coap::saved`: what a server writes.
pub(crate) fn coap_sessions() -> Result<(), Box<dyn Error>> {
    for (name, counts) in
        [("one", vec![9]), ("lanes", vec![1; 11]), ("mixed", vec![3, 0, 8, 1, 2, 11, 1, 1, 1])]
    {
        let parts: Vec<Vec<u8>> = counts
            .iter()
            .map(|&count| {
                let lens = (0..u16::from(count)).map(|i| (i * 37 + u16::from(count) * 16).to_be_bytes());
                [vec![count], lens.flatten().collect()].concat()
            })
            .collect();
        put("coap_batch", name, &parts.concat())?;
    }
    let keys = SessionKeys::new(core::array::from_fn(|i| i as u8));
    let saved = SavedSession::of(&Sealer::new(&keys), &Opener::new(&keys));
    put("coap_saved", "session", &saved.to_bytes()[..])?;
    let now = Duration::from_secs(1);
    let (mut out, mut frame) = ([0; 512], [0; 64]);
    for (name, requests, partial) in
        [("new", 0, &[][..]), ("asking", 3, &[]), ("in_a_frame", 1, &[0, 32, 1, 2, 3])]
    {
        let mut server: ServerConnection = ServerConnection::new(&keys, ServerPolicy::DEFAULT, 1, now);
        for _ in 0..requests {
            server.request(now, FromServer::VariableRequest { name: b"v" }, &mut frame)?;
        }
        server.handle_input(now, partial)?;
        put("coap_saved", name, server.export_into(now, &mut out).map_err(|(_, error)| error)?)?;
    }
    Ok(())
}

/// Operations of `coap_udp::udp`: messages both ways, lost acknowledgements, keep-alives.
pub(crate) fn coap_udp() -> Result<(), Box<dyn Error>> {
    // A confirmable POST: shape, id, payload; 2 receives, 3 sends, 5 fetches, 6 and 7 are deadlines.
    let (receive, acknowledge) = ([2, 0b1000, 7, 5], [4, 7]);
    let (send, other) = ([3, 0b1000, 1, 5, 99], [3, 0b1000, 2, 5, 99]);
    let acknowledged = [2, 0b0010, 1, 0];
    let repeats = [7, 3, 5].repeat(5);
    let cases: [(&str, Vec<&[u8]>); 7] = [
        ("duplicate", vec![&[1], &receive, &acknowledge, &[5], &receive, &[5, 0, 200], &receive, &[5]]),
        ("forgotten", vec![&[1], &receive, &acknowledge, &[5, 0, 181], &receive, &[5]]),
        ("acknowledged", vec![&[0], &send, &[5], &acknowledged, &[5, 6, 0], &acknowledged]),
        ("unanswered", vec![&[0], &send, &[5], &repeats, &other]),
        ("keep_alive", vec![&[0, 7, 0, 5, 1, 1, 0, 7, 0, 5, 7, 0]]),
        ("reset", vec![&[1], &send, &[5, 2, 3, 1, 0, 5]]),
        ("reply", vec![&[1], &receive, &[3, 0b1110, 7, 9, 0, 5], &receive, &[5], &other, &[6, 0, 5]]),
    ];
    for (name, parts) in cases {
        put("coap_udp", name, &parts.concat())?;
    }
    Ok(())
}
