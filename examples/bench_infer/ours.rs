//! Our side: the same cases by the miner's own pipeline, model and executor.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cuckoo_core::{
    Assignment, B256, Clock as _, LeaseId, NodeId, SystemClock, TaskId, TextInput, TextOutput, Wei,
    payload_hash,
};
use cuckoo_miner::{
    EmbeddingModel, Execution, Executor as _, ImageModel, ImageRequest, LanguageModel, TaskContext,
    TextExecutor, TextLimits,
};
use tokio::runtime::Runtime;

use crate::case::{Case, GUIDANCE, Kind, Model, PROMPT, WRITTEN};
use crate::{Failure, Result};

/// A loaded model.
#[derive(Debug)]
pub(crate) enum Ours {
    Pipeline(Box<ImageModel>),
    Language(Arc<LanguageModel>, Runtime),
    Encoder(Box<EmbeddingModel>),
}

impl Ours {
    pub(crate) fn load(model: Model, folder: &Path) -> Result<Self> {
        Ok(match model {
            Model::Pipeline | Model::Flux => Self::Pipeline(Box::new(ImageModel::load(folder)?)),
            Model::Encoder => Self::Encoder(Box::new(EmbeddingModel::load(folder)?)),
            Model::Language | Model::LanguageBf16 => Self::Language(
                Arc::new(LanguageModel::load(folder)?),
                tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()?,
            ),
        })
    }

    /// The arithmetic that receipts name.
    pub(crate) fn kernels(&self) -> &str {
        match self {
            Self::Pipeline(pipeline) => pipeline.kernels(),
            Self::Language(model, _) => model.kernels(),
            Self::Encoder(model) => model.kernels(),
        }
    }

    /// Runs a case once: the seconds it took, and what it computed.
    pub(crate) fn run(&self, case: Case) -> Result<(f64, Vec<f32>)> {
        match (self, case.kind) {
            (Self::Pipeline(pipeline), Kind::Step { side }) => {
                // Between the last two reports: the first one is before the prompts are read.
                let mut reports = Vec::new();
                let latents = pipeline.denoise(&request(side), case.noise(), &mut |_| {
                    reports.push(Instant::now());
                    ControlFlow::Continue(())
                })?;
                match reports[..] {
                    [.., before, after] => Ok(((after - before).as_secs_f64(), latents)),
                    _ => Err(Failure::from("a step was not reported")),
                }
            }
            (Self::Pipeline(pipeline), Kind::Decode { side }) => {
                let (noise, request) = (case.noise(), request(side));
                let (seconds, image) = timed(|| pipeline.decode(&request, &noise))?;
                Ok((seconds, image.rgb.into_iter().map(f32::from).collect()))
            }
            (Self::Pipeline(pipeline), Kind::Prompt) => timed(|| pipeline.embed(PROMPT)),
            (Self::Language(model, _), Kind::Read { .. }) => {
                let tokens = &case.texts()[0];
                let (seconds, _) = timed(|| model.likeliest(tokens, 1))?;
                Ok((seconds, Vec::new()))
            }
            (Self::Language(model, runtime), Kind::Write { .. }) => {
                runtime.block_on(write(model, &case.texts()))
            }
            (Self::Encoder(model), Kind::Embed { .. }) => {
                let words = |tokens: &Vec<u32>| {
                    let words: Vec<_> = tokens.iter().map(|token| format!("w{token}")).collect();
                    words.join(" ")
                };
                let texts: Vec<_> = case.texts().iter().map(words).collect();
                let (seconds, vectors) = timed(|| model.embed(&texts))?;
                Ok((seconds, vectors.concat()))
            }
            _ => Err(Failure::from("the case is one of another model")),
        }
    }

    /// What a case computes, where [`run`](Self::run) keeps it to itself.
    pub(crate) fn output(&self, case: Case) -> Result<Vec<f32>> {
        match (self, case.kind) {
            (Self::Language(model, _), Kind::Read { .. }) => {
                let scores = model.scores(&case.texts()[0])?.pop();
                scores.ok_or_else(|| Failure::from("no scores"))
            }
            _ => Ok(self.run(case)?.1),
        }
    }
}

fn timed<T>(run: impl FnOnce() -> cuckoo_core::Result<T>) -> Result<(f64, T)> {
    let start = Instant::now();
    let found = run()?;
    Ok((start.elapsed().as_secs_f64(), found))
}

fn request(side: usize) -> ImageRequest {
    ImageRequest {
        prompt: PROMPT.to_owned(),
        negative_prompt: None,
        image: None,
        strength: None,
        width: Some(side * 8),
        height: Some(side * 8),
        steps: 1,
        guidance: GUIDANCE,
        seed: 0,
        sampler: None,
    }
}

/// Texts as the executor of a miner writes them: the seconds in which each came by as many tokens as the steps of a round,
/// and the tokens.
async fn write(model: &Arc<LanguageModel>, texts: &[Vec<u32>]) -> Result<(f64, Vec<f32>)> {
    let limits = TextLimits {
        texts: texts.len(),
        chunk: texts.iter().map(Vec::len).sum(),
        ..TextLimits::default()
    };
    let executor = TextExecutor::new(Arc::clone(model), "bench".parse()?).with_limits(limits)?;
    let deadline = SystemClock.now().after(Duration::from_secs(3600));
    let contexts: Vec<_> = texts.iter().map(|_| TaskContext::new(deadline)).collect();
    let mut runs = Vec::new();
    for (tokens, context) in texts.iter().zip(&contexts) {
        let (executor, context, task) = (executor.clone(), context.clone(), task(tokens)?);
        runs.push(tokio::spawn(async move {
            executor.execute(task, context).await
        }));
    }
    // Texts begin as their prompts are read: measured is from where all write until the first is done.
    let lines = |context: &TaskContext| {
        let emitted = context.emitted();
        emitted.iter().filter(|byte| **byte == b'\n').count()
    };
    let mut begun: Option<(Instant, usize)> = None;
    let per_step = loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let counts: Vec<_> = contexts.iter().map(lines).collect();
        let (least, most) = (counts.iter().min(), counts.iter().max());
        let total = counts.iter().sum::<usize>();
        match begun {
            None if least > Some(&0) => begun = Some((Instant::now(), total)),
            Some((start, before)) if most >= Some(&WRITTEN) => {
                let written = (total - before) as f64 / texts.len() as f64;
                break start.elapsed().as_secs_f64() / written;
            }
            _ if runs.iter().any(tokio::task::JoinHandle::is_finished) => {
                return Err(Failure::from("a text was done before all had begun"));
            }
            _ => {}
        }
    };
    let mut tokens = Vec::new();
    for run in runs {
        tokens.extend(words(&run.await??)?);
    }
    Ok((per_step * (WRITTEN - 1) as f64, tokens))
}

fn task(tokens: &[u32]) -> Result<Assignment> {
    let words: Vec<_> = tokens.iter().map(|token| format!("w{token}")).collect();
    let input = TextInput {
        max_tokens: Some(WRITTEN as u32),
        temperature: Some(0.0),
        ..TextInput::completion(words.join(" "))
    };
    let input = serde_json::to_string(&input)?;
    let now = SystemClock.now();
    Ok(Assignment {
        lease: LeaseId::from(B256::ZERO),
        task: TaskId::from(B256::ZERO),
        coordinator: NodeId(0),
        model: "bench".parse()?,
        model_hash: B256::ZERO,
        input_hash: payload_hash(input.as_bytes()),
        input,
        price: Wei::ZERO,
        lease_expires_at: now,
        heartbeat_millis: 0,
        deadline: now,
    })
}

/// The tokens of a text, whose words say their numbers.
fn words(run: &Execution) -> Result<Vec<f32>> {
    let output = TextOutput::read(&run.output)?;
    let number = |word: &str| Ok(word.trim_start_matches('w').parse::<u32>()? as f32);
    output.text.split_whitespace().map(number).collect()
}
