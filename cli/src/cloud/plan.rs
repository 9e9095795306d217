//! A plan to update one device: which modules in which order, and how far it is.
//!
//! It is written down before a module leaves and after the device has taken it, and what the device says of itself when it
//! connects again decides: a module that is there is never sent again, one whose transfer was interrupted is.

use super::catalogue::{Catalogue, ModuleFile};
use coap_spark::message::describe::Describe;
use serde::{Deserialize, Serialize};
use spark_ota::describe::installed;
use spark_ota::module::{Installed, ModuleFunction, Store};
use spark_ota::resolve::{CatalogueEntry, Request};

/// Transfers of one module that the device took and that changed nothing.
const MAX_SENT: u8 = 2;
/// Interrupted transfers of one module.
const MAX_INTERRUPTED: u16 = 50;
/// Modules of one plan.
pub const MAX_STEPS: usize = 32;

/// How far a plan is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PlanState {
    /// It goes on as soon as the device is there.
    Running,
    /// The device has every module.
    Done,
    /// It will not go on.
    Failed,
    /// Its owner ended it.
    Cancelled,
}

/// How far one module is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepState {
    /// It is to be sent.
    Waiting,
    /// It is on its way, or was when the cloud ended.
    Sending,
    /// The device has all of it and restarts.
    Arrived,
    /// The device runs it.
    Installed,
}

/// One module of a plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlanStep {
    /// SHA-256 of the module file, hex.
    pub sha256: String,
    /// SHA-256 in the module's suffix, hex: devices tell it of their application.
    pub suffix_sha256: String,
    /// Name of the file.
    pub name: String,
    /// Function letter as in Describe.
    pub function: char,
    /// Index within the function.
    pub index: u8,
    /// Version of the module.
    pub version: u16,
    /// Bytes.
    pub size: u32,
    /// Why this module, and why now.
    pub why: String,
    /// How far it is.
    pub state: StepState,
    /// How often the device took all of it.
    pub sent: u8,
    /// How often a transfer ended before its end.
    pub interrupted: u16,
}

/// A plan.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Plan {
    /// Counts the plans of a device.
    pub number: u64,
    /// Seconds since 1970.
    pub created: u64,
    /// One chunk, one answer.
    pub slow: bool,
    /// How far it is.
    pub state: PlanState,
    /// Why it failed, or what the last transfer met.
    pub reason: Option<String>,
    /// The modules, in the order in which they are sent.
    pub steps: Vec<PlanStep>,
}

/// What a plan wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Due {
    /// Nothing: it has ended.
    Nothing,
    /// Send the module of this step.
    Send(usize),
}

/// Why there is no plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The device has not described its modules.
    #[error("the device has not said what is installed on it")]
    NoDescribe,
    /// A module is for another platform.
    #[error("{name} is for platform {module}, the device is platform {device}")]
    Platform {
        /// Name of the file.
        name: String,
        /// Its platform.
        module: u16,
        /// The device's.
        device: u16,
    },
    /// The resolver finds no way.
    #[error("{0}")]
    Impossible(String),
    /// There are too many.
    #[error("{0} modules are more than the {MAX_STEPS} of one plan")]
    TooMany(usize),
}

impl PlanStep {
    /// A module that is to be sent.
    #[must_use]
    pub fn new(file: &ModuleFile, why: String) -> Self {
        Self {
            sha256: hex::encode(file.sha256),
            suffix_sha256: hex::encode(file.suffix_sha256),
            name: file.name.clone(),
            function: file.prefix.function.letter(),
            index: file.prefix.index,
            version: file.prefix.version,
            size: u32::try_from(file.image.len()).unwrap_or(u32::MAX),
            why,
            state: StepState::Waiting,
            sent: 0,
            interrupted: 0,
        }
    }

    /// Whether the device says that it runs it. `None` if it does not say enough: firmware tells no digest of some modules,
    /// and applications of all kinds have the same version.
    fn is_in(&self, modules: &[Installed]) -> Option<bool> {
        let place = |module: &&Installed| {
            module.store == Store::Main
                && module.function.letter() == self.function
                && module.index == self.index
        };
        let Some(found) = modules.iter().find(place) else { return Some(false) };
        if found.version != self.version {
            return Some(false);
        }
        match found.sha256 {
            Some(sha256) => Some(hex::encode(sha256) == self.suffix_sha256),
            None if found.function == ModuleFunction::User => None,
            None => Some(true),
        }
    }
}

impl Plan {
    /// A plan that waits for its device.
    #[must_use]
    pub const fn new(number: u64, created: u64, slow: bool, steps: Vec<PlanStep>) -> Self {
        Self { number, created, slow, state: PlanState::Running, reason: None, steps }
    }

    /// It goes on.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == PlanState::Running
    }

    /// What to do for a device that has just described itself. `update_succeeded` is what its Hello said.
    pub fn next(&mut self, describe: &Describe, update_succeeded: bool) -> Due {
        if !self.is_running() {
            return Due::Nothing;
        }
        let modules = installed(describe);
        for (at, step) in self.steps.iter_mut().enumerate() {
            if step.state == StepState::Installed {
                continue;
            }
            let was_on_its_way = step.state != StepState::Waiting;
            let is_there = step.is_in(&modules).unwrap_or(was_on_its_way && update_succeeded);
            if is_there {
                step.state = StepState::Installed;
                continue;
            }
            if step.sent >= MAX_SENT || step.interrupted >= MAX_INTERRUPTED {
                let what = match step.sent >= MAX_SENT {
                    true => format!("the device took it {} times and does not run it", step.sent),
                    false => format!("its transfer was interrupted {} times", step.interrupted),
                };
                self.reason = Some(format!("{}: {what}", step.name));
                self.state = PlanState::Failed;
                return Due::Nothing;
            }
            return Due::Send(at);
        }
        (self.state, self.reason) = (PlanState::Done, None);
        Due::Nothing
    }

    /// A module leaves.
    pub fn sending(&mut self, step: usize) {
        if let Some(step) = self.steps.get_mut(step) {
            step.state = StepState::Sending;
        }
    }

    /// The device has all of it.
    pub fn arrived(&mut self, step: usize) {
        if let Some(step) = self.steps.get_mut(step) {
            (step.state, step.sent) = (StepState::Arrived, step.sent.saturating_add(1));
            self.reason = None;
        }
    }

    /// The device took all of it and says that it is no good.
    pub fn refused(&mut self, step: usize, reason: String) {
        if let Some(step) = self.steps.get_mut(step) {
            (step.state, step.sent) = (StepState::Waiting, step.sent.saturating_add(1));
            self.reason = Some(format!("{}: {reason}", step.name));
            if step.sent >= MAX_SENT {
                self.state = PlanState::Failed;
            }
        }
    }

    /// A transfer ended before its end. The device may still have taken all of it: it will say so.
    pub fn interrupted(&mut self, step: usize, reason: String) {
        if let Some(step) = self.steps.get_mut(step) {
            step.interrupted = step.interrupted.saturating_add(1);
            self.reason = Some(format!("{}: {reason}", step.name));
        }
    }

    /// It cannot go on.
    pub fn fail(&mut self, step: usize, reason: String) {
        let name = self.steps.get(step).map_or("", |step| &step.name);
        self.reason = Some(format!("{name}: {reason}"));
        self.state = PlanState::Failed;
    }

    /// Its owner ends it.
    pub fn cancel(&mut self) {
        if self.is_running() {
            (self.state, self.reason) = (PlanState::Cancelled, None);
        }
    }
}

/// The way to give a device this module and everything that it needs first.
///
/// # Errors
/// [`PlanError`].
pub fn flash(
    describe: &Describe,
    catalogue: &Catalogue,
    target: &ModuleFile,
) -> Result<Vec<PlanStep>, PlanError> {
    let platform_id = describe.platform_id.ok_or(PlanError::NoDescribe)?;
    if target.prefix.platform_id != platform_id {
        return Err(PlanError::Platform {
            name: target.name.clone(),
            module: target.prefix.platform_id,
            device: platform_id,
        });
    }
    let mut files = catalogue.files().to_vec();
    let place = match files.iter().position(|file| file.sha256 == target.sha256) {
        Some(place) => place,
        None => {
            files.push(target.clone());
            files.len() - 1
        }
    };
    resolve(describe, &files, Some(place))
}

/// The way to give a device these modules, in the order that their dependencies ask for. Modules that they need and the
/// catalogue has are taken from there.
///
/// # Errors
/// [`PlanError`].
pub fn bundle(
    describe: &Describe,
    catalogue: &Catalogue,
    targets: &[ModuleFile],
) -> Result<Vec<PlanStep>, PlanError> {
    if targets.len() > MAX_STEPS {
        return Err(PlanError::TooMany(targets.len()));
    }
    let mut describe = describe.clone();
    let mut steps: Vec<PlanStep> = Vec::new();
    // What is needed least comes first: bootloader, system parts, application.
    let mut ordered: Vec<&ModuleFile> = targets.iter().collect();
    ordered.sort_by_key(|file| (rank(file.prefix.function), file.prefix.index));
    for target in ordered {
        for step in flash(&describe, catalogue, target)? {
            pretend(&mut describe, &step, catalogue, targets);
            if steps.iter().all(|known| known.sha256 != step.sha256) {
                steps.push(step);
            }
        }
    }
    match steps.len() {
        0..=MAX_STEPS => Ok(steps),
        more => Err(PlanError::TooMany(more)),
    }
}

/// What a device lacks.
///
/// # Errors
/// [`PlanError`].
pub fn system_update(describe: &Describe, catalogue: &Catalogue) -> Result<Vec<PlanStep>, PlanError> {
    resolve(describe, catalogue.files().as_ref(), None)
}

fn resolve(
    describe: &Describe,
    files: &[ModuleFile],
    target: Option<usize>,
) -> Result<Vec<PlanStep>, PlanError> {
    let platform_id = describe.platform_id.ok_or(PlanError::NoDescribe)?;
    if describe.modules.is_none() {
        return Err(PlanError::NoDescribe);
    }
    let entries: Vec<CatalogueEntry> = files.iter().map(ModuleFile::entry).collect();
    let installed = installed(describe);
    let request = Request { target, ..Request::new(platform_id, &installed, &entries) };
    let steps =
        spark_ota::resolve::plan(&request).map_err(|reason| PlanError::Impossible(reason.to_string()))?;
    if steps.len() > MAX_STEPS {
        return Err(PlanError::TooMany(steps.len()));
    }
    let named = |step: &spark_ota::resolve::PlannedStep| {
        files.get(step.entry).map(|file| PlanStep::new(file, step.to_string()))
    };
    Ok(steps.iter().filter_map(named).collect())
}

const fn rank(function: ModuleFunction) -> u8 {
    match function {
        ModuleFunction::Bootloader => 0,
        ModuleFunction::System => 1,
        ModuleFunction::User => 3,
        _ => 2,
    }
}

/// What the device will say of itself after a step.
fn pretend(describe: &mut Describe, step: &PlanStep, catalogue: &Catalogue, targets: &[ModuleFile]) {
    use coap_spark::message::describe::{DependencyInfo, ModuleInfo};
    let files = catalogue.files();
    let Some(file) = targets.iter().chain(files.iter()).find(|file| hex::encode(file.sha256) == step.sha256)
    else {
        return;
    };
    let modules = describe.modules.get_or_insert_default();
    let letter = step.function.to_string();
    let index = step.index.to_string();
    modules.retain(|module| {
        module.store != "m"
            || module.function.as_deref() != Some(&letter)
            || module.index.as_deref() != Some(&index)
    });
    let dependencies =
        file.prefix.dependencies.iter().filter(|dependency| dependency.function != ModuleFunction::None);
    modules.push(ModuleInfo {
        maximum_size: step.size,
        store: "m".to_owned(),
        validity_checked: 0xff,
        validity_result: 0xff,
        function: Some(letter),
        index: Some(index),
        version: Some(step.version),
        sha256: Some(step.suffix_sha256.clone()),
        dependencies: dependencies
            .map(|dependency| DependencyInfo {
                function: dependency.function.letter().to_string(),
                index: dependency.index.to_string(),
                version: dependency.version,
            })
            .collect(),
    });
}
