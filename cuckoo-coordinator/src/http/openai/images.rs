//! Pictures.

use axum::Json;
use axum::extract::{Request, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuckoo_core::{Error, ModelKind, Result, TaskId, TaskResult, paths};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Refused;
use super::links::Base;
use super::request::{self, Caller, Fields, Harmless, Rest, Tasks};
use crate::http::Shared;

/// Pictures to make. Fields of OpenAI's that are not listed are refused unless they change nothing.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OpenAiImageRequest)]
pub(super) struct ImageRequest {
    /// One of the coordinator's image models.
    #[schema(required, nullable = false)]
    model: Option<String>,
    /// What the pictures should show.
    #[schema(required, nullable = false)]
    prompt: Option<String>,
    /// How many, 1 to 10; 1 when absent.
    n: Option<usize>,
    /// Width and height in pixels, such as `64x64`; `auto`, the model's own, when absent.
    size: Option<String>,
    /// `url`, which is a link that works for an hour, or `b64_json`; `url` when absent.
    response_format: Option<ImageFormat>,
    /// Not OpenAI's: picks the first picture's noise; the others count on from it. Drawn by the coordinator when absent.
    seed: Option<u64>,
    /// Not OpenAI's: what the pictures should not show.
    negative_prompt: Option<String>,
    /// Not OpenAI's: how many denoising steps.
    steps: Option<u32>,
    /// Not OpenAI's: how strongly the prompt pulls.
    guidance: Option<f64>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

impl Fields for ImageRequest {
    const HARMLESS: &[Harmless] = &[
        ("user", &[]),
        ("safety_identifier", &[]),
        ("moderation", &["\"auto\"", "\"low\""]),
        ("background", &["\"auto\"", "\"opaque\""]),
        ("quality", &["\"auto\"", "\"standard\""]),
        ("complexity", &["null"]),
        ("style", &["null"]),
        ("output_format", &["\"png\""]),
        ("output_compression", &["100"]),
        ("stream", &["false"]),
        ("partial_images", &["0"]),
        ("frame_count", &["1"]),
        ("frame_duration_ms", &["null"]),
        ("svg", &["null"]),
    ];

    fn rest(&self) -> &Rest {
        &self.rest
    }
}

/// How pictures come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ImageFormat {
    /// As a link that works for an hour without a key.
    #[default]
    Url,
    /// As base64 in the answer.
    B64Json,
}

/// Pictures that were made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Images {
    /// When, in seconds of the Unix epoch.
    created: u64,
    /// In the order of their seeds.
    data: Vec<Picture>,
    /// Always `png`.
    output_format: &'static str,
}

/// One picture.
#[derive(Debug, Serialize, ToSchema)]
struct Picture {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<String>,
    /// Not OpenAI's: the task that made it, under which its receipt is kept.
    task: TaskId,
}

/// Makes pictures.
#[utoipa::path(post, path = paths::IMAGES, tag = "openai", security((), ("requester" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the pictures that the first request made")),
    request_body = ImageRequest,
    responses(
        (status = 200, body = Images),
        Refused,
    )
)]
pub(super) async fn generate(
    State(shared): State<Shared>,
    Caller(requester): Caller,
    Base(base): Base,
    request: Request,
) -> Result<Json<Images>, Refused> {
    let key = request::key(&request)?;
    let asked: ImageRequest = request::fields(&shared, request).await?;
    let model = request::model(&shared, asked.model.as_deref(), ModelKind::Image)?;
    let n = request::choices(asked.n, 1)?;
    let input = asked.input()?;
    let format = asked.response_format.unwrap_or_default();
    let base = match format {
        ImageFormat::Url => base?,
        ImageFormat::B64Json => String::new(),
    };
    let inputs = (0..n).map(|index| {
        let mut input = input.clone();
        if let Some(seed) = request::seed(asked.seed, index) {
            input["seed"] = json!(seed);
        }
        input
    });
    let mut tasks = Tasks::submit(&shared, &requester, model, key, inputs.collect()).await?;
    let results = tasks.results().await?;
    let now = shared.coordinator.now();
    let picture = |result: TaskResult| {
        check(&result)?;
        let (url, b64_json) = match format {
            ImageFormat::Url => (Some(shared.links.link(&base, result.task, now)), None),
            ImageFormat::B64Json => (None, Some(STANDARD.encode(&result.output.bytes))),
        };
        Ok::<_, Error>(Picture {
            url,
            b64_json,
            task: result.task,
        })
    };
    Ok(Json(Images {
        created: now.as_secs(),
        data: results.into_iter().map(picture).collect::<Result<_>>()?,
        output_format: "png",
    }))
}

impl ImageRequest {
    /// What a task is given, without a seed.
    fn input(&self) -> Result<Value, Refused> {
        let mut input = json!({ "prompt": request::needed("prompt", self.prompt.as_ref())? });
        match self.size.as_deref() {
            None | Some("auto") => {}
            Some(size) => {
                let (width, height) = sides(size).ok_or_else(|| {
                    let message = format!(
                        "size is `{size}`; write width and height in pixels, such as 64x64, or auto"
                    );
                    Refused::param("size", message)
                })?;
                input["width"] = json!(width);
                input["height"] = json!(height);
            }
        }
        if let Some(text) = &self.negative_prompt {
            input["negative_prompt"] = json!(text);
        }
        if let Some(steps) = self.steps {
            input["steps"] = json!(steps);
        }
        if let Some(guidance) = self.guidance {
            input["guidance"] = json!(guidance);
        }
        Ok(input)
    }
}

fn sides(size: &str) -> Option<(u32, u32)> {
    let (width, height) = size.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

/// These clients take what they get for a PNG.
fn check(result: &TaskResult) -> Result<()> {
    let output = &result.output;
    if output.media_type != "image/png" {
        return Err(Error::execution(format!(
            "the miner's output is no PNG: its type is {}; fetch it with GET /v1/tasks/{}/output",
            output.media_type, result.task
        )));
    }
    Ok(())
}
