//! The routes that OpenAI's clients call, as its API reference describes them (<https://platform.openai.com/docs/api-reference>).
//!
//! Each request becomes ordinary tasks, one for each picture, choice or recording, under the same keys, limits and
//! idempotency keys as native ones. They are cancelled when one of them fails or the client hangs up. A field that cannot be
//! honoured is refused by its name; `docs/openai.md` lists them.

mod audio;
mod chat;
mod completions;
mod embeddings;
mod error;
mod form;
mod images;
mod links;
mod models;
mod request;
mod stream;
mod text;

use cuckoo_core::paths;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) use error::Refused;
pub(super) use links::{Links, Viewer};

use super::Shared;

/// Every route together with its description.
pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(images::generate))
        .routes(routes!(chat::complete))
        .routes(routes!(completions::complete))
        .routes(routes!(embeddings::embed))
        .routes(routes!(audio::transcribe))
        .routes(routes!(audio::translate))
        .routes(routes!(models::list))
        .routes(routes!(models::one))
}

/// Whether a path is one of these routes.
pub(super) fn has(path: &str) -> bool {
    let routes = [
        paths::IMAGES,
        paths::CHAT,
        paths::COMPLETIONS,
        paths::EMBEDDINGS,
        paths::TRANSCRIPTIONS,
        paths::TRANSLATIONS,
    ];
    routes.contains(&path)
        || path
            .strip_prefix(paths::MODELS)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
