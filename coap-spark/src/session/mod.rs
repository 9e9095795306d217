//! The encrypted session: 40 session bytes, framing, AES-128-CBC with the rolling IV.
//!
//! A frame is a 2-byte big-endian length N and N bytes of AES-128-CBC ciphertext with PKCS#7 padding; it holds
//! one CoAP message. Each direction has its own IV: it starts with the IV of the session bytes and the IV of the
//! next frame is the **first** 16 ciphertext bytes of the current one.
//!
//! There is no MAC in this protocol. A changed bit garbles one block and flips bits in the next; the padding
//! check and the CoAP parser are all that stands against it. Treat a session as confidential at best.
//!
//! # Source
//! device-os@v2.3.1: `communication/src/lightssl_message_channel.cpp`; both JavaScript servers emit the same.

mod batch;
mod cipher;
mod eight;
mod framing;
mod keys;
#[cfg(feature = "bytes")]
mod owned;
mod saved;

pub use batch::{SessionBatch, Unsealed, seal_batches};
pub use cipher::{Opener, SealError, Sealer, sealed_len};
pub use framing::{Decoded, FrameBuffer, FrameError, FrameLimit, LENGTH_PREFIX, MAX_SERVER_FRAME, split};
pub use keys::SessionKeys;
#[cfg(feature = "bytes")]
pub use owned::take_frame;
pub(crate) use saved::check_magic;
pub use saved::{ImportError, SavedSession};

#[cfg(test)]
mod tests;
