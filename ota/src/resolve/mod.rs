//! Which module to send to a device next, so that all it has fits together.
//!
//! A device whose application needs a newer system than it has stays in safe mode until a server sends it what is
//! missing, module by module, in an order in which each module finds what it needs when it arrives. [`plan`] finds that
//! order from what the device says it has and a catalogue of modules; [`next_step`] gives its first step, to be asked
//! again with the next Describe after each update.
//!
//! The rules, in short:
//!
//! 1. Only good modules in the main store count.
//! 2. All that they need, and all that the target needs, has to be there, and so on for what is chosen.
//! 3. For what is missing or too old, the lowest version in the catalogue that will do is chosen.
//! 4. A module goes out when the *installed* modules satisfy its needs: bootloader first, then radio stack, NCP, system
//!    parts, user part, assets.
//! 5. Nothing is downgraded but on behalf of an explicit target, and then what needs the newer version is replaced
//!    first.
//! 6. If no module can be first, that is a [`Reason::Cycle`], and the catalogue is searched for an older module that,
//!    installed before, breaks it: a Photon below Device OS 0.7 takes 2.x only after 0.7.
//! 7. A module that was sent and did not stick is not sent for ever, and none that is too big for its place at all.
//!
//! A plan that does not reach its end is refused before its first step. All work is bounded by the catalogue's size.

mod choose;
mod step;

pub use step::{PlannedStep, Reason, Step, Why};

use crate::module::{Dependency, Installed, Module, ModuleFunction, ModuleKey, Prefix};
use alloc::vec::Vec;
use choose::{State, one_step};

/// A module that could be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CatalogueEntry {
    /// Platform it is for.
    pub platform_id: u16,
    /// Function.
    pub function: ModuleFunction,
    /// Index.
    pub index: u8,
    /// Version.
    pub version: u16,
    /// What it needs.
    pub dependencies: [Dependency; 2],
    /// Bytes of the file.
    pub size: u32,
    /// SHA-256 of its suffix, if known.
    pub sha256: Option<[u8; 32]>,
}

impl CatalogueEntry {
    /// The module of this prefix in a file of `size` bytes, without SHA-256.
    #[must_use]
    pub const fn from_prefix(prefix: &Prefix, size: u32) -> Self {
        Self {
            platform_id: prefix.platform_id,
            function: prefix.function,
            index: prefix.index,
            version: prefix.version,
            dependencies: prefix.dependencies,
            size,
            sha256: None,
        }
    }

    /// Function and index.
    #[must_use]
    pub const fn key(&self) -> ModuleKey {
        ModuleKey { function: self.function, index: self.index }
    }
}

impl From<&Module<'_>> for CatalogueEntry {
    fn from(module: &Module<'_>) -> Self {
        let size = u32::try_from(module.image().len()).unwrap_or(u32::MAX);
        Self { sha256: Some(module.suffix().sha256), ..Self::from_prefix(module.prefix(), size) }
    }
}

/// A module that was sent to the device before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Attempt {
    /// Which.
    pub key: ModuleKey,
    /// Its version.
    pub version: u16,
    /// How often it was sent.
    pub times: u8,
}

/// Room for a module: the size of its place, or of the OTA region if that is smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Room {
    /// Which module.
    pub key: ModuleKey,
    /// Most bytes of its file.
    pub size: u32,
}

/// What a device must have before it can take a module, though the module's prefix does not say so: a bootloader that
/// knows where larger applications begin, for instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Gate {
    /// Which module.
    pub key: ModuleKey,
    /// From this version on.
    pub from: u16,
    /// What has to be installed when it comes.
    pub needs: Dependency,
}

/// What is to be resolved.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Request<'a> {
    /// Platform of the device.
    pub platform_id: u16,
    /// What the device has; other stores and damaged modules are passed over.
    pub installed: &'a [Installed],
    /// What could be sent; modules for other platforms are passed over.
    pub catalogue: &'a [CatalogueEntry],
    /// Index in the catalogue of a module that shall be installed, older or newer than the present one. It counts as
    /// installed when version and, where both are known, SHA-256 are the same. What an installed module needs beyond
    /// the target's version, and does not have now, stays open.
    pub target: Option<usize>,
    /// What was sent already.
    pub attempts: &'a [Attempt],
    /// A module that was sent this often and is still not there is not sent again; 2 by default.
    pub attempt_limit: u8,
    /// Places and their sizes; a module without one is not too big. The feature `describe` reads them out of a Describe
    /// document.
    pub rooms: &'a [Room],
    /// Modules that need more than they say; none by default.
    pub gates: &'a [Gate],
    /// Install the bootstrap of a cycle first instead of giving up; off by default.
    pub use_bootstrap: bool,
}

impl<'a> Request<'a> {
    /// What the device needs to get out of safe mode.
    #[must_use]
    pub const fn new(platform_id: u16, installed: &'a [Installed], catalogue: &'a [CatalogueEntry]) -> Self {
        Self {
            platform_id,
            installed,
            catalogue,
            target: None,
            attempts: &[],
            attempt_limit: 2,
            rooms: &[],
            gates: &[],
            use_bootstrap: false,
        }
    }
}

/// What to send now.
///
/// ```
/// use spark_ota::module::{Dependency, Installed, ModuleFunction::{System, User}};
/// use spark_ota::resolve::{CatalogueEntry, Request, Step, next_step};
///
/// let none = Dependency::NONE;
/// let part2 = |version| CatalogueEntry {
///     platform_id: 6, function: System, index: 2, version, dependencies: [none; 2], size: 262_144, sha256: None,
/// };
/// let catalogue = [part2(207), part2(1512), part2(2202)];
/// let installed = [
///     Installed::main(System, 2, 207, [none; 2]),
///     Installed::main(User, 1, 6, [Dependency::system(2, 1404), none]),
/// ];
/// let Step::Flash(step) = next_step(&Request::new(6, &installed, &catalogue)) else { panic!() };
/// assert_eq!(step.entry, 1);
/// assert_eq!(
///     step.to_string(),
///     "system part 2 version 1512: user part version 6 needs at least 1404, installed is 207",
/// );
/// ```
#[must_use]
pub fn next_step(request: &Request<'_>) -> Step {
    match plan(request) {
        Err(reason) => Step::Impossible(reason),
        Ok(steps) => steps.into_iter().next().map_or(Step::Done, Step::Flash),
    }
}

/// All that has to be sent, in order; nothing if nothing is missing.
///
/// # Errors
/// The [`Reason`] why the device cannot get there from here.
pub fn plan(request: &Request<'_>) -> Result<Vec<PlannedStep>, Reason> {
    if let Some(entry) = request.target {
        let (expected, len) = (request.platform_id, request.catalogue.len());
        let target = request.catalogue.get(entry).ok_or(Reason::NoSuchTarget { entry, len })?;
        if target.platform_id != expected {
            return Err(Reason::PlatformMismatch { entry, found: target.platform_id, expected });
        }
    }
    let state = State::new(request.installed);
    let steps = match simulate(request, request.target, state.clone()) {
        Ok((steps, _)) => steps,
        Err(Reason::Cycle { keys, .. }) => match bootstrap(request, &state, &keys) {
            Some((_, steps)) if request.use_bootstrap => steps,
            found => {
                return Err(Reason::Cycle { keys, bootstrap: found.map(|(entry, _)| entry) });
            }
        },
        Err(reason) => return Err(reason),
    };
    if let Some(PlannedStep { key, version, .. }) = steps.first().copied() {
        let before =
            request.attempts.iter().filter(|attempt| (attempt.key, attempt.version) == (key, version));
        let times = before.map(|attempt| attempt.times).fold(0, u8::saturating_add);
        if times >= request.attempt_limit {
            return Err(Reason::NotApplied { key, version, times });
        }
    }
    Ok(steps)
}

fn simulate(
    request: &Request<'_>,
    target: Option<usize>,
    mut state: State,
) -> Result<(Vec<PlannedStep>, State), Reason> {
    let mut steps: Vec<PlannedStep> = Vec::new();
    // Versions only rise, but for the replacements on behalf of a target, which go down once each.
    let limit = 2 * request.catalogue.len() + 2;
    while let Some(step) = one_step(request, target, &state)? {
        if steps.len() >= limit {
            let mut keys: Vec<ModuleKey> = steps.iter().map(|step| step.key).collect();
            keys.sort_unstable();
            keys.dedup();
            return Err(Reason::Cycle { keys, bootstrap: None });
        }
        if let Some(entry) = request.catalogue.get(step.entry) {
            may_go(request, &state, entry)?;
            state.install(entry);
        }
        steps.push(step);
    }
    Ok((steps, state))
}

/// Whether the device can take this module now.
fn may_go(request: &Request<'_>, state: &State, entry: &CatalogueEntry) -> Result<(), Reason> {
    let (key, version) = (entry.key(), entry.version);
    if let Some(room) = request.rooms.iter().find(|room| room.key == key && entry.size > room.size) {
        return Err(Reason::TooBig { key, version, size: entry.size, room: room.size });
    }
    let gates = request.gates.iter().filter(|gate| gate.key == key && version >= gate.from);
    for Gate { needs, .. } in gates {
        let (by, installed) = ((*needs).into(), state.version((*needs).into()));
        if installed.is_none_or(|installed| installed < needs.version) {
            return Err(Reason::Gated { key, version, needs: by, at_least: needs.version, installed });
        }
    }
    Ok(())
}

/// The lowest version of a module of the cycle that can be installed now and after which all goes well, and the whole
/// way with it.
fn bootstrap(request: &Request<'_>, state: &State, keys: &[ModuleKey]) -> Option<(usize, Vec<PlannedStep>)> {
    let mut candidates: Vec<(u16, usize)> = request
        .catalogue
        .iter()
        .enumerate()
        .filter(|(_, entry)| {
            entry.platform_id == request.platform_id
                && keys.contains(&entry.key())
                && state.version(entry.key()).is_none_or(|version| version < entry.version)
        })
        .map(|(at, entry)| (entry.version, at))
        .collect();
    candidates.sort_unstable();
    candidates.into_iter().find_map(|(_, candidate)| {
        let (mut steps, state) = simulate(request, Some(candidate), state.clone()).ok()?;
        if steps.iter().any(|step| matches!(step.why, Why::NeedsNewer { .. })) {
            return None;
        }
        let (rest, _) = simulate(request, request.target, state).ok()?;
        for step in &mut steps {
            if matches!(step.why, Why::Target { .. }) {
                step.why = Why::Bootstrap;
            }
        }
        steps.extend(rest);
        Some((candidate, steps))
    })
}
