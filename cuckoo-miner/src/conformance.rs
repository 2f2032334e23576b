//! Is an executor one that coordinators can rely on? [`Conformance`] finds out and says what to do.

mod bench;
mod inputs;
mod invalid;
mod peer;
mod probe;
mod registry;
mod report;
mod stopping;
mod topic;
mod valid;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    B256, Capability, ModelId, Output, PollRequest, Result, SeededEntropy, SystemClock,
};
use serde_json::{Map, Value, json};

use self::bench::{Bench, Parts, Task};
use self::topic::Topic;
use crate::Executor;
use crate::work::panic_message;

pub use self::report::{Check, Outcome, Report};

/// The most runs beside each other that are tried.
const MOST_SLOTS: usize = 8;

/// Inputs to try one model with, each a JSON object. Like a coordinator, the check adds a `seed` where there is none.
#[derive(Debug, Clone)]
pub struct Samples {
    model: ModelId,
    valid: Vec<Value>,
    invalid: Vec<Value>,
    long: Option<Value>,
    blobs: Vec<Output>,
}

impl Samples {
    /// None yet, for this model.
    pub fn new(model: ModelId) -> Self {
        Self {
            model,
            valid: Vec::new(),
            invalid: Vec::new(),
            long: None,
            blobs: Vec::new(),
        }
    }

    /// An input that must give an output. The first one is also tried with each of its fields made strange.
    #[must_use]
    pub fn valid(mut self, input: Value) -> Self {
        self.valid.push(seeded(input));
        self
    }

    /// An input that must be refused as [`ErrorKind::Invalid`](cuckoo_core::ErrorKind::Invalid). What is no JSON object is
    /// tried without being asked for.
    #[must_use]
    pub fn invalid(mut self, input: Value) -> Self {
        self.invalid.push(seeded(input));
        self
    }

    /// A valid input that takes a second or more, to cancel; the first valid one when absent.
    #[must_use]
    pub fn long(mut self, input: Value) -> Self {
        self.long = Some(seeded(input));
        self
    }

    /// Bytes that inputs name (`blob:0x…`, see [`BlobId`](cuckoo_core::BlobId)).
    #[must_use]
    pub fn blob(mut self, blob: Output) -> Self {
        self.blobs.push(blob);
        self
    }
}

fn seeded(mut input: Value) -> Value {
    if let Some(fields) = input.as_object_mut() {
        fields.entry("seed").or_insert_with(|| json!(7));
    }
    input
}

/// Checks an executor in a real [`Miner`](crate::Miner), against a coordinator in this process.
///
/// It needs no chain, no network and no test framework: it returns a [`Report`], which prints as a table. A [`Check`] says what
/// it means and what to do where it fails. How fast the executor is, and whether it leaks, is not judged.
///
/// ```
/// # use cuckoo_core::{Assignment, Capability, Error, ModelId, Output, Result, Usage, payload_hash};
/// # use cuckoo_miner::{Execution, Executor, TaskContext};
/// # #[derive(Debug)]
/// # struct Shout;
/// # #[derive(serde::Deserialize)]
/// # #[serde(deny_unknown_fields)]
/// # struct Input { text: String, #[allow(dead_code)] seed: u64 }
/// # #[async_trait::async_trait]
/// # impl Executor for Shout {
/// #     fn capabilities(&self) -> Vec<Capability> {
/// #         let hash = payload_hash(b"shout, version 1");
/// #         vec![Capability::new("shout".parse().expect("a name"), hash, "rust-1")]
/// #     }
/// #     async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
/// #         let input: Input = serde_json::from_str(&task.input)
/// #             .map_err(|source| Error::invalid("give a `text`").with_source(source))?;
/// #         let usage = Usage { output_units: 1, ..Usage::default() };
/// #         Ok(Execution::new(Output::new("text/plain", input.text.to_uppercase())).with_usage(usage))
/// #     }
/// # }
/// use std::sync::Arc;
///
/// use cuckoo_miner::conformance::{Conformance, Samples};
/// use serde_json::json;
///
/// let samples = Samples::new("shout".parse()?)
///     .valid(json!({ "text": "hello" }))
///     .invalid(json!({ "text": 7 }));
/// let report = Conformance::new(Arc::new(Shout)).samples(samples).run_blocking();
/// println!("{report}");
/// assert!(report.passed());
/// # Ok::<(), cuckoo_core::Error>(())
/// ```
///
/// An input that overflows the stack ends the process, as it would a miner's; so does an executor that calls `abort`.
#[derive(Debug, Clone)]
pub struct Conformance {
    executor: Arc<dyn Executor>,
    samples: Vec<Samples>,
    patience: Duration,
}

impl Conformance {
    /// Checks of `executor`, which needs [`samples`](Self::samples) for each of its models.
    pub fn new(executor: Arc<dyn Executor>) -> Self {
        Self {
            executor,
            samples: Vec::new(),
            patience: Duration::from_secs(60),
        }
    }

    /// Tries one model with these.
    #[must_use]
    pub fn samples(mut self, samples: Samples) -> Self {
        self.samples.push(samples);
        self
    }

    /// How long a run may take before it counts as hung: a minute unless set. It is the bound of every wait, not a measure.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// As [`run`](Self::run), on threads of its own: for a test that is an ordinary function.
    pub fn run_blocking(self) -> Report {
        let checks = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                // One more than can be blocked by an executor that never awaits while others are looked at.
                .worker_threads(MOST_SLOTS + 1)
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => {
                    let report = runtime.block_on(self.run());
                    // A run that cannot be stopped is no reason to wait for it.
                    runtime.shutdown_background();
                    report
                }
                Err(error) => failed(format!("no threads to run it on: {error}")),
            }
        });
        checks
            .join()
            .unwrap_or_else(|panic| failed(panic_message(&*panic)))
    }

    /// Makes every check. Needs a Tokio runtime of several threads, since an executor may block one.
    pub async fn run(self) -> Report {
        let mut report = Report::new();
        if let Err(error) = self.check(&mut report).await {
            // A miner does not start with such capabilities.
            report.fail(Topic::Capabilities, error.to_string());
        }
        report
    }

    async fn check(&self, report: &mut Report) -> Result<()> {
        let Some(capabilities) = self.capabilities(report) else {
            return Ok(());
        };
        let subjects = self.subjects(&capabilities, report);
        let parts = Parts {
            executor: Arc::clone(&self.executor),
            capabilities: capabilities.clone(),
            blobs: subjects
                .iter()
                .flat_map(|subject| subject.blobs.clone())
                .collect(),
            patience: self.patience,
            clock: Arc::new(SystemClock),
            // Keys of one check; a check of the same executor is the same check.
            entropy: Arc::new(SeededEntropy::from_number(1)),
        };
        let mut bench = Bench::start(parts.clone(), 1).await?;
        if subjects.is_empty() {
            return Ok(());
        }
        report.reached(Topic::Panics);
        let tasks: Vec<_> = subjects.iter().flat_map(Subject::tasks).collect();
        let outputs = valid::alone(&mut bench, &tasks, report).await?;
        for subject in &subjects {
            invalid::refusals(&mut bench, subject, report).await?;
            invalid::fields(&mut bench, subject, report).await?;
            stopping::deadline(&mut bench, subject, report).await?;
            stopping::cancellation(&mut bench, subject, report).await?;
        }
        if outputs.is_empty() {
            return Ok(());
        }
        valid::again(&mut bench, &outputs, report).await?;
        let slots = (2 * outputs.len()).min(MOST_SLOTS) as u32;
        let mut bench = Bench::start(parts, slots).await?;
        valid::together(&mut bench, &outputs, report).await?;
        if self
            .capabilities(report)
            .is_some_and(|now| now != capabilities)
        {
            report.fail(Topic::Capabilities, "they changed while tasks ran");
        }
        Ok(())
    }

    /// What is offered, where it can be.
    fn capabilities(&self, report: &mut Report) -> Option<Vec<Capability>> {
        const TOPIC: Topic = Topic::Capabilities;
        let read = || catch_unwind(AssertUnwindSafe(|| self.executor.capabilities()));
        let (capabilities, again) = match (read(), read()) {
            (Ok(first), Ok(second)) => (first, second),
            (Err(panic), _) | (_, Err(panic)) => {
                let found = format!("`capabilities` panics: {}", panic_message(&*panic));
                report.fail(TOPIC, found);
                return None;
            }
        };
        report.reached(TOPIC);
        if capabilities != again {
            report.fail(TOPIC, "the second call gives others than the first");
        }
        for offer in &capabilities {
            let model = &offer.model;
            if offer.model_hash == B256::ZERO {
                report.fail(
                    TOPIC,
                    format!("{model}: its hash is zero, which names no files"),
                );
            }
            if !offer.kernels.bytes().all(|byte| byte.is_ascii_graphic()) {
                let found =
                    format!("{model}: its kernels' name has other characters than printable ASCII");
                report.fail(TOPIC, found);
            }
            if offer.max_input_bytes < 64 {
                let found = format!(
                    "{model}: it takes inputs of {} bytes at most, less than any needs",
                    offer.max_input_bytes
                );
                report.fail(TOPIC, found);
            }
        }
        if capabilities.len() > PollRequest::MAX_CAPABILITIES {
            report.fail(
                TOPIC,
                format!("{} models are more than a miner offers", capabilities.len()),
            );
        }
        Some(capabilities)
    }

    /// The models that there are samples for.
    fn subjects(&self, capabilities: &[Capability], report: &mut Report) -> Vec<Subject> {
        const TOPIC: Topic = Topic::Samples;
        report.reached(TOPIC);
        let mut subjects = Vec::new();
        for samples in &self.samples {
            let model = &samples.model;
            let offer = capabilities.iter().find(|offer| offer.model == *model);
            let Some(offer) = offer else {
                report.fail(TOPIC, format!("{model}: the executor does not offer it"));
                continue;
            };
            let valid: Vec<_> = samples
                .valid
                .iter()
                .filter_map(|input| input.as_object().cloned())
                .collect();
            if valid.len() < samples.valid.len() {
                report.fail(TOPIC, format!("{model}: a valid input is no JSON object"));
            }
            if valid.is_empty() {
                report.fail(TOPIC, format!("{model}: there is no valid input"));
                continue;
            }
            subjects.push(Subject {
                capability: offer.clone(),
                valid,
                invalid: samples.invalid.clone(),
                long: samples.long.clone(),
                blobs: samples.blobs.clone(),
            });
        }
        for offer in capabilities {
            if !self
                .samples
                .iter()
                .any(|samples| samples.model == offer.model)
            {
                report.fail(TOPIC, format!("{}: there are none", offer.model));
            }
        }
        subjects
    }
}

/// A report of a check that could not begin.
fn failed(why: String) -> Report {
    let mut report = Report::new();
    report.fail(Topic::Capabilities, why);
    report
}

/// A model, and what to try it with: one valid input at least.
#[derive(Debug)]
struct Subject {
    capability: Capability,
    valid: Vec<Map<String, Value>>,
    invalid: Vec<Value>,
    long: Option<Value>,
    blobs: Vec<Output>,
}

impl Subject {
    /// A task of this model.
    fn task(&self, what: &str, input: String) -> Task {
        Task {
            label: format!("{}, {what}", self.capability.model),
            capability: self.capability.clone(),
            input,
        }
    }

    /// A task for each valid input.
    fn tasks(&self) -> Vec<Task> {
        let numbered = self.valid.iter().enumerate();
        let task = |(number, input): (usize, &Map<String, Value>)| {
            let text = Value::Object(input.clone()).to_string();
            self.task(&format!("valid sample {}", number + 1), text)
        };
        numbered.map(task).collect()
    }

    /// The first valid input.
    fn first_text(&self) -> String {
        let first = self.valid.first().cloned().unwrap_or_default();
        Value::Object(first).to_string()
    }

    /// The longest input, in bytes.
    fn limit(&self) -> usize {
        usize::try_from(self.capability.max_input_bytes).unwrap_or(usize::MAX)
    }
}
