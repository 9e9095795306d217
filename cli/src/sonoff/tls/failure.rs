//! Why there is no connection, in plain words.

use core::fmt;

/// First byte of every TLS connection.
pub(super) const HANDSHAKE_RECORD: u8 = 0x16;

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Version {
    /// SSL 3.0 or before.
    Ssl3,
    /// TLS 1.0.
    Tls10,
    /// TLS 1.1.
    Tls11,
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3 or later.
    Tls13,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssl3 => "SSL 3.0 or older",
            Self::Tls10 => "TLS 1.0",
            Self::Tls11 => "TLS 1.1",
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3 or newer",
        })
    }
}

/// An alert of the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Alert(pub u8);

impl Alert {
    /// It is about the certificate: bad, unsupported, revoked, expired, unknown, of an unknown issuer, or not allowed.
    #[must_use]
    pub const fn is_of_certificate(self) -> bool {
        matches!(self.0, 42..=46 | 48 | 49)
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            10 => "unexpected message",
            20 => "bad record MAC",
            22 => "record overflow",
            40 => "handshake failure",
            42..=46 | 48 => "of the certificate",
            47 => "illegal parameter",
            49 => "access denied",
            50 => "decode error",
            51 => "decrypt error",
            70 => "protocol version",
            71 => "insufficient security",
            80 => "internal error",
            90 => "cancelled",
            _ => return write!(f, "alert {}", self.0),
        };
        write!(f, "alert {}, {name}", self.0)
    }
}

/// Cipher suites that were offered, by their numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ciphers(pub Vec<u16>);

impl Ciphers {
    const RC4: [u16; 2] = [0x0004, 0x0005];
    /// What a TLS client says of itself there: no cipher suites.
    const SIGNALS: [u16; 2] = [0x00ff, 0x5600];

    fn suites(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied().filter(|suite| !Self::SIGNALS.contains(suite))
    }

    fn are_all_rc4(&self) -> bool {
        self.suites().next().is_some() && self.suites().all(|suite| Self::RC4.contains(&suite))
    }
}

impl fmt::Display for Ciphers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 12;
        for (at, suite) in self.suites().take(SHOWN).enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            match suite {
                0x0004 => f.write_str("RC4-MD5")?,
                0x0005 => f.write_str("RC4-SHA")?,
                0x000a => f.write_str("DES-CBC3-SHA")?,
                0x002f => f.write_str("AES128-SHA")?,
                0x0035 => f.write_str("AES256-SHA")?,
                0x003c => f.write_str("AES128-SHA256")?,
                0x003d => f.write_str("AES256-SHA256")?,
                other => write!(f, "{other:#06x}")?,
            }
        }
        match self.suites().count() {
            0 => f.write_str("none"),
            count if count > SHOWN => write!(f, " and {} more", count - SHOWN),
            _ => Ok(()),
        }
    }
}

/// First byte of what is no request over HTTP, in words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirstByte(pub u8);

impl fmt::Display for FirstByte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            HANDSHAKE_RECORD => f.write_str("the beginning of a TLS connection"),
            0x14 | 0x15 | 0x17 | 0x18 => f.write_str("a piece of a TLS connection without its beginning"),
            b'\r' | b'\n' => f.write_str("an empty line"),
            0x20..=0x7e => write!(f, "text that begins with {:?}", char::from(self.0)),
            byte => write!(f, "binary data that begin with the byte {byte:#04x}"),
        }
    }
}

/// Why a connection did not come about.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// Closed, or left, without a byte.
    #[error("nothing was said over the connection")]
    Silent,
    /// Not done in time.
    #[error("the TLS handshake was not finished in time")]
    TimedOut,
    /// TLS was asked for, and there is none.
    #[error("TLS was asked for, but the server runs without it")]
    WithoutTls,
    /// The other end speaks HTTP without TLS.
    #[error("the other end speaks plain HTTP, not TLS")]
    PlainHttp,
    /// Something else, where TLS is spoken.
    #[error("what came is not TLS")]
    NotTls,
    /// Something else, where HTTP is spoken.
    #[error("what came is no request over HTTP, but {0}")]
    NotHttp(FirstByte),
    /// No common version.
    #[error("no common version of TLS: asked for was {asked}")]
    Protocol {
        /// The newest that the device knows, or the oldest if all are too new.
        asked: Version,
    },
    /// No common cipher suite.
    #[error("no cipher suite in common: offered were {offered}")]
    NoSharedCipher {
        /// What the device knows.
        offered: Ciphers,
    },
    /// The other end went away when it had the certificate.
    #[error("the device dropped the connection at the certificate: {}", CERTIFICATE)]
    CertificateRefused {
        /// What it said, if it said why.
        alert: Option<Alert>,
    },
    /// We went away when we had the certificate, as a device that verifies it.
    #[error("the certificate is not the vendor's: the connection was dropped")]
    Pinned,
    /// A record could not be decrypted.
    #[error("a TLS record has a bad MAC: the ends do not agree on the keys")]
    BadRecord,
    /// Another alert.
    #[error("the other end refused: {0}")]
    Refused(Alert),
    /// The connection was lost at another point.
    #[error("the connection was lost during the TLS handshake")]
    Lost,
    /// Anything else, in OpenSSL's words.
    #[error("the TLS handshake failed: {0}")]
    Other(String),
}

const CERTIFICATE: &str = "firmware that verifies the certificate (1.6 to < 2.0, or 2.6 and newer)";

impl HandshakeFailure {
    /// A code that stays the same.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::TimedOut => "tls-timeout",
            Self::WithoutTls => "without-tls",
            Self::PlainHttp => "plain-http",
            Self::NotTls => "not-tls",
            Self::NotHttp(_) => "not-http",
            Self::Protocol { .. } => "tls-version",
            Self::NoSharedCipher { .. } => "no-shared-cipher",
            Self::CertificateRefused { .. } => "certificate-refused",
            Self::Pinned => "certificate-pinned",
            Self::BadRecord => "bad-record-mac",
            Self::Refused(_) => "tls-alert",
            Self::Lost => "tls-lost",
            Self::Other(_) => "tls-failed",
        }
    }

    /// What a person can do about it.
    #[must_use]
    pub fn next(&self) -> &'static str {
        match self {
            Self::Silent => "nothing: somebody looked whether the port is open",
            Self::TimedOut => "move the device closer to the access point; power-cycle it",
            Self::WithoutTls => "start the server without --no-tls, in a program with feature `openssl`",
            Self::PlainHttp => "use --plain, or the port with TLS",
            Self::NotTls | Self::NotHttp(_) => "look what connects to this port: it is no Sonoff",
            Self::Protocol { asked: Version::Ssl3 } => {
                "update the device in the vendor's app: it is too old for TLS"
            }
            Self::Protocol { .. } => {
                "devices use TLS 1.0 to 1.2; what connects here is none, or its settings differ"
            }
            Self::NoSharedCipher { offered } if offered.are_all_rc4() => {
                "the device knows RC4 only, which OpenSSL 3 does not have: update it in the vendor's app"
            }
            Self::NoSharedCipher { .. } => {
                "the server has RSA and ECDHE-RSA key exchange with AES; a device that knows neither cannot be served"
            }
            Self::CertificateRefused { .. } | Self::Pinned => {
                "no server can serve it: use the serial port, or DIY mode if the device has it"
            }
            Self::BadRecord => "power-cycle the device; try another limit of the TLS version",
            Self::Refused(_) | Self::Lost | Self::Other(_) => "power-cycle the device and try again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offered_suites_are_named_and_signals_are_none() {
        let offered = Ciphers(vec![0x0005, 0x002f, 0xc02f, 0x00ff]);
        assert_eq!(offered.to_string(), "RC4-SHA, AES128-SHA, 0xc02f");
        assert_eq!(Ciphers(vec![0x00ff]).to_string(), "none");
        let many = Ciphers((1000..1020).collect());
        assert!(many.to_string().ends_with("0x03f3 and 8 more"), "{many}");
        let next =
            |suites: &[u16]| HandshakeFailure::NoSharedCipher { offered: Ciphers(suites.to_vec()) }.next();
        assert!(next(&[4, 5, 0x00ff]).contains("RC4 only"));
        assert!(!next(&[4, 0x000a]).contains("RC4 only") && !next(&[]).contains("RC4 only"));
    }

    #[test]
    fn what_came_instead_of_http_is_said() {
        for (byte, words) in [
            (b'g', "text that begins with 'g'"),
            (b'\'', "text that begins with '\\''"),
            (b'\n', "an empty line"),
            (0x17, "a piece of a TLS connection without its beginning"),
            (0, "binary data that begin with the byte 0x00"),
            (0x80, "binary data that begin with the byte 0x80"),
        ] {
            let failure = HandshakeFailure::NotHttp(FirstByte(byte));
            assert_eq!(failure.to_string(), format!("what came is no request over HTTP, but {words}"));
        }
    }

    #[test]
    fn refused_certificate_is_named_by_firmware() {
        let failure = HandshakeFailure::CertificateRefused { alert: None };
        assert!(failure.to_string().contains("1.6 to < 2.0, or 2.6 and newer"), "{failure}");
        assert!(failure.next().contains("no server can serve it"));
    }
}
