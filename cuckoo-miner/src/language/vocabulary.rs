//! Text to tokens and back: the folder's `tokenizer.json`, by the `tokenizers` crate.

use tokenizers::Tokenizer;

use crate::model::error::{Error, Result};
use crate::model::folder::Folder;
use crate::model::tokenizer::{self, FILE};

/// The tokens a model reads and writes.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    /// A token to put before another, so that a decoder does not take it for the beginning of a text.
    anchor: Option<(u32, String)>,
}

impl Vocabulary {
    /// Reads the tokenizer of a model that tells `size` tokens apart.
    pub(crate) fn load(folder: &mut Folder, size: usize) -> Result<Self> {
        let tokenizer = tokenizer::load(folder, FILE, size)?;
        let mut vocabulary = Self {
            tokenizer,
            anchor: None,
        };
        let letter = vocabulary.encode("a", false)?.pop();
        vocabulary.anchor = letter.and_then(|token| Some((token, vocabulary.text(&[token]).ok()?)));
        Ok(vocabulary)
    }

    /// The tokens of `text`. With `marks`, those that the tokenizer puts around a text by itself come too.
    pub(crate) fn encode(&self, text: &str, marks: bool) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(text, marks)
            .map_err(|error| Error::tokenizer(FILE, error))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `tokens`, special ones left out.
    pub(crate) fn text(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer
            .decode(tokens, true)
            .map_err(|error| Error::tokenizer(FILE, error))
    }

    /// The text of one token as it is within a text; special tokens by their name.
    pub(crate) fn token_text(&self, token: u32) -> Result<String> {
        let decode = |tokens: &[u32]| {
            self.tokenizer
                .decode(tokens, false)
                .map_err(|error| Error::tokenizer(FILE, error))
        };
        if let Some((anchor, text)) = &self.anchor
            && let Some(rest) = decode(&[*anchor, token])?.strip_prefix(text)
        {
            return Ok(rest.to_owned());
        }
        decode(&[token])
    }

    /// The number of a token, by its exact text.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }
}
