//! Cutting the TCP byte stream into frames, whatever way it was split.

use zeroize::Zeroize;

/// Bytes of the length prefix.
pub const LENGTH_PREFIX: usize = 2;

/// Largest ciphertext that every Photon generation takes: 768 bytes, a plaintext of 767.
///
/// Device OS 0.8 to 2.3.1 refuses N above 782, which leaves 768 as the largest multiple of 16. A Core wants 624.
pub const MAX_SERVER_FRAME: usize = 768;

/// Largest ciphertext length N that a receiver accepts, a multiple of 16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FrameLimit(usize);

impl FrameLimit {
    /// A limit, rounded down to whole AES blocks and at least one.
    #[must_use]
    pub const fn new(bytes: usize) -> Self {
        let blocks = if bytes < 16 { 1 } else { bytes / 16 };
        Self(blocks * 16)
    }

    /// The limit in bytes of ciphertext.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0
    }
}

/// What the peer did wrong in the frame layer. The session cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A length of 0, not a multiple of 16, or above the limit.
    #[error("frame length {found} is not a multiple of 16 between 16 and {limit}")]
    Length {
        /// The length on the wire.
        found: usize,
        /// The receiver's limit.
        limit: usize,
    },
    /// Decryption did not give a padded message. On purpose no more is said.
    #[error(
        "frame does not decrypt to a padded message: the two ends hold different keys or a byte was lost"
    )]
    Corrupt,
}

/// Result of looking for a frame at the start of a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_enums, reason = "a frame is there or it is not")]
pub enum Decoded<'a> {
    /// A whole frame.
    Frame {
        /// The ciphertext.
        body: &'a [u8],
        /// Bytes to take off the input.
        used: usize,
    },
    /// Not yet: call again with more bytes.
    NeedMore {
        /// How many bytes the input must have at least for the next step.
        at_least: usize,
    },
}

/// Looks for one frame at the start of `input`, without copying.
///
/// # Errors
/// [`FrameError::Length`].
pub fn split(input: &[u8], limit: FrameLimit) -> Result<Decoded<'_>, FrameError> {
    let Some((prefix, rest)) = input.split_first_chunk::<LENGTH_PREFIX>() else {
        return Ok(Decoded::NeedMore { at_least: LENGTH_PREFIX });
    };
    let len = check_len(*prefix, limit)?;
    let used = LENGTH_PREFIX + len;
    Ok(rest.get(..len).map_or(Decoded::NeedMore { at_least: used }, |body| Decoded::Frame { body, used }))
}

fn check_len(prefix: [u8; LENGTH_PREFIX], limit: FrameLimit) -> Result<usize, FrameError> {
    let found = usize::from(u16::from_be_bytes(prefix));
    if found == 0 || !found.is_multiple_of(16) || found > limit.get() {
        return Err(FrameError::Length { found, limit: limit.get() });
    }
    Ok(found)
}

/// Collects one frame at a time in `N` bytes of its own.
///
/// Use it where the transport's buffer cannot be parsed in place; [`split`] does not copy.
pub struct FrameBuffer<const N: usize> {
    body: [u8; N],
    prefix: [u8; LENGTH_PREFIX],
    /// Bytes collected, the prefix included.
    have: usize,
    /// Ciphertext length, known once the prefix is complete.
    len: Option<usize>,
    limit: FrameLimit,
}

impl<const N: usize> core::fmt::Debug for FrameBuffer<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FrameBuffer")
            .field("have", &self.have)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// What was decrypted in it does not stay in memory.
impl<const N: usize> Drop for FrameBuffer<N> {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

impl<const N: usize> Default for FrameBuffer<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> FrameBuffer<N> {
    /// An empty buffer that takes frames of up to `N` bytes of ciphertext.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limit(FrameLimit::new(N))
    }

    /// An empty buffer for a peer that may send less than `N` bytes.
    #[must_use]
    pub const fn with_limit(limit: FrameLimit) -> Self {
        const { assert!(N >= 16, "a frame has at least 16 bytes") };
        let limit = if limit.get() < N { limit } else { FrameLimit::new(N) };
        Self { body: [0; N], prefix: [0; LENGTH_PREFIX], have: 0, len: None, limit }
    }

    /// What was taken of a frame that is not complete: prefix and ciphertext, as they came.
    #[must_use]
    pub fn partial(&self) -> (&[u8], &[u8]) {
        let prefix = self.have.min(LENGTH_PREFIX);
        (
            self.prefix.get(..prefix).unwrap_or_default(),
            self.body.get(..self.have - prefix).unwrap_or_default(),
        )
    }

    /// Takes bytes up to the end of the current frame and says how many.
    ///
    /// While [`FrameBuffer::frame`] holds a frame nothing is taken: call [`FrameBuffer::clear`] first.
    ///
    /// # Errors
    /// [`FrameError::Length`]; the connection has to be closed.
    pub fn push(&mut self, input: &[u8]) -> Result<usize, FrameError> {
        let mut used = 0;
        while let Some(missing) = self.prefix.get_mut(self.have..)
            && !missing.is_empty()
        {
            let Some(&byte) = input.get(used) else { return Ok(used) };
            if let Some(slot) = missing.first_mut() {
                *slot = byte;
            }
            self.have += 1;
            used += 1;
        }
        let len = match self.len {
            Some(len) => len,
            None => *self.len.insert(check_len(self.prefix, self.limit)?),
        };
        let at = self.have - LENGTH_PREFIX;
        let rest = input.get(used..).unwrap_or_default();
        let take = rest.len().min(len - at);
        if let (Some(to), Some(from)) = (self.body.get_mut(at..at + take), rest.get(..take)) {
            to.copy_from_slice(from);
        }
        self.have += take;
        Ok(used + take)
    }

    /// Bytes that are still needed to complete the current step; 0 when a frame is complete.
    #[must_use]
    pub const fn missing(&self) -> usize {
        match self.len {
            Some(len) => LENGTH_PREFIX + len - self.have,
            None => LENGTH_PREFIX - self.have,
        }
    }

    /// The complete frame's ciphertext, for decrypting in place.
    #[must_use]
    pub fn frame(&mut self) -> Option<&mut [u8]> {
        let len = self.len?;
        if self.have == LENGTH_PREFIX + len { self.body.get_mut(..len) } else { None }
    }

    /// The first `len` bytes: the plaintext after the frame was opened in place.
    #[must_use]
    pub fn opened(&self, len: usize) -> &[u8] {
        self.body.get(..len).unwrap_or_default()
    }

    /// Forgets the current frame, zeroing what was decrypted in it.
    pub fn clear(&mut self) {
        if let Some(len) = self.len
            && let Some(body) = self.body.get_mut(..len)
        {
            body.zeroize();
        }
        self.have = 0;
        self.len = None;
    }
}
