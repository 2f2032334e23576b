//! Texts in a form (`format` of a task's input), by the `llguidance` crate: which tokens may come next.
//!
//! A format becomes a grammar over bytes. Before each draw the grammar goes through the bytes of all tokens and says which
//! of them go on with it; whatever the model would rather say, the draw is among these. How they are cut does not matter:
//! every sequence of tokens whose bytes fit is allowed.
//!
//! What is allowed depends on the format and the tokens so far alone. Its limits count states and steps, never time, so
//! that a text that one miner can write, every miner can.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cuckoo_core::TextFormat;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory, panic_utils};
use serde_json::{Map, Value, json};

use super::vocabulary::Vocabulary;
use crate::model::error::{Error, Result};
use crate::model::tokenizer::FILE;

/// What is between the items of lists and objects, and between names and values. Other spaces there are none: small models
/// are prone to go on with them for ever.
const COMMA: &str = r",\x20?";
const COLON: &str = r":\x20?";
/// The most states of a text's lexer, of one or two kilobytes each. Equal on all miners, since what one can write all must.
const STATES: usize = 10_000;
/// The stack that a schema is read on, in bytes: the reader goes down a chain of references, of which the longest schema
/// has room for some two thousand. On the two megabytes of other threads it would end the process.
const STACK: usize = 64 << 20;
/// The longest explanation that is passed on, in characters.
const EXPLANATION: usize = 300;

/// What makes grammars for the tokens of one model.
pub(crate) struct Grammars {
    factory: ParserFactory,
    /// Held while a schema is read, which may take a core's seconds and a hundred megabytes: the others wait.
    reading: Mutex<()>,
    /// Stands for the end of a text: a token beyond the model's own, of which several may end it, or none.
    end: u32,
}

impl Grammars {
    /// Takes in the tokens of a model that tells `size` of them apart.
    pub(crate) fn new(vocabulary: &Vocabulary, size: usize) -> Result<Self> {
        let mut words = vec![Vec::new(); size + 1];
        for (token, bytes) in vocabulary.bytes()? {
            if let Some(word) = words.get_mut(token as usize) {
                *word = bytes;
            }
        }
        let end = u32::try_from(size).unwrap_or(u32::MAX - 1);
        // The crate asserts what it expects of tokens.
        let factory = panic_utils::catch_unwind(AssertUnwindSafe(|| {
            let trie = TokTrie::from(&TokRxInfo::new(end + 1, end), &words);
            let tokens: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
            ParserFactory::new_simple(&tokens)
        }));
        let mut factory =
            factory.map_err(|error| Error::tokenizer(FILE, explanation(&format!("{error:#}"))))?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.max_lexer_states = STATES;
        limits.verbose_errors = false;
        Ok(Self {
            factory,
            reading: Mutex::new(()),
            end,
        })
    }

    /// The grammar of a text in this format, at its beginning.
    ///
    /// # Errors
    /// [`Error::Request`] that says what of a schema is not supported, or why nothing fits it.
    pub(crate) fn compile(&self, format: &TextFormat) -> Result<Grammar> {
        let mut schema = match format {
            TextFormat::JsonObject => json!({"type": "object"}),
            TextFormat::JsonSchema {
                schema: Value::Bool(true),
            } => Value::Object(Map::new()),
            TextFormat::JsonSchema { schema } => schema.clone(),
        };
        if let Value::Object(fields) = &mut schema {
            // Settings of the crate, which are none of the requester's.
            let settings = json!({
                "whitespace_flexible": false, "item_separator": COMMA, "key_separator": COLON,
            });
            fields.insert("x-guidance".to_owned(), settings);
        }
        let grammar = TopLevelGrammar::from_json_schema(schema);
        let turn = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let parser = thread::scope(|scope| {
            thread::Builder::new()
                .name("cuckoo-schema".to_owned())
                .stack_size(STACK)
                .spawn_scoped(scope, || self.factory.create_parser(grammar))
                .ok()
                .and_then(|reading| reading.join().ok())
        });
        drop(turn);
        let Some(parser) = parser else {
            let problem =
                "no thread could be started to read the schema; this miner is short of memory";
            return Err(Error::Stopped {
                problem: problem.to_owned(),
            });
        };
        let parser = parser.map_err(|error| {
            let problem = explanation(&format!("{error:#}"));
            Error::request(
                "format",
                format!("cannot be followed: {problem}; docs/models.md says which schemas can"),
            )
        })?;
        Ok(Grammar {
            matcher: Box::new(Matcher::new(Ok(parser))),
            end: self.end,
        })
    }
}

/// A text's format, as far as the text has come.
pub(crate) struct Grammar {
    matcher: Box<Matcher>,
    end: u32,
}

impl Grammar {
    /// Tokens that may come next, `ends` among them where the text may end; none where all it can do is end.
    ///
    /// # Errors
    /// [`Error::Request`] when no token of the model goes on with the format, or the limits are reached.
    pub(crate) fn allowed(&mut self, ends: &[u32]) -> Result<Option<Allowed>> {
        let mask = self.matcher.compute_mask_or_eos();
        let mut mask = mask.map_err(|error| stuck(&error.to_string()))?;
        let may_end = mask.is_allowed(self.end);
        mask.disallow_token(self.end);
        if may_end && mask.is_zero() {
            return Ok(None);
        }
        for end in ends.iter().filter(|end| **end < self.end) {
            mask.set(*end as usize, may_end);
        }
        if mask.is_zero() {
            return Err(stuck("only tokens that end the text would go on with it"));
        }
        Ok(Some(Allowed(mask)))
    }

    /// Goes on with an allowed token that does not end the text; true when nothing can follow it.
    pub(crate) fn advance(&mut self, token: u32) -> Result<bool> {
        let advanced = self.matcher.consume_token(token);
        advanced.map_err(|error| stuck(&error.to_string()))?;
        Ok(self.matcher.is_stopped())
    }
}

/// Tokens that may come next, at least one.
#[derive(Debug)]
pub(crate) struct Allowed(SimpleVob);

impl Allowed {
    pub(crate) fn contains(&self, token: u32) -> bool {
        (token as usize) < self.0.len() && self.0.is_allowed(token)
    }
}

fn stuck(problem: &str) -> Error {
    let problem = explanation(problem);
    Error::request(
        "format",
        format!("cannot be followed to its end by this model: {problem}; ask for a simpler one"),
    )
}

/// What the crate says, in one line and without the traces that may follow.
fn explanation(text: &str) -> String {
    let said = text.split("\n<").next().unwrap_or_default();
    let words: Vec<_> = said.split_whitespace().collect();
    words.join(" ").chars().take(EXPLANATION).collect()
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
