//! Keys of devices: which there are, enrolling, and what to do when a device comes with another one.

use super::Api;
use super::devices::{Done, rfc3339};
use super::error::{ApiError, ErrorBody};
use super::fields::Fields;
use crate::cloud::folder::public_pem;
use crate::cloud::store::{Device, KeyRecord, KeyState};
use axum::Json;
use axum::extract::{Path, State};
use coap_spark::handshake::DeviceId;
use serde::Serialize;

/// A key.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeyBody {
    /// SHA-256 of the SubjectPublicKeyInfo, hex.
    fingerprint: String,
    /// What it is to the cloud.
    state: KeyState,
    /// From when on, RFC 3339.
    since: String,
    /// The key, PEM.
    public_key: String,
}

/// The keys of a device.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeysBody {
    /// The device.
    id: String,
    /// Its name, if it has one.
    name: Option<String>,
    /// It has a recorded key and offered another one: somebody has to decide.
    key_changed: bool,
    /// All keys, the oldest first.
    keys: Vec<KeyBody>,
}

impl KeysBody {
    fn of(id: DeviceId, device: &Device) -> Result<Self, ApiError> {
        let body = |key: &KeyRecord| {
            Ok::<_, ApiError>(KeyBody {
                fingerprint: key.fingerprint().to_string(),
                state: key.state,
                since: rfc3339(key.since),
                public_key: public_pem(&key.spki())?,
            })
        };
        let is_offered = |key: &KeyRecord| key.state == KeyState::Offered;
        Ok(Self {
            id: id.to_string(),
            name: device.name.clone(),
            key_changed: device.current_key().is_some() && device.keys.iter().any(is_offered),
            keys: device.keys.iter().map(body).collect::<Result<_, _>>()?,
        })
    }
}

fn id(text: &str) -> Result<DeviceId, ApiError> {
    text.parse().map_err(|error| ApiError::bad_request(format_args!("{text:?} is no device id: {error}")))
}

/// Devices that offered a key which nobody has accepted: unknown ones, and ones whose key has changed.
#[utoipa::path(get, path = "/v1/keys", responses((status = 200, body = Vec<KeysBody>)))]
pub(super) async fn offered(State(api): State<Api>) -> Result<Json<Vec<KeysBody>>, ApiError> {
    let devices = api.cloud.devices().await?;
    let waiting =
        devices.iter().filter(|(_, device)| device.keys.iter().any(|key| key.state == KeyState::Offered));
    waiting.map(|(id, device)| KeysBody::of(*id, device)).collect::<Result<_, _>>().map(Json)
}

/// The keys of a device, past and offered ones included.
#[utoipa::path(get, path = "/v1/keys/{device}", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, body = KeysBody), (status = 404, body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    Path(device): Path<String>,
) -> Result<Json<KeysBody>, ApiError> {
    let (id, device) = api.cloud.find(&device).await?;
    KeysBody::of(id, &device).map(Json)
}

/// Records a device's public key, `public_key` (PEM). Where there is another one already, this is refused unless `replace` is
/// true.
#[utoipa::path(post, path = "/v1/keys/{device}", params(("device" = String, Path, description = "24 hex digits")),
    responses((status = 200, body = Done), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn enrol(
    State(api): State<Api>,
    Path(device): Path<String>,
    fields: Fields,
) -> Result<Json<Done>, ApiError> {
    record(&api, &device, &fields).await
}

/// The same at the path and with the members of the vendor's API: `publicKey` (PEM).
#[utoipa::path(post, path = "/v1/provisioning/{device}", params(("device" = String, Path, description = "24 hex digits")),
    responses((status = 200, body = Done), (status = 400, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn provision(
    State(api): State<Api>,
    Path(device): Path<String>,
    fields: Fields,
) -> Result<Json<Done>, ApiError> {
    record(&api, &device, &fields).await
}

async fn record(api: &Api, device: &str, fields: &Fields) -> Result<Json<Done>, ApiError> {
    let id = id(device)?;
    let key = fields.any(&["public_key", "publicKey"]);
    let key = key.ok_or_else(|| ApiError::bad_request("the body lacks `public_key`, a PEM text"))?;
    let replace = fields.flag("replace")?.unwrap_or(false);
    api.cloud.enrol(id, key.as_bytes(), replace).await?;
    Ok(Done::of(id))
}

/// Lets a device in with a key that it offered, named by its fingerprint or the beginning of it.
#[utoipa::path(post, path = "/v1/keys/{device}/{fingerprint}/accept",
    params(("device" = String, Path, description = "Id or name"), ("fingerprint" = String, Path, description = "Hex")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody)))]
pub(super) async fn accept(
    State(api): State<Api>,
    Path((device, fingerprint)): Path<(String, String)>,
) -> Result<Json<Done>, ApiError> {
    let (id, _) = api.cloud.find(&device).await?;
    api.cloud.accept_key(id, fingerprint).await?;
    Ok(Done::of(id))
}

/// Forgets a key. Without a current one the device does not get in.
#[utoipa::path(delete, path = "/v1/keys/{device}/{fingerprint}",
    params(("device" = String, Path, description = "Id or name"), ("fingerprint" = String, Path, description = "Hex")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody)))]
pub(super) async fn forget(
    State(api): State<Api>,
    Path((device, fingerprint)): Path<(String, String)>,
) -> Result<Json<Done>, ApiError> {
    let (id, _) = api.cloud.find(&device).await?;
    api.cloud.forget_key(id, fingerprint).await?;
    Ok(Done::of(id))
}
