//! Admission: turns what a requester asks for into a task that any miner can repeat exactly, or says why not.

use std::time::Duration;

use cuckoo_core::{
    B256, Entropy, Error, Result, Task, TaskId, TaskSpec, Timestamp, format_cai, payload_hash,
};
use serde_json::Value;

use crate::store::Submission;
use crate::{Settings, Webhooks};

/// Checks `spec` and fixes everything that is signed for: the input's exact text (with a seed), its hash and the price.
///
/// # Errors
/// `NotFound` for a model that is not served, `Invalid` for an input or timeout out of bounds, `Rejected` when the
/// requester offers less than the price.
pub(crate) fn admit(
    spec: TaskSpec,
    settings: &Settings,
    entropy: &dyn Entropy,
    now: Timestamp,
) -> Result<Task> {
    let Some(model) = settings.model(&spec.model) else {
        let served: Vec<_> = settings
            .models
            .iter()
            .map(|entry| entry.model.as_str())
            .collect();
        return Err(Error::not_found(format!(
            "no model `{}` here; this coordinator serves {}",
            spec.model,
            served.join(", ")
        )));
    };
    if let Some(offered) = spec.max_price
        && offered < model.price
    {
        return Err(Error::rejected(format!(
            "a task on `{}` costs {} CAI and at most {} is offered; raise max_price",
            spec.model,
            format_cai(model.price),
            format_cai(offered)
        )));
    }
    let timeout = spec
        .timeout_millis
        .unwrap_or(settings.default_timeout_millis);
    if !(1..=settings.max_timeout_millis).contains(&timeout) {
        return Err(Error::invalid(format!(
            "timeout_millis is {timeout}; it must be 1 to {}",
            settings.max_timeout_millis
        )));
    }
    let input = seal(spec.input, settings, entropy)?;
    Ok(Task {
        id: TaskId::at(now, entropy),
        // One text for all tasks of a model.
        model: model.model.clone(),
        input_hash: payload_hash(input.as_bytes()),
        input,
        price: model.price,
        submitted_at: now,
        deadline: now.after(Duration::from_millis(timeout)),
        priority: spec.priority,
    })
}

/// Who asks and how, checked.
///
/// # Errors
/// `Invalid` for an idempotency key or webhook out of bounds.
pub(crate) fn submission(
    spec: &TaskSpec,
    requester: Option<String>,
    webhooks: Option<&Webhooks>,
) -> Result<Submission> {
    if let Some(address) = &spec.webhook {
        let none = || {
            Error::invalid("this coordinator sends no webhooks; follow the task's events instead")
        };
        webhooks.ok_or_else(none)?.check(address)?;
    }
    let mut digest = B256::ZERO;
    if let Some(key) = &spec.idempotency_key {
        let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
        if key.is_empty() || key.len() > TaskSpec::MAX_KEY || !visible {
            return Err(Error::invalid(format!(
                "an idempotency key is 1 to {} visible ASCII characters, such as a UUID",
                TaskSpec::MAX_KEY
            )));
        }
        let mut asked = serde_json::to_value(spec)
            .map_err(|source| Error::invalid("the task is not JSON").with_source(source))?;
        // The same request may come with its fields in another order.
        asked.sort_all_objects();
        digest = payload_hash(asked.to_string().as_bytes());
    }
    Ok(Submission {
        requester,
        idempotency_key: spec.idempotency_key.clone(),
        digest,
        webhook: spec.webhook.clone(),
    })
}

/// The input as the one text that is hashed and signed for.
fn seal(input: Value, settings: &Settings, entropy: &dyn Entropy) -> Result<String> {
    let Value::Object(mut input) = input else {
        return Err(Error::invalid(
            "the input must be a JSON object such as {\"prompt\": \"a red circle\"}",
        ));
    };
    // 53 bits: what every language's JSON numbers hold exactly.
    input
        .entry("seed")
        .or_insert_with(|| Value::from(entropy.number() >> 11));
    let mut text = Value::Object(input).to_string();
    if text.len() > settings.max_input_bytes {
        return Err(Error::invalid(format!(
            "the input is {} bytes of JSON; at most {} are taken: shorten it",
            text.len(),
            settings.max_input_bytes
        )));
    }
    // It may wait long: what it grew by while it was written is given back.
    text.shrink_to_fit();
    Ok(text)
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{ErrorKind, SeededEntropy, Wei, cai};
    use serde_json::json;

    use super::*;
    use crate::ModelSettings;

    fn settings() -> Settings {
        Settings {
            models: vec![ModelSettings::new("shapes".parse().unwrap(), cai(1))],
            max_input_bytes: 64,
            ..Settings::default()
        }
    }

    fn admit_input(input: Value) -> Result<Task> {
        let spec = TaskSpec::new("shapes".parse().unwrap(), input);
        admit(
            spec,
            &settings(),
            &SeededEntropy::from_number(1),
            Timestamp::from_millis(1_000),
        )
    }

    #[test]
    fn a_seed_is_added_once_and_hashed_with_the_input() {
        let task = admit_input(json!({"prompt": "a"})).unwrap();
        let input: Value = serde_json::from_str(&task.input).unwrap();
        assert!(input["seed"].as_u64().unwrap() < 1 << 53);
        assert_eq!(task.input_hash, payload_hash(task.input.as_bytes()));
        assert_eq!(task.deadline, Timestamp::from_millis(121_000));
        let given = admit_input(json!({"prompt": "a", "seed": 7})).unwrap();
        assert_eq!(given.input, r#"{"prompt":"a","seed":7}"#);
    }

    #[test]
    fn a_key_names_what_is_asked_whatever_the_order_of_its_fields() {
        let digest = |input: Value| {
            let mut spec = TaskSpec::new("shapes".parse().unwrap(), input);
            spec.idempotency_key = Some("order-17".to_owned());
            submission(&spec, None, None).unwrap().digest
        };
        let first = digest(json!({"prompt": "a", "more": {"x": 1, "y": [2]}}));
        assert_eq!(
            first,
            digest(json!({"more": {"y": [2], "x": 1}, "prompt": "a"}))
        );
        assert_ne!(
            first,
            digest(json!({"prompt": "a", "more": {"x": 1, "y": [3]}}))
        );
    }

    #[test]
    fn what_is_refused_says_why() {
        let kind = |spec: TaskSpec| {
            let error = admit(
                spec,
                &settings(),
                &SeededEntropy::from_number(1),
                Timestamp::default(),
            );
            error.unwrap_err().kind()
        };
        let spec = |input| TaskSpec::new("shapes".parse().unwrap(), input);
        assert_eq!(kind(spec(json!("a red circle"))), ErrorKind::Invalid);
        assert_eq!(
            kind(spec(json!({"prompt": "x".repeat(65)}))),
            ErrorKind::Invalid
        );
        assert_eq!(
            kind(spec(json!({})).with_timeout(Duration::ZERO)),
            ErrorKind::Invalid
        );
        assert_eq!(
            kind(spec(json!({})).with_timeout(Duration::MAX)),
            ErrorKind::Invalid
        );
        assert_eq!(
            kind(TaskSpec::new("unknown".parse().unwrap(), json!({}))),
            ErrorKind::NotFound
        );
        let mut cheap = spec(json!({}));
        cheap.max_price = Some(cai(1) - Wei::from(1));
        assert_eq!(kind(cheap), ErrorKind::Rejected);
    }
}
