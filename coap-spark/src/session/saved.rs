//! A live session as bytes, for moving it to another process or keeping it small.

use super::cipher::{BLOCK, Opener, Sealer};
use core::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Key and both IVs of a live session: all that the next frames depend on. Secret, zeroed on drop, not printed.
///
/// Whoever continues the session must be the only one: two that seal from the same state use an IV twice, which shows
/// how far their messages are equal, and the peer can open the frames of one of them only.
///
/// | off | size | field of [`SavedSession::to_bytes`] |
/// |---|---|---|
/// | 0 | 3 | `SPS` |
/// | 3 | 1 | version, 1 |
/// | 4 | 16 | AES-128 key |
/// | 20 | 16 | IV of the next frame to send |
/// | 36 | 16 | IV of the next frame to receive |
///
/// ```
/// use coap_spark::session::{Opener, SavedSession, Sealer, SessionKeys};
///
/// let keys = SessionKeys::new([7; 40]);
/// let (mut sealer, opener) = (Sealer::new(&keys), Opener::new(&keys));
/// let mut out = [0; 64];
/// sealer.seal(b"one", &mut out)?;
/// let bytes = SavedSession::of(&sealer, &opener).to_bytes();
///
/// let (mut elsewhere, _) = SavedSession::from_bytes(&bytes[..]).unwrap().resume();
/// assert_eq!(elsewhere.seal(b"two", &mut out)?, sealer.seal(b"two", &mut [0; 64])?);
/// # Ok::<(), coap_spark::session::SealError>(())
/// ```
#[derive(Clone)]
pub struct SavedSession {
    key: [u8; BLOCK],
    send_iv: [u8; BLOCK],
    receive_iv: [u8; BLOCK],
}

const MAGIC: [u8; 4] = *b"SPS\x01";

impl SavedSession {
    /// Length of the byte form.
    pub const LEN: usize = MAGIC.len() + 3 * BLOCK;

    /// The state of two halves of one session.
    #[must_use]
    pub fn of(sealer: &Sealer, opener: &Opener) -> Self {
        Self { key: sealer.key, send_iv: sealer.iv, receive_iv: opener.iv }
    }

    /// The two halves again. This expands the key twice, which takes a fraction of the time of a frame.
    #[must_use]
    pub fn resume(&self) -> (Sealer, Opener) {
        (Sealer::resumed(&self.key, self.send_iv), Opener::resumed(&self.key, self.receive_iv))
    }

    /// The byte form. Secret.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; Self::LEN]> {
        let mut bytes = Zeroizing::new([0; Self::LEN]);
        let parts = [&MAGIC[..], &self.key, &self.send_iv, &self.receive_iv];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        bytes
    }

    /// Reads the byte form.
    ///
    /// # Errors
    /// [`ImportError`] for another length, kind or version. What the keys are worth only the peer can tell.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ImportError> {
        let found = bytes.len();
        let length = ImportError::Length { needed: Self::LEN, found };
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(length)?;
        check_magic(*magic, MAGIC)?;
        match rest.as_chunks::<BLOCK>() {
            (&[key, send_iv, receive_iv], []) => Ok(Self { key, send_iv, receive_iv }),
            _ => Err(length),
        }
    }
}

impl Drop for SavedSession {
    fn drop(&mut self) {
        self.key.zeroize();
        self.send_iv.zeroize();
        self.receive_iv.zeroize();
    }
}

impl fmt::Debug for SavedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SavedSession(secret)")
    }
}

/// Why bytes are not the saved form of a session or connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ImportError {
    /// They do not begin as such a form does.
    #[error("not a saved session: begins with {found:02x?}")]
    Kind {
        /// The first three bytes.
        found: [u8; 3],
    },
    /// They are of a version that this code does not read.
    #[error("saved by another version of this library: form {found}, this one reads {expected}")]
    Version {
        /// The version byte.
        found: u8,
        /// The one that is read.
        expected: u8,
    },
    /// Too few or too many.
    #[error("saved session of {found} bytes instead of {needed}")]
    Length {
        /// Bytes needed.
        needed: usize,
        /// Bytes given.
        found: usize,
    },
    /// A field has a value that is never written.
    #[error("saved session is damaged at byte {offset}")]
    Field {
        /// Where.
        offset: usize,
    },
    /// It holds more than this connection has room for.
    #[error("{found} {what} were saved, this connection has room for {limit}")]
    Capacity {
        /// Of what.
        what: &'static str,
        /// The room.
        limit: usize,
        /// What was saved.
        found: usize,
    },
}

pub(crate) const fn check_magic(found: [u8; 4], expected: [u8; 4]) -> Result<(), ImportError> {
    let ([a, b, c, version], [d, e, f, ours]) = (found, expected);
    if a != d || b != e || c != f {
        return Err(ImportError::Kind { found: [a, b, c] });
    }
    if version != ours {
        return Err(ImportError::Version { found: version, expected: ours });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionKeys;

    #[test]
    fn a_session_goes_on_where_it_was_saved() {
        let keys = SessionKeys::new([9; 40]);
        let (mut sealer, mut opener) = (Sealer::new(&keys), Opener::new(&keys));
        let (mut out, mut other) = ([0; 64], [0; 64]);
        for text in [&b"first"[..], b"second", b"third, of two blocks"] {
            let bytes = SavedSession::of(&sealer, &opener).to_bytes();
            let (mut later_sealer, mut later_opener) = SavedSession::from_bytes(&bytes[..]).unwrap().resume();
            let frame = sealer.seal(text, &mut out).unwrap().to_vec();
            assert_eq!(later_sealer.seal(text, &mut other).unwrap(), frame);
            for opener in [&mut opener, &mut later_opener] {
                let mut body = frame[2..].to_vec();
                let len = opener.open_in_place(&mut body).unwrap();
                assert_eq!(&body[..len], text);
            }
        }
    }

    #[test]
    fn other_bytes_are_refused_with_the_reason() {
        let keys = SessionKeys::new([9; 40]);
        let bytes = *SavedSession::of(&Sealer::new(&keys), &Opener::new(&keys)).to_bytes();
        for len in 0..bytes.len() {
            let error = SavedSession::from_bytes(&bytes[..len]).unwrap_err();
            assert_eq!(error, ImportError::Length { needed: SavedSession::LEN, found: len });
        }
        let longer: alloc::vec::Vec<u8> = bytes.iter().copied().chain([0; 16]).collect();
        assert!(matches!(SavedSession::from_bytes(&longer), Err(ImportError::Length { found: 68, .. })));
        let mut other = bytes;
        other[3] = 2;
        assert_eq!(
            SavedSession::from_bytes(&other).unwrap_err(),
            ImportError::Version { found: 2, expected: 1 }
        );
        other[0] = b'X';
        assert_eq!(SavedSession::from_bytes(&other).unwrap_err(), ImportError::Kind { found: *b"XPS" });
    }
}
