//! Small file work that must not lose anything.

use crate::exit::Failure;
use std::io::Write;
use std::path::Path;

/// Writes a file so that a reader sees the old or the new content, never a part: beside it first, then renamed.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Failure> {
    write_beside(path, content, None)?.persist(path).map_err(|error| Failure::writing(path, &error.error))?;
    Ok(())
}

/// As [`write_atomically`], but only if there is no such file yet; `false` if there is.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn write_if_new(path: &Path, content: &[u8]) -> Result<bool, Failure> {
    match write_beside(path, content, None)?.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Failure::writing(path, &error.error)),
    }
}

/// As [`write_atomically`], readable for the owner only.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn write_secret(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let file = write_beside(path, content, Some(0o600))?;
    file.persist(path).map_err(|error| Failure::writing(path, &error.error))?;
    Ok(())
}

fn write_beside(path: &Path, content: &[u8], mode: Option<u32>) -> Result<tempfile::NamedTempFile, Failure> {
    let failure = |error: &std::io::Error| Failure::writing(path, error);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Temporary files are readable for the owner only from the start.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failure(&error))?;
    file.write_all(content).and_then(|()| file.as_file().sync_all()).map_err(|error| failure(&error))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::Permissions::from_mode(mode.unwrap_or(0o644));
        std::fs::set_permissions(file.path(), permissions).map_err(|error| failure(&error))?;
    }
    #[cfg(not(unix))]
    let _ = mode;
    Ok(file)
}

/// Reads a file.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::reading(path, &error))
}

/// Makes a folder and those above it.
///
/// # Errors
/// [`Failure`] that names the folder.
pub fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| Failure::writing(path, &error))
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 in lower-case hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(bytes))
}
