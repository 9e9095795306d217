//! RSA keys in files, as the handshake needs them.

use crate::exit::{Code, Failure, chain};
use crate::files;
use rsa::{RsaPrivateKey, RsaPublicKey};
use spark_keys::{DeviceKey, RsaPublicKeyView, load_device_key, load_public_key, rsa_backend};
use std::path::Path;
use zeroize::Zeroizing;

/// Longer than any key file.
const MAX_KEY_FILE: u64 = 64 * 1024;

/// A server's key: private, or the public half that devices hold.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and a secret is better not moved to the heap")]
pub(crate) enum ServerKey {
    Private(RsaPrivateKey),
    Public(RsaPublicKey),
}

impl ServerKey {
    /// Reads a server's key, PEM or DER.
    pub(crate) fn load(path: &Path) -> Result<Self, Failure> {
        let content = Zeroizing::new(files::read_up_to(path, MAX_KEY_FILE)?);
        if let Ok(key) = rsa_backend::load_server_key(&content) {
            return Ok(Self::Private(key));
        }
        let mut buffer = [0; 1024];
        let unusable = |error: &dyn core::error::Error| {
            Failure::new(
                Code::Data,
                format_args!("{} is no server key: {}", path.display(), chain(error)),
                "give the server's RSA-2048 key, PEM or DER; `spark inspect` says what a file is",
            )
        };
        let view: RsaPublicKeyView<'_> =
            load_public_key(&content, &mut buffer).map_err(|error| unusable(&error))?;
        let key = rsa_backend::to_rsa_public(&view).map_err(|error| unusable(&error))?;
        rsa_backend::server_spki(&key).map_err(|error| unusable(&error))?;
        Ok(Self::Public(key))
    }

    /// The half that everybody may know.
    pub(crate) fn public(&self) -> RsaPublicKey {
        match self {
            Self::Private(key) => key.to_public_key(),
            Self::Public(key) => key.clone(),
        }
    }
}

/// Reads a device's private key, in any form that `spark keys save` or OpenSSL write.
pub(crate) fn load_device(path: &Path) -> Result<(DeviceKey, RsaPrivateKey), Failure> {
    let content = Zeroizing::new(files::read_up_to(path, MAX_KEY_FILE)?);
    let unusable = |error: &dyn core::error::Error| {
        Failure::new(
            Code::Data,
            format_args!("{} is no device key: {}", path.display(), chain(error)),
            format_args!("`spark keys check {}` shows all that is wrong", path.display()),
        )
    };
    let key = load_device_key(&content).map_err(|error| unusable(&error))?;
    let view = spark_keys::RsaPrivateKeyView::parse(key.as_der()).map_err(|error| unusable(&error))?;
    let private = rsa_backend::to_rsa_private(&view).map_err(|error| unusable(&error))?;
    Ok((key, private))
}
