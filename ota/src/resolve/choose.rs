//! One step of a resolution: what is needed, what will do, and which of it can be first.

use super::step::{PlannedStep, Reason, Why};
use super::{CatalogueEntry, Request};
use crate::module::{Dependency, Installed, ModuleFunction, ModuleKey};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

#[derive(Clone, Copy)]
struct Have {
    version: u16,
    dependencies: [Dependency; 2],
    sha256: Option<[u8; 32]>,
}

/// What is installed and counts.
#[derive(Clone)]
pub(super) struct State(BTreeMap<ModuleKey, Have>);

impl State {
    pub(super) fn new(installed: &[Installed]) -> Self {
        let mut state = BTreeMap::new();
        for module in installed.iter().filter(|module| module.is_usable()) {
            state.entry(module.key()).or_insert(Have {
                version: module.version,
                dependencies: module.dependencies,
                sha256: module.sha256,
            });
        }
        Self(state)
    }

    pub(super) fn install(&mut self, entry: &CatalogueEntry) {
        let CatalogueEntry { version, dependencies, sha256, .. } = *entry;
        self.0.insert(entry.key(), Have { version, dependencies, sha256 });
    }

    pub(super) fn version(&self, key: ModuleKey) -> Option<u16> {
        self.0.get(&key).map(|have| have.version)
    }

    fn satisfies(&self, need: &Dependency) -> bool {
        self.version((*need).into()).is_some_and(|version| version >= need.version)
    }

    fn has(&self, entry: &CatalogueEntry) -> bool {
        self.0.get(&entry.key()).is_some_and(|have| {
            let differs = matches!((have.sha256, entry.sha256), (Some(have), Some(new)) if have != new);
            have.version == entry.version && !differs
        })
    }

    /// An installed module that needs a newer version of `key` than `version`. One that does not have it anyway
    /// does not count, unless it is a system part: for these the device itself refuses the older version.
    fn blocker(
        &self,
        key: ModuleKey,
        version: u16,
        replaced: impl Fn(ModuleKey) -> bool,
    ) -> Option<(ModuleKey, u16, u16)> {
        let blockers = self.0.iter().filter(|(by, _)| **by != key && !replaced(**by));
        blockers
            .flat_map(|(by, have)| needs(&have.dependencies).map(|need| (*by, have.version, *need)))
            .find(|(by, _, need)| {
                ModuleKey::from(*need) == key
                    && need.version > version
                    && (by.function == ModuleFunction::System || self.satisfies(need))
            })
            .map(|(by, by_version, need)| (by, by_version, need.version))
    }
}

fn needs(dependencies: &[Dependency; 2]) -> impl Iterator<Item = &Dependency> {
    dependencies.iter().filter(|dependency| !dependency.is_none())
}

#[derive(Clone, Copy)]
struct Need {
    at_least: u16,
    by: ModuleKey,
    by_version: u16,
}

#[derive(Clone, Copy)]
struct Choice<'a> {
    entry: usize,
    module: &'a CatalogueEntry,
    /// Not because of a need, but on behalf of the target.
    pinned: Option<Why>,
}

type Choices<'a> = BTreeMap<ModuleKey, Choice<'a>>;

/// The module to send first, `None` if nothing is missing.
pub(super) fn one_step(
    request: &Request<'_>,
    target: Option<usize>,
    state: &State,
) -> Result<Option<PlannedStep>, Reason> {
    let target = target.and_then(|entry| Some((entry, request.catalogue.get(entry)?)));
    let mut choices = pin(request, target, state)?;
    let held = target.map(|(_, module)| module);
    let needed = complete(request, state, held, &mut choices)?;
    if choices.is_empty() {
        return Ok(None);
    }
    let Some((key, choice)) = first(state, &choices) else {
        return Err(Reason::Cycle { keys: waiting(state, &choices), bootstrap: None });
    };
    let installed = state.version(key);
    let why = match (choice.pinned, needed.get(&key)) {
        (None, Some(Need { at_least, by, by_version })) => {
            Why::Needed { by: *by, by_version: *by_version, at_least: *at_least, installed }
        }
        (why, _) => why.unwrap_or(Why::Target { installed }),
    };
    Ok(Some(PlannedStep { entry: choice.entry, key, version: choice.module.version, why }))
}

fn entries<'a>(request: &Request<'a>, key: ModuleKey) -> impl Iterator<Item = (usize, &'a CatalogueEntry)> {
    let platform_id = request.platform_id;
    let all = request.catalogue.iter().enumerate();
    all.filter(move |(_, entry)| entry.platform_id == platform_id && entry.key() == key)
}

/// The target, and older versions of what would not run with it.
fn pin<'a>(
    request: &Request<'a>,
    target: Option<(usize, &'a CatalogueEntry)>,
    state: &State,
) -> Result<Choices<'a>, Reason> {
    let mut pins = Choices::new();
    let Some((entry, module)) = target.filter(|(_, module)| !state.has(module)) else { return Ok(pins) };
    let why = Why::Target { installed: state.version(module.key()) };
    pins.insert(module.key(), Choice { entry, module, pinned: Some(why) });
    loop {
        let blocked = pins.iter().find_map(|(key, pin)| {
            let version = pin.module.version;
            Some((*key, version, state.blocker(*key, version, |by| pins.contains_key(&by))?))
        });
        let Some((key, version, (by, by_version, at_least))) = blocked else { return Ok(pins) };
        let runs = |module: &CatalogueEntry| {
            needs(&module.dependencies)
                .all(|need| pins.get(&(*need).into()).is_none_or(|pin| pin.module.version >= need.version))
        };
        let (entry, module) = entries(request, by)
            .filter(|(_, module)| module.version <= by_version && runs(module))
            .max_by_key(|(_, module)| module.version)
            .ok_or(Reason::DowngradeBlocked { key, version, by, by_version, at_least })?;
        pins.insert(by, Choice { entry, module, pinned: Some(Why::NeedsNewer { than: key, version }) });
    }
}

/// What the installed and the chosen modules need. What an installed module needs beyond the target's version, and did not
/// have before, is left open: the target was asked for.
fn gather(state: &State, held: Option<&CatalogueEntry>, choices: &Choices<'_>) -> BTreeMap<ModuleKey, Need> {
    let mut needed: BTreeMap<ModuleKey, Need> = BTreeMap::new();
    let beyond = |need: &Dependency| {
        held.is_some_and(|held| held.key() == (*need).into() && held.version < need.version)
    };
    let mut note = |by, by_version, need: &Dependency| {
        let new = Need { at_least: need.version, by, by_version };
        let known = needed.entry((*need).into()).or_insert(new);
        if known.at_least < new.at_least {
            *known = new;
        }
    };
    for (key, have) in &state.0 {
        if choices.get(key).is_none_or(|choice| choice.pinned.is_none()) {
            let needs = needs(&have.dependencies).filter(|need| !beyond(need));
            needs.for_each(|need| note(*key, have.version, need));
        }
    }
    for module in choices.values().map(|choice| choice.module) {
        needs(&module.dependencies).for_each(|need| note(module.key(), module.version, need));
    }
    needed
}

/// Adds what the installed and the chosen modules need, until nothing more is needed. If a module turns out to be too old
/// for another one, all is chosen anew with a newer one, as what it needed itself does not count any more.
fn complete<'a>(
    request: &Request<'a>,
    state: &State,
    held: Option<&CatalogueEntry>,
    choices: &mut Choices<'a>,
) -> Result<BTreeMap<ModuleKey, Need>, Reason> {
    let pins = choices.clone();
    // Each new beginning raises a key to a version that something needs; each round in between adds a key.
    let mut least: BTreeMap<ModuleKey, u16> = BTreeMap::new();
    loop {
        let needed = gather(state, held, choices);
        let too_old = needed.iter().find(|(key, need)| {
            choices
                .get(key)
                .is_some_and(|choice| choice.pinned.is_none() && choice.module.version < need.at_least)
                && least.get(key).is_none_or(|least| *least < need.at_least)
        });
        if let Some((key, need)) = too_old {
            least.insert(*key, need.at_least);
            choices.clone_from(&pins);
            continue;
        }
        // What is in the way may still be needed by something that turns out to be too old itself.
        let (mut added, mut in_the_way) = (false, None);
        for (key, need) in &needed {
            let (key, Need { at_least, by, by_version }) = (*key, *need);
            let reason = match choices.get(&key) {
                Some(Choice { module, .. }) if module.version >= at_least => continue,
                None if state.version(key).is_some_and(|version| version >= at_least) => continue,
                Some(Choice { module, pinned: Some(_), .. }) => {
                    Reason::DowngradeBlocked { key, version: module.version, by, by_version, at_least }
                }
                Some(_) => Reason::Missing { key, at_least, by, by_version },
                None => {
                    let lowest = |version| {
                        let fits = entries(request, key).filter(|(_, module)| module.version >= version);
                        fits.min_by_key(|(_, module)| module.version)
                    };
                    let raised = least.get(&key).map_or(at_least, |least| at_least.max(*least));
                    if let Some((entry, module)) = lowest(raised).or_else(|| lowest(at_least)) {
                        choices.insert(key, Choice { entry, module, pinned: None });
                        added = true;
                        continue;
                    }
                    Reason::Missing { key, at_least, by, by_version }
                }
            };
            in_the_way = in_the_way.or(Some(reason));
        }
        match in_the_way {
            _ if added => {}
            Some(reason) => return Err(reason),
            None => return Ok(needed),
        }
    }
}

/// Installed modules satisfy all its needs, and none needs more of it than it is.
fn is_ready(state: &State, module: &CatalogueEntry) -> bool {
    needs(&module.dependencies).all(|need| state.satisfies(need))
        && state.blocker(module.key(), module.version, |_| false).is_none()
}

const fn rank(function: ModuleFunction) -> u8 {
    match function {
        ModuleFunction::Bootloader => 0,
        ModuleFunction::RadioStack => 1,
        ModuleFunction::Ncp => 2,
        ModuleFunction::System | ModuleFunction::Monolithic => 3,
        ModuleFunction::User => 5,
        ModuleFunction::Asset => 6,
        _ => 4,
    }
}

fn first<'a>(state: &State, choices: &Choices<'a>) -> Option<(ModuleKey, Choice<'a>)> {
    let ready: Choices<'a> = choices
        .iter()
        .filter(|(_, choice)| is_ready(state, choice.module))
        .map(|(key, choice)| (*key, *choice))
        .collect();
    // Of two that could go now, the one that the other builds on.
    let above = |choice: &Choice<'_>| {
        needs(&choice.module.dependencies).filter(|need| ready.contains_key(&(**need).into())).count()
    };
    let order = |(key, choice): &(&ModuleKey, &Choice<'_>)| (rank(key.function), above(choice), **key);
    ready.iter().min_by_key(order).map(|(key, choice)| (*key, *choice))
}

/// The modules that wait for each other: what remains when those for which no other one waits are left out.
fn waiting(state: &State, choices: &Choices<'_>) -> Vec<ModuleKey> {
    let mut keys: Vec<ModuleKey> = choices.keys().copied().collect();
    loop {
        let awaited = |key: &ModuleKey| {
            keys.iter().filter_map(|by| choices.get(by)).any(|by| {
                needs(&by.module.dependencies)
                    .any(|need| ModuleKey::from(*need) == *key && !state.satisfies(need))
            })
        };
        let fewer: Vec<ModuleKey> = keys.iter().copied().filter(awaited).collect();
        if fewer.is_empty() || fewer.len() == keys.len() {
            return keys;
        }
        keys = fewer;
    }
}
