//! What a person sees: numbered steps, notes and progress bars, all on standard error.
//!
//! Standard output is for results. With `--json` nothing but the result is shown.

use crate::exit::Failure;
use core::fmt;
use core::time::Duration;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::path::Path;

/// Says a line to the person. Nobody listening is no reason to stop.
pub fn say(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints a line of the result. A reader that has gone away has seen enough.
///
/// # Errors
/// [`Failure`] if standard output cannot be written for another reason, such as a full disk.
pub fn print(text: impl fmt::Display) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::writing(Path::new("standard output"), &error))
        }
        _ => Ok(()),
    }
}

/// Writes bytes to standard output, as they are.
///
/// # Errors
/// [`Failure`]; a reader that has gone away has seen enough.
pub fn write(bytes: &[u8]) -> Result<(), Failure> {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::writing(Path::new("standard output"), &error))
        }
        _ => Ok(()),
    }
}

/// Where steps and progress go.
#[derive(Clone, Debug)]
pub struct Ui {
    quiet: bool,
}

impl Ui {
    /// `quiet` shows nothing.
    #[must_use]
    pub const fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// A numbered step of a story.
    pub fn step(&self, number: u8, title: &str) {
        self.line(&format!("\n{number}. {title}"));
    }

    /// One line below a step.
    pub fn note(&self, text: impl fmt::Display) {
        self.line(&format!("   {text}"));
    }

    /// One line.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    /// Several bars below each other.
    #[must_use]
    pub fn bars(&self) -> MultiProgress {
        MultiProgress::with_draw_target(self.target())
    }

    fn target(&self) -> ProgressDrawTarget {
        if self.quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        }
    }

    /// A bar over `length` units of work. It disappears when it is finished; without a terminal it is not drawn.
    #[must_use]
    pub fn bar(&self, what: &str, length: u64) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(length), self.target());
        let style = ProgressStyle::with_template("   {msg:28} [{bar:32}] {pos}/{len} {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}
