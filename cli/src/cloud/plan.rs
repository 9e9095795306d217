//! A plan to update one device: which modules in which order, and how far it is.
//!
//! It is written down before a module leaves and after the device has taken it, and what the device says of itself when it
//! connects again decides: a module that is there is never sent again, one whose transfer was interrupted is.

use super::catalogue::{Catalogue, ModuleFile};
use coap_spark::message::describe::Describe;
use serde::{Deserialize, Serialize};
use spark_ota::describe::{installed, rooms};
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
    /// Its transfer was broken off. The device may have taken all of it: it will say so.
    Interrupted,
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
    fn is_in(&self, modules: Option<&[Installed]>) -> Option<bool> {
        let place = |module: &&Installed| {
            module.store == Store::Main
                && module.function.letter() == self.function
                && module.index == self.index
                // What is damaged is not there: it is sent to mend it.
                && module.is_usable()
        };
        let Some(found) = modules?.iter().find(place) else { return Some(false) };
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
        // Old Cores say nothing of their modules.
        let modules = describe.modules.is_some().then(|| installed(describe));
        for (at, step) in self.steps.iter_mut().enumerate() {
            if step.state == StepState::Installed {
                continue;
            }
            let was_on_its_way = step.state != StepState::Waiting;
            let is_there = step.is_in(modules.as_deref()).unwrap_or(was_on_its_way && update_succeeded);
            if is_there {
                step.state = StepState::Installed;
                continue;
            }
            // A transfer that was under way and is not there was interrupted without anybody noticing.
            if step.state == StepState::Sending {
                (step.state, step.interrupted) = (StepState::Interrupted, step.interrupted.saturating_add(1));
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
            (step.state, step.interrupted) = (StepState::Interrupted, step.interrupted.saturating_add(1));
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
    if describe.modules.is_none() {
        let why = "it was asked for, and the device does not say what is installed on it".to_owned();
        return Ok(vec![PlanStep::new(target, why)]);
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
    let (installed, rooms) = (installed(describe), rooms(describe));
    let request = Request {
        target,
        rooms: &rooms,
        use_bootstrap: true,
        ..Request::new(platform_id, &installed, &entries)
    };
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
    // Of a device that tells nothing now, nothing will be known then.
    let Some(modules) = &mut describe.modules else { return };
    let Some(file) = targets.iter().chain(files.iter()).find(|file| hex::encode(file.sha256) == step.sha256)
    else {
        return;
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;
    use coap_spark::message::describe::ModuleInfo;

    fn describe(modules: &[(&str, &str, u16, Option<&str>)]) -> Describe {
        let info = |(function, index, version, sha256): &(&str, &str, u16, Option<&str>)| ModuleInfo {
            maximum_size: 1 << 20,
            store: "m".to_owned(),
            validity_checked: 30,
            validity_result: 30,
            sha256: sha256.map(str::to_owned),
            function: Some((*function).to_owned()),
            index: Some((*index).to_owned()),
            version: Some(*version),
            dependencies: Vec::new(),
        };
        Describe {
            platform_id: Some(6),
            modules: Some(modules.iter().map(info).collect()),
            ..Describe::default()
        }
    }

    /// A plan of system part 1 (version 2202) and the application, whose version says nothing.
    fn plan() -> (Plan, ModuleFile) {
        let system = synthetic::new_system().unwrap();
        let part = system.iter().find(|file| file.prefix.index == 1).unwrap();
        let application = synthetic::application().unwrap();
        let steps =
            [part, &application].map(|file| PlanStep::new(file, "it was asked for".to_owned())).to_vec();
        (Plan::new(1, 0, false, steps), application)
    }

    #[test]
    fn module_that_is_there_is_not_sent_and_the_plan_ends_when_all_are() {
        let (mut plan, application) = plan();
        let digest = hex::encode(application.suffix_sha256);
        let version = application.prefix.version;
        let old = describe(&[("s", "1", 207, None), ("u", "1", version, Some(&"0".repeat(64)))]);
        assert_eq!(plan.next(&old, false), Due::Send(0));
        let half = describe(&[("s", "1", 2202, None), ("u", "1", version, Some(&"0".repeat(64)))]);
        assert_eq!(plan.next(&half, false), Due::Send(1));
        assert_eq!(plan.steps[0].state, StepState::Installed);
        let whole = describe(&[("s", "1", 2202, None), ("u", "1", version, Some(&digest))]);
        assert_eq!(plan.next(&whole, false), Due::Nothing);
        assert_eq!(plan.state, PlanState::Done);
        assert_eq!(plan.next(&old, false), Due::Nothing, "what has ended stays so");
    }

    #[test]
    fn damaged_module_is_sent_although_version_and_digest_fit() {
        let (mut plan, application) = plan();
        plan.steps.remove(0);
        let digest = hex::encode(application.suffix_sha256);
        let mut device = describe(&[("u", "1", application.prefix.version, Some(&digest))]);
        assert_eq!(plan.clone().next(&device, false), Due::Nothing);
        for module in device.modules.iter_mut().flatten() {
            // The checksum is wrong.
            module.validity_result = 28;
        }
        assert_eq!(plan.next(&device, false), Due::Send(0));
    }

    #[test]
    fn parts_that_wait_for_each_other_are_reached_over_an_older_system() {
        let mut files = synthetic::old_system().unwrap();
        files.extend(synthetic::new_system().unwrap());
        let old = describe(&[("b", "0", 7, None), ("s", "1", 108, None), ("s", "2", 108, None)]);
        let steps = flash(&old, &Catalogue::new(files), &synthetic::application().unwrap()).unwrap();
        let order: Vec<_> = steps.iter().map(|step| (step.function, step.index, step.version)).collect();
        let at = |wanted| order.iter().position(|step| *step == wanted).unwrap();
        assert!(at(('s', 2, 207)) < at(('s', 1, 2202)), "{order:?}");
        assert!(at(('s', 1, 2202)) < at(('s', 2, 2202)), "{order:?}");
        assert_eq!(order.last(), Some(&('u', 1, 6)));
    }

    #[test]
    fn what_arrived_before_a_crash_is_not_sent_again() {
        let (mut plan, application) = plan();
        plan.steps.remove(0);
        let version = application.prefix.version;
        // Firmware that tells no digest: only Hello says that the update before succeeded.
        let silent = describe(&[("u", "1", version, None)]);
        assert_eq!(plan.next(&silent, true), Due::Send(0), "that was another update");
        plan.sending(0);
        assert_eq!(plan.clone().next(&silent, false), Due::Send(0));
        assert_eq!(plan.next(&silent, true), Due::Nothing);
        assert_eq!(plan.state, PlanState::Done);
    }

    #[test]
    fn module_that_changes_nothing_is_sent_twice_and_no_more() {
        let (mut plan, _) = plan();
        let old = describe(&[("s", "1", 207, None)]);
        for _ in 0..2 {
            assert_eq!(plan.next(&old, false), Due::Send(0));
            plan.sending(0);
            plan.arrived(0);
        }
        assert_eq!(plan.next(&old, true), Due::Nothing, "its version refutes what Hello says");
        assert_eq!(plan.state, PlanState::Failed);
        assert!(plan.reason.as_deref().unwrap().contains("took it 2 times"), "{:?}", plan.reason);
    }

    #[test]
    fn interrupted_transfer_goes_on_and_a_refused_one_ends_the_plan() {
        let (mut plan, _) = plan();
        let old = describe(&[("s", "1", 207, None)]);
        for _ in 0..MAX_INTERRUPTED {
            assert_eq!(plan.next(&old, false), Due::Send(0));
            plan.sending(0);
            plan.interrupted(0, "the connection ended".to_owned());
        }
        assert_eq!(plan.next(&old, false), Due::Nothing);
        assert_eq!(plan.state, PlanState::Failed);

        let (mut plan, _) = self::plan();
        plan.refused(0, "no room".to_owned());
        assert!(plan.is_running());
        plan.refused(0, "no room".to_owned());
        assert_eq!((plan.state, plan.next(&old, false)), (PlanState::Failed, Due::Nothing));
    }

    #[test]
    fn cancelled_plan_does_nothing_and_a_finished_one_is_not_cancelled() {
        let (mut plan, _) = plan();
        plan.cancel();
        assert_eq!(plan.next(&describe(&[]), false), Due::Nothing);
        assert_eq!(plan.state, PlanState::Cancelled);
        plan.state = PlanState::Done;
        plan.cancel();
        assert_eq!(plan.state, PlanState::Done);
    }

    #[test]
    fn old_core_that_does_not_describe_its_modules_is_believed_what_hello_says() {
        let (mut plan, application) = plan();
        plan.steps.remove(0);
        let silent = Describe { platform_id: Some(6), ..Describe::default() };
        let planned = flash(&silent, &Catalogue::default(), &application).unwrap();
        assert_eq!(planned.len(), 1);
        assert_eq!(plan.next(&silent, false), Due::Send(0));
        plan.sending(0);
        plan.arrived(0);
        assert_eq!(plan.next(&silent, true), Due::Nothing);
        assert_eq!(plan.state, PlanState::Done);
    }

    #[test]
    fn bundle_is_ordered_by_what_its_modules_need() {
        let system = synthetic::new_system().unwrap();
        let application = synthetic::application().unwrap();
        let old = describe(&[("b", "0", 101, None), ("s", "1", 207, None), ("s", "2", 207, None)]);
        let mut files = vec![application.clone()];
        files.extend(system.iter().rev().cloned());
        let steps = bundle(&old, &Catalogue::default(), &files).unwrap();
        let order: Vec<_> = steps.iter().map(|step| (step.function, step.index)).collect();
        assert_eq!(order, [('b', 0), ('s', 1), ('s', 2), ('u', 1)]);
        // The application alone brings what the catalogue has for it.
        let steps = bundle(&old, &Catalogue::new(system), &[application]).unwrap();
        assert_eq!(steps.last().map(|step| step.function), Some('u'));
        assert!(steps.len() > 1);
    }

    #[test]
    fn module_of_another_platform_is_refused_by_name() {
        let mut application = synthetic::application().unwrap();
        application.prefix.platform_id = 10;
        let refused = flash(&describe(&[]), &Catalogue::default(), &application).unwrap_err();
        assert!(matches!(refused, PlanError::Platform { module: 10, device: 6, .. }), "{refused}");
        let application = synthetic::application().unwrap();
        let unknown = flash(&Describe::default(), &Catalogue::default(), &application);
        assert_eq!(unknown, Err(PlanError::NoDescribe));
    }
}
