//! A text in the making: from scores to tokens, and from tokens to lines of output.

use cuckoo_core::{FinishReason, Result, TextInput, Usage};

use super::answer::Answer;
use super::grammar::Grammar;
use super::sampler::{Choice, History, Sampling};
use super::stop::Stops;
use super::tokenizer::TextTokenizer;
use crate::model::error::{self, Error};
use crate::{Execution, TaskContext};

/// Writes one text from an engine's scores: chooses each token, shows what it says, and knows when the text ends.
///
/// It does all that [`TextExecutor`](crate::TextExecutor) does beside the scores, with the same code, so equal scores give
/// equal bytes: the input's temperature, `top_p`, penalties, seed, `format`, `logprobs`, `stop` and `max_tokens`, and what the
/// input leaves open as the folder's `generation_config.json` has it.
///
/// ```
/// use std::path::Path;
///
/// use cuckoo_core::{Error, Result, TextInput, TextOutput, Timestamp};
/// use cuckoo_miner::{LanguageModel, TaskContext, TextTokenizer, TokenSampler};
///
/// /// Stands for an engine of your own: the scores of what follows some tokens.
/// fn scores_after(engine: &LanguageModel, tokens: &[u32]) -> Result<Vec<f32>> {
///     let last = engine.scores(tokens)?.pop();
///     last.ok_or_else(|| Error::execution("the engine gave no scores"))
/// }
///
/// let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/stories"));
/// let (engine, tokenizer) = (LanguageModel::load(folder)?, TextTokenizer::load(folder)?);
/// let input = r#"{"messages": [{"role": "user", "content": "What is 17 + 25?"}], "temperature": 0}"#;
///
/// let context = TaskContext::new(Timestamp::from_millis(u64::MAX)); // an executor is given one
/// let mut text = TokenSampler::new(&tokenizer, TextInput::read(input)?)?;
/// let mut scores = scores_after(&engine, text.tokens())?;
/// while let Some(_token) = text.sample(&scores, &context)? {
///     // An engine that remembers what it read goes on from the new token alone.
///     scores = scores_after(&engine, text.tokens())?;
/// }
/// let execution = text.finish(&context)?;
/// assert!(TextOutput::read(&execution.output)?.text.ends_with("17 + 25 = 42."));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct TokenSampler {
    tokenizer: TextTokenizer,
    /// The prompt and what was made.
    tokens: Vec<u32>,
    prompt: usize,
    most: usize,
    least: usize,
    sampling: Sampling,
    history: History,
    /// Has come as far as `tokens`.
    grammar: Option<Grammar>,
    answer: Answer,
    /// Why the text ended.
    end: Option<FinishReason>,
}

impl TokenSampler {
    /// Begins a text with the tokens of an input. The first one with a `format` takes a while: the tokenizer's tokens are made
    /// ready for grammars.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when a field of the input is out of its range, when there are no tokens or
    /// as many as the context or more, when the folder has no template for messages or it does not take these, and when the
    /// format cannot be followed.
    pub fn new(tokenizer: &TextTokenizer, input: TextInput) -> Result<Self> {
        input.check()?;
        Ok(Self::begin(tokenizer.clone(), input)?)
    }

    /// As [`TokenSampler::new`], of an input that was checked.
    pub(super) fn begin(tokenizer: TextTokenizer, input: TextInput) -> error::Result<Self> {
        let tokens = tokenizer.encode(input.prompt())?;
        let format = input.format.as_ref();
        let grammar = format.map(|format| tokenizer.grammar(format)).transpose()?;
        let defaults = &tokenizer.defaults;
        let sampling = Sampling {
            temperature: input.temperature.unwrap_or(defaults.temperature),
            top_k: defaults.top_k,
            top_p: input.top_p.unwrap_or(defaults.top_p),
            min_p: defaults.min_p,
            repetition_penalty: defaults.repetition_penalty,
            frequency_penalty: input.frequency_penalty.unwrap_or_default(),
            presence_penalty: input.presence_penalty.unwrap_or_default(),
            // Coordinators add one to every input.
            seed: input.seed.unwrap_or_default(),
            logprobs: input.logprobs.map(usize::from),
        };
        let room = tokenizer.longest().saturating_sub(tokens.len());
        let asked = input.max_tokens.map(|most| most as usize);
        let most = asked.map_or(room, |asked| asked.min(room)).max(1);
        let expected = if asked.is_some() { most } else { 1 };
        Ok(Self {
            prompt: tokens.len(),
            most,
            // What the last token would be followed by is never asked for.
            least: tokens.len() + expected - 1,
            sampling,
            history: History::new(&tokens),
            grammar,
            answer: Answer::new(Stops::new(input.stop)),
            end: None,
            tokens,
            tokenizer,
        })
    }

    /// The prompt and what was made so far, the token that ended the text included.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Chooses the next token from `scores` (logits) of the one after [`tokens`](Self::tokens), and emits what can be shown of
    /// the text. Gives the token, for the engine to go on from; `None` when the text has come to its end: a token that ends it,
    /// a stop text, the end of its form, or as many tokens as there may be.
    ///
    /// `scores` has a finite number for each token of the [vocabulary](TextTokenizer::vocabulary), in their order; what
    /// engines put behind these is passed over. Progress is reported as the share of the tokens that there may be.
    ///
    /// # Errors
    /// [`Cancelled`](cuckoo_core::ErrorKind::Cancelled) when the run is to stop, [`Execution`](cuckoo_core::ErrorKind::Execution)
    /// when there are too few scores or one is not finite, [`Invalid`](cuckoo_core::ErrorKind::Invalid) when the model cannot
    /// go on with the input's format.
    pub fn sample(&mut self, scores: &[f32], context: &TaskContext) -> Result<Option<u32>> {
        Ok(self.advance(scores, context)?)
    }

    /// As [`sample`](Self::sample).
    pub(super) fn advance(
        &mut self,
        scores: &[f32],
        context: &TaskContext,
    ) -> error::Result<Option<u32>> {
        if self.end.is_some() {
            return Ok(None);
        }
        if context.is_cancelled() {
            return Err(self.cancelled());
        }
        let size = self.tokenizer.vocabulary();
        let Some(scores) = scores.get(..size) else {
            let given = scores.len();
            return Err(Error::Scores { given, size });
        };
        let allowed = match &mut self.grammar {
            Some(grammar) => match grammar.allowed(&self.tokenizer.ends)? {
                Some(allowed) => Some(allowed),
                None => {
                    self.end = Some(FinishReason::Stop);
                    return Ok(None);
                }
            },
            None => None,
        };
        let choice = self
            .sampling
            .choose(scores, &self.history, allowed.as_ref())?;
        self.end = self.accept(&choice, context)?;
        Ok(self.end.is_none().then_some(choice.token))
    }

    /// Adds the chosen token and shows what can be shown; why the text ends here, if it does.
    fn accept(
        &mut self,
        choice: &Choice,
        context: &TaskContext,
    ) -> error::Result<Option<FinishReason>> {
        self.tokens.push(choice.token);
        self.history.push(choice.token);
        let thousandths = self.made() * 1000 / self.most;
        context.progress(u16::try_from(thousandths).unwrap_or(1000).min(999));
        if self.tokenizer.ends.binary_search(&choice.token).is_ok() {
            return Ok(Some(FinishReason::Stop));
        }
        let complete = match &mut self.grammar {
            Some(grammar) => grammar.advance(choice.token)?,
            None => false,
        };
        let vocabulary = &self.tokenizer.vocabulary;
        let stopped = self
            .answer
            .push(vocabulary, choice, &mut |line| context.emit(line))?;
        Ok(match stopped || complete {
            true => Some(FinishReason::Stop),
            false => (self.made() >= self.most).then_some(FinishReason::Length),
        })
    }

    /// The whole output and what was consumed, in tokens; emits what was held back. Before the text has come to its end it is
    /// one that there was no room to go on with ([`FinishReason::Length`]).
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when the tokenizer cannot decode the last tokens.
    pub fn finish(self, context: &TaskContext) -> Result<Execution> {
        let usage = Usage {
            input_units: self.prompt as u64,
            output_units: self.made() as u64,
            ..Usage::default()
        };
        let reason = self.end.unwrap_or(FinishReason::Length);
        let vocabulary = &self.tokenizer.vocabulary;
        let output = self
            .answer
            .end(vocabulary, reason, &mut |line| context.emit(line))?;
        Ok(Execution::new(output).with_usage(usage))
    }

    /// Tokens there must be room for before it is worth beginning: all it asks for, where it says how many.
    pub(super) fn least(&self) -> usize {
        self.least
    }

    /// How many tokens were made.
    pub(super) fn made(&self) -> usize {
        self.tokens.len() - self.prompt
    }

    /// Says how far it had come when it was to stop.
    pub(super) fn cancelled(&self) -> Error {
        let (step, steps) = (self.made(), self.most);
        Error::Cancelled { step, steps }
    }
}
