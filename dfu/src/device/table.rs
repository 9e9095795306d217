//! The transition tables as data: one cell a (state, event).

use core::fmt;

use crate::{
    request::{Request, SetupPacket},
    state::State,
};

/// What happens to a device, as far as the tables tell it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "the columns of a table")]
pub enum Event {
    /// `DFU_DETACH`.
    Detach,
    /// `DFU_DNLOAD` with wLength above 0.
    Dnload,
    /// `DFU_DNLOAD` with wLength 0: the end of a download; in DfuSe, leave.
    DnloadEnd,
    /// `DFU_UPLOAD` with wLength above 0.
    Upload,
    /// `DFU_UPLOAD` with wLength 0.
    UploadNothing,
    /// `DFU_GETSTATUS`.
    GetStatus,
    /// `DFU_CLRSTATUS`.
    ClrStatus,
    /// `DFU_GETSTATE`.
    GetState,
    /// `DFU_ABORT`.
    Abort,
    /// A class request that is none of DFU's.
    Other,
    /// A USB reset.
    Reset,
    /// The time is over: the detach timer, or bwPollTimeout with the work done.
    Elapsed,
}

impl Event {
    /// All events in the order of the columns.
    pub const ALL: [Self; 12] = [
        Self::Detach,
        Self::Dnload,
        Self::DnloadEnd,
        Self::Upload,
        Self::UploadNothing,
        Self::GetStatus,
        Self::ClrStatus,
        Self::GetState,
        Self::Abort,
        Self::Other,
        Self::Reset,
        Self::Elapsed,
    ];

    /// The event that a class request is.
    #[must_use]
    pub fn of(setup: SetupPacket) -> Self {
        match (setup.dfu_request(), setup.length) {
            (Some(Request::Detach), _) => Self::Detach,
            (Some(Request::Dnload), 0) => Self::DnloadEnd,
            (Some(Request::Dnload), _) => Self::Dnload,
            (Some(Request::Upload), 0) => Self::UploadNothing,
            (Some(Request::Upload), _) => Self::Upload,
            (Some(Request::GetStatus), _) => Self::GetStatus,
            (Some(Request::ClrStatus), _) => Self::ClrStatus,
            (Some(Request::GetState), _) => Self::GetState,
            (Some(Request::Abort), _) => Self::Abort,
            (None, _) => Self::Other,
        }
    }

    const fn column(self) -> usize {
        match self {
            Self::Detach => 0,
            Self::Dnload => 1,
            Self::DnloadEnd => 2,
            Self::Upload => 3,
            Self::UploadNothing => 4,
            Self::GetStatus => 5,
            Self::ClrStatus => 6,
            Self::GetState => 7,
            Self::Abort => 8,
            Self::Other => 9,
            Self::Reset => 10,
            Self::Elapsed => 11,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Detach => "DETACH",
            Self::Dnload => "DNLOAD wLength > 0",
            Self::DnloadEnd => "DNLOAD wLength = 0",
            Self::Upload => "UPLOAD wLength > 0",
            Self::UploadNothing => "UPLOAD wLength = 0",
            Self::GetStatus => "GETSTATUS",
            Self::ClrStatus => "CLRSTATUS",
            Self::GetState => "GETSTATE",
            Self::Abort => "ABORT",
            Self::Other => "other request",
            Self::Reset => "USB reset",
            Self::Elapsed => "time over",
        })
    }
}

/// What an event leads to. Its [`Display`](fmt::Display) form says it in the words of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Reaction {
    /// Stall; dfuERROR with errSTALLEDPKT (or the profile's own status for illegal requests).
    Error,
    /// Stall; nothing changes.
    Stall,
    /// Stall; back to appIDLE.
    StallToAppIdle,
    /// Stall; a block that waits for GETSTATUS is forgotten.
    StallAndForget,
    /// Acknowledge, if it was a request; nothing changes.
    Stay,
    /// appDETACH with a running timer; with bitWillDetach the device detaches itself.
    Detach,
    /// Run-time ends: the device shows its DFU-mode descriptors and is in dfuIDLE.
    EnterDfu,
    /// appIDLE.
    AppIdle,
    /// Keep the block; dfuDNLOAD-SYNC. dfuERROR if it is too long, out of order, or bitCanDnload is clear.
    Store,
    /// dfuMANIFEST-SYNC; dfuERROR with errNOTDONE if the device disagrees.
    End,
    /// Answer with memory; dfuUPLOAD-IDLE or, after a short frame, dfuIDLE. dfuERROR if bitCanUpload is clear.
    Read,
    /// dfuIDLE, status OK.
    Idle,
    /// dfuIDLE, status as it was.
    IdleKeepStatus,
    /// Answer with six bytes.
    Report,
    /// Answer with six bytes: dfuDNBUSY and begin the block, or dfuDNLOAD-IDLE when it is done.
    ReportBlock,
    /// Answer with six bytes: dfuMANIFEST and begin manifestation, or dfuIDLE when it is done.
    ReportManifest,
    /// Answer with one byte.
    Tell,
    /// Acknowledge; dfuERROR with errUNKNOWN.
    Confuse,
    /// Acknowledge; the next USB reset leads to run-time, unless a transfer comes first.
    LeaveOnReset,
    /// dfuERROR with errUSBR.
    UsbReset,
    /// Run-time.
    Leave,
    /// dfuDNLOAD-SYNC.
    Sync,
    /// dfuMANIFEST-SYNC if bitManifestationTolerant is set, else dfuMANIFEST-WAIT-RESET.
    Manifested,
}

impl fmt::Display for Reaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "stall, 10",
            Self::Stall => "stall",
            Self::StallToAppIdle => "stall, 0",
            Self::StallAndForget => "stall, drop block",
            Self::Stay => "stay",
            Self::Detach => "1",
            Self::EnterDfu => "DFU mode, 2",
            Self::AppIdle => "0",
            Self::Store => "3",
            Self::End => "6",
            Self::Read => "data, 9 or 2",
            Self::Idle => "2",
            Self::IdleKeepStatus => "2, keep status",
            Self::Report | Self::Tell => "reply",
            Self::ReportBlock => "reply, 4 or 5",
            Self::ReportManifest => "reply, 7 or 2",
            Self::Confuse => "10 errUNKNOWN",
            Self::LeaveOnReset => "stay, reset leaves",
            Self::UsbReset => "10 errUSBR",
            Self::Leave => "run-time",
            Self::Sync => "3",
            Self::Manifested => "6 or 8",
        })
    }
}

use Reaction::{
    AppIdle as Ap, Confuse as Co, Detach as De, End as En, EnterDfu as Df, Error as Er, Idle as Id,
    IdleKeepStatus as Ik, Leave as Lv, LeaveOnReset as Lr, Manifested as Ma, Read as Rd, Report as Rp,
    ReportBlock as Rb, ReportManifest as Rm, Stall as No, StallAndForget as Fo, StallToAppIdle as Sa,
    Stay as Ok, Store as St, Sync as Sy, Tell as Tl, UsbReset as Ur,
};

type Row = [Reaction; Event::ALL.len()];

/// A transition table: what every event does in every state.
///
/// The machine looks its reactions up here and nowhere else. `{}` prints the table as Markdown.
///
/// ```
/// use spark_dfu::{State, device::{Event, Reaction, Table}};
/// assert_eq!(Table::DFU.reaction(State::Idle, Event::DnloadEnd), Reaction::Error);
/// assert_eq!(Table::DFUSE.reaction(State::Idle, Event::DnloadEnd), Reaction::End);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    rows: [Row; 11],
    unknown: Row,
}

const APP_IDLE: Row = [De, No, No, No, No, Rp, No, Tl, No, No, Ok, Ok];
const APP_DETACH: Row = [Sa, Sa, Sa, Sa, Sa, Rp, Sa, Tl, Sa, Sa, Df, Ap];
/// For states that a table does not have.
const NOWHERE: Row = [No; Event::ALL.len()];

impl Table {
    /// Plain DFU 1.0 and 1.1: appendix A of the standard, with two liberties that all known hosts need.
    ///
    /// GETSTATUS and GETSTATE are answered in dfuDNBUSY, dfuMANIFEST and dfuMANIFEST-WAIT-RESET, where by the text any
    /// request is an error. A USB reset in dfuIDLE, dfuUPLOAD-IDLE and dfuERROR does not lead to run-time, because
    /// hosts send some while they enumerate.
    ///
    /// # Source
    /// USB DFU 1.1, appendix A.
    #[rustfmt::skip]
    pub const DFU: Self = Self {
        rows: [
            APP_IDLE,
            APP_DETACH,
            // DETACH DNLOAD, 0  UPLOAD, 0  GETSTAT CLRSTAT GETSTATE ABORT other RESET elapsed
            [Er,      St, Er,    Rd, Rd,    Rp,     Er,     Tl,      Id,   Er,   Id,   Ok], // dfuIDLE
            [Er,      Er, Er,    Er, Er,    Rb,     Er,     Tl,      Id,   Er,   Ur,   Ok], // dfuDNLOAD-SYNC
            [Er,      Er, Er,    Er, Er,    Rp,     Er,     Tl,      Er,   Er,   Ur,   Sy], // dfuDNBUSY
            [Er,      St, En,    Er, Er,    Rp,     Er,     Tl,      Id,   Er,   Ur,   Ok], // dfuDNLOAD-IDLE
            [Er,      Er, Er,    Er, Er,    Rm,     Er,     Tl,      Id,   Er,   Ur,   Ok], // dfuMANIFEST-SYNC
            [Er,      Er, Er,    Er, Er,    Rp,     Er,     Tl,      Er,   Er,   Ur,   Ma], // dfuMANIFEST
            [No,      No, No,    No, No,    Rp,     No,     Tl,      No,   No,   Lv,   Ok], // dfuMANIFEST-WAIT-RESET
            [Er,      Er, Er,    Rd, Rd,    Rp,     Er,     Tl,      Id,   Er,   Id,   Ok], // dfuUPLOAD-IDLE
            [No,      No, No,    No, No,    Rp,     Id,     Tl,      No,   No,   Ok,   Ok], // dfuERROR
        ],
        unknown: NOWHERE,
    };

    /// DfuSe: as [`Self::DFU`], but a zero-length DNLOAD leaves from dfuIDLE, too, and a leave that was begun goes on
    /// when the bus is reset.
    ///
    /// # Source
    /// ST AN3156; UM0391.
    pub const DFUSE: Self = Self::DFU.with(State::Idle, Event::DnloadEnd, Reaction::End).with(
        State::Manifest,
        Event::Reset,
        Reaction::Leave,
    );

    /// As [`Self::DFU`], but forgiving: CLRSTATUS, ABORT and DETACH are acknowledged in every state. Work that was
    /// begun goes on, an error stays until CLRSTATUS, everything else becomes dfuIDLE.
    ///
    /// # Source
    /// What dfu-util 0.11, dfu-core 0.11, pydfu, webdfu 1.0.5 and particle-usb 4.1.0 send: particle-usb sends
    /// CLRSTATUS whenever the state is not dfuIDLE, webdfu ABORT in dfuERROR, dfu-util -R DETACH in DFU mode.
    #[rustfmt::skip]
    pub const TOLERANT_DFU: Self = Self {
        rows: [
            APP_IDLE,
            APP_DETACH,
            // DETACH DNLOAD, 0  UPLOAD, 0  GETSTAT CLRSTAT GETSTATE ABORT other RESET elapsed
            [Lr,      St, Er,    Rd, Rd,    Rp,     Id,     Tl,      Id,   No,   Id,   Ok], // dfuIDLE
            [Lr,      Er, Er,    Er, Er,    Rb,     Id,     Tl,      Id,   No,   Ur,   Ok], // dfuDNLOAD-SYNC
            [Ok,      Er, Er,    Er, Er,    Rp,     Ok,     Tl,      Ok,   No,   Ur,   Sy], // dfuDNBUSY
            [Lr,      St, En,    Er, Er,    Rp,     Id,     Tl,      Id,   No,   Ur,   Ok], // dfuDNLOAD-IDLE
            [Lr,      Er, Er,    Er, Er,    Rm,     Id,     Tl,      Id,   No,   Ur,   Ok], // dfuMANIFEST-SYNC
            [Ok,      Er, Er,    Er, Er,    Rp,     Ok,     Tl,      Ok,   No,   Ur,   Ma], // dfuMANIFEST
            [Ok,      No, No,    No, No,    Rp,     Ok,     Tl,      Ok,   No,   Lv,   Ok], // dfuMANIFEST-WAIT-RESET
            [Lr,      Er, Er,    Rd, Rd,    Rp,     Id,     Tl,      Id,   No,   Id,   Ok], // dfuUPLOAD-IDLE
            [Lr,      No, No,    No, No,    Rp,     Id,     Tl,      Ok,   No,   Ok,   Ok], // dfuERROR
        ],
        unknown: NOWHERE,
    };

    /// [`Self::TOLERANT_DFU`] with the two differences of [`Self::DFUSE`].
    pub const TOLERANT_DFUSE: Self = Self::TOLERANT_DFU
        .with(State::Idle, Event::DnloadEnd, Reaction::End)
        .with(State::Manifest, Event::Reset, Reaction::Leave);

    /// Particle's STM32F2 bootloaders; every request but those in dfuDNBUSY was recorded from the firmware's code. In
    /// dfuDNBUSY the firmware does not answer at all until its flash work is done. Byte 15 as a state is its own.
    ///
    /// # Source
    /// device-os@v0.5.3, @v2.3.1: platform/MCU/STM32F2xx/STM32_USB_Device_Driver/src/usbd_dfu_core.c.
    #[rustfmt::skip]
    pub const STM32: Self = Self {
        rows: [
            APP_IDLE,
            APP_DETACH,
            // DETACH DNLOAD, 0  UPLOAD, 0  GETSTAT CLRSTAT GETSTATE ABORT other RESET elapsed
            [Ik,      St, En,    Rd, Ik,    Rp,     Co,     Tl,      Id,   No,   Id,   Ok], // dfuIDLE
            [Ik,      No, No,    Fo, Ik,    Rb,     Co,     Tl,      Id,   No,   Id,   Ok], // dfuDNLOAD-SYNC
            [No,      No, No,    No, No,    Rp,     No,     Tl,      No,   No,   Id,   Sy], // dfuDNBUSY
            [Ik,      St, En,    No, Ik,    Rp,     Co,     Tl,      Id,   No,   Id,   Ok], // dfuDNLOAD-IDLE
            [Ik,      No, No,    No, Ik,    Rm,     Co,     Tl,      Id,   No,   Id,   Ok], // dfuMANIFEST-SYNC
            [Ok,      No, No,    No, Ik,    Rp,     Co,     Tl,      Ok,   No,   Id,   Ma], // dfuMANIFEST
            [Ok,      No, No,    No, Ik,    Rp,     Co,     Tl,      Ok,   No,   Id,   Ok], // dfuMANIFEST-WAIT-RESET
            [Ik,      No, No,    Rd, Ik,    Rp,     Co,     Tl,      Id,   No,   Id,   Ok], // dfuUPLOAD-IDLE
            [Ok,      No, No,    No, Ik,    Rp,     Id,     Tl,      Ok,   No,   Id,   Ok], // dfuERROR
        ],
        unknown: [Ok, No, No, No, Ik, Rp, Co, Tl, Ok, No, Id, Ok],
    };

    /// The Spark Core's bootloader: [`Self::STM32`] without DETACH.
    ///
    /// # Source
    /// device-os@v0.5.3: bootloader/src/core/usb_prop.c.
    pub const CORE: Self = {
        let mut table = Self::STM32;
        let mut state = 2;
        while state <= 10 {
            table = table.with(State::from_code(state), Event::Detach, Reaction::Stall);
            state += 1;
        }
        table.with(State::Unknown(15), Event::Detach, Reaction::Stall)
    };

    /// Particle's nRF52840 bootloaders: [`Self::DFUSE`], but GETSTATE is an error in dfuDNBUSY, dfuMANIFEST and
    /// dfuMANIFEST-WAIT-RESET, and so is ABORT there and in dfuERROR; DETACH is acknowledged (the firmware re-attaches
    /// to the bus, which brings a reset).
    ///
    /// What a USB reset does there was not looked up; the standard's column is used.
    ///
    /// # Source
    /// device-os@v2.3.1: bootloader/src/nRF52840/usbd_dfu.cpp.
    pub const NRF52840: Self = {
        let mut table = Self::DFUSE;
        let mut state = 2;
        while state <= 10 {
            table = table.with(State::from_code(state), Event::Detach, Reaction::Stay);
            state += 1;
        }
        table
            .with(State::DnBusy, Event::GetState, Reaction::Error)
            .with(State::Manifest, Event::GetState, Reaction::Error)
            .with(State::ManifestWaitReset, Event::GetState, Reaction::Error)
            .with(State::ManifestWaitReset, Event::Abort, Reaction::Error)
            .with(State::Error, Event::Abort, Reaction::Error)
    };

    /// Looks a cell up.
    #[must_use]
    pub fn reaction(&self, state: State, event: Event) -> Reaction {
        let row = self.rows.get(usize::from(state.code())).unwrap_or(&self.unknown);
        row.get(event.column()).copied().unwrap_or(Reaction::Stall)
    }

    /// The table with one cell changed, for a firmware that differs from a known one.
    ///
    /// ```
    /// use spark_dfu::{State, device::{Event, Reaction, Table}};
    /// const MINE: Table = Table::DFU.with(State::Idle, Event::Detach, Reaction::Stay);
    /// assert_eq!(MINE.reaction(State::Idle, Event::Detach), Reaction::Stay);
    /// ```
    #[must_use]
    pub const fn with(mut self, state: State, event: Event, reaction: Reaction) -> Self {
        let row = state.code() as usize;
        if row < self.rows.len() {
            self.rows[row][event.column()] = reaction;
        } else {
            self.unknown[event.column()] = reaction;
        }
        self
    }
}

/// Markdown, one row a state.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("| state |")?;
        for event in Event::ALL {
            write!(f, " {event} |")?;
        }
        f.write_str("\n|---|")?;
        for _ in Event::ALL {
            f.write_str("---|")?;
        }
        for code in 0..=10 {
            let state = State::from_code(code);
            write!(f, "\n| {code} {state} |")?;
            for event in Event::ALL {
                write!(f, " {} |", self.reaction(state, event))?;
            }
        }
        f.write_str("\n")
    }
}
