//! What an owner does with devices over HTTP.

use crate::programs::{self, Cloud, spark};
use crate::{application, bundle, wait_all, wait_online};
use core::time::Duration;
use serde_json::{Value, json};
use spark_cli::synthetic;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

const FLEET: usize = 48;

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
