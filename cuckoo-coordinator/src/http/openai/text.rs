//! What chats and completions have in common: how words are chosen, and how what was said is counted.

use cuckoo_core::{B256, Error, ModelId, Result, TaskId, TaskResult, TextInput, TextOutput};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Refused;
use super::request::{self, Harmless, Texts};

/// How words are chosen, and how the answer comes.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct Sampling {
    /// The most tokens to make; as many as the model has room for when absent.
    max_tokens: Option<u32>,
    /// 0 always takes the likeliest token, 1 draws as the model would, up to 2.
    temperature: Option<f64>,
    /// Draws only among the likeliest tokens with so much probability together, 0 to 1.
    top_p: Option<f64>,
    /// Makes tokens that occurred less likely, the more so the more often they did; -2 to 2.
    frequency_penalty: Option<f64>,
    /// Makes tokens that occurred less likely, however often they did; -2 to 2.
    presence_penalty: Option<f64>,
    /// Ends the text before any of these, at most four.
    stop: Option<Texts>,
    /// What the first choice's draws are made from; the others count on from it. Drawn by the coordinator when absent.
    seed: Option<u64>,
    /// How many choices, 1 to 10; 1 when absent. Each is a task.
    n: Option<usize>,
    /// Whether the text comes as it is made, as server-sent events that end in `data: [DONE]`.
    stream: Option<bool>,
    /// Only with `stream`.
    stream_options: Option<StreamOptions>,
}

/// How a stream comes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StreamOptions {
    /// Whether the last event says what the texts took.
    include_usage: Option<bool>,
    /// Padding of events; there is none, whatever is asked for.
    #[serde(rename = "include_obfuscation")]
    _include_obfuscation: Option<bool>,
}

/// Fields of both routes that change nothing, at least with these values.
pub(super) const HARMLESS: [Harmless; 2] = [("user", &[]), ("logit_bias", &["{}"])];

/// How the answer to a request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    Streamed { usage: bool },
}

impl Sampling {
    /// How the answer comes.
    pub(super) fn delivery(&self) -> Result<Delivery, Refused> {
        let streamed = self.stream.unwrap_or_default();
        match &self.stream_options {
            None if streamed => Ok(Delivery::Streamed { usage: false }),
            Some(options) if streamed => Ok(Delivery::Streamed {
                usage: options.include_usage.unwrap_or_default(),
            }),
            None => Ok(Delivery::Whole),
            Some(_) => {
                let message = "stream_options needs `stream`: true";
                Err(Refused::param("stream_options", message))
            }
        }
    }

    /// How many choices there are for each of so many prompts.
    pub(super) fn choices(&self, prompts: usize) -> Result<usize, Refused> {
        request::choices(self.n, prompts)
    }

    /// The inputs of the tasks: for each of `prompts` so many, which differ in their seeds. `named` is what the route calls
    /// a field of theirs.
    pub(super) fn inputs(
        &self,
        prompts: Vec<TextInput>,
        choices: usize,
        named: impl Fn(&'static str) -> &'static str,
    ) -> Result<Vec<Value>, Refused> {
        let stop: Vec<String> = self.stop.clone().map(Vec::from).unwrap_or_default();
        let each = |prompt: TextInput| {
            let input = TextInput {
                max_tokens: prompt.max_tokens.or(self.max_tokens),
                temperature: self.temperature,
                top_p: self.top_p,
                frequency_penalty: self.frequency_penalty,
                presence_penalty: self.presence_penalty,
                stop: stop.clone(),
                ..prompt
            };
            std::iter::repeat_n(input, choices)
        };
        prompts
            .into_iter()
            .flat_map(each)
            .enumerate()
            .map(|(index, mut input)| {
                input.seed = request::seed(self.seed, index);
                if let Some((field, message)) = input.fault() {
                    return Err(Refused::param(named(field), message));
                }
                serde_json::to_value(input).map_err(|source| {
                    Error::internal("the input is not JSON")
                        .with_source(source)
                        .into()
                })
            })
            .collect()
    }
}

/// What texts took, as their miners counted.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(super) struct TextUsage {
    /// Tokens of the prompts, each counted once.
    prompt_tokens: u64,
    /// Tokens of all choices.
    completion_tokens: u64,
    total_tokens: u64,
}

impl TextUsage {
    /// Counts the result of the choice with this number, where each prompt has so many.
    pub(super) fn add(&mut self, index: usize, choices: usize, result: &TaskResult) {
        if index.is_multiple_of(choices) {
            self.prompt_tokens = self.prompt_tokens.saturating_add(result.usage.input_units);
        }
        self.completion_tokens = self
            .completion_tokens
            .saturating_add(result.usage.output_units);
        self.total_tokens = self.prompt_tokens.saturating_add(self.completion_tokens);
    }
}

/// All texts of a request.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) texts: Vec<TextOutput>,
    pub(super) usage: TextUsage,
    /// What tells one set of model files from another.
    pub(super) fingerprint: Option<String>,
}

impl Said {
    /// Reads the results of a request that has so many choices for each prompt.
    pub(super) fn read(results: &[TaskResult], choices: usize) -> Result<Self> {
        let mut usage = TextUsage::default();
        for (index, result) in results.iter().enumerate() {
            usage.add(index, choices, result);
        }
        let texts = results
            .iter()
            .map(|result| TextOutput::read(&result.output));
        let first = results.first();
        Ok(Self {
            texts: texts.collect::<Result<_>>()?,
            usage,
            fingerprint: first.map(|result| fingerprint(result.receipt.value.model_hash)),
        })
    }
}

fn fingerprint(model_hash: B256) -> String {
    let text = format!("{model_hash:x}");
    format!("fp_{}", &text.trim_start_matches("0x")[..16])
}

/// What every answer about text begins with.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Head {
    /// The route's prefix and the first choice's task.
    id: String,
    object: &'static str,
    /// When, in seconds of the Unix epoch.
    created: u64,
    model: ModelId,
}

impl Head {
    pub(super) fn new(
        prefix: &str,
        object: &'static str,
        first: Option<TaskId>,
        created: u64,
        model: ModelId,
    ) -> Self {
        let task = first.map(|id| id.to_string()).unwrap_or_default();
        Self {
            id: format!("{prefix}-{}", task.trim_start_matches("0x")),
            object,
            created,
            model,
        }
    }
}
