//! From files to writes.

use super::refusal::{Platform, Refusal};
use super::target::Target;
use crate::module::{Flags, Module, ModuleFunction, ModuleKey, Modules, Region};
use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

/// The most modules of one plan; checking them against each other takes time by the square.
pub const MAX_MODULES: usize = 64;

/// Pages of the flash of an nRF52840, the platforms that have a former place of the application.
const PAGE: u32 = 4096;

/// What is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs, reason = "meant for struct update from DEFAULT")]
pub struct Options {
    /// Write the application to the copy for the factory reset, instead of to where it runs.
    pub factory: bool,
    /// Refuse unless every module of a system is there, and start the firmware at the end. The order is the same without.
    pub update: bool,
    /// Take modules with a wrong CRC or for another platform, with a [`Warning`] each.
    pub force: bool,
    /// Start the firmware at the end; `None` if the application is the last that is written, or if it is an `update`.
    pub leave: Option<bool>,
}

impl Options {
    /// Only good modules, to where they run.
    pub const DEFAULT: Self = Self { factory: false, update: false, force: false, leave: None };
}

impl Default for Options {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What a write is for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Purpose {
    /// The module to where it runs.
    Module(ModuleKey),
    /// The module to the copy for the factory reset.
    Factory(ModuleKey),
    /// The module to where updates arrive: the device takes it from there.
    Update(ModuleKey),
    /// The byte that makes the device look where updates arrive.
    UpdateFlag,
    /// Nothing, to where smaller applications were.
    FormerApplication,
}

/// `bootloader`, `application for the factory reset`.
impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(key) => key.fmt(f),
            Self::Factory(key) => write!(f, "{key} for the factory reset"),
            Self::Update(key) => write!(f, "{key} as an update"),
            Self::UpdateFlag => f.write_str("flag of the update"),
            Self::FormerApplication => f.write_str("rest of the former application, erased"),
        }
    }
}

/// One write.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Step<'a> {
    /// The file that it comes from, from 0; `None` if it comes from none.
    pub file: Option<usize>,
    /// What it is for.
    pub purpose: Purpose,
    /// Alternate setting.
    pub alternate: u8,
    /// First address.
    pub address: u32,
    /// What is written: without a prefix that is to be dropped, with the padding that the device needs.
    pub bytes: Cow<'a, [u8]>,
    /// How long to wait before.
    pub pause_before: Duration,
    /// Start the firmware afterwards. Only ever set in the last step.
    pub leave: bool,
}

/// What was let pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// The suffix is blank, as in old factory bootloaders: neither CRC nor platform were checked, the file is written as it is.
    BlankSuffix {
        /// The file, from 0.
        file: usize,
    },
    /// The CRC is wrong; only if forced.
    Crc {
        /// The file, from 0.
        file: usize,
    },
    /// The module is for another platform; only if forced.
    Platform {
        /// The file, from 0.
        file: usize,
        /// Platform id of the module.
        found: u16,
    },
    /// Beside its modules there is something else in the file, which is not written; only if forced.
    Unknown {
        /// The file, from 0.
        file: usize,
        /// Where it is.
        offset: usize,
    },
}

impl Warning {
    /// The file that it is about.
    #[must_use]
    pub const fn file(&self) -> usize {
        match self {
            Self::BlankSuffix { file }
            | Self::Crc { file }
            | Self::Platform { file, .. }
            | Self::Unknown { file, .. } => *file,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlankSuffix { .. } => {
                f.write_str("its suffix is blank, so that neither its CRC nor its platform were checked")
            }
            Self::Crc { .. } => f.write_str("its CRC is wrong"),
            Self::Platform { found, .. } => write!(f, "it is for {}", Platform(*found)),
            Self::Unknown { offset, .. } => write!(f, "what is at {offset:#x} of it is not written"),
        }
    }
}

/// All writes in their order.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Plan<'a> {
    /// The device.
    pub target: &'static Target,
    /// The writes.
    pub steps: Vec<Step<'a>>,
    /// What was let pass.
    pub warnings: Vec<Warning>,
}

/// What has to be written to put the modules of `files` on a device.
///
/// A combined file and a picture of the flash give a step for each of their modules. A bootloader goes to where updates
/// arrive, with the flag behind it. The order is that of the vendor's tool: on Photon and P1 bootloader, flag, system parts;
/// on the others system parts, radio stack, bootloader, flag; the application comes last.
///
/// # Errors
/// [`Refusal`]; then nothing should be written.
pub fn plan<'a>(target: &'static Target, files: &[&'a [u8]], options: Options) -> Result<Plan<'a>, Refusal> {
    let mut planner = Planner { target, options, steps: Vec::new(), warnings: Vec::new() };
    for (file, content) in files.iter().enumerate() {
        planner.take_file(file, content)?;
    }
    planner.finish()
}

struct Planner<'a> {
    target: &'static Target,
    options: Options,
    /// Each with its place in the order.
    steps: Vec<(usize, Step<'a>)>,
    warnings: Vec<Warning>,
}

impl<'a> Planner<'a> {
    fn take_file(&mut self, file: usize, content: &'a [u8]) -> Result<(), Refusal> {
        let bad = |error| Refusal::NotAModule { file, error };
        let is_good = Module::parse(content).is_ok_and(|module| module.crc_ok());
        if !is_good
            && let Ok(module) = Module::parse_likeliest(content)
            && (module.suffix().is_blank() || is_old_bootloader(&module, content))
        {
            self.check_platform(file, &module)?;
            self.warn(Warning::BlankSuffix { file });
            return self.place(file, &module, content);
        }
        let mut end = 0;
        for placed in Modules::of(content) {
            let placed = placed.map_err(bad)?;
            self.check_gap(file, content.get(end..placed.offset).unwrap_or_default(), end)?;
            let module = placed.module;
            end = placed.offset.saturating_add(module.image().len());
            self.check(file, &module)?;
            let dropped = match module.parts() {
                _ if !module.prefix().flags.contains(Flags::DROP_INFO) => 0,
                Ok(parts) => {
                    parts.vector_table.len() + crate::module::Prefix::LEN + parts.prefix_extensions.len()
                }
                Err(_) => return Err(bad(crate::module::ModuleError::NotAModule { best: None })),
            };
            self.place(file, &module, module.image().get(dropped..).unwrap_or_default())?;
        }
        self.check_gap(file, content.get(end..).unwrap_or_default(), end)
    }

    /// What is between modules and behind them is nothing, or it would be lost: a damaged module, for instance.
    fn check_gap(&mut self, file: usize, gap: &[u8], start: usize) -> Result<(), Refusal> {
        let Some(at) = gap.iter().position(|byte| !matches!(byte, 0 | 0xff)) else { return Ok(()) };
        let offset = start.saturating_add(at);
        if !self.options.force {
            return Err(Refusal::Unknown { file, offset });
        }
        self.warn(Warning::Unknown { file, offset });
        Ok(())
    }

    /// Several modules of a file are warned of once.
    fn warn(&mut self, warning: Warning) {
        if self.warnings.last() != Some(&warning) {
            self.warnings.push(warning);
        }
    }

    fn check(&mut self, file: usize, module: &Module<'_>) -> Result<(), Refusal> {
        let (key, prefix) = (module.prefix().key(), module.prefix());
        let (stored, computed) = (module.stored_crc(), module.computed_crc());
        if stored != computed {
            if !self.options.force {
                return Err(match module.is_finalised() {
                    true => Refusal::Crc { file, key, stored, computed },
                    false => Refusal::NotFinalised { file, key },
                });
            }
            self.warn(Warning::Crc { file });
        }
        if prefix.flags.0 & (Flags::COMPRESSED | Flags::ENCRYPTED).0 != 0 {
            return Err(Refusal::Packed { file, key });
        }
        self.check_platform(file, module)
    }

    fn check_platform(&mut self, file: usize, module: &Module<'_>) -> Result<(), Refusal> {
        let (key, prefix) = (module.prefix().key(), module.prefix());
        let (found, expected) = (prefix.platform_id, self.target.platform_id);
        if found != expected && prefix.function != ModuleFunction::Asset {
            if !self.options.force {
                return Err(Refusal::Platform { file, key, found, expected });
            }
            self.warn(Warning::Platform { file, found });
        }
        Ok(())
    }

    /// Adds the writes for one module.
    fn place(&mut self, file: usize, module: &Module<'_>, bytes: &'a [u8]) -> Result<(), Refusal> {
        let target = self.target;
        let (prefix, platform_id) = (module.prefix(), target.platform_id);
        let (function, key, start) = (prefix.function, prefix.key(), prefix.start_address);
        let no_place = Refusal::NoPlace { file, key, platform_id };
        let is_application = matches!(function, ModuleFunction::User | ModuleFunction::Monolithic);
        if self.options.factory {
            if !is_application {
                return Err(Refusal::Factory { file, function });
            }
            let area = target.factory.ok_or(no_place)?;
            // The copy is put where the application runs, if it is built for there.
            let mut places = target.places.iter().filter(|place| place.function == function);
            if !places.any(|place| place.region.address == start) {
                return Err(Refusal::StartAddress { file, key, start });
            }
            return self.write(file, Purpose::Factory(key), area.alternate, area.region, bytes, key);
        }
        match function {
            ModuleFunction::Bootloader => {
                let area = target.ota.ok_or(no_place)?;
                return self.write(file, Purpose::Update(key), area.alternate, area.region, bytes, key);
            }
            ModuleFunction::System
            | ModuleFunction::User
            | ModuleFunction::Monolithic
            | ModuleFunction::RadioStack => {}
            function => return Err(Refusal::NotOverUsb { file, function }),
        }
        let fits = |index: Option<u8>| index.is_none_or(|index| index == key.index);
        let mut places =
            target.places.iter().filter(|place| place.function == function && fits(place.index)).peekable();
        places.peek().ok_or(no_place)?;
        let place = places.find(|place| place.region.address == start).ok_or(Refusal::StartAddress {
            file,
            key,
            start,
        })?;
        if let Some((former, since)) = target.former_user {
            let needs_newer = |need: &crate::module::Dependency| {
                need.function == ModuleFunction::System && need.version >= since
            };
            if function == ModuleFunction::User
                && start != former.address
                && prefix.dependencies.iter().any(needs_newer)
            {
                self.erase_former(former, start, bytes.len());
            }
        }
        self.write(file, Purpose::Module(key), 0, place.region, bytes, key)
    }

    /// Before the application comes, which begins below its former place: what its last page does not reach.
    fn erase_former(&mut self, former: Region, start: u32, len: usize) {
        let end = u32::try_from(len).ok().and_then(|len| start.checked_add(len)).unwrap_or(u32::MAX);
        let from = end.max(former.address).checked_next_multiple_of(PAGE).unwrap_or(u32::MAX);
        let left = former.end().saturating_sub(from);
        if let Some(len) = usize::try_from(left).ok().filter(|len| *len > 0) {
            let step = Step {
                file: None,
                purpose: Purpose::FormerApplication,
                alternate: 0,
                address: from,
                bytes: Cow::Owned(vec![0xff; len]),
                pause_before: Duration::ZERO,
                leave: false,
            };
            self.steps.push((self.rank(step.purpose), step));
        }
    }

    fn write(
        &mut self,
        file: usize,
        purpose: Purpose,
        alternate: u8,
        region: Region,
        bytes: &'a [u8],
        key: ModuleKey,
    ) -> Result<(), Refusal> {
        let room = region.size;
        let mut bytes = Cow::Borrowed(bytes);
        let padded = bytes.len().next_multiple_of(usize::from(self.target.write_padding.max(1)));
        if padded > bytes.len() {
            bytes.to_mut().resize(padded, 0);
        }
        if u32::try_from(padded).is_ok_and(|len| len <= room) {
            let modules = self.steps.iter().filter(|(_, step)| step.file.is_some()).count();
            if modules == MAX_MODULES {
                return Err(Refusal::TooMany { limit: MAX_MODULES });
            }
            let step = Step {
                file: Some(file),
                purpose,
                alternate,
                address: region.address,
                bytes,
                pause_before: Duration::ZERO,
                leave: false,
            };
            self.no_overlap(&step, key)?;
            self.steps.push((self.rank(purpose), step));
            return Ok(());
        }
        Err(Refusal::TooLong { file, key, len: padded, room })
    }

    fn no_overlap(&self, new: &Step<'a>, second: ModuleKey) -> Result<(), Refusal> {
        for (_, old) in &self.steps {
            let Some(first) = old.purpose.key() else { continue };
            let address = old.address.max(new.address);
            if old.alternate == new.alternate && u64::from(address) < end(old).min(end(new)) {
                return Err(Refusal::Overlap { file: new.file.unwrap_or_default(), first, second, address });
            }
        }
        Ok(())
    }

    /// The place in the order.
    fn rank(&self, purpose: Purpose) -> usize {
        let system = self.target.system;
        let bootloader = system.iter().position(|(function, _)| *function == ModuleFunction::Bootloader);
        let last = 2 * system.len();
        match purpose {
            Purpose::UpdateFlag if self.target.flag_early => 2 * bootloader.unwrap_or(system.len()) + 1,
            Purpose::UpdateFlag => last,
            Purpose::FormerApplication => last + 1,
            Purpose::Factory(_) => last + 2,
            Purpose::Module(key) | Purpose::Update(key) => system
                .iter()
                .position(|(function, index)| {
                    *function == key.function && (*index == 0 || *index == key.index)
                })
                .map_or(last + 2, |position| 2 * position),
        }
    }

    fn finish(mut self) -> Result<Plan<'a>, Refusal> {
        let target = self.target;
        if self.options.update {
            if target.system.is_empty() {
                return Err(Refusal::NoSystem { platform_id: target.platform_id });
            }
            for (function, index) in target.system {
                let key = ModuleKey { function: *function, index: *index };
                let is_it = |found: ModuleKey| {
                    found.function == key.function && (key.index == 0 || found.index == key.index)
                };
                let is_there = self.steps.iter().filter_map(|(_, step)| step.purpose.key()).any(is_it);
                // Not every release comes with a radio stack.
                if !is_there && *function != ModuleFunction::RadioStack {
                    return Err(Refusal::Incomplete { key });
                }
            }
        }
        if self.steps.iter().any(|(_, step)| matches!(step.purpose, Purpose::Update(_)))
            && let Some((area, value)) = target.ota_flag
        {
            let step = Step {
                file: None,
                purpose: Purpose::UpdateFlag,
                alternate: area.alternate,
                address: area.region.address,
                bytes: Cow::Owned(vec![value]),
                pause_before: Duration::ZERO,
                leave: false,
            };
            self.steps.push((self.rank(step.purpose), step));
        }
        self.steps.sort_by_key(|(rank, _)| *rank);
        let mut steps: Vec<Step<'a>> = self.steps.into_iter().map(|(_, step)| step).collect();
        for step in steps.iter_mut().skip(1) {
            step.pause_before = target.pause;
        }
        let last = steps.last_mut().ok_or(Refusal::Nothing)?;
        let is_application = |key: ModuleKey| {
            target.places.iter().any(|place| place.function == key.function && place.is_application)
        };
        let default =
            self.options.update || matches!(last.purpose, Purpose::Module(key) if is_application(key));
        last.leave = self.options.leave.unwrap_or(default);
        Ok(Plan { target, steps, warnings: self.warnings })
    }
}

impl Purpose {
    /// The module that is written.
    #[must_use]
    pub const fn key(&self) -> Option<ModuleKey> {
        match self {
            Self::Module(key) | Self::Factory(key) | Self::Update(key) => Some(*key),
            Self::UpdateFlag | Self::FormerApplication => None,
        }
    }
}

fn end(step: &Step<'_>) -> u64 {
    u64::from(step.address).saturating_add(u64::try_from(step.bytes.len()).unwrap_or(u64::MAX))
}

/// Old factory bootloaders are padded, and the suffix is at the end of the file: the size field there is 0xffff.
fn is_old_bootloader(module: &Module<'_>, content: &[u8]) -> bool {
    module.prefix().function == ModuleFunction::Bootloader && matches!(content, [.., 0xff, 0xff, _, _, _, _])
}

#[cfg(test)]
mod tests;
