//! The file of a download, read in pieces: it may be larger than memory.

use crate::exit::{Code, Failure, chain};
use sha2::{Digest, Sha256};
use spark_dfu::file::dfuse::{Event, ParseOptions, Reader};
use spark_dfu::file::prefix::Prefix;
use spark_dfu::file::suffix::{FoundSuffix, Suffix, SuffixDigest};
use spark_dfu::host::{Image, Span, Unreadable};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const PIECE: usize = 64 * 1024;
/// Offset of "Target" in a DfuSe file.
const FIRST_TARGET: usize = 11;

/// A checked file.
pub(super) struct Firmware {
    file: File,
    content: Content,
    suffix: Option<Suffix>,
    /// SHA-256 of the whole file.
    digest: [u8; 32],
}

enum Content {
    /// Everything before the suffix.
    Plain { len: u64, prefix: u64 },
    /// A DfuSe file.
    DfuSe(Vec<Target>),
}

/// What a DfuSe file has for one alternate setting.
struct Target {
    alternate: u8,
    pieces: Vec<Piece>,
}

/// Bytes of the file and where they go.
#[derive(Clone, Copy)]
struct Piece {
    span: Span,
    offset: u64,
}

impl Firmware {
    /// Reads and checks a file; `-` is standard input, which is copied to a temporary file first.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let unreadable = |error: &std::io::Error| Failure::reading(path, error);
        let mut file = if path == Path::new("-") {
            let mut copy = tempfile::tempfile().map_err(|error| unreadable(&error))?;
            std::io::copy(&mut std::io::stdin().lock(), &mut copy).map_err(|error| unreadable(&error))?;
            copy
        } else {
            File::open(path).map_err(|error| unreadable(&error))?
        };
        let damaged = |what: &dyn core::error::Error| {
            Failure::new(
                Code::Data,
                format_args!("{}: {}", path.display(), chain(what)),
                "get the file again; `spark inspect` shows what is wrong with it",
            )
        };
        let mut digest = SuffixDigest::new();
        let mut fingerprint = Sha256::new();
        let mut head = Vec::new();
        let all = |file: &mut File, take: &mut dyn FnMut(&[u8])| -> Result<(), Failure> {
            pieces(file, take).map_err(|error| unreadable(&error))
        };
        all(&mut file, &mut |piece| {
            digest.update(piece);
            fingerprint.update(piece);
            head.extend(piece.iter().take(32_usize.saturating_sub(head.len())));
        })?;
        let suffix = digest.finish();
        if let Err(error) = &suffix
            && error.is_damage()
        {
            return Err(damaged(error));
        }
        let found = suffix.ok();
        let says_dfuse = found.is_some_and(|found| found.suffix.bcd_dfu == 0x011A)
            && head.get(FIRST_TARGET..).is_some_and(|rest| rest.starts_with(b"Target"));
        let content = if head.starts_with(b"DfuSe") || says_dfuse {
            let mut reader = Reader::new(ParseOptions::STRICT);
            let mut targets = Vec::new();
            let mut outcome = Ok(());
            all(&mut file, &mut |mut piece| {
                while outcome.is_ok() {
                    match reader.read(&mut piece) {
                        Ok(Some(event)) => note(event, &mut targets),
                        Ok(None) => break,
                        Err(error) => outcome = Err(error),
                    }
                }
            })?;
            outcome.and_then(|()| reader.finish().map(|_| ())).map_err(|error| damaged(&error))?;
            Content::DfuSe(targets)
        } else {
            let len = found.map_or(digest.file_len(), |found| found.content_len);
            Content::Plain { len, prefix: prefix_len(&head, len, found) }
        };
        let digest = fingerprint.finalize().into();
        Ok(Self { file, content, suffix: found.map(|found| found.suffix), digest })
    }

    /// A number that tells files and devices apart.
    pub(super) fn fingerprint(&self, device: &str) -> u32 {
        let mut digest = Sha256::new();
        digest.update(self.digest);
        digest.update(device);
        let [a, b, c, d, ..]: [u8; 32] = digest.finalize().into();
        u32::from_le_bytes([a, b, c, d])
    }

    /// What the suffix says, if there is one.
    pub(super) const fn suffix(&self) -> Option<&Suffix> {
        self.suffix.as_ref()
    }

    pub(super) const fn is_dfuse(&self) -> bool {
        matches!(self.content, Content::DfuSe(_))
    }

    /// Bytes that plain DFU sends: all but the suffix.
    pub(super) const fn plain_len(&self) -> u64 {
        match self.content {
            Content::Plain { len, .. } => len,
            Content::DfuSe(_) => 0,
        }
    }

    /// The alternate settings that a DfuSe file has something for, ascending.
    pub(super) fn alternates(&self) -> Vec<u8> {
        let Content::DfuSe(targets) = &self.content else { return Vec::new() };
        let mut all: Vec<_> = targets.iter().map(|target| target.alternate).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Where the bytes for one alternate setting go. A raw or plain file goes to `address`, without its prefix.
    pub(super) fn spans(&self, alternate: u8, address: Option<u32>) -> Result<Vec<Span>, Failure> {
        Ok(self.pieces(alternate, address)?.iter().map(|piece| piece.span).collect())
    }

    fn pieces(&self, alternate: u8, address: Option<u32>) -> Result<Vec<Piece>, Failure> {
        match &self.content {
            Content::DfuSe(targets) => Ok(targets
                .iter()
                .filter(|target| target.alternate == alternate)
                .flat_map(|target| target.pieces.iter().copied())
                .filter(|piece| piece.span.len > 0)
                .collect()),
            Content::Plain { len, prefix } => {
                let start = address.unwrap_or(0);
                let bytes = usize::try_from(len - prefix).unwrap_or(usize::MAX);
                let span = Span::new(start, bytes).map_err(|error| {
                    Failure::new(Code::Usage, chain(&error), "check the address and the file")
                })?;
                Ok(vec![Piece { span, offset: *prefix }])
            }
        }
    }

    /// The bytes for one alternate setting, by address.
    pub(super) fn image(&self, alternate: u8, address: Option<u32>) -> Result<FileImage<'_>, Failure> {
        Ok(FileImage { file: &self.file, pieces: self.pieces(alternate, address)? })
    }

    /// The bytes that plain DFU sends, by offset.
    pub(super) fn plain_image(&self) -> FileImage<'_> {
        let len = u32::try_from(self.plain_len()).unwrap_or(u32::MAX);
        FileImage { file: &self.file, pieces: vec![Piece { span: Span { address: 0, len }, offset: 0 }] }
    }
}

/// Only what cannot be a coincidence: one raw file in 4096 begins like an LPC prefix.
fn prefix_len(head: &[u8], len: u64, found: Option<FoundSuffix>) -> u64 {
    if found.is_none() {
        return 0;
    }
    match Prefix::recognise(head, len) {
        Ok(Prefix::Lmdfu { .. }) => 8,
        Ok(Prefix::Lpc) if head.get(4..16) == Some(&[0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]) => 16,
        _ => 0,
    }
}

fn note(event: Event<'_>, targets: &mut Vec<Target>) {
    match event {
        Event::Target(prefix) => targets.push(Target { alternate: prefix.alternate(), pieces: Vec::new() }),
        Event::Element { offset, address, size } => {
            if let Some(target) = targets.last_mut() {
                let span = Span { address, len: size };
                target.pieces.push(Piece { span, offset: offset.saturating_add(8) });
            }
        }
        _ => {}
    }
}

/// Hands out a file from its start to its end.
fn pieces(file: &mut File, take: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; PIECE];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => take(buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Bytes of a file by their addresses on the device.
pub(super) struct FileImage<'f> {
    file: &'f File,
    pieces: Vec<Piece>,
}

impl Image for FileImage<'_> {
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), Unreadable> {
        let mut at = u64::from(address);
        let mut out = out;
        while !out.is_empty() {
            let unreadable = Unreadable { address: u32::try_from(at).unwrap_or(u32::MAX) };
            let holds = |piece: &&Piece| u64::from(piece.span.address) <= at && at < piece.span.end();
            let piece = self.pieces.iter().find(holds).ok_or(unreadable)?;
            let left = usize::try_from(piece.span.end() - at).unwrap_or(usize::MAX).min(out.len());
            let (now, rest) = out.split_at_mut_checked(left).ok_or(unreadable)?;
            let offset = piece.offset + (at - u64::from(piece.span.address));
            let mut file = self.file;
            file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(now)).map_err(|_| unreadable)?;
            at += now.len() as u64;
            out = rest;
        }
        Ok(())
    }
}
