//! What the market looks like from outside.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use cuckoo_core::{ErrorBody, paths};
use serde::Serialize;
use utoipa::ToSchema;

use super::Shared;
use super::access::Operator;
use crate::{Evidence, MarketStatus, Requester};

/// Miners, their shares and what they are owed; how many tasks wait, run and ended.
#[utoipa::path(get, path = paths::STATUS, tag = "requester", security((), ("requester" = [])), responses(
    (status = 200, body = MarketStatus),
    (status = 401, description = "This coordinator asks for an API key", body = ErrorBody),
))]
pub(super) async fn status(State(shared): State<Shared>, _: Requester) -> Json<MarketStatus> {
    Json(shared.coordinator.status())
}

/// The contradicting receipts that suspended miners.
#[utoipa::path(get, path = paths::EVIDENCE, tag = "requester", security((), ("requester" = [])), responses(
    (status = 200, body = Vec<Evidence>),
    (status = 401, description = "This coordinator asks for an API key", body = ErrorBody),
    (status = 403, description = "The key is no operator's: evidence holds other requesters' inputs", body = ErrorBody),
))]
pub(super) async fn evidence(State(shared): State<Shared>, _: Operator) -> Json<Vec<Evidence>> {
    Json(shared.coordinator.evidence())
}

/// That the server answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    status: &'static str,
}

/// Whether the server answers.
#[utoipa::path(get, path = paths::HEALTH, tag = "operator", responses((status = 200, body = Health)))]
pub(super) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// This document.
#[utoipa::path(get, path = paths::OPENAPI, tag = "operator", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object),
))]
pub(super) async fn openapi(State(shared): State<Shared>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "application/json")],
        Bytes::clone(&shared.openapi),
    )
}
