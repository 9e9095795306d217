//! Why devices do not come online, in the words of the diagnosis table.

use super::Api;
use super::devices::rfc3339;
use super::error::{ApiError, ErrorBody};
use crate::cloud::refusal::row;
use crate::cloud::store::Failed;
use axum::Json;
use axum::extract::{Path, State};
use coap_spark::handshake::DeviceId;
use serde::Serialize;

/// A row of the diagnosis table.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RowBody {
    /// A stable word.
    code: &'static str,
    /// What a person sees at the device.
    symptom: &'static str,
    /// What it means.
    meaning: &'static str,
    /// What the server sees.
    server: &'static str,
    /// What to do first.
    action: &'static str,
}

/// A failure.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FailureBody {
    /// The device that it claims to be, if it came that far.
    id: Option<String>,
    /// When it was last seen, RFC 3339.
    at: String,
    /// Address and port that it came from.
    address: Option<String>,
    /// How often in a row.
    times: u64,
    /// What happened.
    reason: String,
    /// What to do about it.
    advice: String,
    /// What is known about this kind of failure.
    diagnosis: Option<RowBody>,
}

impl FailureBody {
    fn of(id: Option<DeviceId>, failed: &Failed) -> Self {
        let row = failed.row.as_deref().and_then(row);
        Self {
            id: id.map(|id| id.to_string()),
            at: rfc3339(failed.at),
            address: failed.address.clone(),
            times: failed.times,
            reason: failed.reason.clone(),
            advice: failed.advice.clone(),
            diagnosis: row.map(|row| RowBody {
                code: row.code,
                symptom: row.symptom,
                meaning: row.meaning,
                server: row.server,
                action: row.action,
            }),
        }
    }
}

/// A device's health.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DiagnosisBody {
    /// The device.
    id: String,
    /// It is connected.
    connected: bool,
    /// Its key is known; without one it does not get in.
    key_known: bool,
    /// The last time that it did not come online, or lost its connection by a fault.
    last_failure: Option<FailureBody>,
}

/// The last failures of devices and strangers, the newest first.
#[utoipa::path(get, path = "/v1/diagnosis", responses((status = 200, body = Vec<FailureBody>)))]
pub(super) async fn recent(State(api): State<Api>) -> Json<Vec<FailureBody>> {
    let failures = api.cloud.failures();
    Json(failures.iter().map(|failure| FailureBody::of(failure.device, &failure.failed)).collect())
}

/// Why a device is not online, or was not.
#[utoipa::path(get, path = "/v1/diagnosis/{device}", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, body = DiagnosisBody), (status = 404, body = ErrorBody)))]
pub(super) async fn of_device(
    State(api): State<Api>,
    Path(device): Path<String>,
) -> Result<Json<DiagnosisBody>, ApiError> {
    let (id, device) = api.cloud.find(&device).await?;
    Ok(Json(DiagnosisBody {
        id: id.to_string(),
        connected: api.cloud.presence(id).is_some(),
        key_known: device.current_key().is_some(),
        last_failure: device.last_failure.as_ref().map(|failed| FailureBody::of(Some(id), failed)),
    }))
}
