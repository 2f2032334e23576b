//! Text to text: conversations and completions.
//!
//! The output is its own stream: a line of JSON for each piece of text as it is made, and a last one that says why it
//! ended. So what is streamed is what the receipt is signed over, and watchers need nothing that the requester does not
//! get in the end.

use serde::{Deserialize, Serialize, Serializer};

use crate::{Error, Output, Result};

mod format;

pub use format::TextFormat;

/// The input of a model that chats or completes: either messages or a prompt, and how to choose the words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextInput {
    /// The conversation so far, for a chat.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Message>,
    /// The text to go on from, for a completion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The most tokens to make, at least 1; as many as the model has room for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// 0 always takes the likeliest token, 1 draws as the model would, up to 2; the model's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Draws only among the likeliest tokens with so much probability together, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Makes tokens that occurred less likely, the more so the more often they did; -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Makes tokens that occurred less likely, however often they did; -2 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Ends the text before any of these, at most [`TextInput::MAX_STOPS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// The form of the text; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TextFormat>,
    /// Asks for the log probability of each token and of so many likeliest ones in its place, 0 to 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<u8>,
    /// What draws are made from; added by the coordinator when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// What a text is to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPrompt<'a> {
    /// A conversation.
    Messages(&'a [Message]),
    /// The beginning of the text.
    Prompt(&'a str),
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who says something in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Whoever set the model up.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl TextInput {
    /// The most messages of a conversation.
    pub const MAX_MESSAGES: usize = 2_048;
    /// The most strings that end a text.
    pub const MAX_STOPS: usize = 4;
    /// The most alternatives to a token that can be asked for.
    pub const MAX_LOGPROBS: u8 = 20;

    /// A conversation to go on with.
    pub fn chat(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }

    /// A text to go on from.
    pub fn completion(prompt: impl Into<String>) -> Self {
        Self {
            prompt: Some(prompt.into()),
            ..Self::default()
        }
    }

    /// Reads and checks the input of an assignment.
    ///
    /// # Errors
    /// `Invalid` that names what is wrong.
    pub fn read(input: &str) -> Result<Self> {
        let input: Self = serde_json::from_str(input).map_err(|source| {
            Error::invalid("the input is not {\"messages\": [{\"role\", \"content\"}, ...]} or {\"prompt\": text}, with what docs/tasks.md lists besides")
                .with_source(source)
        })?;
        input.check()?;
        Ok(input)
    }

    /// What the text is to follow.
    pub fn prompt(&self) -> TextPrompt<'_> {
        match &self.prompt {
            Some(prompt) => TextPrompt::Prompt(prompt),
            None => TextPrompt::Messages(&self.messages),
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` that names the field and its range.
    pub fn check(&self) -> Result<()> {
        self.fault()
            .map_or(Ok(()), |(_, message)| Err(Error::invalid(message)))
    }

    /// The first field that is out of its range, by name, and what is wrong with it.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        if self.prompt.is_some() != self.messages.is_empty() {
            let message = "the input needs either messages, at least one, or a prompt";
            return Some(("messages", message.to_owned()));
        }
        if self.messages.len() > Self::MAX_MESSAGES {
            let message = format!(
                "messages has {} entries; at most {} are taken",
                self.messages.len(),
                Self::MAX_MESSAGES
            );
            return Some(("messages", message));
        }
        if self.max_tokens == Some(0) {
            let message = "max_tokens is 0; it is at least 1";
            return Some(("max_tokens", message.to_owned()));
        }
        for (name, value, low, high) in [
            ("temperature", self.temperature, 0.0, 2.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("frequency_penalty", self.frequency_penalty, -2.0, 2.0),
            ("presence_penalty", self.presence_penalty, -2.0, 2.0),
        ] {
            if let Some(value) = value.filter(|value| !(low..=high).contains(value)) {
                let message = format!("{name} is {value}; it is from {low} to {high}");
                return Some((name, message));
            }
        }
        if self.stop.len() > Self::MAX_STOPS || self.stop.iter().any(String::is_empty) {
            let message = format!(
                "stop is a list of at most {} texts, none of them empty",
                Self::MAX_STOPS
            );
            return Some(("stop", message));
        }
        if let Some(message) = self.format.as_ref().and_then(TextFormat::fault) {
            return Some(("format", message));
        }
        let logprobs = self.logprobs.filter(|count| *count > Self::MAX_LOGPROBS)?;
        let message = format!(
            "logprobs is {logprobs}; it is at most {}",
            Self::MAX_LOGPROBS
        );
        Some(("logprobs", message))
    }
}

/// One line of an output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TextLine {
    /// The next piece of text.
    Piece(TextPiece),
    /// The last line.
    End {
        /// Why the text ends here.
        finish_reason: FinishReason,
    },
}

/// A piece of text as it is made, mostly of one token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPiece {
    /// The text; empty when its token ends within a character.
    pub text: String,
    /// Its tokens and how likely they were, where that was asked for and the model tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<TokenLogprob>,
}

/// How likely a token was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenLogprob {
    /// The token's text.
    pub token: String,
    /// The natural logarithm of its probability.
    #[serde(serialize_with = "finite")]
    pub logprob: f64,
    /// The likeliest tokens in its place, likeliest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TopLogprob>,
}

/// A token that could have been.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopLogprob {
    /// The token's text.
    pub token: String,
    /// The natural logarithm of its probability.
    #[serde(serialize_with = "finite")]
    pub logprob: f64,
}

/// JSON has no infinities: what is impossible, or no number, is written as next to impossible.
fn finite<S: Serializer>(logprob: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    const LEAST: f64 = -9_999.0;
    let number = Some(*logprob).filter(|logprob| !logprob.is_nan());
    serializer.serialize_f64(number.unwrap_or(LEAST).clamp(LEAST, 0.0))
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model was done, or came to a `stop` text.
    Stop,
    /// There was no room for more: `max_tokens`, or the model's own limit.
    Length,
}

/// Makes the output of a run, line by line.
///
/// ```
/// use cuckoo_core::{FinishReason, TextOutput, TextWriter};
///
/// let mut writer = TextWriter::default();
/// let line = writer.text("forty");
/// assert_eq!(line, b"{\"text\":\"forty\"}\n"); // what an executor hands to `TaskContext::emit`
/// writer.text("-two");
/// let output = writer.end(FinishReason::Stop);
/// assert_eq!(TextOutput::read(&output)?.text, "forty-two");
/// # Ok::<(), cuckoo_core::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct TextWriter {
    bytes: Vec<u8>,
}

impl TextWriter {
    /// Adds a piece without log probabilities; gives its line.
    pub fn text(&mut self, text: impl Into<String>) -> &[u8] {
        self.piece(TextPiece {
            text: text.into(),
            logprobs: Vec::new(),
        })
    }

    /// Adds a piece; gives its line.
    pub fn piece(&mut self, piece: TextPiece) -> &[u8] {
        self.line(&TextLine::Piece(piece))
    }

    /// The whole output, with its last line.
    pub fn end(mut self, finish_reason: FinishReason) -> Output {
        self.line(&TextLine::End { finish_reason });
        Output::new(TextOutput::MEDIA_TYPE, self.bytes)
    }

    fn line(&mut self, line: &TextLine) -> &[u8] {
        let start = self.bytes.len();
        // Strings and finite numbers always have a JSON form.
        let json = serde_json::to_string(line).unwrap_or_default();
        self.bytes.extend_from_slice(json.as_bytes());
        self.bytes.push(b'\n');
        &self.bytes[start..]
    }
}

/// Reads an output as it comes.
#[derive(Debug, Default)]
pub struct TextReader {
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
    ended: bool,
}

impl TextReader {
    /// The longest line, in bytes.
    pub const MAX_LINE: usize = 1 << 20;

    /// Takes the next bytes; gives the lines that they complete.
    ///
    /// # Errors
    /// `Execution` when they are not an output of text.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Vec<TextLine>> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.rest.len() + part.len() > Self::MAX_LINE {
                return Err(not_text("a line is too long"));
            }
            self.rest.extend_from_slice(part);
            if part.last() != Some(&b'\n') {
                continue;
            }
            if self.ended {
                return Err(not_text("something follows its last line"));
            }
            let line = serde_json::from_slice(&self.rest)
                .map_err(|source| not_text("a line is odd").with_source(source))?;
            self.rest.clear();
            self.ended = matches!(line, TextLine::End { .. });
            lines.push(line);
        }
        Ok(lines)
    }

    /// Whether the last line has come and nothing after it.
    pub fn is_complete(&self) -> bool {
        self.ended && self.rest.is_empty()
    }
}

/// A whole output of text.
#[derive(Debug, Clone, PartialEq)]
pub struct TextOutput {
    /// The text.
    pub text: String,
    /// Its tokens and how likely they were, where the model tells.
    pub logprobs: Vec<TokenLogprob>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

impl TextOutput {
    /// The media type of the output.
    pub const MEDIA_TYPE: &str = "application/x-ndjson";

    /// Reads an output.
    ///
    /// # Errors
    /// `Execution` when it is no text.
    pub fn read(output: &Output) -> Result<Self> {
        if output.media_type != Self::MEDIA_TYPE {
            return Err(not_text(&format!("its type is {}", output.media_type)));
        }
        let mut reader = TextReader::default();
        let (mut text, mut logprobs, mut end) = (String::new(), Vec::new(), None);
        for line in reader.read(&output.bytes)? {
            match line {
                TextLine::Piece(piece) => {
                    text.push_str(&piece.text);
                    logprobs.extend(piece.logprobs);
                }
                TextLine::End { finish_reason } => end = Some(finish_reason),
            }
        }
        match end.filter(|_| reader.is_complete()) {
            Some(finish_reason) => Ok(Self {
                text,
                logprobs,
                finish_reason,
            }),
            None => Err(not_text("its last line is missing")),
        }
    }
}

fn not_text(what: &str) -> Error {
    Error::execution(format!(
        "the miner's output is not text as docs/tasks.md describes it: {what}"
    ))
}

#[cfg(test)]
mod tests;
