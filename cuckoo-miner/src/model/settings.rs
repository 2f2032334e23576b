//! A component's `config.json`, read key by key so that nothing in it is ignored by accident.
//!
//! Published configurations carry dozens of keys, most of them at a value that changes nothing. A key that is read
//! here is *taken*; [`Settings::finish`] fails on any key that is left. So a setting this miner does not know, or
//! knows only at its neutral value, is an error that names it, and never a result that is quietly wrong.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::{Error, Result};

/// The keys of one JSON object that have not been taken yet.
#[derive(Debug)]
pub(crate) struct Settings {
    file: String,
    values: Map<String, Value>,
}

impl Settings {
    /// Parses the object in `bytes`; `file` names it in errors.
    pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Self> {
        let values = serde_json::from_slice(bytes).map_err(|source| Error::Json {
            file: file.to_owned(),
            source,
        })?;
        Ok(Self {
            file: file.to_owned(),
            values,
        })
    }

    /// The object with these keys; `file` names it in errors.
    pub(crate) fn new(file: &str, values: Map<String, Value>) -> Self {
        Self {
            file: file.to_owned(),
            values,
        }
    }

    /// Parses a list of objects.
    pub(crate) fn parse_list(file: &str, bytes: &[u8]) -> Result<Vec<Self>> {
        let list: Vec<Map<String, Value>> =
            serde_json::from_slice(bytes).map_err(|source| Error::Json {
                file: file.to_owned(),
                source,
            })?;
        let entry = |values| Self {
            file: file.to_owned(),
            values,
        };
        Ok(list.into_iter().map(entry).collect())
    }

    /// Takes a key's value; `None` when it is absent or null.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key).filter(|value| !value.is_null())
    }

    /// A whole number in `range`.
    pub(crate) fn count(
        &mut self,
        key: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<usize> {
        self.optional_count(key, range)
            .map(|count| count.unwrap_or(default))
    }

    /// A whole number in `range`, or absent.
    pub(crate) fn optional_count(
        &mut self,
        key: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>> {
        self.take(key)
            .map(|value| self.whole(key, &value, &range))
            .transpose()
    }

    /// A whole number in `range`; absent is an error.
    pub(crate) fn required(&mut self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        self.optional_count(key, range)?
            .ok_or_else(|| self.error(key, "is missing"))
    }

    /// The object under `key`, its keys still to be taken; `None` when it is absent or null.
    pub(crate) fn section(&mut self, key: &str) -> Result<Option<Self>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Object(values)) => Ok(Some(Self {
                file: format!("{} {key}", self.file),
                values,
            })),
            Some(value) => Err(self.error(key, format!("must be an object, not {value}"))),
        }
    }

    /// A list of whole numbers in `range`, or absent.
    pub(crate) fn optional_counts(
        &mut self,
        key: &str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<Vec<usize>>> {
        let Some(value) = self.take(key) else {
            return Ok(None);
        };
        let Value::Array(items) = &value else {
            return Err(self.error(key, format!("must be a list of whole numbers, not {value}")));
        };
        items
            .iter()
            .map(|item| self.whole(key, item, &range))
            .collect::<Result<_>>()
            .map(Some)
    }

    /// One whole number a block: a list of `blocks` numbers, or one number for all.
    pub(crate) fn per_block(
        &mut self,
        key: &str,
        blocks: usize,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> Result<Vec<usize>> {
        match self.values.get(key) {
            Some(Value::Array(items)) if items.len() != blocks => Err(self.error(
                key,
                format!("has {} entries for {blocks} blocks", items.len()),
            )),
            Some(Value::Array(_)) => Ok(self.optional_counts(key, range)?.unwrap_or_default()),
            _ => Ok(vec![self.count(key, default, range)?; blocks]),
        }
    }

    /// A finite number in `range`.
    pub(crate) fn number(
        &mut self,
        key: &str,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> Result<f64> {
        match self.take(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if range.contains(&number) => Ok(number),
                _ => Err(self.error(
                    key,
                    format!(
                        "must be a number from {} to {}, not {value}",
                        range.start(),
                        range.end()
                    ),
                )),
            },
        }
    }

    /// A text, or absent.
    pub(crate) fn optional_text(&mut self, key: &str) -> Result<Option<String>> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.error(key, format!("must be a text, not {value}"))),
        }
    }

    /// True or false.
    pub(crate) fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(value) => Err(self.error(key, format!("must be true or false, not {value}"))),
        }
    }

    /// One of the words in `choices`, mapped to what it stands for.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &str,
        default: T,
        choices: &[(&str, T)],
    ) -> Result<T> {
        let Some(value) = self.take(key) else {
            return Ok(default);
        };
        match choices
            .iter()
            .find(|(word, _)| value.as_str() == Some(word))
        {
            Some((_, choice)) => Ok(*choice),
            None => {
                let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                Err(self.error(
                    key,
                    format!("is {value}; this miner runs {}", words.join(", ")),
                ))
            }
        }
    }

    /// A list of such words; absent is an error.
    pub(crate) fn choices<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
        most: usize,
    ) -> Result<Vec<T>> {
        let items = match self.take(key) {
            Some(Value::Array(items)) if (1..=most).contains(&items.len()) => items,
            _ => return Err(self.error(key, format!("must be a list of 1 to {most} names"))),
        };
        let pick = |item: &Value| {
            choices
                .iter()
                .find(|(word, _)| item.as_str() == Some(word))
                .map(|(_, choice)| *choice)
        };
        items
            .iter()
            .map(|item| {
                pick(item).ok_or_else(|| {
                    let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                    let words = words.join(", ");
                    self.error(key, format!("has {item}; this miner runs {words}"))
                })
            })
            .collect()
    }

    /// One such word, or a list of them; none when absent.
    pub(crate) fn one_or_more<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
        most: usize,
    ) -> Result<Vec<T>> {
        match (self.values.get(key), choices) {
            (None | Some(Value::Null), _) | (_, []) => Ok(Vec::new()),
            (Some(Value::Array(_)), _) => self.choices(key, choices, most),
            (Some(_), [(_, first), ..]) => Ok(vec![self.choice(key, *first, choices)?]),
        }
    }

    /// A key that this miner runs only at one of `values` (absent and null always pass).
    pub(crate) fn only(&mut self, key: &str, values: &[Value]) -> Result<()> {
        match self.take(key) {
            Some(value) if !values.iter().any(|allowed| same(allowed, &value)) => {
                let allowed = values
                    .iter()
                    .map(|value| format!("{value} or "))
                    .collect::<String>();
                Err(self.error(
                    key,
                    format!("is {value}; this miner runs only {allowed}null"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Takes keys that do not change what is computed.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        keys.iter().for_each(|key| drop(self.values.remove(*key)));
    }

    /// Fails on the first key nobody took. Keys that begin with `_` are the writer's own notes.
    pub(crate) fn finish(self) -> Result<()> {
        match self.values.keys().find(|key| !key.starts_with('_')) {
            Some(key) => Err(self.error(key, "is unknown to this miner")),
            None => Ok(()),
        }
    }

    /// An error about `key` of this file.
    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::Setting {
            file: self.file.clone(),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    fn whole(&self, key: &str, value: &Value, range: &RangeInclusive<usize>) -> Result<usize> {
        match value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
        {
            Some(number) if range.contains(&number) => Ok(number),
            _ => Err(self.error(
                key,
                format!(
                    "must be a whole number from {} to {}, not {value}",
                    range.start(),
                    range.end()
                ),
            )),
        }
    }
}

/// Equality that takes 1 and 1.0 for the same number.
fn same(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(value: Value) -> Settings {
        Settings::parse("unet/config.json", value.to_string().as_bytes()).unwrap()
    }

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn values_are_read_and_bounded() {
        let mut s = settings(
            json!({"a": 3, "b": [1, 2], "c": 0.5, "d": true, "e": null, "f": "x", "g": 1.0, "h": 8, "i": "y"}),
        );
        let words = [("x", 4), ("y", 5)];
        assert_eq!(s.one_or_more("i", &words, 2).unwrap(), [5]);
        assert!(s.one_or_more("e", &words, 2).unwrap().is_empty());
        assert_eq!(s.optional_text("z").unwrap(), None);
        assert_eq!(s.count("a", 1, 1..=5).unwrap(), 3);
        assert_eq!(s.per_block("b", 2, 1, 1..=5).unwrap(), [1, 2]);
        assert_eq!(s.per_block("h", 3, 1, 1..=8).unwrap(), [8, 8, 8]);
        assert_eq!(s.number("c", 0.0, 0.0..=1.0).unwrap(), 0.5);
        assert!(s.flag("d", false).unwrap());
        assert_eq!(s.count("e", 7, 1..=9).unwrap(), 7);
        assert_eq!(s.choice("f", 0, &[("x", 4)]).unwrap(), 4);
        s.only("g", &[json!(1)]).unwrap();
        s.finish().unwrap();
    }

    #[test]
    fn what_is_left_or_out_of_range_is_named() {
        assert!(
            message(settings(json!({"new_trick": 1})).finish()).contains("`new_trick` is unknown")
        );
        settings(json!({"_diffusers_version": "0.42"}))
            .finish()
            .unwrap();
        for bad in [
            json!(0),
            json!(6),
            json!(-1),
            json!(2.5),
            json!("2"),
            json!(1e30),
        ] {
            assert!(
                message(settings(json!({"a": bad})).count("a", 1, 1..=5))
                    .contains("`a` must be a whole number from 1 to 5")
            );
        }
        assert!(
            message(settings(json!({"a": [1]})).per_block("a", 2, 1, 1..=5))
                .contains("1 entries for 2 blocks")
        );
        assert!(
            message(settings(json!({"a": "mish"})).choice("a", 0, &[("silu", 1)]))
                .contains("this miner runs silu")
        );
        assert!(message(settings(json!({"a": "b"})).only("a", &[])).contains("runs only null"));
        // JSON cannot hold an infinity, and a number that would become one does not parse.
        assert!(
            message(Settings::parse("x.json", br#"{"a": 1e999}"#))
                .contains("x.json is not valid JSON")
        );
        assert!(message(Settings::parse("x.json", b"[]")).contains("x.json is not valid JSON"));
    }
}
