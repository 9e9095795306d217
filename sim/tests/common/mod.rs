//! Photons with small modules of right fields and checksums.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::std_instead_of_alloc,
    reason = "test code, each file uses its part of it"
)]

pub mod server;

use coap_spark::handshake::DeviceId;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use rsa::RsaPrivateKey;
use spark_dct::wiced::{SECTOR_ADDRESSES, WRITE_LIMIT, factory_sector};
use spark_dct::{AppMut, Field, ServerKeyRegion};
use spark_keys::{DeviceKey, rsa_backend};
use spark_ota::module::{Dependency, ModuleBuilder, ModuleFunction};
use spark_sim::{Flash, Photon};
use std::sync::LazyLock;

pub const ID: DeviceId = DeviceId([0x3a, 0, 0x27, 0, 0x17, 0x47, 0x34, 0x33, 0x38, 0x30, 0x35, 0x99]);

pub const BOOTLOADER: u32 = 0x0800_0000;
pub const PART1: u32 = 0x0802_0000;
pub const PART2: u32 = 0x0806_0000;
pub const APPLICATION: u32 = 0x080a_0000;
pub const OTA: u32 = 0x080c_0000;

/// Generated once for all tests of a file.
pub struct Keys {
    pub server: RsaPrivateKey,
    pub device: DeviceKey,
    pub other: DeviceKey,
}

pub static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let mut rng = ChaCha8Rng::seed_from_u64(42);
    Keys {
        server: rsa_backend::generate_server_key(&mut rng).unwrap(),
        device: rsa_backend::generate_device_key(&mut rng).unwrap(),
        other: rsa_backend::generate_device_key(&mut rng).unwrap(),
    }
});

/// Position-dependent bytes.
pub fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    core::iter::repeat_with(next).take(len).collect()
}

fn module(function: ModuleFunction, index: u8, version: u16, needs: [Dependency; 2]) -> Vec<u8> {
    let body = pattern(1_200 + usize::from(index) * 700, u32::from(version) << 8 | u32::from(index));
    let builder = ModuleBuilder::new(6, function, index, version).depends_on(needs).body(&body);
    match function {
        ModuleFunction::User => builder.build().unwrap(),
        _ => builder.vector_table(0x2002_0000).build().unwrap(),
    }
}

pub fn bootloader() -> Vec<u8> {
    module(ModuleFunction::Bootloader, 0, 1005, [Dependency::NONE; 2])
}

pub fn part1(version: u16) -> Vec<u8> {
    module(ModuleFunction::System, 1, version, [Dependency::NONE; 2])
}

pub fn part2(version: u16) -> Vec<u8> {
    let needs = [Dependency::system(1, version), Dependency::bootloader(1003)];
    module(ModuleFunction::System, 2, version, needs)
}

/// An application for this system.
pub fn application(version: u16, system: u16) -> Vec<u8> {
    module(ModuleFunction::User, 1, version, [Dependency::system(2, system), Dependency::NONE])
}

/// Bootloader and system parts of this version, where they run.
pub fn system(version: u16) -> Vec<(u32, Vec<u8>)> {
    vec![(BOOTLOADER, bootloader()), (PART1, part1(version)), (PART2, part2(version))]
}

/// The same with an application that fits.
pub fn whole(version: u16) -> Vec<(u32, Vec<u8>)> {
    let mut modules = system(version);
    modules.push((APPLICATION, application(6, version)));
    modules
}

/// A chip with these modules and no configuration.
pub fn photon_with(modules: &[(u32, Vec<u8>)]) -> Photon {
    let mut flash = Flash::new();
    for (address, image) in modules {
        flash.program(*address, image).unwrap();
    }
    Photon::new(ID, flash)
}

/// The same with a configuration table: keys where there are any, something in the fields beside them.
pub fn configured(
    modules: &[(u32, Vec<u8>)],
    device_key: Option<&DeviceKey>,
    server_key: Option<&RsaPrivateKey>,
) -> Photon {
    let mut photon = photon_with(modules);
    let mut table = [0xff; 8391];
    let mut editor = AppMut::new(&mut table).unwrap();
    editor.set_claimed(true).unwrap();
    editor.set_prefix(Field::SSID_PREFIX, b"\x06Photon").unwrap();
    editor.set_prefix(Field::DEVICE_CODE, b"SIM042").unwrap();
    if let Some(key) = device_key {
        editor.set_device_private_key(key.as_field()).unwrap();
    }
    if let Some(key) = server_key {
        let spki = rsa_backend::server_spki(key.as_public_key()).unwrap();
        editor.set_server_key_region(&ServerKeyRegion::new(&spki, None)).unwrap();
    }
    let mut sector = [0xff; 16384];
    factory_sector(&table, &mut sector).unwrap();
    photon.flash_mut().program(SECTOR_ADDRESSES[0], &sector).unwrap();
    photon
}

/// The fields of the configuration table, without the version record at the end of the sector.
pub fn fields(photon: &Photon) -> Vec<u8> {
    let mut table = photon.configuration();
    table.truncate(WRITE_LIMIT);
    table
}

/// Clears bits in the middle of the module at this address.
pub fn damage(photon: &mut Photon, module: u32) {
    let at = module + 700;
    assert_ne!(*photon.flash().read(at, 4).unwrap(), [0; 4]);
    photon.flash_mut().program(at, &[0; 4]).unwrap();
}

/// What the chip has at this address, as long as `image`.
pub fn flash_at(photon: &Photon, address: u32, image: &[u8]) -> Vec<u8> {
    photon.flash().read(address, image.len()).unwrap().into_owned()
}
