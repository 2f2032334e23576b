//! The coordinator over HTTP: the miner's side of the protocol under `/miner/v1`, the requester's under `/v1`.
//!
//! Control is JSON, payloads are raw bytes. Whatever the server answers that is not a success has an
//! [`ErrorBody`](cuckoo_core::ErrorBody) as its body: also for unknown routes, wrong methods, malformed JSON and bodies
//! that are too large. `docs/protocol.md` walks through every route with curl; `openapi.json` is generated from here.

mod access;
mod api_keys;
mod body;
mod error;
mod events;
mod front;
mod history;
mod market;
mod miner;
mod peer;
mod rate;
mod serve;
mod settings;
mod tasks;
mod trace;

use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use cuckoo_core::TaskProtocol;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use api_keys::new_api_key;
pub use front::Front;
#[cfg(feature = "fuzzing")]
pub(crate) use miner::receipt;
#[cfg(feature = "fuzzing")]
pub(crate) use serve::serve_connection;
pub use serve::{Server, Tls, TlsSettings, serve};
pub use settings::HttpSettings;

use crate::Coordinator;

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    coordinator: Coordinator,
    protocol: Arc<dyn TaskProtocol>,
    front: Front,
    max_input_bytes: usize,
    max_output_bytes: usize,
    openapi: Bytes,
}

/// The routes of `coordinator`, for requesters without keys: serve them on a loopback address only.
pub fn router(coordinator: Coordinator) -> Router {
    router_with(coordinator, Front::default())
}

/// The routes of `coordinator` behind `front`.
pub fn router_with(coordinator: Coordinator, front: Front) -> Router {
    let (routes, document) = routes().split_for_parts();
    let settings = coordinator.settings();
    let cors = front.cors();
    let shared = Shared {
        protocol: coordinator.protocol(),
        front,
        max_input_bytes: settings.max_input_bytes,
        max_output_bytes: settings.max_output_bytes,
        openapi: crate::openapi::render(document).into(),
        coordinator,
    };
    let routes = routes
        .fallback(error::unknown_route)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(axum::middleware::from_fn(trace::span_per_request))
        .with_state(shared);
    match cors {
        Some(cors) => routes.layer(cors),
        None => routes,
    }
}

/// Every route together with its description, so that neither can be forgotten.
pub(crate) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(crate::openapi::preamble())
        .routes(routes!(miner::info))
        .routes(routes!(miner::open_session, miner::close_session))
        .routes(routes!(miner::poll))
        .routes(routes!(miner::heartbeat))
        .routes(routes!(miner::stream))
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
