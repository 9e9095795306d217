//! The plaintext of step 2: who the device is.

use super::{DEVICE_PUBLIC_KEY_LEN, NONCE_LEN};
use core::fmt;
use core::str::FromStr;
use subtle::ConstantTimeEq;

/// Length of the plaintext without a key, as the first Core firmware sent it.
pub const IDENTITY_WITHOUT_KEY: usize = NONCE_LEN + DeviceId::LEN;
/// Length of the plaintext with the device's public key.
pub const IDENTITY_WITH_KEY: usize = IDENTITY_WITHOUT_KEY + DEVICE_PUBLIC_KEY_LEN;

/// The 12-byte device id; people see it as 24 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct DeviceId(pub [u8; Self::LEN]);

impl DeviceId {
    /// Length in bytes.
    pub const LEN: usize = 12;
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceId({self})")
    }
}

/// A text that is not 24 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a device id is 24 hex digits, this text has {len} characters or others than hex digits")]
pub struct DeviceIdError {
    /// Characters in the text.
    pub len: usize,
}

impl FromStr for DeviceId {
    type Err = DeviceIdError;

    fn from_str(text: &str) -> Result<Self, DeviceIdError> {
        let error = || DeviceIdError { len: text.chars().count() };
        let digits: &[u8; 2 * Self::LEN] = text.as_bytes().try_into().map_err(|_| error())?;
        let mut id = [0; Self::LEN];
        for (byte, pair) in id.iter_mut().zip(digits.as_chunks::<2>().0) {
            let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
            *byte = digit(pair[0]).zip(digit(pair[1])).map(|(hi, lo)| hi << 4 | lo).ok_or_else(error)?;
        }
        Ok(Self(id))
    }
}

/// The plaintext of step 2.
///
/// | off | size | field |
/// |---|---|---|
/// | 0 | 40 | the server's nonce |
/// | 40 | 12 | device id |
/// | 52 | 162 or 0 | device public key, SubjectPublicKeyInfo of RSA-1024 |
pub(super) struct Identity<'a> {
    pub(super) device_id: DeviceId,
    pub(super) public_key: Option<&'a [u8; DEVICE_PUBLIC_KEY_LEN]>,
}

impl<'a> Identity<'a> {
    /// Exactly 52 or 214 bytes that begin with the nonce. There is one failure, whatever is wrong, and one way to it:
    /// the same bytes are compared whatever the length.
    pub(super) fn parse(
        plaintext: &'a [u8; IDENTITY_WITH_KEY],
        len: usize,
        nonce: &[u8; NONCE_LEN],
    ) -> Option<Self> {
        let (claimed, rest) = plaintext.split_first_chunk::<NONCE_LEN>()?;
        let (id, key) = rest.split_first_chunk::<{ DeviceId::LEN }>()?;
        let has_key = len.ct_eq(&IDENTITY_WITH_KEY);
        let good = (has_key | len.ct_eq(&IDENTITY_WITHOUT_KEY)) & claimed.ct_eq(nonce);
        bool::from(good).then_some(())?;
        let public_key = if bool::from(has_key) { Some(key.try_into().ok()?) } else { None };
        Some(Self { device_id: DeviceId(*id), public_key })
    }

    pub(super) fn encode_into<'b>(
        &self,
        nonce: &[u8; NONCE_LEN],
        out: &'b mut [u8; IDENTITY_WITH_KEY],
    ) -> &'b [u8] {
        let (nonce_out, rest) = out.split_at_mut(NONCE_LEN);
        let (id_out, key_out) = rest.split_at_mut(DeviceId::LEN);
        nonce_out.copy_from_slice(nonce);
        id_out.copy_from_slice(&self.device_id.0);
        match self.public_key {
            Some(key) => {
                key_out.copy_from_slice(key);
                out
            }
            None => out.get(..IDENTITY_WITHOUT_KEY).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn device_id_reads_what_it_prints() {
        let id: DeviceId = "53ff6d065072534212345667".parse().unwrap();
        assert_eq!(id.0[..3], [0x53, 0xff, 0x6d]);
        assert_eq!(id.to_string(), "53ff6d065072534212345667");
        assert_eq!("53FF6D065072534212345667".parse(), Ok(id));
        for bad in
            ["", "53ff", "53ff6d06507253421234566g", "53ff6d0650725342123456670", "+3ff6d065072534212345667"]
        {
            assert_eq!(bad.parse::<DeviceId>(), Err(DeviceIdError { len: bad.len() }));
        }
    }

    #[test]
    fn only_the_two_known_lengths_are_an_identity() {
        let nonce = [7; NONCE_LEN];
        let mut plaintext = [7; IDENTITY_WITH_KEY];
        for len in 0..=245 {
            let is_known = len == IDENTITY_WITHOUT_KEY || len == IDENTITY_WITH_KEY;
            let identity = Identity::parse(&plaintext, len, &nonce);
            assert_eq!(identity.is_some(), is_known, "length {len}");
            assert_eq!(identity.is_some_and(|found| found.public_key.is_some()), len == IDENTITY_WITH_KEY);
        }
        plaintext[39] ^= 1;
        for len in [IDENTITY_WITHOUT_KEY, IDENTITY_WITH_KEY] {
            assert!(Identity::parse(&plaintext, len, &nonce).is_none(), "another nonce");
        }
    }
}
