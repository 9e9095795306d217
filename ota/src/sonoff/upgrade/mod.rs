//! An upgrade before it is offered: everything that a device would refuse, or not survive, is refused here.
//!
//! # Source
//! Firmware of the IoTgo 2.0 generation; SonOTA@40dba7c and its users' reports.

mod code;
mod refusal;
mod url;

pub use crate::esp8266::Slot;
pub use code::UpgradeCode;
pub use refusal::{Refusal, Warning};
pub use url::{UrlParts, UrlProblem};

use super::limits;
use super::message::{Entry, Upgrade};
use super::text::{Model, Text, Version};
use crate::esp8266::{self, ImageFile, Sha256Text};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

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
    /// let candidates = Slot::ALL.map(|slot| Candidate {
    ///     slot,
    ///     url: format!("http://192.168.77.10:8080/ota/{}", slot.file_name()),
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
        for slot in Slot::ALL {
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
    /// The image that is in a file, to be got at a URL. What it is and what it is linked for is read from the file; whether it
    /// is whole is not: see [`ImageFile::check`](crate::esp8266::ImageFile::check).
    #[must_use]
    pub fn of(slot: Slot, url: String, file: &[u8]) -> Self {
        let parsed = ImageFile::parse(file).ok();
        let format = match parsed.map(|image| image.format()) {
            Some(esp8266::Format::V2) => Format::V2,
            Some(esp8266::Format::V1) => Format::V1,
            _ => Format::Other,
        };
        Self {
            slot,
            url,
            digest: Sha256Text::of(file).as_str().into(),
            size: u32::try_from(file.len()).unwrap_or(u32::MAX),
            format,
            linked_for: parsed.and_then(|image| image.program().linked_slot()),
        }
    }

    fn check_image(&self, answers_ranges: bool, refusals: &mut Vec<Refusal>) {
        let (slot, size) = (self.slot, self.size);
        if self.format != Format::V2 {
            refusals.push(Refusal::Format { slot, found: self.format });
        }
        if let Some(found) = self.linked_for.filter(|found| *found != slot) {
            refusals.push(Refusal::WrongSlot { slot, found });
        }
        let limit = limits::IMAGE.min(u32::try_from(slot.usable_len()).unwrap_or(u32::MAX));
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
        Some(Entry { name: Text::new(slot.file_name()).ok()?, download_url: url?, digest: digest? })
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

#[cfg(test)]
mod tests;
