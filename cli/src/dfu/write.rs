//! Writing one memory, with its journal and with a copy of what is kept.

use super::job_failed;
use super::journal::JournalFile;
use super::port::Port;
use super::progress::{Bars, Counts, keep_going};
use crate::exit::{Code, Failure};
use crate::files;
use core::time::Duration;
use spark_dfu::host::{
    Action, Download, HostError, Image, Input, Link, Machine, Progress, Unit, drive_while,
};
use std::fs;
use std::path::PathBuf;

/// Writes one memory and returns what was done. `number` is that of its record in the journal.
pub(super) fn write<I: Image>(
    download: Download<'_, I, Vec<u8>>,
    link: Link,
    port: &mut dyn Port,
    mut bars: Bars,
    (journal, number, image): (&mut JournalFile<'_>, usize, u32),
) -> Result<Counts, Failure> {
    let (total, before) = (download.total(), download.written());
    let mut guarded = Guarded { download, journal, number, image, page: None, failure: None };
    let mut block = vec![0; usize::from(link.block_size())];
    let result = drive_while(&mut guarded, port, &mut block, |progress| bars.take(progress), keep_going);
    if let Some(failure) = guarded.failure {
        return Err(failure);
    }
    result.map_err(|error| match &guarded.page {
        Some(page) => page.lost(&error),
        None => job_failed(&error),
    })?;
    // Blank blocks are on the device although they were not sent.
    let bytes_written = total.saturating_sub(before).saturating_sub(bars.counts.bytes_unchanged);
    Ok(Counts { bytes_written, ..bars.counts })
}

/// A download that leaves what is needed to go on in files, whatever happens to this program.
struct Guarded<'j, 'p, 'f, I> {
    download: Download<'p, I, Vec<u8>>,
    journal: &'j mut JournalFile<'f>,
    number: usize,
    image: u32,
    page: Option<KeptPage>,
    failure: Option<Failure>,
}

/// The copy of a page whose other content is kept, from before its erase to its end.
struct KeptPage {
    unit: Unit,
    path: PathBuf,
}

impl KeptPage {
    fn lost(&self, error: &HostError) -> Failure {
        let Unit { start, .. } = self.unit;
        Failure::new(
            Code::Io,
            format_args!("{}; the page at {start:#x} is not complete", job_failed(error).what()),
            format_args!(
                "all that it has to hold is in {0}: write that back with `spark dfu download {0} -s {start:#x}`, remove the journal if there is one, then repeat the command",
                self.path.display()
            ),
        )
    }
}

impl<I: Image> Guarded<'_, '_, '_, I> {
    /// Saves a page before its erase is sent, and forgets it when the page is complete.
    fn guard_page(&mut self) -> Result<(), Failure> {
        match (self.download.kept_page(), &self.page) {
            (Some((unit, content)), None) => {
                let path = self.journal.beside(&format!("spark-page-{:08x}.bin", unit.start));
                files::write_secret(&path, content)?;
                self.page = Some(KeptPage { unit, path });
            }
            (None, Some(KeptPage { path, .. })) => {
                fs::remove_file(path).map_err(|error| Failure::writing(path, &error))?;
                self.page = None;
            }
            _ => {}
        }
        Ok(())
    }

    fn guard(&mut self) -> Result<(), Failure> {
        self.guard_page()?;
        self.journal.keep(self.number, self.download.journal(self.image))
    }
}

impl<I: Image> Machine for Guarded<'_, '_, '_, I> {
    fn action(&self) -> Action<'_> {
        // What cannot be saved is not begun.
        if self.failure.is_some() && self.page.is_none() { Action::Finished } else { self.download.action() }
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let result = self.download.handle(now, input);
        if self.failure.is_none()
            && let Err(failure) = self.guard()
        {
            self.failure = Some(failure);
            self.download.cancel();
        }
        result
    }

    fn cancel(&mut self) {
        self.download.cancel();
    }
}
