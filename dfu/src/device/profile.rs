//! Device profiles: how a firmware generation behaves, as one value in one table.

use core::time::Duration;

use super::Table;
use crate::{
    descriptor::{Commands, FunctionalDescriptor},
    state::State,
    status::Status,
};

/// Which transition table answers requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rules {
    /// The standard, [`Table::DFU`] and [`Table::DFUSE`]: an unexpected request leads to dfuERROR with errSTALLEDPKT.
    Strict,
    /// [`Table::TOLERANT_DFU`] and [`Table::TOLERANT_DFUSE`]: CLRSTATUS, ABORT and DETACH are never errors.
    Tolerant,
    /// [`Table::STM32`], ST's class code in Particle's STM32F2 bootloaders: an unexpected request is stalled without a
    /// change of state, dfuERROR is reached only by CLRSTATUS outside dfuERROR.
    Stm32,
    /// [`Table::CORE`], the Spark Core's bootloader.
    Core,
    /// [`Table::NRF52840`], Particle's nRF52840 bootloaders.
    Nrf52840,
}

impl Rules {
    /// The table for a protocol. The firmwares speak DfuSe only.
    #[must_use]
    pub const fn table(self, protocol: Protocol) -> &'static Table {
        match (self, protocol) {
            (Self::Strict, Protocol::Plain) => &Table::DFU,
            (Self::Strict, Protocol::DfuSe) => &Table::DFUSE,
            (Self::Tolerant, Protocol::Plain) => &Table::TOLERANT_DFU,
            (Self::Tolerant, Protocol::DfuSe) => &Table::TOLERANT_DFUSE,
            (Self::Stm32, _) => &Table::STM32,
            (Self::Core, _) => &Table::CORE,
            (Self::Nrf52840, _) => &Table::NRF52840,
        }
    }
}

/// What blocks mean: counted from 0, or DfuSe commands and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "DFU has these two")]
pub enum Protocol {
    /// DFU 1.0 and 1.1: one image from offset 0, block numbers count up and wrap from 65535 to 0.
    Plain,
    /// ST's extension 1.1a: block 0 carries commands, blocks from 2 on go to an address.
    DfuSe,
}

impl Protocol {
    /// The protocol of a functional descriptor: DfuSe if bcdDFUVersion is 0x011A.
    #[must_use]
    pub const fn of(functional: &FunctionalDescriptor) -> Self {
        if functional.dfu_version == FunctionalDescriptor::DFUSE_VERSION { Self::DfuSe } else { Self::Plain }
    }
}

/// What becomes of a command or of work that cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "what the known firmwares do")]
pub enum Failures {
    /// dfuERROR with a status. Transfers that break a rule are an error as well.
    Error,
    /// The GETSTATUS that executes it is stalled, and no error is reported later. Block 1 is ignored.
    Stall,
    /// Nobody is told. Block 1 is ignored.
    Ignore,
}

/// The status codes of a profile with [`Failures::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a row of a table")]
pub struct Statuses {
    /// After a request that the state does not allow.
    pub illegal_request: Status,
    /// After DNLOAD or UPLOAD of DfuSe's reserved block 1.
    pub reserved_block: Status,
    /// After a DfuSe command that is malformed or unknown.
    pub unknown_command: Status,
    /// After a mass erase that the device does not support.
    pub mass_erase: Status,
    /// After a read unprotect that the device does not support.
    pub read_unprotect: Status,
    /// After work that failed, instead of the status it failed with.
    pub failed_work: Option<Status>,
}

impl Statuses {
    /// The standard's; errTARGET for block 1.
    pub const STANDARD: Self = Self {
        illegal_request: Status::StalledPacket,
        reserved_block: Status::Target,
        unknown_command: Status::StalledPacket,
        mass_erase: Status::StalledPacket,
        read_unprotect: Status::StalledPacket,
        failed_work: None,
    };
}

/// Poll times that one alternate setting announces, whatever it really takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a row of a table")]
pub struct FixedPoll {
    /// After an erase command.
    pub erase: Duration,
    /// After every other command and every data block.
    pub other: Duration,
}

impl FixedPoll {
    const fn ms(erase: u64, other: u64) -> Self {
        Self { erase: Duration::from_millis(erase), other: Duration::from_millis(other) }
    }
}

/// Addresses that belong to one memory whatever alternate setting is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "a row of a table")]
pub struct AddressSpace {
    /// Bits of the address that count.
    pub mask: u32,
    /// Their value.
    pub value: u32,
    /// The alternate setting that names this memory.
    pub alternate: u8,
}

/// How a device firmware behaves.
///
/// ```
/// use spark_dfu::device::Profile;
/// let hasty = Profile { leave_delay: std::time::Duration::ZERO, ..Profile::STRICT };
/// assert_eq!(hasty.rules, Profile::STRICT.rules);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "profiles are built by struct update from the constants")]
pub struct Profile {
    /// The transition table.
    pub rules: Rules,
    /// Plain DFU or DfuSe; `None` asks the description's bcdDFUVersion.
    pub protocol: Option<Protocol>,
    /// What becomes of what cannot be done.
    pub failures: Failures,
    /// The codes for it.
    pub statuses: Statuses,
    /// The optional DfuSe commands that the firmware knows; a device executes those that its description names, too.
    pub commands: Commands,
    /// Commands and blocks are checked as a whole against the layout string before any work is handed out; without it
    /// only their first byte is.
    pub checks_range: bool,
    /// UPLOAD ends with a short frame at the end of memory; without it every frame is full, and what cannot be read is
    /// zero.
    pub short_frames: bool,
    /// The address pointer after power-on. ABORT never restores it, since hosts send SET_ADDRESS, ABORT, UPLOAD.
    pub initial_pointer: u32,
    /// A USB reset restores the pointer.
    pub reset_restores_pointer: bool,
    /// An erase command moves the pointer, too.
    pub erase_moves_pointer: bool,
    /// After SET_ADDRESS the device passes dfuDNLOAD-SYNC; without it it is in dfuDNLOAD-IDLE at once.
    pub syncs_after_set_address: bool,
    /// UPLOAD of block 0 (the list of commands) always ends in dfuIDLE, not only after a short frame.
    pub commands_end_upload: bool,
    /// Memories chosen by address; empty where the alternate setting chooses.
    pub address_spaces: &'static [AddressSpace],
    /// The highest setting that SET_INTERFACE takes, if it is not the highest that exists.
    pub max_setting: Option<u8>,
    /// bState in the GETSTATUS reply after the zero-length DNLOAD of DfuSe.
    pub leave_reply: State,
    /// The state after that reply: dfuMANIFEST, which [`Work::Leave`](super::Work::Leave) ends, or
    /// dfuMANIFEST-WAIT-RESET, where nothing stops the leave any more.
    pub leave_state: State,
    /// Time from that reply to [`Work::Leave`](super::Work::Leave). In plain DFU, with bitWillDetach, the time from
    /// the end of manifestation.
    pub leave_delay: Duration,
    /// Constant poll times by alternate setting, looked up with the pointer as it was *before* the command; an
    /// alternate without a row asks [`Memory::estimate`](super::Memory::estimate).
    pub fixed_poll: &'static [Option<FixedPoll>],
    /// bwPollTimeout keeps its last value in replies that are not dfuDNBUSY.
    pub stale_poll_timeout: bool,
    /// SET_CONFIGURATION and bus reset leave bStatus as it was.
    pub stale_status: bool,
}

impl Profile {
    /// By the book, for new devices. The pointer starts at 0.
    ///
    /// # Source
    /// USB DFU 1.1, appendix A; ST AN3156.
    pub const STRICT: Self = Self {
        rules: Rules::Strict,
        protocol: None,
        failures: Failures::Error,
        statuses: Statuses::STANDARD,
        commands: Commands::ALL,
        checks_range: true,
        short_frames: true,
        initial_pointer: 0,
        reset_restores_pointer: true,
        erase_moves_pointer: false,
        syncs_after_set_address: true,
        commands_end_upload: false,
        address_spaces: &[],
        max_setting: None,
        leave_reply: State::Manifest,
        leave_state: State::Manifest,
        leave_delay: Duration::from_millis(50),
        fixed_poll: &[],
        stale_poll_timeout: false,
        stale_status: false,
    };

    /// For new devices that any host shall be able to use: [`Self::STRICT`], but CLRSTATUS, ABORT and DETACH are
    /// acknowledged in every state.
    ///
    /// dfu-util 0.11, dfu-core 0.11, webdfu 1.0.5 and particle-usb 4.1.0 work with it; particle-usb does not with
    /// [`Self::STRICT`]. pydfu does not wait for bwPollTimeout and takes one dfuDNBUSY only: for its sake delay the
    /// answer to the next GETSTATUS until the work is done, as ST's ROMs do.
    ///
    /// # Source
    /// See [`Table::TOLERANT_DFU`].
    pub const TOLERANT: Self = Self { rules: Rules::Tolerant, erase_moves_pointer: true, ..Self::STRICT };

    /// Photon, P1 and Electron bootloaders of v0.4.5 to v0.6.0 (constant 50 ms for flash, poll time-out cleared).
    ///
    /// # Source
    /// device-os@v0.5.3: platform/MCU/STM32F2xx/STM32_USB_Device_Driver; recorded sessions.
    pub const PHOTON_0_5_3: Self = Self {
        rules: Rules::Stm32,
        protocol: Some(Protocol::DfuSe),
        failures: Failures::Stall,
        commands: Commands::NONE,
        checks_range: false,
        short_frames: false,
        initial_pointer: 0x0802_0000,
        reset_restores_pointer: false,
        erase_moves_pointer: true,
        leave_reply: State::DnloadIdle,
        leave_state: State::ManifestWaitReset,
        leave_delay: Duration::from_millis(500),
        // The firmware's write and erase constants are swapped.
        fixed_poll: &[Some(FixedPoll::ms(50, 50)), Some(FixedPoll::ms(500, 1))],
        ..Self::STRICT
    };

    /// Photon, P1 and Electron bootloaders from v0.7.0 (0 ms for flash, stale poll time-out and status). For v0.6.4 take
    /// the flash poll times of [`Self::PHOTON_0_5_3`].
    ///
    /// # Source
    /// device-os@v2.3.1: platform/MCU/STM32F2xx/STM32_USB_Device_Driver; recorded sessions.
    pub const PHOTON_2_3_1: Self = Self {
        fixed_poll: &[Some(FixedPoll::ms(0, 0)), Some(FixedPoll::ms(500, 1))],
        stale_poll_timeout: true,
        stale_status: true,
        ..Self::PHOTON_0_5_3
    };

    /// Spark Core bootloaders: the address chooses the memory, failures are not reported, DETACH is stalled.
    ///
    /// The poll times of the internal flash were not looked up: its row asks the memory. Not replayed against a
    /// recording.
    ///
    /// # Source
    /// device-os@v0.5.3: bootloader/src/core/usb_prop.c, dfu_mal.c, spi_if.c.
    pub const CORE: Self = Self {
        rules: Rules::Core,
        failures: Failures::Ignore,
        initial_pointer: 0x0800_5000,
        address_spaces: &[
            AddressSpace { mask: 0xFC00_0000, value: 0x0800_0000, alternate: 0 },
            AddressSpace { mask: 0xFC00_0000, value: 0, alternate: 1 },
        ],
        max_setting: Some(3),
        fixed_poll: &[None, Some(FixedPoll::ms(20, 30))],
        ..Self::PHOTON_0_5_3
    };

    /// Argon, Boron and Xenon bootloaders: near the standard, with status codes of their own and no poll times.
    ///
    /// The start value of the pointer was not looked up. Not replayed against a recording.
    ///
    /// # Source
    /// device-os@v2.3.1: bootloader/src/nRF52840/usbd_dfu.cpp.
    pub const NRF52840: Self = Self {
        rules: Rules::Nrf52840,
        protocol: Some(Protocol::DfuSe),
        statuses: Statuses {
            illegal_request: Status::Unknown,
            mass_erase: Status::Target,
            read_unprotect: Status::Unknown,
            failed_work: Some(Status::Unknown),
            ..Statuses::STANDARD
        },
        commands: Commands::NONE,
        syncs_after_set_address: false,
        commands_end_upload: true,
        leave_state: State::ManifestWaitReset,
        leave_delay: Duration::from_millis(500),
        fixed_poll: &[Some(FixedPoll::ms(0, 0)), Some(FixedPoll::ms(0, 0)), Some(FixedPoll::ms(0, 0))],
        ..Self::STRICT
    };

    /// The table for a device with this functional descriptor.
    #[must_use]
    pub const fn table(&self, functional: &FunctionalDescriptor) -> &'static Table {
        self.rules.table(self.protocol_of(functional))
    }

    /// The protocol of a device with this functional descriptor.
    #[must_use]
    pub const fn protocol_of(&self, functional: &FunctionalDescriptor) -> Protocol {
        match self.protocol {
            Some(protocol) => protocol,
            None => Protocol::of(functional),
        }
    }

    /// Whether a transfer that breaks a rule leads to dfuERROR.
    pub(super) const fn reports_errors(&self) -> bool {
        matches!(self.failures, Failures::Error)
    }

    pub(super) const fn leaves_for_certain(&self) -> bool {
        matches!(self.leave_state, State::ManifestWaitReset)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Event, *};

    #[test]
    fn the_version_decides_where_the_profile_does_not() {
        let dfuse = FunctionalDescriptor::PHOTON;
        let plain = FunctionalDescriptor { dfu_version: 0x0110, ..dfuse };
        assert_eq!(Profile::STRICT.protocol_of(&dfuse), Protocol::DfuSe);
        assert_eq!(Profile::STRICT.protocol_of(&plain), Protocol::Plain);
        assert_eq!(Profile::PHOTON_2_3_1.protocol_of(&plain), Protocol::DfuSe);
        assert_eq!(Profile::TOLERANT.table(&plain), &Table::TOLERANT_DFU);
    }

    #[test]
    fn the_run_time_rows_are_the_same_in_all_tables() {
        let tables = [
            Table::DFUSE,
            Table::TOLERANT_DFU,
            Table::TOLERANT_DFUSE,
            Table::STM32,
            Table::CORE,
            Table::NRF52840,
        ];
        for table in tables {
            for event in Event::ALL {
                for state in [State::AppIdle, State::AppDetach] {
                    assert_eq!(table.reaction(state, event), Table::DFU.reaction(state, event));
                }
            }
        }
    }
}
