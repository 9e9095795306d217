//! Why an upgrade is not offered, and what to tell before it is.

use super::{Format, Slot, UrlProblem};
use crate::sonoff::text::{Model, TextError, Version};
use core::net::Ipv4Addr;

/// Why an upgrade is not offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Refusal {
    /// `date` has not been answered.
    #[error("the device is not ready: its date has not been answered")]
    NotReady,
    /// One at a time.
    #[error("an upgrade of this device is under way")]
    Upgrading,
    /// No image for a slot that the device may ask for.
    #[error("there is no image for {slot}, and the device may ask for it")]
    NoImage {
        /// The slot.
        slot: Slot,
    },
    /// Two images for a slot.
    #[error("there are two images for {slot}")]
    TwoImages {
        /// The slot.
        slot: Slot,
    },
    /// The bootloader starts no other files.
    #[error("the image for {slot} is not of format v2, which is all that the device's bootloader starts")]
    Format {
        /// The slot.
        slot: Slot,
        /// What it is.
        found: Format,
    },
    /// It would be stored and would not start.
    #[error("the image for {slot} is linked for {found}")]
    WrongSlot {
        /// The slot.
        slot: Slot,
        /// What it is linked for.
        found: Slot,
    },
    /// Nothing in it.
    #[error("the image for {slot} is empty")]
    Empty {
        /// The slot.
        slot: Slot,
    },
    /// The device gives up after the first piece.
    #[error("the image for {slot} has {size} bytes, and a device takes {limit}")]
    TooLarge {
        /// The slot.
        slot: Slot,
        /// Bytes.
        size: u32,
        /// The limit.
        limit: u32,
    },
    /// A server that answers 200 to a range of everything cannot serve it.
    #[error("the image for {slot} has {size} bytes, and the server does not promise 206 for all of a file")]
    OneChunk {
        /// The slot.
        slot: Slot,
        /// Bytes.
        size: u32,
    },
    /// The URL.
    #[error("the URL of the image for {slot} cannot be used by a device")]
    Url {
        /// The slot.
        slot: Slot,
        /// Why.
        #[source]
        problem: UrlProblem,
    },
    /// The digest is compared as text.
    #[error("the digest of the image for {slot} is not 64 lower-case hexadecimal digits")]
    Digest {
        /// The slot.
        slot: Slot,
    },
    /// The device would close the connection or answer 406.
    #[error("the images are for another model than the device is, which is {device}")]
    Model {
        /// Model of the device.
        device: Model,
    },
    /// The version cannot be sent.
    #[error("the version cannot be sent to a device")]
    Version(#[source] TextError),
    /// The device would answer 410. It compares 5 characters as text.
    #[error("the version {offered} is not newer than {installed}: a device compares 5 characters as text")]
    NotNewer {
        /// That of the offer.
        offered: Version,
        /// That of the device.
        installed: Version,
    },
}

/// What may be meant so, and usually is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Warning {
    /// The device would ask itself.
    #[error(
        "the URL of the image for {slot} names the device itself: use the address of this computer in its network"
    )]
    Loopback {
        /// The slot.
        slot: Slot,
    },
    /// `0.0.0.0`, or a group.
    #[error("the URL of the image for {slot} names an address that nobody has")]
    NoHost {
        /// The slot.
        slot: Slot,
        /// The address.
        host: Ipv4Addr,
    },
    /// By the first three numbers of their addresses; with another mask they may be in one network nevertheless.
    #[error(
        "the URL of the image for {slot} names {host}, and the device has {device}: that may be another network"
    )]
    OtherNetwork {
        /// The slot.
        slot: Slot,
        /// Address in the URL.
        host: Ipv4Addr,
        /// Address of the device.
        device: Ipv4Addr,
    },
    /// The device has to resolve it.
    #[error(
        "the URL of the image for {slot} has a name, which the device must be able to resolve: an address is safer"
    )]
    Name {
        /// The slot.
        slot: Slot,
    },
    /// Whether it is in its own slot was not checked.
    #[error("whether the image for {slot} is linked for it could not be told")]
    SlotUnknown {
        /// The slot.
        slot: Slot,
    },
}
