//! Frames in owned buffers, for codecs over a byte stream.

use super::cipher::{SealError, Sealer, sealed_len};
use super::framing::{Decoded, FrameError, FrameLimit, LENGTH_PREFIX, split};
use bytes::BytesMut;

impl Sealer {
    /// Encrypts one message behind what is in `out`.
    ///
    /// # Errors
    /// [`SealError::TooLong`]; `out` is as it was.
    pub fn seal_to(&mut self, message: &[u8], out: &mut BytesMut) -> Result<(), SealError> {
        super::cipher::check(usize::MAX, message.len())?;
        let start = out.len();
        out.resize(start + sealed_len(message.len()), 0);
        match out.get_mut(start..).map(|frame| self.seal(message, frame).map(<[u8]>::len)) {
            Some(Err(error)) => {
                out.truncate(start);
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

/// Takes the ciphertext of one frame off the front of what was received; `None` if it is not complete. Open it with
/// [`Opener::open_in_place`](super::Opener::open_in_place).
///
/// ```
/// use bytes::BytesMut;
/// use coap_spark::session::{FrameLimit, Opener, Sealer, SessionKeys, take_frame};
///
/// let keys = SessionKeys::new([7; 40]);
/// let mut wire = BytesMut::new();
/// Sealer::new(&keys).seal_to(b"hello", &mut wire)?;
/// let mut frame = take_frame(&mut wire, FrameLimit::new(768))?.ok_or("not complete")?;
/// let len = Opener::new(&keys).open_in_place(&mut frame)?;
/// assert_eq!(&frame[..len], b"hello");
/// assert_eq!(take_frame(&mut wire, FrameLimit::new(768))?, None);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// # Errors
/// [`FrameError::Length`].
pub fn take_frame(received: &mut BytesMut, limit: FrameLimit) -> Result<Option<BytesMut>, FrameError> {
    let used = match split(received, limit)? {
        Decoded::Frame { used, .. } => used,
        Decoded::NeedMore { at_least } => {
            received.reserve(at_least.saturating_sub(received.len()));
            return Ok(None);
        }
    };
    let mut frame = received.split_to(used);
    Ok(Some(frame.split_off(LENGTH_PREFIX)))
}
