//! Recordings to transcripts as an executor.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use cuckoo_core::{
    Assignment, B256, BlobId, Capability, Clock, Error, ModelId, Output, Result, SystemClock,
    TranscriptionInput, Usage, Wei,
};
use hound::{SampleFormat, WavSpec, WavWriter};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::wav::Wav;
use super::windows::Stand;
use super::{Recording, SpeechModel};
use crate::limits;
use crate::model::{error, memory};
use crate::portable::sin_cos_turns;
use crate::{Execution, Executor, TaskContext, Trial};

/// How much a [`SpeechExecutor`] takes, and does at once. None of it changes a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpeechLimits {
    /// Seconds of a recording (1 to 86400); a longer one goes back for another miner. Coordinators have a limit of their own on
    /// the bytes of a file.
    pub max_seconds: u32,
    /// Recordings written down at once (1 to 64), each on all processors; others wait.
    pub recordings: usize,
}

impl Default for SpeechLimits {
    fn default() -> Self {
        Self {
            max_seconds: 1800,
            recordings: 1,
        }
    }
}

impl SpeechLimits {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cuckoo_core::ErrorKind::Invalid) naming the field and its range.
    pub fn validate(&self) -> Result<()> {
        limits::check(&[
            ("max_seconds", u64::from(self.max_seconds), 86_400),
            ("recordings", self.recordings as u64, 64),
        ])
    }
}

/// Writes down recordings with Whisper on this machine.
///
/// Input and output are what `docs/tasks.md` says of transcription: [`TranscriptionInput`], which names a WAV file among the
/// task's blobs, and [`Transcript`](cuckoo_core::Transcript). Usage counts seconds of the recording, rounded up, and tokens
/// made. Equal recordings give equal bytes on all miners whose kernels have the same name. Clones share the model.
#[derive(Debug, Clone)]
pub struct SpeechExecutor {
    model: Arc<SpeechModel>,
    name: ModelId,
    min_price: Wei,
    limits: SpeechLimits,
    clock: Arc<dyn Clock>,
    runs: Arc<Semaphore>,
}

impl SpeechExecutor {
    /// Loads the model in `folder` (the layout of Hugging Face) and offers it as `name`. Blocks while it reads.
    ///
    /// [`SpeechLimits::default`]; free of charge.
    ///
    /// # Errors
    /// `NotFound` when the folder or a file in it is missing, `Invalid` when one is damaged or asks for something that is
    /// not done, `Unavailable` when the model is larger than the machine's free memory.
    pub fn load(folder: impl AsRef<Path>, name: ModelId) -> Result<Self> {
        let model = SpeechModel::load(folder.as_ref())?;
        Ok(Self::new(Arc::new(model), name))
    }

    /// Offers a loaded model as `name`, with the limits of [`load`](Self::load).
    pub fn new(model: Arc<SpeechModel>, name: ModelId) -> Self {
        let limits = SpeechLimits::default();
        Self {
            model,
            name,
            min_price: Wei::ZERO,
            limits,
            clock: Arc::new(SystemClock),
            runs: Arc::new(Semaphore::new(limits.recordings)),
        }
    }

    /// Asks at least `price` wei for a task.
    #[must_use]
    pub fn with_min_price(mut self, price: Wei) -> Self {
        self.min_price = price;
        self
    }

    /// Takes and does so much.
    ///
    /// # Errors
    /// As [`SpeechLimits::validate`].
    pub fn with_limits(mut self, limits: SpeechLimits) -> Result<Self> {
        limits.validate()?;
        self.limits = limits;
        self.runs = Arc::new(Semaphore::new(limits.recordings));
        Ok(self)
    }

    /// Tells deadlines by this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The loaded model.
    pub fn model(&self) -> &SpeechModel {
        &self.model
    }

    /// Bytes of memory that a file takes while it is written down, once its length is one that is taken.
    fn needs(&self, wav: &[u8]) -> Result<u64> {
        let wav = Wav::open(wav, self.limits.max_seconds)?;
        let run = self.model.config.run_memory(wav.samples());
        Ok(run.max(wav.memory()))
    }
}

#[async_trait]
impl Executor for SpeechExecutor {
    fn capabilities(&self) -> Vec<Capability> {
        let hash = B256::from(self.model.model_hash());
        vec![Capability {
            min_price: self.min_price,
            ..Capability::new(self.name.clone(), hash, self.model.kernels())
        }]
    }

    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let input = TranscriptionInput::read(&task.input)?;
        self.model.check(&input)?;
        let wav = context.blob(input.audio).await?.bytes;
        // What is refused for good is so before the wait for a place, after which it would be held against this miner.
        let needed = self.needs(&wav)?;
        memory::fits("this recording", needed)?;
        let permit = tokio::select! {
            permit = Arc::clone(&self.runs).acquire_owned() => permit,
            () = context.cancelled() => return Err(Error::cancelled("cancelled before the first window")),
        };
        let permit = permit.map_err(|_| Error::internal("the executor's runs were closed"))?;
        memory::admit("this recording", needed)?;
        // Dropping this future stops the thread after its current token.
        let _guard = CancelOnDrop(context.clone());
        let (model, clock) = (Arc::clone(&self.model), Arc::clone(&self.clock));
        let max_seconds = self.limits.max_seconds;
        let run = tokio::task::spawn_blocking(move || -> Result<Execution> {
            let _permit = permit;
            let recording = Recording::from_wav(&wav, max_seconds)?;
            drop(wav);
            let watch = |stand: Stand| report(&context, &*clock, stand);
            let (transcript, made) = model.watched(&recording, &input, &watch)?;
            let usage = Usage {
                input_units: recording.millis().div_ceil(1000),
                output_units: made,
                ..Usage::default()
            };
            Ok(Execution::new(transcript.output()?).with_usage(usage))
        });
        run.await.map_err(|join| {
            Error::execution("the model stopped in the middle of a recording").with_source(join)
        })?
    }

    fn memory(&self) -> u64 {
        self.model.memory()
    }

    /// Unknown: the input names the recording, and does not say how long it is.
    fn work(&self, _: &Assignment) -> Option<f64> {
        None
    }

    fn concurrency(&self) -> usize {
        self.limits.recordings
    }

    fn trials(&self, _: &ModelId) -> Vec<Trial> {
        let Ok(wav) = tone() else { return Vec::new() };
        let input = format!(r#"{{"audio":"{}","seed":1}}"#, BlobId::of(&wav));
        let trial = Trial::new("a recording of 1 s", input);
        vec![trial.with_blob(Output::new("audio/wav", wav))]
    }
}

/// Tells how far a run is, and whether it should go on.
fn report(context: &TaskContext, clock: &dyn Clock, stand: Stand) -> error::Result<()> {
    let thousandths = stand.done * 1000 / stand.frames.max(1);
    context.progress(u16::try_from(thousandths).unwrap_or(1000).min(999));
    if context.is_cancelled() {
        return Err(error::Error::Cancelled {
            step: stand.done / 100,
            steps: stand.frames.div_ceil(100),
        });
    }
    let made = usize::try_from(stand.made).unwrap_or(usize::MAX);
    match clock.now() >= context.deadline() {
        true => Err(error::Error::Late { made }),
        false => Ok(()),
    }
}

/// A second of a tone as a WAV file: something to hear for a first task.
fn tone() -> hound::Result<Vec<u8>> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: Recording::RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut file, spec)?;
    for i in 0..Recording::RATE {
        let turns = f64::from(i % 50) / 50.0;
        writer.write_sample((sin_cos_turns(turns).0 * 8_000.0) as i16)?;
    }
    writer.finalize()?;
    Ok(file.into_inner())
}

struct CancelOnDrop(TaskContext);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded() {
        let good = SpeechLimits::default();
        good.validate().unwrap();
        for (limits, named) in [
            (
                SpeechLimits {
                    max_seconds: 0,
                    ..good
                },
                "max_seconds",
            ),
            (
                SpeechLimits {
                    max_seconds: 86_401,
                    ..good
                },
                "max_seconds",
            ),
            (
                SpeechLimits {
                    recordings: 65,
                    ..good
                },
                "recordings",
            ),
        ] {
            let error = limits.validate().unwrap_err();
            assert!(error.message().contains(named), "{error}");
        }
    }

    #[test]
    fn the_first_task_is_a_second_of_sound() {
        let recording = Recording::from_wav(&tone().unwrap(), 1).unwrap();
        assert_eq!(recording.millis(), 1_000);
        assert!(recording.samples().iter().any(|x| *x > 0.2));
    }
}
