//! Keys that are new, changed or another cloud's, and claims.

use crate::programs::{Cloud, spark};
use crate::{is, wait_online};
use serde_json::{Value, json};

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
