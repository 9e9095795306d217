#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod app;
pub mod field;
pub mod flash_module;
pub mod ip_config;
pub mod segment;
pub mod server_address;
pub mod server_key_region;
pub mod system_flags;
pub mod wiced;

pub use app::{App, AppMut};
pub use field::{Field, FirmwareVersion};
pub use server_address::{Host, ServerAddress};
pub use server_key_region::ServerKeyRegion;
