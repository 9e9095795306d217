//! How the cloud is.

use super::Api;
use super::error::ApiError;
use crate::cloud::store::KeyState;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};

/// The cloud at a glance.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusBody {
    /// Version of the program.
    pub version: String,
    /// Seconds since its start.
    pub uptime: u64,
    /// Devices that are known.
    pub devices: usize,
    /// Of these, connected.
    pub online: usize,
    /// Of these, in the middle of an update.
    pub updating: usize,
    /// Devices that offered a key which nobody has accepted.
    pub waiting_keys: usize,
    /// Open connections, those of strangers included.
    pub connections: usize,
    /// Connections that may be open.
    pub max_connections: usize,
    /// Connections before Hello.
    pub half_open: usize,
    /// RSA jobs that wait or run.
    pub work: usize,
    /// Module files.
    pub modules: usize,
    /// Open event streams.
    pub watchers: usize,
    /// Events that slow devices did not get.
    pub events_missed: u64,
    /// Who may connect.
    pub enrolment: String,
    /// Which library does the RSA arithmetic.
    pub back_end: String,
}

/// How the cloud is.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = StatusBody)))]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<StatusBody>, ApiError> {
    let devices = api.cloud.devices().await?;
    let levels = api.cloud.levels();
    let options = api.cloud.options();
    let waits =
        |device: &crate::cloud::store::Device| device.keys.iter().any(|key| key.state == KeyState::Offered);
    Ok(Json(StatusBody {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime: api.cloud.uptime().as_secs(),
        devices: devices.iter().filter(|(_, device)| !device.is_stranger()).count(),
        online: levels.online,
        updating: api.cloud.online().1,
        waiting_keys: devices.iter().filter(|(_, device)| waits(device)).count(),
        connections: levels.open,
        max_connections: options.limits.connections,
        half_open: levels.half_open,
        work: levels.work,
        modules: api.cloud.catalogue().files().len(),
        watchers: levels.watchers,
        events_missed: levels.missed,
        enrolment: word(options.enrolment),
        back_end: word(options.back_end),
    }))
}

/// The word by which an option is chosen.
fn word(value: impl clap::ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The counters, for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "application/openmetrics-text", body = String)))]
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], api.cloud.metrics_text())
}
