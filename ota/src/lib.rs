#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod checksum;
pub mod module;
pub mod transfer;

#[cfg(feature = "coap-spark")]
pub mod coap;

pub use checksum::{Crc32, crc32};
