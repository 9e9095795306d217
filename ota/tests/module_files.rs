//! Module files of other programs and of the vendor, compared with what `binary-version-reader` 4.2.0 says of them.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use serde_json::Value;
use spark_ota::module::{
    Extension, Module, ModuleError, Prefix, check_in_flash, find_prefix, is_stack_pointer,
};
use std::string::String;
use std::vec::Vec;

const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/modules");
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/ota-particle/modules");

fn entries() -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(format!("{OURS}/parsed.json")).unwrap()).unwrap()
}

fn is_ours(entry: &Value) -> bool {
    entry["file"].as_str().unwrap().starts_with("synth-")
}

fn load(folder: &str, entry: &Value) -> Vec<u8> {
    let file = std::fs::read(format!("{folder}/{}", entry["file"].as_str().unwrap())).unwrap();
    assert_eq!(u64::try_from(file.len()).unwrap(), entry["size"].as_u64().unwrap());
    file
}

fn compare_prefix(prefix: &Prefix, offset: usize, expected: &Value) {
    let [first, second] = prefix.dependencies;
    let numbers = [
        ("prefixOffset", u64::try_from(offset).unwrap()),
        ("reserved", prefix.reserved.into()),
        ("moduleFlags", prefix.flags.0.into()),
        ("moduleVersion", prefix.version.into()),
        ("platformID", prefix.platform_id.into()),
        ("moduleFunction", prefix.function.number().into()),
        ("moduleIndex", prefix.index.into()),
        ("depModuleFunction", first.function.number().into()),
        ("depModuleIndex", first.index.into()),
        ("depModuleVersion", first.version.into()),
        ("dep2ModuleFunction", second.function.number().into()),
        ("dep2ModuleIndex", second.index.into()),
        ("dep2ModuleVersion", second.version.into()),
    ];
    for (name, number) in numbers {
        assert_eq!(expected[name].as_u64(), Some(number), "{name}");
    }
    assert_eq!(expected["moduleStartAddy"], format!("{:x}", prefix.start_address));
    assert_eq!(expected["moduleEndAddy"], format!("{:x}", prefix.end_address));
}

fn compare_suffix(module: &Module<'_>, expected: &Value) {
    let suffix = module.suffix();
    assert_eq!(expected["suffixSize"], suffix.size);
    assert_eq!(expected["reserved"], suffix.reserved);
    assert_eq!(expected["fwUniqueId"], hex::encode(suffix.sha256));
    let (id, version) =
        module.product().map_or((-1, -1), |product| (product.id.into(), product.version.into()));
    assert_eq!(
        (expected["productId"].as_i64(), expected["productVersion"].as_i64()),
        (Some(id), Some(version))
    );
}

/// Every extension by type, place, bytes and what it says.
fn compare_extensions(module: &Module<'_>, parsed: &Value) {
    let lists = [
        (module.prefix_extensions(), &parsed["prefixInfo"]["extensions"], module.prefix_offset()),
        (module.suffix_extensions(), &parsed["suffixInfo"]["extensions"], 0),
    ];
    for (ours, theirs, base) in lists {
        let ours: Vec<_> = ours.map(Result::unwrap).collect();
        let theirs = theirs.as_array().cloned().unwrap_or_default();
        assert_eq!(ours.len(), theirs.len());
        for (our, their) in ours.iter().zip(&theirs) {
            assert_eq!(their["type"], our.extension.kind());
            // Theirs count from the prefix.
            assert_eq!(their["offset"].as_u64(), u64::try_from(our.offset - base).ok());
            let mut raw = [0; 256];
            assert_eq!(their["data"], hex::encode(our.extension.encode_into(&mut raw).unwrap()));
            let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
            match our.extension {
                Extension::Product(data) => {
                    let product = data.product().unwrap();
                    assert_eq!(
                        (&their["productId"], &their["productVersion"]),
                        (&product.id.into(), &product.version.into())
                    );
                }
                Extension::DynamicLocation(location) => {
                    assert_eq!(their["moduleStartAddress"], format!("{:x}", location.module_start_address));
                    assert_eq!(their["dynalibLoadAddress"], format!("{:x}", location.dynalib_load_address));
                    assert_eq!(their["dynalibStartAddress"], format!("{:x}", location.dynalib_start_address));
                }
                Extension::Hash(hash) => assert_eq!(their["hash"], hex::encode(hash.digest)),
                Extension::Name(name) => assert_eq!(their["name"], text(name)),
                Extension::AssetDependency(asset) => {
                    assert_eq!(
                        (&their["hash"], &their["name"]),
                        (&hex::encode(asset.hash.digest).into(), &text(asset.name))
                    );
                }
                Extension::SecurityMode { mode, .. } => assert_eq!(their["securityMode"], mode),
                Extension::End(padding) => assert_eq!(their["length"], padding.len() + 4),
                other => panic!("{other:?} is in no vector"),
            }
        }
    }
}

fn compare(entry: &Value, file: &[u8]) {
    let name = entry["file"].as_str().unwrap();
    let parsed = &entry["parsed"];
    let prefix = &parsed["prefixInfo"];
    match name {
        // It takes the end of the file for the end of the module. The first module of each is whole; these are
        // followed by the next modules, by a gap and more modules, and by padding.
        "synth-photon-combined.bin" | "combined-p1.bin" | "damaged-padded.bin" => {
            assert_eq!(parsed["crc"]["ok"], false);
            let module = Module::parse(file).unwrap();
            compare_prefix(module.prefix(), module.prefix_offset(), prefix);
            assert!(module.crc_ok() && module.sha256_ok());
            let trailing = [
                ("synth-photon-combined.bin", 1724),
                ("combined-p1.bin", 281_424),
                ("damaged-padded.bin", 16),
            ];
            assert!(trailing.contains(&(name, module.trailing().len())), "{}", module.trailing().len());
        }
        // It reports a suffix out of the middle of the file.
        "damaged-truncated.bin" => {
            let error = ModuleError::Truncated { offset: 0, needed: 568, available: 561 };
            assert_eq!(Module::parse(file), Err(error));
        }
        // Factory bootloaders in padding, whose CRCs are not even right at the ends their prefixes give. It throws at
        // one of them, and reports the padding as the suffix of the other.
        "RC2_bootloader.bin" | "RC4_bootloader_pad_BM-09.bin" => {
            let Err(ModuleError::NotAModule { best: Some(found) }) = Module::parse(file) else {
                panic!("{name}")
            };
            assert_eq!((found.offset, found.score), (0x184, 6));
            assert_eq!(found.prefix.version, 2);
            let module = Module::parse_at(file, found.offset).unwrap();
            assert!(!module.crc_ok() && !module.trailing().is_empty());
        }
        _ => {
            let module = Module::parse(file).unwrap();
            let found = find_prefix(file).unwrap();
            assert_eq!((found.offset, &found.prefix), (module.prefix_offset(), module.prefix()));
            compare_prefix(module.prefix(), module.prefix_offset(), prefix);
            compare_suffix(&module, &parsed["suffixInfo"]);
            compare_extensions(&module, parsed);
            assert_eq!(parsed["crc"]["ok"], module.crc_ok());
            assert_eq!(parsed["crc"]["storedCrc"], format!("{:08x}", module.stored_crc()));
            assert_eq!(parsed["crc"]["actualCrc"], format!("{:08x}", module.computed_crc()));
            assert_eq!((module.image(), module.trailing().len()), (file, 0));
            // The other program does not look at it.
            assert_eq!(module.sha256_ok(), name != "damaged-body-bit.bin", "SHA-256");
        }
    }
}

/// In flash the same is found as in memory, wherever a device looks for the prefix there.
fn compare_flash(file: &[u8], module: &Module<'_>) {
    const AT: u32 = 0x0802_0000;
    let mut flash = file.to_vec();
    flash.resize(file.len() + 100, 0xff);
    let mut largest = 0;
    let found = check_in_flash(AT, u32::try_from(flash.len()).unwrap(), |address, out| {
        largest = largest.max(out.len());
        let start = usize::try_from(address - AT).unwrap();
        out.copy_from_slice(&flash[start..start + out.len()]);
        Ok::<(), ()>(())
    });
    let table = is_stack_pointer(u32::from_le_bytes(*file.first_chunk().unwrap()));
    if module.prefix_offset() != if table { 0x184 } else { 0 } {
        // A Core or a Gen 3 bootloader, on the devices that this is for.
        return;
    }
    let found = found.unwrap();
    assert!(largest <= 256);
    assert_eq!((&found.prefix, &found.suffix), (module.prefix(), module.suffix()));
    assert_eq!((found.stored_crc, found.computed_crc), (module.stored_crc(), module.computed_crc()));
    assert_eq!(
        (found.sha256_ok, usize::try_from(found.size).unwrap()),
        (module.sha256_ok(), module.image().len())
    );
}

fn run(folder: &str, choose: impl Fn(&Value) -> bool) -> usize {
    let chosen: Vec<Value> = entries().into_iter().filter(choose).collect();
    for entry in &chosen {
        std::println!("{}", entry["file"]);
        let file = load(folder, entry);
        compare(entry, &file);
        if let Ok(module) = Module::parse(&file) {
            compare_flash(&file, &module);
        }
    }
    chosen.len()
}

#[test]
fn generated_modules_are_read_as_by_the_program_that_made_them() {
    assert_eq!(run(OURS, is_ours), 16);
}

#[test]
#[ignore = "needs ../shared"]
fn vendor_modules_are_read_as_by_the_reference_program() {
    assert_eq!(run(SHARED, |entry| !is_ours(entry)), 21);
}

#[test]
#[ignore = "needs ../shared"]
fn released_system_parts_are_whole() {
    for (name, index) in [("photon-system-part1@2.2.0.bin", 1), ("photon-system-part2@2.2.0.bin", 2)] {
        let file = std::fs::read(format!("{SHARED}/{name}")).unwrap();
        let module = Module::parse(&file).unwrap();
        assert!(module.crc_ok() && module.sha256_ok());
        assert_eq!((module.prefix().index, module.prefix().version), (index, 2202));
    }
}

#[test]
fn modules_of_a_combined_file_follow_each_other() {
    let read = |name: &str| std::fs::read(format!("{OURS}/{name}")).unwrap();
    let file = read("synth-photon-combined.bin");
    let mut rest = &file[..];
    let mut flags = Vec::new();
    for part in 0..3 {
        let module = Module::parse(rest).unwrap();
        assert!(module.crc_ok());
        let split = read(&format!("synth-photon-combined.split{part}.bin"));
        assert_eq!(module.image().len(), split.len());
        flags.push(module.prefix().flags.0);
        rest = module.trailing();
    }
    assert_eq!((flags, rest.len()), (std::vec![4, 4, 0], 0));
}

#[test]
fn files_that_are_no_modules_are_refused() {
    let text: String = "Not a module, but longer than one has to be. ".repeat(300);
    for file in [text.as_bytes(), &[0; 5000], &[0xff; 5000], b"short", b""] {
        assert!(matches!(Module::parse(file), Err(ModuleError::NotAModule { .. })));
    }
}

#[test]
fn every_cut_module_is_an_error_and_says_so_once_its_prefix_is_there() {
    for entry in entries().iter().filter(|entry| is_ours(entry)) {
        let file = load(OURS, entry);
        let module = Module::parse(&file).unwrap();
        let (offset, needed) = (module.prefix_offset(), module.image().len());
        for available in 0..needed {
            let error = Module::parse(&file[..available]).unwrap_err();
            if available >= offset + Prefix::LEN {
                assert_eq!(error, ModuleError::Truncated { offset, needed, available }, "{}", entry["file"]);
            } else {
                assert!(
                    matches!(error, ModuleError::NotAModule { .. }),
                    "{} at {available}: {error}",
                    entry["file"]
                );
            }
        }
    }
}

#[test]
fn no_flipped_bit_passes_the_crc() {
    for name in ["synth-photon-user.bin", "synth-photon-part2.bin", "synth-asset-compressed.bin"] {
        let mut file = std::fs::read(format!("{OURS}/{name}")).unwrap();
        for bit in 0..file.len() * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            match Module::parse(&file) {
                Ok(module) => assert!(!module.crc_ok(), "{name} bit {bit}"),
                Err(error) => assert!(
                    matches!(
                        error,
                        ModuleError::NotAModule { .. }
                            | ModuleError::Truncated { .. }
                            | ModuleError::TooShort { .. }
                    ),
                    "{name} bit {bit}: {error}"
                ),
            }
            file[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
