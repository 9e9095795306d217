//! Modules out of Describe documents, and into them.
//!
//! A server reads what a device has with [`installed`] and resolves with [`plan`](crate::resolve::plan). A device
//! describes each [`Slot`] with [`module_info`].
//!
//! # Source
//! device-os@v2.3.1: `system/src/system_info.cpp`.

use crate::module::{
    Dependency, DependencyRule, Installed, ModuleFunction, Prefix, Slot, Store, Suffix, Validation, Validity,
};
use crate::resolve::Room;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use coap_spark::message::describe::{DependencyInfo, Describe, ModuleInfo};
use core::fmt::Write;

/// The modules that the device has, in the order of the document; empty slots are left out.
///
/// ```
/// use coap_spark::message::describe::Describe;
/// use spark_ota::module::ModuleFunction;
///
/// let json = br#"{"p":6,"m":[{"s":262144,"l":"m","vc":30,"vv":30,"f":"s","n":"2","v":207,"d":[]},
///     {"s":131072,"l":"f","vc":30,"vv":0,"d":[]}]}"#;
/// let installed = spark_ota::describe::installed(&Describe::from_json(json)?);
/// assert_eq!(installed.len(), 1);
/// assert_eq!((installed[0].function, installed[0].version), (ModuleFunction::System, 207));
/// # Ok::<(), coap_spark::message::describe::DescribeError>(())
/// ```
#[must_use]
pub fn installed(describe: &Describe) -> Vec<Installed> {
    describe.modules.iter().flatten().filter_map(installed_module).collect()
}

/// The room that the document gives for each module, for [`Request::rooms`](crate::resolve::Request::rooms). Empty slots
/// do not say whose they are.
#[must_use]
pub fn rooms(describe: &Describe) -> Vec<Room> {
    let modules = describe.modules.iter().flatten();
    modules
        .filter(|info| info.maximum_size > 0)
        .filter_map(|info| {
            let module = installed_module(info).filter(|module| module.store == Store::Main)?;
            Some(Room { key: module.key(), size: info.maximum_size })
        })
        .collect()
}

/// The module of one slot; `None` if the slot is empty, or its function or store is none that we know.
///
/// A missing version or index is 0, as servers have always read it. A module is good unless its CRC was checked and is
/// wrong. More than two dependencies are cut off.
#[must_use]
pub fn installed_module(info: &ModuleInfo) -> Option<Installed> {
    let function =
        function(info.function.as_deref()?).filter(|function| *function != ModuleFunction::None)?;
    let store = Store::from_letter(letter(&info.store)?)?;
    let validation =
        Validation { checked: Validity(info.validity_checked), result: Validity(info.validity_result) };
    let mut needs = info.dependencies.iter().filter_map(dependency);
    Some(Installed {
        function,
        index: index(info.index.as_deref().unwrap_or_default()),
        version: info.version.unwrap_or_default(),
        store,
        integrity_ok: !validation.failed().contains(Validity::INTEGRITY),
        dependencies: [needs.next().unwrap_or(Dependency::NONE), needs.next().unwrap_or(Dependency::NONE)],
        sha256: info.sha256.as_deref().and_then(digest),
    })
}

/// How a device of the generation of `rule` describes a slot, with the module found in it.
///
/// A module out of range is reported without what it is. Before Device OS 0.7 only the first dependency is listed.
/// The digest is told of user parts only, in lower case.
#[must_use]
pub fn module_info(
    slot: &Slot,
    validation: Validation,
    module: Option<(&Prefix, &Suffix)>,
    rule: DependencyRule,
) -> ModuleInfo {
    let empty = ModuleInfo {
        maximum_size: slot.region.size,
        store: slot.store.letter().to_string(),
        validity_checked: validation.checked.0,
        validity_result: validation.result.0,
        ..ModuleInfo::default()
    };
    let in_range = !validation.failed().contains(Validity::RANGE);
    let Some((prefix, suffix)) = module.filter(|_| in_range) else { return empty };
    let listed = if rule == DependencyRule::FirstOnly { 1 } else { 2 };
    let needs = prefix.dependencies.iter().take(listed).filter(|need| !need.is_none());
    ModuleInfo {
        sha256: (prefix.function == ModuleFunction::User).then(|| hex(&suffix.sha256)),
        function: Some(prefix.function.letter().to_string()),
        index: Some(prefix.index.to_string()),
        version: Some(prefix.version),
        dependencies: needs
            .map(|need| DependencyInfo {
                function: need.function.letter().to_string(),
                index: need.index.to_string(),
                version: need.version,
            })
            .collect(),
        ..empty
    }
}

fn letter(text: &str) -> Option<char> {
    let mut letters = text.chars();
    letters.next().filter(|_| letters.next().is_none())
}

fn function(text: &str) -> Option<ModuleFunction> {
    ModuleFunction::from_letter(letter(text)?)
}

fn index(text: &str) -> u8 {
    text.parse().unwrap_or_default()
}

fn dependency(info: &DependencyInfo) -> Option<Dependency> {
    let function = function(&info.function).filter(|function| *function != ModuleFunction::None)?;
    Some(Dependency { function, index: index(&info.index), version: info.version })
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != digest.len() || !rest.is_empty() {
        return None;
    }
    for (place, [high, low]) in digest.iter_mut().zip(pairs) {
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        *place = u8::try_from(value(high)? << 4 | value(low)?).ok()?;
    }
    Some(digest)
}

fn hex(digest: &[u8; 32]) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest {
        // A `String` takes everything.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{Candidate, FlashLayout, Module, ModuleBuilder, Rules, validate};

    fn described(rule: DependencyRule, installed: &[Installed]) -> (ModuleInfo, Installed) {
        let needs = [Dependency::system(1, 2202), Dependency::bootloader(1003)];
        let slot = FlashLayout::PHOTON.slot(ModuleFunction::System, 2, Store::Main).unwrap();
        let builder = ModuleBuilder::new(6, ModuleFunction::System, 2, 2202).depends_on(needs).body(&[1; 64]);
        let file = builder.vector_table(0x2002_0000).build().unwrap();
        let module = Module::parse(&file).unwrap();
        let candidate =
            Candidate { prefix: module.prefix(), crc_ok: true, region: slot.region, platform_id: 6 };
        let validation = validate(&candidate, installed, Rules::installed(rule));
        let info = module_info(slot, validation, Some((module.prefix(), module.suffix())), rule);
        (info, Installed::from_prefix(module.prefix(), Store::Main, true))
    }

    #[test]
    fn described_module_reads_back_the_same() {
        let (info, expected) = described(DependencyRule::Both, &[]);
        let json = Describe { modules: Some(alloc::vec![info]), ..Describe::default() }.to_json();
        assert_eq!(
            json,
            r#"{"m":[{"s":262144,"l":"m","vc":30,"vv":26,"f":"s","n":"2","v":2202,"d":[{"f":"s","n":"1","v":2202},{"f":"b","n":"0","v":1003}]}]}"#
        );
        assert_eq!(installed(&Describe::from_json(json.as_bytes()).unwrap()), [expected]);
    }

    #[test]
    fn old_firmware_lists_the_first_dependency_only() {
        let (info, _) = described(DependencyRule::FirstOnly, &[]);
        assert_eq!(info.dependencies.len(), 1);
    }

    #[test]
    fn slot_without_a_module_in_range_has_no_function_and_is_not_read_back() {
        let slot = &FlashLayout::PHOTON.slots[3];
        let file = ModuleBuilder::new(6, ModuleFunction::User, 1, 6).body(&[1; 64]).build().unwrap();
        let module = Module::parse(&file).unwrap();
        let found = Some((module.prefix(), module.suffix()));
        let bad = Validation { checked: Validity::USUAL, result: Validity::default() };
        for (validation, module) in [(bad, found), (Validation::default(), None)] {
            let info = module_info(slot, validation, module, DependencyRule::Both);
            assert_eq!((info.function.as_deref(), info.maximum_size), (None, 0x20000));
            assert_eq!(installed_module(&info), None);
        }
        let good = Validation { checked: Validity::USUAL, result: Validity::USUAL };
        let mut info = module_info(slot, good, found, DependencyRule::Both);
        info.sha256 = info.sha256.map(|text| text.to_uppercase());
        assert_eq!(installed_module(&info).unwrap().sha256, Some(module.suffix().sha256));
    }

    #[test]
    fn failed_integrity_and_strange_texts_are_read_as_they_are_meant() {
        let (mut info, _) = described(DependencyRule::Both, &[]);
        info.validity_result = 28;
        assert!(!installed_module(&info).unwrap().integrity_ok);
        info.validity_checked = 28;
        assert!(installed_module(&info).unwrap().integrity_ok);
        (info.index, info.version, info.sha256) = (Some("x".into()), None, Some("zz".into()));
        let module = installed_module(&info).unwrap();
        assert_eq!((module.index, module.version, module.sha256), (0, 0, None));
        for letters in ["", "ss", "x", "n"] {
            info.function = Some(letters.into());
            assert_eq!(installed_module(&info), None);
        }
    }
}
