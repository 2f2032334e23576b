//! Executors for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use cuckoo_core::{Assignment, Bytes, Capability, Error, Output, Result, Retry, Wei};
use cuckoo_miner::{Execution, Executor, TaskContext};
use tokio::sync::Semaphore;

use crate::peer::{MODEL, MODEL_HASH};

/// How much a `long stream` emits at once: more than one chunk.
pub(crate) const STREAM: usize = 3 * cuckoo_core::Chunk::MAX_BYTES - 1;

/// Answers with its input, in the way the input's text asks for.
#[derive(Debug)]
pub(crate) struct Echo {
    /// A run whose text is `wait` ends when the test adds a permit.
    pub(crate) gate: Semaphore,
    pub(crate) started: AtomicUsize,
    pub(crate) running: AtomicUsize,
    pub(crate) most: AtomicUsize,
    pub(crate) cancelled: AtomicUsize,
    pub(crate) min_price: Wei,
}

impl Echo {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Semaphore::new(0),
            started: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            min_price: Wei::from(1),
        })
    }

    pub(crate) fn count(counter: &AtomicUsize) -> usize {
        counter.load(Ordering::SeqCst)
    }
}

struct Running<'a>(&'a Echo);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Executor for Echo {
    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability {
            model: MODEL.parse().unwrap(),
            model_hash: MODEL_HASH,
            kernels: "echo-1".to_owned(),
            max_input_bytes: 1_000,
            min_price: self.min_price,
        }]
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        self.started.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let _running = Running(self);
        let input: serde_json::Value = serde_json::from_str(&task.input).unwrap();
        match input["text"].as_str().unwrap() {
            "wait" => {
                context.progress(250);
                tokio::select! {
                    permit = self.gate.acquire() => permit.unwrap().forget(),
                    () = context.cancelled() => {
                        self.cancelled.fetch_add(1, Ordering::SeqCst);
                        return Err(Error::cancelled("stopped"));
                    }
                }
            }
            "stream" | "lie" => {
                let (beginning, rest) = task.input.split_at(5);
                context.emit(beginning);
                self.gate.acquire().await.unwrap().forget();
                context.emit(rest);
                self.gate.acquire().await.unwrap().forget();
                if input["text"] == "lie" {
                    return Ok(execution(b"another thing".to_vec()));
                }
            }
            "show" => {
                context.preview(Output::new("image/png", b"early".to_vec()));
                context.preview(Output::new("image/png", b"later".to_vec()));
                self.gate.acquire().await.unwrap().forget();
            }
            "long stream" => {
                context.emit(vec![7; STREAM]);
                self.gate.acquire().await.unwrap().forget();
                return Ok(execution(vec![7; STREAM]));
            }
            "hang" => std::future::pending().await,
            "panic" => panic!("out of {}", "tape"),
            "bad input" => return Err(Error::invalid("this text is not allowed")),
            "too much" => return Err(Error::rejected("more than it can lift")),
            "no room" => {
                return Err(Error::rejected("another time").with_retry(Retry::Later));
            }
            "broken" => return Err(Error::internal("a wire is loose")),
            "huge" => return Ok(execution(vec![0; 2_000])),
            "no type" => {
                let mut execution = execution(vec![0]);
                execution.output.media_type = "text\r\nSet-Cookie: x".to_owned();
                return Ok(execution);
            }
            name if name.starts_with("blob:") => {
                let blob = context.blob(name.parse()?).await?;
                return Ok(Execution::new(blob));
            }
            _ => {}
        }
        Ok(execution(task.input.into_bytes()))
    }
}

fn execution(bytes: Vec<u8>) -> Execution {
    Execution::new(Output {
        media_type: "application/json".to_owned(),
        bytes: Bytes::from(bytes),
    })
}
