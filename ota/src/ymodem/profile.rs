//! What senders and receivers do differently.

use super::packet::BlockSize;
use core::time::Duration;

/// What a sender does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SenderProfile {
    /// Data of a packet.
    pub block_size: BlockSize,
    /// The header has that size, too; otherwise it is small if the name fits.
    pub header_in_block_size: bool,
    /// The header says that the time of the file is not known; some receivers take any time if it says nothing.
    pub time_in_header: bool,
    /// What is left of the file goes in a small packet if it fits into one.
    pub small_last_block: bool,
    /// Packets have their checksum; otherwise zeros are in its place.
    pub checksums: bool,
    /// The last packet has a length of 0 behind its missing name.
    pub length_in_end: bool,
    /// After the end of the file the receiver has to say `C` before it gets the last packet.
    pub waits_before_end: bool,
    /// For the first word of the receiver.
    pub start_timeout: Duration,
    /// For the answer to a packet.
    pub answer_timeout: Duration,
    /// How often one packet is sent again because the receiver said so.
    pub refusal_limit: u8,
    /// How often one packet is sent again because nothing was said. Receivers say `C` or `NAK` themselves when they miss
    /// something; whoever sends again beside that may get two answers to one packet.
    pub silence_limit: u8,
    /// A `C` sooner than this after a packet is an old one: receivers repeat it while they wait.
    pub old_ready: Duration,
    /// After the answer to the last packet: a receiver that has only mistaken something for a word of the sender ends the
    /// transfer right behind it.
    pub settle: Duration,
}

impl SenderProfile {
    /// To a device: as particle-cli 2.16.0, but for what it does after a NAK. To that program a NAK is the end; here the
    /// packet is sent again.
    ///
    /// A device repeats its `C` every 5 s, so 70 s of silence mean that it is gone.
    pub const PARTICLE: Self = Self {
        block_size: BlockSize::Large,
        header_in_block_size: true,
        time_in_header: false,
        small_last_block: false,
        checksums: false,
        length_in_end: true,
        waits_before_end: false,
        start_timeout: Duration::from_secs(10),
        answer_timeout: Duration::from_secs(70),
        refusal_limit: 10,
        silence_limit: 0,
        old_ready: Duration::from_secs(3),
        settle: Duration::from_millis(250),
    };

    /// To any other receiver, such as `rb` of lrzsz.
    pub const STANDARD: Self = Self {
        header_in_block_size: false,
        time_in_header: true,
        small_last_block: true,
        checksums: true,
        length_in_end: false,
        waits_before_end: true,
        start_timeout: Duration::from_secs(60),
        answer_timeout: Duration::from_secs(60),
        ..Self::PARTICLE
    };
}

/// Which checksums a receiver takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ChecksumRule {
    /// It does not look.
    Ignored,
    /// Right ones, or zeros from a sender whose header had zeros already.
    RightOrZero,
    /// Right ones.
    Right,
}

/// When a receiver says that it has a whole file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FinishAt {
    /// At the end of the file, before it is acknowledged. More files may follow.
    EndOfFile,
    /// At the last packet, before it is acknowledged: what is found wrong is told instead.
    LastPacket,
    /// At the last packet, after it was acknowledged: what is found wrong comes too late.
    AfterLastPacket,
}

/// What a receiver does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ReceiverProfile {
    /// Which checksums it takes.
    pub checksums: ChecksumRule,
    /// It says `C` as soon as it is made; otherwise only when nothing has come for a while.
    pub asks_first: bool,
    /// What it says after an error in the middle of a file.
    pub error_answer: u8,
    /// After damage it waits for so long a silence before it answers, and takes nothing until then.
    pub purge: Option<Duration>,
    /// A packet that it has already gets a NAK, as any other wrong number; otherwise it is acknowledged.
    pub refuses_repeated: bool,
    /// `A` and `a` in place of a packet end the transfer.
    pub abort_letters: bool,
    /// A space in place of a packet is acknowledged.
    pub acknowledges_space: bool,
    /// The filling of the last packet is cut off; otherwise it is written like the rest.
    pub cuts_filling: bool,
    /// A file whose length is not told, or 0, is refused.
    pub needs_length: bool,
    /// The end of a file is answered with `ACK C`; otherwise with `ACK` alone.
    pub asks_for_next: bool,
    /// When a file counts as whole.
    pub finish_at: FinishAt,
    /// Longest wait for a byte.
    pub byte_timeout: Duration,
    /// More errors than these in a row end the transfer.
    pub error_limit: u8,
}

impl ReceiverProfile {
    /// System firmware 0.4.x: the last packet is acknowledged before the image is looked at.
    pub const V0_4: Self = Self {
        checksums: ChecksumRule::Ignored,
        asks_first: true,
        error_answer: super::control::READY,
        purge: None,
        refuses_repeated: true,
        abort_letters: true,
        acknowledges_space: true,
        cuts_filling: false,
        needs_length: true,
        asks_for_next: false,
        finish_at: FinishAt::AfterLastPacket,
        byte_timeout: Duration::from_secs(5),
        error_limit: 5,
    };

    /// System firmware 2.x: the image is validated before the last packet is acknowledged.
    pub const V2_0: Self = Self { finish_at: FinishAt::LastPacket, ..Self::V0_4 };

    /// Any other receiver; takes files from `sb` of lrzsz.
    pub const STANDARD: Self = Self {
        checksums: ChecksumRule::RightOrZero,
        asks_first: true,
        error_answer: super::control::NAK,
        purge: Some(Duration::from_secs(1)),
        refuses_repeated: false,
        abort_letters: false,
        acknowledges_space: false,
        cuts_filling: true,
        needs_length: false,
        asks_for_next: true,
        finish_at: FinishAt::EndOfFile,
        byte_timeout: Duration::from_secs(5),
        error_limit: 10,
    };

    /// The same, and every packet needs its checksum.
    pub const STRICT: Self = Self { checksums: ChecksumRule::Right, ..Self::STANDARD };
}
