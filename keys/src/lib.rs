#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod arithmetic;
pub mod check;
pub mod der;
pub mod device_key;
pub mod device_view;
pub mod fingerprint;
pub mod form;
pub mod load;
pub mod pem;
pub mod pkcs8;
pub mod private_key;
pub mod public_key;
#[cfg(feature = "rsa")]
pub mod rsa_backend;

pub use arithmetic::Relation;
pub use check::{Finding, Report, check, is_interrupted_write};
pub use device_key::DeviceKey;
pub use fingerprint::Fingerprint;
pub use form::KeyForm;
pub use load::{LoadError, load_device_key, load_public_key};
pub use private_key::RsaPrivateKeyView;
pub use public_key::{RsaPublicKeyView, published_by_device};
