//! Texts to vectors.

use axum::Json;
use axum::extract::{Request, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuckoo_core::{Embeddings, EmbeddingsInput, Error, ModelId, ModelKind, Result, paths};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Refused;
use super::error::OpenAiError;
use super::request::{self, Caller, Fields, Harmless, Rest, Tasks, Texts};
use crate::http::Shared;

/// Texts to embed. Fields of OpenAI's that are not listed are refused unless they change nothing.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct EmbeddingRequest {
    /// One of the coordinator's embeddings models.
    #[schema(required, nullable = false)]
    model: Option<String>,
    /// A text, or a list of at most 2048; none of them empty. Tokens are not taken.
    #[schema(required, nullable = false)]
    input: Option<Texts>,
    /// `float` or `base64`, which is that of little-endian 32-bit floats; `float` when absent.
    encoding_format: Option<EncodingFormat>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

impl Fields for EmbeddingRequest {
    const HARMLESS: &[Harmless] = &[("user", &[]), ("dimensions", &["null"])];

    fn rest(&self) -> &Rest {
        &self.rest
    }
}

/// How vectors come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum EncodingFormat {
    /// As lists of numbers.
    #[default]
    Float,
    /// As base64 of little-endian 32-bit floats.
    Base64,
}

/// Vectors, in the order of the texts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EmbeddingList {
    /// Always `list`.
    object: &'static str,
    data: Vec<Embedding>,
    model: ModelId,
    usage: EmbeddingUsage,
}

/// The vector of one text.
#[derive(Debug, Serialize, ToSchema)]
struct Embedding {
    /// Always `embedding`.
    object: &'static str,
    /// Which of the texts it is of, from 0.
    index: usize,
    embedding: Vector,
}

/// A vector's numbers.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

/// What the model read, as its miner counted.
#[derive(Debug, Serialize, ToSchema)]
struct EmbeddingUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// Embeds texts. All texts of a request are one task.
#[utoipa::path(post, path = paths::EMBEDDINGS, tag = "openai", security((), ("requester" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the vectors that the first request made")),
    request_body = EmbeddingRequest,
    responses(
        (status = 200, body = EmbeddingList),
        Refused,
        (status = "default", description = "The task failed, with its kind's status", body = OpenAiError),
    )
)]
pub(super) async fn embed(
    State(shared): State<Shared>,
    Caller(requester): Caller,
    request: Request,
) -> Result<Json<EmbeddingList>, Refused> {
    let key = request::key(&request)?;
    let asked: EmbeddingRequest = request::fields(&shared, request).await?;
    let model = request::model(&shared, asked.model.as_deref(), ModelKind::Embeddings)?;
    let texts = Vec::from(request::needed("input", asked.input)?);
    let count = texts.len();
    if !(1..=EmbeddingsInput::MAX_TEXTS).contains(&count) {
        let most = EmbeddingsInput::MAX_TEXTS;
        let message = format!("input has {count} texts; 1 to {most} are embedded at once");
        return Err(Refused::param("input", message));
    }
    if let Some(index) = texts.iter().position(String::is_empty) {
        let message = format!("input[{index}] is empty; leave it out");
        return Err(Refused::param(format!("input[{index}]"), message));
    }
    let input = serde_json::to_value(EmbeddingsInput::new(texts))
        .map_err(|source| Error::internal("the input is not JSON").with_source(source))?;
    let mut tasks = Tasks::submit(&shared, &requester, model, key, vec![input]).await?;
    let results = tasks.results().await?;
    let mut data = Vec::with_capacity(count);
    let mut tokens = 0;
    for result in results {
        let embeddings = Embeddings::read(&result.output, count)?;
        let vectors: Vec<Vector> = match asked.encoding_format.unwrap_or_default() {
            EncodingFormat::Float => embeddings.vectors().map(Vector::Float).collect(),
            EncodingFormat::Base64 => embeddings
                .packed()
                .map(|packed| Vector::Base64(STANDARD.encode(packed)))
                .collect(),
        };
        tokens += result.usage.input_units;
        data.extend(
            vectors
                .into_iter()
                .enumerate()
                .map(|(index, embedding)| Embedding {
                    object: "embedding",
                    index,
                    embedding,
                }),
        );
    }
    Ok(Json(EmbeddingList {
        object: "list",
        data,
        model: model.model.clone(),
        usage: EmbeddingUsage {
            prompt_tokens: tokens,
            total_tokens: tokens,
        },
    }))
}
