//! `kill -9` at any moment.

use crate::application;
use crate::programs::{Answer, Cloud, Http, spark};
use core::time::Duration;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spark_cli::cloud::folder::public_pem;
use spark_keys::rsa_backend;
use std::collections::BTreeMap;
use std::sync::mpsc::channel;

/// Something that the cloud said is done, and where it shows.
struct Promise {
    path: String,
    member: &'static str,
    value: Value,
}

impl Promise {
    #[track_caller]
    fn assert_kept(&self, cloud: &Cloud) {
        let answer = cloud.http.get(&self.path);
        let list = |member: &Value| member.as_array().cloned().unwrap_or_default();
        let is_kept = match self.member {
            "claimed" => (answer.status == 200) == self.value,
            "current key" => list(&answer.body["keys"])
                .iter()
                .any(|key| key["state"] == "current" && key["public_key"] == self.value),
            "firmware" => list(&answer.body).iter().any(|file| file["sha256"] == self.value),
            member => answer.body[member] == self.value,
        };
        assert!(is_kept, "{} of {} is not {}: {}", self.member, self.path, self.value, answer.text);
    }
}

/// The devices that the writes are about.
const NAMED: &str = "aaaaaaaaaaaaaaaaaaaaaaaa";
const CLAIMED: &str = "bbbbbbbbbbbbbbbbbbbbbbbb";

/// The `number`th write: its answer, and what holds from then on.
fn write(http: &Http, number: u32, keys: &[String; 2]) -> (Result<Answer, String>, String, Promise) {
    let json = |value: &Value| Some(("application/json", serde_json::to_vec(value).unwrap()));
    let (named, claimed) = (format!("/v1/devices/{NAMED}"), format!("/v1/devices/{CLAIMED}"));
    let text = format!("number {number}");
    let told = |member, body: &Value, value: &Value| {
        let promise = Promise { path: named.clone(), member, value: value.clone() };
        (http.try_request("PUT", &named, json(body)), member.to_owned(), promise)
    };
    match number % 8 {
        0 => told("name", &json!({ "name": text }), &json!(text)),
        1 => told("notes", &json!({ "notes": text }), &json!(text)),
        2 => {
            let id = format!("cccccccccccccccc{number:08x}");
            let (path, member) = (format!("/v1/keys/{id}"), "current key");
            let answer = http.try_request("POST", &path, json(&json!({ "public_key": keys[0] })));
            (answer, id, Promise { path, member, value: json!(keys[0]) })
        }
        3 => {
            let key = &keys[usize::from((number / 8).is_multiple_of(2))];
            let (path, member) = (format!("/v1/keys/{NAMED}"), "current key");
            let body = json!({ "public_key": key, "replace": true });
            let answer = http.try_request("POST", &path, json(&body));
            (answer, member.to_owned(), Promise { path, member, value: json!(key) })
        }
        4 => {
            let module = application(number, 3000);
            let answer = http.try_upload("POST", "/v1/firmware", ("application.bin", &module), &[]);
            let promise = Promise {
                path: "/v1/firmware".to_owned(),
                member: "firmware",
                value: json!(hex::encode(Sha256::digest(&module))),
            };
            (answer, format!("firmware {number}"), promise)
        }
        5 => told("attributes", &json!({ "attributes": { "room": text } }), &json!({ "room": text })),
        6 => {
            let answer = http.try_request("DELETE", &claimed, None);
            (answer, CLAIMED.to_owned(), Promise { path: claimed, member: "claimed", value: json!(false) })
        }
        _ => {
            let answer = http.try_request("POST", "/v1/devices", json(&json!({ "id": CLAIMED })));
            (answer, CLAIMED.to_owned(), Promise { path: claimed, member: "claimed", value: json!(true) })
        }
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_a_kill() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    let keys = [(); 2].map(|()| {
        let key = rsa_backend::generate_device_key(&mut rand::rng()).unwrap();
        public_pem(&key.public_key()).unwrap()
    });
    // As spark-server keeps its devices.
    let from = at("spark-server");
    std::fs::create_dir(&from).unwrap();
    for id in [NAMED, CLAIMED] {
        std::fs::write(from.join(format!("{id}.pub.pem")), &keys[0]).unwrap();
        std::fs::write(from.join(format!("{id}.json")), r#"{ "name": "old", "room": "attic" }"#).unwrap();
    }
    let [from, data] = [from, at("cloud")].map(|path| path.to_str().unwrap().to_owned());
    assert!(spark(&["cloud", "import", &from, "--data", &data]).status.success());
    let mut promises: BTreeMap<String, Promise> = BTreeMap::new();
    let value = json!({ "room": "attic" });
    promises.insert(
        "attributes".to_owned(),
        Promise { path: format!("/v1/devices/{NAMED}"), member: "attributes", value },
    );

    let (mut number, mut acknowledged, mut rounds_with_several) = (0, 0, 0);
    for round in 0..20 {
        let cloud = Cloud::start(&at("cloud"), &["--log-level", "warn"]);
        promises.values().for_each(|promise| promise.assert_kept(&cloud));
        let Cloud { program, http, .. } = cloud;
        // Right behind an answer, or at any moment.
        let (after, moment) = match round % 2 {
            0 => (rand::random_range(1..8), Duration::from_secs(60)),
            _ => (u32::MAX, Duration::from_micros(rand::random_range(0..80_000))),
        };
        let (kill, killed) = channel::<()>();
        let killer = std::thread::spawn(move || {
            let _ = killed.recv_timeout(moment);
            program.kill();
        });
        let before = acknowledged;
        loop {
            number += 1;
            let (answer, what, promise) = write(&http, number, &keys);
            let Ok(answer) = answer else {
                // Nobody promised anything, and neither does the earlier value hold for sure.
                promises.remove(&what);
                break;
            };
            // What was given up twice is given up.
            if answer.status != 403 {
                answer.ok();
            }
            promises.insert(what, promise);
            acknowledged += 1;
            if acknowledged - before == after {
                kill.send(()).unwrap();
            }
        }
        killer.join().unwrap();
        rounds_with_several += u32::from(acknowledged - before > 1);
    }
    assert!(acknowledged >= 40 && rounds_with_several >= 5, "{acknowledged}, {rounds_with_several}");
    let cloud = Cloud::start(&at("cloud"), &[]);
    promises.values().for_each(|promise| promise.assert_kept(&cloud));
    assert!(promises.len() > 10);
    cloud.program.stop();
}
