//! What a device thinks of a module.

use super::installed::Installed;
use super::prefix::{Dependency, ModuleFunction, Prefix};
use super::region::Region;
use core::ops::BitOr;

/// Bits of a validity, as in a Describe document.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Validity(pub u16);

impl Validity {
    /// CRC.
    pub const INTEGRITY: Self = Self(2);
    /// Needed modules are there.
    pub const DEPENDENCIES: Self = Self(4);
    /// Addresses fit the region.
    pub const RANGE: Self = Self(8);
    /// Platform id.
    pub const PLATFORM: Self = Self(16);
    /// Product id.
    pub const PRODUCT: Self = Self(32);
    /// No installed system part needs a newer version.
    pub const DEPENDENCIES_FULL: Self = Self(64);
    /// What devices usually check of installed modules: 30.
    pub const USUAL: Self = Self(30);

    /// All bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl Validity {
    /// The words for the bits that are set, the lowest first.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let names = ["integrity", "dependencies", "range", "platform", "product", "dependencies-full"];
        names
            .into_iter()
            .enumerate()
            .filter(move |(bit, _)| self.0 >> (bit + 1) & 1 == 1)
            .map(|(_, name)| name)
    }
}

impl BitOr for Validity {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What was checked and what came out: `vc` and `vv` of a Describe document.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Validation {
    /// What was checked.
    pub checked: Validity,
    /// What of it is good.
    pub result: Validity,
}

impl Validation {
    /// All that was checked is good.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.checked.0 == self.result.0
    }

    /// What was checked and is not good.
    #[must_use]
    pub const fn failed(&self) -> Validity {
        Validity(self.checked.0 & !self.result.0)
    }
}

/// Which dependencies the firmware looks at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum DependencyRule {
    /// The first; before Device OS 0.7.
    FirstOnly,
    /// Both, but not the second if the first is empty; from Device OS 0.7.
    Both,
}

/// How strictly a module is judged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rules {
    /// Which dependencies are looked at.
    pub dependencies: DependencyRule,
    /// Dependencies of a user part, and a bootloader as second dependency, need not be there: they may come with the
    /// next updates.
    pub ota: bool,
    /// Check [`Validity::DEPENDENCIES_FULL`] too.
    pub full: bool,
}

impl Rules {
    /// A module that is installed.
    #[must_use]
    pub const fn installed(dependencies: DependencyRule) -> Self {
        Self { dependencies, ota: false, full: false }
    }

    /// A module that has just arrived: the full dependencies are checked from Device OS 2.0.
    #[must_use]
    pub const fn ota(dependencies: DependencyRule, full: bool) -> Self {
        Self { dependencies, ota: true, full }
    }
}

/// A module to be judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Candidate<'a> {
    /// What it is.
    pub prefix: &'a Prefix,
    /// Its CRC is right.
    pub crc_ok: bool,
    /// Where it runs, or will run.
    pub region: Region,
    /// Platform id of the device.
    pub platform_id: u16,
}

/// Judges a module as the firmware does, among the modules in `installed`. The result is data: nothing is refused.
///
/// A dependency is met by a usable installed module of at least its version; what that one needs is not looked at.
/// (Firmware takes a damaged module for present as well; give it [`Installed`] with `integrity_ok` set to see that.)
/// Out of range, nothing else is looked at and no bit is good. The bits for dependencies and full dependencies are good
/// only together.
///
/// ```
/// # #[cfg(feature = "alloc")] {
/// use spark_ota::module::{
///     Candidate, Dependency, DependencyRule, FlashLayout, Installed, Module, ModuleBuilder, ModuleFunction, Rules,
///     Store, Validity, validate,
/// };
///
/// let needs = [Dependency::system(2, 2202), Dependency::NONE];
/// let file = ModuleBuilder::new(6, ModuleFunction::User, 1, 6).depends_on(needs).body(&[1; 64]).build().unwrap();
/// let module = Module::parse(&file).unwrap();
/// let installed = [Installed::main(ModuleFunction::System, 2, 207, [Dependency::NONE; 2])];
/// let slot = FlashLayout::PHOTON.slot(ModuleFunction::User, 1, Store::Main).unwrap();
/// let candidate =
///     Candidate { prefix: module.prefix(), crc_ok: module.crc_ok(), region: slot.region, platform_id: 6 };
/// let validation = validate(&candidate, &installed, Rules::installed(DependencyRule::Both));
/// assert_eq!(validation.checked, Validity::USUAL);
/// assert_eq!(validation.failed(), Validity::DEPENDENCIES); // the device goes to safe mode
/// # }
/// ```
///
/// Before a module is copied to its start address, compare that address and the size with the place: like the firmware,
/// the range check looks at the end address alone.
///
/// # Source
/// device-os: the functions `fetch_module`, `validate_module_dependencies` and `validate_module_dependencies_full` of the
/// HAL of the STM32 platforms.
#[must_use]
pub fn validate(candidate: &Candidate<'_>, installed: &[Installed], rules: Rules) -> Validation {
    let Candidate { prefix, crc_ok, region, platform_id } = *candidate;
    let full = if rules.full { Validity::DEPENDENCIES_FULL } else { Validity::default() };
    let checked = Validity::USUAL | full;
    if !region.accepts(prefix) {
        return Validation { checked, result: Validity::default() };
    }
    let met =
        dependencies_met(prefix, installed, rules) && (!rules.full || nothing_needs_newer(prefix, installed));
    let results = [
        (Validity::INTEGRITY, crc_ok),
        (Validity::DEPENDENCIES | full, met),
        (Validity::RANGE, true),
        (Validity::PLATFORM, prefix.platform_id == platform_id),
    ];
    let good = results.into_iter().filter(|(_, good)| *good);
    Validation { checked, result: good.fold(Validity::default(), |all, (bits, _)| all | bits) }
}

fn met(dependency: &Dependency, installed: &[Installed]) -> bool {
    installed.iter().any(|module| {
        module.is_usable()
            && (module.function, module.index) == (dependency.function, dependency.index)
            && module.version >= dependency.version
    })
}

fn dependencies_met(prefix: &Prefix, installed: &[Installed], rules: Rules) -> bool {
    let [first, second] = prefix.dependencies;
    if first.is_none() || (rules.ota && prefix.function == ModuleFunction::User) {
        return true;
    }
    met(&first, installed)
        && (rules.dependencies == DependencyRule::FirstOnly
            || second.is_none()
            || (rules.ota && second.function == ModuleFunction::Bootloader)
            || met(&second, installed))
}

/// The downgrade limit, for system parts.
fn nothing_needs_newer(prefix: &Prefix, installed: &[Installed]) -> bool {
    prefix.function != ModuleFunction::System
        || !installed
            .iter()
            .filter(|module| module.is_usable() && module.function == ModuleFunction::System)
            .flat_map(|module| module.dependencies)
            .any(|need| {
                (need.function, need.index) == (prefix.function, prefix.index)
                    && need.version > prefix.version
            })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{Flags, Store};

    const NONE: Dependency = Dependency::NONE;

    fn judge(
        function: ModuleFunction,
        version: u16,
        dependencies: [Dependency; 2],
        installed: &[Installed],
        rules: Rules,
    ) -> u16 {
        let region = Region { address: 0x0806_0000, size: 0x40000 };
        let prefix = Prefix {
            start_address: region.address,
            end_address: region.end(),
            reserved: 0,
            flags: Flags(0),
            version,
            platform_id: 6,
            function,
            index: 2,
            dependencies,
        };
        validate(&Candidate { prefix: &prefix, crc_ok: true, region, platform_id: 6 }, installed, rules)
            .failed()
            .0
    }

    #[test]
    fn dependency_needs_a_usable_module_of_at_least_its_version() {
        let part = |version| Installed::main(ModuleFunction::System, 1, version, [NONE; 2]);
        let needs = [Dependency::system(1, 207), NONE];
        let rules = Rules::installed(DependencyRule::Both);
        let judge = |installed: &[Installed]| judge(ModuleFunction::System, 207, needs, installed, rules);
        assert_eq!(judge(&[]), 4);
        assert_eq!(judge(&[part(206)]), 4);
        assert_eq!((judge(&[part(207)]), judge(&[part(208)])), (0, 0));
        assert_eq!(judge(&[Installed { integrity_ok: false, ..part(207) }]), 4);
        assert_eq!(judge(&[Installed { store: Store::Factory, ..part(207) }]), 4);
    }

    #[test]
    fn second_dependency_counts_only_after_a_first_and_only_from_0_7() {
        let part = [Installed::main(ModuleFunction::System, 1, 207, [NONE; 2])];
        let loader = Dependency::bootloader(1003);
        let judge = |needs, rule| judge(ModuleFunction::System, 207, needs, &part, Rules::installed(rule));
        let both = [Dependency::system(1, 207), loader];
        assert_eq!(judge(both, DependencyRule::Both), 4);
        assert_eq!(judge(both, DependencyRule::FirstOnly), 0);
        assert_eq!(judge([NONE, loader], DependencyRule::Both), 0);
    }

    #[test]
    fn arriving_parts_need_no_bootloader_and_arriving_user_parts_need_nothing() {
        let part = [Installed::main(ModuleFunction::System, 1, 207, [NONE; 2])];
        let rules = Rules::ota(DependencyRule::Both, true);
        let needs = [Dependency::system(1, 207), Dependency::bootloader(1003)];
        assert_eq!(judge(ModuleFunction::System, 207, needs, &part, rules), 0);
        let needs = [Dependency::system(1, 207), Dependency::system(2, 207)];
        assert_eq!(judge(ModuleFunction::System, 207, needs, &part, rules), 4 | 64);
        assert_eq!(judge(ModuleFunction::User, 6, needs, &part, rules), 0);
    }

    #[test]
    fn system_part_that_another_one_needs_newer_fails_the_full_check() {
        let needs = [Dependency::system(2, 207), NONE];
        let rules = Rules::ota(DependencyRule::Both, true);
        let part = [Installed::main(ModuleFunction::System, 1, 2202, needs)];
        assert_eq!(judge(ModuleFunction::System, 206, [NONE; 2], &part, rules), 4 | 64);
        assert_eq!(judge(ModuleFunction::System, 207, [NONE; 2], &part, rules), 0);
        let user = [Installed::main(ModuleFunction::User, 1, 6, needs)];
        assert_eq!(judge(ModuleFunction::System, 206, [NONE; 2], &user, rules), 0);
    }

    #[test]
    fn validities_have_names() {
        let words = |bits| Validity(bits).names().collect::<alloc::vec::Vec<_>>();
        assert_eq!(words(30), ["integrity", "dependencies", "range", "platform"]);
        assert_eq!(words(96), ["product", "dependencies-full"]);
        assert_eq!(words(0xff81), words(0));
    }

    #[test]
    fn integrity_and_platform_have_their_own_bits_and_nothing_is_good_out_of_range() {
        let region = Region { address: 0x080a_0000, size: 0x20000 };
        let mut prefix = Prefix::decode(&[0; 24]);
        prefix.function = ModuleFunction::User;
        (prefix.start_address, prefix.end_address) = (region.address, region.end());
        let judge = |prefix: &Prefix, crc_ok, platform_id| {
            let candidate = Candidate { prefix, crc_ok, region, platform_id };
            let validation = validate(&candidate, &[], Rules::installed(DependencyRule::Both));
            assert_eq!(validation.checked, Validity::USUAL);
            assert_eq!(validation.is_valid(), validation.failed() == Validity(0));
            validation.result.0
        };
        assert_eq!(judge(&prefix, true, 0), 30);
        assert_eq!(judge(&prefix, false, 0), 28);
        assert_eq!(judge(&prefix, true, 6), 14);
        prefix.end_address += 1;
        assert_eq!(judge(&prefix, true, 0), 0);
    }
}
