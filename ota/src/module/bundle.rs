//! Bundles: an application and its assets in one .zip.
//!
//! ```text
//! application.bin       the module of the application, with a dependency on each asset
//! assets/cat.jpg        the assets as they are, without modules around them
//! ```
//!
//! # Source
//! binary-version-reader@4.2.0: `lib/moduleEncoding.js`.

use super::asset::Asset;
use super::edit::{EditError, ModuleEditor};
use super::extension::{AssetDependency, ModuleHash};
use super::view::{Module, ModuleError};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};
use std::io::{Cursor, Read, Write};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

/// Where assets are.
const ASSETS: &str = "assets/";

/// How much may come out of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs, reason = "meant for struct update from DEFAULT")]
pub struct Limits {
    /// Entries, folders included.
    pub entries: usize,
    /// Bytes of one file.
    pub file_len: u64,
    /// Bytes of all files.
    pub total_len: u64,
}

impl Limits {
    /// 64 entries, 16 MiB. No device has room for more.
    pub const DEFAULT: Self = Self { entries: 64, file_len: 16 << 20, total_len: 16 << 20 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Why a file is no bundle, or none can be made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// It is no .zip, or a damaged one.
    #[error("the archive is damaged, or is none")]
    Archive,
    /// An entry cannot be read: it is damaged, encrypted or compressed in another way than .zip files usually are.
    #[error("entry {index} of the archive cannot be read")]
    Entry {
        /// Which of them, from 0.
        index: usize,
    },
    /// There are too many entries.
    #[error("the archive has {entries} entries, more than {limit}")]
    TooManyEntries {
        /// Their number.
        entries: usize,
        /// Allowed.
        limit: usize,
    },
    /// A file is too large, or all together are, whatever the archive says of their sizes.
    #[error("`{path}` makes more than the {limit} bytes that are allowed")]
    TooLarge {
        /// The file.
        path: String,
        /// Bytes allowed.
        limit: u64,
    },
    /// A path that leads out of the archive, or is none.
    #[error("`{path}` is no path in an archive")]
    Path {
        /// As stored.
        path: String,
    },
    /// Nothing is at the top level.
    #[error("the bundle has no application at its top level")]
    NoApplication,
    /// More than one file is at the top level.
    #[error("the bundle has more than one application: `{first}` and `{second}`")]
    TwoApplications {
        /// One.
        first: String,
        /// Another one.
        second: String,
    },
    /// The application is no module.
    #[error("the application `{name}` is no module")]
    Application {
        /// Its name.
        name: String,
        /// Why not.
        #[source]
        error: ModuleError,
    },
    /// The CRC of the application is wrong.
    #[error("the CRC of the application `{name}` is wrong")]
    Crc {
        /// Its name.
        name: String,
    },
    /// The application needs an asset that is not there.
    #[error("the application needs the asset `{name}`, which the bundle does not have")]
    MissingAsset {
        /// Its name.
        name: String,
    },
    /// An asset is not the one that the application needs.
    #[error("the asset `{name}` is not the one that the application needs")]
    OtherAsset {
        /// Its name.
        name: String,
    },
    /// The application cannot be told of its assets.
    #[error("the application cannot be given its assets")]
    Edit(#[from] EditError),
}

/// A file of an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::exhaustive_structs, reason = "a name and a content")]
pub struct BundleFile {
    /// Its path, or in a [`Bundle`] its name.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// The first bytes of every archive with something in it.
#[must_use]
pub fn is_archive(content: &[u8]) -> bool {
    content.starts_with(b"PK\x03\x04")
}

/// The files of an archive whose paths are `wanted`; folders and links are left out.
///
/// Never more comes out than `limits` allows, whatever the archive says. Paths are relative, without `..` and without
/// backslashes.
///
/// # Errors
/// [`BundleError`], down to [`BundleError::Path`].
pub fn files(
    archive: &[u8],
    limits: Limits,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<BundleFile>, BundleError> {
    let mut archive = ZipArchive::new(Cursor::new(archive)).map_err(|_| BundleError::Archive)?;
    let (entries, limit) = (archive.len(), limits.entries);
    if entries > limit {
        return Err(BundleError::TooManyEntries { entries, limit });
    }
    let mut left = limits.total_len;
    let mut files = Vec::new();
    for index in 0..entries {
        let unreadable = BundleError::Entry { index };
        let entry = archive.by_index(index).map_err(|_| unreadable.clone())?;
        let name = entry.name().map_err(|_| unreadable.clone())?.into_owned();
        if name.split('/').any(|part| part == ".." || part == ".")
            || name.starts_with('/')
            || name.contains(['\\', '\0', ':'])
        {
            return Err(BundleError::Path { path: name });
        }
        if !entry.is_file() || !wanted(&name) {
            continue;
        }
        let limit = limits.file_len.min(left);
        let mut content = Vec::new();
        entry.take(limit.saturating_add(1)).read_to_end(&mut content).map_err(|_| unreadable)?;
        let len = u64::try_from(content.len()).unwrap_or(u64::MAX);
        left = left
            .checked_sub(len)
            .filter(|_| len <= limit)
            .ok_or(BundleError::TooLarge { path: name.clone(), limit })?;
        files.push(BundleFile { name, content });
    }
    Ok(files)
}

/// An application and its assets.
///
/// ```
/// use spark_ota::module::bundle::{Bundle, BundleFile, Limits};
/// use spark_ota::module::{ModuleBuilder, ModuleFunction};
///
/// let application = ModuleBuilder::new(12, ModuleFunction::User, 1, 6).build()?;
/// let asset = BundleFile { name: "cat.jpg".to_owned(), content: b"a picture".to_vec() };
/// let bundle = Bundle::new("blink.bin", &application, vec![asset])?;
/// let read = Bundle::read(&bundle.write()?, Limits::DEFAULT)?;
/// assert_eq!(read, bundle);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bundle {
    application: BundleFile,
    assets: Vec<BundleFile>,
    others: Vec<BundleFile>,
}

impl Bundle {
    /// A bundle of an application and assets, which becomes what the application needs; without assets, the application
    /// stays as it is.
    ///
    /// # Errors
    /// [`BundleError::Path`] for a name that is none, [`BundleError::Application`], [`BundleError::Crc`],
    /// [`BundleError::Edit`].
    pub fn new(name: &str, application: &[u8], assets: Vec<BundleFile>) -> Result<Self, BundleError> {
        for name in assets.iter().map(|asset| &*asset.name).chain([name]) {
            if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0', ':']) {
                return Err(BundleError::Path { path: name.to_owned() });
            }
        }
        let mut content = application.to_vec();
        if !assets.is_empty() {
            let digests: Vec<_> = assets.iter().map(digest).collect();
            let needs = assets.iter().zip(&digests).map(|(asset, digest)| AssetDependency {
                hash: ModuleHash { hash_type: 0, digest },
                name: asset.name.as_bytes(),
            });
            let mut editor = ModuleEditor::new(application)?;
            editor.set_asset_dependencies(&needs.collect::<Vec<_>>())?;
            content = editor.finish()?;
        }
        let bundle =
            Self { application: BundleFile { name: name.to_owned(), content }, assets, others: Vec::new() };
        bundle.check()?;
        Ok(bundle)
    }

    /// Reads a bundle. Whether it is complete is for [`check`](Self::check) to say.
    ///
    /// # Errors
    /// As [`files`], [`BundleError::NoApplication`], [`BundleError::TwoApplications`].
    pub fn read(archive: &[u8], limits: Limits) -> Result<Self, BundleError> {
        let mut application: Option<BundleFile> = None;
        let (mut assets, mut others) = (Vec::new(), Vec::new());
        for file in files(archive, limits, |_| true)? {
            match file.name.strip_prefix(ASSETS).filter(|name| !name.contains('/')) {
                Some(name) => assets.push(BundleFile { name: name.to_owned(), content: file.content }),
                None if file.name.contains('/') => others.push(file),
                None => {
                    if let Some(BundleFile { name: first, .. }) = application {
                        return Err(BundleError::TwoApplications { first, second: file.name });
                    }
                    application = Some(file);
                }
            }
        }
        Ok(Self { application: application.ok_or(BundleError::NoApplication)?, assets, others })
    }

    /// The application: a module.
    #[must_use]
    pub const fn application(&self) -> &BundleFile {
        &self.application
    }

    /// The assets: content, or in rare cases a module of it.
    #[must_use]
    pub fn assets(&self) -> &[BundleFile] {
        &self.assets
    }

    /// Files elsewhere in the archive, such as the environment variables in `env/`.
    #[must_use]
    pub fn others(&self) -> &[BundleFile] {
        &self.others
    }

    /// The module of the application is good and finds every asset that it needs.
    ///
    /// # Errors
    /// What is wrong: [`BundleError::Application`], [`BundleError::Crc`], [`BundleError::MissingAsset`],
    /// [`BundleError::OtherAsset`].
    pub fn check(&self) -> Result<(), BundleError> {
        let name = || self.application.name.clone();
        let module = Module::parse(&self.application.content)
            .map_err(|error| BundleError::Application { name: name(), error })?;
        if !module.crc_ok() {
            return Err(BundleError::Crc { name: name() });
        }
        for need in module.asset_dependencies() {
            let name = || String::from_utf8_lossy(need.name).into_owned();
            let mut named = self.assets.iter().filter(|asset| asset.name.as_bytes() == need.name);
            let asset = named.next().ok_or_else(|| BundleError::MissingAsset { name: name() })?;
            if digest(asset) != need.hash.digest {
                return Err(BundleError::OtherAsset { name: name() });
            }
        }
        Ok(())
    }

    /// The archive. The same bundle gives the same bytes.
    ///
    /// # Errors
    /// [`BundleError::Archive`] if a name is too long, or two are the same.
    pub fn write(&self) -> Result<Vec<u8>, BundleError> {
        let assets =
            self.assets.iter().map(|asset| (alloc::format!("{ASSETS}{}", asset.name), &asset.content));
        let others = self.others.iter().map(|file| (file.name.clone(), &file.content));
        let all = [(self.application.name.clone(), &self.application.content)]
            .into_iter()
            .chain(assets)
            .chain(others);
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let mut put = |name: String, content: &[u8]| -> Result<(), ZipError> {
            writer.start_file(name, SimpleFileOptions::DEFAULT)?;
            Ok(writer.write_all(content)?)
        };
        for (name, content) in all {
            put(name, content).map_err(|_| BundleError::Archive)?;
        }
        Ok(writer.finish().map_err(|_| BundleError::Archive)?.into_inner())
    }
}

/// No asset becomes longer when it is inflated.
const MAX_ASSET: usize = 16 << 20;

/// SHA-256 of the content of an asset, which may be in a module.
fn digest(asset: &BundleFile) -> Vec<u8> {
    Module::parse(&asset.content)
        .ok()
        .filter(Module::crc_ok)
        .and_then(|module| {
            let asset = Asset::new(&module).ok()?;
            // What it says of itself counts only if it is so.
            let content = asset.unwrap_content(MAX_ASSET).ok()?;
            asset.is_content(&content).then(|| asset.hash().digest.to_vec())
        })
        .unwrap_or_else(|| Sha256::digest(&asset.content).to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::{AssetBuilder, ModuleBuilder, ModuleFunction};
    use alloc::vec;

    fn application(platform_id: u16) -> Vec<u8> {
        ModuleBuilder::new(platform_id, ModuleFunction::User, 1, 6)
            .start_address(0x0800_1000)
            .body(&[7; 100])
            .build()
            .unwrap()
    }

    fn asset(name: &str, content: &[u8]) -> BundleFile {
        BundleFile { name: name.to_owned(), content: content.to_vec() }
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in files {
            writer.start_file(*name, SimpleFileOptions::DEFAULT).unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn bundle_comes_back_and_is_complete() {
        for platform_id in [12, 32] {
            let wrapped = AssetBuilder::new(b"b", b"second").build().unwrap();
            let assets = vec![asset("a.txt", b"first"), asset("b", &wrapped)];
            let bundle = Bundle::new("app.bin", &application(platform_id), assets).unwrap();
            let written = bundle.write().unwrap();
            assert_eq!(written, bundle.write().unwrap());
            assert!(is_archive(&written));
            let read = Bundle::read(&written, Limits::DEFAULT).unwrap();
            assert_eq!((&read, read.check()), (&bundle, Ok(())));
            let module = Module::parse(&read.application().content).unwrap();
            assert!(module.asset_dependencies().map(|need| need.name).eq([&b"a.txt"[..], b"b"]));
        }
        let alone = Bundle::new("app.bin", &application(12), Vec::new()).unwrap();
        assert_eq!(alone.application().content, application(12));
    }

    #[test]
    fn assets_that_are_missing_or_others_are_named() {
        let bundle = Bundle::new("app.bin", &application(12), vec![asset("a", b"first")]).unwrap();
        let app = &bundle.application().content[..];
        let check = |files: &[(&str, &[u8])]| {
            Bundle::read(&archive(files), Limits::DEFAULT).and_then(|bundle| bundle.check())
        };
        assert_eq!(check(&[("app.bin", app), ("assets/a", b"first"), ("env/vars.json", b"{}")]), Ok(()));
        assert_eq!(check(&[("app.bin", app)]), Err(BundleError::MissingAsset { name: "a".to_owned() }));
        assert_eq!(
            check(&[("app.bin", app), ("assets/x/a", b"first")]),
            Err(BundleError::MissingAsset { name: "a".to_owned() })
        );
        assert_eq!(
            check(&[("app.bin", app), ("assets/a", b"second")]),
            Err(BundleError::OtherAsset { name: "a".to_owned() })
        );
        assert_eq!(check(&[("assets/a", b"first")]), Err(BundleError::NoApplication));
        let two = BundleError::TwoApplications { first: "1".to_owned(), second: "2".to_owned() };
        assert_eq!(check(&[("1", app), ("2", app)]), Err(two));
        let mut damaged = app.to_vec();
        damaged[60] ^= 1;
        assert_eq!(check(&[("app.bin", &damaged)]), Err(BundleError::Crc { name: "app.bin".to_owned() }));
        assert!(matches!(check(&[("app.bin", b"text")]), Err(BundleError::Application { .. })));
    }

    #[test]
    fn nothing_above_the_limits_comes_out() {
        let zeros = vec![0; 1 << 20];
        let bomb = archive(&[("a", &zeros), ("b", &zeros)]);
        assert!(bomb.len() < 10_000);
        let try_with = |limits| files(&bomb, limits, |_| true).map(|files| files.len());
        assert_eq!(try_with(Limits::DEFAULT), Ok(2));
        let limit = (1 << 20) - 1;
        let error = |path: &str, limit| Err(BundleError::TooLarge { path: path.to_owned(), limit });
        assert_eq!(try_with(Limits { file_len: limit, ..Limits::DEFAULT }), error("a", limit));
        assert_eq!(try_with(Limits { total_len: (2 << 20) - 1, ..Limits::DEFAULT }), error("b", limit));
        let one = Limits { entries: 1, ..Limits::DEFAULT };
        let second =
            files(&bomb, Limits { total_len: 1 << 20, ..Limits::DEFAULT }, |path| path == "b").unwrap();
        assert_eq!((second.len(), second[0].content.len()), (1, 1 << 20));
        assert_eq!(try_with(one), Err(BundleError::TooManyEntries { entries: 2, limit: 1 }));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["../a", "a/../../b", "/etc/passwd", "a\\b", "c:a", "./a"] {
            let error = BundleError::Path { path: path.to_owned() };
            assert_eq!(files(&archive(&[(path, b"x")]), Limits::DEFAULT, |_| true), Err(error));
        }
        for name in ["", "..", "a/b", "a\\b"] {
            let error = BundleError::Path { path: name.to_owned() };
            assert_eq!(Bundle::new("app.bin", &application(12), vec![asset(name, b"x")]), Err(error.clone()));
            assert_eq!(Bundle::new(name, &application(12), Vec::new()), Err(error));
        }
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_refused_or_read() {
        let bundle = Bundle::new("app.bin", &application(12), vec![asset("a", b"first")]).unwrap();
        let written = bundle.write().unwrap();
        for end in 0..written.len() {
            assert!(Bundle::read(&written[..end], Limits::DEFAULT).is_err(), "{end}");
        }
        for at in 0..written.len() {
            let mut damaged = written.clone();
            damaged[at] ^= 0x55;
            if let Ok(read) = Bundle::read(&damaged, Limits::DEFAULT) {
                // Names and times have no checksum, contents have.
                assert_eq!(read.application.content, bundle.application.content, "{at}");
            }
        }
    }
}
