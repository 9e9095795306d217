//! JSON as it is emitted, compact and in a fixed order; and what is read of it by name.

use super::text::{Text, TextError};
use alloc::borrow::Cow;
use alloc::string::String;
use core::fmt::Write;
use serde_json::{Map, Value};

/// Why a field is not what it should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FieldProblem {
    /// Not there.
    #[error("it is missing")]
    Missing,
    /// Something else than a text.
    #[error("it is not a text")]
    NotText,
    /// Something else than a number that fits.
    #[error("it is not a number, or none that can be")]
    NotNumber,
    /// Something else than an object or a list.
    #[error("it is of another kind than expected")]
    Kind,
    /// More elements than any device has.
    #[error("it has more than {limit} elements")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// The text.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// Writes members one after the other.
pub(super) struct Writer(String);

impl Writer {
    pub(super) fn object() -> Self {
        Self(String::from("{"))
    }

    fn comma(&mut self) {
        if !self.0.ends_with(['{', '[']) {
            self.0.push(',');
        }
    }

    fn name(&mut self, name: &str) {
        self.comma();
        self.quoted(name);
        self.0.push(':');
    }

    fn quoted(&mut self, text: &str) {
        // A string can always be written.
        self.0.push_str(&serde_json::to_string(text).unwrap_or_default());
    }

    pub(super) fn text(mut self, name: &str, text: &str) -> Self {
        self.name(name);
        self.quoted(text);
        self
    }

    pub(super) fn number(mut self, name: &str, number: impl Into<i64>) -> Self {
        self.name(name);
        // A `String` takes everything.
        let _ = write!(self.0, "{}", number.into());
        self
    }

    /// For devices in DIY mode only: others do not understand it.
    pub(super) fn boolean(mut self, name: &str, value: bool) -> Self {
        self.name(name);
        self.0.push_str(if value { "true" } else { "false" });
        self
    }

    /// Element of a list.
    pub(super) fn element(mut self, text: &str) -> Self {
        self.comma();
        self.quoted(text);
        self
    }

    /// A member that is an object or a list.
    pub(super) fn open(mut self, name: &str, bracket: char) -> Self {
        self.name(name);
        self.0.push(bracket);
        self
    }

    /// An object in a list.
    pub(super) fn open_element(mut self) -> Self {
        self.comma();
        self.0.push('{');
        self
    }

    pub(super) fn close(mut self, bracket: char) -> Self {
        self.0.push(bracket);
        self
    }

    pub(super) fn finish(self) -> String {
        self.close('}').0
    }

    /// A member that is JSON already.
    pub(super) fn raw(mut self, name: &str, json: &str) -> Self {
        self.name(name);
        self.0.push_str(json);
        self
    }

    /// Only if there is one.
    pub(super) fn with<T>(self, value: Option<T>, write: impl FnOnce(Self, T) -> Self) -> Self {
        match value {
            Some(value) => write(self, value),
            None => self,
        }
    }

    /// One after the other.
    pub(super) fn each<T>(
        self,
        values: impl IntoIterator<Item = T>,
        write: impl Fn(Self, T) -> Self,
    ) -> Self {
        values.into_iter().fold(self, write)
    }
}

/// Members by name.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub(super) fn get(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn str(self, name: &str) -> Result<Option<&'a str>, FieldProblem> {
        self.get(name).map(|value| value.as_str().ok_or(FieldProblem::NotText)).transpose()
    }

    /// A text, or a number taken as one: measured values come in both forms.
    pub(super) fn printed(self, name: &str) -> Result<Option<Cow<'a, str>>, FieldProblem> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(Cow::Borrowed(text))),
            Some(Value::Number(number)) => {
                let mut text = String::new();
                let _ = write!(text, "{number}");
                Ok(Some(Cow::Owned(text)))
            }
            Some(_) => Err(FieldProblem::NotText),
        }
    }

    pub(super) fn text<const MAX: usize>(self, name: &str) -> Result<Option<Text<MAX>>, FieldProblem> {
        Ok(self.str(name)?.map(Text::new).transpose()?)
    }

    /// An integer, also one in quotes.
    pub(super) fn number<T: TryFrom<i64>>(self, name: &str) -> Result<Option<T>, FieldProblem> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = match value {
            Value::String(text) => text.trim().parse().ok(),
            value => value.as_i64(),
        };
        number.and_then(|number| T::try_from(number).ok()).map(Some).ok_or(FieldProblem::NotNumber)
    }
}

pub(super) fn required<T>(found: Result<Option<T>, FieldProblem>) -> Result<T, FieldProblem> {
    found?.ok_or(FieldProblem::Missing)
}
