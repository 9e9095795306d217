//! Where the receiving firmware generations differ, as one table.

use core::time::Duration;

/// How an update is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// 4.00 without the token, in the acknowledgement.
    BadRequestWithoutToken,
    /// 5.03 with the token, in the acknowledgement.
    ServiceUnavailable,
}

/// What a device does with a chunk or an `UpdateDone` while no update runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum IdleReaction {
    /// Acknowledges and ignores.
    Acknowledge,
    /// Closes the session.
    CloseSession,
    /// Says nothing.
    Silent,
}

/// How a device tells in its answer to `UpdateDone` whether it takes the image. It validates in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ResultForm {
    /// Not at all: it answers first and validates then.
    None,
    /// `{"r":"ok"}` or `{"r":"error"}`; firmware describes the module behind it.
    Words,
    /// `{"r":0}` or a negative error of the system.
    Numbers,
}

impl ResultForm {
    /// The JSON for a good or a bad image.
    #[must_use]
    pub const fn json(self, valid: bool) -> &'static [u8] {
        match (self, valid) {
            (Self::None, _) => b"",
            (Self::Words, true) => b"{\"r\":\"ok\"}",
            (Self::Words, false) => b"{\"r\":\"error\"}",
            (Self::Numbers, true) => b"{\"r\":0}",
            (Self::Numbers, false) => b"{\"r\":-240}",
        }
    }
}

/// What a receiving firmware generation does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Profile {
    /// Form of a refusal.
    pub refusal: Refusal,
    /// Fast chunks are acknowledged and, outside repair, answered too.
    pub answers_fast_chunks: bool,
    /// Most indices in one list of missed chunks, at most [`MAX_MISSED`].
    pub missed_limit: u16,
    /// That list is also limited to 1.2 times the chunks that came since the last `UpdateDone`, at least two more.
    pub missed_scaled: bool,
    /// The list of missed chunks asks for an acknowledgement; on TCP Device OS 2 leaves that out.
    pub missed_confirmable: bool,
    /// After repair the device announces the end by itself and asks for the next gaps without a new `UpdateDone`.
    pub self_driven_repair: bool,
    /// In repair the device asks again after more than this silence.
    pub repeat_after: Option<Duration>,
    /// Without a chunk for this long the device resets. In firmware this is a matter of the system around the protocol: 30 s
    /// on Core, Photon and P1, 90 s on an Electron with 0.4.9, 300 s on cellular devices with 2.x.
    pub watch: Duration,
    /// Reaction to chunks without an update.
    pub idle: IdleReaction,
    /// A fast chunk that is already there is dropped without a look.
    pub drops_duplicates: bool,
    /// Whether the answer to `UpdateDone` tells the result of the validation, and how.
    pub result: ResultForm,
}

/// No firmware lists more missed chunks at once.
pub const MAX_MISSED: u16 = 50;

const SILENCE: Option<Duration> = Some(Duration::from_secs(3));

impl Profile {
    /// `SparkProtocol` up to 0.6.4: Core, Photon, P1.
    pub const S1: Self = Self {
        refusal: Refusal::BadRequestWithoutToken,
        answers_fast_chunks: true,
        missed_limit: MAX_MISSED,
        missed_scaled: false,
        missed_confirmable: true,
        self_driven_repair: true,
        repeat_after: SILENCE,
        watch: Duration::from_secs(30),
        idle: IdleReaction::Acknowledge,
        drops_duplicates: false,
        result: ResultForm::None,
    };

    /// `SparkProtocol` 0.7.0 to 1.1.x: Core, Photon, P1.
    pub const S2: Self = Self { answers_fast_chunks: false, result: ResultForm::Words, ..Self::S1 };

    /// `ChunkedTransfer` 0.4.8 to 0.8.0-rc.8: Electron. Results come from 0.7.0-rc.1 on; before, [`Profile::result`] is
    /// [`ResultForm::None`].
    pub const C1: Self =
        Self { watch: Duration::from_secs(90), idle: IdleReaction::CloseSession, ..Self::S2 };

    /// `ChunkedTransfer` 0.8.0-rc.9 to 1.1.x: Electron.
    pub const C2: Self = Self {
        missed_limit: 40,
        missed_scaled: true,
        self_driven_repair: false,
        repeat_after: None,
        idle: IdleReaction::Silent,
        ..Self::C1
    };

    /// `ChunkedTransfer` 1.2.0-rc.1 to 1.5.x: all platforms, with the watch of a Photon.
    pub const C3: Self =
        Self { refusal: Refusal::ServiceUnavailable, watch: Duration::from_secs(30), ..Self::C2 };

    /// `ChunkedTransfer` 2.0.0 to 2.3.1: all platforms, with the watch of a Photon.
    pub const C4: Self =
        Self { drops_duplicates: true, missed_confirmable: false, result: ResultForm::Numbers, ..Self::C3 };
}
