//! What strangers send: texts that are no input of any model, and inputs with strange fields.

use serde_json::{Map, Value, json};

/// The longest text made up here, in bytes, where the model takes as much.
const LONGEST: usize = 1 << 20;
/// Fields of an input that are made strange.
const MOST_FIELDS: usize = 16;
/// Deeper than any parser should follow.
const DEPTH: usize = 100_000;

/// Texts that are no JSON object, of at most `limit` bytes, with what is wrong about each.
pub(super) fn no_inputs(valid: &str, limit: usize) -> Vec<(&'static str, String)> {
    let limit = limit.min(LONGEST);
    let half = (0..=valid.len() / 2)
        .rev()
        .find(|at| valid.is_char_boundary(*at))
        .unwrap_or(0);
    let depth = DEPTH.min(limit / 2);
    let mut texts = vec![
        ("nothing at all", String::new()),
        ("blanks", " \r\n\t".to_owned()),
        ("words", "a red circle".to_owned()),
        ("half an input", valid[..half].to_owned()),
        ("more than an input", format!("{valid}}}")),
        ("NUL characters", "\0".repeat(16)),
        ("a NUL in a name", "{\"a\0b\": 1}".to_owned()),
        ("half a character", r#"{"\ud800": 1}"#.to_owned()),
        ("a number that is none", r#"{"value": NaN}"#.to_owned()),
        (
            "a number beyond all bounds",
            r#"{"value": 1e999}"#.to_owned(),
        ),
        ("null", "null".to_owned()),
        ("true", "true".to_owned()),
        ("a number", "-1".to_owned()),
        ("a text", r#""a red circle""#.to_owned()),
        ("a list", "[]".to_owned()),
        (
            "a huge text",
            format!("\"{}\"", "a".repeat(limit.saturating_sub(2))),
        ),
        (
            "lists within lists",
            format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
        ),
        (
            "objects within objects",
            r#"{"a":"#.repeat((limit / 6).min(DEPTH)) + "1",
        ),
    ];
    texts.retain(|(_, text)| text.len() <= limit);
    texts
}

/// The input with one field each that is missing, unknown or of a strange value, with what is strange.
pub(super) fn strange_fields(valid: &Map<String, Value>, limit: usize) -> Vec<(String, String)> {
    let mut inputs = Vec::new();
    let mut add = |what: String, input: Map<String, Value>| {
        let text = Value::Object(input).to_string();
        if text.len() <= limit.min(LONGEST) {
            inputs.push((what, text));
        }
    };
    let mut deep = json!(1);
    for _ in 0..64 {
        deep = json!([deep]);
    }
    let room = limit
        .min(LONGEST)
        .saturating_sub(Value::Object(valid.clone()).to_string().len());
    let values = [
        ("null", Value::Null),
        ("true", json!(true)),
        ("-1", json!(-1)),
        ("0.5", json!(0.5)),
        ("1e308", json!(1e308)),
        ("2^64 - 1", json!(u64::MAX)),
        ("a text", json!("a text")),
        ("an empty text", json!("")),
        ("a text with a NUL", json!("a\0b")),
        ("a huge text", json!("a".repeat(room / 2))),
        ("an empty list", json!([])),
        (
            "a long list of nulls",
            json!(vec![Value::Null; (room / 8).min(1_000_000)]),
        ),
        ("an empty object", json!({})),
        ("lists within lists", deep),
    ];
    for name in valid.keys().take(MOST_FIELDS) {
        for (what, value) in &values {
            let mut input = valid.clone();
            input.insert(name.clone(), value.clone());
            add(format!("`{name}` is {what}"), input);
        }
        let mut input = valid.clone();
        input.remove(name);
        add(format!("`{name}` is missing"), input);
    }
    inputs
}

/// A name that no model has a field of.
pub(super) const UNKNOWN: &str = "no_model_has_such_a_field";

/// The input with a field that no model knows.
pub(super) fn with_unknown_field(valid: &Map<String, Value>) -> String {
    let mut input = valid.clone();
    input.insert(UNKNOWN.to_owned(), json!(1));
    Value::Object(input).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_input_is_a_json_object_and_all_keep_to_the_limit() {
        for limit in [64, 64 * 1024, 8 << 20] {
            let texts = no_inputs(r#"{"grüße": "ü"}"#, limit);
            assert!(texts.len() > 12);
            for (what, text) in texts {
                assert!(text.len() <= limit, "{what}");
                let object = serde_json::from_str::<Map<String, Value>>(&text);
                assert!(object.is_err(), "{what}: {text}");
            }
        }
    }

    #[test]
    fn strange_fields_are_json_objects_within_the_limit() {
        let valid = json!({ "prompt": "x", "seed": 1 });
        let inputs = strange_fields(valid.as_object().unwrap(), 64 * 1024);
        assert_eq!(inputs.len(), 2 * 15);
        for (what, text) in inputs {
            assert!(text.len() <= 64 * 1024, "{what}");
            serde_json::from_str::<Map<String, Value>>(&text).unwrap();
        }
    }
}
