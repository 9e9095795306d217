//! The files of a device key: `NAME.der` for the device, `NAME.pem` for tools, `NAME.pub.pem` for the cloud.

use super::secret::{Public, Secret};
use crate::exit::{Code, Failure};
use crate::files;
use std::path::{Path, PathBuf};

/// The three names. `NAME` may end in `.der`, `.pem` or `.pub.pem`.
pub(super) struct Names {
    pub(super) der: PathBuf,
    pub(super) pem: PathBuf,
    pub(super) public: PathBuf,
}

impl Names {
    pub(super) fn of(name: &Path) -> Self {
        let text = name.as_os_str().to_string_lossy();
        let stem = [".pub.pem", ".pem", ".der"].iter().find_map(|end| text.strip_suffix(end));
        // Only names that end so are changed, so that others keep bytes that are no text.
        let stem = stem.map_or_else(|| name.as_os_str().to_owned(), Into::into);
        let with = |end: &str| {
            let mut path = stem.clone();
            path.push(end);
            PathBuf::from(path)
        };
        Self { der: with(".der"), pem: with(".pem"), public: with(".pub.pem") }
    }

    /// Refuses to go on if one of the files is there.
    pub(super) fn must_be_new(&self, force: bool) -> Result<(), Failure> {
        match [&self.der, &self.pem, &self.public].into_iter().find(|path| path.symlink_metadata().is_ok()) {
            Some(path) if !force => Err(exists(path)),
            _ => Ok(()),
        }
    }

    /// Writes all three. The private ones are readable for the owner only.
    pub(super) fn write(&self, secret: &Secret) -> Result<(), Failure> {
        files::write_secret(&self.pem, secret.private_pem()?.as_bytes())?;
        self.write_public(&secret.public())?;
        files::write_secret(&self.der, secret.der())
    }

    pub(super) fn write_public(&self, public: &Public) -> Result<(), Failure> {
        files::write_atomically(&self.public, public.pem()?.as_bytes())
    }
}

/// A file that must not be overwritten.
pub(super) fn exists(path: &Path) -> Failure {
    Failure::new(
        Code::CantCreate,
        format_args!("{} exists already", path.display()),
        "choose another name, or overwrite it with --force",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_names_come_from_any_of_them() {
        for name in ["a/key", "a/key.der", "a/key.pem", "a/key.pub.pem"] {
            let names = Names::of(Path::new(name));
            assert_eq!(names.der, Path::new("a/key.der"));
            assert_eq!(names.pem, Path::new("a/key.pem"));
            assert_eq!(names.public, Path::new("a/key.pub.pem"));
        }
        assert_eq!(Names::of(Path::new("v1.2")).der, Path::new("v1.2.der"));
    }
}
