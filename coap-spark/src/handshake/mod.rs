//! The TCP handshake, both ends, as suspended states.
//!
//! | step | direction | size | content |
//! |---|---|---|---|
//! | 1 | server to device | 40 | random nonce, clear |
//! | 2 | device to server | 256 | RSA-2048 PKCS#1 v1.5 of nonce, device id and (since 2014) device public key |
//! | 3 | server to device | 384 | RSA-1024 PKCS#1 v1.5 of the 40 session bytes, then a 256-byte signature |
//! | 4 | device to server | 18 | first encrypted frame: Hello |
//! | 5 | server to device | 18 | encrypted Hello |
//!
//! Steps 1 to 3 are here, 4 and 5 belong to [`crate::connection`]. Every wait is a type:
//!
//! - a wait for bytes takes them with `push`, which says how many it used (bytes behind the last one belong to
//!   the next step and stay with the caller), and turns into the next state with `complete`;
//! - a wait for an RSA operation is a pair: an owned **job** that any thread, HSM or key service may run, and a
//!   state whose `resume` takes the job's result. A result of another connection's job is refused;
//! - the server's wait for the device's public key is [`server::Identified`].
//!
//! ```text
//! server: AwaitIdentity --complete--> DecryptJob + AwaitDecryption --resume--> Identified
//!         --accept--> SealJob + AwaitSeal --resume--> Accepted
//! device: AwaitNonce --complete--> EncryptJob + AwaitEncryption --resume--> AwaitSession
//!         --complete--> OpenJob + AwaitOpening --resume--> SessionKeys
//! ```
//!
//! Signature of step 3: PKCS#1 v1.5 type 1 padding over the **bare 20 bytes** of HMAC-SHA1 (key: the 40 session
//! bytes, message: the 128 ciphertext bytes), without a DigestInfo. A signature with one is refused by every firmware.
//!
//! # Security
//! The server decrypts blocks that an attacker chooses. Whatever is wrong with them (padding, length, nonce) ends
//! in the same [`Cause::Rejected`], and the server closes without a word. PKCS#1 v1.5 decryption in software has a
//! history of timing leaks; see the crate's security notes before putting a server on a hostile network.
//!
//! # Source
//! device-os@v0.4.9..v2.3.1: `communication/src/handshake.cpp`, `lightssl_message_channel.cpp`.

pub mod device;
mod failure;
mod identity;
mod job;
mod rsa_ops;
pub mod server;

#[cfg(feature = "openssl")]
mod backend_openssl;
#[cfg(feature = "rsa")]
mod backend_rsa;

pub use failure::{Cause, Failure, Stage};
pub use identity::{DeviceId, DeviceIdError, IDENTITY_WITH_KEY, IDENTITY_WITHOUT_KEY};
pub use rsa_ops::{RsaFailure, RsaPrivate, RsaPublic, unpad};

/// Length of the nonce, step 1.
pub const NONCE_LEN: usize = 40;
/// Length of the encrypted identity, step 2.
pub const SEALED_IDENTITY_LEN: usize = 256;
/// Length of the session message, step 3: ciphertext and signature.
pub const SESSION_MESSAGE_LEN: usize = SESSION_CIPHERTEXT_LEN + SIGNATURE_LEN;
/// Length of the RSA-1024 ciphertext in the session message.
pub const SESSION_CIPHERTEXT_LEN: usize = 128;
/// Length of the RSA-2048 signature in the session message.
pub const SIGNATURE_LEN: usize = 256;
/// Length of the device's public key as SubjectPublicKeyInfo.
pub const DEVICE_PUBLIC_KEY_LEN: usize = 162;
