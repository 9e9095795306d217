#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The overview names what other features bring.
#![cfg_attr(not(feature = "tokio"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod coap;
pub mod connection;
pub mod diagnosis;
pub mod handshake;
pub mod message;
pub mod session;
#[cfg(feature = "tokio")]
pub mod tokio;
pub mod udp;
