//! An executor that says a text's words in capitals, and does one thing wrong.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cuckoo_core::{
    Assignment, B256, Capability, Clock as _, Error, Output, Result, SystemClock, Usage,
    payload_hash,
};
use cuckoo_miner::{Execution, Executor, TaskContext};
use serde::Deserialize;
use tokio::sync::Semaphore;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    ZeroHash,
    OtherKernels,
    NoCapabilities,
    TwoOfOne,
    NoMediaType,
    LongMediaType,
    HugeOutput,
    NoSeed,
    /// Part of the output is how many outputs there were.
    Counting,
    EmitsAnother,
    GoesBack,
    /// Progress in other units.
    Percent,
    LongHours,
    CountsRuns,
    TakesAnything,
    BlamesItself,
    Panics,
    BlamesTheLate,
    /// A cancelled run leaves it broken.
    BreaksForGood,
    Shares,
    KeepsItsThread,
    NeverAwaits,
    LosesItsPermit,
    /// Does not look at its cancellation.
    Deaf,
}

#[derive(Debug)]
pub(crate) struct Faulty {
    fault: Fault,
    count: AtomicU64,
    broken: AtomicBool,
    shared: Mutex<String>,
    permit: Arc<Semaphore>,
    /// The test is over: what blocks a thread ends.
    pub(crate) over: Arc<AtomicBool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    text: String,
    #[serde(default)]
    pauses: u16,
    seed: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WithoutSeed {
    #[allow(dead_code, reason = "it is only parsed")]
    text: String,
}

impl Faulty {
    pub(crate) fn new(fault: Fault) -> Self {
        Self {
            fault,
            count: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            shared: Mutex::default(),
            permit: Arc::new(Semaphore::new(1)),
            over: Arc::default(),
        }
    }

    fn read(&self, text: &str) -> Result<Input> {
        if self.fault == Fault::NoSeed {
            serde_json::from_str::<WithoutSeed>(text)
                .map_err(|source| Error::invalid(source.to_string()))?;
        }
        let input = serde_json::from_str::<Input>(text);
        let input = match self.fault {
            Fault::TakesAnything => input.unwrap_or_else(|_| Input {
                text: "words".to_owned(),
                ..Input::default()
            }),
            Fault::BlamesItself => input.map_err(|_| Error::internal("no input"))?,
            Fault::Panics => input.unwrap_or_else(|_| panic!("no input")),
            _ => input.map_err(|source| Error::invalid("give a text").with_source(source))?,
        };
        if input.text.is_empty() {
            return Err(Error::invalid("the text is empty"));
        }
        Ok(input)
    }

    /// What takes a while.
    async fn pause(&self, pauses: u16, context: &TaskContext) -> Result<()> {
        let pause = Duration::from_millis(10);
        let whole = pause * u32::from(pauses);
        let over = Arc::clone(&self.over);
        match self.fault {
            Fault::KeepsItsThread if pauses > 0 => {
                let held = context.clone();
                let thread = tokio::task::spawn_blocking(move || {
                    while !over.load(Ordering::Relaxed) {
                        held.progress(1);
                        std::thread::sleep(pause);
                    }
                });
                thread.await.map_err(|_| Error::execution("the thread"))
            }
            Fault::NeverAwaits if pauses > 0 => {
                while !over.load(Ordering::Relaxed) {
                    std::thread::sleep(pause);
                }
                Ok(())
            }
            Fault::LosesItsPermit => {
                let Ok(permit) = self.permit.acquire().await else {
                    return Err(Error::internal("closed"));
                };
                if pauses > 0 {
                    permit.forget();
                    context.cancelled().await;
                    return Err(Error::cancelled("stopped"));
                }
                Ok(())
            }
            Fault::Deaf => {
                SystemClock.sleep(whole).await;
                Ok(())
            }
            _ => tokio::select! {
                () = SystemClock.sleep(whole) => Ok(()),
                () = context.cancelled(), if pauses > 0 => {
                    self.broken.store(true, Ordering::Relaxed);
                    Err(Error::cancelled("stopped"))
                }
            },
        }
    }
}

#[async_trait]
impl Executor for Faulty {
    fn capabilities(&self) -> Vec<Capability> {
        let hash = match self.fault {
            Fault::ZeroHash => B256::ZERO,
            _ => payload_hash(b"words"),
        };
        let kernels = match self.fault {
            Fault::OtherKernels => {
                format!("rust-{}", self.count.fetch_add(1, Ordering::Relaxed))
            }
            Fault::NoCapabilities => panic!("not today"),
            _ => "rust-1".to_owned(),
        };
        let offer = Capability::new("words".parse().unwrap(), hash, kernels);
        match self.fault {
            Fault::TwoOfOne => vec![offer.clone(), offer],
            _ => vec![offer],
        }
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        if self.fault == Fault::BreaksForGood && self.broken.load(Ordering::Relaxed) {
            return Err(Error::execution("broken by an earlier run"));
        }
        let input = self.read(&task.input)?;
        if self.fault == Fault::BlamesTheLate && context.deadline().as_millis() < 1_000 {
            return Err(Error::invalid("too late"));
        }
        let mut text = input.text;
        if self.fault == Fault::Shares {
            self.shared.lock().unwrap().clone_from(&text);
            SystemClock.sleep(Duration::from_millis(200)).await;
            text = self.shared.lock().unwrap().clone();
        }
        self.pause(input.pauses, &context).await?;
        let run = self.count.fetch_add(1, Ordering::Relaxed);
        let mut bytes = Vec::new();
        for word in text.split(' ') {
            let word = format!("{} ", word.to_uppercase());
            match self.fault {
                Fault::EmitsAnother => context.emit(word.to_lowercase()),
                _ => context.emit(&word),
            }
            bytes.extend_from_slice(word.as_bytes());
        }
        bytes.extend_from_slice(input.seed.to_string().as_bytes());
        match self.fault {
            Fault::Counting => bytes.extend_from_slice(run.to_string().as_bytes()),
            Fault::HugeOutput => bytes.resize(33 << 20, b'.'),
            _ => {}
        }
        context.progress(500);
        match self.fault {
            Fault::GoesBack => context.progress(400),
            Fault::Percent => context.progress(5_000),
            _ => {}
        }
        let media_type = match self.fault {
            Fault::NoMediaType => "words".to_owned(),
            Fault::LongMediaType => format!("text/{}", "x".repeat(200)),
            _ => "text/plain".to_owned(),
        };
        let usage = Usage {
            input_units: 1,
            output_units: match self.fault {
                Fault::CountsRuns => run + 1,
                _ => 1,
            },
            compute_millis: match self.fault {
                Fault::LongHours => 3_600_000,
                _ => 0,
            },
        };
        Ok(Execution::new(Output::new(media_type, bytes)).with_usage(usage))
    }
}
