//! What the system firmware does with an image that comes over the cloud or a cable.

use crate::Photon;
use crate::config;
use crate::photon::StartMode;
use coap_spark::message::ResetReason;
use spark_dct::flash_module::{
    self, FlashModule as CopySlot, SlotMagic, VERIFY_CRC, VERIFY_DESTINATION, VERIFY_FUNCTION,
};
use spark_dct::{App, Field};
use spark_ota::coap::Target;
use spark_ota::module::{Candidate, FlashLayout, FlashModule, ModuleFunction, Rules, Slot, Store, validate};
use spark_ota::transfer::{Plan, ResetCause};

/// Value of the flag for an image that waits in the OTA region.
const UPDATE_STORED: u8 = 0xa5;

/// The flash work of an update over the cloud.
#[derive(Debug)]
pub(crate) struct UpdateTarget<'p> {
    photon: &'p mut Photon,
    /// It ended because its chunks stopped to come.
    pub(crate) stalled: bool,
}

impl<'p> UpdateTarget<'p> {
    pub(crate) const fn new(photon: &'p mut Photon) -> Self {
        Self { photon, stalled: false }
    }

    /// The image in the OTA region may go where it belongs.
    pub(crate) fn is_valid(&self, plan: &Plan) -> bool {
        self.arrived(plan.file_length).is_some()
    }

    /// The image in the first bytes of the OTA region and where it belongs, if it may go there.
    fn arrived(&self, len: u32) -> Option<(FlashModule, Slot)> {
        let photon = &*self.photon;
        let module = photon.look_at(FlashLayout::PHOTON.ota.address, len)?;
        let prefix = &module.prefix;
        let slot = FlashLayout::PHOTON.slot(prefix.function, prefix.index, Store::Main)?;
        // The firmware's own checks look at the end of the range only; where a module is copied to is the bootloader's.
        if prefix.start_address != slot.region.address || module.size > slot.region.size {
            return None;
        }
        let candidate = Candidate {
            prefix,
            crc_ok: module.crc_ok(),
            region: slot.region,
            platform_id: crate::client::PLATFORM_ID,
        };
        let firmware = photon.firmware();
        let rules = Rules::ota(firmware.dependencies, firmware.full_dependencies);
        validate(&candidate, &photon.installed(), rules).is_valid().then_some((module, *slot))
    }

    /// Brings the image where it belongs, or leaves word for the bootloader; `false` if it may not go there.
    fn install(&mut self, len: u32) -> Result<bool, config::ConfigError> {
        let Some((module, slot)) = self.arrived(len) else { return Ok(false) };
        if module.prefix.function == ModuleFunction::Bootloader {
            // The system firmware itself replaces the bootloader, at once. A power cut here needs a programmer.
            let from = FlashLayout::PHOTON.ota.address;
            self.photon.copy_module(from, slot.region.address, module.size)?;
        } else {
            self.leave_for_bootloader(&module)?;
        }
        Ok(true)
    }

    /// Writes an entry for the bootloader into the first free slot.
    fn leave_for_bootloader(&mut self, module: &FlashModule) -> Result<(), config::ConfigError> {
        let photon = &mut *self.photon;
        let table = photon.configuration();
        let Ok(app) = App::new(&table) else { return Ok(()) };
        let slots = app.flash_modules();
        let free = (1..slots.len()).find(|at| slots[*at].magic != SlotMagic::Used).unwrap_or(1);
        let slot = CopySlot {
            magic: SlotMagic::Used,
            source_device: 0,
            destination_device: 0,
            source_address: FlashLayout::PHOTON.ota.address,
            destination_address: module.prefix.start_address,
            length: module.size,
            flags: VERIFY_CRC | VERIFY_DESTINATION | VERIFY_FUNCTION,
            module_function: module.prefix.function.number(),
            reserved: [0xff; 2],
        };
        let offset = Field::FLASH_MODULES.offset() + free * flash_module::LEN;
        let code = photon.configuration_code();
        config::write(&mut photon.flash, code, offset, &slot.encode())
    }
}

impl Target for UpdateTarget<'_> {
    fn check(&mut self, _: &Plan) -> bool {
        true
    }

    fn prepare(&mut self, plan: &Plan) -> bool {
        self.photon.update_succeeded = false;
        let len = usize::try_from(plan.file_length).unwrap_or(usize::MAX);
        self.photon.flash.erase_range(FlashLayout::PHOTON.ota.address, len).is_ok()
    }

    fn save(&mut self, offset: u32, data: &[u8]) -> bool {
        let address = FlashLayout::PHOTON.ota.address.saturating_add(offset);
        let written = self.photon.flash.program(address, data);
        written.is_ok() && self.photon.flash.read(address, data.len()).as_deref() == Some(data)
    }

    fn validate(&mut self, plan: &Plan) -> bool {
        self.is_valid(plan)
    }

    fn apply(&mut self, plan: &Plan) {
        self.photon.wants_reset = true;
        self.photon.update_succeeded = self.install(plan.file_length).unwrap_or(false);
        let reason =
            if self.photon.update_succeeded { ResetReason::Update } else { ResetReason::UpdateError };
        self.photon.plan_start(StartMode::Normal, reason);
    }

    fn reset(&mut self, _: &Plan, cause: ResetCause) {
        self.photon.wants_reset = true;
        self.photon.update_succeeded = false;
        self.stalled = cause == ResetCause::Stalled;
        let reason = if self.stalled { ResetReason::UpdateTimeout } else { ResetReason::UpdateError };
        self.photon.plan_start(StartMode::Normal, reason);
    }
}

impl Photon {
    /// Installs what a host has put into the OTA region over USB, if the flag in the table says that there is something.
    /// The flag is cleared first: what does not fit is not tried again.
    pub(crate) fn install_stored(&mut self) -> Result<bool, config::ConfigError> {
        let table = self.configuration();
        let is_stored =
            App::new(&table).is_ok_and(|app| app.bytes(Field::OTA_UPDATE_FLAG) == [UPDATE_STORED]);
        if !self.firmware().installs_stored || !is_stored {
            return Ok(false);
        }
        let generation = self.configuration_code();
        config::write(&mut self.flash, generation, Field::OTA_UPDATE_FLAG.offset(), &[0xff])?;
        UpdateTarget::new(self).install(FlashLayout::PHOTON.ota.size)
    }
}
