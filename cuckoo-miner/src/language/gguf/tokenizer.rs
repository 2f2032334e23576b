//! The tokenizer in a GGUF file's metadata, as the `tokenizer.json` and `tokenizer_config.json` that it stands for. Built in the
//! manner of transformers' reader of such files, but for what llama.cpp knows of a tokenizer by its name alone.

mod pairs;
mod splits;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::language::vocabulary::alphabet;
use crate::model::error::Result;
use crate::model::gguf::Header;
use pairs::pairs;
use splits::Split;

const TEXTS: &str = "tokenizer.ggml.tokens";
const KINDS: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const MODEL: &str = "tokenizer.ggml.model";
const SPLIT: &str = "tokenizer.ggml.pre";
const TEMPLATE: &str = "tokenizer.chat_template";

/// Control tokens that end a turn, whether the file says so or not: llama.cpp goes by their names, too.
const ENDS: [&str; 9] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
];

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// Marks something; no part of a text.
    Control,
    /// Text that is never cut.
    Whole,
}

/// How text becomes tokens.
#[derive(Debug)]
enum Model {
    /// Pairs of pieces, with `▁` for spaces and bytes to fall back on.
    Pieces,
    /// Pairs of bytes.
    Bytes(&'static Split),
}

/// What a file says of its tokens.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    header: &'a Header,
    family: &'a str,
    model: Model,
    texts: &'a [String],
    kinds: Vec<Kind>,
}

impl<'a> Tokens<'a> {
    /// Reads the tokens of a model of the architecture `family`.
    pub(super) fn read(header: &'a Header, family: &'a str) -> Result<Self> {
        let model = match header.text(MODEL)? {
            "llama" => Model::Pieces,
            "gpt2" => {
                let name = match header.single(SPLIT) {
                    Some(_) => header.text(SPLIT)?,
                    None => "default",
                };
                let split = Split::by_name(name).ok_or_else(|| {
                    let problem = format!("is `{name}`; this miner runs {}", Split::names());
                    header.error(SPLIT, problem)
                })?;
                Model::Bytes(split)
            }
            other => {
                let problem = format!("is `{other}`; this miner runs llama and gpt2");
                return Err(header.error(MODEL, problem));
            }
        };
        let Some(texts) = header.texts(TEXTS)? else {
            return Err(header.error(TEXTS, "is missing"));
        };
        let kinds = match header.numbers(KINDS)? {
            None => vec![Kind::Text; texts.len()],
            Some(kinds) if kinds.len() == texts.len() => {
                kinds.iter().map(|kind| of(*kind)).collect()
            }
            Some(kinds) => {
                let problem = format!("has {} entries for {} tokens", kinds.len(), texts.len());
                return Err(header.error(KINDS, problem));
            }
        };
        Ok(Self {
            header,
            family,
            model,
            texts,
            kinds,
        })
    }

    /// Tokens that end a text.
    pub(super) fn ends(&self) -> Result<Vec<usize>> {
        let mut ends = Vec::new();
        for key in ["eos", "eot", "eom"] {
            ends.extend(self.named(key)?);
        }
        let known = self.texts.iter().zip(&self.kinds).enumerate();
        ends.extend(
            known
                .filter(|(_, (text, kind))| {
                    **kind == Kind::Control && ENDS.contains(&text.as_str())
                })
                .map(|(token, _)| token),
        );
        Ok(ends)
    }

    /// The `tokenizer_config.json`.
    pub(super) fn marks(&self) -> Result<Value> {
        let mut marks = Map::new();
        for (name, key) in [
            ("bos_token", "bos"),
            ("eos_token", "eos"),
            ("unk_token", "unknown"),
            ("pad_token", "padding"),
        ] {
            if let Some(token) = self.named(key)? {
                marks.insert(name.to_owned(), self.texts[token].as_str().into());
            }
        }
        if let Some(template) = self.header.single(TEMPLATE) {
            marks.insert("chat_template".to_owned(), template.clone());
        }
        Ok(Value::Object(marks))
    }

    /// The `tokenizer.json`.
    pub(super) fn document(&self) -> Result<Value> {
        let mut added = BTreeSet::new();
        for key in ["bos", "eos", "unknown", "padding"] {
            added.extend(self.named(key)?);
        }
        let entry = |(token, text): (usize, &String)| {
            let special = added.contains(&token) || self.kinds[token] == Kind::Control;
            (special || self.kinds[token] == Kind::Whole).then(|| {
                json!({
                    "id": token, "content": text, "special": special,
                    "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                })
            })
        };
        let added: Vec<Value> = self.texts.iter().enumerate().filter_map(entry).collect();
        let mut document = match self.model {
            Model::Pieces => self.pieces()?,
            Model::Bytes(split) => self.bytes(split)?,
        };
        document["version"] = "1.0".into();
        document["added_tokens"] = added.into();
        document["post_processor"] = self.frame()?;
        Ok(document)
    }

    /// Byte-level pairs.
    fn bytes(&self, split: &Split) -> Result<Value> {
        let Some(merges) = self.merges()? else {
            return Err(self.header.error(MERGES, "is missing"));
        };
        let alphabet = alphabet();
        // A few writers leave tokens as plain text; those that are no marks are spelled like the others.
        let spelled = |(text, kind): (&String, &Kind)| -> String {
            let plain = *kind == Kind::Text && !text.chars().all(|c| alphabet.contains(&c));
            match plain {
                true => text
                    .bytes()
                    .map(|byte| alphabet[usize::from(byte)])
                    .collect(),
                false => text.clone(),
            }
        };
        let vocabulary = self.texts.iter().zip(&self.kinds).map(spelled);
        Ok(json!({
            "normalizer": null,
            "pre_tokenizer": split.steps(),
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                "ignore_merges": split.whole_words, "vocab": numbered(vocabulary), "merges": merges,
            },
        }))
    }

    /// Pairs of pieces, in the order of SentencePiece's scores.
    fn pieces(&self) -> Result<Value> {
        let gemma = self.family == "gemma";
        // Gemma's tokens of nothing but spaces are stored as such.
        let texts: Vec<String> = self
            .texts
            .iter()
            .map(
                |text| match gemma && !text.is_empty() && text.chars().all(|c| c == ' ') {
                    true => text.replace(' ', "▁"),
                    false => text.clone(),
                },
            )
            .collect();
        let merges = match self.merges()? {
            Some(merges) => merges,
            // Gemma's scores are not the order of its pairs; that of its tokens is.
            None if gemma => pairs(self.header, &texts, |token| -(token as f64))?,
            None => {
                let scores = self.header.numbers(SCORES)?.unwrap_or_default();
                if scores.len() != texts.len() {
                    let problem =
                        format!("has {} entries for {} tokens", scores.len(), texts.len());
                    return Err(self.header.error(SCORES, problem));
                }
                pairs(self.header, &texts, |token| scores[token])?
            }
        };
        let unknown = self.named("unknown")?.map(|token| texts[token].clone());
        let prefix = self.flag("tokenizer.ggml.add_space_prefix", !gemma)?;
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let (normalizer, pre_tokenizer) = if !prefix {
            (space, Value::Null)
        } else if self.family == "phi3" {
            let first = json!({"type": "Prepend", "prepend": "▁"});
            (
                json!({"type": "Sequence", "normalizers": [first, space]}),
                Value::Null,
            )
        } else {
            let first = json!({
                "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false,
            });
            (Value::Null, first)
        };
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        Ok(json!({
            "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {
                "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
                "ignore_merges": false, "vocab": numbered(texts.into_iter()), "merges": merges,
            },
        }))
    }

    /// The pairs that the file lists, or absent.
    fn merges(&self) -> Result<Option<Vec<(String, String)>>> {
        let Some(merges) = self.header.texts(MERGES)? else {
            return Ok(None);
        };
        let pair = |(place, merge): (usize, &String)| match merge.split_once(' ') {
            Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
            None => {
                let problem = format!("has no two pieces at place {place}");
                Err(self.header.error(MERGES, problem))
            }
        };
        merges
            .iter()
            .enumerate()
            .map(pair)
            .collect::<Result<_>>()
            .map(Some)
    }

    /// The marks around a text.
    fn frame(&self) -> Result<Value> {
        let start = match self.model {
            Model::Pieces => true,
            Model::Bytes(split) => split.begins,
        };
        let mut single = vec![json!({"Sequence": {"id": "A", "type_id": 0}})];
        let mut special = Map::new();
        for (key, name, default) in [
            ("tokenizer.ggml.add_bos_token", "bos", start),
            ("tokenizer.ggml.add_eos_token", "eos", false),
        ] {
            // Without such a token there is none to add.
            if let Some(token) = self.named(name)?
                && self.flag(key, default)?
            {
                let text = &self.texts[token];
                let place = if name == "bos" { 0 } else { single.len() };
                single.insert(place, json!({"SpecialToken": {"id": text, "type_id": 0}}));
                special.insert(
                    text.clone(),
                    json!({"id": text, "ids": [token], "tokens": [text]}),
                );
            }
        }
        if special.is_empty() {
            return Ok(Value::Null);
        }
        Ok(json!({
            "type": "TemplateProcessing", "single": single, "special_tokens": special,
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        }))
    }

    /// The number of the token that `tokenizer.ggml.NAME_token_id` names, if it does.
    fn named(&self, name: &str) -> Result<Option<usize>> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let Some(value) = self.header.single(&key) else {
            return Ok(None);
        };
        // Some writers have -1, or all bits set, for none.
        if value.as_i64() == Some(-1) || value.as_u64() == Some(u64::from(u32::MAX)) {
            return Ok(None);
        }
        match value.as_u64().and_then(|token| usize::try_from(token).ok()) {
            Some(token) if token < self.texts.len() => Ok(Some(token)),
            _ => {
                let problem = format!("is {value}; there are {} tokens", self.texts.len());
                Err(self.header.error(&key, problem))
            }
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.header.single(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self
                .header
                .error(key, format!("is {other}, not true or false"))),
        }
    }
}

/// llama.cpp's types of tokens.
fn of(kind: f64) -> Kind {
    match kind as i64 {
        // Unknown, control.
        2 | 3 => Kind::Control,
        4 => Kind::Whole,
        // Normal, unused, byte.
        _ => Kind::Text,
    }
}

/// A vocabulary: each text with its place.
fn numbered(texts: impl Iterator<Item = String>) -> Map<String, Value> {
    texts
        .enumerate()
        .map(|(token, text)| (text, token.into()))
        .collect()
}
