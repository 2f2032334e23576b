//! Conversations.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use cuckoo_core::{FinishReason, Message, ModelKind, Result, TextInput, TokenLogprob, paths};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Refused;
use super::request::{self, Caller, Fields, Harmless, Rest, Tasks};
use super::stream::{Part, stream};
use super::text::{Delivery, HARMLESS, Head, Said, Sampling, TextUsage};
use crate::http::Shared;

mod format;
mod message;

use format::ResponseFormat;
use message::ChatMessage;

/// A conversation to go on with. Fields of OpenAI's that are not listed are refused unless they change nothing.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatRequest {
    /// One of the coordinator's chat models.
    #[schema(required, nullable = false)]
    model: Option<String>,
    /// The conversation so far.
    #[schema(required, nullable = false)]
    messages: Option<Vec<ChatMessage>>,
    /// The newer name of `max_tokens`, which it takes the place of.
    max_completion_tokens: Option<u32>,
    /// Whether the log probability of each token is wanted, where the model tells.
    logprobs: Option<bool>,
    /// How many of the likeliest tokens in the place of each, at most 20; only with `logprobs`.
    top_logprobs: Option<u8>,
    /// The form of the answer, for models that can be held to one.
    response_format: Option<ResponseFormat>,
    #[serde(flatten)]
    sampling: Sampling,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

impl Fields for ChatRequest {
    const HARMLESS: &[Harmless] = &[
        HARMLESS[0],
        HARMLESS[1],
        ("metadata", &[]),
        ("store", &["false"]),
        ("safety_identifier", &[]),
        ("prompt_cache_key", &[]),
        ("prompt_cache_options", &[]),
        ("prompt_cache_retention", &[]),
        ("service_tier", &["\"auto\"", "\"default\""]),
        ("tools", &["[]"]),
        ("tool_choice", &["\"none\"", "\"auto\""]),
        ("parallel_tool_calls", &[]),
        ("functions", &["[]"]),
        ("function_call", &["\"none\"", "\"auto\""]),
        ("modalities", &["[\"text\"]"]),
        ("verbosity", &["\"medium\""]),
        ("reasoning_effort", &["\"none\""]),
        ("audio", &["null"]),
        ("prediction", &["null"]),
        ("moderation", &["null"]),
        ("web_search_options", &["null"]),
    ];

    fn rest(&self) -> &Rest {
        &self.rest
    }
}

impl ChatRequest {
    /// The conversation, and what is asked about its tokens.
    fn prompt(&mut self) -> Result<TextInput, Refused> {
        let messages = request::needed("messages", self.messages.take())?;
        let messages = messages.into_iter().enumerate();
        let messages = messages.map(|(index, message)| message.read(index));
        let logprobs = match (self.logprobs.unwrap_or_default(), self.top_logprobs) {
            (true, top) => Some(top.unwrap_or_default()),
            (false, None | Some(0)) => None,
            (false, Some(_)) => {
                let message = "top_logprobs needs `logprobs`: true";
                return Err(Refused::param("top_logprobs", message));
            }
        };
        let format = self.response_format.take().map(ResponseFormat::read);
        Ok(TextInput {
            max_tokens: self.max_completion_tokens,
            format: format.transpose()?.flatten(),
            logprobs,
            ..TextInput::chat(messages.collect::<Result<Vec<Message>, _>>()?)
        })
    }
}

/// What a model says next.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatCompletion {
    #[serde(flatten)]
    head: Head,
    /// Tells one set of model files from another.
    system_fingerprint: Option<String>,
    choices: Vec<ChatChoice>,
    usage: TextUsage,
}

/// One way to go on.
#[derive(Debug, Serialize, ToSchema)]
struct ChatChoice {
    index: usize,
    message: ChatAnswer,
    logprobs: Option<ChatLogprobs>,
    finish_reason: FinishReason,
}

/// The message that follows.
#[derive(Debug, Serialize, ToSchema)]
struct ChatAnswer {
    role: &'static str,
    content: String,
    refusal: Option<String>,
}

/// A part of the answer as it is made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChatChunk {
    #[serde(flatten)]
    head: Head,
    /// Empty in the one that has the usage.
    choices: Vec<ChatDelta>,
    /// Where it was asked for: null but in the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<TextUsage>)]
    usage: Option<Option<TextUsage>>,
}

/// A part of one choice.
#[derive(Debug, Default, Serialize, ToSchema)]
struct ChatDelta {
    index: usize,
    delta: Delta,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<FinishReason>,
}

/// What is new.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Delta {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// How likely tokens were.
#[derive(Debug, Serialize, ToSchema)]
struct ChatLogprobs {
    content: Vec<ChatToken>,
    refusal: Option<Vec<ChatToken>>,
}

/// How likely a token was.
#[derive(Debug, Serialize, ToSchema)]
struct ChatToken {
    #[serde(flatten)]
    token: LikelyToken,
    /// The likeliest in its place, likeliest first.
    top_logprobs: Vec<LikelyToken>,
}

/// A token and the logarithm of its probability.
#[derive(Debug, Serialize, ToSchema)]
struct LikelyToken {
    token: String,
    logprob: f64,
    /// Its text in UTF-8.
    bytes: Vec<u8>,
}

impl ChatLogprobs {
    /// None where the model told nothing.
    fn of(tokens: &[TokenLogprob]) -> Option<Self> {
        let likely = |token: &str, logprob| LikelyToken {
            token: token.to_owned(),
            logprob,
            bytes: token.as_bytes().to_vec(),
        };
        let content = tokens.iter().map(|token| ChatToken {
            token: likely(&token.token, token.logprob),
            top_logprobs: token
                .top
                .iter()
                .map(|other| likely(&other.token, other.logprob))
                .collect(),
        });
        (!tokens.is_empty()).then(|| Self {
            content: content.collect(),
            refusal: None,
        })
    }
}

/// Goes on with a conversation.
#[utoipa::path(post, path = paths::CHAT, tag = "openai", security((), ("requester" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the answer to the first request")),
    request_body = ChatRequest,
    responses(
        (status = 200, description = "A `ChatCompletion`; with `stream`, server-sent events whose data are `ChatChunk`s, and `[DONE]` at last", content(
            (ChatCompletion = "application/json"),
            (ChatChunk = "text/event-stream"),
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
    let mut asked: ChatRequest = request::fields(&shared, request).await?;
    let model = request::model(&shared, asked.model.as_deref(), ModelKind::Chat)?;
    let delivery = asked.sampling.delivery()?;
    let prompt = asked.prompt()?;
    let choices = asked.sampling.choices(1)?;
    let newer_name = prompt.max_tokens.is_some();
    let inputs = asked
        .sampling
        .inputs(vec![prompt], choices, |field| match field {
            "logprobs" => "top_logprobs",
            "format" => "response_format",
            "max_tokens" if newer_name => "max_completion_tokens",
            other => other,
        })?;
    let mut tasks = Tasks::submit(&shared, &requester, model, key, inputs).await?;
    let head = |object| {
        let first = tasks.first().map(|task| task.id());
        let created = shared.coordinator.now().as_secs();
        Head::new("chatcmpl", object, first, created, model.model.clone())
    };
    match delivery {
        Delivery::Whole => {
            let head = head("chat.completion");
            let said = Said::read(&tasks.results().await?, choices)?;
            Ok(Json(ChatCompletion::new(head, said)).into_response())
        }
        Delivery::Streamed { usage } => {
            let head = head("chat.completion.chunk");
            let chunk = move |part| ChatChunk::new(head.clone(), part, usage);
            stream(tasks, choices, chunk).await
        }
    }
}

impl ChatCompletion {
    fn new(head: Head, said: Said) -> Self {
        let texts = said.texts.into_iter().enumerate();
        let choices = texts.map(|(index, text)| ChatChoice {
            index,
            message: ChatAnswer {
                role: "assistant",
                content: text.text,
                refusal: None,
            },
            logprobs: ChatLogprobs::of(&text.logprobs),
            finish_reason: text.finish_reason,
        });
        Self {
            head,
            system_fingerprint: said.fingerprint,
            choices: choices.collect(),
            usage: said.usage,
        }
    }
}

impl ChatChunk {
    fn new(head: Head, part: Part, with_usage: bool) -> Option<Self> {
        let delta = match part {
            Part::Usage(usage) => {
                return with_usage.then_some(Self {
                    head,
                    choices: Vec::new(),
                    usage: Some(Some(usage)),
                });
            }
            Part::Begin(index) => ChatDelta {
                index,
                delta: Delta {
                    role: Some("assistant"),
                    content: Some(String::new()),
                },
                ..ChatDelta::default()
            },
            Part::Piece(index, piece) => ChatDelta {
                index,
                logprobs: ChatLogprobs::of(&piece.logprobs),
                delta: Delta {
                    role: None,
                    content: Some(piece.text),
                },
                ..ChatDelta::default()
            },
            Part::End(index, reason) => ChatDelta {
                index,
                finish_reason: Some(reason),
                ..ChatDelta::default()
            },
        };
        Some(Self {
            head,
            choices: vec![delta],
            usage: with_usage.then_some(None),
        })
    }
}
