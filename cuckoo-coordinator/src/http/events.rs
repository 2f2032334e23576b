//! A task's states as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! Every event's id says which state it tells. A client that lost the connection sends the last one as `Last-Event-ID`
//! and goes on from there, also after a restart of the coordinator: it is told the present state unless it knows it, and
//! all that follow. States in quick succession may be merged; the terminal one is never left out.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use cuckoo_core::{ErrorBody, Result, TaskId, TaskState, paths};
use futures::stream::{Stream, StreamExt as _};
use utoipa::ToSchema;

use super::Shared;
use super::error::Refusal;
use super::tasks::{TaskPath, TaskView};
use crate::Requester;

/// How often a quiet stream says that it is there: below the minute after which common proxies hang up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An event as it is sent.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it describes what `Event` writes")]
struct StateEvent {
    /// Always `state`.
    event: String,
    /// Names the state, for `Last-Event-ID`.
    id: String,
    /// A `TaskView` as JSON.
    data: String,
}

/// A task's state now and after every change, until it ended.
#[utoipa::path(get, path = paths::TASK_EVENTS, tag = "requester", security((), ("requester" = [])),
    params(
        ("id" = TaskId, Path, description = "The task"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event seen: go on after it"),
    ),
    responses(
        (status = 200, description = "Events until the task ended", body = StateEvent, content_type = "text/event-stream"),
        (status = 404, description = "No such task", body = ErrorBody),
    )
)]
pub(super) async fn events(
    State(shared): State<Shared>,
    requester: Requester,
    TaskPath(id): TaskPath,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let task = requester.own(shared.coordinator.task(id).await?)?;
    let seen = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let events = task
        .watch()
        .map(|state| (name(&state), state))
        // Only the first one can be what the client saw last.
        .enumerate()
        .filter(move |(index, (name, _))| std::future::ready(*index > 0 || *name != seen))
        .map(move |(_, (name, state))| {
            let view = TaskView::new(id, state);
            let event = Event::default().event("state").id(name);
            // A state is plain data: were it ever not JSON, the client would see an event without it.
            Ok(event.json_data(view).unwrap_or_default())
        });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// What tells one state of a task from another.
fn name(state: &TaskState) -> String {
    match state {
        TaskState::Queued => "queued".into(),
        TaskState::Running { miner, progress } => format!("running-{}-{progress}", miner.0),
        TaskState::Auditing { miner } => format!("auditing-{}", miner.0),
        TaskState::Completed { .. } => "completed".into(),
        TaskState::Failed { .. } => "failed".into(),
        TaskState::Cancelled => "cancelled".into(),
    }
}
