//! Assets: files that belong to an application, each in a module of its own.

use super::extension::{AssetDependency, Extension, ExtensionError, HASH_SHA256, ModuleHash};
use super::prefix::{Flags, ModuleFunction};
use super::view::Module;
use sha2::{Digest, Sha256};

/// Why a module is not an asset.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssetError {
    /// It is for something else.
    #[error("the module is no asset ({function})")]
    Function {
        /// What it is for.
        function: ModuleFunction,
    },
    /// [`Flags::DROP_INFO`] is not set: a device would store prefix and suffix with the content.
    #[error("the flag drop-info of the asset is not set")]
    KeepsInfo,
    /// Its extensions cannot be read.
    #[error(transparent)]
    Extensions(#[from] ExtensionError),
    /// It has no name.
    #[error("the asset has no name")]
    NoName,
    /// It has no SHA-256.
    #[error("the asset has no SHA-256")]
    NoHash,
}

/// The module of an asset.
///
/// Its content is the body, or what that [inflates](super::Compressed) to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asset<'a> {
    module: Module<'a>,
    body: &'a [u8],
    name: &'a [u8],
    hash: ModuleHash<'a>,
    asset_type: u8,
}

impl<'a> Asset<'a> {
    /// The asset that a module is.
    ///
    /// # Errors
    /// [`AssetError`].
    pub fn new(module: &Module<'a>) -> Result<Self, AssetError> {
        let prefix = module.prefix();
        if prefix.function != ModuleFunction::Asset {
            return Err(AssetError::Function { function: prefix.function });
        }
        if !prefix.flags.contains(Flags::DROP_INFO) {
            return Err(AssetError::KeepsInfo);
        }
        let (mut name, mut hash, mut asset_type) = (None, None, 0);
        for item in module.extensions() {
            match item?.extension {
                Extension::Name(text) => name = name.or(Some(text)),
                Extension::Hash(value) => hash = hash.or(Some(value)),
                Extension::AssetType { asset_type: value, .. } => asset_type = value,
                _ => {}
            }
        }
        let hash = hash.filter(|hash| hash.hash_type == HASH_SHA256 && hash.digest.len() == 32);
        Ok(Self {
            module: *module,
            body: module.parts()?.body,
            name: name.ok_or(AssetError::NoName)?,
            hash: hash.ok_or(AssetError::NoHash)?,
            asset_type,
        })
    }

    /// Its name, usually UTF-8.
    #[must_use]
    pub const fn name(&self) -> &'a [u8] {
        self.name
    }

    /// The SHA-256 that its content should have.
    #[must_use]
    pub const fn hash(&self) -> ModuleHash<'a> {
        self.hash
    }

    /// 0 for an asset of the application, 1 and 2 for environment variables.
    #[must_use]
    pub const fn asset_type(&self) -> u8 {
        self.asset_type
    }

    /// What an application needs that needs this asset.
    #[must_use]
    pub const fn dependency(&self) -> AssetDependency<'a> {
        AssetDependency { hash: self.hash, name: self.name }
    }

    /// The module.
    #[must_use]
    pub const fn module(&self) -> &Module<'a> {
        &self.module
    }

    /// The content, unless it is compressed.
    #[must_use]
    pub fn content(&self) -> Option<&'a [u8]> {
        (!self.module.prefix().flags.contains(Flags::COMPRESSED)).then_some(self.body)
    }

    /// `content` has the right SHA-256.
    #[must_use]
    pub fn is_content(&self, content: &[u8]) -> bool {
        self.hash.digest == Sha256::digest(content).as_slice()
    }

    /// The content, inflated if it is compressed.
    ///
    /// # Errors
    /// [`InflateError`](super::InflateError), also if it would have more than `limit` bytes.
    #[cfg(feature = "inflate")]
    pub fn unwrap_content(&self, limit: usize) -> Result<alloc::borrow::Cow<'a, [u8]>, super::InflateError> {
        use alloc::borrow::Cow;
        match self.content() {
            Some(content) => Ok(Cow::Borrowed(content)),
            None => Ok(Cow::Owned(super::Compressed::new(&self.module)?.inflate(limit)?)),
        }
    }
}

#[cfg(feature = "alloc")]
pub use wrap::AssetBuilder;

#[cfg(feature = "alloc")]
mod wrap {
    use super::{Digest, Extension, Flags, ModuleFunction, ModuleHash, Sha256};
    use crate::module::build::{BuildError, ModuleBuilder};
    use crate::module::extension::ProductData;
    use crate::module::suffix::Product;
    use alloc::vec::Vec;

    /// Puts an asset into a module, for no platform in particular.
    ///
    /// ```
    /// use spark_ota::module::{Asset, AssetBuilder, Module};
    ///
    /// let file = AssetBuilder::new(b"cat.jpg", b"a picture").build()?;
    /// let module = Module::parse(&file)?;
    /// let asset = Asset::new(&module)?;
    /// assert_eq!((asset.name(), asset.content()), (&b"cat.jpg"[..], Some(&b"a picture"[..])));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[derive(Clone, Copy, Debug)]
    #[must_use]
    pub struct AssetBuilder<'a> {
        name: &'a [u8],
        content: &'a [u8],
        asset_type: u8,
    }

    impl<'a> AssetBuilder<'a> {
        /// An asset of the application.
        pub const fn new(name: &'a [u8], content: &'a [u8]) -> Self {
            Self { name, content, asset_type: 0 }
        }

        /// What it is for; 0, an asset of the application, is not written.
        pub const fn asset_type(mut self, asset_type: u8) -> Self {
            self.asset_type = asset_type;
            self
        }

        /// The module, CRC included; [`compress`](crate::module::compress) makes a smaller one of it.
        ///
        /// # Errors
        /// [`BuildError`].
        pub fn build(&self) -> Result<Vec<u8>, BuildError> {
            let digest: [u8; 32] = Sha256::digest(self.content).into();
            let asset_type = Extension::AssetType { asset_type: self.asset_type, reserved: 0 };
            let product = Extension::Product(ProductData::from(Product::NONE));
            let extensions = [
                Extension::Hash(ModuleHash::sha256(&digest)),
                Extension::Name(self.name),
                asset_type,
                product,
            ];
            let [hash, name, _, last] = extensions;
            let without_type = [hash, name, last];
            ModuleBuilder::new(0, ModuleFunction::Asset, 0, 0)
                .flags(Flags::DROP_INFO)
                .suffix_extensions(if self.asset_type == 0 { &without_type } else { &extensions })
                .body(self.content)
                .build()
        }
    }
}

#[cfg(test)]
#[cfg(feature = "inflate")]
mod tests {
    use super::*;
    use crate::module::{CompressOptions, ModuleBuilder, compress};
    use proptest::prelude::*;

    #[test]
    fn modules_that_lack_something_are_no_assets() {
        let builder = ModuleBuilder::new(0, ModuleFunction::Asset, 0, 0).body(b"content");
        let digest = [7; 32];
        let hash = Extension::Hash(ModuleHash::sha256(&digest));
        let short = Extension::Hash(ModuleHash { hash_type: 0, digest: &digest[..31] });
        let error = |builder: &ModuleBuilder<'_>| {
            let file = builder.build().unwrap();
            Asset::new(&Module::parse(&file).unwrap()).err()
        };
        assert_eq!(error(&builder), Some(AssetError::KeepsInfo));
        let builder = builder.flags(Flags::DROP_INFO);
        assert_eq!(error(&builder), Some(AssetError::NoName));
        for list in [&[Extension::Name(b"a")][..], &[Extension::Name(b"a"), short]] {
            assert_eq!(error(&builder.clone().suffix_extensions(list)), Some(AssetError::NoHash));
        }
        assert_eq!(error(&builder.clone().suffix_extensions(&[hash])), Some(AssetError::NoName));
        assert_eq!(error(&builder.clone().suffix_extensions(&[Extension::Name(b"a"), hash])), None);
        let bad = [Extension::Unknown { kind: 1, data: b"x" }];
        assert!(matches!(error(&builder.suffix_extensions(&bad)), Some(AssetError::Extensions(_))));
        let user = ModuleBuilder::new(6, ModuleFunction::User, 1, 6);
        assert_eq!(error(&user), Some(AssetError::Function { function: ModuleFunction::User }));
    }

    proptest! {
        #[test]
        fn content_comes_back(
            name in proptest::collection::vec(any::<u8>(), 1..40),
            content in proptest::collection::vec(0u8..4, 0..2000),
            asset_type: u8,
        ) {
            let file = AssetBuilder::new(&name, &content).asset_type(asset_type).build().unwrap();
            let smaller = compress(&file, CompressOptions::DEFAULT).unwrap();
            for file in [file, smaller] {
                let module = Module::parse(&file).unwrap();
                let asset = Asset::new(&module).unwrap();
                prop_assert!(module.crc_ok() && module.sha256_ok());
                prop_assert_eq!((asset.name(), asset.asset_type()), (&name[..], asset_type));
                prop_assert_eq!(&*asset.unwrap_content(4000).unwrap(), &content[..]);
                prop_assert!(asset.is_content(&content));
                prop_assert_eq!(module.product(), Some(crate::module::Product::NONE));
            }
        }
    }
}
