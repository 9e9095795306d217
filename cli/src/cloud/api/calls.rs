//! What a device is asked: functions, variables, its description, whether it is there.

use super::Api;
use super::error::{ApiError, ErrorBody};
use super::fields::{Fields, flag};
use crate::cloud::session::{Answer, Call, CallError, VariableValue};
use axum::Json;
use axum::extract::{Path, Query, State};
use coap_spark::message::describe::Describe;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::HashMap;

/// What a function returned.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Returned {
    /// The device.
    id: String,
    /// Its name.
    name: String,
    /// Always true.
    connected: bool,
    /// What the function returned.
    return_value: i32,
}

/// A variable's value.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Read {
    /// Always `VarReturn`.
    cmd: &'static str,
    /// The variable.
    name: String,
    /// `int32`, `double`, `string` or `bool`; `bytes` (hex) if the device did not say.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Its value: a number, a text or a truth value.
    result: Value,
    /// The device.
    #[serde(rename = "coreInfo")]
    core_info: CoreInfo,
}

/// The device that answered.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CoreInfo {
    /// Its id.
    #[serde(rename = "deviceID")]
    device_id: String,
    /// Always true.
    connected: bool,
}

/// Calls a function. The body has its argument as `arg` (`args` and `params` are taken as well).
#[utoipa::path(post, path = "/v1/devices/{device}/{name}",
    params(("device" = String, Path, description = "Id or name"), ("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Returned), (status = 404, body = ErrorBody), (status = 408, body = ErrorBody)))]
pub(super) async fn call_function(
    State(api): State<Api>,
    Path((device, name)): Path<(String, String)>,
    fields: Fields,
) -> Result<Json<Returned>, ApiError> {
    let (id, device) = api.cloud.find_claimed(&device).await?;
    let argument = fields.any(&["arg", "args", "params"]).unwrap_or_default().to_owned();
    match api.cloud.call(id, Call::Function { name, argument }).await? {
        Answer::Returned(return_value) => Ok(Json(Returned {
            id: id.to_string(),
            name: device.name.unwrap_or_else(|| id.to_string()),
            connected: true,
            return_value,
        })),
        other => Err(unexpected(&other)),
    }
}

/// Reads a variable.
#[utoipa::path(get, path = "/v1/devices/{device}/{name}",
    params(("device" = String, Path, description = "Id or name"), ("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Read), (status = 404, body = ErrorBody), (status = 408, body = ErrorBody)))]
pub(super) async fn read_variable(
    State(api): State<Api>,
    Path((device, name)): Path<(String, String)>,
) -> Result<Json<Read>, ApiError> {
    let (id, _) = api.cloud.find_claimed(&device).await?;
    let Answer::Value(value) = api.cloud.call(id, Call::Variable { name: name.clone() }).await? else {
        return Err(CallError::Malformed("no value".to_owned()).into());
    };
    let (kind, result) = match value {
        VariableValue::Bool(value) => ("bool", json!(value)),
        VariableValue::Int(value) => ("int32", json!(value)),
        // JSON has no NaN and no infinity.
        VariableValue::Double(value) if !value.is_finite() => ("double", json!(value.to_string())),
        VariableValue::Double(value) => ("double", json!(value)),
        VariableValue::Text(text) => ("string", json!(text)),
        VariableValue::Bytes(bytes) => ("bytes", json!(hex::encode(bytes))),
    };
    Ok(Json(Read {
        cmd: "VarReturn",
        name,
        kind,
        result,
        core_info: CoreInfo { device_id: id.to_string(), connected: true },
    }))
}

/// Whether a device answers.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Pinged {
    /// It answered.
    online: bool,
    /// The request was carried out.
    ok: bool,
}

/// Asks a device whether it is there.
#[utoipa::path(put, path = "/v1/devices/{device}/ping", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, body = Pinged), (status = 404, body = ErrorBody)))]
pub(super) async fn ping(
    State(api): State<Api>,
    Path(device): Path<String>,
) -> Result<Json<Pinged>, ApiError> {
    let (id, _) = api.cloud.find_claimed(&device).await?;
    let online = match api.cloud.call(id, Call::Ping).await {
        // It takes an update, so it is there.
        Ok(_) | Err(CallError::Updating) => true,
        Err(CallError::Offline | CallError::TimedOut) => false,
        Err(error) => return Err(error.into()),
    };
    Ok(Json(Pinged { online, ok: true }))
}

/// A device's description of itself.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Described {
    /// The device.
    id: String,
    /// It was asked just now.
    fresh: bool,
    /// The document with its own short names: `f`, `v`, `p`, `m` and others.
    #[schema(value_type = Object)]
    describe: Describe,
}

/// The last description of a device; with `fresh=true` the device is asked.
#[utoipa::path(get, path = "/v1/describe/{device}",
    params(("device" = String, Path, description = "Id or name"), ("fresh" = Option<bool>, Query, description = "Ask the device")),
    responses((status = 200, body = Described), (status = 404, body = ErrorBody), (status = 408, body = ErrorBody)))]
pub(super) async fn describe(
    State(api): State<Api>,
    Path(device): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Described>, ApiError> {
    let (id, device) = api.cloud.find_claimed(&device).await?;
    let fresh = query.get("fresh").map(|text| flag("fresh", text)).transpose()?.unwrap_or(false);
    let describe = match (fresh, device.describe) {
        (false, Some(describe)) => describe,
        (false, None) => return Err(ApiError::not_found("the device has not described itself yet")),
        (true, _) => match api.cloud.call(id, Call::Describe).await? {
            Answer::Description(describe) => describe,
            other => return Err(unexpected(&other)),
        },
    };
    Ok(Json(Described { id: id.to_string(), fresh, describe }))
}

fn unexpected(answer: &Answer) -> ApiError {
    CallError::Malformed(format!("{answer:?} is no answer to this")).into()
}
