//! The table of what is served.

use crate::sonoff::limits;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Why a path cannot be offered to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("the path does not begin with a slash")]
    Relative,
    /// Longer than a device keeps.
    #[error("the path has {length} bytes, and a device keeps {limit}")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// `?`, behind which a device writes its query; `:`, which it takes for that of a port; space, control characters and others
    /// that are not in a URL as they are.
    #[error("the path has a character at byte {at} that a device cannot ask for")]
    Character {
        /// Where.
        at: usize,
    },
    /// Offered already.
    #[error("the path is taken")]
    Taken,
}

/// Checks a path that a device is to ask for.
pub(crate) fn check_path(path: &str) -> Result<(), PathError> {
    if !path.starts_with('/') {
        return Err(PathError::Relative);
    }
    let (length, limit) = (path.len(), limits::URL_PATH);
    if length > limit {
        return Err(PathError::TooLong { length, limit });
    }
    let bad = |byte| !matches!(byte, b'!'..=b'~') || matches!(byte, b'?' | b':' | b'#' | b'"' | b'\\');
    match path.bytes().position(bad) {
        Some(at) => Err(PathError::Character { at }),
        None => Ok(()),
    }
}

/// What is served, by path. A path is equal, or it is not: nothing is decoded or normalised.
///
/// ```
/// use spark_ota::sonoff::http::Routes;
///
/// let mut routes = Routes::new();
/// routes.add("/ota/user1.bin", 1)?;
/// assert_eq!(routes.find("/ota/user1.bin"), Some(&1));
/// assert_eq!(routes.find("/ota/../ota/user1.bin"), None);
/// assert_eq!(routes.find("/ota/user1%2ebin"), None);
/// # Ok::<(), spark_ota::sonoff::http::PathError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Routes<T> {
    table: Vec<(String, T)>,
}

impl<T> Routes<T> {
    /// Nothing is served.
    #[must_use]
    pub const fn new() -> Self {
        Self { table: Vec::new() }
    }

    /// Serves `what` at a path.
    ///
    /// # Errors
    /// [`PathError`].
    pub fn add(&mut self, path: &str, what: T) -> Result<(), PathError> {
        check_path(path)?;
        if self.find(path).is_some() {
            return Err(PathError::Taken);
        }
        self.table.push((path.to_string(), what));
        Ok(())
    }

    /// What is served at this path.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&T> {
        self.table.iter().find(|(offered, _)| offered == path).map(|(_, what)| what)
    }

    /// All of it.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.table.iter().map(|(path, what)| (path.as_str(), what))
    }
}

impl<T> Default for Routes<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn only_paths_that_devices_can_ask_for_are_offered() {
        let mut routes = Routes::new();
        assert_eq!(routes.add("a", ()), Err(PathError::Relative));
        assert_eq!(routes.add("", ()), Err(PathError::Relative));
        let longest = format!("/{}", "a".repeat(98));
        assert_eq!(routes.add(&longest, ()), Ok(()));
        assert_eq!(routes.add(&longest, ()), Err(PathError::Taken));
        assert_eq!(
            routes.add(&format!("{longest}a"), ()),
            Err(PathError::TooLong { length: 100, limit: 99 })
        );
        for bad in ["/a?", "/:8", "/ b", "/\u{e4}", "/a\"", "/x#", "/\n"] {
            assert!(matches!(routes.add(bad, ()), Err(PathError::Character { .. })), "{bad}");
        }
        assert_eq!(routes.iter().count(), 1);
    }
}
