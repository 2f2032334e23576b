//! Speech to text: OpenAI's Whisper, of every size, in the folder layout of Hugging Face.
//!
//! ```text
//! WAV -> recording -> mel -> encoder -> decoder <-> rules
//!                      ^                   |
//!                      +--- next window <- segments -> transcript
//! ```
//!
//! A folder holds `config.json`, `generation_config.json`, `preprocessor_config.json`, safetensors weights (F32, F16 or BF16;
//! computed in F32) and `tokenizer.json`. What a configuration asks for and this model does not do is an error that names the
//! setting.
//!
//! A recording is heard in windows of half a minute; `windows.rs` says where each begins.
//!
//! Everything on the way from the file to the text is arithmetic of our own that rounds alike on all processors, so equal
//! recordings give equal bytes on all miners of one name of kernels.

mod config;
mod decoder;
mod encoder;
mod executor;
mod language;
mod layers;
mod mel;
mod recording;
mod resample;
mod rules;
mod script;
mod segments;
mod vocabulary;
mod wav;
mod windows;

use std::path::Path;
use std::sync::Arc;

use cuckoo_core::{Result, Transcript, TranscriptionInput};

use crate::kernels::{CpuKernels, Kernels};
use crate::model::error::{self, Error};
use crate::model::folder::Folder;
use crate::model::weights::Weights;
use config::{ARCHITECTURE, Config};
use decoder::Decoder;
use encoder::Encoder;
pub use executor::{SpeechExecutor, SpeechLimits};
use mel::{FRAME_MILLIS, HOP, Mel};
pub use recording::Recording;
use rules::Rules;
use vocabulary::Vocabulary;

/// The arithmetic of all but the kernels: of recordings, of what is heard, and of the choice of tokens.
const NAME: &str = "speech-1";

/// Whether models of this name, as `architectures` of a `config.json` has it, are run.
pub(crate) fn is_known(architecture: &str) -> bool {
    architecture == ARCHITECTURE
}

/// A loaded Whisper. Recordings share it; each call computes on the calling thread and the threads of the current rayon pool, so
/// call it from a thread that may block.
#[derive(Debug)]
pub struct SpeechModel {
    kernels: Arc<dyn Kernels>,
    name: String,
    config: Config,
    mel: Mel,
    encoder: Encoder,
    decoder: Decoder,
    vocabulary: Vocabulary,
    rules: Rules,
    hash: [u8; 32],
    memory: u64,
}

impl SpeechModel {
    /// Reads a model's folder, to run on this machine's processor.
    ///
    /// # Errors
    /// [`NotFound`](cuckoo_core::ErrorKind::NotFound) when the folder or a file in it is missing,
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when a file is damaged, does not fit the others, or asks for something
    /// that is not done, [`Unavailable`](cuckoo_core::ErrorKind::Unavailable) when the weights are more than the machine's
    /// free memory; the message names the file and the setting or tensor.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::load_with(folder, Arc::new(CpuKernels::new()))
    }

    /// As [`SpeechModel::load`], to run on the given kernels.
    ///
    /// # Errors
    /// As [`SpeechModel::load`].
    pub fn load_with(folder: &Path, kernels: Arc<dyn Kernels>) -> Result<Self> {
        Ok(Self::read(&mut Folder::open(folder)?, kernels)?)
    }

    fn read(folder: &mut Folder, kernels: Arc<dyn Kernels>) -> error::Result<Self> {
        let config = Config::load(folder)?;
        let mut settings = Rules::open(folder)?;
        let vocabulary = Vocabulary::load(folder, config.vocabulary, &mut settings)?;
        let rules = Rules::read(settings, &vocabulary, config.vocabulary, config.targets)?;
        let weights = Weights::open(folder, "", "model", kernels.device())?;
        weights.fit(folder)?;
        let model = weights.part("model");
        let encoder = Encoder::load(&model.at("encoder"), &config, &*kernels)?;
        let decoder = Decoder::load(&model.at("decoder"), &config, &*kernels)?;
        // The embeddings once more.
        weights.finish(&["proj_out.weight"])?;
        Ok(Self {
            name: format!("{}-{NAME}", kernels.text_name()),
            mel: Mel::new(config.bands),
            encoder,
            decoder,
            vocabulary,
            rules,
            config,
            hash: folder.hash(),
            memory: folder.memory,
            kernels,
        })
    }

    /// Names exactly which model this is: a SHA-256 over the names, sizes and contents of the files that were read.
    pub fn model_hash(&self) -> [u8; 32] {
        self.hash
    }

    /// How much memory its weights take, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Names the arithmetic; outputs of miners with equal names are compared exactly. See [`Kernels::text_name`].
    pub fn kernels(&self) -> &str {
        &self.name
    }

    /// Languages that it knows, by the codes that [`TranscriptionInput::language`] has.
    pub fn languages(&self) -> Vec<&str> {
        self.vocabulary.languages()
    }

    /// The length of a window in milliseconds.
    pub fn window_millis(&self) -> u64 {
        (self.config.window() / HOP) as u64 * FRAME_MILLIS
    }

    /// What the model hears of a recording: for each 10 ms the strength of each band of frequencies, `[frames, bands]`. A
    /// recording shorter than a window has silence after it.
    pub fn features(&self, recording: &Recording) -> Vec<f32> {
        let samples = recording.samples();
        let window = self.config.window();
        match samples.len() < window {
            true => {
                let mut samples = samples.to_vec();
                samples.resize(window, 0.0);
                self.mel.features(&samples)
            }
            false => self.mel.features(samples),
        }
    }

    /// What the encoder makes of the first window, `[moments, width]`.
    ///
    /// # Errors
    /// [`Execution`](cuckoo_core::ErrorKind::Execution) when a layer fails.
    pub fn encode(&self, recording: &Recording) -> Result<Vec<f32>> {
        let window = self.window(&self.features(recording), 0);
        let encoded = self.encoder.forward(&*self.kernels, window, &|| Ok(()))?;
        let numbers = encoded.flatten_all().and_then(|flat| flat.to_vec1());
        Ok(numbers.map_err(Error::from)?)
    }

    /// The scores of the next token after each of `tokens`, `[tokens, vocabulary]`, in the first window.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when there are none, some are unknown, or there are more than the model has
    /// positions for; [`Execution`](cuckoo_core::ErrorKind::Execution) when a layer fails.
    pub fn scores(&self, recording: &Recording, tokens: &[u32]) -> Result<Vec<Vec<f32>>> {
        let known = |token: &u32| (*token as usize) < self.config.vocabulary;
        if tokens.is_empty() || !tokens.iter().all(known) || tokens.len() > self.config.targets {
            let problem = format!(
                "are none, unknown, or too many: the model has {} and room for {}",
                self.config.vocabulary, self.config.targets
            );
            return Err(Error::request("tokens", problem).into());
        }
        let heard = self.hear(&self.features(recording), 0, &|| Ok(()))?;
        let (kernels, wanted) = (&*self.kernels, tokens.len());
        let mut cache = self.blank(wanted)?;
        let scores = self
            .decoder
            .forward(kernels, tokens, &mut cache, &heard, wanted);
        Ok(scores?)
    }

    /// The language of the first window, by the likeliest of their tokens; that of a model of English is English.
    ///
    /// # Errors
    /// [`Execution`](cuckoo_core::ErrorKind::Execution) when a layer fails, or gives numbers that are not finite.
    pub fn detect(&self, recording: &Recording) -> Result<String> {
        let heard = self.hear(&self.features(recording), 0, &|| Ok(()))?;
        let code = match self.detected(&heard)? {
            Some(token) => self.vocabulary.code(token),
            None => "en",
        };
        Ok(code.to_owned())
    }

    /// Whether the input asks for what the model does.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) that names the field.
    pub fn check(&self, input: &TranscriptionInput) -> Result<()> {
        let language = input.language.as_deref();
        language.map_or(Ok(None), |code| self.vocabulary.language(code))?;
        self.vocabulary.begin(None, input.translate)?;
        if let Some(prompt) = &input.prompt {
            self.vocabulary.preceding(prompt, usize::MAX)?;
        }
        Ok(())
    }

    /// Writes down what is said. The input's `audio` is not looked at.
    ///
    /// # Errors
    /// As [`SpeechModel::check`]; [`Execution`](cuckoo_core::ErrorKind::Execution) when a layer fails, or gives numbers that are
    /// not finite.
    pub fn transcribe(
        &self,
        recording: &Recording,
        input: &TranscriptionInput,
    ) -> Result<Transcript> {
        let (transcript, _) = self.watched(recording, input, &|_| Ok(()))?;
        Ok(transcript)
    }
}

#[cfg(test)]
mod tests;
