//! The bootloader's part of an update, and the factory reset.

use crate::Photon;
use crate::config;
use crate::flash::FlashError;
use spark_dct::flash_module::{self, FlashModule as CopySlot, SlotMagic};
use spark_dct::{App, Field};
use spark_ota::module::{FlashModule, ModuleFunction};

/// Bytes that a module copy programs at once.
const COPY_PIECE: usize = 512;
/// Room for the factory application.
const FACTORY_LEN: u32 = 0x2_0000;

impl Photon {
    /// The bootloader's part of an update: each pending slot is freed first and then copied, as from 0.7.0 on.
    pub(crate) fn copy_pending(&mut self) -> Result<(), config::ConfigError> {
        if !self.system_runs() {
            // The code that reads the table lives in system part 2.
            return Ok(());
        }
        let code = self.configuration_code();
        let table = self.configuration();
        let Ok(app) = App::new(&table) else { return Ok(()) };
        let slots = app.flash_modules();
        // Slot 0 is the factory copy, done only on a factory reset.
        for (at, slot) in slots.iter().enumerate().skip(1).filter(|(_, slot)| slot.magic == SlotMagic::Used) {
            let offset = Field::FLASH_MODULES.offset() + at * flash_module::LEN;
            config::write(&mut self.flash, code, offset, &CopySlot::FREE.encode())?;
            if self.promised(slot).is_some_and(|module| module.size == slot.length) {
                self.copy_module(slot.source_address, slot.destination_address, slot.length)?;
            }
        }
        Ok(())
    }

    pub(crate) fn copy_module(&mut self, from: u32, to: u32, len: u32) -> Result<(), FlashError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let image =
            self.flash.read(from, len).ok_or(FlashError::OutOfRange { address: from, len })?.into_owned();
        self.flash.erase_range(to, len)?;
        let mut at = to;
        for piece in image.chunks(COPY_PIECE) {
            self.flash.program(at, piece)?;
            at = at.saturating_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// Copies the factory application to its place. Without a good one nothing happens.
    pub(crate) fn restore_factory(&mut self) -> Result<(), FlashError> {
        let entry = self.factory_entry();
        match self.promised(&entry) {
            Some(module) => self.copy_module(entry.source_address, entry.destination_address, module.size),
            None => Ok(()),
        }
    }

    /// Device OS 0.4 and 0.5 put the factory application in the place of one that is damaged.
    pub(crate) fn restores_itself(&self) -> bool {
        self.firmware().restores_factory
            && self.system_runs()
            && !self.is_good(ModuleFunction::User, 1)
            && self.promised(&self.factory_entry()).is_some()
    }

    /// Slot 0, which the system writes when it starts; this is what it writes.
    fn factory_entry(&self) -> CopySlot {
        let table = self.configuration();
        let slot = App::new(&table).ok().map(|app| app.flash_modules()[0]);
        slot.filter(|slot| slot.magic == SlotMagic::Factory).unwrap_or(CopySlot::photon_factory(FACTORY_LEN))
    }

    /// The module that an entry speaks of, if it is there and right.
    fn promised(&self, slot: &CopySlot) -> Option<FlashModule> {
        self.look_at(slot.source_address, slot.length).filter(|module| {
            module.crc_ok()
                && module.prefix.start_address == slot.destination_address
                && module.prefix.function.number() == slot.module_function
        })
    }
}
