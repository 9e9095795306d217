//! The handshake's reads and writes, each within its time. What is computed in between is the caller's: on this thread, on a pool
//! of its own, or in a key service.

use crate::handshake::device::{AwaitNonce, AwaitSession};
use crate::handshake::server::AwaitIdentity;
use crate::handshake::{Cause, Failure, Stage};
use core::time::Duration;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Why a read or a write ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer closed, was too slow, or sent something wrong.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The transport failed.
    #[error("the connection failed in the handshake")]
    Io(#[from] io::Error),
}

/// Step 2 at the server: waits for the device's identity. No byte behind it is read.
///
/// # Errors
/// [`HandshakeError`].
pub async fn read_identity(
    io: &mut (impl AsyncRead + Unpin),
    waiting: &mut AwaitIdentity,
    patience: Duration,
) -> Result<(), HandshakeError> {
    read(io, patience, Stage::ReceiveIdentity, waiting.missing(), |bytes| waiting.push(bytes)).await
}

/// Step 1 at the device: waits for the nonce.
///
/// # Errors
/// [`HandshakeError`].
pub async fn read_nonce(
    io: &mut (impl AsyncRead + Unpin),
    waiting: &mut AwaitNonce,
    patience: Duration,
) -> Result<(), HandshakeError> {
    read(io, patience, Stage::ReceiveNonce, waiting.missing(), |bytes| waiting.push(bytes)).await
}

/// Step 3 at the device: waits for the session message. No byte behind it is read.
///
/// # Errors
/// [`HandshakeError`].
pub async fn read_session(
    io: &mut (impl AsyncRead + Unpin),
    waiting: &mut AwaitSession,
    patience: Duration,
) -> Result<(), HandshakeError> {
    read(io, patience, Stage::ReceiveSession, waiting.missing(), |bytes| waiting.push(bytes)).await
}

/// Writes a message of the handshake, through all buffers of the transport. A peer that does not take it fails `stage`.
///
/// # Errors
/// [`HandshakeError`].
pub async fn write(
    io: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
    patience: Duration,
    stage: Stage,
) -> Result<(), HandshakeError> {
    let writing = async {
        io.write_all(message).await?;
        Ok(io.flush().await?)
    };
    timeout(patience, writing).await.unwrap_or(Err(Failure { stage, cause: Cause::TimedOut }.into()))
}

/// Reads exactly what is missing.
async fn read(
    io: &mut (impl AsyncRead + Unpin),
    patience: Duration,
    stage: Stage,
    mut missing: usize,
    mut push: impl FnMut(&[u8]) -> usize,
) -> Result<(), HandshakeError> {
    let reading = async {
        let mut buffer = [0; 512];
        while missing > 0 {
            let room = missing.min(buffer.len());
            let count = io.read(buffer.get_mut(..room).unwrap_or_default()).await?;
            if count == 0 {
                return Err(Failure { stage, cause: Cause::Closed }.into());
            }
            push(buffer.get(..count).unwrap_or_default());
            missing -= count;
        }
        Ok(())
    };
    timeout(patience, reading).await.unwrap_or(Err(Failure { stage, cause: Cause::TimedOut }.into()))
}
