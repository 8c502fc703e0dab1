//! Backups of the node's folder: begun, watched and listed by whoever has a token
//! of the whole installation. A name is all that is asked for: where backups go
//! is the configuration's alone, and no path ever comes from the network.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Access;
use super::extract::Json;
use super::problem::{ApiResult, Problem};
use super::state::AppState;
use crate::backup::{Manifest, Outcome, Running, StartError, list as list_backups};

/// The routes of this module, below `/api/v1`.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, start))
}

/// A backup to be taken.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackupInput)]
struct Input {
    /// Its folder's name below `backup.folder`: 1 to 64 of a-z, A-Z, 0-9, `.`, `_`
    /// and `-`, of which the first is no `.`. Without it the time is its name.
    name: Option<String>,
}

/// Backups.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Backups)]
struct Shown {
    /// Where they go; absent where `backup.folder` is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    /// The one that is being taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<RunningShown>,
    /// What came of the last one since the node was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<OutcomeShown>,
    /// In order of names.
    items: Vec<BackupShown>,
}

/// A backup that is being taken.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RunningBackup)]
pub(super) struct RunningShown {
    name: String,
    /// Milliseconds since 1970, UTC: what was acknowledged before is in it.
    begun_at: i64,
    bytes: u64,
    /// About as many will be copied; 0 until that is known.
    total_bytes: u64,
}

/// What came of a backup.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = BackupOutcome)]
struct OutcomeShown {
    name: String,
    /// Milliseconds since 1970, UTC.
    ended_at: i64,
    /// Why it failed; absent where it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

/// A backup.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Backup)]
struct BackupShown {
    name: String,
    /// Why it can't be used, such as that it was broken off. Its files were not
    /// looked at; `baken backup --check` does that.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    contents: Option<ContentsShown>,
}

/// What is in a backup.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = BackupContents)]
struct ContentsShown {
    /// Of Baken.
    version: String,
    /// Milliseconds since 1970, UTC: what was acknowledged before is in it.
    begun_at: i64,
    finished_at: i64,
    files: usize,
    /// Of all files, those that it shares with other backups included.
    bytes: u64,
}

impl RunningShown {
    fn of(running: &Running) -> Self {
        let (_, bytes, total_bytes) = running.progress.now();
        Self { name: running.name.clone(), begun_at: running.begun_at, bytes, total_bytes }
    }
}

impl OutcomeShown {
    fn of(outcome: Outcome) -> Self {
        let Outcome { name, ended_at, failure } = outcome;
        Self { name, ended_at, failure }
    }
}

impl ContentsShown {
    fn of(manifest: Manifest) -> Self {
        Self {
            files: manifest.files.len(),
            bytes: manifest.bytes(),
            version: manifest.version,
            begun_at: manifest.begun_at,
            finished_at: manifest.finished_at,
        }
    }
}

/// The backups that are there, and the one that is being taken. It needs a token
/// of the whole installation.
#[utoipa::path(
    get,
    operation_id = "list_backups",
    path = "/backups",
    tag = "backups",
    responses(
        (status = 200, body = Shown),
        (status = 403, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn list(State(state): State<AppState>, access: Access) -> ApiResult<Json<Shown>> {
    access.require_installation()?;
    let folder = state.backups.folder().map(std::path::Path::to_owned);
    // Before the folder is read: what ends meanwhile is there then.
    let (running, last) = state.backups.now();
    let found = match folder.clone() {
        Some(folder) => {
            let listed = tokio::task::spawn_blocking(move || list_backups(&folder)).await;
            let listed = listed.map_err(|error| Problem::internal(&error))?;
            listed.map_err(|error| Problem::internal(&error))?
        }
        None => Vec::new(),
    };
    let is_running = |name: &str| running.as_ref().is_some_and(|running| running.name == name);
    let items = found.into_iter().filter(|found| !is_running(&found.name)).map(|found| {
        let (contents, problem) = match found.manifest {
            Ok(manifest) => (Some(ContentsShown::of(manifest)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        BackupShown { name: found.name, problem, contents }
    });
    Ok(Json(Shown {
        items: items.collect(),
        folder: folder.map(|folder| folder.display().to_string()),
        running: running.as_ref().map(RunningShown::of),
        last: last.map(OutcomeShown::of),
    }))
}

/// Begins a backup. It needs a token of the whole installation; one is taken at a
/// time, and the list tells how far it is.
#[utoipa::path(
    post,
    operation_id = "start_backup",
    path = "/backups",
    tag = "backups",
    request_body = Input,
    responses(
        (status = 202, body = RunningShown),
        (status = 403, body = Problem, content_type = "application/problem+json"),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        (status = 422, body = Problem, content_type = "application/problem+json"),
    )
)]
async fn start(
    State(state): State<AppState>,
    access: Access,
    Json(input): Json<Input>,
) -> ApiResult<(StatusCode, Json<RunningShown>)> {
    access.require_installation()?;
    let started = state.backups.start(input.name, &access.author());
    let running = started.map_err(|error| match error {
        StartError::Name(_) => Problem::invalid("name", format!("{error}.")),
        StartError::NoFolder | StartError::Busy(_) | StartError::Exists(_) => {
            Problem::conflict(format!("{error}."))
        }
    })?;
    Ok((StatusCode::ACCEPTED, Json(RunningShown::of(&running))))
}
