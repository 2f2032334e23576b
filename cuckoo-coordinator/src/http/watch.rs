//! What operators and their machines watch.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use cuckoo_core::{ErrorBody, paths};

use super::Shared;
use super::access::Operator;
use super::error::Refusal;
use crate::telemetry::{self, DashboardState, Readiness, TEXT_FORMAT};

/// Whether tasks are best sent here: the store takes writes, the chain is not too far behind, nothing shuts down.
#[utoipa::path(get, path = paths::READY, tag = "operator", responses(
    (status = 200, body = Readiness, description = "Send tasks"),
    (status = 503, body = Readiness, description = "Send none, for these reasons"),
))]
pub(super) async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    let readiness = shared.coordinator.readiness(shared.front.max_chain_age());
    let status = match readiness.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(readiness))
}

/// Numbers for Prometheus, in its text format.
#[utoipa::path(get, path = paths::METRICS, tag = "operator", security((), ("requester" = [])), responses(
    (status = 200, description = "The text format, version 0.0.4", content_type = "text/plain", body = String),
    (status = 401, description = "This coordinator asks for an API key", body = ErrorBody),
    (status = 403, description = "The key is no operator's", body = ErrorBody),
))]
pub(super) async fn metrics(
    State(shared): State<Shared>,
    _: Operator,
) -> Result<impl IntoResponse, Refusal> {
    let readings = shared.coordinator.readings();
    let text = telemetry::render(readings, shared.requests.counts())?;
    Ok(([(CONTENT_TYPE, TEXT_FORMAT)], text))
}

/// What the dashboard shows, as of now. Made for that page: its shape may change.
#[utoipa::path(get, path = paths::DASHBOARD_STATE, tag = "operator", security((), ("requester" = [])), responses(
    (status = 200, body = DashboardState),
    (status = 401, description = "This coordinator asks for an API key", body = ErrorBody),
    (status = 403, description = "The key is no operator's", body = ErrorBody),
))]
pub(super) async fn dashboard_state(
    State(shared): State<Shared>,
    _: Operator,
) -> impl IntoResponse {
    let state = shared.coordinator.dashboard(shared.front.max_chain_age());
    ([(CACHE_CONTROL, "no-store")], Json(state))
}
