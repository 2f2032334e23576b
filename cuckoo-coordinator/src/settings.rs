//! What an operator sets: plain data, read from TOML, the environment or a language's dictionaries.

use std::collections::HashSet;
use std::time::Duration;

use cuckoo_core::{B256, Error, ModelId, ModelKind, Result, Wei};
use serde::{Deserialize, Serialize};

/// How a coordinator behaves. Every field has a default but `models`; times are in milliseconds, sizes in bytes.
///
/// ```
/// use cuckoo_coordinator::{ModelSettings, Settings};
/// use cuckoo_core::cai;
///
/// let shapes = ModelSettings::new("shapes".parse()?, cai(1));
/// let settings = Settings { models: vec![shapes], audit_probability: 0.2, ..Settings::default() };
/// settings.validate()?;
///
/// let certain = Settings { audit_probability: 1.5, ..settings };
/// assert!(certain.validate().unwrap_err().message().contains("audit_probability"));
/// # Ok::<(), cuckoo_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The models it takes tasks for, with their prices.
    pub models: Vec<ModelSettings>,
    /// Probability that a received output is repeated by a second miner, 0 to 1.
    pub audit_probability: f64,
    /// How long a received output waits for an auditor before it is accepted unaudited.
    pub audit_wait_millis: u64,
    /// How long a lease lasts without a heartbeat.
    pub lease_millis: u64,
    /// How often a miner is asked to send heartbeats; well below `lease_millis`.
    pub heartbeat_millis: u64,
    /// The longest a poll waits.
    pub poll_wait_millis: u64,
    /// Time from submission to the result when the requester sets none.
    pub default_timeout_millis: u64,
    /// The most a requester may set.
    pub max_timeout_millis: u64,
    /// Longest input, as JSON text.
    pub max_input_bytes: usize,
    /// Longest output.
    pub max_output_bytes: usize,
    /// Longest blob that inputs may name.
    pub max_blob_bytes: usize,
    /// The most that is kept of outputs in the making and of their previews, over all tasks, for those who watch them; what
    /// is beyond they see when its task ends.
    pub max_preview_bytes: usize,
    /// The most tasks that may be open at once; more are refused.
    pub max_queued: usize,
    /// How many miners may try a task before it fails.
    pub max_attempts: u32,
    /// How long a task rests after its second failure; after the first another miner gets it at once, and each further
    /// one doubles the rest, up to 30 seconds.
    pub retry_pause_millis: u64,
    /// How long a session lasts.
    pub session_millis: u64,
    /// How often stake weights are read again, besides on every change the chain reports.
    pub weights_refresh_millis: u64,
    /// How the escrow is watched.
    pub escrow: EscrowSettings,
    /// How long a finished task, its output included, can still be asked for.
    pub retention_millis: u64,
    /// The most finished tasks that are kept; the oldest are forgotten before their time.
    pub max_finished: usize,
}

/// How the escrow that pays miners is watched and filled up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EscrowSettings {
    /// How often it is read from the chain, in milliseconds.
    pub refresh_millis: u64,
    /// When the operator's account fills it up; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_up: Option<TopUp>,
}

/// When the escrow is filled up, and how far: decimal CAI in text, wei in Rust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopUp {
    /// When it covers less than this.
    #[serde(with = "cuckoo_core::cai_text")]
    pub below: Wei,
    /// So that it covers this.
    #[serde(with = "cuckoo_core::cai_text")]
    pub to: Wei,
}

impl Default for EscrowSettings {
    fn default() -> Self {
        Self {
            refresh_millis: 15_000,
            top_up: None,
        }
    }
}

impl EscrowSettings {
    fn validate(&self) -> Result<()> {
        match &self.top_up {
            Some(top_up) if top_up.below > top_up.to => Err(Error::invalid(
                "settings.escrow.top_up fills up to less than it asks for; set `to` above `below`",
            )),
            _ => Ok(()),
        }
    }
}

/// A model and what a task on it earns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// Its public name.
    pub model: ModelId,
    /// The only accepted hash of its files; miners with other files get no tasks. Any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_hash: Option<B256>,
    /// What a verified task earns: decimal CAI such as `"0.25"` in text, wei in Rust.
    #[serde(with = "cuckoo_core::cai_text")]
    pub price: Wei,
    /// What it is for, which decides the routes of OpenAI's clients that take it; `custom` when absent, which none does.
    #[serde(default)]
    pub kind: ModelKind,
}

impl ModelSettings {
    /// `model` at `price` wei a task, whatever the hash of its files and of no kind that OpenAI's clients know.
    pub fn new(model: ModelId, price: Wei) -> Self {
        Self {
            model,
            model_hash: None,
            price,
            kind: ModelKind::default(),
        }
    }

    /// Says what it is for.
    #[must_use]
    pub fn with_kind(mut self, kind: ModelKind) -> Self {
        self.kind = kind;
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            audit_probability: 0.05,
            audit_wait_millis: 30_000,
            lease_millis: 10_000,
            heartbeat_millis: 3_000,
            poll_wait_millis: 30_000,
            default_timeout_millis: 120_000,
            max_timeout_millis: 3_600_000,
            max_input_bytes: 65_536,
            max_output_bytes: 32 << 20,
            max_blob_bytes: 64 << 20,
            max_preview_bytes: 256 << 20,
            max_queued: 100_000,
            max_attempts: 5,
            retry_pause_millis: 500,
            session_millis: 3_600_000,
            weights_refresh_millis: 5_000,
            escrow: EscrowSettings::default(),
            retention_millis: 3_600_000,
            max_finished: 1_000_000,
        }
    }
}

impl Settings {
    /// The longest any time may be: a year.
    const MAX_MILLIS: u64 = 365 * 24 * 3_600_000;

    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` that names the field and its bounds.
    pub fn validate(&self) -> Result<()> {
        let mut names = HashSet::new();
        if self.models.is_empty() {
            return Err(Error::invalid(
                "settings.models is empty: name at least one model and its price",
            ));
        }
        for model in &self.models {
            if !names.insert(&model.model) {
                return Err(Error::invalid(format!(
                    "settings.models names `{}` twice",
                    model.model
                )));
            }
        }
        if !(0.0..=1.0).contains(&self.audit_probability) {
            return Err(Error::invalid(
                "settings.audit_probability is a number from 0 to 1",
            ));
        }
        for (name, millis) in [
            ("audit_wait_millis", self.audit_wait_millis),
            ("lease_millis", self.lease_millis),
            ("heartbeat_millis", self.heartbeat_millis),
            ("poll_wait_millis", self.poll_wait_millis),
            ("default_timeout_millis", self.default_timeout_millis),
            ("max_timeout_millis", self.max_timeout_millis),
            ("session_millis", self.session_millis),
            ("weights_refresh_millis", self.weights_refresh_millis),
            ("retention_millis", self.retention_millis),
            ("retry_pause_millis", self.retry_pause_millis),
            ("escrow.refresh_millis", self.escrow.refresh_millis),
        ] {
            if !(1..=Self::MAX_MILLIS).contains(&millis) {
                return Err(Error::invalid(format!(
                    "settings.{name} is at least 1 and at most a year in milliseconds"
                )));
            }
        }
        self.escrow.validate()?;
        if self.heartbeat_millis >= self.lease_millis {
            return Err(Error::invalid(
                "settings.heartbeat_millis must be below lease_millis, or every lease expires; a third of it is good",
            ));
        }
        if self.default_timeout_millis > self.max_timeout_millis {
            return Err(Error::invalid(
                "settings.default_timeout_millis is above max_timeout_millis",
            ));
        }
        if self.max_input_bytes < 2 || self.max_output_bytes == 0 {
            return Err(Error::invalid(
                "settings.max_input_bytes is at least 2 and max_output_bytes at least 1",
            ));
        }
        if self.max_queued == 0 || self.max_attempts == 0 || self.max_finished == 0 {
            return Err(Error::invalid(
                "settings.max_queued, max_attempts and max_finished are at least 1",
            ));
        }
        Ok(())
    }

    /// What is set for `model`.
    pub fn model(&self, model: &ModelId) -> Option<&ModelSettings> {
        self.models.iter().find(|entry| entry.model == *model)
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_millis)
    }

    /// How long a task rests after so many failures.
    pub(crate) fn rest_after(&self, failures: u32) -> Duration {
        const LONGEST: Duration = Duration::from_secs(30);
        let Some(doublings) = failures.checked_sub(2) else {
            return Duration::ZERO;
        };
        let factor = 2_u32.saturating_pow(doublings);
        Duration::from_millis(self.retry_pause_millis)
            .saturating_mul(factor)
            .min(LONGEST)
    }

    pub(crate) fn audit_wait(&self) -> Duration {
        Duration::from_millis(self.audit_wait_millis)
    }

    pub(crate) fn retention(&self) -> Duration {
        Duration::from_millis(self.retention_millis)
    }
}
