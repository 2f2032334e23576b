//! What tasks of each kind of model look like: their JSON input, their output, and what of it may be streamed.
//!
//! `docs/tasks.md` shows each kind with an example. Pictures have no types here: their input is what
//! `cuckoo_miner::ImageExecutor` reads, their output a PNG.

mod embeddings;
mod text;
mod transcription;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use embeddings::{Embeddings, EmbeddingsInput};
pub use text::{
    FinishReason, Message, Role, TextFormat, TextInput, TextLine, TextOutput, TextPiece,
    TextPrompt, TextReader, TextWriter, TokenLogprob, TopLogprob,
};
pub use transcription::{Transcript, TranscriptSegment, TranscriptionInput};

/// What a model is for, and so which input its tasks take and which output they give.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ModelKind {
    /// Whatever its author says: any JSON object in, any bytes out.
    #[default]
    Custom,
    /// A prompt in, a picture out.
    Image,
    /// The [`Message`]s of a conversation in ([`TextInput`]), the next one out ([`TextOutput`]).
    Chat,
    /// The beginning of a text in ([`TextInput`]), what follows out ([`TextOutput`]).
    Completion,
    /// Texts in ([`EmbeddingsInput`]), a vector for each out ([`Embeddings`]).
    Embeddings,
    /// A recording in ([`TranscriptionInput`]), what is said in it out ([`Transcript`]).
    Transcription,
}

impl ModelKind {
    /// The name with its article, as sentences have it: `an image model`.
    pub fn phrase(self) -> String {
        let article = match self {
            Self::Image | Self::Embeddings => "an",
            Self::Custom | Self::Chat | Self::Completion | Self::Transcription => "a",
        };
        format!("{article} {self} model")
    }

    /// The name used in settings and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Image => "image",
            Self::Chat => "chat",
            Self::Completion => "completion",
            Self::Embeddings => "embeddings",
            Self::Transcription => "transcription",
        }
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
