//! Text to tokens and back, and the tokens that tell a model what to do.

use std::collections::BTreeMap;

use serde_json::Value;
use tokenizers::Tokenizer;

use crate::model::error::{Error, Result};
use crate::model::folder::Folder;
use crate::model::settings::Settings;
use crate::model::tokenizer::{self, FILE};

/// The first size of a vocabulary that has languages, where nothing else is said of them.
const MULTILINGUAL: usize = 51_865;

/// The tokens of a model. Those below `end` are text; from `first_time` on they are times within a window, 20 ms apart.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    tokenizer: Tokenizer,
    /// Ends what is said in a window.
    pub(crate) end: u32,
    /// Begins it.
    pub(crate) start: u32,
    /// Begins what was said before.
    pub(crate) before: u32,
    pub(crate) first_time: u32,
    /// Of a model that knows English alone there are none.
    tasks: Option<Tasks>,
}

/// What a model with languages is told.
#[derive(Debug)]
struct Tasks {
    /// By their codes: `en`.
    languages: BTreeMap<String, u32>,
    transcribe: u32,
    translate: u32,
}

impl Vocabulary {
    /// Reads the tokenizer of a model that tells `size` tokens apart. What `s`, of `generation_config.json`, says of tokens is
    /// taken from it and checked.
    pub(crate) fn load(folder: &mut Folder, size: usize, s: &mut Settings) -> Result<Self> {
        let tokenizer = tokenizer::load(folder, FILE, size)?;
        let token = |mark: &str| {
            let name = format!("<|{mark}|>");
            let missing = || {
                let problem = format!("it lacks `{name}`, which every Whisper has");
                Error::tokenizer(FILE, problem)
            };
            tokenizer.token_to_id(&name).ok_or_else(missing)
        };
        let end = token("endoftext")?;
        let start = token("startoftranscript")?;
        let before = token("startofprev")?;
        let without_times = token("notimestamps")?;
        for (key, token) in [
            ("eos_token_id", end),
            ("decoder_start_token_id", start),
            ("prev_sot_token_id", before),
            ("no_timestamps_token_id", without_times),
        ] {
            s.only(key, &[token.into()])?;
        }
        let first_time = without_times + 1;
        if first_time as usize >= size || start < end || without_times < start {
            let problem = "its special tokens are not in Whisper's order: text, `<|endoftext|>`, \
                           `<|startoftranscript|>`, `<|notimestamps|>`, times";
            return Err(Error::tokenizer(FILE, problem));
        }
        let multilingual = s.flag("is_multilingual", size >= MULTILINGUAL)?;
        let (named, tasks) = (s.take("lang_to_id"), s.section("task_to_id")?);
        let tasks = match multilingual {
            false => None,
            true => {
                let (transcribe, translate) = (token("transcribe")?, token("translate")?);
                if let Some(mut tasks) = tasks {
                    tasks.only("transcribe", &[transcribe.into()])?;
                    tasks.only("translate", &[translate.into()])?;
                    tasks.finish()?;
                }
                Some(Tasks {
                    languages: languages(&tokenizer, named, start, without_times, s)?,
                    transcribe,
                    translate,
                })
            }
        };
        Ok(Self {
            end,
            start,
            before,
            first_time,
            tasks,
            tokenizer,
        })
    }

    /// Codes of the languages that it knows.
    pub(crate) fn languages(&self) -> Vec<&str> {
        match &self.tasks {
            Some(tasks) => tasks.languages.keys().map(String::as_str).collect(),
            None => vec!["en"],
        }
    }

    /// Tokens of the languages that it tells apart; none of a model of English.
    pub(crate) fn language_tokens(&self) -> Vec<u32> {
        let tasks = self.tasks.iter();
        let mut tokens: Vec<_> = tasks
            .flat_map(|tasks| tasks.languages.values().copied())
            .collect();
        tokens.sort_unstable();
        tokens
    }

    /// The token of a language, `None` in a model of English.
    pub(crate) fn language(&self, code: &str) -> Result<Option<u32>> {
        let known = match &self.tasks {
            Some(tasks) => tasks.languages.get(code).copied().map(Some),
            None => (code == "en").then_some(None),
        };
        known.ok_or_else(|| {
            let languages = self.languages().join(", ");
            let problem = format!("is `{code}`, and this model knows {languages}");
            Error::request("language", problem)
        })
    }

    /// The code of a language's token.
    pub(crate) fn code(&self, token: u32) -> &str {
        let tasks = self.tasks.iter();
        let mut languages = tasks.flat_map(|tasks| &tasks.languages);
        let found = languages.find(|(_, language)| **language == token);
        found.map_or("en", |(code, _)| code.as_str())
    }

    /// What a window begins with, in the language of this token.
    pub(crate) fn begin(&self, language: Option<u32>, translate: bool) -> Result<Vec<u32>> {
        let task = match (&self.tasks, translate) {
            (Some(tasks), true) => Some(tasks.translate),
            (Some(tasks), false) => Some(tasks.transcribe),
            (None, false) => None,
            (None, true) => {
                let problem = "is asked for, and this model knows English alone";
                return Err(Error::request("translate", problem));
            }
        };
        Ok([Some(self.start), language, task]
            .into_iter()
            .flatten()
            .collect())
    }

    /// What stands before all of that: a text that precedes, of which the last `most` tokens count.
    pub(crate) fn preceding(&self, text: &str, most: usize) -> Result<Vec<u32>> {
        let encoding = self
            .tokenizer
            .encode_fast(format!(" {}", text.trim()), false)
            .map_err(|error| Error::tokenizer(FILE, error))?;
        let tokens = encoding.get_ids();
        if tokens.iter().any(|token| *token >= self.end) {
            let problem = "holds the name of a special token, such as <|endoftext|>; leave it out";
            return Err(Error::request("prompt", problem));
        }
        let last = &tokens[tokens.len().saturating_sub(most)..];
        Ok([&[self.before][..], last].concat())
    }

    /// The text of `tokens`, times and special ones left out.
    pub(crate) fn text(&self, tokens: &[u32]) -> Result<String> {
        let words: Vec<u32> = tokens
            .iter()
            .copied()
            .filter(|token| *token < self.end)
            .collect();
        self.tokenizer
            .decode(&words, true)
            .map_err(|error| Error::tokenizer(FILE, error))
    }
}

/// Languages that `named` lists, or all that stand between the start and the times.
fn languages(
    tokenizer: &Tokenizer,
    named: Option<Value>,
    start: u32,
    end: u32,
    s: &Settings,
) -> Result<BTreeMap<String, u32>> {
    const KEY: &str = "lang_to_id";
    let code = |name: &str| {
        let code = name.strip_prefix("<|")?.strip_suffix("|>")?;
        let letters = code.bytes().all(|byte| byte.is_ascii_lowercase());
        ((2..=3).contains(&code.len()) && letters).then(|| code.to_owned())
    };
    let mut languages = BTreeMap::new();
    match named {
        Some(Value::Object(named)) => {
            for (name, id) in &named {
                let token = tokenizer.token_to_id(name);
                match (code(name), token) {
                    (Some(code), Some(token)) if id.as_u64() == Some(token.into()) => {
                        languages.insert(code, token);
                    }
                    _ => {
                        let problem = format!("has `{name}`, which is not that token of {FILE}");
                        return Err(s.error(KEY, problem));
                    }
                }
            }
        }
        Some(value) => return Err(s.error(KEY, format!("must be an object, not {value}"))),
        None => {
            let names =
                (start + 1..end).filter_map(|token| Some((token, tokenizer.id_to_token(token)?)));
            languages.extend(names.filter_map(|(token, name)| Some((code(&name)?, token))));
        }
    }
    match languages.is_empty() {
        true => Err(s.error(
            KEY,
            "names no language, and the model is said to know several",
        )),
        false => Ok(languages),
    }
}
