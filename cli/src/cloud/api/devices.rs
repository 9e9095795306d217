//! Devices: list, show, claim, name, signal, flash by one request as the vendor's clients do.

use super::Api;
use super::error::{ApiError, ErrorBody};
use super::fields::Fields;
use super::firmware;
use super::updates::start_plan;
use crate::cloud::session::Call;
use crate::cloud::store::Device;
use crate::cloud::{Requested, Transfer};
use axum::Json;
use axum::extract::{FromRequest, Multipart, Path, Request, State};
use axum::http::header;
use coap_spark::handshake::DeviceId;
use coap_spark::message::VariableType;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// A device. The members that the vendor's API has are named as there.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DeviceBody {
    /// 24 hex digits.
    id: String,
    /// What its owner calls it; its id if he does not.
    name: String,
    /// It is connected.
    connected: bool,
    /// The same.
    online: bool,
    /// It belongs to the owner of this cloud.
    claimed: bool,
    /// Address of its last connection.
    last_ip_address: Option<String>,
    /// When it was last there, RFC 3339.
    last_heard: Option<String>,
    /// When it was first there.
    first_seen: Option<String>,
    /// Since when it is connected.
    last_handshake_at: Option<String>,
    /// Connections that came to Hello.
    connections: u64,
    /// Product id from its Hello; that of the platform for devices that are no product's.
    product_id: Option<u16>,
    /// Version of the product's firmware.
    product_version: Option<u16>,
    /// 6 for a Photon.
    platform_id: Option<u16>,
    /// Always false: this cloud talks TCP.
    cellular: bool,
    /// Always "normal".
    status: &'static str,
    /// What its owner wrote about it.
    notes: Option<String>,
    /// Functions of its application.
    functions: Vec<String>,
    /// Variables of its application and their types.
    variables: BTreeMap<String, String>,
    /// Whatever its owner wants to remember.
    attributes: BTreeMap<String, String>,
    /// Fingerprint of the key that it gets in with.
    key_fingerprint: Option<String>,
    /// The module on its way to it.
    transfer: Option<Transfer>,
}

pub(super) fn rfc3339(seconds: u64) -> String {
    rfc3339_of(UNIX_EPOCH + Duration::from_secs(seconds))
}

pub(super) fn rfc3339_of(time: std::time::SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| format!("{time:.3}")).unwrap_or_default()
}

pub(super) fn type_name(kind: VariableType) -> String {
    match kind {
        VariableType::Bool => "bool".to_owned(),
        VariableType::Int => "int32".to_owned(),
        VariableType::Double => "double".to_owned(),
        VariableType::String => "string".to_owned(),
        other => format!("{other:?}").to_ascii_lowercase(),
    }
}

impl DeviceBody {
    pub(super) fn of(api: &Api, id: DeviceId, device: &Device) -> Self {
        let presence = api.cloud.presence(id);
        let describe = device.describe.clone().unwrap_or_default();
        let variables = describe.variables.unwrap_or_default();
        Self {
            id: id.to_string(),
            name: device.name.clone().unwrap_or_else(|| id.to_string()),
            connected: presence.is_some(),
            online: presence.is_some(),
            claimed: device.claimed,
            last_ip_address: device.last_address.clone(),
            last_heard: match &presence {
                Some(_) => Some(rfc3339_of(std::time::SystemTime::now())),
                None => device.last_seen.map(rfc3339),
            },
            first_seen: device.first_seen.map(rfc3339),
            last_handshake_at: presence.as_ref().map(|presence| rfc3339_of(presence.since)),
            connections: device.connections,
            product_id: device.product_id,
            product_version: device.product_version,
            platform_id: device.platform_id,
            cellular: false,
            status: "normal",
            notes: device.notes.clone(),
            functions: describe.functions.unwrap_or_default(),
            variables: variables.into_iter().map(|(name, kind)| (name, type_name(kind))).collect(),
            attributes: device.attributes.clone(),
            key_fingerprint: device.current_key().map(|key| key.fingerprint().to_string()),
            transfer: presence.and_then(|presence| presence.transfer),
        }
    }
}

/// It was done.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Done {
    /// Always true.
    pub(super) ok: bool,
    /// The device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// What happens now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<String>,
}

impl Done {
    pub(super) fn of(id: DeviceId) -> Json<Self> {
        Json(Self { ok: true, id: Some(id.to_string()), status: None })
    }
}

/// All claimed devices.
#[utoipa::path(get, path = "/v1/devices", responses((status = 200, body = Vec<DeviceBody>)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<DeviceBody>>, ApiError> {
    let devices = api.cloud.devices().await?;
    let claimed = devices.iter().filter(|(_, device)| device.claimed);
    Ok(Json(claimed.map(|(id, device)| DeviceBody::of(&api, *id, device)).collect()))
}

/// Claims a device whose key is known.
///
/// The body has its `id`.
#[utoipa::path(post, path = "/v1/devices", responses(
    (status = 200, body = Done), (status = 404, body = ErrorBody)))]
pub(super) async fn claim(State(api): State<Api>, fields: Fields) -> Result<Json<Done>, ApiError> {
    let id = fields.get("id").ok_or_else(|| ApiError::bad_request("the body lacks `id`, 24 hex digits"))?;
    let (id, _) = api.cloud.find(id).await?;
    api.cloud.set_claimed(id, true).await?;
    Ok(Done::of(id))
}

/// One device, by id or name.
#[utoipa::path(get, path = "/v1/devices/{device}", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, body = DeviceBody), (status = 404, body = ErrorBody)))]
pub(super) async fn show(
    State(api): State<Api>,
    Path(device): Path<String>,
) -> Result<Json<DeviceBody>, ApiError> {
    let (id, device) = api.cloud.find_claimed(&device).await?;
    Ok(Json(DeviceBody::of(&api, id, &device)))
}

/// Changes a device: `name`, `notes`, `attributes` (an object of texts; `null` removes one), `signal` (1 begins and 0 ends the
/// light show); or, as a multipart form with a
/// `file`, flashes a module or a bundle.
#[utoipa::path(put, path = "/v1/devices/{device}", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, body = Done), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 408, body = ErrorBody), (status = 409, body = ErrorBody)))]
pub(super) async fn change(
    State(api): State<Api>,
    Path(device): Path<String>,
    request: Request,
) -> Result<Json<Done>, ApiError> {
    let (id, device) = api.cloud.find_claimed(&device).await?;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("multipart/form-data")) {
        let form = Multipart::from_request(request, &api).await.map_err(ApiError::bad_request)?;
        let upload = firmware::read(form).await?;
        let slow = upload.slow;
        let files = firmware::keep(&api, upload).await?;
        let plan = start_plan(&api, id, &device, &Requested::Modules(files), slow).await?;
        let status = match plan {
            Some(_) => "Update started",
            None => "the device has this already",
        };
        return Ok(Json(Done { ok: true, id: Some(id.to_string()), status: Some(status.to_owned()) }));
    }
    let fields = Fields::from_request(request, &api).await?;
    let (name, notes) = (fields.get("name"), fields.get("notes"));
    let signal = fields.flag("signal")?;
    let attributes = fields.get("attributes").map(attributes).transpose()?;
    if name.is_none() && notes.is_none() && signal.is_none() && attributes.is_none() {
        let what = "the body has none of `name`, `notes`, `attributes`, `signal` and `file`";
        return Err(ApiError::bad_request(what));
    }
    if let Some(attributes) = attributes {
        api.cloud.set_attributes(id, attributes).await?;
    }
    if let Some(notes) = notes {
        if notes.len() > MAX_NOTES {
            return Err(ApiError::bad_request(format_args!("notes have at most {MAX_NOTES} bytes")));
        }
        let notes = notes.to_owned();
        api.cloud
            .change_device(id, move |device| {
                device.notes = Some(notes).filter(|notes| !notes.is_empty());
                Ok(())
            })
            .await?;
    }
    if let Some(name) = name {
        api.cloud.rename(id, name.to_owned()).await?;
    }
    if let Some(on) = signal {
        api.cloud.call(id, Call::Signal { on }).await?;
    }
    Ok(Done::of(id))
}

/// Bytes of an owner's notes.
const MAX_NOTES: usize = 4096;

fn attributes(text: &str) -> Result<BTreeMap<String, Option<String>>, ApiError> {
    serde_json::from_str(text)
        .map_err(|error| ApiError::bad_request(format_args!("attributes is an object of texts: {error}")))
}

/// Gives a device up: it keeps its key and connects, but is neither listed nor called, and nobody hears it.
#[utoipa::path(delete, path = "/v1/devices/{device}", params(("device" = String, Path, description = "Id or name")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody)))]
pub(super) async fn unclaim(
    State(api): State<Api>,
    Path(device): Path<String>,
) -> Result<Json<Done>, ApiError> {
    let (id, _) = api.cloud.find_claimed(&device).await?;
    api.cloud.set_claimed(id, false).await?;
    Ok(Done::of(id))
}

/// A code for a device.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ClaimCode {
    /// 63 characters, good for 5 minutes and one device.
    claim_code: String,
    /// Devices that are claimed already.
    device_ids: Vec<String>,
}

/// Makes a claim code: a device that tells it when it connects is claimed.
#[utoipa::path(post, path = "/v1/device_claims", responses((status = 200, body = ClaimCode)))]
pub(super) async fn claim_code(State(api): State<Api>) -> Result<Json<ClaimCode>, ApiError> {
    let claim_code = api.cloud.claim_code().await?;
    let devices = api.cloud.devices().await?;
    let claimed = devices.iter().filter(|(_, device)| device.claimed);
    Ok(Json(ClaimCode { claim_code, device_ids: claimed.map(|(id, _)| id.to_string()).collect() }))
}
