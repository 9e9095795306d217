//! Keys of devices that are no Photon.

use super::protocol::{self, Protocol};
use super::secret::Secret;
use super::server::{ServerKey, address, kept_address};
use crate::dct::image::Table;
use crate::dfu::Access;
use crate::dfu::double::Double;
use crate::particle::{Particle, WriteOptions, Written};
use crate::ui::Ui;
use std::path::Path;

fn with<T>(device: &mut Double, work: impl FnOnce(&mut Particle<'_, '_>) -> T) -> T {
    work(&mut Particle::new(&mut Access::over(device, &Ui::new(true))).unwrap())
}

fn options(backup: &Path) -> WriteOptions {
    WriteOptions { backup: backup.to_owned(), dry_run: false, leave: false }
}

fn load(device: &mut Double, secret: &Secret, backup: &Path) -> Written {
    with(device, |device| {
        let segment = device.segment(secret.protocol().private_key()).unwrap();
        device.write(&segment, secret.field(), &options(backup)).unwrap()
    })
}

#[test]
fn core_keeps_what_else_is_in_the_pages_of_its_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut core = Double::core();
    let pattern: Vec<u8> = (0..0x4000usize).map(|at| (at * 7 + (at >> 8)).to_le_bytes()[0]).collect();
    core.content.bytes[..0x4000].copy_from_slice(&pattern);
    let secret = Secret::generate(Protocol::Tcp).unwrap();
    let written = load(&mut core, &secret, folder.path());
    assert_eq!((written.address, written.changed, written.bytes), (0x2000, true, 612));
    assert!(core.content.bytes[0x2000..0x2000 + 612] == *secret.field());

    let key = ServerKey::bundled(Protocol::Tcp);
    let block = address("10.0.0.1", Some(8080)).unwrap();
    with(&mut core, |device| {
        assert_eq!(Protocol::of(device, None).unwrap(), Protocol::Tcp);
        assert!(Protocol::of(device, Some(Protocol::Udp)).is_err(), "a Core has no UDP keys");
        let segment = device.segment(Protocol::Tcp.server_key()).unwrap();
        assert_eq!(segment.address, 0x1000);
        device.write(&segment, &key.region(&block).unwrap(), &options(folder.path())).unwrap();
        assert_eq!(kept_address(device, Protocol::Tcp, &ServerKey::own()).unwrap(), block);
    });
    let written = |at: usize| (0x1000..0x1200).contains(&at) || (0x2000..0x2000 + 612).contains(&at);
    let neighbours = (0..0x4000).filter(|at| !written(*at));
    assert!({ neighbours }.all(|at| core.content.bytes[at] == pattern[at]), "the rest of the pages stays");
    assert_eq!(core.content.erased.iter().copied().collect::<Vec<_>>(), [1, 2]);

    let before = core.content.bytes.clone();
    core.content.erased.clear();
    assert!(!load(&mut core, &secret, folder.path()).changed);
    assert!(core.content.erased.is_empty() && core.content.bytes == before, "an equal key is not written");
    assert!(with(&mut core, |device| Table::of_device(device).is_err()), "a Core has no table");
}

#[test]
fn electron_talks_udp_until_it_is_told_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let mut electron = Double::electron();
    let protocol = |device: &mut Double| with(device, |device| Protocol::of(device, None).unwrap());
    assert_eq!(protocol(&mut electron), Protocol::Udp);
    let secret = Secret::generate(Protocol::Udp).unwrap();
    assert_eq!(load(&mut electron, &secret, folder.path()).address, 3106);
    assert!(electron.content.bytes[3106..3106 + 192] == *secret.field());

    electron.content.bytes[2977] = 0;
    assert_eq!(protocol(&mut electron), Protocol::Tcp);
    let secret = Secret::generate(Protocol::Tcp).unwrap();
    load(&mut electron, &secret, folder.path());
    assert!(electron.content.bytes[34..34 + 612] == *secret.field());
    assert!(electron.content.erased.is_empty(), "a table is not erased");
    assert!(with(&mut electron, |device| Table::of_device(device).is_ok()));
}

#[test]
fn new_protocol_is_told_with_what_was_written_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut electron = Double::electron();
    electron.content.bytes[2977] = 0;
    let mut options = options(folder.path());
    options.dry_run = true;
    let dry = with(&mut electron, |device| protocol::set(device, Protocol::Udp, &options).unwrap());
    let said = protocol::said(Protocol::Udp, &dry);
    assert!(said.contains("would be written") && said.contains("would talk udp"), "{said}");
    assert_eq!(electron.content.bytes[2977], 0);

    options.dry_run = false;
    let written = with(&mut electron, |device| protocol::set(device, Protocol::Udp, &options).unwrap());
    let said = protocol::said(Protocol::Udp, &written);
    let backup = written.backup.unwrap();
    assert_eq!(std::fs::read(&backup).unwrap(), [0]);
    assert!(said.contains("transport: 1 bytes written at 0xba1") && said.contains("talks udp"), "{said}");
    assert!(said.contains(&backup.display().to_string()), "{said}");
    assert_eq!(electron.content.bytes[2977], 0xFF);
}

#[test]
fn devices_of_others_are_left_alone() {
    let mut stranger = Double::stranger();
    let mut access = Access::over(&mut stranger, &Ui::new(true));
    let failure = Particle::new(&mut access).err().unwrap();
    assert_eq!(failure.code() as u8, 69);
}
