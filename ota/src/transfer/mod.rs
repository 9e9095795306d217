//! Transfer of one image from a server to a device, both ends, without a transport.
//!
//! *Slow* mode: one chunk, one answer. *Fast* mode: all chunks first, then the gaps.
//!
//! ```text
//! sender                           receiver
//!   Begin  ---------------------->   Check: Accept (or Refuse)
//!          <----------------------   Prepare: Ready { fast }
//!   Chunk  ---------------------->   Save; slow: ChunkReceived
//!   ...                              ...
//!   Done   ---------------------->   nothing missing: Validate
//!          <----------------------   DoneAnswer { complete, result }, then Apply or Reset
//!          <----------------------   else: DoneAnswer { !complete }, Missed [indices]
//!   Chunk (each index) ---------->   ...
//! ```
//!
//! A device to which no chunk comes for [`Profile::watch`] resets.
//!
//! [`Sender`] and [`Receiver`] take inputs and time and give outputs and deadlines; the feature `coap-spark` maps
//! them to the messages of the cloud protocol. Where firmware generations differ there is one [`Profile`].
//!
//! # Source
//! device-os@v0.4.9: `communication/src/spark_protocol.cpp`; v2.3.1: `communication/src/chunked_transfer.cpp`.

mod bitmap;
mod chunks;
mod profile;
mod receiver;
mod sender;

pub use bitmap::Bitmap;
pub use chunks::{Chunk, ChunkError, Chunks, MAX_CHUNKS, message_fits};
pub use profile::{IdleReaction, MAX_MISSED, Profile, Refusal, ResultForm};
pub use receiver::{Begin, Output as ReceiverOutput, Plan, Receiver, ResetCause};
pub use sender::{
    Failure, Input as SenderInput, Options, Output as SenderOutput, Progress, Sender, SenderError, Success,
};
