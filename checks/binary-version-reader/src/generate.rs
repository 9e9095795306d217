//! Modules of every kind that we can make.

use serde_json::{Value, json};
use spark_ota::module::bundle::{Bundle, BundleFile};
use spark_ota::module::{
    AssetBuilder, AssetDependency, CompressOptions, Dependency, DynamicLocation, Extension, Flags, Module,
    ModuleBuilder, ModuleFunction, ModuleHash, Product, ProductData, combine, compress,
};
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// SplitMix64: the same seed gives the same modules everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        // Half of it repeats, so that there is something to compress.
        let alphabet = 1 + self.below(255);
        (0..len).map(|_| self.below(alphabet) as u8).collect()
    }

    fn name(&mut self) -> String {
        let len = 1 + self.below(20);
        (0..len).map(|_| char::from(b'a' + self.below(26) as u8)).collect::<String>() + ".dat"
    }
}

const PLATFORMS: [u16; 9] = [6, 8, 10, 12, 13, 23, 26, 32, 35];
/// Lengths of vector tables.
const TABLES: [usize; 5] = [0x184, 0x200, 0x10c, 0xc0, 0x20];
const FUNCTIONS: [ModuleFunction; 7] = [
    ModuleFunction::Bootloader,
    ModuleFunction::Monolithic,
    ModuleFunction::System,
    ModuleFunction::User,
    ModuleFunction::Ncp,
    ModuleFunction::RadioStack,
    ModuleFunction::Resource,
];

/// Whether the module may have a table, extensions behind the prefix, and flags of its own.
fn module(random: &mut Random, table: bool, before: bool, flags: Flags) -> Result<Vec<u8>, Box<dyn Error>> {
    let function = FUNCTIONS[random.below(FUNCTIONS.len())];
    let platform_id = PLATFORMS[random.below(PLATFORMS.len())];
    let body_len = random.below(3000);
    let (body, digest, name, other) =
        (random.bytes(body_len), random.bytes(32), random.name(), random.bytes(9));
    let hash = ModuleHash { hash_type: 0, digest: &digest };
    let word = random.next() as u32;
    let location = DynamicLocation {
        module_start_address: word,
        dynalib_load_address: !word,
        dynalib_start_address: word / 2,
    };
    let known = [
        Extension::Hash(hash),
        Extension::Name(name.as_bytes()),
        Extension::AssetDependency(AssetDependency { hash, name: name.as_bytes() }),
        Extension::SecurityMode { mode: 1, certificate: &other },
        Extension::SecurityMode { mode: 0, certificate: &[] },
        Extension::AssetType { asset_type: 2, reserved: 0 },
        Extension::DynamicLocation(location),
        Extension::Dependency { dependency: Dependency::system(1, word as u16), target_id: word },
        Extension::Unknown { kind: 0x99, data: &other },
        Extension::Unknown { kind: 0x4000, data: &[] },
    ];
    let list = |random: &mut Random| -> Vec<Extension<'_>> {
        (0..random.below(5)).map(|_| known[random.below(known.len())]).collect()
    };
    let (first, mut second) = (list(random), list(random));
    let product = Product { id: word as u16, version: (word >> 16) as u16 };
    if random.below(3) == 0 {
        second.push(Extension::Product(ProductData::from(product)));
    }
    let needs = [
        Dependency::system(1 + random.below(3) as u8, random.below(6000) as u16),
        if random.below(2) == 0 {
            Dependency::NONE
        } else {
            Dependency::bootloader(random.below(2000) as u16)
        },
    ];
    let builder =
        ModuleBuilder::new(platform_id, function, random.below(4) as u8, random.below(65536) as u16)
            .start_address(0x0800_0000 + (random.below(0x10_0000) as u32 & !7))
            .depends_on(needs)
            .flags(flags)
            // The oldest form has no place for extensions.
            .product((random.below(8) != 0 || !second.is_empty()).then_some(product))
            .suffix_extensions(&second)
            .prefix_extensions(if before { &first } else { &[] })
            .body(&body);
    Ok(if table {
        let len = TABLES[random.below(TABLES.len())];
        builder.vector_table_of(0x2002_0000, len).build()?
    } else {
        builder.build()?
    })
}

fn described(file: &[u8]) -> Result<Value, Box<dyn Error>> {
    let module = Module::parse(file)?;
    let (prefix, suffix) = (module.prefix(), module.suffix());
    let raw = |list: spark_ota::module::Extensions<'_>| -> Result<Vec<String>, Box<dyn Error>> {
        list.map(|item| {
            let mut out = [0; 512];
            Ok(hex::encode(item?.extension.encode_into(&mut out)?))
        })
        .collect()
    };
    let product = module.product();
    let need = |need: &Dependency| json!([need.function.number(), need.index, need.version]);
    Ok(json!({
        "crc": format!("{:08x}", module.computed_crc()),
        "sha256": hex::encode(module.computed_sha256()),
        "start": format!("{:x}", prefix.start_address),
        "end": format!("{:x}", prefix.end_address),
        "flags": prefix.flags.0,
        "version": prefix.version,
        "platform": prefix.platform_id,
        "function": prefix.function.number(),
        "index": prefix.index,
        "needs": prefix.dependencies.iter().map(need).collect::<Vec<_>>(),
        "offset": module.prefix_offset(),
        "suffix_size": suffix.size,
        "product": product.map(|product| [product.id, product.version]),
        "prefix_extensions": raw(module.prefix_extensions())?,
        "suffix_extensions": raw(module.suffix_extensions())?,
    }))
}

/// Writes `count` modules or bundles and `ours.jsonl` about them.
pub fn generate(folder: &Path, count: usize, seed: u64) -> Result<(), Box<dyn Error>> {
    let mut random = Random(seed);
    let mut lines = String::new();
    for number in 0..count {
        let put = |suffix: &str, content: &[u8]| -> Result<String, Box<dyn Error>> {
            let name = format!("{number:05}{suffix}");
            fs::write(folder.join(&name), content)?;
            Ok(name)
        };
        let drop_info = if random.below(2) == 0 { Flags(0) } else { Flags::DROP_INFO };
        let line = match number % 6 {
            0 => {
                let file = module(&mut random, true, false, Flags(0))?;
                json!({ "kind": "plain", "file": put(".bin", &file)?, "module": described(&file)? })
            }
            1 => {
                let file = module(&mut random, false, true, drop_info)?;
                json!({ "kind": "plain", "file": put(".bin", &file)?, "module": described(&file)? })
            }
            2 => {
                let table = drop_info == Flags(0) && random.below(2) == 0;
                let original = module(&mut random, table, !table, drop_info)?;
                let window_bits = [0, 9, 10, 11, 12, 13, 14, 15][random.below(8)];
                let options = CompressOptions { level: random.below(10) as u8, window_bits };
                let file = compress(&original, options)?;
                json!({ "kind": "compressed", "file": put(".bin", &file)?, "module": described(&file)?,
                    "original": put(".original", &original)? })
            }
            3 => {
                let mut parts = Vec::new();
                for _ in 0..2 + random.below(3) {
                    let table = random.below(2) == 0;
                    parts.push(module(&mut random, table, !table, Flags(0))?);
                }
                let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
                let names: Result<Vec<_>, _> =
                    parts.iter().enumerate().map(|(at, part)| put(&format!(".part{at}"), part)).collect();
                json!({ "kind": "combined", "file": put(".bin", &combine(&parts)?)?, "parts": names? })
            }
            4 => {
                let name = random.name();
                let len = random.below(3000);
                let content = random.bytes(len);
                let mut file =
                    AssetBuilder::new(name.as_bytes(), &content).asset_type(random.below(3) as u8).build()?;
                if random.below(2) == 0 {
                    file = compress(&file, CompressOptions::DEFAULT)?;
                }
                json!({ "kind": "asset", "file": put(".bin", &file)?, "module": described(&file)?,
                    "name": name, "content": put(".content", &content)? })
            }
            _ => {
                let assets: Vec<BundleFile> = (0..random.below(4))
                    .map(|at| BundleFile {
                        name: format!("{at}-{}", random.name()),
                        content: random.bytes(100 * at),
                    })
                    .collect();
                let platform_id = if random.below(2) == 0 { 32 } else { 26 };
                let body_len = random.below(2000);
                let body = random.bytes(body_len);
                let application = ModuleBuilder::new(platform_id, ModuleFunction::User, 1, 6)
                    .start_address(0x0806_0000)
                    .depends_on([Dependency::system(1, 5302), Dependency::NONE])
                    .body(&body)
                    .build()?;
                let bundle = Bundle::new("app.bin", &application, assets)?;
                let list: Vec<Value> = bundle
                    .assets()
                    .iter()
                    .map(|asset| json!({ "name": asset.name, "content": hex::encode(&asset.content) }))
                    .collect();
                json!({ "kind": "bundle", "file": put(".zip", &bundle.write()?)?, "bare": put(".bare", &application)?,
                    "application": put(".app", &bundle.application().content)?,
                    "module": described(&bundle.application().content)?, "assets": list })
            }
        };
        writeln!(lines, "{line}")?;
    }
    fs::write(folder.join("ours.jsonl"), lines)?;
    Ok(())
}
