//! Reading a document into bounded storage, without a heap.

use super::bounded::plain;
use super::{Document, Module};
use crate::message::VariableType;
use core::fmt;
use core::marker::PhantomData;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json_core::de::{Deserializer as JsonReader, Error as JsonError};

/// A document that was read: up to `F` functions, `V` variables and `M` modules, with texts borrowed from the payload.
///
/// Members may be missing and come in any order; unknown ones are passed over.
///
/// ```
/// use coap_spark::message::describe::DocumentBuf;
///
/// let document = DocumentBuf::<4, 4, 8>::from_json(br#"{"f":["brew"],"v":{},"p":6,"imei":"35"}"#)?;
/// assert_eq!(document.as_document().functions, Some(&["brew"][..]));
/// assert_eq!(document.as_document().modules, None);
/// # Ok::<(), coap_spark::message::describe::DocumentError>(())
/// ```
///
/// # Memory
/// 16 bytes a function, 24 a variable and about 80 a module on a 64-bit processor. The stack is bounded: values are
/// nested [`DocumentBuf::MAX_DEPTH`] deep at most.
#[derive(Clone, Debug)]
pub struct DocumentBuf<'a, const F: usize, const V: usize, const M: usize> {
    functions: Option<List<&'a str, F>>,
    variables: Option<List<(&'a str, VariableType), V>>,
    platform_id: Option<u16>,
    modules: Option<List<Module<'a>, M>>,
}

/// Why a payload is not a Describe document, or not one for this storage. Offsets count from the first byte of the
/// payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The document ends before it is complete, as one does that outgrew the buffer of old firmware.
    #[error("the Describe document is cut off at byte {offset}")]
    Cut {
        /// Where it ends.
        offset: usize,
    },
    /// More of something than the storage has room for.
    #[error("the Describe document has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there is room for.
        limit: usize,
    },
    /// Values are nested deeper than any device does.
    #[error("the Describe document is nested too deep at byte {offset}")]
    TooDeep {
        /// Where.
        offset: usize,
    },
    /// Not JSON, or a member is not of the type it should be.
    #[error("the Describe document is malformed near byte {near}")]
    Malformed {
        /// About where: at the end of the first value or word that is wrong.
        near: usize,
    },
}

impl<'a, const F: usize, const V: usize, const M: usize> DocumentBuf<'a, F, V, M> {
    /// How deep values may be nested; devices need 5.
    pub const MAX_DEPTH: usize = 16;

    /// Reads a document. Names with escapes are malformed: no device writes them.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn from_json(payload: &'a [u8]) -> Result<Self, DocumentError> {
        // The reader recurses into members that it passes over, and does not know where it is.
        Self::check_nesting(payload)?;
        let mut excess = None;
        Self::read(payload, &mut excess).map_err(|_| match excess {
            Some(Excess { what, limit }) => DocumentError::TooMany { what, limit },
            None => DocumentError::Malformed { near: Self::first_wrong(payload) },
        })
    }

    /// The document in borrowed parts.
    #[must_use]
    pub fn as_document(&self) -> Document<'_> {
        Document {
            functions: self.functions.as_ref().map(List::as_slice),
            variables: self.variables.as_ref().map(List::as_slice),
            platform_id: self.platform_id,
            others: &[],
            modules: self.modules.as_ref().map(List::as_slice),
        }
    }

    fn check_nesting(payload: &[u8]) -> Result<(), DocumentError> {
        let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
        for (offset, byte) in payload.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                b'{' | b'[' if !in_text => depth += 1,
                b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > Self::MAX_DEPTH {
                return Err(DocumentError::TooDeep { offset });
            }
        }
        if in_text || depth > 0 || payload.trim_ascii().is_empty() {
            return Err(DocumentError::Cut { offset: payload.len() });
        }
        Ok(())
    }

    fn read(payload: &'a [u8], excess: &mut Option<Excess>) -> Result<Self, JsonError> {
        let mut reader = JsonReader::new(payload, None);
        let document = Members::<F, V, M> { excess }.deserialize(&mut reader)?;
        reader.end()?;
        Ok(document)
    }

    /// The reader's errors have no place. It is where shorter pieces stop to fail for want of an end.
    fn first_wrong(payload: &'a [u8]) -> usize {
        let (mut short, mut wrong) = (0, payload.len());
        while short < wrong {
            let middle = short.midpoint(wrong);
            match Self::read(payload.get(..middle).unwrap_or_default(), &mut None) {
                Err(
                    JsonError::EofWhileParsingList
                    | JsonError::EofWhileParsingNumber
                    | JsonError::EofWhileParsingObject
                    | JsonError::EofWhileParsingString
                    | JsonError::EofWhileParsingValue,
                )
                | Ok(_) => short = middle + 1,
                _ => wrong = middle,
            }
        }
        wrong.saturating_sub(1)
    }
}

/// What there was no room for. The reader drops what an error says, so it goes this way.
struct Excess {
    what: &'static str,
    limit: usize,
}

/// A list of at most `N`.
#[derive(Clone, Debug)]
struct List<T, const N: usize> {
    items: [T; N],
    len: usize,
}

impl<T: Copy, const N: usize> List<T, N> {
    const fn new(filler: T) -> Self {
        Self { items: [filler; N], len: 0 }
    }

    fn as_slice(&self) -> &[T] {
        self.items.get(..self.len).unwrap_or_default()
    }

    fn push(&mut self, item: T, what: &'static str) -> Result<(), Excess> {
        *self.items.get_mut(self.len).ok_or(Excess { what, limit: N })? = item;
        self.len += 1;
        Ok(())
    }
}

struct Members<'e, const F: usize, const V: usize, const M: usize> {
    excess: &'e mut Option<Excess>,
}

impl<'de, const F: usize, const V: usize, const M: usize> DeserializeSeed<'de> for Members<'_, F, V, M> {
    type Value = DocumentBuf<'de, F, V, M>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const F: usize, const V: usize, const M: usize> Visitor<'de> for Members<'_, F, V, M> {
    type Value = DocumentBuf<'de, F, V, M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a Describe document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let excess = self.excess;
        let mut document = DocumentBuf { functions: None, variables: None, platform_id: None, modules: None };
        while let Some(name) = map.next_key::<&str>()? {
            match name {
                "f" if document.functions.is_none() => {
                    let (list, what) = (List::new(""), "functions");
                    let names = map.next_value_seed(Items { list, what, excess, item: Name })?;
                    document.functions = Some(names);
                }
                "v" if document.variables.is_none() => {
                    let list = List::new(("", VariableType::Other(0)));
                    document.variables = Some(map.next_value_seed(Variables { list, excess })?);
                }
                "p" if document.platform_id.is_none() => document.platform_id = Some(map.next_value()?),
                "m" if document.modules.is_none() => {
                    let (list, what) = (List::new(Module::empty(0, super::ModuleStore::Unnamed)), "modules");
                    let item = PhantomData::<Module<'de>>;
                    document.modules = Some(map.next_value_seed(Items { list, what, excess, item })?);
                }
                "f" | "v" | "p" | "m" => return Err(A::Error::custom("a member comes twice")),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(document)
    }
}

/// A name.
#[derive(Clone, Copy)]
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = &'de str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'de str, D::Error> {
        plain(deserializer)
    }
}

struct Items<'e, T, S, const N: usize> {
    list: List<T, N>,
    what: &'static str,
    excess: &'e mut Option<Excess>,
    item: S,
}

impl<'de, T: Copy, S: DeserializeSeed<'de, Value = T> + Copy, const N: usize> DeserializeSeed<'de>
    for Items<'_, T, S, N>
{
    type Value = List<T, N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Copy, S: DeserializeSeed<'de, Value = T> + Copy, const N: usize> Visitor<'de>
    for Items<'_, T, S, N>
{
    type Value = List<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Self::Value, A::Error> {
        while let Some(item) = seq.next_element_seed(self.item)? {
            self.list.push(item, self.what).map_err(|excess| {
                *self.excess = Some(excess);
                A::Error::custom("a longer list than there is room for")
            })?;
        }
        Ok(self.list)
    }
}

struct Variables<'de, 'e, const N: usize> {
    list: List<(&'de str, VariableType), N>,
    excess: &'e mut Option<Excess>,
}

impl<'de, const N: usize> DeserializeSeed<'de> for Variables<'de, '_, N> {
    type Value = List<(&'de str, VariableType), N>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Variables<'de, '_, N> {
    type Value = List<(&'de str, VariableType), N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of variable names and type numbers")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            self.list.push((name, map.next_value()?), "variables").map_err(|excess| {
                *self.excess = Some(excess);
                A::Error::custom("more variables than there is room for")
            })?;
        }
        Ok(self.list)
    }
}

#[cfg(test)]
mod tests;
