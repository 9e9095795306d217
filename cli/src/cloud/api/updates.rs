//! Updates: shown first, then run, watched, cancelled.

use super::Api;
use super::error::{ApiError, ErrorBody};
use super::events::{place, stopped};
use super::fields::Fields;
use crate::cloud::plan::{Plan, PlanStep};
use crate::cloud::store::Device;
use crate::cloud::{Event, Requested, Transfer};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::sse::{self, KeepAlive, Sse};
use coap_spark::handshake::DeviceId;
use core::convert::Infallible;
use core::time::Duration;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use std::collections::HashMap;
use tokio_stream::wrappers::BroadcastStream;

/// What an update would do.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Planned {
    /// The device.
    id: String,
    /// The modules in the order in which they would be sent; none if the device has them all.
    steps: Vec<PlanStep>,
    /// Bytes of all of them.
    bytes: u64,
}

/// An update of a device.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UpdateBody {
    /// The device.
    id: String,
    /// It is connected.
    connected: bool,
    /// The plan, and how far it is; `null` if there was none yet.
    plan: Option<Plan>,
    /// The module on its way.
    transfer: Option<Transfer>,
}

impl UpdateBody {
    fn of(api: &Api, id: DeviceId, plan: Option<Plan>) -> Json<Self> {
        let presence = api.cloud.presence(id);
        let connected = presence.is_some();
        let transfer = presence.and_then(|presence| presence.transfer);
        Json(Self { id: id.to_string(), connected, plan, transfer })
    }
}

/// Which modules: those of these digests, else whatever the device lacks.
fn requested(api: &Api, modules: Option<&str>) -> Result<Requested, ApiError> {
    let Some(modules) = modules.filter(|modules| !modules.is_empty()) else { return Ok(Requested::System) };
    let found = modules.split(',').map(|sha256| {
        let sha256 = sha256.trim().to_ascii_lowercase();
        let unknown = || ApiError::not_found(format_args!("there is no module file {sha256}"));
        api.cloud.catalogue().by_sha256(&sha256).ok_or_else(unknown)
    });
    Ok(Requested::Modules(found.collect::<Result<_, _>>()?))
}

/// What an update would send: whatever the device lacks, or the module files of `modules` (SHA-256 digests, separated by
/// commas) and what they need. Nothing is begun.
#[utoipa::path(get, path = "/v1/updates/{device}/plan",
    params(("device" = String, Path, description = "Id or name"), ("modules" = Option<String>, Query, description = "SHA-256 digests")),
    responses((status = 200, body = Planned), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn plan(
    State(api): State<Api>,
    Path(device): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Result<Json<Planned>, ApiError> {
    let (id, device) = api.cloud.find_claimed(&device).await?;
    let requested = requested(&api, query.get("modules").map(String::as_str))?;
    let steps = api.cloud.plan(&device, &requested)?;
    let bytes = steps.iter().map(|step| u64::from(step.size)).sum();
    Ok(Json(Planned { id: id.to_string(), steps, bytes }))
}

/// Begins an update. The body may have `modules` (as for the plan) and `slow`.
#[utoipa::path(post, path = "/v1/updates/{device}", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, body = UpdateBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn start(
    State(api): State<Api>,
    Path(device): Path<String>,
    fields: Fields,
) -> Result<Json<UpdateBody>, ApiError> {
    let (id, device) = api.cloud.find_claimed(&device).await?;
    let requested = requested(&api, fields.get("modules"))?;
    let slow = fields.flag("slow")?.unwrap_or(false);
    let plan = start_plan(&api, id, &device, &requested, slow).await?;
    let plan = match plan {
        Some(plan) => Some(plan),
        None => api.cloud.store.plan(id)?,
    };
    Ok(UpdateBody::of(&api, id, plan))
}

/// Begins an update; `None` if the device has everything already.
pub(super) async fn start_plan(
    api: &Api,
    id: DeviceId,
    device: &Device,
    requested: &Requested,
    slow: bool,
) -> Result<Option<Plan>, ApiError> {
    let steps = api.cloud.plan(device, requested)?;
    if steps.is_empty() {
        return Ok(None);
    }
    Ok(Some(api.cloud.update(id, steps, slow).await?))
}

/// The last update of a device, and how far it is.
#[utoipa::path(get, path = "/v1/updates/{device}", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, body = UpdateBody), (status = 404, body = ErrorBody)))]
pub(super) async fn show(
    State(api): State<Api>,
    Path(device): Path<String>,
) -> Result<Json<UpdateBody>, ApiError> {
    let (id, _) = api.cloud.find_claimed(&device).await?;
    let plan = api.cloud.store.plan(id)?;
    Ok(UpdateBody::of(&api, id, plan))
}

/// Cancels the update of a device. A module on its way is broken off; those that arrived stay.
#[utoipa::path(delete, path = "/v1/updates/{device}", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, body = UpdateBody), (status = 404, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn cancel(
    State(api): State<Api>,
    Path(device): Path<String>,
) -> Result<Json<UpdateBody>, ApiError> {
    let (id, _) = api.cloud.find_claimed(&device).await?;
    let plan = api.cloud.cancel(id).await?;
    Ok(UpdateBody::of(&api, id, Some(plan)))
}

/// Streams the progress of a device's updates: `update-started`, `update-progress`, `update-finished`, `plan-changed`.
#[utoipa::path(get, path = "/v1/updates/{device}/events", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = 404, body = ErrorBody)))]
pub(super) async fn watch(
    State(api): State<Api>,
    Path(device): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, ApiError> {
    let (id, _) = api.cloud.find_claimed(&device).await?;
    let place = place(&api)?;
    let events = BroadcastStream::new(api.cloud.subscribe()).filter_map(move |item| {
        let _held = &place;
        core::future::ready(item.ok().and_then(|event| to_event(id, &event)).map(Ok))
    });
    let opened = tokio_stream::once(Ok(sse::Event::default().comment("ok")));
    let stream = opened.chain(events).take_until(Box::pin(stopped(api.clone())));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(9))))
}

fn to_event(id: DeviceId, event: &Event) -> Option<sse::Event> {
    let (device, name) = match event {
        Event::UpdateStarted { device, .. } => (device, "update-started"),
        Event::UpdateProgress { device, .. } => (device, "update-progress"),
        Event::UpdateFinished { device, .. } => (device, "update-finished"),
        Event::PlanChanged { device, .. } => (device, "plan-changed"),
        _ => return None,
    };
    let data = serde_json::to_string(event).unwrap_or_default();
    (*device == id).then(|| sse::Event::default().event(name).data(data))
}
