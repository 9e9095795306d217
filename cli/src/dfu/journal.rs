//! The file of `--journal`: one record for each memory of the job, in the order of the job.

use crate::exit::{Code, Failure, chain};
use crate::files;
use spark_dfu::host::Journal;
use std::fs;
use std::path::{Path, PathBuf};

/// The records, and where they are kept.
pub(super) struct JournalFile<'p> {
    path: Option<&'p Path>,
    records: Vec<Journal>,
}

impl<'p> JournalFile<'p> {
    /// Reads what an earlier job left; nothing if there is no file.
    pub(super) fn open(path: Option<&'p Path>, image: u32) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self { path, records: Vec::new() }) };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Failure::reading(path, &error)),
        };
        let records: Result<Vec<_>, _> = bytes.chunks(Journal::ENCODED_LEN).map(Journal::parse).collect();
        let unusable = |what: &dyn core::fmt::Display| {
            Failure::new(
                Code::Data,
                format_args!("{}: {what}", path.display()),
                "remove the journal to start the job anew",
            )
        };
        let records = records.map_err(|error| unusable(&chain(&error)))?;
        if records.iter().any(|record| record.image() != image) {
            return Err(unusable(&"the journal belongs to another file or another device"));
        }
        Ok(Self { path: Some(path), records })
    }

    /// Where another file of the same job goes: beside the journal, or into the current folder.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.path.and_then(Path::parent).map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
    }

    /// The record of the nth memory.
    pub(super) fn record(&self, number: usize) -> Option<&Journal> {
        self.records.get(number)
    }

    /// Keeps a record if it says something new.
    pub(super) fn keep(&mut self, number: usize, record: Journal) -> Result<(), Failure> {
        let Some(path) = self.path else { return Ok(()) };
        match self.records.get_mut(number) {
            Some(old) if *old == record => return Ok(()),
            Some(old) => *old = record,
            None => self.records.push(record),
        }
        let bytes: Vec<u8> = self.records.iter().flat_map(Journal::to_bytes).collect();
        files::write_atomically(path, &bytes)
    }

    /// The job is done.
    pub(super) fn remove(&self) -> Result<(), Failure> {
        match self.path.map(fs::remove_file) {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::writing(self.path.unwrap_or(Path::new("")), &error))
            }
            _ => Ok(()),
        }
    }
}
