//! Simulated Photons in a given condition: healthy, or as they arrive at the rescue.

use crate::cloud::catalogue::ModuleFile;
use crate::exit::{Code, Failure};
use crate::synthetic;
use coap_spark::handshake::DeviceId;
use rand_core::CryptoRng;
use spark_dct::wiced::{Generation, SECTOR_ADDRESSES, factory_sector};
use spark_dct::{AppMut, Field, ServerKeyRegion};
use spark_keys::{DeviceKey, rsa_backend};
use spark_sim::{Flash, Photon, PowerCut, config};

/// Bytes of the configuration table that the firmware of 0.7.0 and later uses.
const TABLE: usize = 8391;

/// A device that works, and its key: current system, or 0.7.0 if `outdated`.
///
/// # Errors
/// [`Failure`] if no key could be made.
pub fn healthy(
    server_key: &[u8; 294],
    outdated: bool,
    rng: &mut dyn CryptoRng,
) -> Result<(Photon, DeviceKey), Failure> {
    let key = make_key(rng)?;
    let flash = Mould::new(server_key, outdated)?.chip(&key)?;
    Ok((Photon::new(random_id(rng), flash), key))
}

/// What healthy devices have in common; they share it in memory as well.
#[derive(Clone, Debug)]
pub struct Mould {
    /// Everything but the device's key.
    flash: Flash,
    server_key: [u8; 294],
}

impl Mould {
    /// Devices of one server: current system, or 0.7.0 if `outdated`.
    ///
    /// # Errors
    /// [`Failure`] if something does not fit.
    pub fn new(server_key: &[u8; 294], outdated: bool) -> Result<Self, Failure> {
        let mut modules = if outdated { synthetic::old_system()? } else { synthetic::new_system()? };
        modules.push(synthetic::application()?);
        let region = ServerKeyRegion::new(server_key, None);
        let mut flash = assemble(&modules, None, Some(&region))?;
        flash.share();
        Ok(Self { flash, server_key: *server_key })
    }

    /// The chip of a device with this key.
    ///
    /// # Errors
    /// [`Failure`] if something does not fit.
    pub fn chip(&self, key: &DeviceKey) -> Result<Flash, Failure> {
        let mut flash = self.flash.clone();
        // Only the bits of the key are new.
        let region = ServerKeyRegion::new(&self.server_key, None);
        program_table(&mut flash, Some(key), Some(&region))?;
        Ok(flash)
    }
}

/// Replaces the server key of a device; its address stays.
///
/// # Errors
/// [`Failure`].
pub fn write_server_key(photon: &mut Photon, server_key: &[u8; 294]) -> Result<(), Failure> {
    let generation = photon.firmware().configuration;
    config::write(photon.flash_mut(), generation, Field::SERVER_PUBLIC_KEY.offset(), server_key)
        .map_err(|error| impossible(&error))
}

/// The two keys of a damaged device: the one it had, and the one that was being written when the power failed.
#[derive(Debug)]
pub struct Candidates {
    /// It had this one.
    pub old: DeviceKey,
    /// It was to get this one.
    pub new: DeviceKey,
}

/// The Photon of the rescue: its key is the AND of two keys, its server key is erased, and its system is too old for
/// the application.
///
/// Its story: on 0.6.4 the owner wrote a new key and the battery gave in. That firmware programs a new key over the old
/// one before it does anything else. He then cleared the server key and put 0.7.0 on it, which cured nothing.
///
/// # Errors
/// [`Failure`] if no key could be made.
pub fn broken(
    old_system: &[ModuleFile],
    application: &ModuleFile,
    rng: &mut dyn CryptoRng,
) -> Result<(Photon, Candidates), Failure> {
    let candidates = Candidates { old: make_key(rng)?, new: make_key(rng)? };
    let mut modules = old_system.to_vec();
    modules.push(application.clone());
    let mut flash = assemble(&modules, Some(&candidates.old), None)?;
    flash.cut_power(PowerCut { after: 1, torn: false });
    let key_offset = Field::DEVICE_PRIVATE_KEY.offset();
    let interrupted = config::write(&mut flash, Generation::V0_4_4, key_offset, candidates.new.as_field());
    if interrupted.is_ok() {
        return Err(impossible(&"the power cut did not interrupt the write"));
    }
    flash.restore_power();
    Ok((Photon::new(random_id(rng), flash), candidates))
}

/// A chip with modules and a configuration table.
///
/// # Errors
/// [`Failure`] if something does not fit.
fn assemble(
    modules: &[ModuleFile],
    key: Option<&DeviceKey>,
    server_key: Option<&ServerKeyRegion<'_>>,
) -> Result<Flash, Failure> {
    let mut flash = Flash::new();
    for module in modules {
        flash.program(module.prefix.start_address, &module.image).map_err(|error| impossible(&error))?;
    }
    program_table(&mut flash, key, server_key)?;
    Ok(flash)
}

/// The configuration table as it leaves the factory, or what it has more than the one that is there.
fn program_table(
    flash: &mut Flash,
    key: Option<&DeviceKey>,
    server_key: Option<&ServerKeyRegion<'_>>,
) -> Result<(), Failure> {
    let mut table = [0xff; TABLE];
    let mut editor = AppMut::new(&mut table).map_err(|error| impossible(&error))?;
    let edited = key
        .map_or(Ok(()), |key| editor.set_device_private_key(key.as_field()))
        .and_then(|()| editor.set_claimed(true))
        .and_then(|()| editor.set_prefix(Field::SSID_PREFIX, b"\x06Photon"))
        .and_then(|()| editor.set_prefix(Field::DEVICE_CODE, b"RSCU42"))
        .and_then(|()| match server_key {
            Some(region) => editor.set_server_key_region(region),
            None => Ok(()),
        });
    edited.map_err(|error| impossible(&error))?;
    let mut sector = [0xff; 16384];
    factory_sector(&table, &mut sector).map_err(|error| impossible(&error))?;
    flash.program(SECTOR_ADDRESSES[0], &sector).map_err(|error| impossible(&error))
}

pub(crate) fn make_key(rng: &mut dyn CryptoRng) -> Result<DeviceKey, Failure> {
    rsa_backend::generate_device_key(rng).map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot make a device key: {error}"), "try again")
    })
}

pub(crate) fn random_id(rng: &mut dyn CryptoRng) -> DeviceId {
    let mut id = [0; 12];
    rng.fill_bytes(&mut id);
    DeviceId(id)
}

pub(crate) fn impossible(error: &dyn core::fmt::Display) -> Failure {
    Failure::new(Code::Software, format_args!("the simulated device cannot be made: {error}"), "report this")
}
