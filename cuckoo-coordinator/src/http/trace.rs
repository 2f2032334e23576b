//! One span per request, which carries the task's id once it is known, and the count of requests.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use cuckoo_core::TaskId;
use tracing::{Instrument as _, Span, field};

use super::counts::Requests;

/// Runs a request in its span. Only the route is logged: headers carry tokens, bodies carry prompts.
pub(super) async fn span_per_request(
    State(requests): State<Arc<Requests>>,
    request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unknown", MatchedPath::as_str);
    let counts = requests.of(route, request.method());
    let span = tracing::debug_span!(
        "http",
        method = %request.method(),
        route,
        task = field::Empty,
        status = field::Empty
    );
    async {
        let response = next.run(request).await;
        Span::current().record("status", response.status().as_u16());
        counts.note(response.status());
        tracing::trace!("answered");
        response
    }
    .instrument(span)
    .await
}

/// Names the task that the current request is about.
pub(super) fn note_task(task: TaskId) {
    Span::current().record("task", field::display(task));
}
