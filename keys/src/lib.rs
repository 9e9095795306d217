#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod arithmetic;
pub mod bundled;
pub mod check;
mod complete;
pub mod der;
pub mod device_key;
pub mod device_view;
pub mod ec;
pub mod fingerprint;
pub mod form;
pub mod generate;
pub mod key;
pub mod load;
#[cfg(feature = "openssl")]
pub mod openssl_backend;
pub mod pem;
pub mod pkcs8;
pub mod private_key;
pub mod public_key;
pub mod repair;
#[cfg(feature = "rsa")]
pub mod rsa_backend;

pub use arithmetic::Relation;
pub use bundled::BundledKey;
pub use check::{Finding, Report, check, check_ec, check_server_key, is_interrupted_write};
pub use device_key::DeviceKey;
pub use ec::{EcDeviceKey, EcPrivateKeyView, EcPublicKeyView};
pub use fingerprint::Fingerprint;
pub use form::KeyForm;
pub use key::Key;
pub use load::{LoadError, load_device_key, load_ec_device_key, load_public_key};
pub use private_key::RsaPrivateKeyView;
pub use public_key::{RsaPublicKeyView, published_by_device};
pub use repair::{RepairError, Repaired, repair, repair_ec, repair_with_public_key};
