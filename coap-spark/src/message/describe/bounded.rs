//! The document in borrowed parts, written without a heap.

use super::{ModuleFunction, ModuleStore};
use crate::message::VariableType;
use core::str::FromStr;
use serde::de::Error as _;
use serde::ser::{SerializeMap, SerializeStruct, Serializer};
use serde::{Deserialize, Deserializer, Serialize};

/// A Describe document in borrowed parts, as a device without a heap has them.
///
/// Written in the order of the fields, without spaces, exactly as firmware writes it. [`DocumentBuf`](super::DocumentBuf)
/// reads one.
///
/// ```
/// use coap_spark::message::VariableType;
/// use coap_spark::message::describe::Document;
///
/// let document = Document {
///     functions: Some(&["brew"]),
///     variables: Some(&[("temp", VariableType::Double)]),
///     platform_id: Some(6),
///     ..Document::default()
/// };
/// let mut out = [0; 768];
/// assert_eq!(document.write_into(&mut out)?, br#"{"f":["brew"],"v":{"temp":9},"p":6}"#);
/// # Ok::<(), coap_spark::message::describe::DocumentTooLong>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Document<'a> {
    /// `f`: names of the functions, up to 12 bytes each (64 since 0.8.0).
    pub functions: Option<&'a [&'a str]>,
    /// `v`: names and types of the variables.
    pub variables: Option<&'a [(&'a str, VariableType)]>,
    /// `p`: platform id.
    pub platform_id: Option<u16>,
    /// Further members with a text, such as `imei` and `iccid`.
    pub others: &'a [(&'a str, &'a str)],
    /// `m`: modules, valid or not.
    pub modules: Option<&'a [Module<'a>]>,
}

/// One module slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub struct Module<'a> {
    /// `s`: largest size of a module in this slot, in bytes.
    #[serde(rename = "s", default)]
    pub maximum_size: u32,
    /// `l`: where it lies.
    #[serde(rename = "l", default = "unnamed_store")]
    pub store: ModuleStore,
    /// `vc`: validity bits that were checked: 2 integrity, 4 dependencies, 8 range, 16 platform, 32 product, 64 full
    /// dependencies.
    #[serde(rename = "vc", default)]
    pub validity_checked: u16,
    /// `vv`: their results; the module is valid if both are equal.
    #[serde(rename = "vv", default)]
    pub validity_result: u16,
    /// `u`: SHA-256 of the user part in hex.
    #[serde(rename = "u", borrow, default, deserialize_with = "some_plain")]
    pub sha256: Option<&'a str>,
    /// `f`: what it does; absent if no module was found.
    #[serde(rename = "f", default)]
    pub function: Option<ModuleFunction>,
    /// `n`: index, a text on the wire.
    #[serde(rename = "n", default, deserialize_with = "index")]
    pub index: Option<u8>,
    /// `v`: version.
    #[serde(rename = "v", default)]
    pub version: Option<u16>,
    /// `d`: what it needs. Devices have room for two; more are passed over.
    #[serde(rename = "d", default, deserialize_with = "dependencies")]
    pub dependencies: [Option<Dependency>; 2],
}

/// A dependency of a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub struct Dependency {
    /// `f`: what the needed module does.
    #[serde(rename = "f", default = "unnamed_function")]
    pub function: ModuleFunction,
    /// `n`: its index, a text on the wire.
    #[serde(rename = "n", default, deserialize_with = "index")]
    pub index: Option<u8>,
    /// `v`: its lowest version.
    #[serde(rename = "v", default)]
    pub version: u16,
}

/// A document does not fit the buffer. Nothing is cut: a part of a document is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the Describe document does not fit a buffer of {available} bytes")]
pub struct DocumentTooLong {
    /// Length of the buffer.
    pub available: usize,
}

impl Document<'_> {
    /// Writes the document. Devices have 768 bytes for it, those before 0.8.0 about 780.
    ///
    /// # Errors
    /// [`DocumentTooLong`].
    pub fn write_into<'b>(&self, out: &'b mut [u8]) -> Result<&'b [u8], DocumentTooLong> {
        let available = out.len();
        let len = serde_json_core::to_slice(self, out).map_err(|_| DocumentTooLong { available })?;
        out.get(..len).ok_or(DocumentTooLong { available })
    }
}

impl Module<'_> {
    /// A slot in which no module was found.
    #[must_use]
    pub const fn empty(maximum_size: u32, store: ModuleStore) -> Self {
        Self {
            maximum_size,
            store,
            validity_checked: 0,
            validity_result: 0,
            sha256: None,
            function: None,
            index: None,
            version: None,
            dependencies: [None; 2],
        }
    }

    /// Every checked bit is set in the result.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.validity_checked == self.validity_result
    }
}

const fn unnamed_store() -> ModuleStore {
    ModuleStore::Unnamed
}

const fn unnamed_function() -> ModuleFunction {
    ModuleFunction::Unnamed
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(functions) = self.functions {
            map.serialize_entry("f", functions)?;
        }
        if let Some(variables) = self.variables {
            map.serialize_entry("v", &Entries(variables))?;
        }
        if let Some(platform_id) = self.platform_id {
            map.serialize_entry("p", &platform_id)?;
        }
        for (name, text) in self.others {
            map.serialize_entry(name, text)?;
        }
        if let Some(modules) = self.modules {
            map.serialize_entry("m", modules)?;
        }
        map.end()
    }
}

struct Entries<'a>(&'a [(&'a str, VariableType)]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// A number as a text.
struct Index(u8);

impl Serialize for Index {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Needs<'a>(&'a [Option<Dependency>]);

impl Serialize for Needs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().flatten())
    }
}

impl Serialize for Module<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut module = serializer.serialize_struct("Module", 9)?;
        module.serialize_field("s", &self.maximum_size)?;
        module.serialize_field("l", &self.store)?;
        module.serialize_field("vc", &self.validity_checked)?;
        module.serialize_field("vv", &self.validity_result)?;
        if let Some(sha256) = self.sha256 {
            module.serialize_field("u", sha256)?;
        }
        if let Some(function) = &self.function {
            module.serialize_field("f", function)?;
        }
        if let Some(index) = self.index {
            module.serialize_field("n", &Index(index))?;
        }
        if let Some(version) = &self.version {
            module.serialize_field("v", version)?;
        }
        module.serialize_field("d", &Needs(&self.dependencies))?;
        module.end()
    }
}

impl Serialize for Dependency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut dependency = serializer.serialize_struct("Dependency", 3)?;
        dependency.serialize_field("f", &self.function)?;
        if let Some(index) = self.index {
            dependency.serialize_field("n", &Index(index))?;
        }
        dependency.serialize_field("v", &self.version)?;
        dependency.end()
    }
}

/// A text without escapes and control characters: borrowed text would keep escapes, and writing would escape them again.
pub(super) fn plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de str, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    let is_plain = text.bytes().all(|byte| byte != b'\\' && byte >= b' ');
    if is_plain { Ok(text) } else { Err(D::Error::custom("a text with an escape")) }
}

fn some_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de str>, D::Error> {
    plain(deserializer).map(Some)
}

fn index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let text = <&str>::deserialize(deserializer)?;
    u8::from_str(text).map(Some).map_err(D::Error::custom)
}

fn dependencies<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[Option<Dependency>; 2], D::Error> {
    struct FirstTwo;

    impl<'de> serde::de::Visitor<'de> for FirstTwo {
        type Value = [Option<Dependency>; 2];

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("a list of dependencies")
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let all = [seq.next_element()?, seq.next_element()?];
            while seq.next_element::<serde::de::IgnoredAny>()?.is_some() {}
            Ok(all)
        }
    }

    deserializer.deserialize_seq(FirstTwo)
}
