//! A task's states as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! Every event's id says which state it tells. A client that lost the connection sends the last one as `Last-Event-ID`
//! and goes on from there, also after a restart of the coordinator: it is told the present state unless it knows it, and
//! all that follow. States in quick succession may be merged; the terminal one is never left out. Between them come
//! previews of an output in the making, which have no id: a client that comes back is shown the latest.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use cuckoo_core::{ErrorBody, Result, TaskId, TaskState, paths};
use futures::stream::{self, PollNext, Stream, StreamExt as _};
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
struct TaskEvent {
    /// `state` or `preview`.
    event: String,
    /// Names the state, for `Last-Event-ID`; previews have none.
    id: Option<String>,
    /// As JSON, a `TaskView` or, of a preview, `media_type` and `data` in base64.
    data: String,
}

/// A task's state now and after every change, until it ended, and previews of its output where its miner shows any.
#[utoipa::path(get, path = paths::TASK_EVENTS, tag = "requester", security((), ("requester" = [])),
    params(
        ("id" = TaskId, Path, description = "The task"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event seen: go on after it"),
    ),
    responses(
        (status = 200, description = "Events until the task ended", body = TaskEvent, content_type = "text/event-stream"),
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
    let states = task
        .watch()
        .map(|state| (name(&state), state))
        // Only the first one can be what the client saw last.
        .enumerate()
        .filter(move |(index, (name, _))| std::future::ready(*index > 0 || *name != seen))
        .map(move |(_, (name, state))| {
            let view = TaskView::new(id, state);
            let event = Event::default().event("state").id(name);
            // A state is plain data: were it ever not JSON, the client would see an event without it.
            event.json_data(view).unwrap_or_default()
        });
    let previews = task.previews().map(|preview| {
        let event = Event::default().event("preview");
        event.json_data(preview).unwrap_or_default()
    });
    // States go first, and the last of them is the end of both.
    let states = states.map(Some).chain(stream::iter([None]));
    let states_first = |_: &mut ()| PollNext::Left;
    let events = stream::select_with_strategy(states, previews.map(Some), states_first)
        .take_while(|event| std::future::ready(event.is_some()))
        .filter_map(|event| std::future::ready(event.map(Ok::<_, Infallible>)));
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
