//! Update protocol of Itead Sonoff switches with the vendor's (eWeLink) firmware, both ends.
//!
//! How an image gets into such a device, and where each step is:
//!
//! | step | who → whom | what | module |
//! |---|---|---|---|
//! | 1 | server → device | Wi-Fi and address of the server, at the device's access point | [`provisioning`] |
//! | 2 | device → server | `POST /dispatch/device`: which server to use | [`dispatch`] |
//! | 3 | device → server | WebSocket: handshake, frames, messages | [`handshake`], [`frame`], [`message`] |
//! | 4 | server → device | `upgrade` with an image for each of two slots | [`upgrade`] |
//! | 5 | device → server | download over plain HTTP, in ranges or at once | [`http`] |
//! | 6 | device → server | result, over the WebSocket; reboot | [`message`] |
//!
//! [`server`] is the server's side of 2 to 6 for many devices, [`device`] the device's of all of it. Newer devices in DIY mode take images another way, [`diy`].
//!
//! There are no sockets, no TLS, no clock and no files in here. Every number that a device imposes is in [`limits`], and checked
//! before anything is sent.
//!
//! # Source
//! Firmware of the IoTgo 2.0 generation, read; sessions of SonOTA@40dba7c and simple-sonoff-server@53227a0, recorded. What
//! no code and no recording confirms is marked where it is used.

pub mod device;
pub mod dispatch;
pub mod diy;
pub mod frame;
pub mod handshake;
pub mod http;
pub mod limits;
pub mod message;
pub mod provisioning;
pub mod server;
pub mod upgrade;

mod json;
mod secret;
mod text;

pub use secret::{ApiKey, Password};
pub use text::{DeviceId, Model, Sequence, Sequences, ServerName, Text, TextError, Version};
