//! URLs as devices cut them.

use crate::sonoff::http::{PathError, check_path};
use crate::sonoff::limits;

/// A `downloadUrl` cut into parts as a device does it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UrlParts<'a> {
    /// Name or address.
    pub host: &'a str,
    /// 80 if none is given.
    pub port: u16,
    /// From the first slash on.
    pub path: &'a str,
}

/// Why a device cannot use a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UrlProblem {
    /// `https` or anything else.
    #[error("it does not begin with http://")]
    Scheme,
    /// Longer than a device keeps.
    #[error("it has {length} bytes, and a device keeps {limit}")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// No host.
    #[error("it names no host")]
    NoHost,
    /// The host is longer than a device keeps.
    #[error("its host has {length} bytes, and a device keeps {limit}")]
    HostTooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The host has a character that no host has.
    #[error("its host has a character that cannot be")]
    Host,
    /// The port is no number from 1 to 65535.
    #[error("its port is none")]
    Port,
    /// No slash behind the host.
    #[error("it has no path")]
    NoPath,
    /// The path. A `:` in it would be taken for that of a port, and behind `?` the device writes its own query.
    #[error(transparent)]
    Path(#[from] PathError),
}

impl<'a> UrlParts<'a> {
    /// Cuts and checks a URL.
    ///
    /// ```
    /// use spark_ota::sonoff::upgrade::UrlParts;
    ///
    /// let parts = UrlParts::new("http://192.168.77.10:8080/ota/user2.bin")?;
    /// assert_eq!((parts.host, parts.port, parts.path), ("192.168.77.10", 8080, "/ota/user2.bin"));
    /// # Ok::<(), spark_ota::sonoff::upgrade::UrlProblem>(())
    /// ```
    ///
    /// # Errors
    /// [`UrlProblem`].
    pub fn new(url: &'a str) -> Result<Self, UrlProblem> {
        let (length, limit) = (url.len(), limits::URL);
        if length > limit {
            return Err(UrlProblem::TooLong { length, limit });
        }
        let rest = url.strip_prefix("http://").ok_or(UrlProblem::Scheme)?;
        let at = rest.find('/').ok_or(UrlProblem::NoPath)?;
        let (authority, path) = rest.split_at_checked(at).ok_or(UrlProblem::NoPath)?;
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port_number(port).ok_or(UrlProblem::Port)?),
            None => (authority, 80),
        };
        let (length, limit) = (host.len(), limits::URL_HOST);
        if host.is_empty() {
            return Err(UrlProblem::NoHost);
        }
        if length > limit {
            return Err(UrlProblem::HostTooLong { length, limit });
        }
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')) {
            return Err(UrlProblem::Host);
        }
        check_path(path)?;
        Ok(Self { host, port, path })
    }
}

fn port_number(digits: &str) -> Option<u16> {
    let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|port| *port != 0)
}
