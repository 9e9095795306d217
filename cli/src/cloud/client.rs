//! The HTTP interface of a running cloud, seen from a client: what `spark cloud status` and `spark flash --cloud` use.

use super::folder::read_token;
use crate::exit::{Code, Failure};
use core::time::Duration;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;
use ureq::Body;
use ureq::http::{Response, StatusCode};
use ureq::unversioned::multipart;
use zeroize::Zeroizing;

/// A cloud that does not answer for so long is not there.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer: a list of all devices.
const MAX_ANSWER: u64 = 64 << 20;

/// A client.
pub(crate) struct Client {
    agent: ureq::Agent,
    api: String,
    token: Zeroizing<String>,
}

impl Client {
    /// Of the cloud at this URL, with the token in this file. Nothing is asked yet.
    pub(crate) fn new(api: &str, token: &Path) -> Result<Self, Failure> {
        // What the cloud says about an error is worth reading.
        let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false);
        let agent = config.build().into();
        Ok(Self { agent, api: api.trim_end_matches('/').to_owned(), token: read_token(token)? })
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", *self.token)
    }

    /// Asks for something.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let url = format!("{}{path}", self.api);
        let answer = self.agent.get(&url).header("Authorization", self.bearer()).call();
        read(&url, answer)
    }

    /// Has something done.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        let url = format!("{}{path}", self.api);
        let answer = self.agent.post(&url).header("Authorization", self.bearer()).send_json(body);
        read(&url, answer)
    }

    /// Uploads a file.
    pub(crate) fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
        content: &[u8],
    ) -> Result<T, Failure> {
        let url = format!("{}{path}", self.api);
        let form = multipart::Form::new().part("file", multipart::Part::bytes(content).file_name(name));
        let answer = self.agent.post(&url).header("Authorization", self.bearer()).send(form);
        read(&url, answer)
    }
}

fn read<T: DeserializeOwned>(url: &str, answer: Result<Response<Body>, ureq::Error>) -> Result<T, Failure> {
    let mut answer = answer.map_err(|error| {
        Failure::new(
            Code::Unavailable,
            format_args!("{url}: {error}"),
            "start the cloud with `spark cloud serve`, or say where its HTTP interface is",
        )
    })?;
    let status = answer.status();
    let body = answer.body_mut().with_config().limit(MAX_ANSWER);
    if status == StatusCode::UNAUTHORIZED {
        return Err(Failure::new(
            Code::Usage,
            format_args!("{url}: the token is not the one of this cloud"),
            "give the cloud's data folder with --data, or its token with --token-file",
        ));
    }
    if !status.is_success() {
        let said: Value = body.read_json().unwrap_or_default();
        let word = |member: &str| said[member].as_str().map(|text| text.escape_debug().to_string());
        let code = if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            Code::Unavailable
        } else {
            Code::Data
        };
        return Err(Failure::new(
            code,
            format_args!(
                "the cloud says: {}",
                word("error_description").unwrap_or_else(|| status.to_string())
            ),
            word("next")
                .unwrap_or_else(|| "see what `spark cloud status` and the cloud's log say".to_owned()),
        ));
    }
    body.read_json().map_err(|error| {
        let next = "is this the HTTP interface of `spark cloud serve`, in this version?";
        Failure::new(Code::Protocol, format_args!("{url}: {error}"), next)
    })
}
