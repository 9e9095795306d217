//! Small file work that must not lose anything.

use crate::exit::{Code, Failure};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Writes a file so that a reader sees the old or the new content, never a part: beside it first, then renamed. A link to a
/// file stays one.
///
/// # Errors
/// [`Failure`] that names the file; [`Code::CantCreate`] if it is there and no file.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Failure> {
    replace(path, content, None)
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
/// As [`write_atomically`].
pub fn write_secret(path: &Path, content: &[u8]) -> Result<(), Failure> {
    replace(path, content, Some(0o600))
}

/// Whether [`write_atomically`] or [`write_secret`] could write this file now. It shows by a temporary file in the same
/// folder, which is gone afterwards.
///
/// # Errors
/// As [`write_atomically`].
pub fn check_write(path: &Path) -> Result<(), Failure> {
    write_beside(&replaceable(path)?, &[], None).map(|_| ())
}

/// As [`write_secret`], or [`check_write`] if it is a `dry_run`.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_secret_unless(dry_run: bool, path: &Path, content: &[u8]) -> Result<(), Failure> {
    if dry_run { check_write(path) } else { write_secret(path, content) }
}

fn replace(path: &Path, content: &[u8], mode: Option<u32>) -> Result<(), Failure> {
    let place = replaceable(path)?;
    let file = write_beside(&place, content, mode)?;
    file.persist(&place).map_err(|error| Failure::writing(path, &error.error))?;
    Ok(())
}

/// Whether a path means standard output, where a command can write to it.
#[must_use]
pub fn is_standard_output(path: &Path) -> bool {
    path == Path::new("-")
}

/// The file that takes the place of `path`. A rename would put it in the place of a link, a pipe or a device as well.
fn replaceable(path: &Path) -> Result<PathBuf, Failure> {
    if is_standard_output(path) {
        let next = "name a file; ./- is one of that name";
        return Err(Failure::new(Code::Usage, "- is standard output, and this needs a file", next));
    }
    let refused = |what: &str| {
        let next = "name a file, or remove what is there";
        Failure::new(Code::CantCreate, format_args!("{} is {what}; it stays", path.display()), next)
    };
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(path.to_owned()),
        Err(error) => return Err(Failure::writing(path, &error)),
        Ok(found) => found,
    };
    match found.file_type() {
        kind if kind.is_file() => Ok(path.to_owned()),
        kind if kind.is_dir() => Err(refused("a folder")),
        kind if kind.is_symlink() => match path.metadata() {
            Ok(target) if target.is_file() => {
                path.canonicalize().map_err(|error| Failure::writing(path, &error))
            }
            Ok(_) => Err(refused("a link to something that is no file")),
            Err(_) => Err(refused("a link to nothing")),
        },
        _ => Err(refused("no file but a pipe, a socket or a device")),
    }
}

/// Opens a file that grows at its end, readable for the owner only.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn open_secret(path: &Path) -> Result<std::fs::File, Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path).map_err(|error| Failure::writing(path, &error))
}

fn write_beside(path: &Path, content: &[u8], mode: Option<u32>) -> Result<tempfile::NamedTempFile, Failure> {
    let failure = |error: &std::io::Error| Failure::writing(path, error);
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary_in(folder).map_err(|error| failure(&error))?;
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

/// A file of its own, readable for the owner only from the start. Errors are those of the system, without the name of a file
/// that nobody knows.
fn temporary_in(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().make_in(folder, |path| {
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        options.open(path)
    })
}

/// Reads a file.
///
/// # Errors
/// [`Failure`] that names the file.
pub fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::reading(path, &error))
}

/// Reads a file or pipe that has at most `limit` bytes; of a longer one, no more than that is read.
///
/// # Errors
/// [`Failure`] that names the file: [`Code::Data`] if it is longer, else as [`read`].
pub fn read_up_to(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let failure = |error: &std::io::Error| Failure::reading(path, error);
    let file = std::fs::File::open(path).map_err(|error| failure(&error))?;
    let expected = file.metadata().map_or(0, |metadata| metadata.len()).min(limit);
    read_some(file, expected, limit, path)
}

/// As [`read_up_to`]; `-` is standard input.
///
/// # Errors
/// As [`read_up_to`].
pub fn read_input_up_to(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    if path == Path::new("-") {
        return read_some(std::io::stdin().lock(), limit, limit, Path::new("standard input"));
    }
    read_up_to(path, limit)
}

fn read_some(input: impl Read, expected: u64, limit: u64, path: &Path) -> Result<Vec<u8>, Failure> {
    // The content may be secret: it should not be left behind by a vector that grows.
    let mut content = Vec::with_capacity(usize::try_from(expected).unwrap_or(0).saturating_add(1));
    let read = input.take(limit.saturating_add(1)).read_to_end(&mut content);
    read.map_err(|error| Failure::reading(path, &error))?;
    if content.len() as u64 > limit {
        return Err(Failure::new(
            Code::Data,
            format_args!("{} has more than the {limit} bytes that fit here", path.display()),
            "give the right file; `spark inspect` says what a file is",
        ));
    }
    Ok(content)
}

/// Whether [`make_folder`] could make this folder now, if it is not there.
///
/// # Errors
/// As [`make_folder`].
pub fn check_folder(path: &Path) -> Result<(), Failure> {
    let there = path.ancestors().find(|above| above.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
    if !there.is_dir() {
        // It fails before it makes anything.
        return make_folder(path);
    }
    if there == path {
        return Ok(());
    }
    temporary_in(there).map(|_| ()).map_err(|error| Failure::writing(path, &error))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_read_up_to_its_limit_and_refused_above_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seven");
        std::fs::write(&path, b"1234567").unwrap();
        assert_eq!(read_up_to(&path, 8).unwrap(), b"1234567");
        assert_eq!(read_up_to(&path, 7).unwrap(), b"1234567");
        let refused = read_up_to(&path, 6).unwrap_err();
        assert_eq!(refused.code(), Code::Data);
        assert!(refused.what().contains("seven") && refused.what().contains("6 bytes"), "{refused}");
        assert_eq!(read_up_to(&folder.path().join("none"), 6).unwrap_err().code(), Code::NoInput);
    }

    /// A rename takes the place of whatever is there.
    #[cfg(unix)]
    #[test]
    fn only_files_are_replaced_and_links_to_them_stay() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(std::process::Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        symlink(at("pipe"), at("to-pipe")).unwrap();
        symlink(at("nowhere"), at("to-nothing")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        for write in [write_atomically, write_secret] {
            for name in ["pipe", "to-pipe", "to-nothing", "folder"] {
                assert_eq!(write(&at(name), b"new").unwrap_err().code(), Code::CantCreate, "{name}");
            }
            assert!(at("pipe").symlink_metadata().unwrap().file_type().is_fifo());
            assert!(at("to-nothing").is_symlink() && !at("nowhere").exists());
        }
        std::fs::write(at("file"), b"old").unwrap();
        symlink("file", at("link")).unwrap();
        write_secret(&at("link"), b"new").unwrap();
        assert!(at("link").is_symlink());
        assert_eq!(std::fs::read(at("file")).unwrap(), b"new");
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 6, "nothing is left beside them");
    }

    #[cfg(unix)]
    #[test]
    fn endless_file_is_refused_without_reading_all_of_it() {
        let refused = read_up_to(Path::new("/dev/zero"), 4096).unwrap_err();
        assert_eq!(refused.code(), Code::Data);
    }
}
