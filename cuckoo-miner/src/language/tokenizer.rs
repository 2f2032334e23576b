//! What a folder says of texts, whatever engine writes them: tokens, the template of conversations, what ends a text.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use cuckoo_core::{Message, Result, TextFormat, TextPrompt};
use serde_json::Map;

use super::config::{self, token_list};
use super::defaults::Defaults;
use super::detokenizer::Detokenizer;
use super::gguf::{self, Gguf};
use super::grammar::{Grammar, Grammars};
use super::template::ChatTemplate;
use super::vocabulary::Vocabulary;
use crate::model::error::{self, Error};
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::marks::Marks;
use crate::model::settings::Settings;
use crate::model::tokenizer;

/// The most tokens that a model tells apart, and that a text has.
const TOKENS: usize = 1 << 24;
const CONTEXT: usize = 1 << 30;

/// Turns prompts and conversations into tokens, and tokens into text, as a model's folder says.
///
/// It is what [`LanguageModel`](crate::LanguageModel) reads and writes with, for those who have an engine of their own;
/// [`TokenSampler`](crate::TokenSampler) goes on with it. Clones share its tables.
///
/// ```
/// use cuckoo_core::{Message, Role, TextPrompt};
/// use cuckoo_miner::TextTokenizer;
///
/// let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/stories");
/// let tokenizer = TextTokenizer::load(folder)?;
/// assert_eq!(tokenizer.context(), Some(512));
/// let question = Message { role: Role::User, content: "What is 17 + 25?".to_owned() };
/// let tokens = tokenizer.tokens(TextPrompt::Messages(&[question]))?;
/// let mut decoder = tokenizer.decoder();
/// let mut text = String::new();
/// for token in tokens {
///     text += &decoder.push(token)?;
/// }
/// text += &decoder.finish()?;
/// assert_eq!(text, "user\nWhat is 17 + 25?\nassistant\n");
/// # Ok::<(), cuckoo_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    pub(super) vocabulary: Arc<Vocabulary>,
    /// Tokens that the model tells apart.
    size: usize,
    template: Option<Arc<ChatTemplate>>,
    pub(super) defaults: Defaults,
    /// Tokens that end a text, in order.
    pub(super) ends: Vec<u32>,
    context: Option<usize>,
    /// Made for the first text that has a format; else why it cannot be.
    grammars: Arc<OnceLock<Result<Grammars, String>>>,
}

impl TextTokenizer {
    /// Reads `tokenizer.json` of a model's folder, and where they are there, `config.json`, `generation_config.json`,
    /// `tokenizer_config.json`, `special_tokens_map.json` and `chat_template.jinja`; of a folder without it, or at that path,
    /// the metadata of a GGUF file. No weights are read, and of `config.json` the context, the number of tokens and those that
    /// end a text, so that the model may be of any architecture; the architecture of a GGUF file is one that
    /// [`TextExecutor`](crate::TextExecutor) runs.
    ///
    /// # Errors
    /// [`NotFound`](cuckoo_core::ErrorKind::NotFound) when the folder or its tokenizer is missing,
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when a file is damaged or does not fit the others; the message names it.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let path = folder.as_ref();
        let file = match path.join(tokenizer::FILE).is_file() {
            true => None,
            false => gguf::find(path)?,
        };
        let Some(file) = file else {
            return Ok(Self::open(&mut Folder::open(path)?)?);
        };
        let file = Gguf::open(&file)?;
        let tokenizer = file.folder().and_then(|mut folder| Self::open(&mut folder));
        Ok(tokenizer.map_err(|error| error.within(file.file()))?)
    }

    fn open(folder: &mut Folder) -> error::Result<Self> {
        let mut config = match folder.has(config::FILE) {
            true => Settings::parse(config::FILE, &folder.bytes(config::FILE, SETTINGS_LIMIT)?)?,
            false => Settings::new(config::FILE, Map::new()),
        };
        let mut ends = token_list(config.take("eos_token_id").as_ref());
        // Models of more than text keep what is about texts apart.
        if let Some(text) = config.section("text_config")? {
            config = text;
            ends.extend(token_list(config.take("eos_token_id").as_ref()));
        }
        let size = config.optional_count("vocab_size", 1..=TOKENS)?;
        let context = config.optional_count("max_position_embeddings", 1..=CONTEXT)?;
        Self::read(folder, size, context, &ends)
    }

    /// Reads the files about texts. `config.json` said the rest: how many tokens the model tells apart, its context, and
    /// tokens that end a text.
    pub(super) fn read(
        folder: &mut Folder,
        size: Option<usize>,
        context: Option<usize>,
        ends: &[u32],
    ) -> error::Result<Self> {
        let defaults = Defaults::load(folder)?;
        let marks = Marks::load(folder, "")?;
        let vocabulary = Vocabulary::load(folder, size.unwrap_or(TOKENS))?;
        let template = ChatTemplate::load(folder, &marks)?;
        let mut ends = if defaults.ends.is_empty() {
            ends.to_vec()
        } else {
            defaults.ends.clone()
        };
        ends.extend(marks.token("eos_token").and_then(|end| vocabulary.id(end)));
        ends.sort_unstable();
        ends.dedup();
        Ok(Self {
            size: size.unwrap_or_else(|| vocabulary.size()),
            vocabulary: Arc::new(vocabulary),
            template: template.map(Arc::new),
            defaults,
            ends,
            context,
            grammars: Arc::default(),
        })
    }

    /// Bounds texts to `tokens`, prompt and answer together: what an engine has room for, whatever the folder says.
    #[must_use]
    pub fn with_context(mut self, tokens: usize) -> Self {
        self.context = Some(tokens);
        self
    }

    /// The longest text, prompt and answer together, in tokens; `None` where the folder does not say.
    pub fn context(&self) -> Option<usize> {
        self.context
    }

    /// How many tokens the model tells apart, and so how many scores each token is chosen from; of a folder that does not say,
    /// how many the tokenizer knows.
    pub fn vocabulary(&self) -> usize {
        self.size
    }

    /// Tokens that end a text, in ascending order: those of `generation_config.json`, or else of `config.json`, and the
    /// tokenizer's `eos_token`.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Whether it takes conversations: the folder has a chat template. Prompts it always takes.
    pub fn chats(&self) -> bool {
        self.template.is_some()
    }

    /// The text that the folder's template makes of a conversation, ready for its answer.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when there is no template, or it does not take such a conversation.
    pub fn render(&self, messages: &[Message]) -> Result<String> {
        Ok(self.conversation(messages)?)
    }

    /// The tokens of a conversation, through the template, or of a prompt, with the marks that the tokenizer puts around a
    /// text.
    ///
    /// # Errors
    /// As [`TextTokenizer::render`], and when there are no tokens, or as many as the context or more.
    pub fn tokens(&self, prompt: TextPrompt<'_>) -> Result<Vec<u32>> {
        Ok(self.encode(prompt)?)
    }

    /// The text of some tokens, special ones left out.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when the tokenizer cannot decode them.
    pub fn text(&self, tokens: &[u32]) -> Result<String> {
        Ok(self.vocabulary.text(tokens)?)
    }

    /// Makes text of tokens as they come. For engines that draw their tokens themselves; [`TokenSampler`](crate::TokenSampler)
    /// has one already.
    pub fn decoder(&self) -> TextDecoder {
        TextDecoder {
            vocabulary: Arc::clone(&self.vocabulary),
            detokenizer: Detokenizer::default(),
        }
    }

    pub(super) fn encode(&self, prompt: TextPrompt<'_>) -> error::Result<Vec<u32>> {
        let (field, tokens) = match prompt {
            TextPrompt::Prompt(text) => ("prompt", self.vocabulary.encode(text, true)?),
            TextPrompt::Messages(messages) => {
                let text = self.conversation(messages)?;
                ("messages", self.vocabulary.encode(&text, false)?)
            }
        };
        if tokens.is_empty() {
            return Err(Error::request(field, "has no tokens to go on from"));
        }
        let context = self.longest();
        if tokens.len() >= context {
            let problem = format!(
                "has {} tokens; the model's context is {context}, its answer included",
                tokens.len(),
            );
            return Err(Error::request(field, problem));
        }
        Ok(tokens)
    }

    /// The context, or a bound that no text reaches.
    pub(super) fn longest(&self) -> usize {
        self.context.unwrap_or(CONTEXT)
    }

    /// The first format takes a while: the tokens are made ready for grammars.
    pub(super) fn grammar(&self, format: &TextFormat) -> error::Result<Grammar> {
        let make = || {
            let grammars = Grammars::new(&self.vocabulary, self.size);
            grammars.map_err(|error| error.to_string())
        };
        match self.grammars.get_or_init(make) {
            Ok(grammars) => grammars.compile(format),
            Err(problem) => Err(Error::Stopped {
                problem: problem.clone(),
            }),
        }
    }

    fn conversation(&self, messages: &[Message]) -> error::Result<String> {
        match &self.template {
            Some(template) => template.render(messages),
            None => Err(Error::request(
                "messages",
                "are given, but this model has no chat template; give it a prompt",
            )),
        }
    }
}

/// Makes text of tokens as they come, whole characters only: a token that ends within a character gives nothing, and the one
/// that completes it both parts. Special tokens are left out. Made by [`TextTokenizer::decoder`].
#[derive(Debug)]
pub struct TextDecoder {
    vocabulary: Arc<Vocabulary>,
    detokenizer: Detokenizer,
}

impl TextDecoder {
    /// The text that `token` completes; may be empty.
    ///
    /// # Errors
    /// [`Invalid`](cuckoo_core::ErrorKind::Invalid) when the tokenizer cannot decode it.
    pub fn push(&mut self, token: u32) -> Result<String> {
        Ok(self.detokenizer.push(&self.vocabulary, token)?)
    }

    /// What is left when no token follows: the beginning of a character, as U+FFFD.
    ///
    /// # Errors
    /// As [`TextDecoder::push`].
    pub fn finish(mut self) -> Result<String> {
        Ok(self.detokenizer.finish(&self.vocabulary)?)
    }
}

#[cfg(test)]
mod tests;
