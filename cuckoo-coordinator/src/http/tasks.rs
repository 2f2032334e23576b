//! The requester's side: submit, look, fetch, cancel.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::header::{
    CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::{
    Error, ErrorBody, Result, TaskId, TaskResult, TaskSpec, TaskState, paths, schema,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::body::{answer, json, task_limit};
use super::error::Refusal;
use super::openai::Viewer;
use super::trace::note_task;
use crate::{Requester, TaskHandle};

/// The longest that a requester is kept waiting for an output.
const MAX_WAIT: Duration = Duration::from_secs(600);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RECEIPT: HeaderName = HeaderName::from_static(paths::RECEIPT);
const TASK_ID: HeaderName = HeaderName::from_static(paths::TASK_ID);
const MINER: HeaderName = HeaderName::from_static(paths::MINER);

/// A task and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct TaskView {
    /// The task.
    id: TaskId,
    /// Where it stands.
    #[serde(flatten)]
    state: TaskState,
}

impl TaskView {
    pub(super) fn of(task: &TaskHandle) -> Self {
        Self::new(task.id(), task.state())
    }

    pub(super) fn new(id: TaskId, state: TaskState) -> Self {
        Self { id, state }
    }
}

/// How long to wait for an output.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OutputQuery {
    /// Milliseconds, at most 600,000; none when absent.
    #[serde(default)]
    wait_millis: u64,
    /// In a link: until when it works, in seconds of the Unix epoch.
    pub(super) expires: Option<u64>,
    /// In a link: what takes the place of an API key.
    pub(super) signature: Option<String>,
}

/// Submits a task. With `Prefer: wait=60` the answer is the output itself, if it is there within so many seconds.
#[utoipa::path(post, path = paths::TASKS, tag = "requester", security((), ("requester" = [])),
    params(
        ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]+$", max_length = 128, description = "The same key again gives the task that the first request made; takes the place of `idempotency_key`"),
        ("Prefer" = Option<String>, Header, description = "`wait=N` (RFC 7240): wait up to N seconds, at most 600, for the output"),
    ),
    request_body = TaskSpec,
    responses(
        (status = 200, description = "The output, after a wait; any media type", body = schema::Payload, content_type = "application/octet-stream",
            headers(("Cuckoo-Task" = String), ("Cuckoo-Miner" = u64), ("Cuckoo-Receipt" = String, description = "base64url JSON of a `Signed_Receipt`"))),
        (status = 202, description = "Accepted; `Location` is where to look for it", body = TaskView, headers(("Location" = String))),
        (status = 400, description = "Malformed, or an input that the model cannot take", body = ErrorBody),
        (status = 404, description = "No such model", body = ErrorBody),
        (status = 409, description = "The idempotency key named another submission", body = ErrorBody),
        (status = 413, description = "The input is too long", body = ErrorBody),
        (status = 429, description = "Refused by limits or price", body = ErrorBody),
        (status = 503, description = "Shutting down", body = ErrorBody),
        (status = "default", description = "After a wait: the task failed, with its kind's status", body = ErrorBody),
    )
)]
pub(super) async fn submit(
    State(shared): State<Shared>,
    requester: Requester,
    request: Request,
) -> Result<Response, Refusal> {
    let wait = preferred_wait(request.headers());
    let key = idempotency_key(request.headers())?;
    let mut spec: TaskSpec = json(request, task_limit(shared.max_input_bytes)).await?;
    spec.idempotency_key = key.or(spec.idempotency_key);
    let task = shared.coordinator.submit_as(&requester, spec).await?;
    note_task(task.id());
    let mut response = match wait {
        Some(wait) => output_within(&task, wait).await?,
        None => accepted(&task),
    };
    if let Some(wait) = wait {
        let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
        if let Ok(applied) = applied {
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
    }
    Ok(response)
}

/// Where a task stands.
#[utoipa::path(get, path = paths::TASK, tag = "requester", security((), ("requester" = [])),
    params(("id" = TaskId, Path, description = "The task")),
    responses(
        (status = 200, body = TaskView),
        (status = 404, description = "No such task", body = ErrorBody),
    )
)]
pub(super) async fn state(
    State(shared): State<Shared>,
    requester: Requester,
    TaskPath(id): TaskPath,
) -> Result<Json<TaskView>, Refusal> {
    let task = requester.own(shared.coordinator.task(id).await?)?;
    Ok(Json(TaskView::of(&task)))
}

/// A task's output: 200 and raw bytes once it is there, 202 and the task's state until then. Links to it, as the routes for
/// OpenAI's clients give them, need no API key.
#[utoipa::path(get, path = paths::TASK_OUTPUT, tag = "requester", security((), ("requester" = [])),
    params(("id" = TaskId, Path, description = "The task"), OutputQuery),
    responses(
        (status = 200, description = "The output; any media type", body = schema::Payload, content_type = "application/octet-stream",
            headers(("Cuckoo-Task" = String), ("Cuckoo-Miner" = u64), ("Cuckoo-Receipt" = String, description = "base64url JSON of a `Signed_Receipt`"))),
        (status = 202, description = "Not there yet", body = TaskView, headers(("Location" = String))),
        (status = 403, description = "The link has expired or was changed", body = ErrorBody),
        (status = 404, description = "No such task", body = ErrorBody),
        (status = 410, description = "The task was cancelled", body = ErrorBody),
        (status = "default", description = "The task failed, with its kind's status", body = ErrorBody),
    )
)]
pub(super) async fn output(
    State(shared): State<Shared>,
    viewer: Viewer,
    TaskPath(id): TaskPath,
    Asked(query): Asked<OutputQuery>,
) -> Result<Response, Refusal> {
    let task = shared.coordinator.task(id).await?;
    let task = match viewer {
        Viewer::Linked => task,
        Viewer::Requester(requester) => requester.own(task)?,
    };
    output_within(&task, Duration::from_millis(query.wait_millis)).await
}

/// Cancels a task; its miner is told to stop. One that ended already stays as it is.
#[utoipa::path(delete, path = paths::TASK, tag = "requester", security((), ("requester" = [])),
    params(("id" = TaskId, Path, description = "The task")),
    responses(
        (status = 200, description = "Where it stands now", body = TaskView),
        (status = 404, description = "No such task", body = ErrorBody),
    )
)]
pub(super) async fn cancel(
    State(shared): State<Shared>,
    requester: Requester,
    TaskPath(id): TaskPath,
) -> Result<Json<TaskView>, Refusal> {
    let task = requester.own(shared.coordinator.task(id).await?)?;
    task.cancel().await?;
    Ok(Json(TaskView::of(&task)))
}

/// The task that a route's path names.
pub(super) struct TaskPath(pub(super) TaskId);

impl FromRequestParts<Shared> for TaskPath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let Path(text) = Path::<String>::from_request_parts(parts, shared)
            .await
            .map_err(|rejection| Error::invalid(rejection.body_text()))?;
        let id = text.parse()?;
        note_task(id);
        Ok(Self(id))
    }
}

/// What stands behind the question mark.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Shared> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Refusal> {
        let Query(asked) = Query::try_from_uri(&parts.uri)
            .map_err(|rejection| Error::invalid(rejection.body_text()))?;
        Ok(Self(asked))
    }
}

/// The output if it is there within `wait`, else 202 and the state. A task that failed is its error.
async fn output_within(task: &TaskHandle, wait: Duration) -> Result<Response, Refusal> {
    // Like the arrival of a body, how long a connection is held is real time.
    match tokio::time::timeout(wait.min(MAX_WAIT), task.result()).await {
        Ok(result) => Ok(output_response(result?)?),
        Err(_) => Ok(accepted(task)),
    }
}

/// 202, where the task is, and how it stands.
pub(super) fn accepted(task: &TaskHandle) -> Response {
    let location = paths::TASK.replace("{id}", &task.id().to_string());
    (
        StatusCode::ACCEPTED,
        [(LOCATION, location)],
        Json(TaskView::of(task)),
    )
        .into_response()
}

fn output_response(result: TaskResult) -> Result<Response> {
    let unfit = |_| Error::internal("the output's media type or receipt does not fit a header");
    let receipt = serde_json::to_vec(&result.receipt)
        .map_err(|source| Error::internal("the receipt is not JSON").with_source(source))?;
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        result.output.media_type.try_into().map_err(unfit)?,
    );
    // Bytes and media type are a miner's: a browser must neither guess a livelier type nor run anything in them.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(TASK_ID, result.task.to_string().try_into().map_err(unfit)?);
    headers.insert(MINER, HeaderValue::from(result.receipt.value.miner.0));
    headers.insert(
        RECEIPT,
        URL_SAFE_NO_PAD.encode(receipt).try_into().map_err(unfit)?,
    );
    headers.insert(CONTENT_LENGTH, HeaderValue::from(result.output.bytes.len()));
    Ok((headers, answer(result.output.bytes)).into_response())
}

/// The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), which may be quoted.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|source| {
        Error::invalid("the header Idempotency-Key holds other than visible ASCII characters")
            .with_source(source)
    })?;
    Ok(Some(text.trim().trim_matches('"').to_owned()))
}

/// The seconds of `Prefer: wait=N` (RFC 7240), at most [`MAX_WAIT`]. What is not understood is ignored, as the RFC asks.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_read_as_rfc_7240_writes_it() {
        for (values, seconds) in [
            (&["wait=10"][..], Some(10)),
            (&["respond-async, Wait = \"7\""], Some(7)),
            (&["respond-async", "wait=3; foo=bar"], Some(3)),
            (&["wait=99999999999"], Some(600)),
            (&["wait=soon"], None),
            (&["wait"], None),
            (&["handling=lenient"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            assert_eq!(
                preferred_wait(&headers).map(|wait| wait.as_secs()),
                seconds,
                "{values:?}"
            );
        }
    }
}
