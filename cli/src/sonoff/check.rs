//! `spark sonoff check`.

use super::LIMIT;
use crate::exit::{Code, Failure};
use crate::files;
use crate::ui;
use core::fmt;
use serde::Serialize;
use spark_ota::esp8266::{
    Expectations, Finding, FlashParameters, Format, ImageError, ImageFile, Purpose, Severity, Sha256Text,
    Slot,
};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Check images before a device downloads them.
///
/// One image is checked for its slot, or for the beginning of the flash if it is made for that. Two are checked as a pair
/// for an upgrade: the device runs from one slot and asks for the image of the other, so both are needed.
///
/// Exit code 0: nothing is wrong. 65: a device would not take or not start it.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// The image, or both images of an upgrade in any order.
    #[arg(value_name = "IMAGE", num_args = 1..=2, required = true)]
    images: Vec<PathBuf>,
    /// The slot that the image is for; without it, the one that it is linked for.
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(u8).range(1..=2), conflicts_with = "purpose")]
    slot: Option<u8>,
    /// What the image is for; without it, an upgrade for v2 images and the final stage for others.
    #[arg(long = "for", value_name = "PURPOSE", value_enum)]
    purpose: Option<For>,
    /// Bytes behind the image are an error.
    #[arg(long)]
    strict: bool,
    /// Print one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

/// What an image is for.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
enum For {
    /// The vendor's updater, into a slot: user1.bin, user2.bin.
    Upgrade,
    /// The beginning of the flash, written by the intermediate image of SonOTA.
    FinalStage,
    /// The beginning of the flash, written by a device in DIY mode.
    Diy,
}

#[derive(Serialize)]
struct Report {
    valid: bool,
    images: Vec<Checked>,
    /// What is wrong with two images together.
    problems: Vec<Said>,
    warnings: Vec<Said>,
}

#[derive(Serialize)]
struct Checked {
    file: String,
    valid: bool,
    /// `upgrade`, `final-stage` or `diy`; `null` if the file is no image.
    purpose: Option<&'static str>,
    /// Its name in the list of an upgrade.
    name: Option<&'static str>,
    size: usize,
    sha256: String,
    flash_mode: Option<&'static str>,
    flash_size: Option<&'static str>,
    flash_freq: Option<&'static str>,
    /// The slot that it is linked for, if that can be told.
    linked_slot: Option<u8>,
    problems: Vec<Said>,
    warnings: Vec<Said>,
}

#[derive(Serialize)]
struct Said {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<usize>,
}

impl Said {
    fn of(finding: &Finding) -> Self {
        let problem = finding.problem;
        Self { code: problem.code(), message: problem.to_string(), offset: problem.offset() }
    }

    fn new(code: &'static str, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string(), offset: None }
    }
}

/// A file and what can be read of it.
struct Candidate<'a> {
    path: &'a Path,
    content: &'a [u8],
    parsed: Result<ImageFile<'a>, ImageError>,
}

impl<'a> Candidate<'a> {
    fn new(path: &'a Path, content: &'a [u8]) -> Self {
        Self { path, content, parsed: ImageFile::parse(content) }
    }

    fn linked(&self) -> Option<Slot> {
        self.parsed.ok().and_then(|parsed| parsed.program().linked_slot())
    }

    fn parameters(&self) -> Option<FlashParameters> {
        self.parsed.ok().map(|parsed| parsed.parameters())
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let contents =
        args.images.iter().map(|path| files::read_up_to(path, LIMIT)).collect::<Result<Vec<_>, _>>()?;
    let candidates: Vec<_> =
        args.images.iter().zip(&contents).map(|(path, content)| Candidate::new(path, content)).collect();
    let report = match &candidates[..] {
        [first, second] => {
            if args.slot.is_some() || args.purpose.is_some_and(|purpose| purpose != For::Upgrade) {
                return Err(Failure::new(
                    Code::Usage,
                    "two images are a pair for an upgrade",
                    "give one image with --slot or --for",
                ));
            }
            pair(first, second, args.strict)
        }
        [one, ..] => single(one, args),
        [] => return Err(Failure::new(Code::Usage, "there is no image", "give one or two")),
    };
    if args.json {
        let text = serde_json::to_string_pretty(&report)
            .map_err(|error| Failure::new(Code::Software, error, "report this as a fault of the program"))?;
        ui::print(text)?;
    } else {
        ui::print(&report)?;
    }
    Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::from(Code::Data as u8) })
}

fn single(candidate: &Candidate<'_>, args: &Args) -> Report {
    let v2 = candidate.parsed.is_ok_and(|parsed| parsed.format() == Format::V2);
    let given = args.slot.and_then(Slot::from_number);
    // Limits are the same for both; that nothing tells the slot is a finding.
    let slot = || given.or_else(|| candidate.linked()).unwrap_or(Slot::User1);
    let purpose = match args.purpose {
        Some(For::Diy) => Purpose::Diy,
        Some(For::FinalStage) => Purpose::FinalStage,
        Some(For::Upgrade) => Purpose::Upgrade(slot()),
        None if v2 || given.is_some() => Purpose::Upgrade(slot()),
        None => Purpose::FinalStage,
    };
    let mut checked = check(candidate, purpose, args.strict);
    if given.is_none() && candidate.linked().is_none() {
        checked.name = None;
    }
    let warnings = match purpose {
        Purpose::Upgrade(_) if checked.valid => vec![Said::new(
            "one-image",
            "an upgrade needs user1.bin and user2.bin: the device asks for the one of the slot that it does not run from",
        )],
        _ => Vec::new(),
    };
    Report { valid: checked.valid, images: vec![checked], problems: Vec::new(), warnings }
}

/// The slot of the first image of a pair. Where neither tells, and where both tell the same, their order decides.
fn slot_of_first(first: &Candidate<'_>, second: &Candidate<'_>) -> Slot {
    match (first.linked(), second.linked()) {
        (Some(one), Some(other)) if one == other => Slot::User1,
        (Some(slot), _) => slot,
        (None, Some(slot)) => slot.other(),
        (None, None) => Slot::User1,
    }
}

/// Images that are good for an upgrade.
pub(super) struct ForUpgrade {
    /// The slot of each, in their order.
    pub(super) slots: Vec<Slot>,
    pub(super) warnings: Vec<String>,
}

/// Checks one or two images for an upgrade of devices that run from `running`, if that is known.
pub(super) fn for_upgrade(
    paths: &[PathBuf],
    contents: &[Vec<u8>],
    running: Option<Slot>,
) -> Result<ForUpgrade, Failure> {
    let candidates: Vec<_> =
        paths.iter().zip(contents).map(|(path, content)| Candidate::new(path, content)).collect();
    let (slots, report) = match &candidates[..] {
        [first, second] => {
            let slot = slot_of_first(first, second);
            (vec![slot, slot.other()], pair(first, second, false))
        }
        [one] => {
            let Some(slot) = running.map(Slot::other) else {
                return Err(Failure::new(
                    Code::Usage,
                    "there is one image, and a device may ask for that of the other slot",
                    "give user1.bin and user2.bin, or the slot that the device runs from with --running",
                ));
            };
            let checked = check(one, Purpose::Upgrade(slot), false);
            let valid = checked.valid;
            let report = Report { valid, images: vec![checked], problems: Vec::new(), warnings: Vec::new() };
            (vec![slot], report)
        }
        _ => return Err(Failure::new(Code::Usage, "there is no image", "give one or two")),
    };
    Ok(ForUpgrade { slots, warnings: report.good()? })
}

/// Checks an image for the beginning of the flash, and gives the warnings.
pub(super) fn for_final_stage(path: &Path, content: &[u8]) -> Result<Vec<String>, Failure> {
    let checked = check(&Candidate::new(path, content), Purpose::FinalStage, false);
    let valid = checked.valid;
    Report { valid, images: vec![checked], problems: Vec::new(), warnings: Vec::new() }.good()
}

impl Report {
    /// Its warnings, if there is nothing wrong.
    fn good(self) -> Result<Vec<String>, Failure> {
        if !self.valid {
            return Err(Failure::new(
                Code::Data,
                format_args!("a device would not take or not start this:\n{self}"),
                "nothing is served; `spark sonoff check` and `patch` help",
            ));
        }
        let of_images = self
            .images
            .iter()
            .flat_map(|image| image.warnings.iter().map(move |said| format!("{}: {said}", image.file)));
        Ok(of_images.chain(self.warnings.iter().map(ToString::to_string)).collect())
    }
}

fn pair(first: &Candidate<'_>, second: &Candidate<'_>, strict: bool) -> Report {
    let slot = slot_of_first(first, second);
    let mut images = vec![
        check(first, Purpose::Upgrade(slot), strict),
        check(second, Purpose::Upgrade(slot.other()), strict),
    ];
    images.sort_by_key(|image| image.name);
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let usable = first.parsed.is_ok() && second.parsed.is_ok();
    if usable && first.content == second.content {
        problems.push(Said::new(
            "same-image",
            "both files are the same: the program has to be linked for each of the slots",
        ));
    } else if usable && first.linked().is_none() && second.linked().is_none() {
        let order = "the slots are taken from the order of the files: user1.bin first";
        warnings.push(Said::new("slots-by-order", order));
    }
    if let (Some(one), Some(other)) = (first.parameters(), second.parameters())
        && one != other
    {
        let message = format_args!("the images differ in how the flash is read: {one} and {other}");
        warnings.push(Said::new("different-flash-parameters", message));
    }
    let valid = problems.is_empty() && images.iter().all(|image| image.valid);
    Report { valid, images, problems, warnings }
}

fn check(candidate: &Candidate<'_>, purpose: Purpose, strict: bool) -> Checked {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    match &candidate.parsed {
        Ok(parsed) => {
            for finding in parsed.check(&Expectations { purpose, strict }) {
                let list = if finding.severity == Severity::Error { &mut problems } else { &mut warnings };
                list.push(Said::of(&finding));
            }
        }
        Err(error) => {
            let offset = Some(error.offset());
            problems.push(Said { code: error.code(), message: error.to_string(), offset });
        }
    }
    let (word, name) = match purpose {
        Purpose::Upgrade(slot) => (Some("upgrade"), Some(slot.file_name())),
        Purpose::FinalStage => (Some("final-stage"), None),
        Purpose::Diy => (Some("diy"), None),
        _ => (None, None),
    };
    let readable = candidate.parsed.is_ok();
    let parameters = candidate.parameters();
    Checked {
        file: candidate.path.display().to_string(),
        valid: problems.is_empty(),
        purpose: word.filter(|_| readable),
        name: name.filter(|_| readable),
        size: candidate.content.len(),
        sha256: Sha256Text::of(candidate.content).to_string(),
        flash_mode: parameters.and_then(|parameters| parameters.mode.name()),
        flash_size: parameters.and_then(|parameters| parameters.size.name()),
        flash_freq: parameters.and_then(|parameters| parameters.frequency.name()),
        linked_slot: candidate.linked().map(Slot::number),
        problems,
        warnings,
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match (self.purpose, self.name) {
            (Some("upgrade"), Some(name)) => name,
            (Some("upgrade"), None) => "image for an upgrade",
            (Some("final-stage"), _) => "image for the beginning of the flash (final stage)",
            (Some("diy"), _) => "image for the beginning of the flash (DIY mode)",
            _ => "no ESP8266 image",
        };
        write!(f, "{}: {what}, {}", self.file, if self.valid { "good" } else { "NOT GOOD" })?;
        self.problems.iter().try_for_each(|said| write!(f, "\n  problem   {said}"))?;
        self.warnings.iter().try_for_each(|said| write!(f, "\n  warning   {said}"))?;
        if self.purpose.is_some() {
            let name = |name: Option<&'static str>| name.unwrap_or("unknown");
            let [mode, size, freq] = [self.flash_mode, self.flash_size, self.flash_freq].map(name);
            write!(f, "\n  flash     {mode}, {size}, {freq}")?;
        }
        if let Some(slot) = self.linked_slot {
            write!(f, "\n  linked    for slot {slot}")?;
        }
        write!(f, "\n  size      {} bytes\n  sha256    {}", self.size, self.sha256)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, image) in self.images.iter().enumerate() {
            write!(f, "{}{image}", if at == 0 { "" } else { "\n" })?;
        }
        self.problems.iter().try_for_each(|said| write!(f, "\nproblem   {said}"))?;
        self.warnings.iter().try_for_each(|said| write!(f, "\nwarning   {said}"))?;
        let modes = self.images.iter().flat_map(|image| image.problems.iter().chain(&image.warnings));
        if modes.into_iter().any(|said| said.code == "flash-mode") {
            write!(f, "\nnext: `spark sonoff patch IMAGE --mode dout` changes the flash mode")?;
        }
        Ok(())
    }
}
