#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The overview names what other features bring.
#![cfg_attr(
    not(all(feature = "bundle", feature = "describe", feature = "sonoff")),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

mod checksum;
pub mod esp8266;
pub mod flashing;
pub mod module;
#[cfg(feature = "alloc")]
pub mod resolve;
pub mod serial;
pub mod transfer;
pub mod v3;
pub mod ymodem;

#[cfg(feature = "coap-spark")]
pub mod coap;
#[cfg(feature = "describe")]
pub mod describe;
#[cfg(feature = "sonoff")]
pub mod sonoff;

pub use checksum::{Crc32, crc32};
