//! `spark dfu upload`.

use super::candidate::Candidate;
use super::find::{in_dfu_mode, memory, prepare};
use super::finish::{leave, reset};
use super::options::{DfuseOptions, DfuseTarget};
use super::port::Port;
use super::progress::{Bars, keep_going};
use super::{Upload as Args, impossible, job_failed};
use crate::exit::{Code, Failure};
use crate::ui;
use core::time::Duration;
use serde_json::json;
use sha2::{Digest, Sha256};
use spark_dfu::host::{
    Action, HostError, Input, Link, Machine, Progress, ReadPlan, Upload, drive_while, plain,
};
use spark_dfu::layout::MemoryLayout;
use std::io::Write;
use std::path::Path;

/// What is read at a time: memory of the device may be larger than that of the host.
const WINDOW: u32 = 1024 * 1024;
/// The most that a plain device may send: one that never sends a short frame would fill the disk.
const PLAIN_LIMIT: usize = 256 * 1024 * 1024;
/// What is read with `:force` where the memory map says nothing, as dfu-util does.
const UNKNOWN_LEN: u32 = 0x4000;

/// The new file: hidden until it is complete.
struct Output<'p> {
    path: &'p Path,
    /// `None` for standard output.
    file: Option<tempfile::NamedTempFile>,
    digest: Sha256,
    len: u64,
}

impl<'p> Output<'p> {
    fn create(path: &'p Path) -> Result<Self, Failure> {
        let file = if path == Path::new("-") {
            None
        } else {
            if path.exists() {
                return Err(exists(path));
            }
            let folder =
                path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            Some(tempfile::NamedTempFile::new_in(folder).map_err(|error| Failure::writing(path, &error))?)
        };
        Ok(Self { path, file, digest: Sha256::new(), len: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.digest.update(bytes);
        self.len += bytes.len() as u64;
        let result = match &mut self.file {
            Some(file) => file.write_all(bytes),
            None => std::io::stdout().write_all(bytes),
        };
        result.map_err(|error| Failure::writing(self.path, &error))
    }

    fn finish(self) -> Result<(u64, String), Failure> {
        if let Some(file) = self.file {
            file.persist_noclobber(self.path).map_err(|error| match error.error.kind() {
                std::io::ErrorKind::AlreadyExists => exists(self.path),
                _ => Failure::writing(self.path, &error.error),
            })?;
        }
        Ok((self.len, crate::files::hex(&self.digest.finalize())))
    }
}

fn exists(path: &Path) -> Failure {
    Failure::new(
        Code::CantCreate,
        format_args!("{} exists already", path.display()),
        "choose another name or remove it",
    )
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let path = args.file.as_ref().or(args.positional.as_ref());
    let path = path.ok_or_else(|| Failure::new(Code::Usage, "no file", "name the file to make"))?;
    if args.device.json && path == Path::new("-") {
        return Err(Failure::new(
            Code::Usage,
            "--json and the data both go to standard output",
            "name a file",
        ));
    }
    let mut output = Output::create(path)?;
    let dfuse = args.dfuse.unwrap_or_default();
    if dfuse.mass_erase || dfuse.unprotect || dfuse.will_reset {
        return Err(Failure::new(
            Code::Usage,
            "an upload changes nothing",
            "drop all modifiers but leave and force",
        ));
    }
    in_dfu_mode(&args.device, |port, candidate, _| {
        if candidate.link.is_dfuse() {
            read_dfuse(args, dfuse, port, candidate, &mut output)?;
        } else {
            read_plain(args, port, candidate, &mut output)?;
        }
        // What was read is kept before the device is sent away.
        let (len, sha256) = output.finish()?;
        let left = match dfuse.leave && candidate.link.is_dfuse() {
            true => Some(leave(&args.device.ui(), port, candidate.link, dfuse.address)?),
            false => None,
        };
        if args.reset {
            reset(&args.device, port);
        }
        if args.device.json {
            let file = path.display().to_string();
            return ui::print(
                json!({ "device": candidate.to_json(), "file": file, "bytes": len, "sha256": sha256, "leave": left }),
            );
        }
        args.device.ui().line(&format!("{len} bytes read into {}", path.display()));
        Ok(())
    })
}

fn read_dfuse(
    args: &Args,
    dfuse: DfuseOptions,
    port: &mut dyn Port,
    candidate: &Candidate,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let memory = memory(args.alternate.as_deref(), candidate)?;
    let target = DfuseTarget { alternate: memory.alternate, name: &memory.name };
    let layout = memory.layout();
    let first = || layout.as_ref().and_then(|layout| layout.segments().next()).map(|segment| segment.start);
    let Some(address) = dfuse.address else {
        let example = first().unwrap_or(0);
        return Err(Failure::new(
            Code::Usage,
            "an upload from a DfuSe device needs an address",
            format_args!("give it with -s, as in `-s {example:#x}:1024`"),
        ));
    };
    let len = match dfuse.length {
        Some(len) => len,
        None => to_end(layout.as_ref(), address, dfuse.force)?,
    };
    let size = usize::try_from(len).unwrap_or(usize::MAX);
    let whole = match &layout {
        Some(layout) if !dfuse.force => ReadPlan::new(layout, address, size),
        _ => ReadPlan::forced(address, size),
    };
    whole.map_err(|error| impossible(&error, &target))?;
    prepare(port, candidate.link, memory.alternate)?;
    let mut bars = Bars::new(&args.device.ui(), None);
    let mut done = 0;
    while done < len {
        let window = (len - done).min(WINDOW);
        let mut data = vec![0; usize::try_from(window).unwrap_or(0)];
        let plan =
            ReadPlan::forced(address + done, data.len()).map_err(|error| impossible(&error, &target))?;
        let mut upload =
            Upload::new(candidate.link, &plan, &mut data).map_err(|error| impossible(&error, &target))?;
        let before = u64::from(done);
        run_machine(&mut upload, port, candidate.link, |progress| {
            if let Progress::Read { done, .. } = progress {
                bars.take(Progress::Read { done: before + done, total: Some(len.into()) });
            }
        })?;
        output.write(&data)?;
        done += window;
    }
    Ok(())
}

/// Bytes up to the end of the segment.
fn to_end(layout: Option<&MemoryLayout<'_>>, address: u32, force: bool) -> Result<u32, Failure> {
    let unknown = |what: &str| {
        Failure::new(
            Code::Usage,
            format_args!("{what} {address:#010x}"),
            "give the length, as in `-s ADDR:LEN`",
        )
    };
    match layout.and_then(|layout| layout.segment_at(address)) {
        // Only a segment of the whole 4 GiB has no length of 32 bits.
        Some(segment) => u32::try_from(segment.end() - u64::from(address))
            .map_err(|_| unknown("the segment is too long to be read as a whole from")),
        None if force => Ok(UNKNOWN_LEN),
        None => Err(unknown("the memory map does not say where the memory ends that holds")),
    }
}

fn read_plain(
    args: &Args,
    port: &mut dyn Port,
    candidate: &Candidate,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    if args.dfuse.is_some() {
        return Err(Failure::new(
            Code::Usage,
            "the device speaks plain DFU, which knows no addresses",
            "drop -s; the device decides what it sends",
        ));
    }
    let memory = memory(args.alternate.as_deref(), candidate)?;
    let target = DfuseTarget { alternate: memory.alternate, name: &memory.name };
    if !candidate.link.attributes.can_upload() {
        return Err(Failure::new(
            Code::Usage,
            "the device sends nothing (bitCanUpload is 0)",
            "it cannot be read",
        ));
    }
    prepare(port, candidate.link, memory.alternate)?;
    let mut block = vec![0; usize::from(candidate.link.block_size())];
    let upload =
        plain::Upload::new(candidate.link, &mut block).map_err(|error| impossible(&error, &target))?;
    let mut bars = Bars::new(&args.device.ui(), None);
    let mut streamed = Streamed { upload, output, failure: None };
    let result = run_machine(&mut streamed, port, candidate.link, |progress| {
        if let Progress::Read { done, .. } = progress {
            bars.take(Progress::Read { done, total: args.upload_size });
        }
    });
    streamed.failure.map_or(result, Err)
}

/// A plain upload whose blocks go to the file as they come: nobody knows how many there will be.
struct Streamed<'o, 'p, 'b> {
    upload: plain::Upload<'b>,
    output: &'o mut Output<'p>,
    failure: Option<Failure>,
}

impl Machine for Streamed<'_, '_, '_> {
    fn action(&self) -> Action<'_> {
        self.upload.action()
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) -> Result<Option<Progress>, HostError> {
        let result = self.upload.handle(now, input);
        let bytes = self.upload.take_received();
        if self.failure.is_none() && !bytes.is_empty() {
            let written = match self.output.len.saturating_add(bytes.len() as u64) {
                len if len > PLAIN_LIMIT as u64 => {
                    Err(job_failed(&HostError::UploadTooLong { capacity: PLAIN_LIMIT }))
                }
                _ => self.output.write(bytes),
            };
            if let Err(failure) = written {
                self.failure = Some(failure);
                self.upload.cancel();
            }
        }
        result
    }

    fn cancel(&mut self) {
        self.upload.cancel();
    }
}

fn run_machine(
    machine: &mut dyn Machine,
    port: &mut dyn Port,
    link: Link,
    on_progress: impl FnMut(Progress),
) -> Result<(), Failure> {
    let mut block = vec![0; usize::from(link.block_size())];
    drive_while(machine, port, &mut block, on_progress, keep_going).map_err(|error| job_failed(&error))
}
