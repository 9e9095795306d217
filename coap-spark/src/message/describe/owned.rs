//! The document as owned values, by serde_json.

use super::{ModuleFunction, ModuleStore};
use crate::message::VariableType;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A Describe document.
///
/// Members may be missing and come in any order; they are written in the device's. Members that are not of the
/// protocol, such as `imei` and `iccid` of cellular devices, are kept as they are in [`Describe::others`]; those of
/// modules are passed over. Firmware 0.4.x sends the application part and the system part as two documents, see
/// [`Describe::merge`].
///
/// ```
/// use coap_spark::message::describe::Describe;
///
/// let json = br#"{"f":["brew"],"v":{"temp":9},"p":10,"imei":"353162070","m":[]}"#;
/// let describe = Describe::from_json(json)?;
/// assert_eq!(describe.others[0].text().as_deref(), Some("353162070"));
/// assert_eq!(describe.to_json().as_bytes(), json);
/// # Ok::<(), coap_spark::message::describe::DescribeError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Describe {
    /// `f`: names of the functions.
    pub functions: Option<Vec<String>>,
    /// `v`: names and types of the variables, in the device's order.
    pub variables: Option<Vec<(String, VariableType)>>,
    /// `p`: platform id.
    pub platform_id: Option<u16>,
    /// Members of other names, in order.
    pub others: Vec<Member>,
    /// `m`: modules, valid or not.
    pub modules: Option<Vec<ModuleInfo>>,
}

/// A member of a document that the protocol does not define: its name, and its value as JSON text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    name: String,
    json: String,
}

impl Member {
    /// A member with a text.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        // A string can always be written.
        let json = serde_json::to_string(text).unwrap_or_default();
        Self { name: name.to_string(), json }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value as JSON text, as it was read.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Its value if it is a text.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        serde_json::from_str(&self.json).ok()
    }
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
        let known = self.others.len();
        for member in other.others {
            let mut ours = self.others.iter().take(known);
            if ours.all(|known| known.name != member.name) {
                self.others.push(member);
            }
        }
    }
}

impl ModuleInfo {
    /// Every checked bit is set in the result.
    #[must_use]
    pub const fn is_valid(&self) -> bool {
        self.validity_checked == self.validity_result
    }

    /// What the module does; `None` if no module was found, or what is told is more than a letter.
    #[must_use]
    pub fn module_function(&self) -> Option<ModuleFunction> {
        ModuleFunction::from_text(self.function.as_deref()?)
    }

    /// Where it lies; `None` if what is told is not a letter.
    #[must_use]
    pub fn module_store(&self) -> Option<ModuleStore> {
        ModuleStore::from_text(&self.store)
    }
}

impl DependencyInfo {
    /// What the needed module does; `None` if what is told is not a letter.
    #[must_use]
    pub fn module_function(&self) -> Option<ModuleFunction> {
        ModuleFunction::from_text(&self.function)
    }
}

impl Serialize for Describe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(functions) = &self.functions {
            map.serialize_entry("f", functions)?;
        }
        if let Some(variables) = &self.variables {
            map.serialize_entry("v", &InOrder(variables))?;
        }
        if let Some(platform_id) = &self.platform_id {
            map.serialize_entry("p", platform_id)?;
        }
        for Member { name, json } in &self.others {
            let value: &RawValue = serde_json::from_str(json).map_err(S::Error::custom)?;
            map.serialize_entry(name, value)?;
        }
        if let Some(modules) = &self.modules {
            map.serialize_entry("m", modules)?;
        }
        map.end()
    }
}

/// Variables as a JSON object that keeps the device's order.
struct InOrder<'a>(&'a [(String, VariableType)]);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, kind)| (name, kind)))
    }
}

impl<'de> Deserialize<'de> for Describe {
    /// From serde_json only: other members are kept as JSON text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Describe;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Describe document")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Describe, A::Error> {
                let mut describe = Describe::default();
                let mut seen = [false; 4];
                let mut first = |at: usize, name| match seen.get_mut(at) {
                    Some(seen) if *seen => Err(A::Error::duplicate_field(name)),
                    Some(seen) => {
                        *seen = true;
                        Ok(())
                    }
                    None => Ok(()),
                };
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "f" => {
                            first(0, "f")?;
                            describe.functions = map.next_value()?;
                        }
                        "v" => {
                            first(1, "v")?;
                            describe.variables = map.next_value::<Option<Variables>>()?.map(|list| list.0);
                        }
                        "p" => {
                            first(2, "p")?;
                            describe.platform_id = map.next_value()?;
                        }
                        "m" => {
                            first(3, "m")?;
                            describe.modules = map.next_value()?;
                        }
                        _ => {
                            let json = map.next_value::<alloc::boxed::Box<RawValue>>()?.get().to_string();
                            describe.others.push(Member { name, json });
                        }
                    }
                }
                Ok(describe)
            }
        }

        deserializer.deserialize_map(Members)
    }
}

struct Variables(Vec<(String, VariableType)>);

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Variables;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of variable names and type numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Variables, A::Error> {
                let mut variables = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    variables.push(entry);
                }
                Ok(Variables(variables))
            }
        }

        deserializer.deserialize_map(Entries)
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
        assert_eq!(first.others, [Member::new("imei", "1")]);
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

    #[test]
    fn unknown_members_survive_a_round_trip_in_order() {
        let json = concat!(
            r#"{"f":[],"v":{"b":1,"a":9,"x":77},"p":10,"imei":"35 \u00e9\"","n":1.50e3,"l":[1, {"y":null}],"#,
            r#""imei":true,"m":[]}"#
        );
        let describe = Describe::from_json(json.as_bytes()).unwrap();
        assert_eq!(describe.to_json(), json);
        let values: Vec<_> = describe.others.iter().map(|member| (member.name(), member.json())).collect();
        assert_eq!(values[1..3], [("n", "1.50e3"), ("l", r#"[1, {"y":null}]"#)]);
        assert_eq!(describe.others[0].text().as_deref(), Some("35 \u{e9}\""));
        assert_eq!(describe.others[1].text(), None);
        assert_eq!(describe.variables.unwrap()[2], ("x".to_string(), VariableType::Other(77)));
    }

    #[test]
    fn document_of_any_order_is_written_in_the_order_of_devices() {
        let json = r#"{"m":[],"iccid":"89","p":6,"v":{},"f":[]}"#;
        let describe = Describe::from_json(json.as_bytes()).unwrap();
        assert_eq!(describe.to_json(), r#"{"f":[],"v":{},"p":6,"iccid":"89","m":[]}"#);
        for repeated in [r#"{"f":[],"f":[]}"#, r#"{"v":{},"v":{}}"#, r#"{"p":1,"p":1}"#, r#"{"m":[],"m":[]}"#]
        {
            assert!(Describe::from_json(repeated.as_bytes()).is_err(), "{repeated}");
        }
    }

    #[test]
    fn letters_of_a_module_have_names() {
        let describe = Describe::from_json(RECORDED.as_bytes()).unwrap();
        let module = &describe.modules.unwrap()[0];
        assert_eq!(module.module_function(), Some(ModuleFunction::Bootloader));
        assert_eq!(module.module_store(), Some(ModuleStore::Main));
        let none = ModuleInfo::default();
        assert_eq!((none.module_function(), none.module_store()), (None, None));
    }
}
