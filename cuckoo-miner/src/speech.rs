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
//! A recording is heard in windows of half a minute, the next one from where the last one was written down to the end of a
//! sentence; this is how transformers goes about a long recording, with its defaults: no window is told what was said before, and
//! none is tried again or passed over.
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

use std::path::Path;
use std::sync::Arc;

use cuckoo_core::{Result, Transcript, TranscriptionInput};

use crate::kernels::{CpuKernels, Kernels};
use crate::model::cache::{Cache, Pool};
use crate::model::error::{self, Error};
use crate::model::folder::Folder;
use crate::model::memory;
use crate::model::weights::Weights;
use crate::noise;
use config::{ARCHITECTURE, Config};
use decoder::{Decoder, Heard};
use encoder::Encoder;
pub use executor::{SpeechExecutor, SpeechLimits};
use mel::{FRAME_MILLIS, HOP, Mel};
pub use recording::Recording;
use rules::Rules;
use script::Script;
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

/// How far a transcription is, as whoever watches it is told.
#[derive(Debug, Clone, Copy)]
struct Stand {
    /// Frames that are written down, and all of them.
    done: usize,
    frames: usize,
    /// Tokens so far.
    made: u64,
}

/// Asked between layers and between tokens; an error ends the transcription.
type Watch<'a> = &'a dyn Fn(Stand) -> error::Result<()>;

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
        let mut folder = Folder::open(folder)?;
        Ok(Self::read(&mut folder, kernels, memory::available())?)
    }

    /// Reads a folder into at most `memory` bytes, where that is known.
    fn read(
        folder: &mut Folder,
        kernels: Arc<dyn Kernels>,
        memory: Option<u64>,
    ) -> error::Result<Self> {
        let config = Config::load(folder)?;
        let mut settings = Rules::open(folder)?;
        let vocabulary = Vocabulary::load(folder, config.vocabulary, &mut settings)?;
        let rules = Rules::read(settings, &vocabulary, config.vocabulary, config.targets)?;
        let weights = Weights::open(folder, "", "model", kernels.device())?;
        weights.fit(folder, memory)?;
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

    /// The transcript, and how many tokens were made for it.
    fn watched(
        &self,
        recording: &Recording,
        input: &TranscriptionInput,
        watch: Watch<'_>,
    ) -> error::Result<(Transcript, u64)> {
        let features = self.features(recording);
        // What follows on a short recording is silence, which is not written down.
        let frames = match recording.samples().len() < self.config.window() {
            true => recording.samples().len().div_ceil(HOP),
            false => features.len() / self.config.bands,
        };
        let stand = |done, made| Stand { done, frames, made };
        let mut heard = self.hear(&features, 0, &|| watch(stand(0, 0)))?;
        let code = input.language.as_ref().or(self.rules.language.as_ref());
        let language = match code {
            Some(code) => self.vocabulary.language(code)?,
            None => self.detected(&heard)?,
        };
        let begin = self.begin(input, language)?;
        let mut script = Script::new(recording.millis());
        let (mut at, mut made) = (0, 0);
        loop {
            let left = (frames - at).min(self.config.window() / HOP);
            let tokens = self.write(&heard, &begin, input, &mut made, &|made| {
                watch(stand(at, made))
            })?;
            let (parts, next) = segments::split(&tokens, self.vocabulary.first_time, left);
            for part in parts {
                let text = self.vocabulary.text(&part.tokens)?;
                script.add(at, part, text);
            }
            at += next.max(1);
            if at >= frames {
                break;
            }
            // There is room for one.
            drop(heard);
            heard = self.hear(&features, at, &|| watch(stand(at, made)))?;
        }
        let code = language.map_or("en", |token| self.vocabulary.code(token));
        let transcript = script.finish(code, |tokens| self.vocabulary.text(tokens))?;
        Ok((transcript, made))
    }

    /// The tokens that every window of a task begins with.
    fn begin(&self, input: &TranscriptionInput, language: Option<u32>) -> error::Result<Vec<u32>> {
        let mut begin = match &input.prompt {
            // As much as leaves half of the room to what is said.
            Some(prompt) => self
                .vocabulary
                .preceding(prompt, self.config.targets / 2 - 1)?,
            None => Vec::new(),
        };
        begin.extend(self.vocabulary.begin(language, input.translate)?);
        Ok(begin)
    }

    /// What is said in a window: the tokens after `begin`, up to the end. `made` counts on.
    fn write(
        &self,
        heard: &Heard,
        begin: &[u32],
        input: &TranscriptionInput,
        made: &mut u64,
        watch: &dyn Fn(u64) -> error::Result<()>,
    ) -> error::Result<Vec<u32>> {
        let targets = self.config.targets;
        let most = (self.rules.most + begin.len().min(targets / 2 - 1)).min(targets);
        let temperature = input.temperature.unwrap_or_default();
        // Coordinators add one to every input.
        let seed = input.seed.unwrap_or_default();
        let mut cache = self.blank(targets)?;
        let mut next = begin.to_vec();
        let mut tokens = Vec::new();
        while begin.len() + tokens.len() < most {
            watch(*made)?;
            let scores = self
                .decoder
                .forward(&*self.kernels, &next, &mut cache, heard, 1)?;
            let scores = scores.first().map(Vec::as_slice).unwrap_or_default();
            let draw = || noise::uniform(seed, *made);
            let token = self.rules.choose(scores, &tokens, temperature, draw)?;
            *made += 1;
            if token == self.vocabulary.end {
                break;
            }
            tokens.push(token);
            next = vec![token];
        }
        Ok(tokens)
    }

    /// The likeliest of the languages' tokens; `None` for a model of English.
    fn detected(&self, heard: &Heard) -> error::Result<Option<u32>> {
        let languages = self.vocabulary.language_tokens();
        if languages.is_empty() {
            return Ok(None);
        }
        let start = [self.vocabulary.start];
        let mut cache = self.blank(start.len())?;
        let scores = self
            .decoder
            .forward(&*self.kernels, &start, &mut cache, heard, 1)?;
        let scores = scores.first().map(Vec::as_slice).unwrap_or_default();
        let mut best: Option<(u32, f32)> = None;
        for token in languages {
            let score = scores.get(token as usize).copied().unwrap_or(f32::NAN);
            if !score.is_finite() {
                return Err(Error::NotFinite { token: 1 });
            }
            if best.is_none_or(|(_, most)| score > most) {
                best = Some((token, score));
            }
        }
        Ok(best.map(|(token, _)| token))
    }

    /// What the decoder looks at of the window that begins at frame `at`.
    fn hear(
        &self,
        features: &[f32],
        at: usize,
        goes_on: &dyn Fn() -> error::Result<()>,
    ) -> error::Result<Heard> {
        let window = self.window(features, at);
        let encoded = self.encoder.forward(&*self.kernels, window, goes_on)?;
        self.decoder.hear(&*self.kernels, &encoded)
    }

    /// The frames of a window from `at` on, zero where there are no more.
    fn window(&self, features: &[f32], at: usize) -> Vec<f32> {
        let bands = self.config.bands;
        let size = self.config.window() / HOP * bands;
        let rest = features.get(at * bands..).unwrap_or_default();
        let mut window = rest[..size.min(rest.len())].to_vec();
        window.resize(size, 0.0);
        window
    }

    /// Room for so many tokens of a window.
    fn blank(&self, tokens: usize) -> error::Result<Cache> {
        let size = self.decoder.page_size();
        let mut pool = Pool::new(size, Cache::pages_for(tokens), self.kernels.device());
        let mut cache = Cache::default();
        cache.grow(&mut pool, tokens)?;
        Ok(cache)
    }
}

#[cfg(test)]
mod tests;
