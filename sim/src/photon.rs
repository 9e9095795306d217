//! The whole device: what its flash holds, how it starts, what an update does to it.

use crate::application::{Application, cut};
use crate::config;
use crate::firmware::Firmware;
use crate::flash::{Flash, FlashError, PowerCut};
use crate::serial::{SerialMode, SerialPort};
use crate::usb::UsbPort;
use coap_spark::handshake::DeviceId;
use coap_spark::message::ResetReason;
use coap_spark::message::describe::{Describe, ModuleInfo};
use rand_core::CryptoRng;
use rsa::{BoxedUint, RsaPrivateKey, RsaPublicKey};
use spark_dct::server_address::{self, DEFAULT_PORT_TCP};
use spark_dct::wiced::Generation;
use spark_dct::{App, Field, Host};
use spark_dfu::device::DeviceError;
use spark_keys::{load_device_key, published_by_device, rsa_backend};
use spark_ota::describe::module_info;
use spark_ota::module::{
    Candidate, FlashLayout, FlashModule, Installed, ModuleFunction, Rules, Slot, Store, Validation, validate,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where a Photon without a server address connects to.
const DEFAULT_HOST: &str = "device.spark.io";

/// What a Photon does after power-on or reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Started {
    /// Nothing: the bootloader is broken. Only a programmer at the debug port helps, see [`Photon::flash_mut`].
    Dead,
    /// It waits for a host in DFU mode: the system firmware is broken.
    DfuMode,
    /// The system firmware runs; the application does not, because something that it needs is missing.
    SafeMode,
    /// System firmware and application run.
    Running,
    /// The power failed on the way.
    PowerLost,
}

/// A module place and what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InstalledModule {
    /// The place.
    pub slot: Slot,
    /// The module, if there is one.
    pub module: Option<FlashModule>,
}

/// How a device is to start, as its system asked for before a reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum StartMode {
    #[default]
    Normal,
    SafeMode,
    Dfu,
    FactoryReset,
}

/// Longest claim code.
const CLAIM_CODE_LEN: usize = 63;

/// A Photon.
#[derive(Clone, Debug)]
pub struct Photon {
    id: DeviceId,
    serial: String,
    pub(crate) flash: Flash,
    /// Behaves so, whatever its modules are.
    told_firmware: Option<&'static Firmware>,
    application: Application,
    /// Backup registers: they survive a reset, not a power cut.
    pub(crate) update_succeeded: bool,
    start_mode: StartMode,
    reset_reason: Option<ResetReason>,
    /// Started in safe mode on request.
    in_safe_mode: bool,
    pub(crate) wants_reset: bool,
    losses: BTreeSet<u64>,
}

impl Photon {
    /// A device with this chip.
    #[must_use]
    pub fn new(id: DeviceId, flash: Flash) -> Self {
        Self {
            id,
            serial: id.to_string(),
            flash,
            told_firmware: None,
            application: Application::default(),
            update_succeeded: false,
            start_mode: StartMode::Normal,
            reset_reason: None,
            in_safe_mode: false,
            wants_reset: false,
            losses: BTreeSet::new(),
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> DeviceId {
        self.id
    }

    /// Its chip.
    #[must_use]
    pub const fn flash(&self) -> &Flash {
        &self.flash
    }

    /// Its chip, as a programmer at the debug port sees it.
    pub const fn flash_mut(&mut self) -> &mut Flash {
        &mut self.flash
    }

    /// Makes the system behave as this firmware, whatever modules there are; `None` is as they are. The modules do not
    /// change: they are still what Describe lists.
    pub const fn set_firmware(&mut self, firmware: Option<&'static Firmware>) {
        self.told_firmware = firmware;
    }

    /// Installs what the application does while it runs; Tinker otherwise. It starts anew with each reset.
    pub fn set_application(&mut self, application: Application) {
        self.application = application;
    }

    /// The application, whether it runs or not.
    #[must_use]
    pub const fn application(&self) -> &Application {
        &self.application
    }

    pub(crate) const fn application_mut(&mut self) -> &mut Application {
        &mut self.application
    }

    /// Gives the device a claim code, up to 63 characters, as the setup does. It tells its server with each connection
    /// until that says that the claim is settled.
    ///
    /// # Errors
    /// [`config::ConfigError`]; a longer code does not fit.
    pub fn set_claim_code(&mut self, code: &str) -> Result<(), config::ConfigError> {
        let mut field = [0; CLAIM_CODE_LEN];
        let place = field.get_mut(..code.len()).ok_or(FlashError::OutOfRange {
            address: u32::try_from(Field::CLAIM_CODE.offset()).unwrap_or_default(),
            len: code.len(),
        })?;
        place.copy_from_slice(code.as_bytes());
        let generation = self.configuration_code();
        config::write(&mut self.flash, generation, Field::CLAIM_CODE.offset(), &field)
    }

    /// The claim code that is still to be settled.
    #[must_use]
    pub fn claim_code(&self) -> Option<Vec<u8>> {
        let table = self.configuration();
        App::new(&table).ok()?.claim_code().map(<[u8]>::to_vec)
    }

    /// The claim is settled: firmware ends the code and marks the device. Says whether there was a code.
    pub(crate) fn settle_claim(&mut self) -> bool {
        if self.claim_code().is_none() {
            return false;
        }
        let generation = self.configuration_code();
        // Without power nothing else works either; the client notices.
        let _ = config::write(&mut self.flash, generation, Field::CLAIM_CODE.offset(), &[0])
            .and_then(|()| config::write(&mut self.flash, generation, Field::CLAIMED.offset(), b"1"));
        true
    }

    /// How the next start is to be, and why it comes.
    pub(crate) const fn plan_start(&mut self, mode: StartMode, reason: ResetReason) {
        self.start_mode = mode;
        self.reset_reason = Some(reason);
    }

    /// Why the device restarted, once.
    pub(crate) const fn take_reset_reason(&mut self) -> Option<ResetReason> {
        self.reset_reason.take()
    }

    /// Plans a power cut.
    pub fn cut_power(&mut self, cut: PowerCut) {
        self.flash.cut_power(cut);
    }

    /// Makes the device lose the n-th chunks that it receives in fast mode, counted from 1 in each connection, as if
    /// its buffers were full.
    pub fn lose_chunks(&mut self, chunks: impl IntoIterator<Item = u64>) {
        self.losses = chunks.into_iter().collect();
    }

    pub(crate) fn loses_chunk(&self, nth: u64) -> bool {
        self.losses.contains(&nth)
    }

    /// Power on, after a cut or for the first time.
    pub fn power_on(&mut self) -> Started {
        self.flash.restore_power();
        self.update_succeeded = false;
        self.plan_start(StartMode::Normal, ResetReason::PowerDown);
        self.start()
    }

    /// Reset: the bootloader does pending copies and starts what can be started.
    pub fn start(&mut self) -> Started {
        self.wants_reset = false;
        self.in_safe_mode = false;
        self.application = Application::new(Arc::clone(self.application.program()));
        if !self.flash.is_powered() {
            return Started::PowerLost;
        }
        let mode = core::mem::take(&mut self.start_mode);
        if !self.is_good(ModuleFunction::Bootloader, 0) {
            return Started::Dead;
        }
        // What fails for another reason than power is left out, as bootloader and system do.
        let _ = self.copy_pending();
        // The system resets when it has installed something.
        if self.system_runs() && matches!(self.install_stored(), Ok(true)) {
            let _ = self.copy_pending();
        }
        if !self.flash.is_powered() {
            return Started::PowerLost;
        }
        let restores = mode == StartMode::FactoryReset || self.restores_itself();
        if restores && matches!(self.restore_factory(), Err(FlashError::PowerLost)) {
            return Started::PowerLost;
        }
        self.in_safe_mode = mode == StartMode::SafeMode;
        if !self.system_runs() || mode == StartMode::Dfu {
            Started::DfuMode
        } else if self.application_runs() {
            Started::Running
        } else {
            Started::SafeMode
        }
    }

    /// Holds the SETUP button while resetting until the light blinks white: the bootloader puts the factory copy of the
    /// application in place, if there is a good one.
    pub fn factory_reset(&mut self) -> Started {
        self.plan_start(StartMode::FactoryReset, ResetReason::FactoryReset);
        self.start()
    }

    /// Holds the SETUP button while resetting: the bootloader in DFU mode, on a cable.
    ///
    /// # Errors
    /// [`DeviceError`]; cannot happen with the Photon's own description.
    pub fn dfu(&mut self) -> Result<UsbPort<'_>, DeviceError> {
        let configuration = self.system_runs().then(|| self.firmware().configuration);
        UsbPort::new(&mut self.flash, &self.serial, configuration)
    }

    /// A host opens the serial port.
    #[must_use]
    pub fn serial(&mut self, mode: SerialMode) -> SerialPort<'_> {
        SerialPort::new(self, mode)
    }

    /// What the installed system firmware does, or what [`Photon::set_firmware`] says.
    #[must_use]
    pub fn firmware(&self) -> &'static Firmware {
        if let Some(firmware) = self.told_firmware {
            return firmware;
        }
        let version = self.module(ModuleFunction::System, 2).map_or(0, |module| module.prefix.version);
        Firmware::of(version)
    }

    /// A copy of the configuration table's application section.
    #[must_use]
    pub fn configuration(&self) -> Vec<u8> {
        config::read(&self.flash, self.configuration_code())
    }

    pub(crate) fn configuration_code(&self) -> Generation {
        self.firmware().configuration
    }

    /// Every module place, in the order of the Describe document.
    pub fn modules(&self) -> impl Iterator<Item = InstalledModule> + '_ {
        FlashLayout::PHOTON.slots.iter().map(|slot| InstalledModule { slot: *slot, module: self.look(slot) })
    }

    fn look(&self, slot: &Slot) -> Option<FlashModule> {
        self.look_at(slot.region.address, slot.region.size)
    }

    pub(crate) fn look_at(&self, address: u32, len: u32) -> Option<FlashModule> {
        self.flash.module_at(address, len)
    }

    fn module(&self, function: ModuleFunction, index: u8) -> Option<FlashModule> {
        let slot = FlashLayout::PHOTON.slot(function, index, Store::Main)?;
        self.look(slot).filter(FlashModule::crc_ok)
    }

    pub(crate) fn is_good(&self, function: ModuleFunction, index: u8) -> bool {
        let is_wanted = |module: FlashModule| {
            (module.prefix.function, module.prefix.index) == (function, index)
                && module.prefix.platform_id == 6
        };
        self.module(function, index).is_some_and(is_wanted)
    }

    /// The modules where they run, for dependency checks.
    pub(crate) fn installed(&self) -> Vec<Installed> {
        self.modules()
            .filter(|place| place.slot.store == Store::Main)
            .filter_map(|place| place.module)
            .map(|module| Installed::from_prefix(&module.prefix, Store::Main, module.crc_ok()))
            .collect()
    }

    fn judge(&self, place: &InstalledModule, installed: &[Installed]) -> Option<Validation> {
        let module = place.module.as_ref()?;
        let candidate = Candidate {
            prefix: &module.prefix,
            crc_ok: module.crc_ok(),
            region: place.slot.region,
            platform_id: crate::client::PLATFORM_ID,
        };
        Some(validate(&candidate, installed, Rules::installed(self.firmware().dependencies)))
    }

    /// Both system parts are there. Their dependencies are not looked at here: a device in the middle of an update
    /// runs.
    #[must_use]
    pub fn system_runs(&self) -> bool {
        self.is_good(ModuleFunction::System, 1) && self.is_good(ModuleFunction::System, 2)
    }

    /// The application is there and has everything it needs, and so have the system parts; nobody asked for safe mode.
    #[must_use]
    pub fn application_runs(&self) -> bool {
        if self.in_safe_mode {
            return false;
        }
        let installed = self.installed();
        let mut user = false;
        for place in self.modules().filter(|place| place.slot.store == Store::Main) {
            let valid = self.judge(&place, &installed).is_some_and(|validation| validation.is_valid());
            if !valid {
                return false;
            }
            user |= place.slot.function == ModuleFunction::User;
        }
        user
    }

    /// The Describe document, with functions and variables while the application runs. Firmware has cut their names.
    #[must_use]
    pub fn describe(&self) -> Describe {
        Describe {
            platform_id: Some(crate::client::PLATFORM_ID),
            modules: Some(self.module_infos()),
            ..self.describe_application()
        }
    }

    pub(crate) fn describe_application(&self) -> Describe {
        let limits = &self.firmware().link.limits;
        let runs = self.application_runs();
        let program = runs.then(|| self.application.program());
        let text = |name: &str, limit| String::from_utf8_lossy(cut(name, limit)).into_owned();
        let functions = program.iter().flat_map(|program| program.functions());
        let variables = program.iter().flat_map(|program| program.variables());
        Describe {
            functions: Some(functions.map(|name| text(name, limits.function_name)).collect()),
            variables: Some(
                variables.map(|(name, it)| (text(name, limits.variable_name), it.kind())).collect(),
            ),
            ..Describe::default()
        }
    }

    pub(crate) fn module_infos(&self) -> Vec<ModuleInfo> {
        let installed = self.installed();
        self.modules()
            .filter(|place| place.slot.store == Store::Main || place.module.is_some())
            .map(|place| {
                let validation = self.judge(&place, &installed).unwrap_or_default();
                let module = place.module.as_ref().map(|module| (&module.prefix, &module.suffix));
                module_info(&place.slot, validation, module, self.firmware().dependencies)
            })
            .collect()
    }

    /// Product version of the application, FFFF if it has none.
    pub(crate) fn application_version(&self) -> u16 {
        let suffix = self.module(ModuleFunction::User, 1).map(|module| module.suffix);
        suffix.and_then(|suffix| suffix.product).map_or(0xffff, |product| product.version)
    }

    /// The 612 bytes that firmware reads as its private key.
    pub(crate) fn key_field(&self) -> [u8; 612] {
        let table = self.configuration();
        App::new(&table).map_or([0xff; 612], |app| *app.device_private_key_field())
    }

    /// The first word of the flash, which is also at address 0.
    pub(crate) fn first_word(&self) -> i32 {
        let word = self.flash.read(crate::flash::BASE, 4);
        i32::from_le_bytes(word.and_then(|word| word.as_ref().try_into().ok()).unwrap_or_default())
    }

    /// What firmware publishes as its public key, whatever the key field holds.
    #[must_use]
    pub fn public_key(&self) -> [u8; 162] {
        published_by_device(&self.key_field())
    }

    /// Modulus of the server's key as firmware takes it: 256 bytes from offset 33 of the stored DER.
    pub(crate) fn server_modulus(&self) -> Option<[u8; 256]> {
        let table = self.configuration();
        let start = Field::SERVER_PUBLIC_KEY.offset() + 33;
        table.get(start..)?.first_chunk().copied()
    }

    /// Host and port of the cloud, as stored; the firmware's default if there is none.
    #[must_use]
    pub fn cloud_address(&self) -> (String, u16) {
        let table = self.configuration();
        let Some(Ok(Some(address))) = App::new(&table).ok().map(|app| app.server_address()) else {
            return (DEFAULT_HOST.to_owned(), DEFAULT_PORT_TCP);
        };
        let host = match address.host() {
            Host::Ipv4(octets) => octets.to_string(),
            Host::Domain(name) => {
                let mut out = [0; 96];
                server_address::expand_id(name, &self.id.0, &mut out).unwrap_or(name).to_owned()
            }
        };
        (host, address.port_or(DEFAULT_PORT_TCP))
    }

    /// The key field begins with FF.
    #[must_use]
    pub fn lacks_key(&self) -> bool {
        self.key_field()[0] == 0xff
    }

    /// A device whose key field begins with FF makes itself a key when it connects.
    ///
    /// [`Client::connect`](crate::Client::connect) sees to it; before [`Client::start`](crate::Client::start) it is the
    /// caller's to do, wherever a second of work does not hurt.
    pub fn make_key_if_erased(&mut self, rng: &mut dyn CryptoRng) {
        if !self.lacks_key() {
            return;
        }
        if let Ok(key) = rsa_backend::generate_device_key(rng) {
            let code = self.configuration_code();
            let offset = Field::DEVICE_PRIVATE_KEY.offset();
            // Without power nothing else works either; the client notices.
            let _ = config::write(&mut self.flash, code, offset, key.as_field());
        }
    }

    /// Bytes of the OTA region.
    #[must_use]
    pub const fn ota_region_len(&self) -> u32 {
        FlashLayout::PHOTON.ota.size
    }

    /// The last update succeeded; told once in Hello.
    pub(crate) const fn update_succeeded(&self) -> bool {
        self.update_succeeded
    }

    /// An update is complete.
    pub(crate) const fn wants_reset(&self) -> bool {
        self.wants_reset
    }
}

/// The private key, if the field holds one that firmware can use.
pub(crate) fn device_key(field: &[u8; 612]) -> Option<RsaPrivateKey> {
    let key = load_device_key(field).ok()?;
    let view = spark_keys::RsaPrivateKeyView::parse(key.as_der()).ok()?;
    rsa_backend::to_rsa_private(&view).ok()
}

/// The server's key as firmware takes it: the exponent is always 65537.
pub(crate) fn server_key(modulus: &[u8; 256]) -> Option<RsaPublicKey> {
    let modulus = BoxedUint::from_be_slice(modulus, 2048).ok()?;
    RsaPublicKey::new(modulus, BoxedUint::from(65537u32)).ok()
}
