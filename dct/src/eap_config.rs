//! WPA Enterprise settings (v0.7.0 and later).

/// View of the `eap_config` field.
///
/// | offset | size | meaning |
/// |---|---|---|
/// | 0 | 1 | EAP method: 13 TLS, 25 PEAP |
/// | 1 | 64 | inner identity |
/// | 65 | 1 | its length |
/// | 66 | 64 | outer identity |
/// | 130 | 1 | its length |
/// | 131 | 64 | security key |
/// | 195 | 1 | its length |
/// | 196 | 4096 | CA certificate |
/// | 4292 | 2 | its length, little-endian |
/// | 4294 | 2 | padding |
///
/// Nothing is terminated; lengths are one byte, except the last. Erased, all lengths are out of range and every value is
/// `None`. To edit, set the entries `eap_config.type`, `.inner_identity` and so on with
/// [`AppMut::set_text`](crate::AppMut::set_text).
///
/// # Source
/// `device-os@v0.7.0..v2.3.1`: `eap_config_t`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EapConfig<'a> {
    raw: &'a [u8; LEN],
}

/// Length of the field.
pub const LEN: usize = 4296;

impl<'a> EapConfig<'a> {
    /// Looks at the bytes of the field; every content is accepted.
    #[must_use]
    pub const fn new(raw: &'a [u8; LEN]) -> Self {
        Self { raw }
    }

    /// EAP method; FF when erased.
    #[must_use]
    pub const fn method(&self) -> u8 {
        self.raw[0]
    }

    /// Inner identity, `None` when its length is above 64.
    #[must_use]
    pub fn inner_identity(&self) -> Option<&'a [u8]> {
        self.counted(1, 65)
    }

    /// Outer identity, `None` when its length is above 64.
    #[must_use]
    pub fn outer_identity(&self) -> Option<&'a [u8]> {
        self.counted(66, 130)
    }

    /// Security key, `None` when its length is above 64. **Secret.**
    #[must_use]
    pub fn security_key(&self) -> Option<&'a [u8]> {
        self.counted(131, 195)
    }

    /// CA certificate, `None` when its length is above 4096.
    #[must_use]
    pub fn ca_certificate(&self) -> Option<&'a [u8]> {
        let length = u16::from_le_bytes([self.raw[4292], self.raw[4293]]);
        self.raw.get(196..4292)?.get(..usize::from(length))
    }

    fn counted(&self, start: usize, length_at: usize) -> Option<&'a [u8]> {
        self.raw.get(start..length_at)?.get(..usize::from(*self.raw.get(length_at)?))
    }
}

impl core::fmt::Debug for EapConfig<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("EapConfig").field("method", &self.method()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_out_of_range_are_none() {
        let mut raw = [b'x'; LEN];
        for (at, length, fits) in [(65, 64, true), (65, 65, false), (130, 255, false), (195, 0, true)] {
            raw[at] = length;
            let config = EapConfig::new(&raw);
            let value = match at {
                65 => config.inner_identity(),
                130 => config.outer_identity(),
                _ => config.security_key(),
            };
            assert_eq!(value.map(<[u8]>::len), fits.then_some(usize::from(length)), "{at}");
        }
        raw[4292..4294].copy_from_slice(&4096_u16.to_le_bytes());
        assert_eq!(EapConfig::new(&raw).ca_certificate().map(<[u8]>::len), Some(4096));
        raw[4292..4294].copy_from_slice(&4097_u16.to_le_bytes());
        assert_eq!(EapConfig::new(&raw).ca_certificate(), None);
        let erased = EapConfig::new(&[0xFF; LEN]);
        assert_eq!((erased.inner_identity(), erased.ca_certificate()), (None, None));
    }
}
