//! Requesters: who submits tasks, and how much each may.

mod limit;
mod usage;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use cuckoo_core::{B256, Error, Result, Wei};
use serde::{Deserialize, Serialize};

pub use limit::LimitReached;
pub(crate) use usage::Usage;

/// A requester's key and limits: plain data, without the key itself. Limits that are absent are none.
///
/// ```
/// use cuckoo_coordinator::ApiKeySettings;
///
/// let settings: ApiKeySettings = serde_json::from_value(serde_json::json!({
///     "name": "app",
///     "key_file": "app.key",
///     "max_tasks_per_day": 10_000,
///     "max_spend_per_day": "25.5",
/// }))?;
/// settings.validate()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeySettings {
    /// What its requester is called in logs, limits and metrics: 1 to 64 letters, digits, `.`, `_` or `-`.
    pub name: String,
    /// keccak256 of the key's text. Either this or `key_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_hash: Option<B256>,
    /// A file whose first line is the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// Whether it may also see what concerns everybody: dashboard, metrics, evidence.
    #[serde(default)]
    pub operator: bool,
    /// The most tasks open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_open_tasks: Option<u64>,
    /// The most tasks accepted from midnight to midnight, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tasks_per_day: Option<u64>,
    /// The most that tasks accepted from midnight to midnight, UTC, may cost: decimal CAI such as `"0.25"` in text, wei in
    /// Rust. A task that ends without an output costs nothing.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_cai"
    )]
    pub max_spend_per_day: Option<Wei>,
    /// The highest priority a task may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_priority: Option<i8>,
    /// How many HTTP requests it may send a second in the long run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// How many it may send at once; `requests_per_second`, rounded up, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl ApiKeySettings {
    const MAX_NAME: usize = 64;

    /// A requester called `name`, without a key and without limits.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` that names the field and its bounds.
    pub fn validate(&self) -> Result<()> {
        let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=Self::MAX_NAME).contains(&self.name.len()) || !self.name.bytes().all(well_formed) {
            return Err(Error::invalid(
                "an api_keys.name is 1 to 64 letters, digits, `.`, `_` or `-`",
            ));
        }
        let wrong = |problem: &str| {
            Err(Error::invalid(format!(
                "api_keys `{}`: {problem}",
                self.name
            )))
        };
        if self.key_hash.is_some() == self.key_file.is_some() {
            return wrong("give either key_hash or key_file");
        }
        if self.requests_per_second.is_none() && self.burst.is_some() {
            return wrong("burst needs requests_per_second beside it");
        }
        if self
            .requests_per_second
            .is_some_and(|rate| !Self::is_rate(rate))
        {
            return wrong("requests_per_second is a number from 0.001 to 1000000");
        }
        if self.burst == Some(0) || self.max_open_tasks == Some(0) {
            return wrong("burst and max_open_tasks are at least 1");
        }
        Ok(())
    }

    /// Checks each, and that no name is used twice.
    ///
    /// # Errors
    /// `Invalid` that says what is wrong.
    pub fn validate_all(keys: &[Self]) -> Result<()> {
        let mut names = HashSet::new();
        for key in keys {
            key.validate()?;
            if !names.insert(&key.name) {
                return Err(Error::invalid(format!(
                    "api_keys names `{}` twice; each requester has one key",
                    key.name
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn is_rate(per_second: f64) -> bool {
        (0.001..=1_000_000.0).contains(&per_second)
    }
}

/// Who submits: one of the coordinator's [API keys](ApiKeySettings), or nobody in particular where none are set and in
/// programs that embed the coordinator. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Requester {
    key: Option<Arc<ApiKeySettings>>,
}

impl Requester {
    /// Nobody in particular: without a name and without limits.
    pub fn anonymous() -> Self {
        Self::default()
    }

    /// The requester that `settings` names, bound by their limits.
    pub fn new(settings: ApiKeySettings) -> Self {
        Self {
            key: Some(Arc::new(settings)),
        }
    }

    /// A requester with a name and without limits.
    pub fn named(name: impl Into<String>) -> Self {
        Self::new(ApiKeySettings::named(name))
    }

    /// What it is called; none for anonymous ones. What a requester owns, tasks and idempotency keys, is its name's.
    pub fn name(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.name.as_str())
    }

    pub(crate) fn limits(&self) -> Option<&ApiKeySettings> {
        self.key.as_deref()
    }

    /// Whether it may see what concerns everybody. Anonymous ones may: they exist only where nobody is told apart.
    pub fn is_operator(&self) -> bool {
        self.key.as_ref().is_none_or(|key| key.operator)
    }
}

mod optional_cai {
    use cuckoo_core::{Wei, cai_text};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(amount: &Option<Wei>, to: S) -> Result<S::Ok, S::Error> {
        match amount {
            Some(amount) => cai_text::serialize(amount, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Wei>, D::Error> {
        #[derive(Deserialize)]
        struct Amount(#[serde(with = "cai_text")] Wei);
        Ok(Option::<Amount>::deserialize(from)?.map(|amount| amount.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let good = ApiKeySettings {
            key_hash: Some(B256::repeat_byte(1)),
            ..ApiKeySettings::named("app-1")
        };
        good.validate().unwrap();
        let broken = |change: fn(&mut ApiKeySettings)| {
            let mut settings = good.clone();
            change(&mut settings);
            settings.validate().unwrap_err().message().to_owned()
        };
        for (message, named) in [
            (broken(|key| key.name = String::new()), "name"),
            (broken(|key| key.name = "two words".into()), "name"),
            (broken(|key| key.name = "a".repeat(65)), "name"),
            (broken(|key| key.key_hash = None), "key_file"),
            (broken(|key| key.key_file = Some("key".into())), "key_file"),
            (
                broken(|key| key.requests_per_second = Some(0.0)),
                "requests_per_second",
            ),
            (
                broken(|key| key.requests_per_second = Some(f64::NAN)),
                "requests_per_second",
            ),
            (broken(|key| key.burst = Some(3)), "burst"),
            (broken(|key| key.max_open_tasks = Some(0)), "max_open_tasks"),
        ] {
            assert!(message.contains(named), "{named}: {message}");
        }
        let twice = ApiKeySettings::validate_all(&[good.clone(), good]).unwrap_err();
        assert!(twice.message().contains("app-1"), "{twice}");
    }

    #[test]
    fn limits_are_read_from_text_and_written_back() {
        let text =
            r#"{"name":"app","key_file":"app.key","operator":false,"max_spend_per_day":"0.25"}"#;
        let settings: ApiKeySettings = serde_json::from_str(text).unwrap();
        assert_eq!(
            settings.max_spend_per_day,
            Some(cuckoo_core::cai(1) / Wei::from(4))
        );
        assert_eq!(serde_json::to_string(&settings).unwrap(), text);
        let unknown = text.replace("operator", "admin");
        assert!(serde_json::from_str::<ApiKeySettings>(&unknown).is_err());
    }
}
