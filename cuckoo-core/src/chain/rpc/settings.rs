//! How a chain's nodes are reached, and how patient to be with them and with transactions.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// The fastest polling, so that a zero in a configuration is no busy loop.
const LEAST_POLL: Duration = Duration::from_millis(10);
/// More endpoints than anybody has; each costs a probe.
const MOST_ENDPOINTS: usize = 16;

/// How to reach a chain's node, and how patient to be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RpcSettings {
    /// HTTP addresses of nodes of one chain, the preferred first: one text or a list of at most 16. They may carry a
    /// provider's key, so they are never shown beyond their hosts.
    #[serde(alias = "url", deserialize_with = "one_or_many")]
    pub urls: Vec<String>,
    /// How long one request to one node may take, in milliseconds.
    #[serde(default = "RpcSettings::request_millis")]
    pub request_millis: u64,
    /// How long a caller waits for a transaction, in milliseconds. The transaction is watched beyond that.
    #[serde(default = "RpcSettings::receipt_millis")]
    pub receipt_millis: u64,
    /// How often to look for receipts and new blocks, in milliseconds.
    #[serde(default = "RpcSettings::poll_millis")]
    pub poll_millis: u64,
    /// Blocks, its own included, after which a transaction counts as final. One suffices where blocks never vanish.
    #[serde(default = "RpcSettings::confirmations")]
    pub confirmations: u64,
    /// How long a transaction may wait for a block before its fees are raised, in milliseconds.
    #[serde(default = "RpcSettings::stuck_millis")]
    pub stuck_millis: u64,
    /// The most that a unit of gas may cost, in wei, however long a transaction waits.
    #[serde(default = "RpcSettings::max_fee_per_gas")]
    pub max_fee_per_gas: u64,
    /// Transactions of one key under way at once; more wait in line. Nodes keep few of one account (geth: 64).
    #[serde(default = "RpcSettings::max_in_flight")]
    pub max_in_flight: usize,
    /// Blocks that a node may be behind the best of the others before it is asked last.
    #[serde(default = "RpcSettings::max_lag_blocks")]
    pub max_lag_blocks: u64,
    /// The folder of the transactions' journals. Without one, what is under way is forgotten when the process ends.
    #[serde(default)]
    pub journal: Option<PathBuf>,
}

impl RpcSettings {
    /// The node at `url`, with common patience and no journal.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            urls: vec![url.into()],
            request_millis: Self::request_millis(),
            receipt_millis: Self::receipt_millis(),
            poll_millis: Self::poll_millis(),
            confirmations: Self::confirmations(),
            stuck_millis: Self::stuck_millis(),
            max_fee_per_gas: Self::max_fee_per_gas(),
            max_in_flight: Self::max_in_flight(),
            max_lag_blocks: Self::max_lag_blocks(),
            journal: None,
        }
    }

    const fn request_millis() -> u64 {
        10_000
    }

    const fn receipt_millis() -> u64 {
        120_000
    }

    const fn poll_millis() -> u64 {
        500
    }

    const fn confirmations() -> u64 {
        1
    }

    const fn stuck_millis() -> u64 {
        30_000
    }

    /// A thousand gwei.
    const fn max_fee_per_gas() -> u64 {
        1_000_000_000_000
    }

    const fn max_in_flight() -> usize {
        16
    }

    const fn max_lag_blocks() -> u64 {
        5
    }

    /// How long one request may take.
    pub(super) fn request(&self) -> Duration {
        Duration::from_millis(self.request_millis.max(1))
    }

    /// How long a caller waits for a transaction.
    pub(super) fn receipt(&self) -> Duration {
        Duration::from_millis(self.receipt_millis)
    }

    /// The pause between two looks at the chain.
    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_millis).max(LEAST_POLL)
    }

    /// How long a transaction may wait for a block before its fees are raised.
    pub(super) fn stuck(&self) -> Duration {
        Duration::from_millis(self.stuck_millis).max(LEAST_POLL)
    }

    /// The addresses, parsed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when there is none, too many, or one is no HTTP address.
    pub(super) fn addresses(&self) -> Result<Vec<Url>> {
        if self.urls.is_empty() || self.urls.len() > MOST_ENDPOINTS {
            return Err(Error::invalid(format!(
                "{} addresses of chain nodes; give 1 to {MOST_ENDPOINTS}",
                self.urls.len()
            )));
        }
        self.urls
            .iter()
            .map(|url| {
                Url::parse(url)
                    .ok()
                    .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
                    .ok_or_else(|| {
                        Error::invalid("the chain node's address is not a URL; write it like http://127.0.0.1:8545")
                    })
            })
            .collect()
    }
}

impl fmt::Debug for RpcSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origins: Vec<_> = self.urls.iter().map(|url| origin(url)).collect();
        f.debug_struct("RpcSettings")
            .field("urls", &origins)
            .field("request_millis", &self.request_millis)
            .field("receipt_millis", &self.receipt_millis)
            .field("poll_millis", &self.poll_millis)
            .field("confirmations", &self.confirmations)
            .field("stuck_millis", &self.stuck_millis)
            .field("max_fee_per_gas", &self.max_fee_per_gas)
            .field("max_in_flight", &self.max_in_flight)
            .field("max_lag_blocks", &self.max_lag_blocks)
            .field("journal", &self.journal)
            .finish()
    }
}

/// The part of an address that is no secret.
fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(
        |_| "an address that is no URL".to_owned(),
        |url| url.origin().ascii_serialization(),
    )
}

fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an address or a list of addresses")]
    enum Urls {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Urls::deserialize(from)? {
        Urls::One(url) => vec![url],
        Urls::Many(urls) => urls,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_or_several_are_read() {
        let one: RpcSettings = serde_json::from_str(r#"{"url": "http://a"}"#).unwrap();
        assert_eq!(one, RpcSettings::new("http://a"));
        let two: RpcSettings =
            serde_json::from_str(r#"{"urls": ["http://a", "http://b"]}"#).unwrap();
        assert_eq!(two.urls, ["http://a", "http://b"]);
        let text = serde_json::to_string(&two).unwrap();
        assert_eq!(serde_json::from_str::<RpcSettings>(&text).unwrap(), two);
        let none: RpcSettings = serde_json::from_str(r#"{"urls": []}"#).unwrap();
        assert!(
            none.addresses()
                .unwrap_err()
                .message()
                .contains("give 1 to 16")
        );
    }
}
