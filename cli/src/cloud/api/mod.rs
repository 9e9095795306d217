//! The HTTP interface of the cloud. Paths and members are those of the vendor's public API where it has them, so that programs
//! that were written for it work; what the vendor does not have is under `/v1/describe`, `/v1/keys`, `/v1/firmware`, `/v1/updates`,
//! `/v1/diagnosis` and `/v1/status`.
//!
//! Whoever has the token may do everything. `/openapi.json` describes all of it, from the same declarations that route requests.

mod calls;
mod devices;
mod diagnosis;
mod error;
mod events;
mod fields;
mod firmware;
mod keys;
mod status;
mod updates;

pub use status::StatusBody;

use super::Cloud;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use core::time::Duration;
use error::ApiError;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Connections to the interface at the same time.
const MAX_CONNECTIONS: usize = 512;
/// Of these, open event streams.
const MAX_STREAMS: usize = 256;
/// A client that does not send its request's head for so long is gone.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Bodies up to this length are read before anything is answered.
const SMALL_BODY: usize = 64 << 10;
/// Bytes of a request: the largest firmware and its wrapping.
const MAX_BODY: usize = 8 << 20;

/// What every request needs.
#[derive(Clone)]
pub(super) struct Api {
    cloud: Arc<Cloud>,
    /// A digest, so that comparing tells nothing about the token, its length included.
    token: [u8; 32],
    streams: Arc<Semaphore>,
    stopping: watch::Receiver<bool>,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "spark cloud",
        description = "A local cloud for Particle (formerly Spark) Core, Photon and P1 devices. \
            Send the token of the data folder as `Authorization: Bearer TOKEN`."
    ),
    modifiers(&Bearer),
    security(("token" = []))
)]
struct Document;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// All routes with their descriptions.
fn described() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(devices::list, devices::claim))
        .routes(routes!(devices::show, devices::change, devices::unclaim))
        .routes(routes!(devices::claim_code))
        .routes(routes!(calls::ping))
        .routes(routes!(calls::read_variable, calls::call_function))
        .routes(routes!(calls::describe))
        .routes(routes!(events::publish))
        .routes(routes!(events::all))
        .routes(routes!(events::all_by_prefix))
        .routes(routes!(events::of_devices))
        .routes(routes!(events::of_devices_by_prefix))
        .routes(routes!(events::of_device))
        .routes(routes!(events::of_device_by_prefix))
        .routes(routes!(firmware::list, firmware::add))
        .routes(routes!(firmware::remove))
        .routes(routes!(updates::show, updates::start, updates::cancel))
        .routes(routes!(updates::plan))
        .routes(routes!(updates::watch))
        .routes(routes!(keys::offered))
        .routes(routes!(keys::list, keys::enrol))
        .routes(routes!(keys::accept))
        .routes(routes!(keys::forget))
        .routes(routes!(keys::provision))
        .routes(routes!(diagnosis::recent))
        .routes(routes!(diagnosis::of_device))
        .routes(routes!(status::status))
        .routes(routes!(status::metrics))
}

/// The description of the interface, as `/openapi.json` serves it.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().into_openapi()
}

fn router(api: Api) -> Router {
    let (router, document) = described().split_for_parts();
    let document = document.to_json().unwrap_or_default();
    router
        .layer(axum::middleware::from_fn_with_state(api.clone(), authorised))
        // Who watches over the program needs no token for these.
        .route("/health", axum::routing::get(|| async { "ok\n" }))
        .route(
            "/openapi.json",
            axum::routing::get(
                move || async move { ([(header::CONTENT_TYPE, "application/json")], document) },
            ),
        )
        .fallback(|| {
            core::future::ready(ApiError::not_found(
                "there is nothing at this path; /openapi.json lists all paths",
            ))
        })
        .method_not_allowed_fallback(|| core::future::ready(ApiError::method()))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn(take_body))
        .with_state(api)
}

/// Reads a small body whole, whether anybody wants it or not: an answer that overtakes the body ends the connection, and may be
/// lost with it.
async fn take_body(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length = length.and_then(|length| length.parse::<usize>().ok());
    if !length.is_some_and(|length| (1..=SMALL_BODY).contains(&length)) {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(HEAD_TIMEOUT, axum::body::to_bytes(body, SMALL_BODY)).await;
    match body {
        Ok(Ok(body)) => next.run(Request::from_parts(head, body.into())).await,
        Ok(Err(error)) => ApiError::bad_request(error).into_response(),
        Err(_) => ApiError::bad_request("the body of the request did not come").into_response(),
    }
}

/// Lets requests with the token through.
async fn authorised(State(api): State<Api>, request: Request, next: Next) -> Response {
    api.cloud.metrics.requests.inc();
    let given = token_of(request.headers(), request.uri().query().unwrap_or_default());
    let is_right = given.is_some_and(|given| {
        let digest: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        bool::from(digest.ct_eq(&api.token))
    });
    if is_right {
        return next.run(request).await;
    }
    api.cloud.metrics.requests_refused.inc();
    ApiError::unauthorised().into_response()
}

/// The token of a request: in the header, or, for programs that cannot set one, in the query.
fn token_of(headers: &HeaderMap, query: &str) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    let mut members = query.split('&').filter_map(|member| member.split_once('='));
    members.find(|(name, _)| *name == "access_token").map(|(_, token)| token.to_owned())
}

/// Resolves when the interface is to stop.
async fn until_stopped(stopping: &mut watch::Receiver<bool>) {
    // Without a sender the program ends. The value stays borrowed no longer than this.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// Serves the interface until `stopping` becomes true; requests under way get a moment to end.
pub async fn serve(
    cloud: Arc<Cloud>,
    listener: TcpListener,
    token: &str,
    mut stopping: watch::Receiver<bool>,
) {
    let api = Api {
        cloud: Arc::clone(&cloud),
        token: Sha256::digest(token.as_bytes()).into(),
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        stopping: stopping.clone(),
    };
    let router = router(api);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = until_stopped(&mut stopping) => return,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Answers are small, and somebody waits for each.
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let mut stopping = stopping.clone();
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(socket), service);
            let mut connection = core::pin::pin!(connection);
            // What goes wrong with one client is that client's business.
            let stops = tokio::select! {
                _ = connection.as_mut() => false,
                () = until_stopped(&mut stopping) => true,
            };
            if stops {
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(Duration::from_secs(5), connection).await;
            }
            drop(place);
        });
    }
}
