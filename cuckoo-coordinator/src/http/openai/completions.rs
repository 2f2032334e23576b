//! Texts that go on from a beginning.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use cuckoo_core::{FinishReason, ModelKind, Result, TextInput, TokenLogprob, paths};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Refused;
use super::request::{self, Caller, Fields, Harmless, Rest, Tasks, Texts};
use super::stream::{Part, stream};
use super::text::{Delivery, HARMLESS, Head, Said, Sampling, TextUsage};
use crate::http::Shared;

/// Texts to go on from. Fields of OpenAI's that are not listed are refused unless they change nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OpenAiCompletionRequest)]
pub(super) struct CompletionRequest {
    /// One of the coordinator's completion models.
    #[schema(required, nullable = false)]
    model: Option<String>,
    /// A text, or several; `n` for each of them are 10 at most. Tokens are not taken.
    #[schema(required, nullable = false)]
    prompt: Option<Texts>,
    /// Asks for the log probability of each token and of so many likeliest ones in its place, at most 20, where the
    /// model tells.
    logprobs: Option<u8>,
    /// As many as `n`: there is no choice among more.
    best_of: Option<usize>,
    #[serde(flatten)]
    sampling: Sampling,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

impl Fields for CompletionRequest {
    const HARMLESS: &[Harmless] = &[
        HARMLESS[0],
        HARMLESS[1],
        ("echo", &["false"]),
        ("suffix", &["null", "\"\""]),
    ];

    fn rest(&self) -> &Rest {
        &self.rest
    }
}

impl CompletionRequest {
    /// The texts to go on from.
    fn prompts(&mut self) -> Result<Vec<TextInput>, Refused> {
        let prompts = Vec::from(request::needed("prompt", self.prompt.take())?);
        if prompts.is_empty() {
            return Err(Refused::param(
                "prompt",
                "prompt is an empty list; send a text",
            ));
        }
        let input = |prompt| TextInput {
            logprobs: self.logprobs,
            ..TextInput::completion(prompt)
        };
        Ok(prompts.into_iter().map(input).collect())
    }
}

/// What follows, whole or in part.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OpenAiCompletion)]
pub(super) struct Completion {
    #[serde(flatten)]
    head: Head,
    /// Tells one set of model files from another; not in parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<String>,
    choices: Vec<CompletionChoice>,
    /// In parts only where it was asked for, and null but in the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<TextUsage>)]
    usage: Option<Option<TextUsage>>,
}

/// One way to go on.
#[derive(Debug, Default, Serialize, ToSchema)]
struct CompletionChoice {
    /// Which of the choices, those of the first prompt first.
    index: usize,
    text: String,
    logprobs: Option<CompletionLogprobs>,
    finish_reason: Option<FinishReason>,
}

/// How likely tokens were: lists of equal length.
#[derive(Debug, Default, Serialize, ToSchema)]
struct CompletionLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f64>,
    /// The likeliest tokens in the place of each, with their logarithms of probability.
    top_logprobs: Vec<Map<String, Value>>,
    /// Where each begins, in characters from the choice's beginning.
    text_offset: Vec<usize>,
}

impl CompletionLogprobs {
    /// None where the model told nothing. `offset` is where the first begins, then where the next will.
    fn of(tokens: Vec<TokenLogprob>, offset: &mut usize) -> Option<Self> {
        if tokens.is_empty() {
            return None;
        }
        let mut logprobs = Self::default();
        for token in tokens {
            let top = token.top.into_iter();
            let top = top.map(|other| (other.token, Value::from(other.logprob)));
            logprobs.top_logprobs.push(top.collect());
            logprobs.text_offset.push(*offset);
            *offset += token.token.chars().count();
            logprobs.tokens.push(token.token);
            logprobs.token_logprobs.push(token.logprob);
        }
        Some(logprobs)
    }
}

/// Goes on from a text.
#[utoipa::path(post, path = paths::COMPLETIONS, tag = "openai", security((), ("requester" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the answer to the first request")),
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "An `OpenAiCompletion`; with `stream`, server-sent events with such, and `[DONE]` at last", content(
            (Completion = "application/json"),
            (Completion = "text/event-stream"),
        )),
        Refused,
    )
)]
pub(super) async fn complete(
    State(shared): State<Shared>,
    Caller(requester): Caller,
    request: Request,
) -> Result<Response, Refused> {
    let key = request::key(&request)?;
    let mut asked: CompletionRequest = request::fields(&shared, request).await?;
    let model = request::model(&shared, asked.model.as_deref(), ModelKind::Completion)?;
    let delivery = asked.sampling.delivery()?;
    let prompts = asked.prompts()?;
    let choices = asked.sampling.choices(prompts.len())?;
    if asked.best_of.is_some_and(|best_of| best_of != choices) {
        let message =
            format!("best_of is not supported here; leave it out, or set it to n, {choices}");
        return Err(Refused::param("best_of", message).code("unsupported_parameter"));
    }
    let inputs = asked.sampling.inputs(prompts, choices, |field| field)?;
    let mut tasks = Tasks::submit(&shared, &requester, model, key, inputs).await?;
    let first = tasks.first().map(|task| task.id());
    let created = shared.coordinator.now().as_secs();
    let head = Head::new(
        "cmpl",
        "text_completion",
        first,
        created,
        model.model.clone(),
    );
    match delivery {
        Delivery::Whole => {
            let said = Said::read(&tasks.results().await?, choices)?;
            Ok(Json(Completion::new(head, said)).into_response())
        }
        Delivery::Streamed { usage } => {
            let mut offsets = vec![0; tasks.len()];
            let chunk = move |part| Completion::part(head.clone(), part, usage, &mut offsets);
            stream(tasks, choices, chunk).await
        }
    }
}

impl Completion {
    fn new(head: Head, said: Said) -> Self {
        let texts = said.texts.into_iter().enumerate();
        let choices = texts.map(|(index, text)| CompletionChoice {
            index,
            text: text.text,
            logprobs: CompletionLogprobs::of(text.logprobs, &mut 0),
            finish_reason: Some(text.finish_reason),
        });
        Self {
            head,
            system_fingerprint: said.fingerprint,
            choices: choices.collect(),
            usage: Some(Some(said.usage)),
        }
    }

    /// A part, for which `offsets` says how far each choice's tokens are.
    fn part(head: Head, part: Part, with_usage: bool, offsets: &mut [usize]) -> Option<Self> {
        let (choices, usage) = match part {
            // What begins says nothing yet.
            Part::Begin(_) => return None,
            Part::Usage(_) if !with_usage => return None,
            Part::Usage(usage) => (Vec::new(), Some(usage)),
            Part::Piece(index, piece) => {
                let offset = offsets.get_mut(index)?;
                let choice = CompletionChoice {
                    index,
                    text: piece.text,
                    logprobs: CompletionLogprobs::of(piece.logprobs, offset),
                    finish_reason: None,
                };
                (vec![choice], None)
            }
            Part::End(index, reason) => {
                let choice = CompletionChoice {
                    index,
                    finish_reason: Some(reason),
                    ..CompletionChoice::default()
                };
                (vec![choice], None)
            }
        };
        Some(Self {
            head,
            system_fingerprint: None,
            choices,
            usage: with_usage.then_some(usage),
        })
    }
}
