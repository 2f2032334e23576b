//! A market that OpenAI's clients can use: models of every kind, and a real miner that runs them.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::{Coordinator, ModelSettings, Settings};
use cuckoo_core::{
    Assignment, Capability, Clock as _, Embeddings, EmbeddingsInput, Error, FinishReason,
    ModelKind, Output, Result, SystemClock, TextInput, TextPiece, TextPrompt, TextWriter,
    TokenLogprob, TopLogprob, Usage, cai, payload_hash,
};
use cuckoo_miner::{Execution, Executor, HttpCoordinator, Miner, TaskContext};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::market::Market;

pub(crate) const PICTURES: &str = "lab/pictures";
pub(crate) const TALK: &str = "talk";
pub(crate) const TELL: &str = "tell";
pub(crate) const LETTERS: &str = "letters";

/// A market and its miner.
pub(crate) struct Shop {
    pub(crate) market: Market,
    miner: Miner,
    _time: DropGuard,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::with(|_| {}, cuckoo_coordinator::router).await
    }

    pub(crate) async fn with(
        adjust: impl FnOnce(&mut Settings),
        routes: impl FnOnce(Coordinator) -> axum::Router,
    ) -> Self {
        Self::stocked(adjust, routes, |_| Vec::new()).await
    }

    /// A shop whose miner runs more than its usual models.
    pub(crate) async fn stocked(
        adjust: impl FnOnce(&mut Settings),
        routes: impl FnOnce(Coordinator) -> axum::Router,
        executors: impl FnOnce(&Market) -> Vec<Arc<dyn Executor>>,
    ) -> Self {
        let settings = |settings: &mut Settings| {
            for (name, kind) in [
                (PICTURES, ModelKind::Image),
                (TALK, ModelKind::Chat),
                (TELL, ModelKind::Completion),
                (LETTERS, ModelKind::Embeddings),
            ] {
                let model = ModelSettings::new(name.parse().unwrap(), cai(1));
                settings.models.push(model.with_kind(kind));
            }
            settings.max_attempts = 1;
            // As long a second opinion is waited for when a miner calls an input invalid.
            settings.lease_millis = 2_000;
            settings.heartbeat_millis = 500;
            adjust(settings);
        };
        let market = Market::with(settings, routes).await;
        let stop = CancellationToken::new();
        let (clock, stopped) = (market.clock.clone(), stop.clone());
        // The market's time goes on as the world's does.
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            loop {
                SystemClock.sleep(Duration::from_millis(5)).await;
                clock.advance(Duration::from_millis(5));
            }
        }));
        let mut miner = Miner::builder()
            .operator(market.miners[0].operator.clone())
            .chain(market.chain.clone())
            .clock(market.clock.clone())
            .entropy(market.entropy.clone())
            .coordinator(Arc::new(HttpCoordinator::new(&market.url).unwrap()))
            .executor(Arc::new(Worker))
            .settings(cuckoo_miner::Settings {
                slots: 8,
                ..cuckoo_miner::Settings::default()
            });
        for executor in executors(&market) {
            miner = miner.executor(executor);
        }
        let miner = miner.start().await.unwrap();
        miner.connected().await.unwrap();
        Self {
            market,
            miner,
            _time: stop.drop_guard(),
        }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.market.call(Method::POST, path).json(body)
    }

    /// What a request that succeeds is answered with.
    pub(crate) async fn answer(&self, path: &str, body: Value) -> Value {
        answer(self.post(path, &body).send().await.unwrap()).await
    }

    /// The data of the events that a request is answered with.
    pub(crate) async fn events(&self, path: &str, body: Value) -> Vec<String> {
        let response = self.post(path, &body).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = response.text().await.unwrap();
        let data = text
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "));
        data.map(str::to_owned).collect()
    }

    pub(crate) fn miner(&self) -> &Miner {
        &self.miner
    }
}

pub(crate) async fn answer(response: Response) -> Value {
    let status = response.status();
    let text = response.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// Checks that `response` is an error in OpenAI's form, and gives what it says.
pub(crate) async fn problem(response: Response, status: u16) -> Value {
    let got = response.status().as_u16();
    let text = response.text().await.unwrap();
    assert_eq!(got, status, "{text}");
    let mut body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    let problem = body["error"].take();
    for field in ["message", "type", "param", "code"] {
        assert!(problem.get(field).is_some(), "no {field} in {text}");
    }
    assert!(!problem["message"].as_str().unwrap().is_empty());
    problem
}

/// Runs models of every kind that are small enough to see through.
#[derive(Debug)]
struct Worker;

#[async_trait::async_trait]
impl Executor for Worker {
    fn capabilities(&self) -> Vec<Capability> {
        let offer = |name: &str| {
            let hash = payload_hash(name.as_bytes());
            Capability::new(name.parse().unwrap(), hash, "test-1")
        };
        [PICTURES, TALK, TELL, LETTERS].map(offer).to_vec()
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        match task.model.as_str() {
            PICTURES => paint(&task.input, &context).await,
            LETTERS => embed(&task.input),
            _ => speak(&task.input, &context).await,
        }
    }
}

/// One colour, which the seed picks. A prompt that says `slow` takes for ever, and seed 13 is bad luck.
async fn paint(input: &str, context: &TaskContext) -> Result<Execution> {
    let input: Value = serde_json::from_str(input).unwrap();
    let seed = input["seed"].as_u64().unwrap();
    let side = |name: &str| u32::try_from(input[name].as_u64().unwrap_or(8)).unwrap();
    let (width, height) = (side("width"), side("height"));
    if width > 64 {
        return Err(Error::invalid("the width is at most 64"));
    }
    if seed == 13 {
        return Err(Error::execution("out of paint"));
    }
    let prompt = input["prompt"].as_str().unwrap();
    if prompt.contains("slow") {
        context.cancelled().await;
        return Err(Error::cancelled("nobody waits any more"));
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Grayscale);
    let mut writer = encoder.write_header().unwrap();
    let pixels = vec![(seed % 251) as u8; (width * height) as usize];
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    let media_type = if prompt.contains("vector") {
        "image/svg+xml"
    } else {
        "image/png"
    };
    Ok(Execution::new(Output::new(media_type, bytes)))
}

/// How often each letter occurs.
fn embed(input: &str) -> Result<Execution> {
    let input = EmbeddingsInput::read(input)?;
    let count = |text: &String| {
        let of = |letter: u8| text.bytes().filter(|byte| *byte == letter).count() as f32;
        (b'a'..=b'z').map(of).collect()
    };
    let vectors: Vec<Vec<f32>> = input.texts.iter().map(count).collect();
    let usage = Usage {
        input_units: input
            .texts
            .iter()
            .map(|text| words(text).count() as u64)
            .sum(),
        ..Usage::default()
    };
    Ok(Execution::new(Embeddings::output(&vectors)?).with_usage(usage))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
}

/// Says all words it was given backwards, then its seed, a word at a time. The word `wait` takes for ever, at `break` it
/// breaks off, and of `nonsense` it will not speak.
async fn speak(input: &str, context: &TaskContext) -> Result<Execution> {
    let input = TextInput::read(input)?;
    let text = match input.prompt() {
        TextPrompt::Prompt(prompt) => prompt.to_owned(),
        TextPrompt::Messages(messages) => {
            let said = messages
                .iter()
                .map(|message| format!("{}: {}", json!(message.role), message.content));
            said.collect::<Vec<_>>().join(" ").replace('"', "")
        }
    };
    if text.contains("nonsense") {
        return Err(Error::invalid("of this I will not speak"));
    }
    let given: Vec<&str> = words(&text).collect();
    let seed = input.seed.unwrap().to_string();
    let mut writer = TextWriter::default();
    let mut reason = FinishReason::Stop;
    let mut made = 0;
    for word in given.iter().rev().copied().chain([seed.as_str()]) {
        if input.stop.iter().any(|stop| stop == word) {
            break;
        }
        if input.max_tokens == Some(made) {
            reason = FinishReason::Length;
            break;
        }
        match word {
            "wait" => context.cancelled().await,
            "break" => return Err(Error::execution("lost for words")),
            _ => {}
        }
        let text = format!("{word} ");
        let logprobs = input.logprobs.map(|most| TokenLogprob {
            token: text.clone(),
            logprob: -0.5,
            top: vec![
                TopLogprob {
                    token: text.clone(),
                    logprob: -0.5,
                };
                usize::from(most).min(1)
            ],
        });
        let piece = TextPiece {
            text,
            logprobs: logprobs.into_iter().collect(),
        };
        context.emit(writer.piece(piece));
        // A piece at a time also on the wire.
        SystemClock.sleep(Duration::from_millis(2)).await;
        made += 1;
    }
    let usage = Usage {
        input_units: given.len() as u64,
        output_units: u64::from(made),
        compute_millis: 0,
    };
    Ok(Execution::new(writer.end(reason)).with_usage(usage))
}
