//! What is said in recordings, as it is said or in English.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cuckoo_core::{
    BlobId, Error, ModelKind, Output, Result, Transcript, TranscriptionInput, paths,
};
use serde::de::{Deserializer, Error as _, IgnoredAny};
use serde::{Deserialize, Serialize};
use utoipa::openapi::{self, RefOr};
use utoipa::{IntoResponses, ToSchema};

use super::Refused;
use super::error::described;
use super::form::Form;
use super::request::{self, Caller, Fields, Harmless, Rest, Tasks};
use crate::Requester;
use crate::http::Shared;

mod language;
mod subtitles;

/// A recording to write down. Fields of OpenAI's that are not listed are refused unless they change nothing.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct TranscriptionRequest {
    /// The recording: a WAV file, of at most as many bytes as a blob.
    #[serde(rename = "file")]
    #[schema(required, value_type = String, format = Binary)]
    _file: Option<IgnoredAny>,
    /// One of the coordinator's transcription models.
    #[schema(required, nullable = false)]
    model: Option<String>,
    /// What is spoken, by the two or three small letters of ISO 639 (`en`); the model finds out when absent.
    #[schema(nullable = false)]
    language: Option<String>,
    /// Text taken to precede the recording: names and spellings to go by, at most 4096 bytes.
    #[schema(nullable = false)]
    prompt: Option<String>,
    /// `json`, `text`, `srt`, `verbose_json` or `vtt`; `json` when absent.
    #[schema(nullable = false)]
    response_format: Option<TranscriptionFormat>,
    /// 0, which is meant when absent, always takes the likeliest token; up to 1 draws the more freely.
    #[serde(default, deserialize_with = "number")]
    #[schema(nullable = false)]
    temperature: Option<f64>,
    /// What `verbose_json` tells the times of: `segment`, as it also does when absent.
    #[serde(rename = "timestamp_granularities[]")]
    #[schema(nullable = false)]
    _granularities: Option<Vec<Granularity>>,
    /// Not OpenAI's: what draws are made from. Drawn by the coordinator when absent.
    #[serde(default, deserialize_with = "number")]
    #[schema(nullable = false)]
    seed: Option<u64>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

impl Fields for TranscriptionRequest {
    const HARMLESS: &[Harmless] = &[
        ("user", &[]),
        ("stream", &["\"false\""]),
        ("chunking_strategy", &["\"auto\""]),
        ("include", &["null"]),
        ("include[]", &["null"]),
        ("keywords[]", &["null"]),
        ("languages[]", &["null"]),
        ("known_speaker_names[]", &["null"]),
        ("known_speaker_references[]", &["null"]),
    ];

    fn rest(&self) -> &Rest {
        &self.rest
    }
}

/// How a transcript comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum TranscriptionFormat {
    /// The text as JSON.
    #[default]
    Json,
    /// The text alone.
    Text,
    /// Subtitles of SubRip.
    Srt,
    /// The text, its language and its parts with their times as JSON.
    VerboseJson,
    /// Subtitles of WebVTT.
    Vtt,
}

/// What a transcript tells the times of.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Granularity {
    /// Parts of about a sentence.
    Segment,
}

/// What is said in a recording.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Transcription {
    /// `transcribe` or `translate`; only in `verbose_json`, as language, duration and segments are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    task: Option<&'static str>,
    /// The English name of the text's language, such as `english`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    language: Option<String>,
    /// Length of the recording in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    duration: Option<f64>,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    segments: Option<Vec<TranscriptionSegment>>,
    /// Not of translations.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    usage: Option<TranscriptionUsage>,
}

/// A part of about a sentence.
#[derive(Debug, Serialize, ToSchema)]
struct TranscriptionSegment {
    /// Counted from 0.
    id: usize,
    /// Where it begins, in seconds.
    start: f64,
    /// Where it ends, in seconds.
    end: f64,
    text: String,
}

/// How much was listened to.
#[derive(Debug, Serialize, ToSchema)]
struct TranscriptionUsage {
    /// Always `duration`.
    r#type: &'static str,
    /// Seconds that were begun.
    seconds: u64,
}

/// What a request with a recording is refused with.
struct RefusedRecording;

impl IntoResponses for RefusedRecording {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let mut responses = Refused::responses();
        responses.extend(described(&[
            (
                "400",
                "A field is malformed or cannot be honoured, or the file is no WAV",
            ),
            ("403", "From a web page without a key"),
            ("413", "The file is too long"),
            ("415", "The body is no form"),
            ("429", "Refused by limits, or no room for more"),
            ("default", "The task failed, with its kind's status"),
        ]));
        responses
    }
}

/// Writes down what is said in a recording. Web pages send their key, any where none is asked for.
#[utoipa::path(post, path = paths::TRANSCRIPTIONS, tag = "openai", security((), ("requester" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the transcript that the first request made")),
    request_body(content = TranscriptionRequest, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "A `Transcription`, or text", content(
            (Transcription = "application/json"),
            (String = "text/plain"),
        )),
        RefusedRecording,
    )
)]
pub(super) async fn transcribe(
    State(shared): State<Shared>,
    Caller(requester): Caller,
    request: Request,
) -> Result<Response, Refused> {
    listen(&shared, &requester, request, false).await
}

/// Writes down in English what is said in a recording. Web pages send their key, any where none is asked for.
#[utoipa::path(post, path = paths::TRANSLATIONS, tag = "openai", security((), ("requester" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key again gives the translation that the first request made")),
    request_body(content = TranscriptionRequest, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "A `Transcription`, or text", content(
            (Transcription = "application/json"),
            (String = "text/plain"),
        )),
        RefusedRecording,
    )
)]
pub(super) async fn translate(
    State(shared): State<Shared>,
    Caller(requester): Caller,
    request: Request,
) -> Result<Response, Refused> {
    listen(&shared, &requester, request, true).await
}

async fn listen(
    shared: &Shared,
    requester: &Requester,
    request: Request,
    translate: bool,
) -> Result<Response, Refused> {
    let key = request::key(&request)?;
    let form = Form::read(request, shared.coordinator.settings().max_blob_bytes).await?;
    let asked: TranscriptionRequest = request::known(&form.fields)?;
    let model = request::model(shared, asked.model.as_deref(), ModelKind::Transcription)?;
    let mut input = asked.input(translate)?;
    let recording = recording(request::needed("file", form.file)?)?;
    input.audio = shared.coordinator.put_blob(recording).await?;
    let input = serde_json::to_value(input)
        .map_err(|source| Error::internal("the input is not JSON").with_source(source))?;
    let mut tasks = Tasks::submit(shared, requester, model, key, vec![input]).await?;
    let results = tasks.results().await?;
    let result = results
        .first()
        .ok_or_else(|| Error::internal("a task gave no result"))?;
    let transcript = Transcript::read(&result.output)?;
    Ok(match asked.response_format.unwrap_or_default() {
        TranscriptionFormat::Json => {
            Json(Transcription::brief(transcript, translate)).into_response()
        }
        TranscriptionFormat::VerboseJson => {
            Json(Transcription::verbose(transcript, translate)).into_response()
        }
        TranscriptionFormat::Text => format!("{}\n", transcript.text).into_response(),
        TranscriptionFormat::Srt => subtitles::srt(&transcript.segments).into_response(),
        TranscriptionFormat::Vtt => subtitles::vtt(&transcript.segments).into_response(),
    })
}

impl TranscriptionRequest {
    /// What a task is given, with the name of no recording yet.
    fn input(&self, translate: bool) -> Result<TranscriptionInput, Refused> {
        let input = TranscriptionInput {
            language: self.language.clone(),
            translate,
            prompt: self.prompt.clone(),
            temperature: self.temperature,
            seed: self.seed,
            ..TranscriptionInput::new(BlobId::of(&[]))
        };
        match input.fault() {
            Some((field, message)) => Err(Refused::param(field, message)),
            None => Ok(input),
        }
    }
}

/// The file as a blob.
fn recording(file: Bytes) -> Result<Output, Refused> {
    if !file.starts_with(b"RIFF") || file.get(8..12) != Some(b"WAVE".as_slice()) {
        let message =
            "the file is no WAV; convert it first, such as by `ffmpeg -i in.mp3 -ar 16000 out.wav`";
        return Err(Refused::param("file", message));
    }
    Ok(Output::new("audio/wav", file))
}

/// Reads a number from the text that forms have in its place.
fn number<'de, D: Deserializer<'de>, T: FromStr>(field: D) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(field)?;
    let number = text.parse::<T>().map_err(|_| {
        let text = text.chars().take(32).collect::<String>();
        D::Error::custom(format!("`{text}` is no number of this field's range"))
    });
    number.map(Some)
}

impl Transcription {
    fn brief(transcript: Transcript, translate: bool) -> Self {
        Self {
            usage: (!translate).then(|| TranscriptionUsage::of(&transcript)),
            text: transcript.text,
            ..Self::default()
        }
    }

    fn verbose(transcript: Transcript, translate: bool) -> Self {
        let language = if translate {
            "english".to_owned()
        } else {
            language::name(&transcript.language).to_owned()
        };
        let task = if translate { "translate" } else { "transcribe" };
        let parts = transcript.segments.iter().enumerate();
        let segments = parts.map(|(id, segment)| TranscriptionSegment {
            id,
            start: seconds(segment.start_millis),
            end: seconds(segment.end_millis),
            text: segment.text.clone(),
        });
        Self {
            task: Some(task),
            language: Some(language),
            duration: Some(seconds(transcript.duration_millis)),
            segments: Some(segments.collect()),
            ..Self::brief(transcript, translate)
        }
    }
}

impl TranscriptionUsage {
    fn of(transcript: &Transcript) -> Self {
        Self {
            r#type: "duration",
            seconds: transcript.duration_millis.div_ceil(1_000),
        }
    }
}

fn seconds(millis: u64) -> f64 {
    millis as f64 / 1_000.0
}
