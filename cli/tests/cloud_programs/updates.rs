//! Updates that a stop and a kill of the cloud interrupt.

use crate::programs::{Cloud, Program, SlowWay, device_id, fixed_port, spark};
use crate::{application, bundle, is, wait_online};
use core::time::Duration;
use serde_json::{Value, json};
use spark_cli::synthetic;
use std::collections::{BTreeMap, BTreeSet};

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

#[test]
fn module_is_flashed_over_the_air_by_the_program() {
    let temporary = tempfile::tempdir().unwrap();
    let at = |name: &str| temporary.path().join(name);
    let cloud = Cloud::start(&at("cloud"), &["--enrolment", "first-use", "--no-update"]);
    let device = cloud.device(&at("device"), &[]);
    let id = device.wait("it starts", |line| line["device_id"].as_str().map(str::to_owned));
    wait_online(&cloud, 0, &id);
    let [file, other] = ["application.bin", "wrong"].map(|name| at(name).to_str().unwrap().to_owned());
    std::fs::write(&file, application(3, 20_000)).unwrap();
    std::fs::write(&other, "0123456789abcdef0123456789abcdef").unwrap();
    let (url, data) = (format!("http://{}", cloud.http.address()), cloud.data.to_str().unwrap());
    let flash = |to: &str, token: [&str; 2], more: &[&str]| {
        let arguments = ["flash", "--cloud", &url, "--to", to, token[0], token[1], "--json", &file];
        let output = spark(&[&arguments, more].concat());
        let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), result, String::from_utf8(output.stderr).unwrap())
    };
    let folder = ["--data", data];

    // Looked at first.
    let (code, planned, _) = flash(&id, folder, &["--dry-run"]);
    assert_eq!((code, planned["steps"].as_array().unwrap().len()), (Some(0), 1), "{planned}");
    assert_eq!((&planned["dry_run"], &planned["steps"][0]["size"]), (&json!(true), &json!(20_000)));
    let taken = || device.count(|line| line["happening"] == "reset" && line["code"] == "update");
    assert_eq!(taken(), 0);

    let (code, done, errors) = flash(&id, folder, &[]);
    assert_eq!((code, &done["device"], &done["dry_run"]), (Some(0), &json!(id), &json!(false)), "{errors}");
    assert_eq!(taken(), 1);
    let (code, nothing, _) = flash(&id, folder, &[]);
    assert_eq!((code, &nothing["steps"]), (Some(0), &json!([])), "it has it");

    for (to, token, more, code, words) in [
        ("nobody", folder, &[][..], 65, "nobody"),
        (&id, ["--token-file", &other], &[], 64, "token"),
        (&id, folder, &["--factory"], 64, "for USB"),
    ] {
        let (found, _, errors) = flash(to, token, more);
        assert_eq!(found, Some(code), "{errors}");
        assert!(errors.contains(words) && errors.contains("next"), "{errors}");
    }
    device.stop();
    cloud.program.stop();
}
