//! Device profiles: how a firmware generation behaves, as one value in one table.

use core::time::Duration;

use crate::state::State;

/// Which transition table answers requests.
///
/// # Source
/// Strict: USB DFU 1.1, appendix A. Stm32: device-os@v0.5.3, @v2.3.1:
/// platform/MCU/STM32F2xx/STM32_USB_Device_Driver/src/usbd_dfu_core.c.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rules {
    /// The standard: an unexpected request leads to dfuERROR with errSTALLEDPKT; addresses are checked against the
    /// layout string before memory is touched; UPLOAD ends with a short frame; failures get their own status code.
    Strict,
    /// ST's class code in Particle's STM32F2 bootloaders: an unexpected request is stalled without a change of state,
    /// dfuERROR is reached only by CLRSTATUS outside dfuERROR, failures of flash work stall GETSTATUS and leave OK.
    Stm32,
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
    /// The address pointer after power-on. In [`Rules::Strict`] a bus reset restores it, too; nothing else does, least
    /// of all ABORT, since hosts send SET_ADDRESS, ABORT, UPLOAD.
    pub initial_pointer: u32,
    /// bState in the GETSTATUS reply after the zero-length DNLOAD.
    pub leave_reply: State,
    /// Time from that reply to [`Work::Leave`](super::Work::Leave).
    pub leave_delay: Duration,
    /// Constant poll times by alternate setting, looked up with the pointer as it was *before* the command; an
    /// alternate without a row asks [`Memory::estimate`](super::Memory::estimate).
    pub fixed_poll: &'static [FixedPoll],
    /// bwPollTimeout keeps its last value in replies that are not dfuDNBUSY.
    pub stale_poll_timeout: bool,
    /// SET_CONFIGURATION and bus reset leave bStatus as it was.
    pub stale_status: bool,
}

impl Profile {
    /// USB DFU 1.1 with DfuSe by the book, for new devices. The pointer starts at 0.
    pub const STRICT: Self = Self {
        rules: Rules::Strict,
        initial_pointer: 0,
        leave_reply: State::Manifest,
        leave_delay: Duration::from_millis(50),
        fixed_poll: &[],
        stale_poll_timeout: false,
        stale_status: false,
    };

    /// Photon, P1 and Electron bootloaders of v0.4.5 to v0.6.0 (constant 50 ms for flash, poll time-out cleared).
    pub const PHOTON_0_5_3: Self = Self {
        rules: Rules::Stm32,
        initial_pointer: 0x0802_0000,
        leave_reply: State::DnloadIdle,
        leave_delay: Duration::from_millis(500),
        // The firmware's write and erase constants are swapped.
        fixed_poll: &[FixedPoll::ms(50, 50), FixedPoll::ms(500, 1)],
        stale_poll_timeout: false,
        stale_status: false,
    };

    /// Photon, P1 and Electron bootloaders from v0.7.0 (0 ms for flash, stale poll time-out and status). For v0.6.4 take
    /// the flash poll times of [`Self::PHOTON_0_5_3`].
    pub const PHOTON_2_3_1: Self = Self {
        fixed_poll: &[FixedPoll::ms(0, 0), FixedPoll::ms(500, 1)],
        stale_poll_timeout: true,
        stale_status: true,
        ..Self::PHOTON_0_5_3
    };
}
