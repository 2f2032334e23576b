//! What is logged, and how lines look.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use cuckoo_core::{Error, Result};
use serde::Deserialize;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt};

use crate::traces::Traces;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(try_from = "String")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(name: String) -> std::result::Result<Self, String> {
        Self::from_str(&name, false).map_err(|_| "it is `text` or `json`".to_owned())
    }
}

/// The `[log]` of the settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) format: LogFormat,
}

/// Logs to standard error from now on, and makes spans for `traces`.
///
/// # Errors
/// `Invalid` for a filter that is none.
pub(crate) fn start(filter: &str, format: LogFormat, traces: Option<&Traces>) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|source| {
        Error::invalid("--log is a level or `target=level` pairs, such as info").with_source(source)
    })?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        // Fields at the top, those of the request's span included, so that `task` is found at one place.
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
    };
    let lines = Registry::default().with(lines.with_filter(filter));
    match traces {
        #[cfg(feature = "otel")]
        Some(traces) => lines.with(traces.layer()).init(),
        #[cfg(not(feature = "otel"))]
        Some(never) => match *never {},
        None => lines.init(),
    }
    Ok(())
}
