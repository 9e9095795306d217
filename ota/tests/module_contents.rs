//! Compressed and combined modules, assets and bundles of another program, taken apart and put together again.
#![allow(clippy::unwrap_used, clippy::std_instead_of_alloc, reason = "test code")]

use spark_ota::module::bundle::{Bundle, BundleFile, Limits};
use spark_ota::module::{
    Arrangement, Asset, AssetBuilder, CompressOptions, Compressed, Extension, ExtensionPlace, Flags, Module,
    ModuleEditor, Modules, combine, compress, decompress, separate,
};
use std::string::ToString;
use std::vec::Vec;

const OURS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/modules");
const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/ota-particle/modules");

fn read(name: &str) -> Vec<u8> {
    std::fs::read(format!("{OURS}/{name}")).unwrap()
}

const LIMIT: usize = 1 << 20;

#[test]
fn compressed_modules_become_what_they_were() {
    let original = read("synth-gen3-system.bin");
    for (name, window_bits) in
        [("synth-gen3-system.compressed.bin", 0), ("synth-gen3-system.compressed-w9.bin", 9)]
    {
        let file = read(name);
        let module = Module::parse(&file).unwrap();
        let compressed = Compressed::new(&module).unwrap();
        assert_eq!((compressed.header().window_bits, compressed.is_body_only()), (window_bits, false));
        assert_eq!(decompress(&module, LIMIT).unwrap(), original, "{name}");
        // Ours is another stream around which everything is the same.
        let ours = compress(&original, CompressOptions { window_bits, ..CompressOptions::DEFAULT }).unwrap();
        let again = Module::parse(&ours).unwrap();
        assert_eq!(again.prefix().flags, module.prefix().flags);
        assert_eq!(again.product(), module.product());
        assert_eq!(Compressed::new(&again).unwrap().header(), compressed.header());
        assert!(ours.len() < file.len() + file.len() / 20, "{} beside {}", ours.len(), file.len());
    }
    assert_eq!(original, read("synth-gen3-system.roundtrip.bin"));
}

#[test]
fn combined_modules_are_split_and_joined_byte_by_byte() {
    let file = read("synth-photon-combined.bin");
    let mut modules = Modules::of(&file);
    let parts: Vec<_> = modules.by_ref().map(|placed| separate(&placed.unwrap().module).unwrap()).collect();
    assert_eq!((modules.arrangement(), modules.trailing().len()), (Arrangement::Combined, 0));
    for (index, part) in parts.iter().enumerate() {
        assert_eq!(*part, read(&format!("synth-photon-combined.split{index}.bin")));
    }
    let originals = ["synth-photon-part1.bin", "synth-photon-part2.bin", "synth-photon-user.bin"].map(read);
    assert_eq!(combine(&[&originals[0], &originals[1], &originals[2]]).unwrap(), file);
}

#[test]
fn assets_are_unwrapped_and_wrapped_byte_by_byte() {
    let content = read("synth-asset.raw");
    for name in ["synth-asset-plain.bin", "synth-asset-compressed.bin"] {
        let file = read(name);
        let module = Module::parse(&file).unwrap();
        let asset = Asset::new(&module).unwrap();
        assert_eq!((asset.name(), asset.asset_type()), (&b"blob1.dat"[..], 0));
        assert_eq!(asset.unwrap_content(LIMIT).unwrap(), content);
        assert!(asset.is_content(&content) && !asset.is_content(&content[1..]));
    }
    let plain = AssetBuilder::new(b"blob1.dat", &content).build().unwrap();
    assert_eq!(plain, read("synth-asset-plain.bin"));
    let file = read("synth-asset-compressed.bin");
    assert_eq!(decompress(&Module::parse(&file).unwrap(), LIMIT).unwrap(), plain);
    let ours = compress(&plain, CompressOptions::DEFAULT).unwrap();
    assert_eq!(decompress(&Module::parse(&ours).unwrap(), LIMIT).unwrap(), plain);
}

#[test]
fn bundle_is_read_and_another_one_made_of_it() {
    let archive = read("synth-p2-bundle.zip");
    let bundle = Bundle::read(&archive, Limits::DEFAULT).unwrap();
    assert_eq!(bundle.check(), Ok(()));
    assert_eq!(
        (&*bundle.application().name, &bundle.application().content),
        ("app.bin", &read("synth-p2-user-with-asset-dep.bin"))
    );
    assert_eq!(
        bundle.assets(),
        [BundleFile { name: "blob1.dat".to_string(), content: read("synth-asset.raw") }]
    );

    let mut editor = ModuleEditor::new(&bundle.application().content).unwrap();
    editor.remove(0x12);
    let bare = editor.finish().unwrap();
    assert_eq!(Module::parse(&bare).unwrap().asset_dependencies().count(), 0);
    // The tool's bytes come out again, its padding and address included.
    assert_eq!(Bundle::new("app.bin", &bare, bundle.assets().to_vec()).unwrap(), bundle);
    assert_eq!(Bundle::read(&bundle.write().unwrap(), Limits::DEFAULT).unwrap(), bundle);
    for end in 0..archive.len() {
        assert!(Bundle::read(&archive[..end], Limits::DEFAULT).is_err(), "{end}");
    }
}

#[test]
fn protected_bootloader_is_made_byte_by_byte() {
    let file = read("synth-gen3-bootloader.bin");
    let mut editor = ModuleEditor::new(&file).unwrap();
    editor.add(ExtensionPlace::Suffix, &[Extension::SecurityMode { mode: 1, certificate: &[] }]).unwrap();
    assert_eq!(editor.finish().unwrap(), read("synth-p2-protected.bin"));
}

#[test]
fn modules_are_the_same_after_an_edit_that_changes_nothing() {
    for name in [
        "synth-photon-part1.bin",
        "synth-p2-user-with-asset-dep.bin",
        "synth-p2-protected.bin",
        "synth-asset-plain.bin",
    ] {
        let file = read(name);
        assert_eq!(ModuleEditor::new(&file).unwrap().finish().unwrap(), file, "{name}");
    }
}

#[test]
#[ignore = "needs ../shared"]
fn vendor_modules_are_the_same_after_an_edit_that_changes_nothing() {
    for name in [
        "cat.bin",
        "p2-user-part-prefix-extensions.bin",
        "tracker-user-part-extensions.bin",
        "photon.bin",
        "core_tinker.bin",
    ] {
        let file = std::fs::read(format!("{SHARED}/{name}")).unwrap();
        assert_eq!(ModuleEditor::new(&file).unwrap().finish().unwrap(), file, "{name}");
    }
}

#[test]
#[ignore = "needs ../shared"]
fn vendor_modules_are_compressed_and_come_back() {
    for name in
        ["photon-system-part1@2.2.0.bin", "argon.bin", "cat.bin", "p2-user-part-prefix-extensions.bin"]
    {
        let file = std::fs::read(format!("{SHARED}/{name}")).unwrap();
        for window_bits in [0, 9, 12] {
            let smaller =
                compress(&file, CompressOptions { window_bits, ..CompressOptions::DEFAULT }).unwrap();
            assert_eq!(decompress(&Module::parse(&smaller).unwrap(), LIMIT).unwrap(), file, "{name}");
        }
    }
}

#[test]
#[ignore = "needs ../shared"]
fn picture_of_a_p1_is_three_modules() {
    let file = std::fs::read(format!("{SHARED}/combined-p1.bin")).unwrap();
    let mut modules = Modules::of(&file);
    let found: Vec<_> = modules
        .by_ref()
        .map(|placed| {
            placed.map(|placed| {
                (placed.offset, placed.module.prefix().key().to_string(), placed.module.crc_ok())
            })
        })
        .map(Result::unwrap)
        .collect();
    let expected = [(0, "system part 1"), (0x4_0000, "system part 2"), (0x8_0000, "user part")];
    assert_eq!(found, expected.map(|(offset, key)| (offset, key.to_string(), true)));
    assert_eq!((modules.arrangement(), modules.trailing().len()), (Arrangement::FlashImage, 0));
}

#[test]
fn flags_of_every_vector_have_a_name() {
    for (name, flags) in [
        ("synth-asset-compressed.bin", 3),
        ("synth-photon-combined.bin", 4),
        ("synth-p2-user-with-asset-dep.bin", 16),
    ] {
        let file = read(name);
        let found = Module::parse(&file).unwrap().prefix().flags;
        assert_eq!((found, found.unknown_bits()), (Flags(flags), 0));
        assert_eq!(found.names().count(), usize::try_from(flags.count_ones()).unwrap());
    }
}
