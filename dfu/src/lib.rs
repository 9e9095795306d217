#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod descriptor;
pub mod device;
pub mod dfuse;
mod error;
pub mod file;
pub mod host;
pub mod layout;
pub mod quirk;
pub mod request;
mod state;
mod status;
#[cfg(feature = "nusb")]
pub mod usb;

pub use error::BufferTooSmall;
pub use request::{Request, SetupPacket};
pub use state::State;
pub use status::{Status, StatusReply, StatusReplyError};
