//! One text in work: what it says so far, and what the network remembers of it.

use cuckoo_core::{Result as CoreResult, Timestamp};
use tokio::sync::oneshot;

use super::decoder::Chunk;
use super::token_sampler::TokenSampler;
use crate::model::cache::{Cache, Pool};
use crate::model::error::{Error, Result};
use crate::{Execution, TaskContext};

/// A text in work.
#[derive(Debug)]
pub(crate) struct Sequence {
    /// Has come as far as it has, whatever the network has forgotten of it.
    text: TokenSampler,
    cache: Cache,
    context: TaskContext,
    reply: oneshot::Sender<CoreResult<Execution>>,
}

impl Sequence {
    pub(crate) fn new(
        text: TokenSampler,
        context: TaskContext,
        reply: oneshot::Sender<CoreResult<Execution>>,
    ) -> Self {
        Self {
            text,
            cache: Cache::default(),
            context,
            reply,
        }
    }

    /// The prompt and what was made so far.
    pub(crate) fn tokens(&self) -> &[u32] {
        self.text.tokens()
    }

    /// Tokens that the network has not seen yet, or has forgotten.
    pub(crate) fn pending(&self) -> usize {
        self.tokens().len() - self.cache.length()
    }

    /// Why it should be carried no further, if so.
    pub(crate) fn unwanted(&self, now: Timestamp) -> Option<Error> {
        if self.context.is_cancelled() || self.reply.is_closed() {
            return Some(self.text.cancelled());
        }
        let made = self.text.made();
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
        let tokens = self.text.tokens();
        let from = self.cache.length();
        let to = from + rows;
        Chunk {
            wanted: usize::from(to == tokens.len()),
            tokens: &tokens[from..to],
            cache: &mut self.cache,
        }
    }

    /// Goes on by one token, chosen from the scores, and shows what can be shown; none where the text has ended.
    pub(crate) fn advance(&mut self, scores: &[f32]) -> Result<Option<u32>> {
        self.text.advance(scores, &self.context)
    }

    /// Hands in the output.
    pub(crate) fn finish(self) {
        // Whoever asked may be gone.
        let _ = self.reply.send(self.text.finish(&self.context));
    }

    /// Says why there is no output.
    pub(crate) fn fail(self, error: Error) {
        let _ = self.reply.send(Err(error.into()));
    }
}
