//! One span per request, which carries the task's id once it is known, and the count of requests.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use cuckoo_core::TaskId;
use tracing::{Instrument as _, Span, field};

use super::counts::Requests;

/// Runs a request in its span, whose fields have OpenTelemetry's names. Only the route is logged: headers carry tokens,
/// bodies carry prompts.
pub(super) async fn span_per_request(
    State(requests): State<Arc<Requests>>,
    request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    // None for a path that is no route: anybody may make one up.
    let route = matched.as_ref().map(MatchedPath::as_str);
    let counts = requests.of(route.unwrap_or("unknown"), request.method());
    let method = known(request.method());
    let span = tracing::debug_span!(
        "http",
        otel.name = field::Empty,
        otel.kind = field::Empty,
        otel.status_code = field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        "error.type" = field::Empty,
        task = field::Empty,
    );
    #[cfg(feature = "otel")]
    begin(&span, method, route, request.headers());
    async {
        let response = next.run(request).await;
        let (span, status) = (Span::current(), response.status());
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", status.as_str());
        }
        counts.note(status);
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

/// The method, or `_OTHER` as OpenTelemetry calls one that somebody made up.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH", "CONNECT", "TRACE",
    ];
    let known = KNOWN.into_iter().find(|name| *name == method.as_str());
    known.unwrap_or("_OTHER")
}

/// Makes it a server's span, and a child of the caller's where the header `traceparent` (W3C Trace Context) names one.
#[cfg(feature = "otel")]
fn begin(span: &Span, method: &str, route: Option<&str>, headers: &axum::http::HeaderMap) {
    use opentelemetry::Context;
    use opentelemetry::propagation::TextMapPropagator as _;
    use opentelemetry_http::HeaderExtractor;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    match route {
        Some(route) => span.record("otel.name", format!("{method} {route}")),
        None => span.record("otel.name", method),
    };
    span.record("otel.kind", "server");
    if headers.contains_key("traceparent") {
        let headers = HeaderExtractor(headers);
        let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        // Refused where spans go nowhere: then nothing is lost.
        let _ = span.set_parent(caller);
    }
}
