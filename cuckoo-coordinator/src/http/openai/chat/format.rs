//! The form of an answer as OpenAI's clients ask for it.

use cuckoo_core::{Result, TextFormat};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::openai::Refused;

/// What form the answer has; free text when absent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = ChatResponseFormat)]
pub(super) enum ResponseFormat {
    /// Free text.
    Text,
    /// Some JSON object. Say in a message which one: the model does not know that it is held to this.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema { json_schema: JsonSchema },
}

/// A schema and what it is called.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ChatJsonSchema)]
pub(super) struct JsonSchema {
    /// 1 to 64 letters, digits, `_` and `-`.
    name: String,
    /// A JSON Schema, draft 2020-12; what of it cannot be followed is refused.
    #[serde(default)]
    #[schema(required, nullable = false, value_type = Object)]
    schema: Option<Value>,
    /// Changes nothing: every schema is followed strictly.
    #[serde(default, rename = "strict")]
    _strict: Option<bool>,
    /// Changes nothing: the model is told what the messages say.
    #[serde(default, rename = "description")]
    _description: Option<String>,
}

impl ResponseFormat {
    /// The format as models take it.
    ///
    /// # Errors
    /// Status 400 that names what is missing or malformed.
    pub(super) fn read(self) -> Result<Option<TextFormat>, Refused> {
        const LONGEST: usize = 64;
        let JsonSchema { name, schema, .. } = match self {
            Self::Text => return Ok(None),
            Self::JsonObject => return Ok(Some(TextFormat::JsonObject)),
            Self::JsonSchema { json_schema } => json_schema,
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(1..=LONGEST).contains(&name.len()) || !name.bytes().all(plain) {
            let message =
                format!("the name of a schema is 1 to {LONGEST} letters, digits, `_` and `-`");
            return Err(Refused::param("response_format.json_schema.name", message));
        }
        match schema {
            Some(schema) => Ok(Some(TextFormat::JsonSchema { schema })),
            None => {
                let message =
                    "the schema is missing; ask for the type json_object if any object will do";
                let missing = Refused::param("response_format.json_schema.schema", message);
                Err(missing.code("missing_required_parameter"))
            }
        }
    }
}
