//! Kinds `module` and `module-bundle`: firmware modules, alone, several in one file, or with assets in a .zip.

use super::Scan;
use super::report::{Fields, Problem};
use crate::exit::chain;
use crate::files::{hex, sha256};
use core::fmt;
use serde::Serialize;
use spark_ota::module::bundle::{self, Bundle, BundleError, Limits};
use spark_ota::module::{
    Arrangement, Asset, Compressed, Extension, Flags, Module, ModuleError, ModuleFunction, Modules,
    PlacedExtension, Prefix, decompress, platform_name,
};

/// Inflated modules are no larger than this.
const ORIGINAL_LIMIT: usize = 16 << 20;
/// The most extensions that are listed.
const MAX_EXTENSIONS: usize = 1000;

#[derive(Debug, Serialize)]
pub(super) struct ModuleFile {
    /// `single`, `combined` or `flash-image`.
    arrangement: &'static str,
    #[serde(flatten)]
    pub(super) first: Option<Described>,
    /// The other modules of the file.
    modules: Vec<Described>,
    /// Bytes behind the last one.
    trailing: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Described {
    /// Where it begins in the file.
    offset: usize,
    /// Bytes, CRC included.
    length: usize,
    prefix_offset: usize,
    platform_id: u16,
    platform: Option<&'static str>,
    function: u8,
    function_name: String,
    index: u8,
    version: u16,
    start_address: u32,
    end_address: u32,
    flags: u8,
    flag_names: Vec<&'static str>,
    dependencies: Vec<Need>,
    product: Option<ProductFields>,
    /// `null`, as all of the suffix, if the file ends before it.
    crc: Option<u32>,
    crc_ok: bool,
    sha256: Option<String>,
    sha256_ok: bool,
    /// Its build has put checksums in.
    finalised: Option<bool>,
    suffix_size: Option<u16>,
    extensions: Vec<ExtensionFields>,
    compressed: Option<CompressedFields>,
    asset: Option<AssetFields>,
    #[serde(skip)]
    title: String,
}

#[derive(Debug, Serialize)]
struct Need {
    function: u8,
    function_name: String,
    index: u8,
    version: u16,
}

#[derive(Debug, Serialize)]
struct ProductFields {
    id: u16,
    version: u16,
}

#[derive(Debug, Serialize)]
struct CompressedFields {
    method: u8,
    window_bits: u8,
    original_size: u32,
    /// The data is the body alone.
    body_only: bool,
}

#[derive(Debug, Serialize)]
struct AssetFields {
    name: String,
    #[serde(rename = "type")]
    asset_type: u8,
    sha256: String,
    /// The content has it; `null` if it cannot be inflated.
    sha256_ok: Option<bool>,
    /// Bytes of the content.
    length: Option<usize>,
}

#[derive(Debug, Serialize)]
struct ExtensionFields {
    offset: usize,
    kind: u16,
    #[serde(flatten)]
    value: Value,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Value {
    End { padding: usize },
    Product { id: u32, version: u16 },
    DynamicLocation { module_start_address: u32, dynalib_load_address: u32, dynalib_start_address: u32 },
    Dependency { function: u8, index: u8, version: u16, target_id: u32 },
    Hash { hash_type: u8, hash: String },
    Name { name: String },
    AssetDependency { hash_type: u8, hash: String, name: String },
    SecurityMode { mode: u8, certificate: String },
    AssetType { asset_type: u8 },
    Unknown { data: String },
}

#[derive(Debug, Serialize)]
pub(super) struct ModuleBundle {
    application: Option<Application>,
    assets: Vec<BundledAsset>,
    /// Paths of files elsewhere in the archive.
    others: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Application {
    name: String,
    #[serde(flatten)]
    module: Option<Described>,
}

#[derive(Debug, Serialize)]
struct BundledAsset {
    name: String,
    length: usize,
    sha256: String,
    /// The application needs one of this name.
    needed: bool,
}

/// Whether the file has a module beyond doubt, perhaps a damaged or cut one, or any whose CRC is right.
pub(super) fn looks_like_module(scan: &Scan) -> bool {
    scan.whole().is_some_and(|file| !matches!(Module::parse(file), Err(ModuleError::NotAModule { .. })))
}

/// Whether the file is an archive.
pub(super) fn looks_like_bundle(scan: &Scan) -> bool {
    bundle::is_archive(&scan.head)
}

fn too_long(scan: &Scan) -> Problem {
    Problem::new("too-long", format_args!("{} bytes are more than can be looked at", scan.len()), None)
}

pub(super) fn explain(scan: &Scan) -> (Vec<Problem>, Fields) {
    let mut problems = Vec::new();
    let file = scan.whole().unwrap_or_else(|| {
        problems.push(too_long(scan));
        &[]
    });
    let mut modules = Modules::of(file);
    let mut all = Vec::new();
    // Behind what is shown although it is no good module.
    let mut behind_doubtful: Option<&[u8]> = None;
    while let Some(item) = modules.next() {
        let offset = file.len() - modules.trailing().len();
        match item {
            Ok(placed) => all.push(describe(&placed.module, placed.offset, &mut problems)),
            // The other problem says it already.
            Err(_) if file.is_empty() && !problems.is_empty() => {}
            Err(error) => {
                problems.push(module_problem(&error, offset));
                // What is left of it, all the same.
                if all.is_empty() {
                    behind_doubtful = Some(&[]);
                    all.extend(match Module::parse_likeliest(file) {
                        Ok(module) => {
                            behind_doubtful = Some(module.trailing());
                            Some(describe(&module, 0, &mut problems))
                        }
                        Err(ModuleError::Truncated { offset, .. }) => cut(file, offset),
                        Err(_) => None,
                    });
                }
            }
        }
    }
    let trailing = modules.trailing();
    if problems.is_empty() && !is_padding(trailing) {
        let message = format_args!("{} bytes follow that are neither a module nor padding", trailing.len());
        problems.push(Problem::new("trailing-data", message, place(file.len() - trailing.len())));
    }
    let arrangement = match modules.arrangement() {
        Arrangement::Combined => "combined",
        Arrangement::FlashImage => "flash-image",
        _ => "single",
    };
    let trailing = behind_doubtful.unwrap_or(trailing).len();
    let mut all = all.into_iter();
    let first = all.next();
    (problems, Fields::Module(ModuleFile { arrangement, first, modules: all.collect(), trailing }))
}

pub(super) fn explain_bundle(scan: &Scan) -> (Vec<Problem>, Fields) {
    let mut fields = ModuleBundle { application: None, assets: Vec::new(), others: Vec::new() };
    let Some(file) = scan.whole() else { return (vec![too_long(scan)], Fields::ModuleBundle(fields)) };
    let bundle = match Bundle::read(file, Limits::DEFAULT) {
        Ok(bundle) => bundle,
        Err(error) => return (vec![bundle_problem(&error)], Fields::ModuleBundle(fields)),
    };
    let mut problems = Vec::new();
    let application = bundle.application();
    let module = Module::parse(&application.content).ok();
    let described = module.as_ref().map(|module| describe(module, 0, &mut problems));
    // Offsets are those in the application, not in the file.
    problems.iter_mut().for_each(|problem: &mut Problem| problem.offset = None);
    if let Err(error) = bundle.check()
        && (problems.is_empty() || !matches!(error, BundleError::Crc { .. }))
    {
        problems.push(bundle_problem(&error));
    }
    fields.application = Some(Application { name: application.name.clone(), module: described });
    let needed = |name: &str| {
        module
            .as_ref()
            .is_some_and(|module| module.asset_dependencies().any(|asset| asset.name == name.as_bytes()))
    };
    fields.assets = bundle
        .assets()
        .iter()
        .map(|asset| BundledAsset {
            name: asset.name.clone(),
            length: asset.content.len(),
            sha256: sha256(&asset.content),
            needed: needed(&asset.name),
        })
        .collect();
    fields.others = bundle.others().iter().map(|file| file.name.clone()).collect();
    (problems, Fields::ModuleBundle(fields))
}

fn place(offset: usize) -> Option<u64> {
    u64::try_from(offset).ok()
}

fn is_padding(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0) || bytes.iter().all(|byte| *byte == 0xff)
}

fn module_problem(error: &ModuleError, offset: usize) -> Problem {
    let code = match error {
        ModuleError::Truncated { .. } => "truncated",
        ModuleError::NotAModule { .. } => "not-a-module",
        ModuleError::EmptyRange { .. } => "empty-range",
        ModuleError::TooShort { .. } => "too-short",
        _ => "bad-module",
    };
    Problem::new(code, chain(error), place(offset).filter(|offset| *offset > 0))
}

fn bundle_problem(error: &BundleError) -> Problem {
    let code = match error {
        BundleError::Archive => "bad-archive",
        BundleError::Entry { .. } => "bad-entry",
        BundleError::TooManyEntries { .. } | BundleError::TooLarge { .. } => "too-large",
        BundleError::Path { .. } => "bad-path",
        BundleError::NoApplication => "no-application",
        BundleError::TwoApplications { .. } => "two-applications",
        BundleError::Application { .. } => "not-a-module",
        BundleError::Crc { .. } => "bad-crc",
        BundleError::MissingAsset { .. } => "missing-asset",
        BundleError::OtherAsset { .. } => "other-asset",
        _ => "bad-bundle",
    };
    Problem::new(code, chain(error), None)
}

/// Everything about one module that begins at `offset`.
fn describe(module: &Module<'_>, offset: usize, problems: &mut Vec<Problem>) -> Described {
    let (prefix, suffix) = (module.prefix(), module.suffix());
    let (crc_ok, sha256_ok, finalised) = (module.crc_ok(), module.sha256_ok(), module.is_finalised());
    let end = offset + module.image().len();
    let (crc_at, sha256_at) = (place(end.saturating_sub(4)), place(end.saturating_sub(38)));
    if !finalised {
        let message = "the build never put the checksums in: no device takes this file";
        problems.push(Problem::new("not-finalised", message, crc_at));
    } else if !crc_ok {
        let message = format_args!(
            "the CRC is {:08x} and should be {:08x}",
            module.stored_crc(),
            module.computed_crc()
        );
        problems.push(Problem::new("bad-crc", message, crc_at));
    } else if !sha256_ok {
        problems.push(Problem::new("bad-sha256", "the SHA-256 is not that of the content", sha256_at));
    }
    let mut extensions = Vec::new();
    for item in module.extensions() {
        match item {
            Ok(item) if extensions.len() < MAX_EXTENSIONS => extensions.push(extension(&item)),
            Ok(_) => {}
            Err(error) => {
                // What is behind a wrong checksum is no news.
                if crc_ok {
                    problems.push(Problem::new("bad-extension", error, place(offset)));
                }
                break;
            }
        }
    }
    if crc_ok && let Err(error) = module.parts() {
        let known = problems.iter().any(|problem| problem.code == "bad-extension");
        problems.extend((!known).then(|| Problem::new("bad-suffix", error, place(end.saturating_sub(6)))));
    }
    let compressed = Compressed::new(module).ok();
    if crc_ok
        && prefix.flags.contains(Flags::COMPRESSED)
        && let Err(error) = decompress(module, ORIGINAL_LIMIT)
    {
        problems.push(Problem::new("bad-compressed-data", chain(&error), place(offset)));
    }
    let asset = (prefix.function == ModuleFunction::Asset).then(|| Asset::new(module));
    if let (true, Some(Err(error))) = (crc_ok, &asset) {
        problems.push(Problem::new("bad-asset", chain(error), place(offset)));
    }
    let asset = asset.and_then(Result::ok).map(|asset| {
        let content = asset.unwrap_content(ORIGINAL_LIMIT).ok();
        let sha256_ok = content.as_deref().map(|content| asset.is_content(content));
        if crc_ok && sha256_ok == Some(false) {
            problems.push(Problem::new(
                "bad-asset",
                "the SHA-256 of the asset is not that of its content",
                place(offset),
            ));
        }
        AssetFields {
            name: text(asset.name()),
            asset_type: asset.asset_type(),
            sha256: hex(asset.hash().digest),
            sha256_ok,
            length: content.map(|content| content.len()),
        }
    });
    Described {
        offset,
        length: module.image().len(),
        product: module.product().map(|product| ProductFields { id: product.id, version: product.version }),
        crc: Some(module.stored_crc()),
        crc_ok,
        sha256: Some(hex(&suffix.sha256)),
        sha256_ok,
        finalised: Some(finalised),
        suffix_size: Some(suffix.size),
        extensions,
        compressed: compressed.map(|compressed| CompressedFields {
            method: compressed.header().method,
            window_bits: compressed.header().window_bits,
            original_size: compressed.header().original_size,
            body_only: compressed.is_body_only(),
        }),
        asset,
        ..of_prefix(prefix, module.prefix_offset())
    }
}

/// A module that the file ends in the middle of.
fn cut(file: &[u8], prefix_offset: usize) -> Option<Described> {
    let prefix = Prefix::decode(file.get(prefix_offset..)?.first_chunk()?);
    Some(Described { length: file.len(), ..of_prefix(&prefix, prefix_offset) })
}

fn of_prefix(prefix: &Prefix, prefix_offset: usize) -> Described {
    let dependencies = prefix.dependencies.iter().filter(|need| !need.is_none()).map(|need| Need {
        function: need.function.number(),
        function_name: need.function.to_string(),
        index: need.index,
        version: need.version,
    });
    Described {
        offset: 0,
        length: 0,
        prefix_offset,
        platform_id: prefix.platform_id,
        platform: platform_name(prefix.platform_id),
        function: prefix.function.number(),
        function_name: prefix.function.to_string(),
        index: prefix.index,
        version: prefix.version,
        start_address: prefix.start_address,
        end_address: prefix.end_address,
        flags: prefix.flags.0,
        flag_names: prefix.flags.names().collect(),
        dependencies: dependencies.collect(),
        product: None,
        crc: None,
        crc_ok: false,
        sha256: None,
        sha256_ok: false,
        finalised: None,
        suffix_size: None,
        extensions: Vec::new(),
        compressed: None,
        asset: None,
        title: match prefix.function {
            // It has no version, and no platform of its own.
            ModuleFunction::Asset => prefix.function.to_string(),
            _ => prefix.to_string(),
        },
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn extension(item: &PlacedExtension<'_>) -> ExtensionFields {
    let value = match item.extension {
        Extension::End(padding) => Value::End { padding: padding.len() },
        Extension::Product(data) => Value::Product { id: data.id, version: data.version },
        Extension::DynamicLocation(location) => Value::DynamicLocation {
            module_start_address: location.module_start_address,
            dynalib_load_address: location.dynalib_load_address,
            dynalib_start_address: location.dynalib_start_address,
        },
        Extension::Dependency { dependency, target_id } => Value::Dependency {
            function: dependency.function.number(),
            index: dependency.index,
            version: dependency.version,
            target_id,
        },
        Extension::Hash(hash) => Value::Hash { hash_type: hash.hash_type, hash: hex(hash.digest) },
        Extension::Name(name) => Value::Name { name: text(name) },
        Extension::AssetDependency(asset) => Value::AssetDependency {
            hash_type: asset.hash.hash_type,
            hash: hex(asset.hash.digest),
            name: text(asset.name),
        },
        Extension::SecurityMode { mode, certificate } => {
            Value::SecurityMode { mode, certificate: hex(certificate) }
        }
        Extension::AssetType { asset_type, .. } => Value::AssetType { asset_type },
        Extension::Unknown { data, .. } => Value::Unknown { data: hex(data) },
        _ => Value::Unknown { data: String::new() },
    };
    ExtensionFields { offset: item.offset, kind: item.extension.kind(), value }
}

impl fmt::Display for ModuleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = &self.first else { return write!(f, "  module    none") };
        first.fmt(f)?;
        for module in &self.modules {
            write!(f, "\n{module}")?;
        }
        match self.trailing {
            0 => Ok(()),
            more => write!(f, "\n  behind    {more} more bytes"),
        }
    }
}

impl fmt::Display for ModuleBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(application) = &self.application else {
            return write!(f, "  files     none that can be read");
        };
        write!(f, "  file      {}", application.name.escape_debug())?;
        if let Some(module) = &application.module {
            write!(f, "\n{module}")?;
        }
        for asset in &self.assets {
            let doubt = if asset.needed { "" } else { ", not needed by the application" };
            write!(f, "\n  asset     {}, {} bytes{doubt}", asset.name.escape_debug(), asset.length)?;
        }
        self.others.iter().try_for_each(|path| write!(f, "\n  file      {}", path.escape_debug()))
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  module    {}", self.title)?;
        if self.offset > 0 {
            write!(f, ", at byte {}", self.offset)?;
        }
        write!(
            f,
            "\n  memory    {:#010x} to {:#010x}, {} bytes in the file",
            self.start_address, self.end_address, self.length
        )?;
        if self.prefix_offset > 0 {
            write!(f, ", {} before the prefix", self.prefix_offset)?;
        }
        for need in &self.dependencies {
            write!(f, "\n  needs     {} {} version {}", need.function_name, need.index, need.version)?;
        }
        if let Some(ProductFields { id, version }) =
            self.product.as_ref().filter(|product| product.id != 0xffff)
        {
            write!(f, "\n  product   {id} version {version}")?;
        }
        if !self.flag_names.is_empty() {
            write!(f, "\n  flags     {}", self.flag_names.join(", "))?;
        }
        if let Some(compressed) = &self.compressed {
            let what = if compressed.body_only { "body" } else { "module" };
            write!(f, "\n  inside    {what} of {} bytes, compressed", compressed.original_size)?;
        }
        if let Some(asset) = &self.asset {
            write!(f, "\n  asset     {}", asset.name.escape_debug())?;
            if let Some(length) = asset.length {
                write!(f, ", {length} bytes")?;
            }
        }
        for extension in &self.extensions {
            match &extension.value {
                Value::AssetDependency { name, hash, .. } => {
                    write!(f, "\n  needs     asset {} ({hash})", name.escape_debug())?
                }
                Value::Dependency { function, index, version, .. } => {
                    let function = ModuleFunction::from_number(*function);
                    write!(f, "\n  needs     {function} {index} version {version}")?;
                }
                Value::SecurityMode { mode, .. } => write!(f, "\n  security  mode {mode}")?,
                Value::Unknown { data } => {
                    write!(f, "\n  extension {:#06x}, {} bytes", extension.kind, data.len() / 2)?;
                }
                _ => {}
            }
        }
        let word = |ok| if ok { "right" } else { "WRONG" };
        match self.crc {
            Some(crc) => write!(
                f,
                "\n  checks    CRC {crc:08x} {}, SHA-256 {}",
                word(self.crc_ok),
                word(self.sha256_ok)
            ),
            None => f.write_str("\n  checks    CRC and SHA-256 are missing"),
        }
    }
}
