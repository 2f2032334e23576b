//! A message as OpenAI's clients write it.

use cuckoo_core::{Message, Result, Role};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::openai::Refused;
use crate::http::openai::request::Rest;

/// One message of a conversation.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChatMessage {
    /// `system` or `developer`, `user`, or `assistant`.
    role: String,
    /// A text, or a list of parts of type `text`.
    #[serde(default)]
    content: Option<Content>,
    /// What answers have beside that, which may be sent back as it came: null or empty.
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Rest,
}

/// What is said.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a text or a list of parts as the content"
)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of what is said.
#[derive(Debug, Deserialize, ToSchema)]
struct ContentPart {
    /// `text`.
    r#type: String,
    #[serde(default)]
    text: Option<String>,
}

impl ChatMessage {
    /// The message as models take it; `index` is its place in the conversation.
    ///
    /// # Errors
    /// Status 400 that names what is not text, or who says it.
    pub(super) fn read(self, index: usize) -> Result<Message, Refused> {
        let at = |field: &str| format!("messages[{index}].{field}");
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => {
                let message = format!(
                    "role `{other}` is not supported here; it is system, developer, user or assistant"
                );
                return Err(Refused::param(at("role"), message));
            }
        };
        let empty = |value: &Value| match value {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        if let Some((name, _)) = self.rest.iter().find(|(_, value)| !empty(value)) {
            let message = format!("{name} of a message is not supported here; leave it out");
            return Err(Refused::param(at(name), message).code("unsupported_parameter"));
        }
        let content = match self.content {
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => {
                let parts = parts.into_iter().enumerate();
                let texts =
                    parts.map(|(part, content)| content.read(&at(&format!("content[{part}]"))));
                texts.collect::<Result<String, _>>()?
            }
            None => {
                let message = "a message needs its content: a text";
                return Err(Refused::param(at("content"), message));
            }
        };
        Ok(Message { role, content })
    }
}

impl ContentPart {
    fn read(self, at: &str) -> Result<String, Refused> {
        match (self.r#type.as_str(), self.text) {
            ("text", Some(text)) => Ok(text),
            ("text", None) => Err(Refused::param(format!("{at}.text"), "the text is missing")),
            (other, _) => {
                let message = format!("parts of type `{other}` are not supported here; send text");
                Err(Refused::param(format!("{at}.type"), message))
            }
        }
    }
}
