//! The coordinator over HTTP: the miner's side of the protocol under `/miner/v1`, the requester's under `/v1`.
//!
//! Control is JSON, payloads are raw bytes. Whatever the server answers that is not a success has an
//! [`ErrorBody`](cuckoo_core::ErrorBody) as its body: also for unknown routes, wrong methods, malformed JSON and bodies
//! that are too large. `docs/protocol.md` walks through every route with curl; `openapi.json` is generated from here.

mod access;
mod body;
mod error;
mod events;
mod history;
mod market;
mod miner;
mod serve;
mod tasks;
mod trace;

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use cuckoo_core::{SessionToken, TaskProtocol};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use serve::serve;

use crate::Coordinator;
use access::RequesterAccess;

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    coordinator: Coordinator,
    protocol: Arc<dyn TaskProtocol>,
    access: RequesterAccess,
    max_input_bytes: usize,
    max_output_bytes: usize,
    openapi: Bytes,
}

/// The routes of `coordinator`, for requesters without a token: serve them on a loopback address only.
pub fn router(coordinator: Coordinator) -> Router {
    build(coordinator, RequesterAccess::open())
}

/// The routes of `coordinator`, where requesters must send `token` as their bearer token.
pub fn router_with_requester_token(coordinator: Coordinator, token: &SessionToken) -> Router {
    build(coordinator, RequesterAccess::with_token(token))
}

fn build(coordinator: Coordinator, access: RequesterAccess) -> Router {
    let (routes, document) = routes().split_for_parts();
    let settings = coordinator.settings();
    let shared = Shared {
        protocol: coordinator.protocol(),
        access,
        max_input_bytes: settings.max_input_bytes,
        max_output_bytes: settings.max_output_bytes,
        openapi: crate::openapi::render(document).into(),
        coordinator,
    };
    routes
        .fallback(error::unknown_route)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(axum::middleware::from_fn(trace::span_per_request))
        .with_state(shared)
}

/// Every route together with its description, so that neither can be forgotten.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(crate::openapi::preamble())
        .routes(routes!(miner::info))
        .routes(routes!(miner::open_session, miner::close_session))
        .routes(routes!(miner::poll))
        .routes(routes!(miner::heartbeat))
        .routes(routes!(miner::complete))
        .routes(routes!(miner::fail))
        .routes(routes!(tasks::submit, history::list))
        .routes(routes!(tasks::state, tasks::cancel))
        .routes(routes!(tasks::output))
        .routes(routes!(events::events))
        .routes(routes!(history::replay))
        .routes(routes!(history::quote))
        .routes(routes!(market::status))
        .routes(routes!(market::evidence))
        .routes(routes!(market::health))
        .routes(routes!(market::openapi))
}
