//! An upgrade before it is offered: everything that a device would refuse, or not survive, is refused here.
//!
//! # Source
//! Firmware of the IoTgo 2.0 generation; SonOTA@40dba7c and its users' reports.

use super::http::PathError;
use super::limits;
use super::message::{Entry, Upgrade};
use super::text::{Model, Text, TextError, Version};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr};

/// One of the two places for an image. Fresh devices usually run from the first and ask for the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[allow(clippy::exhaustive_enums, reason = "the flash has two halves")]
pub enum Slot {
    /// From 0x01000.
    User1,
    /// From 0x81000.
    User2,
}

impl Slot {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::User1, Self::User2];

    /// Name in `binList`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User1 => "user1.bin",
            Self::User2 => "user2.bin",
        }
    }

    /// By that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::BOTH.into_iter().find(|slot| slot.name() == name)
    }

    /// The slot that a device which runs from this one asks for.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::User1 => Self::User2,
            Self::User2 => Self::User1,
        }
    }

    /// Where it begins in flash.
    #[must_use]
    pub const fn offset(self) -> u32 {
        match self {
            Self::User1 => 0x0_1000,
            Self::User2 => 0x8_1000,
        }
    }

    /// Bytes up to the vendor's settings, or to the SDK's parameters.
    #[must_use]
    pub const fn size(self) -> u32 {
        match self {
            Self::User1 => 0x7_9000 - 0x0_1000,
            Self::User2 => 0xf_c000 - 0x8_1000,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A `downloadUrl` cut into parts as a device does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UrlParts<'a> {
    /// Name or address.
    pub host: &'a str,
    /// 80 if none is given.
    pub port: u16,
    /// From the first slash on.
    pub path: &'a str,
}

/// Why a device cannot use a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UrlProblem {
    /// `https` or anything else.
    #[error("it does not begin with http://")]
    Scheme,
    /// Longer than a device keeps.
    #[error("it has {length} bytes, and a device keeps {limit}")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// No host.
    #[error("it names no host")]
    NoHost,
    /// The host is longer than a device keeps.
    #[error("its host has {length} bytes, and a device keeps {limit}")]
    HostTooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The host has a character that no host has.
    #[error("its host has a character that cannot be")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("its port is none")]
    Port,
    /// No slash behind the host.
    #[error("it has no path")]
    NoPath,
    /// The path. A `:` in it would be taken for that of a port, and behind `?` the device writes its own query.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl<'a> UrlParts<'a> {
    /// Cuts and checks a URL.
    ///
    /// ```
    /// use spark_ota::sonoff::upgrade::UrlParts;
    ///
    /// let parts = UrlParts::new("http://192.168.77.10:8080/ota/user2.bin")?;
    /// assert_eq!((parts.host, parts.port, parts.path), ("192.168.77.10", 8080, "/ota/user2.bin"));
    /// # Ok::<(), spark_ota::sonoff::upgrade::UrlProblem>(())
    /// ```
    ///
    /// # Errors
    /// [`UrlProblem`].
    pub fn new(url: &'a str) -> Result<Self, UrlProblem> {
        let (length, limit) = (url.len(), limits::URL);
        if length > limit {
            return Err(UrlProblem::TooLong { length, limit });
        }
        let rest = url.strip_prefix("http://").ok_or(UrlProblem::Scheme)?;
        let at = rest.find('/').ok_or(UrlProblem::NoPath)?;
        let (authority, path) = rest.split_at_checked(at).ok_or(UrlProblem::NoPath)?;
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port_number(port).ok_or(UrlProblem::Port)?),
            None => (authority, 80),
        };
        let (length, limit) = (host.len(), limits::URL_HOST);
        if host.is_empty() {
            return Err(UrlProblem::NoHost);
        }
        if length > limit {
            return Err(UrlProblem::HostTooLong { length, limit });
        }
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')) {
            return Err(UrlProblem::Host);
        }
        super::http::check_path(path)?;
        Ok(Self { host, port, path })
    }
}

fn port_number(digits: &str) -> Option<u16> {
    let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|port| *port != 0)
}

/// What kind of file an image is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Format {
    /// v2, magic 0xEA: what the vendor's bootloader starts from a slot.
    V2,
    /// v1, magic 0xE9: for address 0 only.
    V1,
    /// Anything else.
    Other,
}

/// An image for one slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The slot that it is offered for.
    pub slot: Slot,
    /// Where the device gets it.
    pub url: String,
    /// SHA-256, 64 digits in lower case.
    pub digest: String,
    /// Bytes.
    pub size: u32,
    /// What kind of file it is.
    pub format: Format,
    /// The slot that it is linked for, if that can be told.
    pub linked_for: Option<Slot>,
}

/// An upgrade that is to be offered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The images. Both slots are needed unless the caller knows from which one the device runs.
    pub candidates: Vec<Candidate>,
    /// The slot that the device runs from, if that is known.
    pub running: Option<Slot>,
    /// Model that the images are for; usually that of the device.
    pub model: String,
    /// What the device shall take for the version of the images; `9.9.9` is newer than all known ones.
    pub version: String,
    /// Whether the device shall reboot by itself: see [`Upgrade::auto_restart`].
    pub auto_restart: Option<bool>,
    /// The server answers every range with 206. Some answer 200 to a range that covers the whole file, which is the only
    /// one that a device asks for of an image of up to 4096 bytes.
    pub answers_ranges: bool,
}

/// The device that it is to be offered to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// From its `register`.
    pub model: Model,
    /// From its `register`.
    pub rom_version: Version,
    /// Its `date` was answered: before that it does not listen.
    pub dated: bool,
    /// An upgrade is under way.
    pub upgrading: bool,
    /// Its address, for warnings.
    pub address: Option<IpAddr>,
}

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

/// An offer that a device can take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checked {
    /// What to send.
    pub upgrade: Upgrade,
    /// What to tell the operator before.
    pub warnings: Vec<Warning>,
}

impl Offer {
    /// An offer of these images to a device of this model, as version 9.9.9, with a restart by itself.
    #[must_use]
    pub fn new(model: &str, candidates: Vec<Candidate>) -> Self {
        Self {
            candidates,
            running: None,
            model: model.into(),
            version: "9.9.9".into(),
            auto_restart: Some(true),
            answers_ranges: true,
        }
    }

    /// Checks it against the device.
    ///
    /// ```
    /// use spark_ota::sonoff::upgrade::{Candidate, Format, Offer, Refusal, Registered, Slot, Warning};
    /// use spark_ota::sonoff::{Model, Version};
    ///
    /// let candidates = Slot::BOTH.map(|slot| Candidate {
    ///     slot,
    ///     url: format!("http://192.168.77.10:8080/ota/{slot}"),
    ///     digest: "a5885cf13bac84da5930f74d26e9bac91eb6967d6b3c5d79ba7778bd45ea1eb7".into(),
    ///     size: 104_276,
    ///     format: Format::V2,
    ///     linked_for: Some(slot),
    /// });
    /// let mut offer = Offer::new("ITA-GZ1-GL", candidates.to_vec());
    /// let device = Registered {
    ///     model: Model::new("ITA-GZ1-GL")?,
    ///     rom_version: Version::new("1.5.5")?,
    ///     dated: true,
    ///     upgrading: false,
    ///     address: Some([192, 168, 78, 20].into()),
    /// };
    /// let checked = offer.check(&device).unwrap();
    /// assert!(matches!(checked.warnings[0], Warning::OtherNetwork { slot: Slot::User1, .. }));
    ///
    /// offer.candidates[0].size = 0;
    /// assert_eq!(offer.check(&device), Err(vec![Refusal::Empty { slot: Slot::User1 }]));
    /// # Ok::<(), spark_ota::sonoff::TextError>(())
    /// ```
    ///
    /// # Errors
    /// Every [`Refusal`], not only the first.
    pub fn check(&self, device: &Registered) -> Result<Checked, Vec<Refusal>> {
        let mut refusals = Vec::new();
        if !device.dated {
            refusals.push(Refusal::NotReady);
        }
        if device.upgrading {
            refusals.push(Refusal::Upgrading);
        }
        for slot in Slot::BOTH {
            let count = self.candidates.iter().filter(|candidate| candidate.slot == slot).count();
            if count == 0 && self.running != Some(slot) {
                refusals.push(Refusal::NoImage { slot });
            }
            if count > 1 {
                refusals.push(Refusal::TwoImages { slot });
            }
        }
        let (mut bin_list, mut warnings) = (Vec::new(), Vec::new());
        for candidate in &self.candidates {
            candidate.check_image(self.answers_ranges, &mut refusals);
            bin_list.extend(candidate.entry(device.address, &mut refusals, &mut warnings));
        }
        if self.model != device.model.as_str() {
            refusals.push(Refusal::Model { device: device.model });
        }
        let version = match Version::new(&self.version) {
            Ok(version) if version.is_newer_than(&device.rom_version) => version,
            Ok(offered) => {
                refusals.push(Refusal::NotNewer { offered, installed: device.rom_version });
                offered
            }
            Err(problem) => {
                refusals.push(Refusal::Version(problem));
                device.rom_version
            }
        };
        let upgrade = Upgrade { model: device.model, version, auto_restart: self.auto_restart, bin_list };
        if refusals.is_empty() { Ok(Checked { upgrade, warnings }) } else { Err(refusals) }
    }
}

impl Candidate {
    fn check_image(&self, answers_ranges: bool, refusals: &mut Vec<Refusal>) {
        let (slot, size) = (self.slot, self.size);
        if self.format != Format::V2 {
            refusals.push(Refusal::Format { slot, found: self.format });
        }
        if let Some(found) = self.linked_for.filter(|found| *found != slot) {
            refusals.push(Refusal::WrongSlot { slot, found });
        }
        let limit = limits::IMAGE.min(slot.size());
        match size {
            0 => refusals.push(Refusal::Empty { slot }),
            1..=limits::CHUNK if !answers_ranges => refusals.push(Refusal::OneChunk { slot, size }),
            _ if size > limit => refusals.push(Refusal::TooLarge { slot, size, limit }),
            _ => {}
        }
    }

    fn entry(
        &self,
        device: Option<IpAddr>,
        refusals: &mut Vec<Refusal>,
        warnings: &mut Vec<Warning>,
    ) -> Option<Entry> {
        let slot = self.slot;
        let url = match UrlParts::new(&self.url) {
            Ok(parts) => {
                warnings.extend(network_warning(slot, parts.host, device));
                Text::new(&self.url).ok()
            }
            Err(problem) => {
                refusals.push(Refusal::Url { slot, problem });
                None
            }
        };
        if self.linked_for.is_none() {
            warnings.push(Warning::SlotUnknown { slot });
        }
        let digits = self.digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let digest = Text::new(&self.digest).ok();
        let digest = digest.filter(|text| digits && text.as_str().len() == limits::DIGEST);
        if digest.is_none() {
            refusals.push(Refusal::Digest { slot });
        }
        Some(Entry { name: Text::new(slot.name()).ok()?, download_url: url?, digest: digest? })
    }
}

fn network_warning(slot: Slot, host: &str, device: Option<IpAddr>) -> Option<Warning> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(Warning::Loopback { slot });
    }
    let Ok(host) = host.parse::<Ipv4Addr>() else { return Some(Warning::Name { slot }) };
    let device = match device {
        Some(IpAddr::V4(device)) => Some(device),
        // Of a socket for both versions.
        Some(IpAddr::V6(device)) => device.to_ipv4_mapped(),
        None => None,
    };
    if host.is_loopback() {
        // A device on this computer is a simulated one.
        return (!device.is_some_and(|device| device.is_loopback())).then_some(Warning::Loopback { slot });
    }
    if host.is_unspecified() || host.is_multicast() || host.is_broadcast() {
        return Some(Warning::NoHost { slot, host });
    }
    let device = device?;
    let differ = host.octets().first_chunk::<3>() != device.octets().first_chunk::<3>();
    differ.then_some(Warning::OtherNetwork { slot, host, device })
}

/// Code with which a device ends an upgrade.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UpgradeCode {
    /// 0: stored and verified; from later firmware in the first answer only: accepted.
    Done,
    /// 400: a field is missing, or there is no image for the slot.
    BadRequest,
    /// 404: the download failed. This is no HTTP status.
    Download,
    /// 406, and 411 in the cellular product line: another model.
    Model,
    /// 409: what is in flash has another digest.
    Digest,
    /// 410: not newer.
    Version,
    /// Any other.
    Other(u16),
}

impl UpgradeCode {
    /// By its number.
    #[must_use]
    pub const fn new(code: u16) -> Self {
        match code {
            0 => Self::Done,
            400 => Self::BadRequest,
            404 => Self::Download,
            406 | 411 => Self::Model,
            409 => Self::Digest,
            410 => Self::Version,
            other => Self::Other(other),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Done => 0,
            Self::BadRequest => 400,
            Self::Download => 404,
            Self::Model => 406,
            Self::Digest => 409,
            Self::Version => 410,
            Self::Other(code) => code,
        }
    }
}

impl fmt::Display for UpgradeCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::Done => "done",
            Self::BadRequest => "a field of the upgrade is missing, or the image for the slot",
            Self::Download => "the download failed",
            Self::Model => "the images are for another model",
            Self::Digest => "what is in flash has another digest",
            Self::Version => "the version is not newer",
            Self::Other(code) => return write!(f, "unknown code {code}"),
        };
        write!(f, "{words} ({})", self.code())
    }
}

#[cfg(test)]
mod tests;
