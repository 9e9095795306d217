//! `spark inspect`: says what a file is, whether it is good, and what is in it.
//!
//! A file is read once, front to back, in pieces: `Scan` feeds every piece to the machines of all kinds and keeps what
//! they find, so that standard input and files larger than memory work alike. Then one kind explains.

mod dct;
mod dfu_suffix;
mod dfuse;
mod esp8266;
mod key;
mod memory_layout;
mod module;
mod report;

use crate::exit::{Code, Failure};
use crate::keys::place::may_be_of_a_device;
use crate::ui;
use core::fmt::Write as _;
use report::{Fields, Problem, Report, Unknown};
use spark_dfu::file::dfuse::{PREFIX_LEN, SIGNATURE, TARGET_SIGNATURE};
use spark_dfu::file::suffix::{DFUSE_VERSION, SuffixDigest, SuffixError};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Says what a file is, whether it is good, and what is in it.
///
/// Exit code 0: the file is good. 65: it is not; what could be read is shown all the same, with every problem, where it
/// is and what it means.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file; - is standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// What the file should be; without it, the kind is recognised.
    #[arg(long = "as", value_name = "KIND", value_enum)]
    pub kind: Option<Kind>,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    pub json: bool,
}

/// The kinds of files that can be explained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
#[non_exhaustive]
pub enum Kind {
    /// Firmware with a DFU suffix, perhaps with a TI or NXP prefix.
    DfuSuffix,
    /// ST DfuSe file, usually .dfu.
    Dfuse,
    /// Memory-layout string of a DfuSe device, as text.
    MemoryLayout,
    /// Private key of a device or server, PEM or DER, or a device's place of it.
    #[value(alias = "key")]
    PrivateKey,
    /// Public key, PEM or DER.
    PublicKey,
    /// A server's public key and its address, as in a device.
    ServerKeyRegion,
    /// Application section of the Device Configuration Table.
    DctApp,
    /// Both flash sectors of the Device Configuration Table, or the whole flash of a Photon, P1 or Electron.
    DctFlash,
    /// Firmware module: bootloader, system part, application, asset; also several in one file.
    Module,
    /// Application and its assets, .zip.
    ModuleBundle,
    /// Program for the ESP8266, as Sonoff devices download it.
    Esp8266Image,
}

/// How much of the start of a file is kept.
const HEAD_LIMIT: usize = 64 * 1024;
const PIECE: usize = 64 * 1024;
/// How long a file may be of which all is kept. No module is longer.
const WHOLE_LIMIT: usize = 16 << 20;

/// Everything one pass over a file finds. The file may be a private key.
struct Scan {
    /// Up to [`HEAD_LIMIT`] bytes.
    head: Vec<u8>,
    /// Up to [`WHOLE_LIMIT`] bytes.
    start: Vec<u8>,
    suffix: SuffixDigest,
    dfuse: dfuse::Scan,
}

impl Scan {
    fn read(mut input: impl Read, path: &Path) -> Result<Self, Failure> {
        let mut scan = Self {
            head: Vec::new(),
            start: Vec::new(),
            suffix: SuffixDigest::new(),
            dfuse: dfuse::Scan::new(),
        };
        let mut buffer = vec![0; PIECE];
        loop {
            let len = match input.read(&mut buffer) {
                Ok(0) => return Ok(scan),
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::reading(path, &error)),
            };
            let piece = buffer.get(..len).unwrap_or_default();
            for (kept, limit) in [(&mut scan.head, HEAD_LIMIT), (&mut scan.start, WHOLE_LIMIT)] {
                let room = limit.saturating_sub(kept.len());
                kept.extend_from_slice(piece.get(..room).unwrap_or(piece));
            }
            scan.suffix.update(piece);
            scan.dfuse.update(piece);
        }
    }

    fn len(&self) -> u64 {
        self.suffix.file_len()
    }

    /// All of the file, unless it is too long to be kept.
    fn whole(&self) -> Option<&[u8]> {
        (self.start.len() as u64 == self.len()).then_some(&self.start)
    }

    /// The kind that the bytes point to, damaged or not.
    fn recognise(&self) -> Option<Kind> {
        let suffix = self.suffix.finish();
        let says_dfuse = matches!(&suffix, Ok(found) if found.suffix.bcd_dfu == DFUSE_VERSION);
        let has_target =
            self.head.get(PREFIX_LEN..).is_some_and(|targets| targets.starts_with(&TARGET_SIGNATURE));
        if self.head.starts_with(&SIGNATURE) || says_dfuse && has_target {
            return Some(Kind::Dfuse);
        }
        if suffix.as_ref().map_or_else(SuffixError::is_damage, |_| true) || dfu_suffix::has_sure_prefix(self)
        {
            return Some(Kind::DfuSuffix);
        }
        if dct::looks_like_flash(self) {
            return Some(Kind::DctFlash);
        }
        if dct::looks_like_app(self) {
            return Some(Kind::DctApp);
        }
        if let Some(look) = key::look(self) {
            return Some(match look {
                key::Look::Private => Kind::PrivateKey,
                key::Look::Public => Kind::PublicKey,
                key::Look::Region => Kind::ServerKeyRegion,
            });
        }
        if module::looks_like_bundle(self) {
            return Some(Kind::ModuleBundle);
        }
        if module::looks_like_module(self) {
            return Some(Kind::Module);
        }
        if esp8266::looks_like_image(self) {
            return Some(Kind::Esp8266Image);
        }
        (self.head.starts_with(b"@") && self.head.contains(&b'/')).then_some(Kind::MemoryLayout)
    }
}

/// Runs the command.
///
/// # Errors
/// [`Failure`] if the file cannot be read; a bad file is exit code 65 without an error.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let scan = if args.file.as_os_str() == "-" {
        Scan::read(std::io::stdin().lock(), Path::new("standard input"))?
    } else {
        let file = File::open(&args.file).map_err(|error| Failure::reading(&args.file, &error))?;
        Scan::read(file, &args.file)?
    };
    let report = explain(&scan, args.kind, args.file.display().to_string());
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(Code::Software, error, "report this as a fault of the program"))?;
        ui::print(text)?;
    } else {
        ui::print(&report)?;
    }
    Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::from(Code::Data as u8) })
}

/// The kind of a file that is no key, if it is recognised.
pub(crate) fn name_of_other_kind(content: &[u8]) -> Option<String> {
    let kind = Scan::read(content, Path::new("")).ok()?.recognise()?;
    let is_key = matches!(kind, Kind::PrivateKey | Kind::PublicKey | Kind::ServerKeyRegion);
    let name = clap::ValueEnum::to_possible_value(&kind)?.get_name().to_owned();
    (!is_key).then_some(name)
}

fn explain(scan: &Scan, kind: Option<Kind>, file: String) -> Report {
    let (kind, (problems, fields)) = match kind.or_else(|| scan.recognise()) {
        Some(Kind::DfuSuffix) => ("dfu-suffix", dfu_suffix::explain(scan)),
        Some(Kind::Dfuse) => ("dfuse", dfuse::explain(scan)),
        Some(Kind::MemoryLayout) => ("memory-layout", memory_layout::explain(scan)),
        Some(Kind::PrivateKey) => ("private-key", key::private(scan)),
        Some(Kind::PublicKey) => ("public-key", key::public(scan)),
        Some(Kind::ServerKeyRegion) => ("server-key-region", key::region(scan)),
        Some(Kind::DctApp) => ("dct-app", dct::explain_app(scan)),
        Some(Kind::DctFlash) => ("dct-flash", dct::explain_flash(scan)),
        Some(Kind::Module) => ("module", module::explain(scan)),
        Some(Kind::ModuleBundle) => ("module-bundle", module::explain_bundle(scan)),
        Some(Kind::Esp8266Image) => ("esp8266-image", esp8266::explain(scan)),
        None => ("unknown", unknown(scan, &file)),
    };
    Report { file, kind, valid: problems.is_empty(), problems, fields }
}

fn unknown(scan: &Scan, file: &str) -> (Vec<Problem>, Fields) {
    let mut message = "the file is none of the known kinds: no DFU suffix, no DfuSe file, no memory-layout string, no key, no \
                   configuration table, no module, no ESP8266 image; a raw image looks like this; --as KIND says what is missing for a kind"
        .to_owned();
    if scan.whole().is_some_and(may_be_of_a_device) {
        let file = if file == "-" { "FILE" } else { file };
        let _ = write!(
            message,
            "; it may be the place of a device's key: `spark keys check {file}` says what a device makes of it"
        );
    }
    (vec![Problem::new("unknown-kind", message, None)], Fields::Unknown(Unknown { size: scan.len() }))
}
