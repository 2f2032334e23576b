//! Text to tokens and back: the folder's `tokenizer.json`, by the `tokenizers` crate.

use std::collections::BTreeMap;

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

    /// One more than its largest token.
    pub(crate) fn size(&self) -> usize {
        let largest = self.tokenizer.get_vocab(true).into_values().max();
        largest.map_or(0, |token| token as usize + 1)
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

    /// The bytes that each token is of within a text, those that are none left out: special tokens, and what the tokenizer
    /// shows as something else than its name says.
    pub(crate) fn bytes(&self) -> Result<Vec<(u32, Vec<u8>)>> {
        let alphabet: BTreeMap<char, u8> = alphabet().into_iter().zip(0..=u8::MAX).collect();
        let (anchor, before) = match &self.anchor {
            Some((anchor, text)) => (Some(*anchor), text.as_str()),
            None => (None, ""),
        };
        let mut all = Vec::new();
        for (name, token) in self.tokenizer.get_vocab(true) {
            let tokens: Vec<u32> = anchor.into_iter().chain([token]).collect();
            let text = self.text(&tokens)?;
            let Some(text) = text.strip_prefix(before).filter(|text| !text.is_empty()) else {
                continue;
            };
            if !text.contains(char::REPLACEMENT_CHARACTER) {
                all.push((token, text.as_bytes().to_vec()));
                continue;
            }
            // A part of a character has no text of its own: its bytes are in its name.
            let named = match hexadecimal(&name) {
                Some(byte) => Some(vec![byte]),
                None => name.chars().map(|c| alphabet.get(&c).copied()).collect(),
            };
            if let Some(bytes) = named
                && String::from_utf8_lossy(&bytes) == text
            {
                all.push((token, bytes));
            }
        }
        Ok(all)
    }

    /// The number of a token, by its exact text.
    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }
}

/// The byte that a token such as `<0xE6>` stands for.
fn hexadecimal(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

/// The characters that byte-level tokenizers write each byte as (Radford et al., GPT-2): itself where it can be seen, the
/// next free one from U+0100 on where it cannot.
pub(crate) fn alphabet() -> [char; 256] {
    let mut hidden = (0x100..).filter_map(char::from_u32);
    std::array::from_fn(|byte| {
        let seen = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        match seen {
            true => char::from(byte as u8),
            false => hidden.next().unwrap_or_default(),
        }
    })
}
