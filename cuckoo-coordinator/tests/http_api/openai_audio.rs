//! Recordings for OpenAI's clients: every format, what reaches the model, repeated requests, given up.

use std::sync::Arc;

use cuckoo_coordinator::{Coordinator, ModelSettings, Settings, router};
use cuckoo_core::{
    Assignment, Capability, Error, ModelKind, Output, Result, Transcript, TranscriptSegment,
    TranscriptionInput, Usage, cai, paths, payload_hash,
};
use cuckoo_miner::{Execution, Executor, TaskContext};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::openai::{Shop, answer, problem};
use crate::requests::until;

pub(crate) const EARS: &str = "lab/ears";

pub(crate) type Part<'a> = (&'a str, &'a [u8]);

/// Listens for how long a recording lasts, and says so together with what else it was asked for, a part for each second
/// that was begun. The prompt `slow` takes for ever, and `mumble` gives no transcript.
#[derive(Debug)]
struct Ears;

#[async_trait::async_trait]
impl Executor for Ears {
    fn capabilities(&self) -> Vec<Capability> {
        let hash = payload_hash(EARS.as_bytes());
        vec![Capability::new(EARS.parse().unwrap(), hash, "test-1")]
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let input = TranscriptionInput::read(&task.input)?;
        let audio = context.blob(input.audio).await?;
        assert_eq!(audio.media_type, "audio/wav");
        let number =
            |at: usize| u32::from_le_bytes(audio.bytes[at..at + 4].try_into().unwrap()) as u64;
        let (rate, bytes_per_second, length) = (number(24), number(28), number(40));
        assert_eq!(length, audio.bytes.len() as u64 - 44);
        let millis = length * 1_000 / bytes_per_second;
        if millis == 0 {
            return Err(Error::invalid("the recording is empty"));
        }
        match input.prompt.as_deref() {
            Some("slow") => {
                context.cancelled().await;
                return Err(Error::cancelled("nobody waits any more"));
            }
            Some("mumble") => {
                return Ok(Execution::new(Output::new("text/plain", b"hm".as_slice())));
            }
            _ => {}
        }
        let seed = input.seed.unwrap();
        let mut text = format!("{millis} ms at {rate} Hz");
        if let Some(prompt) = &input.prompt {
            text += &format!(" after {prompt}");
        }
        if let Some(temperature) = input.temperature {
            text += &format!(" at {temperature} from {seed}");
        }
        if input.translate {
            text += " in English";
        }
        let second = |start: u64| TranscriptSegment {
            start_millis: start,
            end_millis: (start + 1_000).min(millis),
            text: format!(" from {start} ms"),
        };
        let transcript = Transcript {
            text,
            language: input.language.unwrap_or_else(|| "de".to_owned()),
            duration_millis: millis,
            segments: (0..millis).step_by(1_000).map(second).collect(),
        };
        let usage = Usage {
            input_units: millis,
            ..Usage::default()
        };
        Ok(Execution::new(transcript.output()?).with_usage(usage))
    }
}

/// A silent recording in 16 bits, of one channel.
pub(crate) fn wav(millis: u32, rate: u32) -> Vec<u8> {
    let length = rate / 1_000 * 2 * millis;
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + length).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * 2).to_le_bytes());
    bytes.extend(b"\x02\0\x10\0data");
    bytes.extend(length.to_le_bytes());
    bytes.resize(44 + length as usize, 0);
    bytes
}

const BOUNDARY: &str = "------cuckoo7";

pub(crate) fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, content) in parts {
        let file = if *name == "file" {
            "; filename=\"speech.wav\"\r\nContent-Type: audio/wav"
        } else {
            ""
        };
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{file}\r\n\r\n"
        );
        body.extend(head.as_bytes());
        body.extend(*content);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

pub(crate) async fn open(
    adjust: impl FnOnce(&mut Settings),
    routes: impl FnOnce(Coordinator) -> axum::Router,
) -> Shop {
    let settings = |settings: &mut Settings| {
        let model = ModelSettings::new(EARS.parse().unwrap(), cai(1));
        settings
            .models
            .push(model.with_kind(ModelKind::Transcription));
        adjust(settings);
    };
    Shop::stocked(settings, routes, |_| {
        vec![Arc::new(Ears) as Arc<dyn Executor>]
    })
    .await
}

impl Shop {
    pub(crate) fn form(&self, path: &str, parts: &[Part<'_>]) -> RequestBuilder {
        self.market
            .call(Method::POST, path)
            .header(
                "content-type",
                format!("multipart/form-data; boundary={BOUNDARY}"),
            )
            .body(form(parts))
    }

    /// A request about a recording of two and a half seconds, with `fields` beside it.
    pub(crate) fn recording(&self, path: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let wav = wav(2_500, 8_000);
        let mut parts: Vec<Part<'_>> = vec![("file", wav.as_slice()), ("model", EARS.as_bytes())];
        parts.extend(fields.iter().map(|(name, text)| (*name, text.as_bytes())));
        self.form(path, &parts)
    }

    pub(crate) async fn listened(&self, path: &str, fields: &[(&str, &str)]) -> Response {
        self.recording(path, fields).send().await.unwrap()
    }
}

/// Media type and body of an answer that is none of the refusals.
async fn written(response: Response) -> (String, String) {
    assert_eq!(response.status(), 200);
    let media_type = response.headers()["content-type"].to_str().unwrap();
    let media_type = media_type.to_owned();
    (media_type, response.text().await.unwrap())
}

#[tokio::test]
async fn a_transcript_comes_in_every_format() {
    let shop = open(|_| {}, router).await;
    let plain = "text/plain; charset=utf-8";
    let verbose = concat!(
        r#"{"task":"transcribe","language":"german","duration":2.5,"text":"2500 ms at 8000 Hz","#,
        r#""segments":[{"id":0,"start":0.0,"end":1.0,"text":" from 0 ms"},"#,
        r#"{"id":1,"start":1.0,"end":2.0,"text":" from 1000 ms"},"#,
        r#"{"id":2,"start":2.0,"end":2.5,"text":" from 2000 ms"}],"#,
        r#""usage":{"type":"duration","seconds":3}}"#
    );
    let srt = "1\n00:00:00,000 --> 00:00:01,000\nfrom 0 ms\n\n\
        2\n00:00:01,000 --> 00:00:02,000\nfrom 1000 ms\n\n\
        3\n00:00:02,000 --> 00:00:02,500\nfrom 2000 ms\n\n";
    let vtt = "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nfrom 0 ms\n\n\
        00:00:01.000 --> 00:00:02.000\nfrom 1000 ms\n\n\
        00:00:02.000 --> 00:00:02.500\nfrom 2000 ms\n\n";
    let json = r#"{"text":"2500 ms at 8000 Hz","usage":{"type":"duration","seconds":3}}"#;
    for (format, media_type, expected) in [
        ("json", "application/json", json),
        ("verbose_json", "application/json", verbose),
        ("text", plain, "2500 ms at 8000 Hz\n"),
        ("srt", plain, srt),
        ("vtt", plain, vtt),
    ] {
        let fields = [("response_format", format)];
        let (got, text) = written(shop.listened(paths::TRANSCRIPTIONS, &fields).await).await;
        assert_eq!((got.as_str(), text.as_str()), (media_type, expected));
    }
    let (_, text) = written(shop.listened(paths::TRANSCRIPTIONS, &[]).await).await;
    assert_eq!(text, json, "the usual format");
}

#[tokio::test]
async fn a_translation_is_in_english_whatever_is_spoken() {
    let shop = open(|_| {}, router).await;
    let (_, text) = written(shop.listened(paths::TRANSLATIONS, &[]).await).await;
    assert_eq!(text, r#"{"text":"2500 ms at 8000 Hz in English"}"#);
    let fields = [("response_format", "verbose_json"), ("language", "fr")];
    let told = answer(shop.listened(paths::TRANSLATIONS, &fields).await).await;
    assert_eq!(told["task"], "translate");
    assert_eq!(told["language"], "english");
    assert_eq!(told["segments"][2]["end"], 2.5);
    assert_eq!(told.get("usage"), None);
    let (_, text) = written(
        shop.listened(paths::TRANSLATIONS, &[("response_format", "text")])
            .await,
    )
    .await;
    assert_eq!(text, "2500 ms at 8000 Hz in English\n");
}

#[tokio::test]
async fn what_is_asked_for_reaches_the_model() {
    let shop = open(|_| {}, router).await;
    let fields = [
        ("language", "yue"),
        ("prompt", "the 杜鹃"),
        ("temperature", "0.5"),
        ("seed", "7"),
        ("response_format", "verbose_json"),
        ("timestamp_granularities[]", "segment"),
        // What changes nothing.
        ("stream", "false"),
        ("chunking_strategy", "auto"),
        ("user", "me"),
    ];
    let told = answer(shop.listened(paths::TRANSCRIPTIONS, &fields).await).await;
    let text = "2500 ms at 8000 Hz after the 杜鹃 at 0.5 from 7";
    assert_eq!(
        (&told["text"], &told["language"]),
        (&json!(text), &json!("cantonese"))
    );
    // A language that has no name here.
    let fields = [("language", "tlh"), ("response_format", "verbose_json")];
    let told = answer(shop.listened(paths::TRANSCRIPTIONS, &fields).await).await;
    assert_eq!(told["language"], "tlh");
    let models = shop.market.call(Method::GET, paths::MODELS).send().await;
    let models = answer(models.unwrap()).await;
    let listed = models["data"].as_array().unwrap();
    let ears = listed.iter().find(|model| model["id"] == EARS).unwrap();
    assert_eq!(ears["kind"], "transcription");
    assert_eq!(shop.miner().status().completed, 2);
}

#[tokio::test]
async fn the_same_key_gives_the_same_transcript() {
    let shop = open(|_| {}, router).await;
    let ask = |fields: &[(&str, &str)]| {
        let request = shop.recording(paths::TRANSCRIPTIONS, fields);
        request.header("idempotency-key", "order-9").send()
    };
    // Drawn from a seed that nobody named.
    let draw = ("temperature", "1");
    let first = answer(ask(&[draw]).await.unwrap()).await;
    let again = answer(ask(&[draw]).await.unwrap()).await;
    assert_eq!(first, again);
    assert_eq!(shop.miner().status().completed, 1);
    // How it is written does not make another task of it.
    let (_, text) = written(ask(&[draw, ("response_format", "text")]).await.unwrap()).await;
    assert_eq!(json!(text.trim_end()), first["text"]);
    assert_eq!(shop.miner().status().completed, 1);
    problem(ask(&[]).await.unwrap(), 409).await;
    let longer = wav(3_000, 8_000);
    let parts: [Part<'_>; 3] = [
        ("file", longer.as_slice()),
        ("model", EARS.as_bytes()),
        ("temperature", b"1"),
    ];
    let longer = shop.form(paths::TRANSCRIPTIONS, &parts);
    let longer = longer.header("idempotency-key", "order-9").send().await;
    problem(longer.unwrap(), 409).await;
}

#[tokio::test]
async fn what_nobody_waits_for_is_cancelled() {
    let shop = open(|_| {}, router).await;
    let status = || shop.market.coordinator.status();
    let request = shop.recording(paths::TRANSCRIPTIONS, &[("prompt", "slow")]);
    let waiting = tokio::spawn(request.send());
    until(|| status().running == 1).await;
    waiting.abort();
    until(|| status().cancelled == 1).await;
    until(|| shop.miner().status().running == 0).await;
}

#[tokio::test]
async fn what_is_no_transcript_is_not_passed_for_one() {
    let shop = open(|_| {}, router).await;
    for format in ["json", "text", "srt"] {
        let fields = [("prompt", "mumble"), ("response_format", format)];
        let response = shop.listened(paths::TRANSCRIPTIONS, &fields).await;
        let odd: Value = problem(response, 500).await;
        assert!(odd["message"].as_str().unwrap().contains("no transcript"));
        assert_eq!(odd["type"], "server_error");
    }
}
