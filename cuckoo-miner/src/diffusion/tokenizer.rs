//! Prompts to token numbers, as the text encoders expect them.
//!
//! Of CLIP's tokenizer two layouts are read: the classic one of published Stable Diffusion folders (`vocab.json`,
//! `merges.txt`) and the newer `tokenizer.json`, which wins when both are there; of T5's the newer one. The work is done by
//! the `tokenizers` crate.

use std::collections::HashMap;

use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::error::{Error, Result};
use super::folder::{Folder, TABLE_LIMIT};
use super::marks::Marks;
use crate::model::tokenizer;

/// What CLIP's byte-pair encoder splits text at (Radford et al., 2021, in their published code).
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// The marks of T5.
const T5_END: &str = "</s>";
const T5_PAD: &str = "<pad>";

/// A prompt's way into the text encoder: always the same number of tokens, the end marked (and CLIP's start), the rest
/// padding.
#[derive(Debug)]
pub(crate) struct PromptTokenizer {
    tokenizer: Tokenizer,
    start: Option<u32>,
    end: u32,
    pad: u32,
    length: usize,
}

impl PromptTokenizer {
    /// Reads CLIP's tokenizer in the sub-folder `part`. `positions` is the number of tokens the text encoder has room for,
    /// `vocabulary` the number it knows.
    pub(crate) fn load(
        folder: &mut Folder,
        part: &str,
        positions: usize,
        vocabulary: usize,
    ) -> Result<Self> {
        let special = Special::load(folder, part)?;
        let file = &format!("{part}/tokenizer.json");
        let (file, mut tokenizer) = if folder.has(file) {
            let bytes = folder.bytes(file, TABLE_LIMIT)?;
            let tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| unusable(file, error))?;
            (file.clone(), tokenizer)
        } else {
            let tokenizer = classic(folder, part, &special.unknown)?;
            (format!("{part}/vocab.json"), tokenizer)
        };
        let file = file.as_str();
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| unusable(file, error))?;
        let marks = [&special.start, &special.end, &special.pad];
        let known: Vec<_> = marks
            .iter()
            .filter(|token| tokenizer.token_to_id(token).is_some())
            .collect();
        let added: Vec<_> = known
            .iter()
            .map(|token| AddedToken::from(token.as_str(), true))
            .collect();
        tokenizer.add_special_tokens(&added);
        let id = |token: &str| match tokenizer.token_to_id(token) {
            Some(id) => Ok(id),
            None => Err(unusable(file, format!("it has no token {token:?}"))),
        };
        let (start, end, pad) = (id(&special.start)?, id(&special.end)?, id(&special.pad)?);
        if let Some(id) = tokenizer
            .get_vocab(true)
            .into_values()
            .max()
            .filter(|id| *id as usize >= vocabulary)
        {
            return Err(unusable(
                file,
                format!("it has token {id}, the text encoder only {vocabulary} tokens"),
            ));
        }
        let length = special.length.unwrap_or(positions);
        if !(2..=positions).contains(&length) {
            let problem = format!(
                "model_max_length {length} does not fit the text encoder's {positions} positions"
            );
            return Err(unusable(&format!("{part}/tokenizer_config.json"), problem));
        }
        Ok(Self {
            tokenizer,
            start: Some(start),
            end,
            pad,
            length,
        })
    }

    /// Reads T5's tokenizer in the sub-folder `part`, for prompts of at most `most` tokens: fewer where the folder says so.
    /// `vocabulary` is the number of tokens that the text encoder knows.
    pub(crate) fn load_t5(
        folder: &mut Folder,
        part: &str,
        most: usize,
        vocabulary: usize,
    ) -> Result<Self> {
        let marks = Marks::load(folder, &format!("{part}/"))?;
        let file = format!("{part}/{}", tokenizer::FILE);
        let tokenizer = tokenizer::load(folder, &file, vocabulary)?;
        let id = |key, default| {
            let token = marks.token(key).unwrap_or(default);
            let missing = || unusable(&file, format!("it has no token {token:?}"));
            tokenizer.token_to_id(token).ok_or_else(missing)
        };
        let (end, pad) = (id("eos_token", T5_END)?, id("pad_token", T5_PAD)?);
        let length = marks.length("model_max_length").unwrap_or(most).min(most);
        if length < 2 {
            let problem = format!("model_max_length {length} leaves no room for a prompt");
            return Err(unusable(&format!("{part}/tokenizer_config.json"), problem));
        }
        Ok(Self {
            tokenizer,
            start: None,
            end,
            pad,
            length,
        })
    }

    /// Tokens of every prompt.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The tokens of `prompt`: the start where there is one, as many as there is room for (the rest is cut, as everywhere),
    /// the end, padding.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode(prompt, false)
            .map_err(|error| unusable("tokenizer", error))?;
        let start = self.start;
        let room = self.length - 1 - usize::from(start.is_some());
        let words = encoding.get_ids().iter().copied().take(room);
        let mut tokens: Vec<u32> = start.into_iter().chain(words).chain([self.end]).collect();
        tokens.resize(self.length, self.pad);
        Ok(tokens)
    }
}

/// Byte-pair encoding from `vocab.json` and `merges.txt`, with CLIP's normalisation.
fn classic(folder: &mut Folder, part: &str, unknown: &str) -> Result<Tokenizer> {
    let (vocab_file, merges_file) = (format!("{part}/vocab.json"), format!("{part}/merges.txt"));
    let (vocab_file, merges_file) = (vocab_file.as_str(), merges_file.as_str());
    let bytes = folder.bytes(vocab_file, TABLE_LIMIT)?;
    let vocab: HashMap<String, u32> =
        serde_json::from_slice(&bytes).map_err(|source| Error::Json {
            file: vocab_file.to_owned(),
            source,
        })?;
    let merges = String::from_utf8(folder.bytes(merges_file, TABLE_LIMIT)?)
        .map_err(|error| unusable(merges_file, error))?;
    let merges = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.trim().is_empty())
        .map(|line| match line.trim_end().split_once(' ') {
            Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
            None => Err(unusable(
                merges_file,
                format!("line {line:?} is not a pair"),
            )),
        })
        .collect::<Result<Vec<_>>>()?;
    let model = BPE::builder()
        .vocab_and_merges(
            vocab
                .into_iter()
                .collect::<tokenizers::models::bpe::Vocab>(),
            merges,
        )
        .unk_token(unknown.to_owned())
        .end_of_word_suffix("</w>".to_owned())
        .build()
        .map_err(|error| unusable(merges_file, error))?;
    let defect = |error: tokenizers::Error| unusable(vocab_file, error);
    let spaces = Replace::new(
        tokenizers::normalizers::replace::ReplacePattern::Regex(r"\s+".to_owned()),
        " ",
    )
    .map_err(defect)?;
    let words = SplitPattern::Regex(WORDS.to_owned());
    let words = Split::new(words, SplitDelimiterBehavior::Removed, true).map_err(defect)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(Normalizers::new(vec![
        NFC.into(),
        spaces.into(),
        Lowercase.into(),
    ])));
    let bytes = ByteLevel::new(false, true, true);
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), bytes.into()])));
    Ok(tokenizer)
}

/// The marks around and behind a prompt, and how long it may be.
struct Special {
    start: String,
    end: String,
    pad: String,
    unknown: String,
    length: Option<usize>,
}

impl Special {
    /// From `tokenizer_config.json` and `special_tokens_map.json`, CLIP's own marks where they say nothing.
    fn load(folder: &mut Folder, part: &str) -> Result<Self> {
        let marks = Marks::load(folder, &format!("{part}/"))?;
        let mark = |key, default: &str| marks.token(key).unwrap_or(default).to_owned();
        Ok(Self {
            start: mark("bos_token", START),
            end: mark("eos_token", END),
            pad: mark("pad_token", END),
            unknown: mark("unk_token", END),
            length: marks.length("model_max_length"),
        })
    }
}

fn unusable(file: &str, problem: impl ToString) -> Error {
    Error::tokenizer(file, problem)
}

#[cfg(test)]
mod tests;
