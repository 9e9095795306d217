//! What a request gets that cannot be served: a status, a word, and what to do next.

use crate::cloud::Refused;
use crate::cloud::plan::PlanError;
use crate::cloud::session::CallError;
use crate::cloud::store::KeyError;
use crate::exit::Failure;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The body of an error, with the members that the vendor's API has.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ErrorBody {
    /// Always false.
    ok: bool,
    /// The status code.
    code: u16,
    /// A stable word.
    error: &'static str,
    /// What happened.
    error_description: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    error: &'static str,
    description: String,
    next: Option<String>,
}

impl ApiError {
    fn new(status: StatusCode, error: &'static str, description: impl core::fmt::Display) -> Self {
        Self { status, error, description: description.to_string(), next: None }
    }

    fn with_next(self, next: impl core::fmt::Display) -> Self {
        Self { next: Some(next.to_string()), ..self }
    }

    pub(super) fn not_found(what: impl core::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }

    pub(super) fn bad_request(what: impl core::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", what)
    }

    /// A body that cannot be read.
    pub(super) fn of_body(status: StatusCode, what: impl core::fmt::Display) -> Self {
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(status, "too_large", "the body has more bytes than a request may have")
            }
            _ => Self::bad_request(what),
        }
    }

    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path is not for this method")
            .with_next("look it up in /openapi.json")
    }

    pub(super) fn too_many(what: impl core::fmt::Display) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many", what).with_next("try again later")
    }

    pub(super) fn unauthorised() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "invalid_token",
            "the access token is missing or not the one of this cloud",
        )
        .with_next("send `Authorization: Bearer TOKEN`, with the content of the data folder's file `token`")
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            ok: false,
            code: self.status.as_u16(),
            error: self.error,
            error_description: self.description,
            next: self.next,
        };
        (self.status, Json(body)).into_response()
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> Self {
        let (status, word, next) = match &error {
            CallError::Offline => {
                (StatusCode::REQUEST_TIMEOUT, "offline", "see GET /v1/diagnosis/ID for what kept it away")
            }
            CallError::TimedOut => {
                (StatusCode::REQUEST_TIMEOUT, "timed_out", "its application may be blocked; try again")
            }
            CallError::NoSuch { .. } => (StatusCode::NOT_FOUND, "not_found", "see GET /v1/devices/ID"),
            CallError::Updating => (StatusCode::CONFLICT, "updating", "see GET /v1/updates/ID"),
            CallError::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy", "ask less often"),
            CallError::TooLong(_) => (StatusCode::BAD_REQUEST, "too_long", "send less"),
            CallError::Refused { .. } => {
                (StatusCode::BAD_REQUEST, "refused", "look at the argument, and at the device's application")
            }
            CallError::Malformed(_) => (
                StatusCode::BAD_GATEWAY,
                "malformed",
                "ask for its description: GET /v1/describe/ID?fresh=true",
            ),
        };
        Self::new(status, word, error).with_next(next)
    }
}

impl From<PlanError> for ApiError {
    fn from(error: PlanError) -> Self {
        let next = match &error {
            PlanError::NoDescribe => "wait until it has connected once",
            PlanError::Platform { .. } => "build the firmware for the device's platform",
            PlanError::TooMany(_) => "send them in parts",
            PlanError::Impossible(_) => "add the missing module files: POST /v1/firmware",
        };
        Self::new(StatusCode::CONFLICT, "no_plan", error).with_next(next)
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Changed => Self::new(StatusCode::CONFLICT, "key_changed", error)
                .with_next("if you gave the device this key, send it again with replace=true"),
            KeyError::Ambiguous => Self::bad_request(error).with_next("give more digits of it"),
            KeyError::Unknown => Self::not_found(error).with_next("see GET /v1/keys/ID"),
        }
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::NoDevice(_) => Self::not_found(&refused)
                .with_next("see GET /v1/devices, and GET /v1/keys for devices that wait to be accepted"),
            Refused::Unclaimed(id) => Self::new(StatusCode::FORBIDDEN, "unclaimed", &refused)
                .with_next(format_args!("claim it: POST /v1/devices with id={id}")),
            Refused::Call(error) => error.into(),
            Refused::Plan(error) => error.into(),
            Refused::Key(error) => error.into(),
            Refused::Name(error) => Self::bad_request(error),
            Refused::BadKey(_) => {
                Self::bad_request(refused).with_next("send the device's RSA-1024 public key, PEM or DER")
            }
            Refused::TooMuch { .. } => Self::bad_request(refused),
            Refused::SystemEvent => Self::bad_request(refused).with_next("choose another name"),
            Refused::NoModule(_) => Self::not_found(refused).with_next("see GET /v1/firmware"),
            Refused::UnderWay(_) => Self::new(StatusCode::CONFLICT, "under_way", refused)
                .with_next("see GET /v1/updates/ID; DELETE it to cancel"),
            Refused::NothingToCancel => Self::new(StatusCode::CONFLICT, "nothing_to_cancel", refused),
            Refused::Store(failure) => failure.into(),
        }
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        // What a client sent, or what lies on our disk.
        let (status, word) = match failure.code() {
            crate::exit::Code::Data => (StatusCode::BAD_REQUEST, "invalid_data"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, word, failure.what()).with_next(failure.next())
    }
}
