//! The windows of a recording, heard and written down one after another.
//!
//! Each is half a minute; the next one begins where the last one was written down to the end of a sentence. This is how
//! transformers goes about a long recording, with its defaults: no window is told what was said before, and none is tried again or
//! passed over.

use cuckoo_core::{Transcript, TranscriptionInput};

use super::decoder::Heard;
use super::mel::HOP;
use super::script::Script;
use super::{Recording, SpeechModel, segments};
use crate::model::cache::{Cache, Pool};
use crate::model::error::{Error, Result};
use crate::noise;

/// How far a transcription is, as whoever watches it is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stand {
    /// Frames that are written down, and all of them.
    pub(super) done: usize,
    pub(super) frames: usize,
    /// Tokens so far.
    pub(super) made: u64,
}

/// Asked between layers and between tokens; an error ends the transcription.
type Watch<'a> = &'a dyn Fn(Stand) -> Result<()>;

impl SpeechModel {
    /// The transcript, and how many tokens were made for it.
    pub(super) fn watched(
        &self,
        recording: &Recording,
        input: &TranscriptionInput,
        watch: Watch<'_>,
    ) -> Result<(Transcript, u64)> {
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
    fn begin(&self, input: &TranscriptionInput, language: Option<u32>) -> Result<Vec<u32>> {
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
        watch: &dyn Fn(u64) -> Result<()>,
    ) -> Result<Vec<u32>> {
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
    pub(super) fn detected(&self, heard: &Heard) -> Result<Option<u32>> {
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
    pub(super) fn hear(
        &self,
        features: &[f32],
        at: usize,
        goes_on: &dyn Fn() -> Result<()>,
    ) -> Result<Heard> {
        let window = self.window(features, at);
        let encoded = self.encoder.forward(&*self.kernels, window, goes_on)?;
        self.decoder.hear(&*self.kernels, &encoded)
    }

    /// The frames of a window from `at` on, zero where there are no more.
    pub(super) fn window(&self, features: &[f32], at: usize) -> Vec<f32> {
        let bands = self.config.bands;
        let size = self.config.window() / HOP * bands;
        let rest = features.get(at * bands..).unwrap_or_default();
        let mut window = rest[..size.min(rest.len())].to_vec();
        window.resize(size, 0.0);
        window
    }

    /// Room for so many tokens of a window.
    pub(super) fn blank(&self, tokens: usize) -> Result<Cache> {
        let size = self.decoder.page_size();
        let mut pool = Pool::new(size, Cache::pages_for(tokens), self.kernels.device());
        let mut cache = Cache::default();
        cache.grow(&mut pool, tokens)?;
        Ok(cache)
    }
}
