//! The form of a text, for whoever reads it with a program.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What form a text has: whatever a model would rather say, it says in this form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum TextFormat {
    /// Some JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema {
        /// A JSON Schema, draft 2020-12, within [`TextFormat::MAX_BYTES`] and [`TextFormat::MAX_DEPTH`]. Which of its keywords
        /// are followed is up to the executor; it refuses the others. Objects have their properties in the schema's order.
        schema: Value,
    },
}

impl TextFormat {
    /// The longest schema, in bytes of compact JSON.
    pub const MAX_BYTES: usize = 64 << 10;
    /// How many objects and lists of a schema may be within each other.
    pub const MAX_DEPTH: usize = 64;

    /// What is wrong with it, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        let Self::JsonSchema { schema } = self else {
            return None;
        };
        if !schema.is_object() && !schema.is_boolean() {
            return Some("format.schema is not a JSON Schema, which is an object".to_owned());
        }
        if !is_within(schema, Self::MAX_DEPTH) {
            return Some(format!(
                "format.schema is deeper than {} objects and lists; move its parts to `$defs`",
                Self::MAX_DEPTH
            ));
        }
        let bytes = schema.to_string().len();
        (bytes > Self::MAX_BYTES).then(|| {
            format!(
                "format.schema has {bytes} bytes; at most {} are taken",
                Self::MAX_BYTES
            )
        })
    }
}

/// Whether no more than `depth` objects and lists are within each other.
fn is_within(value: &Value, depth: usize) -> bool {
    let inner = |value| is_within(value, depth - 1);
    match value {
        Value::Array(items) => depth > 0 && items.iter().all(inner),
        Value::Object(fields) => depth > 0 && fields.values().all(inner),
        _ => true,
    }
}
