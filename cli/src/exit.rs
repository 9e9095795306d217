//! How the program ends: one error type with the exit codes of sysexits(3), each error saying what to do next.

use core::fmt;
use std::path::Path;
use std::process::ExitCode;

/// Exit codes, named as in sysexits(3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Code {
    /// `EX_USAGE`: the arguments do not fit each other or the device.
    Usage = 64,
    /// `EX_DATAERR`: a file or the device's data is wrong.
    Data = 65,
    /// `EX_NOINPUT`: a file is missing or unreadable.
    NoInput = 66,
    /// `EX_UNAVAILABLE`: the peer is not there.
    Unavailable = 69,
    /// `EX_SOFTWARE`: the program is wrong.
    Software = 70,
    /// `EX_CANTCREAT`: the output file exists already.
    CantCreate = 73,
    /// `EX_IOERR`: reading, writing or the network failed.
    Io = 74,
    /// `EX_PROTOCOL`: the peer broke the protocol.
    Protocol = 76,
}

/// An error for a person: what happened where, and what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    code: Code,
    what: String,
    next: String,
}

impl Failure {
    /// An error with the next step.
    pub fn new(code: Code, what: impl fmt::Display, next: impl fmt::Display) -> Self {
        Self { code, what: what.to_string(), next: next.to_string() }
    }

    /// A file that cannot be read.
    #[must_use]
    pub fn reading(path: &Path, error: &std::io::Error) -> Self {
        let code = if error.kind() == std::io::ErrorKind::NotFound { Code::NoInput } else { Code::Io };
        Self::new(
            code,
            format_args!("cannot read {}: {error}", path.display()),
            "check the path and its permissions",
        )
    }

    /// A file or folder that cannot be written.
    #[must_use]
    pub fn writing(path: &Path, error: &std::io::Error) -> Self {
        Self::new(
            Code::Io,
            format_args!("cannot write {}: {error}", path.display()),
            "check the folder, its permissions and the free space",
        )
    }

    /// What happened.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> &str {
        &self.next
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.code
    }

    /// For `main`.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code as u8)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  next: {}", self.what, self.next)
    }
}

impl core::error::Error for Failure {}

/// An error chain in one line: `outer: inner: innermost`.
#[must_use]
pub fn chain(error: &dyn core::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
