//! One text in work, from its request to its output.

use cuckoo_core::{FinishReason, Result as CoreResult, Timestamp, Usage};
use tokio::sync::oneshot;

use super::LanguageModel;
use super::answer::Answer;
use super::decoder::Chunk;
use super::grammar::Grammar;
use super::sampler::{Choice, History, Sampling};
use super::stop::Stops;
use crate::model::cache::{Cache, Pool};
use crate::model::error::{Error, Result};
use crate::{Execution, TaskContext};

/// What a text is to be.
#[derive(Debug)]
pub(crate) struct Request {
    /// The prompt, at least one token and less than the context.
    pub(crate) prompt: Vec<u32>,
    /// The most tokens to make; as many as the context has room for when absent.
    pub(crate) most: Option<usize>,
    /// The model's context.
    pub(crate) context: usize,
    pub(crate) sampling: Sampling,
    pub(crate) stop: Vec<String>,
    /// The form it is to have, at its beginning.
    pub(crate) grammar: Option<Grammar>,
}

impl Request {
    /// The most tokens to make.
    fn most(&self) -> usize {
        let room = self.context.saturating_sub(self.prompt.len());
        self.most.map_or(room, |most| most.min(room)).max(1)
    }

    /// Tokens there must be room for before it is worth beginning: all it asks for, where it says how many.
    pub(crate) fn least(&self) -> usize {
        let asked = if self.most.is_some() { self.most() } else { 1 };
        // What the last token would be followed by is never asked for.
        self.prompt.len() + asked - 1
    }
}

/// A text in work.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// The prompt and what was made.
    tokens: Vec<u32>,
    prompt: usize,
    most: usize,
    sampling: Sampling,
    history: History,
    /// Has come as far as `tokens`, whatever the network has forgotten of them.
    grammar: Option<Grammar>,
    answer: Answer,
    cache: Cache,
    context: TaskContext,
    reply: oneshot::Sender<CoreResult<Execution>>,
}

impl Sequence {
    pub(crate) fn new(
        request: Request,
        context: TaskContext,
        reply: oneshot::Sender<CoreResult<Execution>>,
    ) -> Self {
        Self {
            prompt: request.prompt.len(),
            most: request.most(),
            history: History::new(&request.prompt),
            tokens: request.prompt,
            sampling: request.sampling,
            grammar: request.grammar,
            answer: Answer::new(Stops::new(request.stop)),
            cache: Cache::default(),
            context,
            reply,
        }
    }

    /// The prompt and what was made so far.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that the network has not seen yet, or has forgotten.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.cache.length()
    }

    /// Why it should be carried no further, if so.
    pub(crate) fn unwanted(&self, now: Timestamp) -> Option<Error> {
        let made = self.made();
        if self.context.is_cancelled() || self.reply.is_closed() {
            let (step, steps) = (made, self.most);
            return Some(Error::Cancelled { step, steps });
        }
        (now >= self.context.deadline()).then_some(Error::Late { made })
    }

    /// Takes memory for `rows` more tokens; false when there is none.
    pub(crate) fn grow(&mut self, pool: &mut Pool, rows: usize) -> Result<bool> {
        self.cache.grow(pool, self.cache.length() + rows)
    }

    /// Gives its memory back; what it had seen is pending again.
    pub(crate) fn forget(&mut self, pool: &mut Pool) {
        self.cache.clear(pool);
    }

    /// Its next `rows` tokens for the network; scores are wanted once nothing is left.
    pub(crate) fn chunk(&mut self, rows: usize) -> Chunk<'_> {
        let from = self.cache.length();
        let to = from + rows;
        Chunk {
            wanted: usize::from(to == self.tokens.len()),
            tokens: &self.tokens[from..to],
            cache: &mut self.cache,
        }
    }

    /// Chooses its next token from the scores; none where all it can do is end. `ends` are the tokens that end a text.
    pub(crate) fn choose(&mut self, ends: &[u32], scores: &[f32]) -> Result<Option<Choice>> {
        let allowed = match &mut self.grammar {
            Some(grammar) => match grammar.allowed(ends)? {
                Some(allowed) => Some(allowed),
                None => return Ok(None),
            },
            None => None,
        };
        let choice = self
            .sampling
            .choose(scores, &self.history, allowed.as_ref())?;
        Ok(Some(choice))
    }

    /// Adds the chosen token and shows what can be shown; why the text ends here, if it does.
    pub(crate) fn accept(
        &mut self,
        model: &LanguageModel,
        choice: Option<Choice>,
    ) -> Result<Option<FinishReason>> {
        let Some(choice) = choice else {
            return Ok(Some(FinishReason::Stop));
        };
        self.tokens.push(choice.token);
        self.history.push(choice.token);
        let thousandths = self.made() * 1000 / self.most;
        self.context
            .progress(u16::try_from(thousandths).unwrap_or(1000).min(999));
        if model.ends.binary_search(&choice.token).is_ok() {
            return Ok(Some(FinishReason::Stop));
        }
        let complete = match &mut self.grammar {
            Some(grammar) => grammar.advance(choice.token)?,
            None => false,
        };
        let context = &self.context;
        let stopped = self
            .answer
            .push(&model.vocabulary, &choice, &mut |line| context.emit(line))?;
        Ok(match stopped || complete {
            true => Some(FinishReason::Stop),
            false => (self.made() >= self.most).then_some(FinishReason::Length),
        })
    }

    /// Hands in the output.
    pub(crate) fn finish(self, model: &LanguageModel, reason: FinishReason) {
        let usage = Usage {
            input_units: self.prompt as u64,
            output_units: self.made() as u64,
            ..Usage::default()
        };
        let context = self.context;
        let output = self
            .answer
            .end(&model.vocabulary, reason, &mut |line| context.emit(line));
        let execution = output.map(|output| Execution::new(output).with_usage(usage));
        // Whoever asked may be gone.
        let _ = self.reply.send(execution.map_err(Into::into));
    }

    /// Says why there is no output.
    pub(crate) fn fail(self, error: Error) {
        let _ = self.reply.send(Err(error.into()));
    }

    fn made(&self) -> usize {
        self.tokens.len() - self.prompt
    }
}
