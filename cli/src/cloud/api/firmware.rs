//! Module files: what the cloud has, and how they come in: one module, or a bundle (.zip) of several.

use super::Api;
use super::devices::Done;
use super::error::{ApiError, ErrorBody};
use super::fields::flag;
use crate::cloud::catalogue::ModuleFile;
use crate::cloud::plan::MAX_STEPS;
use crate::cloud::store::ModuleRecord;
use crate::exit::{Code, Failure};
use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::{Multipart, Path, State};
use spark_ota::module::bundle::{self, Limits};

/// Bytes of one module; the largest place of a Photon has 256 KiB, of an Electron no more.
const MAX_MODULE: u64 = 2 << 20;
/// Bytes of all modules of a bundle.
const MAX_BUNDLE: u64 = 32 << 20;

/// What a form brought.
pub(super) struct Upload {
    files: Vec<(String, Vec<u8>)>,
    /// One chunk, one answer.
    pub(super) slow: bool,
}

/// Reads a multipart form: files of any field, and `slow`.
pub(super) async fn read(mut form: Multipart) -> Result<Upload, ApiError> {
    let unread = |error: MultipartError| ApiError::of_body(error.status(), error.body_text());
    let mut upload = Upload { files: Vec::new(), slow: false };
    while let Some(field) = form.next_field().await.map_err(unread)? {
        let (name, file) =
            (field.name().unwrap_or_default().to_owned(), field.file_name().map(str::to_owned));
        if let Some(file) = file {
            let content = field.bytes().await.map_err(unread)?;
            upload.files.push((file, content.to_vec()));
        } else if name == "slow" {
            let text = field.text().await.map_err(unread)?;
            upload.slow = flag("slow", &text)?;
        }
    }
    if upload.files.is_empty() {
        return Err(ApiError::bad_request("the form has no file"));
    }
    Ok(upload)
}

/// Keeps all modules of an upload, or none: they are checked first.
pub(super) async fn keep(api: &Api, upload: Upload) -> Result<Vec<ModuleFile>, ApiError> {
    let files = tokio::task::spawn_blocking(move || {
        let mut files = Vec::new();
        for (name, content) in &upload.files {
            files.extend(modules_of(name, content)?);
        }
        Ok::<_, Failure>(files)
    });
    let files = files.await.map_err(ApiError::bad_request)??;
    api.cloud.add_modules(&files).await?;
    Ok(files)
}

/// The modules of a file, or of those of a bundle.
pub(crate) fn modules_of(name: &str, content: &[u8]) -> Result<Vec<ModuleFile>, Failure> {
    if !bundle::is_archive(content) {
        return ModuleFile::all_of(name, content);
    }
    let bad = |what: &dyn core::fmt::Display| {
        Failure::new(
            Code::Data,
            format_args!("{name}: {what}"),
            "give a .bin module or a .zip bundle of modules",
        )
    };
    let limits = Limits { file_len: MAX_MODULE, total_len: MAX_BUNDLE, ..Limits::DEFAULT };
    let files = bundle::files(content, limits, |path| path.ends_with(".bin")).map_err(|error| bad(&error))?;
    let modules: Result<Vec<_>, _> = files
        .iter()
        .map(|file| ModuleFile::all_of(file.name.rsplit('/').next().unwrap_or_default(), &file.content))
        .collect();
    let modules = modules?.concat();
    match modules.len() {
        0 => Err(bad(&"the bundle has no .bin file")),
        1..=MAX_STEPS => Ok(modules),
        more => Err(bad(&format_args!("{more} modules are more than {MAX_STEPS}"))),
    }
}

/// All module files.
#[utoipa::path(get, path = "/v1/firmware", responses((status = 200, body = Vec<ModuleRecord>)))]
pub(super) async fn list(State(api): State<Api>) -> Result<Json<Vec<ModuleRecord>>, ApiError> {
    Ok(Json(api.cloud.store.modules()?))
}

/// Keeps module files: a multipart form with a `file`, a module or a bundle.
#[utoipa::path(post, path = "/v1/firmware", responses(
    (status = 200, body = Vec<ModuleRecord>), (status = 400, body = ErrorBody)))]
pub(super) async fn add(
    State(api): State<Api>,
    form: Multipart,
) -> Result<Json<Vec<ModuleRecord>>, ApiError> {
    let files = keep(&api, read(form).await?).await?;
    Ok(Json(files.iter().map(ModuleRecord::of).collect()))
}

/// Removes a module file. A file in the data folder's `modules` is taken again at the next start.
#[utoipa::path(delete, path = "/v1/firmware/{sha256}", params(("sha256" = String, Path, description = "Of the file, 64 hex digits")),
    responses((status = 200, body = Done), (status = 404, body = ErrorBody)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Path(sha256): Path<String>,
) -> Result<Json<Done>, ApiError> {
    api.cloud.remove_module(&sha256).await?;
    Ok(Json(Done { ok: true, id: None, status: None }))
}
