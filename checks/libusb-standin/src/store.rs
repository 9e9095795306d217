//! Memories in files, so that they outlive the program under test.

use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::devices::MemoryFile;
use spark_dfu::Status;
use spark_dfu::device::{Memory, Work};
use spark_dfu::layout::MemoryLayout;

/// The memories of a device.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    files: &'static [MemoryFile],
    layouts: &'static [&'static str],
    contents: Vec<Vec<u8>>,
}

impl Store {
    /// Opens the files in a folder; those that are missing are made.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(
        folder: &Path,
        files: &'static [MemoryFile],
        layouts: &'static [&'static str],
    ) -> io::Result<Self> {
        let mut contents = Vec::new();
        for file in files {
            let path = folder.join(file.name);
            if !path.exists() {
                fs::write(&path, (0..file.size).map(file.fresh).collect::<Vec<_>>())?;
            }
            contents.push(fs::read(&path)?);
        }
        Ok(Self { folder: folder.to_owned(), files, layouts, contents })
    }

    /// Does a work item.
    ///
    /// # Errors
    /// The status that the device reports.
    pub fn perform(&mut self, work: &Work<'_>) -> Result<(), Status> {
        match *work {
            Work::Erase { alternate, address } => self.erase(alternate, address),
            Work::MassErase { alternate } | Work::ReadUnprotect { alternate } => {
                let file = self.file(alternate)?;
                let from = usize::try_from(file.writable_from - file.base).map_err(|_| Status::Address)?;
                self.change(alternate, from, file.size - from, |cell, _| *cell = 0xFF)
            }
            Work::Program { alternate, address, data } => {
                let file = self.file(alternate)?;
                if address < file.writable_from {
                    return Err(Status::Write);
                }
                let at = usize::try_from(address - file.base).map_err(|_| Status::Address)?;
                self.change(alternate, at, data.len(), |cell, i| {
                    *cell = if file.nor { *cell & data[i] } else { data[i] };
                })?;
                let written = &self.contents[usize::from(alternate)][at..at + data.len()];
                if written == data { Ok(()) } else { Err(Status::Verify) }
            }
            _ => Ok(()),
        }
    }

    fn erase(&mut self, alternate: u8, address: u32) -> Result<(), Status> {
        let file = self.file(alternate)?;
        if !file.nor {
            return Ok(());
        }
        let layout = MemoryLayout::parse(self.layouts[usize::from(alternate)].as_bytes());
        let page = layout.ok().and_then(|layout| layout.page_at(address)).ok_or(Status::Address)?;
        if page.start < file.writable_from {
            return Err(Status::Erase);
        }
        let at = usize::try_from(page.start - file.base).map_err(|_| Status::Address)?;
        let size = usize::try_from(page.size).map_err(|_| Status::Address)?;
        self.change(alternate, at, size, |cell, _| *cell = 0xFF)
    }

    fn file(&self, alternate: u8) -> Result<&'static MemoryFile, Status> {
        self.files.get(usize::from(alternate)).ok_or(Status::Address)
    }

    /// Changes some bytes in memory and in the file.
    fn change(
        &mut self,
        alternate: u8,
        at: usize,
        len: usize,
        cell: impl Fn(&mut u8, usize),
    ) -> Result<(), Status> {
        let file = self.file(alternate)?;
        let contents = &mut self.contents[usize::from(alternate)];
        let cells = contents.get_mut(at..at.saturating_add(len)).ok_or(Status::Address)?;
        cells.iter_mut().enumerate().for_each(|(i, byte)| cell(byte, i));
        let written =
            fs::OpenOptions::new().write(true).open(self.folder.join(file.name)).and_then(|mut handle| {
                handle.seek(SeekFrom::Start(at as u64))?;
                handle.write_all(cells)
            });
        written.map_err(|_| Status::Unknown)
    }
}

impl Memory for Store {
    fn read(&mut self, alternate: u8, address: u32, out: &mut [u8]) -> usize {
        let Ok(file) = self.file(alternate) else { return 0 };
        let at = address.checked_sub(file.base).and_then(|at| usize::try_from(at).ok());
        let from = at.and_then(|at| self.contents[usize::from(alternate)].get(at..)).unwrap_or_default();
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        len
    }

    fn estimate(&self, work: &Work<'_>) -> Duration {
        Duration::from_millis(match work {
            Work::Erase { .. } => 800,
            Work::MassErase { .. } | Work::ReadUnprotect { .. } => 12_000,
            Work::Manifest { .. } => 300,
            _ => 20,
        })
    }
}
