//! Transfers over a connection of the cloud protocol: outputs become messages, messages become inputs.
//!
//! Server: keep an [`Upload`] beside the [`ServerConnection`](coap_spark::connection::ServerConnection), show it every
//! message, and send what [`Upload::poll_send`] gives. Device: give every message to [`Download::handle_message`]
//! together with a [`Target`] that does the flash work. Devices that use UDP have [`Datagrams`] in place of a connection;
//! those with Device OS 3 and later mostly speak [protocol v3](v3).

mod device;
mod handled;
mod link;
mod server;
pub mod v3;

pub use device::{Download, DownloadError, Target};
pub use handled::Handled;
pub use link::{Datagrams, DeviceLink, Ids, ServerLink};
pub use server::Upload;
