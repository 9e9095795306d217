//! The body of a request as names and texts: JSON or a form, as clients of the vendor's API send either.

use super::error::ApiError;
use axum::RequestExt;
use axum::extract::{Form, FromRequest, Request};
use axum::http::header;
use serde_json::Value;
use std::collections::HashMap;

/// Names and texts.
#[derive(Debug, Default)]
pub(super) struct Fields(pub(super) HashMap<String, String>);

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The first of several names that is there.
    pub(super) fn any(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// A truth value; `None` if it is not given.
    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.get(name).map(|text| flag(name, text)).transpose()
    }
}

/// Reads a truth value.
pub(super) fn flag(name: &str, text: &str) -> Result<bool, ApiError> {
    match text {
        "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        other => Err(ApiError::bad_request(format_args!("{name} is true or false, not {other:?}"))),
    }
}

impl<S: Send + Sync> FromRequest<S> for Fields {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        if kind.starts_with("application/x-www-form-urlencoded") {
            let read = request.extract::<Form<HashMap<String, String>>, _>().await;
            let Form(pairs) = read.map_err(|error| ApiError::of_body(error.status(), error.body_text()))?;
            return Ok(Self(pairs));
        }
        let read = request.extract::<axum::body::Bytes, _>().await;
        let body = read.map_err(|error| ApiError::of_body(error.status(), error.body_text()))?;
        if body.is_empty() {
            return Ok(Self::default());
        }
        if !kind.starts_with("application/json") {
            return Err(ApiError::bad_request(format_args!(
                "send JSON or a form; this is {}",
                if kind.is_empty() { "a body without a type" } else { &kind }
            )));
        }
        let value: Value = serde_json::from_slice(&body).map_err(ApiError::bad_request)?;
        let Value::Object(members) = value else {
            return Err(ApiError::bad_request("the body is no JSON object"));
        };
        let text = |value: Value| match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        };
        Ok(Self(members.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect()))
    }
}
