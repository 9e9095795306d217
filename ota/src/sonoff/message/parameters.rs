//! What a device is told when it asks for its settings.

use super::reading::{RESERVED, Reading, Trouble};
use alloc::string::{String, ToString as _};
use serde_json::Value;

/// `params` of an answer to `query`: an object with the settings that the device has asked for, such as `timers`.
///
/// What they are is between the server and the firmware; here they are only what devices can read.
///
/// ```
/// use spark_ota::sonoff::message::{Parameters, ParametersError, Trouble};
///
/// let timers = Parameters::new(r#"{"timers":[{"at":"2026-11-22T07:00:00.000Z","do":{"switch":"on"}}]}"#)?;
/// assert!(timers.as_json().starts_with(r#"{"timers":"#));
/// let empty = Parameters::new(r#"{"timers":[]}"#);
/// assert_eq!(empty, Err(ParametersError::Trouble(Trouble::Empty)));
/// # Ok::<(), ParametersError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameters(String);

/// Why a device cannot be told that.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ParametersError {
    /// No JSON object, or longer than a message.
    #[error("the settings are no JSON object that fits a message")]
    NotAnObject,
    /// Devices are known to have trouble with it.
    #[error("devices cannot read {}", .0.what())]
    Trouble(Trouble),
    /// A name that the device looks for at the top of every message.
    #[error("the name {0} is read as that of the message itself")]
    Reserved(&'static str),
}

impl Parameters {
    /// Checks and takes a JSON object; it is kept in a form without spaces.
    ///
    /// # Errors
    /// [`ParametersError`].
    pub fn new(json: &str) -> Result<Self, ParametersError> {
        let value = serde_json::from_str(json).map_err(|_| ParametersError::NotAnObject)?;
        Self::checked(&value)
    }

    fn checked(value: &Value) -> Result<Self, ParametersError> {
        if !value.is_object() {
            return Err(ParametersError::NotAnObject);
        }
        if let Some(name) = reserved(value) {
            return Err(ParametersError::Reserved(name));
        }
        let json = value.to_string();
        let reading = Reading::new(json.as_bytes()).map_err(|_| ParametersError::NotAnObject)?;
        reading.trouble().map_or(Ok(()), |trouble| Err(ParametersError::Trouble(trouble)))?;
        Ok(Self(json))
    }

    /// Out of a whole answer.
    pub(super) fn of_answer(json: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(json).ok()?;
        Self::checked(value.get("params")?).ok()
    }

    /// The object.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

/// A name that must not be used at deeper levels.
fn reserved(value: &Value) -> Option<&'static str> {
    match value {
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            RESERVED.into_iter().find(|reserved| reserved == name).or_else(|| reserved(value))
        }),
        Value::Array(elements) => elements.iter().find_map(reserved),
        _ => None,
    }
}
