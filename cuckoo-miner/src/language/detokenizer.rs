//! Text from tokens as they come, whole characters only.

use super::vocabulary::Vocabulary;
use crate::model::error::Result;

/// Tokens after which a text that never ends in a whole character is let go.
const PATIENCE: usize = 32;
/// Tokens kept before what is new, since decoders treat the beginning of a text apart.
const CONTEXT: usize = 6;

/// Makes text of one token after another.
///
/// A token may hold a part of a character; its text comes with the token that completes it. The pieces put together
/// are what decoding all tokens at once gives.
#[derive(Debug, Default)]
pub(crate) struct Detokenizer {
    /// The last tokens.
    window: Vec<u32>,
    /// How many bytes of the window's text have been given.
    given: usize,
}

impl Detokenizer {
    /// The text that `token` completes; may be empty.
    pub(crate) fn push(&mut self, vocabulary: &Vocabulary, token: u32) -> Result<String> {
        self.window.push(token);
        let text = vocabulary.text(&self.window)?;
        // What is no character yet is decoded as replacements, which the next token may turn into something else.
        let stable = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
        if self.window.len() > PATIENCE {
            let piece = self.take(&text);
            self.shorten(vocabulary, &text)?;
            return Ok(piece);
        }
        let piece = self.take(stable);
        if stable.len() == text.len() && self.window.len() > CONTEXT * 2 {
            self.shorten(vocabulary, &text)?;
        }
        Ok(piece)
    }

    /// Drops old tokens, where the others mean the same without them. All of `text` has been given.
    fn shorten(&mut self, vocabulary: &Vocabulary, text: &str) -> Result<()> {
        for from in (1..=self.window.len().saturating_sub(CONTEXT)).rev() {
            let rest = vocabulary.text(&self.window[from..])?;
            if text.ends_with(&rest) {
                self.window.drain(..from);
                self.given = rest.len();
                break;
            }
        }
        Ok(())
    }

    /// What is left when no token follows: the beginning of a character, as a replacement.
    pub(crate) fn finish(&mut self, vocabulary: &Vocabulary) -> Result<String> {
        let text = vocabulary.text(&self.window)?;
        Ok(self.take(&text))
    }

    fn take(&mut self, text: &str) -> String {
        // A decoder that changes what it said before has nothing to add.
        let piece = text.get(self.given..).unwrap_or_default().to_owned();
        self.given = self.given.max(text.len());
        piece
    }
}
