#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod app;
pub mod core_flash;
mod crc32;
pub mod dcd;
pub mod eap_config;
pub mod edit;
pub mod entry;
pub mod field;
pub mod flash;
pub mod flash_module;
pub mod ip_config;
pub mod kind;
pub mod layout;
pub mod mirror;
mod parts;
pub mod power_config;
pub mod recovery;
pub mod segment;
pub mod select;
pub mod server_address;
pub mod server_key_region;
pub mod system_flags;
pub mod value;
pub mod wiced;

pub use app::{App, AppMut};
pub use edit::ValueError;
pub use entry::Entry;
pub use field::{Field, FirmwareVersion};
pub use kind::Kind;
pub use server_address::{Host, ServerAddress};
pub use server_key_region::ServerKeyRegion;
pub use value::{Content, Value};
