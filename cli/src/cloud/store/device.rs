//! What is known about a device, and the rules for its keys.

use coap_spark::handshake::DeviceId;
use coap_spark::message::describe::Describe;
use serde::{Deserialize, Serialize};
use spark_keys::Fingerprint;
use std::collections::BTreeMap;

/// Keys of one device, the past ones included.
pub const MAX_KEYS: usize = 16;
/// Attributes of one device.
pub const MAX_ATTRIBUTES: usize = 32;
/// Keys that a device offered and nobody accepted.
const MAX_OFFERED: usize = 4;
/// Bytes of a name, as the vendor's cloud has it.
const MAX_NAME: usize = 64;

/// What a key is to the cloud.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KeyState {
    /// The device gets in with it.
    Current,
    /// Its owner is writing it into the device: it gets in with it, too, and the first time makes it the current one.
    Next,
    /// The device offered it; it does not get in.
    Offered,
    /// It was the current one.
    Retired,
}

/// A public key of a device.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyRecord {
    /// SubjectPublicKeyInfo, hex.
    pub spki: String,
    /// What it is.
    pub state: KeyState,
    /// Seconds since 1970 from when on it is that.
    pub since: u64,
}

impl KeyRecord {
    /// SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        hex::decode(&self.spki).unwrap_or_default()
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_spki(&self.spki())
    }
}

/// The last time that a device did not come online, or lost its connection by a fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Failed {
    /// Seconds since 1970.
    pub at: u64,
    /// What happened, in the cloud's words.
    pub reason: String,
    /// What to do about it.
    pub advice: String,
    /// Code of the row in the diagnosis table of `coap-spark`, if there is one.
    pub row: Option<String>,
    /// Address and port that it came from.
    pub address: Option<String>,
    /// How often in a row.
    pub times: u64,
}

/// One device.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// What its owner calls it.
    pub name: Option<String>,
    /// What its owner wrote about it.
    pub notes: Option<String>,
    /// It belongs to the owner of this cloud: it is listed, called and updated.
    pub claimed: bool,
    /// Platform id from its last Hello.
    pub platform_id: Option<u16>,
    /// Product id from its last Hello.
    pub product_id: Option<u16>,
    /// Product version from its last Hello.
    pub product_version: Option<u16>,
    /// Seconds since 1970 of its first Hello.
    pub first_seen: Option<u64>,
    /// Seconds since 1970 of its last Hello, or of the end of the connection after it.
    pub last_seen: Option<u64>,
    /// Address that it connected from.
    pub last_address: Option<String>,
    /// Connections that came to Hello.
    pub connections: u64,
    /// Whatever its owner wants to remember.
    pub attributes: BTreeMap<String, String>,
    /// Its last Describe.
    pub describe: Option<Describe>,
    /// The last failure of a connection that claimed to be it.
    pub last_failure: Option<Failed>,
    /// Its public keys, the oldest first.
    pub keys: Vec<KeyRecord>,
}

/// Why keys were left as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There is another current key, and nobody said that it may go.
    #[error("key changed: the device has another key already")]
    Changed,
    /// No such key.
    #[error("the device has no such key")]
    Unknown,
    /// The fingerprint's beginning fits several keys.
    #[error("several keys begin with this fingerprint")]
    Ambiguous,
}

/// Why a name was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty.
    #[error("a name needs at least one character")]
    Empty,
    /// It is too long.
    #[error("a name has at most {MAX_NAME} bytes")]
    TooLong,
    /// It could be a device id.
    #[error("24 hex digits are a device id, not a name")]
    DeviceId,
    /// It would not be shown as it is.
    #[error("a name has no control characters and no slash")]
    Character,
}

impl Device {
    /// All that is known is what somebody offered.
    #[must_use]
    pub fn is_stranger(&self) -> bool {
        !self.claimed
            && self.name.is_none()
            && self.attributes.is_empty()
            && self.keys.iter().all(|key| key.state == KeyState::Offered)
    }

    /// The key that it gets in with.
    #[must_use]
    pub fn current_key(&self) -> Option<&KeyRecord> {
        self.keys.iter().find(|key| key.state == KeyState::Current)
    }

    /// The key that is being written into it.
    #[must_use]
    pub fn next_key(&self) -> Option<&KeyRecord> {
        self.keys.iter().find(|key| key.state == KeyState::Next)
    }

    /// Makes a key the current one, whatever was before.
    pub fn enrol(&mut self, spki: &[u8], now: u64) {
        for key in &mut self.keys {
            if key.state == KeyState::Current {
                (key.state, key.since) = (KeyState::Retired, now);
            }
        }
        self.set(spki, KeyState::Current, now);
    }

    /// Makes a key the current one unless there is another.
    ///
    /// # Errors
    /// [`KeyError::Changed`].
    pub fn enrol_first(&mut self, spki: &[u8], now: u64) -> Result<(), KeyError> {
        match self.current_key() {
            Some(current) if current.spki() != spki => Err(KeyError::Changed),
            Some(_) => Ok(()),
            None => {
                self.enrol(spki, now);
                Ok(())
            }
        }
    }

    /// Takes a key beside the current one.
    pub fn stage(&mut self, spki: &[u8], now: u64) {
        if self.next_key().is_some_and(|next| next.spki() == spki) {
            return;
        }
        self.forget_next();
        if self.current_key().is_none_or(|current| current.spki() != spki) {
            self.set(spki, KeyState::Next, now);
        }
    }

    /// The staged key becomes the current one; `false` if there is none.
    pub fn accept_next(&mut self, now: u64) -> bool {
        let Some(spki) = self.next_key().map(KeyRecord::spki) else { return false };
        self.enrol(&spki, now);
        true
    }

    /// The device has proved that it holds this key. If that is the staged one, it becomes the current one; `false` if the key
    /// is good no longer.
    pub fn prove(&mut self, spki: &[u8], now: u64) -> bool {
        let text = hex::encode(spki);
        match self.keys.iter().find(|key| key.spki == text).map(|key| key.state) {
            Some(KeyState::Current) => true,
            Some(KeyState::Next) => {
                self.enrol(spki, now);
                true
            }
            _ => false,
        }
    }

    /// Forgets the staged key.
    pub fn forget_next(&mut self) {
        self.keys.retain(|key| key.state != KeyState::Next);
    }

    /// Keeps a key that the device offered. The oldest offers go.
    ///
    /// A key that the device gets in with meanwhile stays what it is: its owner may accept it while it is being offered.
    pub fn offer(&mut self, spki: &[u8], now: u64) {
        let text = hex::encode(spki);
        if self.keys.iter().any(|key| key.spki == text && key.state != KeyState::Retired) {
            return;
        }
        // A retired key that comes back is an offer like any other.
        self.set(spki, KeyState::Offered, now);
        while self.keys.iter().filter(|key| key.state == KeyState::Offered).count() > MAX_OFFERED {
            if let Some(oldest) = self.keys.iter().position(|key| key.state == KeyState::Offered) {
                self.keys.remove(oldest);
            }
        }
    }

    /// The key whose fingerprint begins so.
    ///
    /// # Errors
    /// [`KeyError`] if there is none, or more than one.
    pub fn find_key(&self, fingerprint: &str) -> Result<&KeyRecord, KeyError> {
        let wanted = fingerprint.to_ascii_lowercase();
        let mut fitting = self.keys.iter().filter(|key| key.fingerprint().to_string().starts_with(&wanted));
        match (fitting.next(), fitting.next()) {
            _ if wanted.is_empty() => Err(KeyError::Unknown),
            (Some(key), None) => Ok(key),
            (None, _) => Err(KeyError::Unknown),
            (Some(_), Some(_)) => Err(KeyError::Ambiguous),
        }
    }

    /// Makes an offered, staged or retired key the current one.
    ///
    /// # Errors
    /// [`KeyError`] if there is none, or more than one.
    pub fn accept(&mut self, fingerprint: &str, now: u64) -> Result<(), KeyError> {
        let spki = self.find_key(fingerprint)?.spki();
        self.enrol(&spki, now);
        Ok(())
    }

    /// Forgets a key. Without a current one the device does not get in.
    ///
    /// # Errors
    /// [`KeyError`] if there is none, or more than one.
    pub fn forget_key(&mut self, fingerprint: &str) -> Result<KeyState, KeyError> {
        let (spki, state) = self.find_key(fingerprint).map(|key| (key.spki.clone(), key.state))?;
        self.keys.retain(|key| key.spki != spki);
        Ok(state)
    }

    /// Notes a failure; the same one again is counted.
    pub fn fail(&mut self, mut failed: Failed) {
        if let Some(last) = &self.last_failure
            && last.reason == failed.reason
        {
            failed.times = last.times.saturating_add(1);
        }
        self.last_failure = Some(failed);
    }

    /// Gives it a name.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn rename(&mut self, name: &str) -> Result<(), NameError> {
        let name = name.trim();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        if name.parse::<DeviceId>().is_ok() {
            return Err(NameError::DeviceId);
        }
        if name.chars().any(|character| character.is_control() || character == '/') {
            return Err(NameError::Character);
        }
        self.name = Some(name.to_owned());
        Ok(())
    }

    /// Puts a key at the end of the list in this state.
    fn set(&mut self, spki: &[u8], state: KeyState, since: u64) {
        let spki = hex::encode(spki);
        self.keys.retain(|key| key.spki != spki);
        if self.keys.len() >= MAX_KEYS {
            let oldest = self.keys.iter().position(|key| key.state == KeyState::Retired).unwrap_or(0);
            self.keys.remove(oldest);
        }
        self.keys.push(KeyRecord { spki, state, since });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(device: &Device) -> Vec<(u8, KeyState)> {
        device.keys.iter().map(|key| (key.spki()[0], key.state)).collect()
    }

    #[test]
    fn current_key_changes_by_the_owner_only() {
        let mut device = Device::default();
        assert!(device.is_stranger());
        device.offer(&[1], 10);
        assert!(device.is_stranger());
        assert_eq!(device.enrol_first(&[1], 11), Ok(()));
        assert!(!device.is_stranger());
        assert_eq!(device.enrol_first(&[1], 12), Ok(()));
        assert_eq!(device.enrol_first(&[2], 13), Err(KeyError::Changed));
        device.offer(&[2], 14);
        assert_eq!(states(&device), [(1, KeyState::Current), (2, KeyState::Offered)]);
        let fingerprint = Fingerprint::of_spki(&[2]).to_string();
        device.accept(&fingerprint[..16], 15).unwrap();
        assert_eq!(states(&device), [(1, KeyState::Retired), (2, KeyState::Current)]);
        assert_eq!(device.keys[0].since, 15);
    }

    #[test]
    fn offered_key_that_lets_the_device_in_stays_what_it_is() {
        let mut device = Device::default();
        device.enrol(&[1], 0);
        device.stage(&[2], 1);
        device.offer(&[1], 2);
        device.offer(&[2], 2);
        assert_eq!(states(&device), [(1, KeyState::Current), (2, KeyState::Next)]);
    }

    #[test]
    fn staged_key_stands_beside_the_current_one_until_it_is_used_or_forgotten() {
        let mut device = Device::default();
        device.enrol(&[1], 0);
        device.stage(&[2], 1);
        device.stage(&[3], 2);
        assert_eq!(states(&device), [(1, KeyState::Current), (3, KeyState::Next)]);
        device.forget_next();
        assert!(!device.accept_next(3));
        device.stage(&[4], 4);
        assert!(device.accept_next(5));
        assert_eq!(states(&device), [(1, KeyState::Retired), (4, KeyState::Current)]);
        device.stage(&[4], 6);
        assert!(device.next_key().is_none(), "what is current is not staged");
    }

    #[test]
    fn key_that_gets_in_is_not_turned_into_an_offer_and_only_a_good_one_is_proved() {
        let mut device = Device::default();
        device.enrol(&[1], 0);
        device.stage(&[2], 0);
        device.offer(&[1], 1);
        device.offer(&[2], 1);
        assert_eq!(states(&device), [(1, KeyState::Current), (2, KeyState::Next)]);
        device.offer(&[3], 1);
        assert!(device.prove(&[1], 2) && !device.prove(&[3], 2) && !device.prove(&[4], 2));
        assert_eq!(device.next_key().unwrap().spki(), [2], "it was not used");
        assert!(device.prove(&[2], 3));
        assert_eq!(device.current_key().unwrap().spki(), [2]);
        assert!(!device.prove(&[1], 4), "it is retired");
    }

    #[test]
    fn offers_and_history_are_bounded_and_the_current_key_stays() {
        let mut device = Device::default();
        device.enrol(&[200], 0);
        for key in 0..100 {
            device.offer(&[key], 0);
            assert!(device.keys.len() <= 1 + MAX_OFFERED);
        }
        for key in 0..100 {
            device.enrol(&[key], 0);
            assert!(device.keys.len() <= MAX_KEYS);
            assert_eq!(device.current_key().unwrap().spki(), [key]);
        }
    }

    #[test]
    fn names_that_could_mislead_are_refused() {
        let mut device = Device::default();
        device.rename(" brewer ").unwrap();
        assert_eq!(device.name.as_deref(), Some("brewer"));
        for (name, error) in [
            (" ", NameError::Empty),
            ("53ff6d065072534212345667", NameError::DeviceId),
            ("a/b", NameError::Character),
            ("a\u{1b}[2J", NameError::Character),
        ] {
            assert_eq!(device.rename(name), Err(error), "{name:?}");
        }
        assert_eq!(device.rename(&"x".repeat(65)), Err(NameError::TooLong));
        assert_eq!(device.name.as_deref(), Some("brewer"));
    }
}
