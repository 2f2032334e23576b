//! Webhooks: tells a requester's server that a task ended, signed, and again until it listens.
//!
//! Messages and signatures are those of Standard Webhooks (<https://www.standardwebhooks.com>), so that receivers check
//! them with any of its libraries. An address is the requester's word: only public ones are called, over TLS, without
//! following redirects, or a coordinator could be sent to its neighbours.

mod address;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuckoo_core::{Clock, Error, Result, TaskId, TaskState, Timestamp};
use futures::stream::{self, StreamExt as _};
use hmac::{Hmac, Mac as _};
use reqwest::{Client, Url, redirect};
use serde::Serialize;
use sha2::Sha256;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::coordinator::Inner;
use crate::journal::Write;
use crate::store::TaskRecord;

/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a receiver is tried; each pause is four times the one before, the last ones an hour.
const MAX_TRIES: u32 = 10;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);
/// How many receivers are called at once, and how many messages are looked at.
const AT_ONCE: usize = 8;
const PAGE: usize = 1_000;
/// The longest address, in bytes.
const MAX_ADDRESS: usize = 2_048;

/// What a coordinator needs to send webhooks.
pub struct Webhooks {
    secret: Vec<u8>,
    client: Client,
    allow_private: bool,
}

impl fmt::Debug for Webhooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhooks").finish_non_exhaustive()
    }
}

impl Webhooks {
    /// The fewest bytes of a secret.
    const MIN_SECRET: usize = 24;

    /// Signs with `secret`: `whsec_` and the base64 of at least 24 random bytes, as receivers are given it.
    ///
    /// # Errors
    /// `Invalid` for any other text.
    pub fn new(secret: &str) -> Result<Self> {
        Self::build(secret, false)
    }

    /// The same, but calls private and loopback addresses too, and those without TLS: for receivers in the same network.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_private_addresses(secret: &str) -> Result<Self> {
        Self::build(secret, true)
    }

    fn build(secret: &str, allow_private: bool) -> Result<Self> {
        let decoded = secret
            .strip_prefix("whsec_")
            .and_then(|text| STANDARD.decode(text).ok());
        let secret = decoded
            .filter(|secret| secret.len() >= Self::MIN_SECRET)
            .ok_or_else(|| {
                Error::invalid(
                    "the webhook secret is `whsec_` and the base64 of at least 24 random bytes; \
                     `echo whsec_$(openssl rand -base64 32)` makes one",
                )
            })?;
        let mut client = cuckoo_core::http_client()
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE)
            .no_proxy();
        if !allow_private {
            client = client.dns_resolver(Arc::new(address::PublicOnly));
        }
        let client = client
            .build()
            .map_err(|source| Error::internal("no HTTP client").with_source(source))?;
        Ok(Self {
            secret,
            client,
            allow_private,
        })
    }

    /// Whether an address may be called.
    ///
    /// # Errors
    /// `Invalid` that says why not.
    pub(crate) fn check(&self, address: &str) -> Result<Url> {
        if address.len() > MAX_ADDRESS {
            return Err(Error::invalid(format!(
                "a webhook's address is at most {MAX_ADDRESS} bytes"
            )));
        }
        let url = Url::parse(address).map_err(|source| {
            Error::invalid("the webhook is no address such as https://app.example/done")
                .with_source(source)
        })?;
        if !self.allow_private {
            address::check(&url)?;
        }
        Ok(url)
    }

    /// Sends a task's end once.
    async fn send(&self, record: &TaskRecord, now: Timestamp) -> Result<()> {
        let address = record.submission.webhook.as_deref().unwrap_or_default();
        let url = self.check(address)?;
        let Some(message) = Message::of(record) else {
            return Ok(());
        };
        let body = serde_json::to_vec(&message)
            .map_err(|source| Error::internal("a task's state is not JSON").with_source(source))?;
        let (id, time) = (record.task.id.to_string(), now.as_secs());
        let signature = sign(&self.secret, &id, time, &body);
        let response = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", time)
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await
            // Without the address: it may carry a secret of its receiver.
            .map_err(|source| {
                Error::unavailable("the receiver cannot be reached")
                    .with_source(source.without_url())
            })?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(Error::unavailable(format!(
                "the receiver answered {}",
                response.status()
            )))
        }
    }
}

/// `v1,` and the base64 of the HMAC-SHA256 over id, time and body.
fn sign(secret: &[u8], id: &str, time: u64, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        unreachable!("HMAC takes keys of any length");
    };
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// What a receiver gets.
#[derive(Debug, Serialize)]
struct Message {
    #[serde(rename = "type")]
    kind: &'static str,
    /// When the task ended.
    timestamp: Option<Timestamp>,
    data: Data,
}

#[derive(Debug, Serialize)]
struct Data {
    id: TaskId,
    #[serde(flatten)]
    state: TaskState,
}

impl Message {
    fn of(record: &TaskRecord) -> Option<Self> {
        let state = record.terminal_state()?;
        let kind = match state {
            TaskState::Completed { .. } => "task.completed",
            TaskState::Cancelled => "task.cancelled",
            _ => "task.failed",
        };
        Some(Self {
            kind,
            timestamp: record.ended_at,
            data: Data {
                id: record.task.id,
                state,
            },
        })
    }
}

/// How often a message was tried, and when it is tried next.
#[derive(Debug, Clone, Copy)]
struct Trial {
    tries: u32,
    next: Timestamp,
}

/// Sends what is due, until `stop`.
pub(crate) async fn deliver(
    inner: Weak<Inner>,
    webhooks: Arc<Webhooks>,
    clock: Arc<dyn Clock>,
    wake: Arc<Notify>,
    stop: CancellationToken,
) {
    // `None` is done: the store is about to learn it.
    let mut trials: HashMap<TaskId, Option<Trial>> = HashMap::new();
    while let Some(strong) = inner.upgrade() {
        let pending = strong.tried(|| strong.store.unnotified(PAGE)).await;
        let pending = pending.unwrap_or_else(|error| {
            tracing::warn!(%error, "webhooks cannot be read from the store; trying again later");
            Vec::new()
        });
        trials.retain(|task, _| pending.iter().any(|record| record.task.id == *task));
        let now = clock.now();
        let due = pending.into_iter().filter(|record| {
            let trial = trials.get(&record.task.id);
            trial.is_none_or(|trial| trial.is_some_and(|trial| trial.next <= now))
        });
        let sent: Vec<_> = stream::iter(due.collect::<Vec<_>>())
            .map(|record| {
                let webhooks = &webhooks;
                async move {
                    let outcome = webhooks.send(&record, now).await;
                    (record.task.id, outcome)
                }
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (task, outcome) in sent {
            let tries = trials
                .get(&task)
                .copied()
                .flatten()
                .map_or(0, |trial| trial.tries)
                + 1;
            let given_up = tries >= MAX_TRIES;
            if let Err(error) = &outcome {
                tracing::warn!(%task, %error, tries, given_up, "a webhook was not taken");
            }
            if outcome.is_ok() || given_up {
                trials.insert(task, None);
                strong.with(|market, _| market.writes.push(Write::Notified(task)));
            } else {
                let pause = FIRST_PAUSE.saturating_mul(4_u32.saturating_pow(tries - 1));
                let next = now.after(pause.min(LONGEST_PAUSE));
                trials.insert(task, Some(Trial { tries, next }));
            }
        }
        drop(strong);
        let next = trials.values().flatten().map(|trial| trial.next).min();
        let pause = next.map_or(LONGEST_PAUSE, |next| next.since(clock.now()));
        tokio::select! {
            () = stop.cancelled() => return,
            () = wake.notified() => {}
            () = clock.sleep(pause) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The example of the specification.
        let webhooks = Webhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(
            &webhooks.secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn short_secrets_and_addresses_inside_are_refused() {
        for secret in [
            "",
            "whsec_",
            "whsec_c2hvcnQ=",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        ] {
            assert!(Webhooks::new(secret).is_err(), "{secret}");
        }
        let webhooks = Webhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        webhooks.check("https://app.example/done?x=1").unwrap();
        let long = format!("https://app.example/{}", "x".repeat(MAX_ADDRESS));
        for address in [
            "app.example",
            "ftp://app.example",
            "http://app.example",
            "https://localhost/x",
            "https://127.0.0.1/x",
            "https://10.1.2.3",
            "https://192.168.0.1",
            "https://169.254.169.254/latest/meta-data",
            "https://100.64.0.1",
            "https://0.0.0.0",
            "https://[::1]",
            "https://[fd00::1]",
            "https://[fe80::1]",
            "https://[::ffff:10.0.0.1]",
            "https://user:secret@app.example",
            &long,
        ] {
            assert!(webhooks.check(address).is_err(), "{address}");
        }
        let private = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let private = Webhooks::with_private_addresses(private).unwrap();
        private.check("http://127.0.0.1:9/x").unwrap();
    }
}
