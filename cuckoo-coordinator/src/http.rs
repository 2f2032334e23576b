//! The coordinator over HTTP: the miner's side of the protocol under `/miner/v1`, the requester's under `/v1`.
//!
//! Control is JSON, payloads are raw bytes. Whatever the server answers that is not a success has an
//! [`ErrorBody`](cuckoo_core::ErrorBody) as its body: also for unknown routes, wrong methods, malformed JSON and bodies
//! that are too large. The routes that OpenAI's clients call have theirs in OpenAI's form. `docs/protocol.md` walks through
//! the native routes with curl, `docs/openai.md` through the others; `openapi.json` is generated from here.

mod access;
mod api_keys;
mod blobs;
mod body;
mod counts;
mod error;
mod events;
mod front;
mod history;
mod market;
mod miner;
mod openai;
mod pages;
mod peer;
mod rate;
mod serve;
mod settings;
mod tasks;
mod trace;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use bytes::Bytes;
use cuckoo_core::{TaskProtocol, Timestamp};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use api_keys::new_api_key;
use counts::Requests;
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
    links: openai::Links,
    /// When these routes were made.
    since: Timestamp,
    max_input_bytes: usize,
    max_output_bytes: usize,
    openapi: Bytes,
    requests: Arc<Requests>,
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
    let requests = Arc::new(Requests::new(document.paths.paths.keys()));
    let observe = from_fn_with_state(Arc::clone(&requests), trace::span_per_request);
    let shared = Shared {
        protocol: coordinator.protocol(),
        front,
        links: openai::Links::new(coordinator.operator()),
        since: coordinator.now(),
        max_input_bytes: settings.max_input_bytes,
        max_output_bytes: settings.max_output_bytes,
        openapi: crate::openapi::render(document).into(),
        requests,
        coordinator,
    };
    let routes = routes
        .fallback(error::unknown_route)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(observe)
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
        .routes(routes!(miner::blob))
        .routes(routes!(miner::heartbeat))
        .routes(routes!(miner::stream))
        .routes(routes!(miner::complete))
        .routes(routes!(miner::fail))
        .routes(routes!(blobs::put))
        .routes(routes!(tasks::submit, history::list))
        .routes(routes!(tasks::state, tasks::cancel))
        .routes(routes!(tasks::output))
        .routes(routes!(events::events))
        .routes(routes!(history::replay))
        .routes(routes!(history::quote))
        .routes(routes!(market::status))
        .routes(routes!(market::evidence))
        .routes(routes!(market::health))
        .routes(routes!(watch::ready))
        .routes(routes!(watch::metrics))
        .routes(routes!(watch::dashboard_state))
        .routes(routes!(pages::dashboard))
        .routes(routes!(pages::docs))
        .routes(routes!(pages::asset))
        .routes(routes!(market::openapi))
        .merge(openai::routes())
}
