//! The models that tasks are taken for.

use axum::Json;
use axum::extract::{Path, State};
use cuckoo_core::{ModelId, ModelKind, Result, Wei, cai_text, paths};
use serde::Serialize;
use utoipa::ToSchema;

use super::Refused;
use super::error::OpenAiError;
use super::request::{Caller, unknown_model};
use crate::ModelSettings;
use crate::http::Shared;

/// The models of a coordinator.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ModelList {
    /// Always `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// A model of a coordinator.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Model {
    /// Its name.
    id: ModelId,
    /// Always `model`.
    object: &'static str,
    /// Since when it is served, in seconds of the Unix epoch.
    created: u64,
    /// Always `cuckoo`.
    owned_by: &'static str,
    /// What it is for, and so which route takes it.
    kind: ModelKind,
    /// What a task on it costs, in CAI: a picture, a choice, a list of embeddings, or a recording.
    #[serde(with = "cai_text")]
    #[schema(value_type = String)]
    price: Wei,
}

impl Model {
    fn of(model: &ModelSettings, shared: &Shared) -> Self {
        Self {
            id: model.model.clone(),
            object: "model",
            created: shared.since.as_secs(),
            owned_by: "cuckoo",
            kind: model.kind,
            price: model.price,
        }
    }
}

/// The models that tasks are taken for.
#[utoipa::path(get, path = paths::MODELS, tag = "openai", security((), ("requester" = [])), responses(
    (status = 200, body = ModelList),
    (status = 401, description = "This coordinator asks for an API key", body = OpenAiError),
))]
pub(super) async fn list(State(shared): State<Shared>, _: Caller) -> Json<ModelList> {
    let models = shared.coordinator.settings().models.iter();
    Json(ModelList {
        object: "list",
        data: models.map(|model| Model::of(model, &shared)).collect(),
    })
}

/// One of them. A `/` in its name is written `%2F`.
#[utoipa::path(get, path = paths::MODEL, tag = "openai", security((), ("requester" = [])),
    params(("model" = String, Path, description = "Its name")),
    responses(
        (status = 200, body = Model),
        (status = 401, description = "This coordinator asks for an API key", body = OpenAiError),
        (status = 404, description = "No such model", body = OpenAiError),
    )
)]
pub(super) async fn one(
    State(shared): State<Shared>,
    _: Caller,
    Path(name): Path<String>,
) -> Result<Json<Model>, Refused> {
    let mut models = shared.coordinator.settings().models.iter();
    let model = models.find(|model| model.model.as_str() == name);
    let model =
        model.ok_or_else(|| unknown_model(&name, "GET /v1/models lists those there are"))?;
    Ok(Json(Model::of(model, &shared)))
}
