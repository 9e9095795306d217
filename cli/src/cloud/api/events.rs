//! Events: published by the owner, and streamed to whoever watches, as server-sent events.

use super::Api;
use super::devices::rfc3339_of;
use super::error::{ApiError, ErrorBody};
use super::fields::Fields;
use crate::cloud::Streamed;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use coap_spark::handshake::DeviceId;
use core::convert::Infallible;
use core::time::Duration;
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

/// The vendor's default.
const DEFAULT_TTL: u32 = 60;
/// A comment is sent so often, that proxies and clients see the stream alive.
const KEEP_ALIVE: Duration = Duration::from_secs(9);

/// The owner's event was taken.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Published {
    /// Always true.
    ok: bool,
}

/// Publishes an event. The body has `name`, and if wanted `data`, `ttl` in seconds and `private`.
#[utoipa::path(post, path = "/v1/devices/events", responses(
    (status = 200, body = Published), (status = 400, body = ErrorBody)))]
pub(super) async fn publish(State(api): State<Api>, fields: Fields) -> Result<Json<Published>, ApiError> {
    let name = fields.any(&["name", "event_name"]).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| ApiError::bad_request("the body lacks `name`"))?;
    let ttl = match fields.get("ttl") {
        Some(text) => text
            .parse()
            .map_err(|_| ApiError::bad_request(format_args!("ttl is a number of seconds, not {text:?}")))?,
        None => DEFAULT_TTL,
    };
    let private = fields.flag("private")?.unwrap_or(true);
    let data = fields.get("data").map(|data| data.as_bytes().to_vec());
    api.cloud.publish(name, data, ttl, !private)?;
    Ok(Json(Published { ok: true }))
}

/// The data of a streamed event, as the vendor's API has it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventData {
    /// What was published; bytes that are no text are replaced.
    data: Option<String>,
    /// Seconds to live.
    ttl: u32,
    /// When it came, RFC 3339.
    published_at: String,
    /// The device; `api` for the owner's own.
    coreid: String,
}

/// Streams everything that devices and the owner publish.
#[utoipa::path(get, path = "/v1/events", responses((status = 200, content_type = "text/event-stream", body = EventData)))]
pub(super) async fn all(
    State(api): State<Api>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    stream(&api, None, String::new())
}

/// The same for events whose names begin so.
#[utoipa::path(get, path = "/v1/events/{*prefix}", params(("prefix" = String, Path, description = "Beginning of the name")),
    responses((status = 200, content_type = "text/event-stream", body = EventData)))]
pub(super) async fn all_by_prefix(
    State(api): State<Api>,
    Path(prefix): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    stream(&api, None, prefix)
}

/// The same as `/v1/events`: all devices here are the owner's.
#[utoipa::path(get, path = "/v1/devices/events", responses((status = 200, content_type = "text/event-stream", body = EventData)))]
pub(super) async fn of_devices(
    State(api): State<Api>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    stream(&api, None, String::new())
}

/// The same for events whose names begin so.
#[utoipa::path(get, path = "/v1/devices/events/{*prefix}", params(("prefix" = String, Path, description = "Beginning of the name")),
    responses((status = 200, content_type = "text/event-stream", body = EventData)))]
pub(super) async fn of_devices_by_prefix(
    State(api): State<Api>,
    Path(prefix): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    stream(&api, None, prefix)
}

/// Streams the events of one device.
#[utoipa::path(get, path = "/v1/devices/{device}/events", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, content_type = "text/event-stream", body = EventData), (status = 404, body = ErrorBody)))]
pub(super) async fn of_device(
    State(api): State<Api>,
    Path(device): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let (id, _) = api.cloud.find_claimed(&device).await?;
    stream(&api, Some(id), String::new())
}

/// The same for events whose names begin so.
#[utoipa::path(get, path = "/v1/devices/{device}/events/{*prefix}",
    params(("device" = String, Path, description = "Id or name"), ("prefix" = String, Path, description = "Beginning of the name")),
    responses((status = 200, content_type = "text/event-stream", body = EventData), (status = 404, body = ErrorBody)))]
pub(super) async fn of_device_by_prefix(
    State(api): State<Api>,
    Path((device, prefix)): Path<(String, String)>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let (id, _) = api.cloud.find_claimed(&device).await?;
    stream(&api, Some(id), prefix)
}

/// A place among the streams.
pub(super) fn place(api: &Api) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(&api.streams)
        .try_acquire_owned()
        .map_err(|_| ApiError::too_many("as many event streams as allowed are open"))
}

/// Resolves when the interface stops.
pub(super) async fn stopped(api: Api) {
    let mut stopping = api.stopping;
    super::until_stopped(&mut stopping).await;
}

fn stream(
    api: &Api,
    device: Option<DeviceId>,
    prefix: String,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>, ApiError> {
    let place = place(api)?;
    let watched: broadcast::Receiver<Arc<Streamed>> = api.cloud.watch();
    let events = BroadcastStream::new(watched).filter_map(move |item| {
        let _held = &place;
        core::future::ready(match item {
            Ok(streamed) => wanted(&streamed, device, &prefix).then(|| Ok(to_event(&streamed))),
            Err(BroadcastStreamRecvError::Lagged(missed)) => {
                Some(Ok(Event::default().comment(format!("{missed} events were not shown"))))
            }
        })
    });
    // Who waits for the first event sees at once that the stream is open.
    let opened = tokio_stream::once(Ok(Event::default().comment("ok")));
    let stream = opened.chain(events).take_until(Box::pin(stopped(api.clone())));
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn wanted(streamed: &Streamed, device: Option<DeviceId>, prefix: &str) -> bool {
    streamed.event.name.starts_with(prefix)
        && device.is_none_or(|device| streamed.event.device == Some(device))
}

fn to_event(streamed: &Streamed) -> Event {
    let event = &streamed.event;
    let data = EventData {
        data: event.data.as_ref().map(|data| String::from_utf8_lossy(data).into_owned()),
        ttl: event.max_age.unwrap_or(DEFAULT_TTL),
        published_at: rfc3339_of(streamed.at),
        coreid: event.device.map_or_else(|| "api".to_owned(), |device| device.to_string()),
    };
    // Devices choose names; a line break in one would be the end of its line here.
    let name: String =
        event.name.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    Event::default().event(name).data(serde_json::to_string(&data).unwrap_or_default())
}
