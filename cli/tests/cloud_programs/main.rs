//! The programs together, from outside: `spark cloud serve`, devices of `spark device`, and whoever uses the HTTP interface.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

mod programs;

use core::time::Duration;
use programs::{Answer, Cloud, Http, Program, SlowWay, device_id, fixed_port, spark};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use spark_cli::cloud::folder::public_pem;
use spark_cli::synthetic;
use spark_keys::rsa_backend;
use spark_ota::module::{Dependency, ModuleBuilder, ModuleFunction};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::channel;

const FLEET: usize = 48;

/// `wanted` for a line of this event and device.
fn is(line: &Value, event: &str, device: &str) -> bool {
    line["event"] == event && line["device"] == device
}

fn wait_online(cloud: &Cloud, mark: usize, device: &str) {
    cloud.program.wait_since(mark, "the device is online and has described itself", |line| {
        is(line, "described", device).then_some(())
    });
}

/// All that `happening` said of different devices.
fn wait_all(devices: &Program, mark: usize, what: &str, count: usize, wanted: impl Fn(&Value) -> bool) {
    let mut seen = BTreeSet::new();
    devices.wait_since(mark, what, |line| {
        if wanted(line) {
            seen.insert(line["device_id"].as_str().unwrap().to_owned());
        }
        (seen.len() == count).then_some(())
    });
}

fn fleet_ids(data: &Path) -> Vec<String> {
    let list: Value = serde_json::from_slice(&std::fs::read(data.join("fleet.json")).unwrap()).unwrap();
    let devices = list["devices"].as_array().unwrap();
    devices.iter().map(|device| device["device_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn owner_uses_a_fleet_over_http() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    let cloud = Cloud::start(&at("cloud"), &["--no-update"]);
    let http = &cloud.http;
    let keys = at("keys");
    let mut options =
        vec!["--count", "48", "--in-memory", "--profile", "mixed", "--shared-key", "--public-keys"];
    options.extend([keys.to_str().unwrap(), "--function", "brew=7", "--function", "echo=echo"]);
    options.extend([
        "--variable",
        "ok=bool:true",
        "--variable",
        "count=int:-42",
        "--variable",
        "temp=double:21.5",
    ]);
    options.extend(["--variable", "text=string:hello", "--event", "tick={n}@1", "--subscribe", "alarm"]);
    let devices = cloud.device(&at("fleet"), &options);

    // Nobody knows them yet. Their keys are imported beside the running cloud.
    cloud.program.wait("a stranger is refused", |line| {
        (line["event"] == "refused" && line["cause"] == "device-unknown").then_some(())
    });
    assert_eq!(http.get("/v1/devices").ok(), json!([]));
    let data = cloud.data.to_str().unwrap();
    let imported = spark(&["cloud", "import", keys.to_str().unwrap(), "--data", data, "--json"]);
    assert!(imported.status.success(), "{imported:?}");
    let imported: Value = serde_json::from_slice(&imported.stdout).unwrap();
    assert_eq!((&imported["devices"], &imported["keys"]), (&json!(FLEET), &json!(FLEET)));
    wait_all(&devices, 0, "all are online", FLEET, |line| line["happening"] == "described");
    let ids = fleet_ids(&at("fleet"));
    for id in &ids {
        wait_online(&cloud, 0, id);
    }

    // List and show.
    let list = http.get("/v1/devices").ok();
    let listed: BTreeSet<&str> = list.as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids.iter().map(String::as_str).collect());
    for id in &ids {
        let shown = http.get(&format!("/v1/devices/{id}")).ok();
        assert_eq!(
            (&shown["online"], &shown["connected"], &shown["claimed"]),
            (&json!(true), &json!(true), &json!(true))
        );
        assert_eq!((&shown["platform_id"], &shown["name"]), (&json!(6), &json!(id)));
        let variables = json!({ "ok": "bool", "count": "int32", "temp": "double", "text": "string" });
        assert_eq!(shown["variables"], variables, "{id}");
        let functions = shown["functions"].as_array().unwrap();
        assert!(["brew", "echo"].iter().all(|name| functions.contains(&json!(name))), "{id}");
    }

    // Every generation of firmware answers calls, and tells variables of all types.
    for id in &ids {
        let called = http.post_form(&format!("/v1/devices/{id}/echo"), "arg=-12").ok();
        assert_eq!((&called["return_value"], &called["id"]), (&json!(-12), &json!(id)));
        let called = http.post(&format!("/v1/devices/{id}/brew"), &json!({ "arg": "coffee" })).ok();
        assert_eq!((&called["return_value"], &called["connected"]), (&json!(7), &json!(true)));
        for (name, kind, value) in [
            ("ok", "bool", json!(true)),
            ("count", "int32", json!(-42)),
            ("temp", "double", json!(21.5)),
            ("text", "string", json!("hello")),
        ] {
            let read = http.get(&format!("/v1/devices/{id}/{name}")).ok();
            assert_eq!(
                (&read["result"], &read["type"], &read["name"]),
                (&value, &json!(kind), &json!(name)),
                "{id}"
            );
            assert_eq!(read["coreInfo"]["deviceID"], json!(id));
        }
    }
    wait_all(&devices, 0, "all were called", FLEET, |line| {
        line["happening"] == "function-called" && line["argument"] == "coffee" && line["result"] == 7
    });
    let id = &ids[0];
    let device = |rest: &str| format!("/v1/devices/{id}{rest}");
    http.post(&device("/nothing"), &json!({})).refused(404, "not_found");
    http.get(&device("/nothing")).refused(404, "not_found");

    // What they say of themselves, remembered and asked anew.
    for (query, fresh) in [("", false), ("?fresh=true", true)] {
        let described = http.get(&format!("/v1/describe/{id}{query}")).ok();
        assert_eq!((&described["fresh"], &described["describe"]["p"]), (&json!(fresh), &json!(6)));
        assert_eq!(described["describe"]["m"].as_array().unwrap().len(), 4);
    }

    // Events: of all, by prefix, of one device; and to all of them.
    let [all, ticks] = ["/v1/events", "/v1/devices/events/ti"].map(|path| http.stream(path));
    let (one, none) = (http.stream(&device("/events")), http.stream(&device("/events/alarm")));
    let mut seen = BTreeSet::new();
    ticks.wait("events of all devices", |name, data| {
        assert_eq!(name, "tick");
        seen.insert(data["coreid"].as_str().unwrap().to_owned());
        (seen.len() == FLEET).then_some(())
    });
    let mut left = 2;
    one.wait("two events of one device", |name, data| {
        assert_eq!((name, &data["coreid"]), ("tick", &json!(id)));
        let whole = ["ttl", "published_at"].iter().all(|member| !data[member].is_null());
        assert!(whole && data["data"].as_str().unwrap().parse::<u32>().is_ok());
        left -= 1;
        (left == 0).then_some(())
    });
    let mark = devices.mark();
    let alarm = json!({ "name": "alarm/fire", "data": "kitchen", "ttl": 30, "private": true });
    assert_eq!(http.post("/v1/devices/events", &alarm).ok()["ok"], true);
    wait_all(&devices, mark, "every device hears it", FLEET, |line| {
        line["happening"] == "event-received" && line["name"] == "alarm/fire" && line["data"] == "kitchen"
    });
    let heard = all.wait("the owner's own event", |name, data| (name == "alarm/fire").then(|| data.clone()));
    assert_eq!(
        (&heard["data"], &heard["coreid"], &heard["ttl"]),
        (&json!("kitchen"), &json!("api"), &json!(30))
    );
    let system = json!({ "name": "spark/device/claim/code", "data": "x" });
    http.post("/v1/devices/events", &system).refused(400, "invalid_request");

    // Signal, ping, name.
    for on in [true, false] {
        let mark = devices.mark();
        http.put(&device(""), &json!({ "signal": u8::from(on).to_string() })).ok();
        devices.wait_since(mark, "the light show", |line| {
            (line["happening"] == "signal" && line["device_id"] == *id && line["on"] == on).then_some(())
        });
    }
    assert_eq!(http.try_request("PUT", &device("/ping"), None).unwrap().ok()["online"], true);
    http.put(&device(""), &json!({ "name": "kitchen", "notes": "above the sink" })).ok();
    let shown = http.get("/v1/devices/kitchen").ok();
    assert_eq!((&shown["id"], &shown["notes"]), (&json!(id), &json!("above the sink")));
    assert_eq!(http.post("/v1/devices/kitchen/echo", &json!({ "arg": "3" })).ok()["return_value"], 3);
    http.put(&device(""), &json!({ "name": "" })).refused(400, "invalid_request");

    // Given up and taken back. Its events go nowhere in between.
    http.delete("/v1/devices/kitchen").ok();
    http.get(&device("")).refused(403, "unclaimed");
    http.post(&device("/echo"), &json!({})).refused(403, "unclaimed");
    assert_eq!(http.get("/v1/devices").ok().as_array().unwrap().len(), FLEET - 1);
    http.post("/v1/devices", &json!({ "id": id })).ok();
    assert_eq!(http.get("/v1/devices/kitchen").ok()["online"], true, "it was connected all the time");
    http.post("/v1/devices", &json!({ "id": "0123456789abcdef01234567" })).refused(404, "not_found");

    // Firmware: a module and a bundle of two, which is taken whole or not at all.
    let modules = synthetic::new_system().unwrap();
    let [bootloader, part1, part2] = &modules[..] else { panic!("three modules") };
    let kept = http.upload("POST", "/v1/firmware", (&bootloader.name, &bootloader.image), &[]).ok();
    assert_eq!(kept[0]["sha256"], hex::encode(bootloader.sha256));
    let kept = http.upload("POST", "/v1/firmware", ("system.zip", &bundle(&[part1, part2])), &[]).ok();
    assert_eq!(kept.as_array().unwrap().len(), 2);
    let mut damaged = part1.clone();
    damaged.image = damaged.image.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 5000)).collect();
    http.upload("POST", "/v1/firmware", ("bad.zip", &bundle(&[part2, &damaged])), &[])
        .refused(400, "invalid_data");
    assert_eq!(http.get("/v1/firmware").ok().as_array().unwrap().len(), 3);
    http.delete(&format!("/v1/firmware/{}", hex::encode(part2.sha256))).ok();
    http.delete(&format!("/v1/firmware/{}", hex::encode(part2.sha256))).refused(404, "not_found");
    assert_eq!(http.get("/v1/firmware").ok().as_array().unwrap().len(), 2);
    assert_eq!(http.get(&format!("/v1/updates/{id}/plan")).ok()["steps"], json!([]), "it lacks nothing");

    // A module for one device, in one request. It runs a newer application already.
    let application = application(1, 30_000);
    let flashed = http.upload("PUT", &device(""), ("application.bin", &application), &[]).ok();
    assert_eq!(flashed["status"], "Update started");
    devices.wait("it takes the application", |line| {
        (line["device_id"] == *id && line["happening"] == "reset" && line["code"] == "update").then_some(())
    });

    // A device that is enrolled and has never come.
    let absent = "00112233445566778899aabb";
    let key = std::fs::read_to_string(keys.join(format!("{id}.pub.pem"))).unwrap();
    http.post(&format!("/v1/provisioning/{absent}"), &json!({ "publicKey": key })).ok();
    http.post(&format!("/v1/devices/{absent}/brew"), &json!({})).refused(408, "offline");
    http.get(&format!("/v1/devices/{absent}/temp")).refused(408, "offline");
    assert_eq!(
        http.try_request("PUT", &format!("/v1/devices/{absent}/ping"), None).unwrap().ok()["online"],
        false
    );
    http.get(&format!("/v1/describe/{absent}")).refused(404, "not_found");
    http.post(&format!("/v1/updates/{absent}"), &json!({})).refused(409, "no_plan");
    let diagnosis = http.get(&format!("/v1/diagnosis/{absent}")).ok();
    assert_eq!((&diagnosis["connected"], &diagnosis["key_known"]), (&json!(false), &json!(true)));

    // Devices and paths that are none, tokens that are wrong.
    http.get("/v1/devices/fedcba987654321001234567").refused(404, "not_found");
    http.get("/nothing/here").refused(404, "not_found");
    for token in [None, Some(""), Some("0"), Some("wrong")] {
        for path in ["/v1/devices", "/metrics", "/v1/status", "/v1/events"] {
            http.request_with("GET", path, token, None).unwrap().refused(401, "invalid_token");
        }
    }
    assert_eq!(http.request_with("GET", "/health", None, None).unwrap().text, "ok\n");

    // How it is, as JSON and for Prometheus.
    let status = http.get("/v1/status").ok();
    assert_eq!(status["devices"], FLEET + 1);
    assert_eq!((&status["enrolment"], &status["watchers"]), (&json!("manual"), &json!(4)));
    let metrics = http.get("/metrics").text;
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in {metrics}")).parse::<f64>().unwrap()
    };
    assert!(value("spark_cloud_handshakes_total") >= 48.0);
    assert!(value("spark_cloud_events_total") >= 48.0);
    assert!(value("spark_cloud_calls_total{kind=\"variable\",result=\"ok\"}") >= 192.0);
    assert!(metrics.ends_with("# EOF\n"));

    http.assert_described();
    assert_eq!(devices.count(|line| line["happening"] == "event-refused"), 0);
    devices.stop();
    // An orderly stop ends the streams, too.
    cloud.program.stop();
    [all, ticks, one, none].iter().for_each(programs::Stream::wait_for_end);
}

fn bundle(files: &[&spark_cli::cloud::catalogue::ModuleFile]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        archive
            .start_file(format!("firmware/{}", file.name), zip::write::SimpleFileOptions::default())
            .unwrap();
        archive.write_all(&file.image).unwrap();
    }
    archive.start_file("README.txt", zip::write::SimpleFileOptions::default()).unwrap();
    archive.write_all(b"two modules").unwrap();
    archive.finish().unwrap().into_inner()
}

/// An application that is like no other: its bytes depend on `number`.
fn application(number: u32, size: usize) -> Vec<u8> {
    let builder = ModuleBuilder::new(6, ModuleFunction::User, 1, 6)
        .depends_on([Dependency::system(2, 207), Dependency::NONE]);
    let body: Vec<u8> = (0_u32..)
        .take(builder.body_len(size).unwrap())
        .map(|at| (at.wrapping_mul(2_654_435_761) ^ number.wrapping_mul(40_503)).to_be_bytes()[1])
        .collect();
    builder.body(&body).build().unwrap()
}

/// Waits until all of these devices have got some of this module, and none all of it.
fn wait_half_way(cloud: &Cloud, mark: usize, module: &str, devices: &[String]) {
    let mut on_its_way: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    cloud.program.wait_since(mark, module, |line| {
        let device = devices.iter().find(|device| line["device"] == **device)?;
        let state = on_its_way.entry(device).or_default();
        match line["event"].as_str() {
            Some("update-started") => *state = (line["module"] == module, false),
            Some("update-progress") => state.1 = line["progress"]["sent"].as_u64() > Some(50),
            Some("update-finished") => *state = (false, false),
            _ => {}
        }
        let all =
            on_its_way.len() == devices.len() && on_its_way.values().all(|state| *state == (true, true));
        all.then_some(())
    });
}

fn plan_of(cloud: &Cloud, id: &str) -> Value {
    cloud.http.get(&format!("/v1/updates/{id}")).ok()["plan"].clone()
}

#[test]
fn two_updates_outlive_a_stop_and_a_kill_and_send_nothing_twice() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    let (listen, api) = (format!("127.0.0.1:{}", fixed_port()), format!("127.0.0.1:{}", fixed_port()));
    let start = || {
        let options = ["--enrolment", "first-use", "--no-update", "--grace", "0"];
        Cloud::start_on(&at("cloud"), &listen, &api, &options)
    };
    let mut cloud = start();
    let way = SlowWay::to(cloud.listen, Duration::from_millis(3));
    let folders = [at("one"), at("two")];
    let devices = folders.each_ref().map(|folder| cloud.device_to(way.address, folder, &["--outdated"]));
    let ids: Vec<String> = devices
        .iter()
        .map(|device| device.wait("it starts", |line| line["device_id"].as_str().map(str::to_owned)))
        .collect();
    assert_eq!(ids, folders.each_ref().map(|folder| device_id(folder)));
    for id in &ids {
        wait_online(&cloud, 0, id);
        cloud.http.get(&format!("/v1/updates/{id}/plan")).refused(409, "no_plan");
    }
    let modules = synthetic::new_system().unwrap();
    let files: Vec<_> = modules.iter().collect();
    cloud.http.upload("POST", "/v1/firmware", ("system.zip", &bundle(&files)), &[]).ok();

    // Looked at first: bootloader and part 1 have to come before part 2, and nothing has begun by looking.
    let mut names = Vec::new();
    for id in &ids {
        let planned = cloud.http.get(&format!("/v1/updates/{id}/plan")).ok();
        names = planned["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!((names.len(), names[2].as_str()), (3, modules[2].name.as_str()));
        assert_eq!(planned["bytes"], modules.iter().map(|module| module.image.len()).sum::<usize>());
        assert!(plan_of(&cloud, id).is_null());
        cloud.http.delete(&format!("/v1/updates/{id}")).refused(409, "nothing_to_cancel");
    }
    let progress = cloud.http.stream(&format!("/v1/updates/{}/events", ids[0]));
    let mark = cloud.program.mark();
    for id in &ids {
        let begun = cloud.http.post(&format!("/v1/updates/{id}"), &json!({ "slow": true })).ok();
        assert_eq!((&begun["plan"]["state"], &begun["plan"]["slow"]), (&json!("running"), &json!(true)));
        cloud.http.post(&format!("/v1/updates/{id}"), &json!({})).refused(409, "under_way");
    }
    let mut heard = BTreeSet::new();
    progress.wait("the progress of the first", |name, data| {
        assert_eq!(data["device"], json!(ids[0]));
        heard.insert(name.to_owned());
        ["update-started", "update-progress", "update-finished"]
            .iter()
            .all(|name| heard.contains(*name))
            .then_some(())
    });

    // In the middle of part 1 the cloud is stopped.
    wait_half_way(&cloud, mark, &names[1], &ids);
    way.hold(true);
    for id in &ids {
        let call = cloud.http.post(&format!("/v1/devices/{id}/brew"), &json!({}));
        assert!([404, 409].contains(&call.status), "{}", call.text);
    }
    cloud.http.put(&format!("/v1/devices/{}", ids[0]), &json!({ "name": "in the middle" })).ok();
    cloud.program.stop();
    progress.wait_for_end();
    way.hold(false);

    // It goes on, and is killed in the middle of part 2.
    cloud = start();
    for id in &ids {
        let plan = plan_of(&cloud, id);
        assert_eq!((&plan["state"], &plan["steps"][0]["state"]), (&json!("running"), &json!("installed")));
    }
    wait_half_way(&cloud, 0, &names[2], &ids);
    way.hold(true);
    cloud.program.kill();
    way.hold(false);

    cloud = start();
    for id in &ids {
        cloud.program.wait("the update ends", |line| {
            (is(line, "plan-changed", id) && line["plan"]["state"] == "done").then_some(())
        });
    }
    for (id, device) in ids.iter().zip(&devices) {
        let plan = plan_of(&cloud, id);
        assert_eq!((&plan["state"], &plan["number"]), (&json!("done"), &json!(1)), "{plan}");
        for (step, name) in plan["steps"].as_array().unwrap().iter().zip(&names) {
            assert_eq!((&step["state"], &step["name"]), (&json!("installed"), &json!(name)));
            // How often it was sent is told by the device: it may restart before the cloud has its last word.
            assert!(step["sent"].as_u64() <= Some(1), "{step}");
        }
        let interrupted = |step: usize| plan["steps"][step]["interrupted"].as_u64();
        assert!(interrupted(1) >= Some(1) && interrupted(2) >= Some(1), "{plan}");
        let taken = device.count(|line| line["happening"] == "reset" && line["code"] == "update");
        assert_eq!(taken, 3, "each module was taken once");
        let described = cloud.http.get(&format!("/v1/describe/{id}?fresh=true")).ok();
        let modules = described["describe"]["m"].as_array().unwrap();
        let versions: Vec<u64> = modules.iter().filter_map(|module| module["v"].as_u64()).collect();
        assert_eq!(versions, [1005, 2202, 2202, 6]);
        assert_eq!(cloud.http.get(&format!("/v1/updates/{id}/plan")).ok()["steps"], json!([]));
    }
    assert_eq!(cloud.http.get("/v1/devices/in%20the%20middle").ok()["id"], json!(ids[0]));
    // The application runs again.
    let called = cloud.http.post(&format!("/v1/devices/{}/digitalread", ids[1]), &json!({ "arg": "D0" }));
    assert_eq!(called.status, 200, "{}", called.text);
    cloud.http.assert_described();
    devices.into_iter().for_each(Program::stop);
    cloud.program.stop();
}

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

/// The keys that a device offered.
fn offered(cloud: &Cloud, id: &str) -> Vec<String> {
    let keys = cloud.http.get(&format!("/v1/keys/{id}")).ok()["keys"].as_array().unwrap().clone();
    let offered = keys.iter().filter(|key| key["state"] == "offered");
    offered.map(|key| key["fingerprint"].as_str().unwrap().to_owned()).collect()
}

fn wait_refused(cloud: &Cloud, mark: usize, id: &str, cause: &str) {
    cloud
        .program
        .wait_since(mark, cause, |line| (is(line, "refused", id) && line["cause"] == cause).then_some(()));
}

#[test]
fn changed_key_is_shown_and_kept_out_until_it_is_accepted() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    let cloud = Cloud::start(&at("cloud"), &[]);
    let http = &cloud.http;

    // A stranger waits to be accepted.
    let first = cloud.device(&at("first"), &[]);
    let id = first.wait("it starts", |line| line["device_id"].as_str().map(str::to_owned));
    wait_refused(&cloud, 0, &id, "device-unknown");
    let waiting = http.get("/v1/keys").ok();
    assert_eq!((&waiting[0]["id"], &waiting[0]["key_changed"]), (&json!(id), &json!(false)));
    assert_eq!(http.get("/v1/status").ok()["waiting_keys"], 1);
    let [fingerprint] = &offered(&cloud, &id)[..] else { panic!("one key") };
    http.post(&format!("/v1/keys/{id}/ffffffff/accept"), &json!({})).refused(404, "not_found");
    http.post(&format!("/v1/keys/{id}/{}/accept", &fingerprint[..16]), &json!({})).ok();
    wait_online(&cloud, 0, &id);
    assert_eq!(http.get("/v1/keys").ok(), json!([]));
    first.stop();

    // The same device with another key.
    let mark = cloud.program.mark();
    let second = cloud.device(&at("second"), &["--id", &id]);
    let mut times = 0;
    cloud.program.wait_since(mark, "it is refused again and again", |line| {
        assert!(!is(line, "online", &id), "it must not get in");
        times += u32::from(is(line, "refused", &id) && line["cause"] == "device-key-differs");
        (times == 4).then_some(())
    });
    let keys = http.get(&format!("/v1/keys/{id}")).ok();
    assert_eq!((&keys["key_changed"], keys["keys"].as_array().unwrap().len()), (&json!(true), 2));
    let pem = std::fs::read_to_string(at("second").join(format!("{id}.pub.pem"))).unwrap();
    for path in ["/v1/keys", "/v1/provisioning"] {
        let error =
            http.post(&format!("{path}/{id}"), &json!({ "public_key": pem })).refused(409, "key_changed");
        assert!(error["next"].as_str().unwrap().contains("replace=true"));
    }
    let diagnosis = http.get(&format!("/v1/diagnosis/{id}")).ok();
    assert_eq!(diagnosis["connected"], false);
    let failure = &diagnosis["last_failure"];
    assert_eq!(failure["diagnosis"]["code"], "device-key-differs");
    assert!(failure["reason"].as_str().unwrap().starts_with("key changed"));
    let recent = http.get("/v1/diagnosis").ok();
    assert_eq!(
        (&recent[0]["id"], &recent[0]["diagnosis"]["code"]),
        (&json!(id), &json!("device-key-differs"))
    );
    assert!(recent[0]["times"].as_u64() >= Some(4), "{recent}");
    let listed = spark(&["cloud", "accept", "--data", cloud.data.to_str().unwrap(), "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((&listed["device"], &listed["key_changed"]), (&json!(id), &json!(true)));

    let mark = cloud.program.mark();
    let [fingerprint] = &offered(&cloud, &id)[..] else { panic!("one key") };
    assert_eq!(listed["fingerprint"], json!(fingerprint));
    http.post(&format!("/v1/keys/{id}/{fingerprint}/accept"), &json!({})).ok();
    wait_online(&cloud, mark, &id);
    assert_eq!(http.get(&format!("/v1/keys/{id}")).ok()["key_changed"], false);
    assert_eq!(http.get(&format!("/v1/devices/{id}")).ok()["key_fingerprint"], json!(fingerprint));

    // A key that is forgotten throws its device out.
    let mark = cloud.program.mark();
    http.delete(&format!("/v1/keys/{id}/{fingerprint}")).ok();
    cloud.program.wait_since(mark, "it is thrown out", |line| is(line, "offline", &id).then_some(()));
    wait_refused(&cloud, mark, &id, "device-unknown");
    http.assert_described();
    second.stop();
    cloud.program.stop();
}

#[test]
fn device_with_another_server_key_is_explained_at_both_ends() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    let cloud = Cloud::start(&at("cloud"), &["--enrolment", "first-use"]);
    let other = Cloud::start(&at("other"), &["--enrolment", "first-use"]);
    // The key is one cloud's, the address the other's.
    let device = other.device_to(cloud.listen, &at("device"), &[]);
    let code = device.wait("it does not get in", |line| {
        (line["happening"] == "disconnected").then(|| line["diagnosis"]["code"].clone())
    });
    assert_eq!(code, "dropped-after-identity");
    let recent = cloud.http.get("/v1/diagnosis").ok();
    assert_eq!(
        (&recent[0]["id"], &recent[0]["diagnosis"]["code"]),
        (&Value::Null, &json!("identity-rejected"))
    );
    assert!(recent[0]["advice"].as_str().unwrap().contains("another server's key"), "{recent}");
    assert_eq!(cloud.http.get("/v1/devices").ok(), json!([]));
    device.stop();
}

#[test]
fn claim_code_brings_a_device_to_its_owner() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    let cloud = Cloud::start(&at("cloud"), &["--enrolment", "first-use"]);
    let http = &cloud.http;
    let device = cloud.device(&at("device"), &[]);
    let id = device.wait("it starts", |line| line["device_id"].as_str().map(str::to_owned));
    wait_online(&cloud, 0, &id);
    http.delete(&format!("/v1/devices/{id}")).ok();
    device.stop();

    let claim = http.post("/v1/device_claims", &json!({})).ok();
    assert_eq!(claim["device_ids"], json!([]));
    let code = claim["claim_code"].as_str().unwrap();
    for (code, claimed) in [("no such code", false), (code, true)] {
        let mark = cloud.program.mark();
        let device = cloud.device(&at("device"), &["--claim-code", code]);
        cloud.program.wait_since(mark, "it tells the code", |line| is(line, "claim-code", &id).then_some(()));
        if claimed {
            device.wait("it hears that the claim is settled", |line| {
                (line["happening"] == "claim-settled").then_some(())
            });
            assert_eq!(http.get(&format!("/v1/devices/{id}")).ok()["claimed"], true);
        } else {
            http.get(&format!("/v1/devices/{id}")).refused(403, "unclaimed");
        }
        device.stop();
    }
    assert_eq!(http.post("/v1/device_claims", &json!({})).ok()["device_ids"], json!([id]));
    http.assert_described();
    cloud.program.stop();
}

#[test]
fn answer_does_not_overtake_a_body_that_nobody_reads() {
    let temporary = tempfile::tempdir().unwrap();
    let cloud = Cloud::start(&temporary.path().join("cloud"), &[]);
    let mut socket = TcpStream::connect(cloud.http.address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = [0; 12];
    // One connection for all. The body comes when the server has had time for its answer.
    for (token, status) in [(cloud.http.token(), "200"), ("wrong", "401"), (cloud.http.token(), "200")] {
        let head = "POST /v1/device_claims HTTP/1.1\r\nHost: x\r\nContent-Type: application/json";
        write!(socket, "{head}\r\nAuthorization: Bearer {token}\r\nContent-Length: 2\r\n\r\n").unwrap();
        socket.set_nonblocking(true).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(socket.peek(&mut answer).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        socket.set_nonblocking(false).unwrap();
        socket.write_all(b"{}").unwrap();
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(str::from_utf8(&answer).unwrap(), format!("HTTP/1.1 {status}"));
        // The rest of it.
        let mut reader = BufReader::new(&socket);
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line).unwrap() != 2 {
            let value = line.to_ascii_lowercase();
            length =
                value.strip_prefix("content-length: ").map_or(length, |value| value.trim().parse().unwrap());
            line.clear();
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        assert!(reader.buffer().is_empty());
    }
    cloud.program.stop();
}
