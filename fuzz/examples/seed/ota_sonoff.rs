//! Seeds of the Sonoff protocol of spark-ota.

use super::{block, bytes, json, list, put};
use serde_json::Value;
use std::error::Error;

pub(crate) fn ota_sonoff() -> Result<(), Box<dyn Error>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().as_bytes().to_vec();
    for (session, seeds) in [("session_range", 14), ("session_simple_sonoff_server", 20)] {
        let records = json(&format!("ota/tests/vectors/sonoff/sessions/{session}.json"))?;
        let records = list(&records["records"]);
        for (i, record) in records.iter().enumerate() {
            let name = format!("{session}_{i}");
            let frame = bytes(&record["frame_hex"]);
            match record["step"].as_str().unwrap_or_default() {
                step @ ("ws_tx" | "ws_rx") if i < seeds => {
                    let from = u8::from(step == "ws_rx");
                    put("ota_sonoff_frame", &name, &[&[from | 64][..], &frame].concat())?;
                    if let Some(at) = frame.iter().position(|byte| *byte == b'{') {
                        put("ota_sonoff_message", &name, &frame[at..])?;
                    }
                }
                "ap" | "dispatch" | "ws_open" => {
                    for field in ["server_request_text", "device_request_text", "device_response_text"] {
                        if record[field].is_string() {
                            put(
                                "ota_sonoff_http",
                                &format!("{name}_{field}"),
                                &[vec![0; 4], text(&record[field])].concat(),
                            )?;
                        }
                    }
                    let answer =
                        [text(&record["server_response_head"]), text(&record["server_response_body"])]
                            .concat();
                    put("ota_sonoff_http", &name, &[vec![0; 4], answer].concat())?;
                }
                "get" if i % 5 == 0 || i > 50 => {
                    let length = 104_276_u32.to_be_bytes().to_vec();
                    put("ota_sonoff_http", &name, &[length, text(&record["device_request_text"])].concat())?;
                }
                _ => {}
            }
        }
    }
    let upgrade = list(&json("ota/tests/vectors/sonoff/sessions/session_range.json")?["records"])
        .iter()
        .find(|record| record["json"]["action"] == "upgrade")
        .map(|record| record["json"].to_string());
    put("ota_sonoff_message", "upgrade", upgrade.unwrap_or_default().as_bytes())?;
    for (name, body) in [
        ("diy_info", r#"{"seq":2,"error":0,"data":"{\"switch\":\"off\",\"otaUnlock\":true}"}"#),
        ("diy_refused", r#"{"seq":2,"error":471}"#),
        (
            "diy_flash",
            r#"{"deviceid":"1","data":{"downloadUrl":"http://a/b","sha256sum":"66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"}}"#,
        ),
        (
            "state",
            r#"{"action":"update","apikey":"33f0c783-06d6-476c-a590-30bb4cf724c3","deviceid":"1","params":{"upgradeState":404},"d_seq":"7"}"#,
        ),
        (
            "switches",
            r#"{"action":"update","apikey":"33f0c783-06d6-476c-a590-30bb4cf724c3","deviceid":"1","params":{"switches":[{"switch":"on","outlet":0}],"power":"1.5"}}"#,
        ),
        (
            "redirect",
            r#"{"action":"redirect","apikey":"33f0c783-06d6-476c-a590-30bb4cf724c3","deviceid":"1","IP":"a","port":1}"#,
        ),
    ] {
        put("ota_sonoff_message", name, body.as_bytes())?;
    }
    let texts: [&[u8]; 6] = [
        b"txtvers=1",
        b"id=1000abcdef",
        b"type=diy_plug",
        b"apivers=1",
        b"seq=7",
        b"data1={\"switch\":\"off\",\"otaUnlock\":true}",
    ];
    put("ota_sonoff_message", "announcement", &texts.map(block).concat())?;
    put("ota_sonoff_http", "url", b"\0\0\0\0http://192.168.77.10:8080/ota/user2.bin")?;
    put("ota_sonoff_frame", "pings", &[0, 0x89, 0x80, 0, 0, 0, 0, 0x89, 0x80, 1, 2, 3, 4])?;
    put("ota_sonoff_frame", "close", &[1, 0x88, 2, 1, 0x98, 0x8a, 0])?;

    // Joined, dispatched, opened, registered, dated, updated.
    let up = [2, 0, 3, 1, 0, 6, 3, 2, 7, 8, 145, 9, 10, 0, 0];
    for (choice, name) in [(0, "old"), (1, "ranges"), (2, "later"), (3, "pinned"), (5, "second_slot")] {
        // 8 bytes of image in one chunk, then its hash, then the reboot.
        let small = [&[choice][..], &up, &[11, 0, 3, 3, 15, 0, 1, 17, 1, 0]].concat();
        put("ota_sonoff_device", &format!("{name}_wrong_digest"), &small)?;
        let chunks = [11, 0, 3, 3, 15, 4, 0, 15, 4, 0, 4, 3, 0, 3, 3, 15, 4, 0, 17, 0, 0];
        put("ota_sonoff_device", name, &[&[choice][..], &up, &chunks].concat())?;
        put(
            "ota_sonoff_device",
            &format!("{name}_silent"),
            &[&[choice][..], &up, &[11, 0, 3, 3, 0, 0, 0]].concat(),
        )?;
    }
    let request =
        b"POST /ap HTTP/1.1\r\n\r\n{\"ssid\":\"a\",\"password\":\"\",\"serverName\":\"b\",\"port\":1}";
    let paired = [&[9, 3, 0, 5, 0][..], &block(request), &up].concat();
    put("ota_sonoff_device", "paired", &paired)?;
    put("ota_sonoff_device", "redirected", &[&[2][..], &up, &[14, 0, 3, 2, 13, 12, 4, 2, 0]].concat())?;
    ota_sonoff_server()
}

fn ota_sonoff_server() -> Result<(), Box<dyn Error>> {
    let seed = |name: &str, parts: &[&[u8]]| put("ota_sonoff_server", name, &parts.concat());
    // A WebSocket of the first device; registered, dated, updated; offered.
    let offered = [0, 0x80, 7, 0, 8, 9, 4, 0];
    // A connection for downloads of it, and both ranges of the second image.
    let ranges = [0, 3, 13, 65, 0, 0, 13, 65, 16, 0];
    let paced = [0, 3, 13, 5, 0, 0, 2, 2, 2, 2, 2, 2, 2];
    for (name, choice) in [("once", 0), ("fast", 4), ("few", 8), ("often", 3)] {
        let start = [&[choice][..], &offered].concat();
        seed(&format!("ranges_{name}"), &[&start, &ranges, &[1, 0, 11, 0]])?;
        seed(&format!("whole_{name}"), &[&start, &paced, &[1, 0, 12, 0]])?;
        seed(&format!("refused_{name}"), &[&start, &[11, 2, 11, 2, 11, 4, 2, 2]])?;
        seed(&format!("silent_{name}"), &[&start, &[2, 2, 2, 2, 2, 2]])?;
        seed(&format!("lost_{name}"), &[&start, &ranges, &[1, 0, 5, 1, 0, 0x80, 7, 0, 2, 2]])?;
        let last = [1, 0, 11, 0, 5, 0, 0, 3, 13, 28 | 2, 0, 0, 5, 0];
        seed(&format!("final_{name}"), &[&start, &ranges, &last])?;
    }
    seed(
        "strangers",
        &[&[0, 0, 1, 6], &block(b"GET / HTTP/1.1\r\n\r\n"), &[0, 0x81, 6], &block(&[0x82; 20])],
    )?;
    let many: Vec<u8> = (0..8).flat_map(|i| [0, 0x80 | i, 7, 1, 8, 10, 4, i]).collect();
    seed("many", &[&[8], &many])
}
