//! Transfers over a connection of the cloud protocol: outputs become messages, messages become inputs.
//!
//! Server: keep an [`Upload`] beside the [`ServerConnection`](coap_spark::connection::ServerConnection), show it every
//! message, and send what [`Upload::poll_send`] gives. Device: give every message to [`Download::handle_message`]
//! together with a [`Target`] that does the flash work.

mod device;
mod server;

pub use device::{Download, DownloadError, Target};
pub use server::Upload;
