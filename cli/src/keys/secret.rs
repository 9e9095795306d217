//! A device's private key of either protocol.

use super::place::scratch;
use super::protocol::Protocol;
use super::{argument, shown};
use crate::exit::{Code, Failure, chain};
use serde::Serialize;
use serde_json::{Value, json};
use spark_keys::ec::EcDeviceKey;
use spark_keys::public_key::published_by_device;
use spark_keys::{
    DeviceKey, Fingerprint, Key, KeyForm, LoadError, RsaPrivateKeyView, load, pem, rsa_backend,
};
use std::path::Path;
use zeroize::Zeroizing;

/// A key that a device can use.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one at a time, and a secret is better not moved to the heap"
)]
pub(super) enum Secret {
    Tcp(DeviceKey),
    Udp(EcDeviceKey),
}

impl Secret {
    pub(super) fn generate(protocol: Protocol) -> Result<Self, Failure> {
        let rng = &mut rand::rng();
        Ok(match protocol {
            Protocol::Udp => Self::Udp(EcDeviceKey::generate(rng)),
            Protocol::Tcp => Self::Tcp(rsa_backend::generate_device_key(rng).map_err(|error| {
                Failure::new(
                    Code::Software,
                    format_args!("cannot make a key: {}", chain(&error)),
                    "try again",
                )
            })?),
        })
    }

    /// Takes a private key in any form; what a device would misread is refused.
    pub(super) fn load(name: &Path, content: &[u8]) -> Result<Self, Failure> {
        let mut scratch = scratch(content);
        let refused = |error: &dyn core::error::Error| {
            Failure::new(
                Code::Data,
                format_args!("{}: {}", shown(name), chain(error)),
                format_args!("`spark keys check {}` shows all that is wrong", argument(name)),
            )
        };
        let loaded = load::load(content, &mut scratch).map_err(|error| refused(&error))?;
        let secret = Self::of_key(&loaded.key).ok_or_else(|| {
            Failure::new(
                Code::Data,
                format_args!("{} holds a public key", shown(name)),
                "give the private key of the device",
            )
        })?;
        secret.map_err(|error| refused(&error))
    }

    /// As a device takes it; `None` for a public key.
    pub(super) fn of_key(key: &Key<'_>) -> Option<Result<Self, LoadError>> {
        match key {
            Key::RsaPrivate(key) => Some(DeviceKey::from_view(key).map(Self::Tcp).map_err(LoadError::from)),
            Key::EcPrivate(key) => Some(key.to_device_key().map(Self::Udp).map_err(LoadError::from)),
            Key::RsaPublic(_) | Key::EcPublic(_) => None,
        }
    }

    /// The key in a device's field, if it is a key for other programs: one that the device would misread is among them, and
    /// one with damage that the device does not notice is not. What the device can use is what `judge` says.
    pub(super) fn of_field(protocol: Protocol, field: &[u8]) -> Option<Self> {
        match protocol {
            Protocol::Tcp => spark_keys::load_device_key(field).ok().map(Self::Tcp),
            Protocol::Udp => load::load_ec_device_key(field).ok().map(Self::Udp),
        }
    }

    pub(super) const fn protocol(&self) -> Protocol {
        match self {
            Self::Tcp(_) => Protocol::Tcp,
            Self::Udp(_) => Protocol::Udp,
        }
    }

    /// The DER that the device takes, PKCS#1 or SEC1: canonical unless a short number had to be padded.
    pub(super) fn der(&self) -> &[u8] {
        match self {
            Self::Tcp(key) => key.as_der(),
            Self::Udp(key) => key.as_der(),
        }
    }

    /// The whole place in the device.
    pub(super) fn field(&self) -> &[u8] {
        match self {
            Self::Tcp(key) => key.as_field(),
            Self::Udp(key) => key.as_field(),
        }
    }

    pub(super) fn public(&self) -> Public {
        match self {
            Self::Tcp(key) => Public { form: KeyForm::SpkiRsa, spki: key.public_key().to_vec() },
            Self::Udp(key) => Public { form: KeyForm::SpkiEc, spki: key.public_key().to_vec() },
        }
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Tcp(key) => key.fingerprint(),
            Self::Udp(key) => key.fingerprint(),
        }
    }

    /// Text for other programs: canonical, because strict ones refuse numbers that were padded for the device.
    pub(super) fn private_pem(&self) -> Result<Zeroizing<String>, Failure> {
        let key = match self {
            Self::Udp(key) => return to_pem(KeyForm::Sec1Ec, key.as_der()),
            Self::Tcp(key) => key,
        };
        let mut der = Zeroizing::new([0; load::MAX_DER]);
        let failed = |error: &dyn core::error::Error| {
            Failure::new(Code::Software, format_args!("cannot write a key: {}", chain(error)), "report this")
        };
        let view = RsaPrivateKeyView::parse(key.as_der()).map_err(|error| failed(&error))?;
        to_pem(KeyForm::Pkcs1Private, view.encode_into(&mut *der).map_err(|error| failed(&error))?)
    }
}

/// The public key that a device with this field sends to its cloud.
pub(super) fn published(protocol: Protocol, field: &[u8]) -> Option<Public> {
    match protocol {
        Protocol::Tcp => Some(Public { form: KeyForm::SpkiRsa, spki: published_by_device(field).to_vec() }),
        Protocol::Udp => Secret::of_field(protocol, field).map(|secret| secret.public()),
    }
}

/// A device's public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Public {
    form: KeyForm,
    /// SubjectPublicKeyInfo.
    pub(super) spki: Vec<u8>,
}

impl Public {
    pub(super) fn pem(&self) -> Result<String, Failure> {
        Ok(to_pem(self.form, &self.spki)?.to_string())
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_spki(&self.spki)
    }

    /// The vendor's name of the algorithm.
    pub(super) const fn algorithm(&self) -> &'static str {
        match self.form {
            KeyForm::SpkiEc => "ecc",
            _ => "rsa",
        }
    }
}

/// DER as text.
pub(super) fn to_pem(form: KeyForm, der: &[u8]) -> Result<Zeroizing<String>, Failure> {
    // Base64 takes 4 bytes for 3, and each line one more for 64.
    let mut text = Zeroizing::new(vec![0; der.len() * 3 / 2 + 128]);
    let text = pem::encode(form, der, &mut text).map(str::to_owned).map_err(|error| {
        Failure::new(Code::Software, format_args!("cannot write a key as text: {error}"), "report this")
    })?;
    Ok(Zeroizing::new(text))
}

/// One finding of a check, for people and machines.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) code: String,
    pub(super) what: String,
    pub(super) device: String,
    pub(super) cloud: String,
    pub(super) next: String,
}

/// A finding of the library with its texts.
pub(super) fn describe(finding: spark_keys::Finding) -> Finding {
    Finding {
        code: finding.code().to_owned(),
        what: finding.to_string(),
        device: finding.device().to_owned(),
        cloud: finding.cloud().to_owned(),
        next: finding.next_step().to_owned(),
    }
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // What it is says already what it means for the device.
        let Self { code, what, cloud, next, .. } = self;
        write!(f, "  {code}: {what}\n    cloud  {cloud}\n    next   {next}")
    }
}

/// A key in a result.
pub(super) fn to_json(secret: &Secret) -> Value {
    json!({
        "protocol": secret.protocol(),
        "algorithm": secret.public().algorithm(),
        "der_len": secret.der().len(),
        "fingerprint": secret.fingerprint().to_string(),
    })
}
