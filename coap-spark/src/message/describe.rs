//! Describe: what a device has and runs, as JSON.
//!
//! `{"f":["name"],"v":{"name":2},"p":6,"m":[{"s":262144,"l":"m","vc":30,"vv":30,"f":"s","n":"1","v":207,"d":[]}]}`
//!
//! Members may be missing, come in any order, and unknown ones are passed over: cellular devices add more, and
//! firmware 0.4.x sends the application part and the system part as two documents, see [`Describe::merge`].
//!
//! # Source
//! device-os@v2.3.1: `system/src/system_info.cpp`, `communication/src/describe.h`; v0.4.9 for the older form.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

/// A Describe document.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Describe {
    /// Names of the functions.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub functions: Option<Vec<String>>,
    /// Names and types of the variables, in the device's order: 1 bool, 2 int, 4 string, 9 double.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none", with = "variables")]
    pub variables: Option<Vec<(String, u8)>>,
    /// Platform id.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub platform_id: Option<u16>,
    /// Modules, valid or not.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub modules: Option<Vec<ModuleInfo>>,
}

/// One module slot.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ModuleInfo {
    /// Largest size of a module in this slot.
    #[serde(rename = "s", default)]
    pub maximum_size: u32,
    /// Store letter: `m` main, `b` backup, `f` factory, `t` scratchpad.
    #[serde(rename = "l", default)]
    pub store: String,
    /// Validity bits that were checked: 2 integrity, 4 dependencies, 8 range, 16 platform, 32 product, 64 full
    /// dependencies.
    #[serde(rename = "vc", default)]
    pub validity_checked: u16,
    /// Their results; the module is valid if both are equal.
    #[serde(rename = "vv", default)]
    pub validity_result: u16,
    /// SHA-256 of the user part in hex.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Function letter: `b` bootloader, `s` system part, `u` user part, …; absent if no module was found.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Index as text.
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// Version.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u16>,
    /// What the module needs.
    #[serde(rename = "d", default)]
    pub dependencies: Vec<DependencyInfo>,
}

/// A dependency of a module.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DependencyInfo {
    /// Function letter.
    #[serde(rename = "f", default)]
    pub function: String,
    /// Index as text.
    #[serde(rename = "n", default)]
    pub index: String,
    /// Lowest version.
    #[serde(rename = "v", default)]
    pub version: u16,
}

/// Why a payload is not a Describe document.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a Describe document at line {line}, column {column}: {reason}")]
pub struct DescribeError {
    /// Line in the document, from 1.
    pub line: usize,
    /// Column in the line, from 1.
    pub column: usize,
    /// What the JSON reader says.
    pub reason: String,
}

impl Describe {
    /// Reads a document.
    ///
    /// # Errors
    /// [`DescribeError`]; old firmware cuts a document that outgrows its buffer, which shows as such an error.
    pub fn from_json(payload: &[u8]) -> Result<Self, DescribeError> {
        serde_json::from_slice(payload).map_err(|error| DescribeError {
            line: error.line(),
            column: error.column(),
            reason: error.to_string(),
        })
    }

    /// The document as a device writes it, without spaces.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, integers and string keys only: nothing in it can fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Adds the members of another answer to the same request; what is there already stays.
    pub fn merge(&mut self, other: Self) {
        self.functions = self.functions.take().or(other.functions);
        self.variables = self.variables.take().or(other.variables);
        self.platform_id = self.platform_id.or(other.platform_id);
        self.modules = self.modules.take().or(other.modules);
    }
}

impl ModuleInfo {
    /// Every checked bit is set in the result.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.validity_checked == self.validity_result
    }
}

/// The variables as a JSON object that keeps the device's order.
mod variables {
    use super::{Deserializer, MapAccess, SerializeMap, Serializer, String, Vec, Visitor};
    use core::fmt;

    pub(super) fn serialize<S: Serializer>(
        variables: &Option<Vec<(String, u8)>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let variables = variables.as_deref().unwrap_or_default();
        let mut map = serializer.serialize_map(Some(variables.len()))?;
        for (name, kind) in variables {
            map.serialize_entry(name, kind)?;
        }
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<(String, u8)>>, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, u8)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of variable names and type numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut variables = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    variables.push(entry);
                }
                Ok(variables)
            }
        }

        deserializer.deserialize_map(InOrder).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sent by device-os 0.6.1 in tests/vectors/session_brewskey_v0.6.1.json.
    const RECORDED: &str = r#"{"f":["brew","setLed"],"v":{"flag":1,"count":2,"temp":9,"msg":4},"p":6,"m":[{"s":16384,"l":"m","vc":30,"vv":30,"f":"b","n":"0","v":1005,"d":[]}]}"#;

    #[test]
    fn recorded_document_survives_a_round_trip() {
        let describe = Describe::from_json(RECORDED.as_bytes()).unwrap();
        assert_eq!(describe.to_json(), RECORDED);
        assert!(describe.modules.unwrap()[0].is_valid());
    }

    #[test]
    fn old_documents_are_merged_and_unknown_members_passed_over() {
        let mut first = Describe::from_json(br#"{"f":[],"v":{},"imei":"1","p":6}"#).unwrap();
        let second = Describe::from_json(
            br#"{"p":8,"m":[{"s":1,"l":"m","vc":30,"vv":28,"d":[{"f":"s","n":"1","v":2,"_":""}]}]}"#,
        )
        .unwrap();
        first.merge(second);
        assert_eq!(first.platform_id, Some(6));
        let modules = first.modules.unwrap();
        assert_eq!((modules[0].function.as_deref(), modules[0].is_valid()), (None, false));
    }

    #[test]
    fn cut_document_is_an_error_with_its_place() {
        for len in 0..RECORDED.len() {
            let error = Describe::from_json(&RECORDED.as_bytes()[..len]).unwrap_err();
            assert_eq!(error.line, 1, "cut at {len}: {error}");
        }
    }
}
