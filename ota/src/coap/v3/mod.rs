//! Protocol v3 as CoAP messages, for any CoAP transport: [`Upload`] and [`Download`] take and give whole messages.
//!
//! A transport repeats confirmable messages and drops the peer's repetitions; [`coap_spark::udp::Endpoint`] does. The
//! server's loop over it:
//!
//! ```no_run
//! # fn f(image: &[u8], mut socket: impl FnMut(&[u8]), mut received: impl FnMut() -> Vec<u8>,
//! #     clock: impl Fn() -> core::time::Duration) -> Result<(), Box<dyn core::error::Error>> {
//! use coap_spark::udp::{Endpoint, Incoming, Timing};
//! use spark_ota::coap::{Ids, v3::Upload};
//! use spark_ota::v3::Options;
//!
//! let mut endpoint = Endpoint::<1200>::new(Timing::SERVER, clock());
//! let mut upload = Upload::new(image, Options::DEFAULT)?;
//! let (mut ids, mut out, mut datagram) = (Ids::default(), [0; 1200], [0; 1200]);
//! while upload.outcome().is_none() {
//!     while let Some(message) = upload.poll_send(clock(), &mut ids, &mut out)? {
//!         endpoint.send(message, 0)?;
//!         while let Some(record) = endpoint.poll_output(clock(), &mut datagram)? {
//!             socket(record);
//!         }
//!     }
//!     let bytes = received(); // or nothing after `next_deadline()` of both
//!     if !bytes.is_empty() {
//!         match endpoint.handle_datagram(clock(), &bytes)? {
//!             Incoming::Message(message) | Incoming::Acknowledged(message) => {
//!                 if let Some(id) = upload.handle_message(clock(), &message).acknowledge() {
//!                     endpoint.acknowledge(id)?;
//!                 }
//!             }
//!             Incoming::Reset { id } => upload.handle_reset(clock(), id),
//!             _ => {}
//!         }
//!     }
//!     endpoint.handle_deadline(clock(), 0)?;
//!     upload.handle_deadline(clock());
//! }
//! // Its acknowledgement makes the device apply the image.
//! while let Some(record) = endpoint.poll_output(clock(), &mut datagram)? {
//!     socket(record);
//! }
//! # Ok(()) }
//! ```

mod device;
mod message;
mod server;

pub use super::handled::Handled;
pub use device::{Download, DownloadError, Target};
pub use message::{FromDevice, FromServer, MessageError, option};
pub use server::Upload;
