//! What a cloud remembers: as files out and in, from other servers, through crashes, and beside other programs.
#![allow(
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    clippy::std_instead_of_core,
    reason = "test code"
)]

use coap_spark::handshake::DeviceId;
use spark_cli::cloud::folder::{Folder, private_pem, public_pem};
use spark_cli::cloud::manage::{self, ImportArgs};
use spark_cli::cloud::plan::{Plan, PlanStep};
use spark_cli::cloud::store::{Device, KeyState, MAX_STRANGERS, Store, export, import};
use spark_cli::exit::Code;
use spark_cli::synthetic;
use spark_keys::rsa_backend;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const ID: &str = "53ff6d065072534212345667";

fn id(last: u16) -> DeviceId {
    let mut id = [0x53; 12];
    id[10..].copy_from_slice(&last.to_be_bytes());
    DeviceId(id)
}

fn key() -> Vec<u8> {
    rsa_backend::generate_device_key(&mut rand::rng()).unwrap().public_key().to_vec()
}

fn change(store: &Store, id: DeviceId, change: impl FnOnce(&mut Device) + Send + 'static) {
    store.change_now(move |transaction| transaction.update_device(id, change)).unwrap();
}

#[test]
fn everything_that_is_exported_is_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("one.redb")).unwrap();
    let (spki, next, old) = (key(), key(), key());
    let (first, second) = (spki.clone(), next.clone());
    change(&store, id(1), move |device| {
        device.enrol(&old, 1);
        device.enrol(&first, 2);
        device.stage(&second, 3);
        device.rename("brewer").unwrap();
        device.claimed = true;
        device.notes = Some("in the cellar".to_owned());
        device.attributes.insert("room".to_owned(), "3".to_owned());
        device.platform_id = Some(6);
    });
    let offered = key();
    change(&store, id(2), move |device| device.offer(&offered, 4));
    let file = synthetic::application().unwrap();
    let plan = Plan::new(7, 8, true, vec![PlanStep::new(&file, "it was asked for".to_owned())]);
    let (kept, planned) = (file.clone(), plan.clone());
    store
        .change_now(move |transaction| {
            transaction.put_module(&kept)?;
            transaction.put_plan(id(1), &planned)
        })
        .unwrap();

    let out = folder.path().join("out");
    let exported = export(&store, &out).unwrap();
    assert_eq!((exported.devices, exported.modules), (2, 1));
    let pem = fs::read_to_string(out.join("devices").join(format!("{}.pub.pem", id(1)))).unwrap();
    assert_eq!(pem, public_pem(&spki).unwrap());
    let pem = fs::read_to_string(out.join("devices").join(format!("{}.next.pub.pem", id(1)))).unwrap();
    assert_eq!(pem, public_pem(&next).unwrap());

    let other = Store::open(&folder.path().join("two.redb")).unwrap();
    let imported = import(&other, &out).unwrap();
    assert!(imported.refused.is_empty(), "{:?}", imported.refused);
    assert_eq!((imported.devices, imported.modules, imported.plans), (2, 1, 1));
    assert_eq!(other.devices().unwrap(), store.devices().unwrap());
    assert_eq!(other.plan(id(1)).unwrap(), Some(plan));
    assert_eq!(other.image(&file.sha256).unwrap().as_deref(), Some(&file.image[..]));
    // Once more changes nothing.
    import(&other, &out).unwrap();
    assert_eq!(other.devices().unwrap(), store.devices().unwrap());
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[test]
fn folders_of_both_javascript_servers_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("theirs");
    let server_key = rsa_backend::generate_server_key(&mut rand::rng()).unwrap();
    let server_pem = rsa_backend::private_key_pem(&server_key).unwrap();
    write(&theirs.join("data/default_key.pem"), server_pem.as_bytes());
    // Brewskey: attributes and keys in folders of their own.
    let brewskey = key();
    let attributes = format!(
        r#"{{"claimCode":"x","deviceID":"{ID}","isCellular":false,"name":"tap","ownerID":"o","particleProductId":6,"lastHeard":null}}"#
    );
    write(&theirs.join(format!("data/deviceAttributes/{ID}.json")), attributes);
    let body =
        serde_json::json!({ "algorithm": "rsa", "deviceID": ID, "key": public_pem(&brewskey).unwrap() });
    write(&theirs.join(format!("data/deviceKeys/{ID}.json")), body.to_string());
    // particle-iot: all in one folder, with what its command line tool leaves there.
    let other = "33ff6d065072534212345667";
    let particle = rsa_backend::generate_device_key(&mut rand::rng()).unwrap();
    let particle_spki = particle.public_key();
    write(&theirs.join(format!("core_keys/{other}.pub.pem")), public_pem(&particle_spki).unwrap());
    write(&theirs.join(format!("core_keys/{other}.json")), r#"{"registrar":"admin","timestamp":"2015"}"#);
    write(&theirs.join(format!("core_keys/{other}.pem")), private_pem(&particle).unwrap().as_bytes());
    write(&theirs.join("users/someone.json"), "{}");

    let data = folder.path().join("cloud");
    let args = |json| ImportArgs {
        from: theirs.clone(),
        data: data.clone(),
        server_key: Some(theirs.join("data/default_key.pem")),
        json,
    };
    manage::import(&args(true)).unwrap();
    let folder = Folder::open_existing(&data).unwrap();
    assert_eq!(folder.server_key().unwrap(), server_key, "the devices know this one");
    let device = folder.store().device(ID.parse().unwrap()).unwrap().unwrap();
    assert_eq!(device.current_key().unwrap().spki(), brewskey);
    assert_eq!((device.name.as_deref(), device.claimed), (Some("tap"), true));
    assert_eq!(device.attributes.get("ownerID").map(String::as_str), Some("o"));
    assert!(!device.attributes.contains_key("claimCode"));
    let device = folder.store().device(other.parse().unwrap()).unwrap().unwrap();
    assert_eq!(device.current_key().unwrap().spki(), particle_spki);
    assert_eq!(device.attributes.get("registrar").map(String::as_str), Some("admin"));
    assert_eq!(folder.store().devices().unwrap().len(), 2);

    // A second server's key is not taken over the first.
    let second = rsa_backend::generate_server_key(&mut rand::rng()).unwrap();
    write(&theirs.join("data/default_key.pem"), rsa_backend::private_key_pem(&second).unwrap().as_bytes());
    assert_eq!(manage::import(&args(false)).unwrap_err().code(), Code::CantCreate);
}

#[test]
fn files_that_are_no_good_are_named_and_the_rest_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cloud.redb")).unwrap();
    let (recorded, different) = (key(), key());
    let before = recorded.clone();
    change(&store, id(1), move |device| device.enrol(&before, 1));
    let from = folder.path().join("from");
    write(&from.join(format!("{}.pub.pem", id(1))), public_pem(&different).unwrap());
    write(&from.join(format!("{}.pub.pem", id(2))), "no key");
    write(&from.join(format!("{}.json", id(3))), "{");
    write(&from.join(format!("{}.pub.pem", id(4))), public_pem(&different).unwrap());
    write(&from.join("broken.bin"), [0x5a; 100]);
    write(&from.join("notes.txt"), "not looked at");
    let imported = import(&store, &from).unwrap();
    let refused: Vec<_> =
        imported.refused.iter().map(|refused| refused.file.file_name().unwrap().to_string_lossy()).collect();
    assert_eq!(refused.len(), 3, "{:?}", imported.refused);
    assert!(imported.refused.iter().any(|refused| refused.reason.starts_with("key changed")));
    assert_eq!(store.device(id(1)).unwrap().unwrap().current_key().unwrap().spki(), recorded);
    assert_eq!(store.device(id(4)).unwrap().unwrap().current_key().unwrap().spki(), different);
    assert_eq!(import(&store, &from.join("none")).unwrap_err().code(), Code::NoInput);
}

#[test]
fn two_programs_and_many_threads_write_at_once_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.redb");
    let stores = [Arc::new(Store::open(&path).unwrap()), Arc::new(Store::open(&path).unwrap())];
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = Arc::clone(&stores[thread % 2]);
            scope.spawn(move || {
                for at in 0..25 {
                    let number = u16::try_from(thread * 100 + at).unwrap();
                    change(&store, id(number), move |device| {
                        device.rename(&format!("device {number}")).unwrap();
                    });
                    change(&store, id(9999), |device| {
                        device.claimed = true;
                        device.connections += 1;
                    });
                }
            });
        }
    });
    let devices = stores[1].devices().unwrap();
    assert_eq!(devices.len(), 201);
    assert_eq!(stores[0].device(id(9999)).unwrap().unwrap().connections, 200, "each saw the one before");
}

#[test]
fn refused_change_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cloud.redb")).unwrap();
    let refused = store.change_now(|transaction| {
        let _ = transaction.device(id(1))?;
        Err::<(), _>(spark_cli::exit::Failure::new(Code::Data, "no", "nothing"))
    });
    assert_eq!(refused.unwrap_err().what(), "no");
    assert_eq!(store.device(id(1)).unwrap(), None);
}

#[test]
fn strangers_are_bounded_and_known_devices_are_not_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cloud.redb")).unwrap();
    let most = u16::try_from(MAX_STRANGERS).unwrap();
    store
        .change_now(move |transaction| {
            (0..most)
                .try_for_each(|at| transaction.update_device(id(at), |device| device.offer(&[1; 162], 0)))
        })
        .unwrap();
    let one_more = |at| {
        store.change_now(move |transaction| {
            transaction.update_device(id(at), |device| device.offer(&[2; 162], 0))
        })
    };
    assert!(one_more(0).is_ok(), "a stranger that is there may offer again");
    change(&store, id(most + 1), |device| device.enrol(&[3; 162], 0));
    assert_eq!(store.devices().unwrap().len(), usize::from(most) + 1);
    // The one that came first goes.
    assert!(one_more(most).is_ok());
    assert_eq!(store.devices().unwrap().len(), usize::from(most) + 1);
    assert!(store.device(id(0)).unwrap().is_none());
    let fingerprint = store.device(id(7)).unwrap().unwrap().keys[0].fingerprint().to_string();
    change(&store, id(7), move |device| device.accept(&fingerprint, 1).unwrap());
    // One that is accepted makes room.
    assert!(one_more(most + 2).is_ok() && store.device(id(1)).unwrap().is_some());
    assert_eq!(store.device(id(7)).unwrap().unwrap().keys[0].state, KeyState::Current);
}

#[test]
fn same_module_is_kept_once_under_both_names() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("cloud.redb")).unwrap();
    let first = synthetic::application().unwrap();
    let mut second = first.clone();
    second.name = "again.bin".to_owned();
    let digest = first.sha256;
    for file in [first.clone(), second.clone(), first] {
        store.change_now(move |transaction| transaction.put_module(&file)).unwrap();
    }
    let modules = store.modules().unwrap();
    assert_eq!(modules.len(), 1);
    assert_eq!(modules[0].names.len(), 2);
    assert!(store.change_now(move |transaction| transaction.remove_module(&digest)).unwrap());
    assert!(store.modules().unwrap().is_empty() && store.image(&digest).unwrap().is_none());
    assert!(!store.change_now(move |transaction| transaction.remove_module(&digest)).unwrap());
}

#[test]
fn file_that_is_no_database_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cloud.redb");
    fs::write(&path, "this is somebody's letter").unwrap();
    let failure = Store::open(&path).unwrap_err();
    assert!(failure.what().contains("cloud.redb"), "{failure}");
    assert_eq!(fs::read(&path).unwrap(), b"this is somebody's letter");
}
