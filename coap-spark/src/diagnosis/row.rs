//! One row of the table, and the ways to find it.

use super::table as t;
use super::{End, FailurePoint, Generation, Led, Number, ProtocolError, ROWS, Signal};
use crate::handshake::{Cause, Failure, Stage};
use core::fmt;

/// What is known about one kind of failure.
///
/// `Display` prints all of it, one line each for what is wrong, what is seen at the device, what the server sees,
/// and what to do first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Row {
    /// A stable word in kebab case, for programs.
    pub code: &'static str,
    /// Which end finds out. The mistake itself may be at the other.
    pub end: End,
    /// Where the device's connection stops when this happens; empty for what happens later.
    pub points: &'static [FailurePoint],
    /// What a person sees at the device.
    pub symptom: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What the server sees, and what the JavaScript servers log.
    pub server: &'static str,
    /// What a person should do first.
    pub action: &'static str,
    /// What the LED shows.
    pub signals: &'static [Signal],
    /// Numbers that firmware up to 0.7.0 reports.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) old: &'static [i32],
    /// Numbers that newer firmware has, before version 2 maps them.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) new: &'static [ProtocolError],
}

impl Row {
    /// The numbers that firmware of this generation prints as `Cloud handshake failed, code=`.
    pub fn codes(&self, generation: Generation) -> impl Iterator<Item = i32> + Clone {
        let (old, new) = match generation {
            Generation::UpTo0_7 => (self.old, &[][..]),
            Generation::UpTo1_5 | Generation::V2 => (&[][..], self.new),
        };
        let printed = move |error: &ProtocolError| match error.system_error() {
            Some(mapped) if generation == Generation::V2 => mapped.code(),
            _ => Number::Protocol(*error).code(),
        };
        old.iter().copied().chain(new.iter().map(printed))
    }

    /// The protocol error that Device OS 0.8 to 2.3.1 has for it, before version 2 maps it.
    #[must_use]
    pub const fn protocol_error(&self) -> Option<ProtocolError> {
        match self.new {
            [first, ..] => Some(*first),
            [] => None,
        }
    }

    /// Whether a number out of a log speaks for this row. Socket results are logged by every generation, protocol
    /// errors by version 2 as well, in other lines than `code=`.
    pub(super) fn has(&self, number: Number, generation: Option<Generation>) -> bool {
        match number {
            Number::Socket(error) => self.old.contains(&error.code()),
            Number::Protocol(error) => {
                let old = generation.is_none_or(|generation| generation == Generation::UpTo0_7);
                let new = generation.is_none_or(|generation| generation != Generation::UpTo0_7);
                (old && self.old.contains(&number.code())) || (new && self.new.contains(&error))
            }
            Number::System(error) => {
                generation.is_none_or(|generation| generation == Generation::V2)
                    && self.new.iter().any(|new| new.system_error() == Some(error))
            }
            Number::Blinks(blinks) => {
                self.signals.iter().any(|signal| blinks > 1 && i32::from(signal.blinks) == blinks)
            }
            Number::Library(_) | Number::Length(_) | Number::Seconds(_) => false,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.meaning, self.code)?;
        writeln!(f, "  at the device: {}", self.symptom)?;
        writeln!(f, "  at the server: {}", self.server)?;
        write!(f, "  first: {}", self.action)
    }
}

/// The row of a failure of this crate. Every failure has one.
///
/// `end` is the end that has the failure. It matters for [`Stage::ReceiveHello`] only, since both ends wait for a
/// Hello: a device means the server's, a server the device's.
#[must_use]
pub const fn by_failure(failure: &Failure, end: End) -> &'static Row {
    match (failure.stage, failure.cause, end) {
        (_, Cause::ForeignResult, _) => &t::FOREIGN_RESULT,
        (stage, cause, end) => by_stage(stage, cause, end),
    }
}

const fn by_stage(stage: Stage, cause: Cause, end: End) -> &'static Row {
    match (stage, cause, end) {
        (Stage::ReceiveNonce, ..) => &t::NO_NONCE,
        (Stage::EncryptIdentity, ..) => &t::SERVER_KEY_UNUSABLE,
        (Stage::ReceiveIdentity, ..) => &t::NO_IDENTITY,
        (Stage::OpenIdentity, ..) => &t::IDENTITY_REJECTED,
        (Stage::Authorise, ..) => &t::DEVICE_REFUSED,
        (Stage::SealSession, ..) => &t::RECORD_UNUSABLE,
        (Stage::ReceiveSession, Cause::TimedOut, _) => &t::SILENT_AFTER_IDENTITY,
        (Stage::SendIdentity | Stage::ReceiveSession, ..) => &t::DROPPED_AFTER_IDENTITY,
        (Stage::DecryptSession, ..) => &t::DEVICE_KEY_MISMATCH,
        (Stage::VerifySession, ..) => &t::SERVER_KEY_MISMATCH,
        (Stage::SendHello, ..) => &t::HELLO_NOT_SENT,
        (Stage::ReceiveHello, Cause::TimedOut, End::Device) => &t::NO_SERVER_HELLO,
        (Stage::ReceiveHello, Cause::Frame, End::Device) => &t::SERVER_FRAME_GARBLED,
        (Stage::ReceiveHello, _, End::Device) => &t::LOST_BEFORE_HELLO,
        (Stage::ReceiveHello, Cause::Frame, End::Server) => &t::HELLO_GARBLED,
        (Stage::ReceiveHello, Cause::NotHello, End::Server) => &t::NOT_HELLO,
        (Stage::ReceiveHello, _, End::Server) => &t::HELLO_MISSING,
    }
}

/// The number that Device OS 0.8 to 2.3.1 has for a device's failure.
pub(crate) const fn protocol_error(failure: &Failure) -> Option<ProtocolError> {
    by_stage(failure.stage, failure.cause, End::Device).protocol_error()
}

/// Rows that a number speaks for: behind `code=`, or what the handshake function returned.
///
/// 0 and above is a [`ProtocolError`], -1 to -99 a [`SocketError`](super::SocketError), below that a
/// [`SystemError`](super::SystemError). One number often has several rows: with version 2, -220 is most of them.
pub fn by_code(code: i32, generation: Option<Generation>) -> impl Iterator<Item = &'static Row> + Clone {
    let number = Number::of_code(code);
    ROWS.iter().copied().filter(move |row| row.has(number, generation))
}

/// Rows whose LED shows this colour, that many times in a row if `blinks` is given.
pub fn by_led(
    led: Led,
    blinks: Option<u8>,
    generation: Option<Generation>,
) -> impl Iterator<Item = &'static Row> + Clone {
    Observation { led: Some(led), blinks, code: None, generation }.rows()
}

/// What a person knows about a device that does not come online. What is `None` is not known and fits everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Observation {
    /// Colour of the flashes between the cyan ones.
    pub led: Option<Led>,
    /// How many in a row: 1 to 3.
    pub blinks: Option<u8>,
    /// A code of the device, see [`by_code`].
    pub code: Option<i32>,
    /// Its firmware.
    pub generation: Option<Generation>,
}

impl Observation {
    /// The rows that fit, in the order of a connection's way. None at all if nothing was observed.
    pub fn rows(self) -> impl Iterator<Item = &'static Row> + Clone {
        let number = self.code.map(Number::of_code);
        let sees_led = self.led.is_some() || self.blinks.is_some();
        ROWS.iter().copied().filter(move |row| {
            let led = || row.signals.iter().any(|s| s.fits(self.led, self.blinks, self.generation));
            (sees_led || number.is_some())
                && (!sees_led || led())
                && number.is_none_or(|number| row.has(number, self.generation))
        })
    }
}
