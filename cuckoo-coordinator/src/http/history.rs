//! Tasks as they are kept: lists, what failed and why, and failed ones once more.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use cuckoo_core::{
    Error, ErrorBody, ModelId, NodeId, Result, TaskId, TaskSpec, TaskState, Timestamp, paths,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Shared;
use super::body::{json, task_limit};
use super::error::Refusal;
use super::tasks::{Asked, TaskPath, TaskView, accepted};
use crate::{Failed, ListedState, Quote, Requester, TaskFilter, TaskRecord};

/// The most tasks in one answer.
const MAX_LIMIT: usize = 1_000;
const DEFAULT_LIMIT: usize = 100;

/// Which tasks to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only those that stand so. `failed` is the list of dead letters: what ended without an output after all attempts.
    state: Option<ListedState>,
    /// Only those for this model.
    #[param(value_type = Option<ModelId>)]
    model: Option<ModelId>,
    /// Only those submitted before this task: the last one of the page before.
    #[param(value_type = Option<TaskId>)]
    before: Option<TaskId>,
    /// How many, at most 1000; 100 when absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// A page of tasks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TaskList {
    /// The latest submitted first.
    tasks: Vec<KeptTask>,
    /// What to pass as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<TaskId>,
}

/// A task as it is kept, without its input.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeptTask {
    id: TaskId,
    model: ModelId,
    listed: ListedState,
    /// How it ended, once it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<TaskState>,
    priority: i8,
    /// What it costs, in wei.
    #[schema(value_type = cuckoo_core::schema::Amount)]
    price: cuckoo_core::Wei,
    submitted_at: Timestamp,
    deadline: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    /// Whose output counts, or was received.
    miners: Vec<NodeId>,
    /// Leases that ended without an output, in order.
    failures: Vec<Failed>,
}

impl From<TaskRecord> for KeptTask {
    fn from(record: TaskRecord) -> Self {
        let received = record.received.iter();
        Self {
            id: record.task.id,
            listed: record.listed_state(),
            end: record.terminal_state(),
            miners: received
                .map(|received| received.receipt.value.miner)
                .collect(),
            model: record.task.model,
            priority: record.task.priority,
            price: record.task.price,
            submitted_at: record.task.submitted_at,
            deadline: record.task.deadline,
            ended_at: record.ended_at,
            failures: record.failures,
        }
    }
}

/// Tasks that are kept, open or ended, the latest submitted first.
#[utoipa::path(get, path = paths::TASKS, tag = "requester", security((), ("requester" = [])), params(ListQuery),
    responses(
        (status = 200, body = TaskList),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 503, description = "The store does not answer", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(shared): State<Shared>,
    requester: Requester,
    Asked(query): Asked<ListQuery>,
) -> Result<Json<TaskList>, Refusal> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Error::invalid(format!("limit is 1 to {MAX_LIMIT}")).into());
    }
    let filter = TaskFilter {
        requester: requester.scope().map(str::to_owned),
        model: query.model,
        state: query.state,
        before: query.before,
        limit,
    };
    let records = shared.coordinator.list(&filter).await?;
    let full = records.len() == limit;
    let last = records.last().map(|record| record.task.id);
    Ok(Json(TaskList {
        tasks: records.into_iter().map(KeptTask::from).collect(),
        next: last.filter(|_| full),
    }))
}

/// How to replay a task.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReplayQuery {
    /// Time from now to the result, in milliseconds; as much as it had before when absent.
    timeout_millis: Option<u64>,
}

/// Submits a task that failed again, as a new task with the same input.
#[utoipa::path(post, path = paths::TASK_REPLAY, tag = "requester", security((), ("requester" = [])),
    params(("id" = TaskId, Path, description = "The task"), ReplayQuery),
    responses(
        (status = 202, description = "Accepted; `Location` is where to look for it", body = TaskView, headers(("Location" = String))),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 404, description = "No such task", body = ErrorBody),
        (status = 409, description = "It did not fail", body = ErrorBody),
        (status = 429, description = "Refused by limits", body = ErrorBody),
        (status = 503, description = "Shutting down, or the store does not answer", body = ErrorBody),
    )
)]
pub(super) async fn replay(
    State(shared): State<Shared>,
    requester: Requester,
    TaskPath(id): TaskPath,
    Asked(query): Asked<ReplayQuery>,
) -> Result<Response, Refusal> {
    requester.own(shared.coordinator.task(id).await?)?;
    let timeout = query.timeout_millis.map(Duration::from_millis);
    let task = shared
        .coordinator
        .replay_as(&requester, id, timeout)
        .await?;
    Ok(accepted(&task))
}

/// What a task would cost and when it would start, or why it would not be taken. Binds nobody.
#[utoipa::path(post, path = paths::QUOTES, tag = "requester", security((), ("requester" = [])),
    request_body = TaskSpec,
    responses(
        (status = 200, body = Quote),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 413, description = "The input is too long", body = ErrorBody),
    )
)]
pub(super) async fn quote(
    State(shared): State<Shared>,
    requester: Requester,
    request: axum::extract::Request,
) -> Result<Json<Quote>, Refusal> {
    let spec: TaskSpec = json(request, task_limit(shared.max_input_bytes)).await?;
    Ok(Json(shared.coordinator.quote_as(&requester, spec)))
}
