//! The form of a text, for whoever reads it with a program.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
        /// One that joins schemas (`allOf` of several, `anyOf`, `oneOf` or `$ref` beside other keywords) is within
        /// [`TextFormat::MAX_JOINED_BYTES`]; `multipleOf` is above 0, at most 10000, with four decimals at most, and in a
        /// schema that joins others there is one of it.
        schema: Value,
    },
}

impl TextFormat {
    /// The longest schema, in bytes of compact JSON.
    pub const MAX_BYTES: usize = 64 << 10;
    /// How many objects and lists of a schema may be within each other.
    pub const MAX_DEPTH: usize = 64;
    /// The longest schema that joins others, in bytes of compact JSON. What is joined may have to be multiplied out, each part
    /// with a copy of the others, so that a grammar is larger than its schema by orders of magnitude.
    pub const MAX_JOINED_BYTES: usize = 8 << 10;

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
        if bytes > Self::MAX_BYTES {
            return Some(format!(
                "format.schema has {bytes} bytes; at most {} are taken",
                Self::MAX_BYTES
            ));
        }
        let (mut joins, mut steps) = (false, Vec::new());
        each_object(schema, &mut |fields| {
            joins |= is_joined(fields);
            steps.extend(fields.get("multipleOf").and_then(Value::as_f64));
        });
        if joins && bytes > Self::MAX_JOINED_BYTES {
            return Some(format!(
                "format.schema has {bytes} bytes; at most {} are taken of one that joins schemas (allOf of several, or anyOf, \
                 oneOf or $ref beside other keywords)",
                Self::MAX_JOINED_BYTES
            ));
        }
        if let Some(step) = steps.iter().find(|step| !is_step(**step)) {
            return Some(format!(
                "multipleOf in format.schema is {step}; it must be above 0, at most {LARGEST_STEP}, with four decimals at most"
            ));
        }
        (joins && steps.len() > 1).then(|| {
            "format.schema joins schemas and has multipleOf more than once; leave one of them"
                .to_owned()
        })
    }
}

/// Keywords that ask for nothing.
const ANNOTATIONS: [&str; 12] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
];

/// Whether an object is a schema that must fit together with others.
fn is_joined(fields: &Map<String, Value>) -> bool {
    let parts = |key: &str| {
        fields
            .get(key)
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    let refers = fields.get("$ref").is_some_and(Value::is_string);
    let combines = refers || ["allOf", "anyOf", "oneOf"].iter().any(|key| parts(key) > 0);
    let asks = |key: &&String| !ANNOTATIONS.contains(&key.as_str());
    parts("allOf") > 1 || (combines && fields.keys().filter(asks).count() > 1)
}

/// The largest `multipleOf`.
const LARGEST_STEP: f64 = 10_000.0;

/// Whether multiples of `step` can be told by counting in 32 bits, as grammars do.
fn is_step(step: f64) -> bool {
    let scaled = step * 10_000.0;
    step > 0.0 && step <= LARGEST_STEP && (scaled - scaled.round()).abs() < 1e-6
}

/// Calls `see` with every object of a value.
fn each_object<'a>(value: &'a Value, see: &mut impl FnMut(&'a Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each_object(item, see)),
        Value::Object(fields) => {
            see(fields);
            fields.values().for_each(|value| each_object(value, see));
        }
        _ => {}
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
