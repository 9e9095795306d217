//! The transition tables of the device, one cell a (state, request).

use super::profile::Rules;
use crate::{
    request::{Request, SetupPacket},
    state::State,
};

/// What a request leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Stall; dfuERROR with errSTALLEDPKT.
    Fault,
    /// Stall; nothing changes.
    Refuse,
    /// Stall; a block that waits for GETSTATUS is forgotten.
    Forget,
    /// Acknowledge; nothing changes.
    Ignore,
    /// Keep the block; dfuDNLOAD-SYNC.
    Store,
    /// dfuMANIFEST-SYNC.
    Leave,
    /// Answer with memory; dfuUPLOAD-IDLE or, after a short frame, dfuIDLE.
    Read,
    /// dfuIDLE, status OK.
    ToIdle,
    /// dfuIDLE, status as it was.
    ToIdleKeepStatus,
    /// Answer with six bytes and do what is due.
    Report,
    /// Answer with one byte.
    Tell,
    /// Acknowledge; dfuERROR with errUNKNOWN.
    Confuse,
}

use Reaction::{
    Confuse as Co, Fault as Fa, Forget as Fo, Ignore as Ig, Leave as Le, Read as Rd, Refuse as No,
    Report as Rp, Store as St, Tell as Tl, ToIdle as Id, ToIdleKeepStatus as Ik,
};

type Row = [Reaction; 9];

/// USB DFU 1.1 appendix A for dfuIDLE to dfuERROR, with two liberties that all known hosts need and ST's ROMs take:
/// GETSTATUS and GETSTATE are answered in dfuDNBUSY, dfuMANIFEST and dfuMANIFEST-WAIT-RESET, and a zero-length DNLOAD
/// in dfuIDLE leaves (DfuSe).
#[rustfmt::skip]
const STRICT: [Row; 9] = [
    // DETACH DNLOAD DNLOAD0 UPLOAD UPLOAD0 GETSTATUS CLRSTATUS GETSTATE ABORT
    [Fa,      St,    Le,     Rd,    Rd,     Rp,       Fa,       Tl,      Id], // dfuIDLE
    [Fa,      Fa,    Fa,     Fa,    Fa,     Rp,       Fa,       Tl,      Id], // dfuDNLOAD-SYNC
    [Fa,      Fa,    Fa,     Fa,    Fa,     Rp,       Fa,       Tl,      Fa], // dfuDNBUSY
    [Fa,      St,    Le,     Fa,    Fa,     Rp,       Fa,       Tl,      Id], // dfuDNLOAD-IDLE
    [Fa,      Fa,    Fa,     Fa,    Fa,     Rp,       Fa,       Tl,      Id], // dfuMANIFEST-SYNC
    [Fa,      Fa,    Fa,     Fa,    Fa,     Rp,       Fa,       Tl,      Fa], // dfuMANIFEST
    [No,      No,    No,     No,    No,     Rp,       No,       Tl,      No], // dfuMANIFEST-WAIT-RESET
    [Fa,      Fa,    Fa,     Rd,    Rd,     Rp,       Fa,       Tl,      Id], // dfuUPLOAD-IDLE
    [No,      No,    No,     No,    No,     Rp,       Id,       Tl,      No], // dfuERROR
];

/// Particle's STM32F2 bootloaders; every cell but those of dfuDNBUSY was recorded from the firmware's code. In dfuDNBUSY
/// the firmware does not answer at all until its flash work is done.
#[rustfmt::skip]
const STM32: [Row; 9] = [
    // DETACH DNLOAD DNLOAD0 UPLOAD UPLOAD0 GETSTATUS CLRSTATUS GETSTATE ABORT
    [Ik,      St,    Le,     Rd,    Ik,     Rp,       Co,       Tl,      Id], // dfuIDLE
    [Ik,      No,    No,     Fo,    Ik,     Rp,       Co,       Tl,      Id], // dfuDNLOAD-SYNC
    [No,      No,    No,     No,    No,     Rp,       No,       Tl,      No], // dfuDNBUSY
    [Ik,      St,    Le,     No,    Ik,     Rp,       Co,       Tl,      Id], // dfuDNLOAD-IDLE
    [Ik,      No,    No,     No,    Ik,     Rp,       Co,       Tl,      Id], // dfuMANIFEST-SYNC
    [Ig,      No,    No,     No,    Ik,     Rp,       Co,       Tl,      Ig], // dfuMANIFEST
    [Ig,      No,    No,     No,    Ik,     Rp,       Co,       Tl,      Ig], // dfuMANIFEST-WAIT-RESET
    [Ik,      No,    No,     Rd,    Ik,     Rp,       Co,       Tl,      Id], // dfuUPLOAD-IDLE
    [Ig,      No,    No,     No,    Ik,     Rp,       Id,       Tl,      Ig], // dfuERROR
];

/// State 15, which only [`Rules::Stm32`] reaches.
const STM32_UNKNOWN: Row = [Ig, No, No, No, Ik, Rp, Co, Tl, Ig];

/// Looks the cell up. `None` stands for a request that is no DFU request.
pub(super) fn reaction(rules: Rules, state: State, request: Option<Request>, setup: SetupPacket) -> Reaction {
    let row = match (rules, row_number(state)) {
        (Rules::Strict, Some(number)) => STRICT.get(number).copied(),
        (Rules::Stm32, Some(number)) => STM32.get(number).copied(),
        (Rules::Stm32, None) => Some(STM32_UNKNOWN),
        (Rules::Strict, None) => None,
    };
    let row = row.unwrap_or([Reaction::Refuse; 9]);
    let [detach, dnload, dnload0, upload, upload0, get_status, clr_status, get_state, abort] = row;
    match (request, setup.length) {
        (Some(Request::Detach), _) => detach,
        (Some(Request::Dnload), 0) => dnload0,
        (Some(Request::Dnload), _) => dnload,
        (Some(Request::Upload), 0) => upload0,
        (Some(Request::Upload), _) => upload,
        (Some(Request::GetStatus), _) => get_status,
        (Some(Request::ClrStatus), _) => clr_status,
        (Some(Request::GetState), _) => get_state,
        (Some(Request::Abort), _) => abort,
        // An unknown request is as unexpected as DETACH is in a strict device, and never more.
        (None, _) if rules == Rules::Strict => detach,
        (None, _) => Reaction::Refuse,
    }
}

const fn row_number(state: State) -> Option<usize> {
    Some(match state {
        State::Idle => 0,
        State::DnloadSync => 1,
        State::DnBusy => 2,
        State::DnloadIdle => 3,
        State::ManifestSync => 4,
        State::Manifest => 5,
        State::ManifestWaitReset => 6,
        State::UploadIdle => 7,
        State::Error => 8,
        _ => return None,
    })
}
