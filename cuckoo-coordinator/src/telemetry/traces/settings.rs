//! Which traces are sent where.

use cuckoo_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// The variables with which OpenTelemetry's own programs are told where traces go.
pub(super) const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// Traces of requests and tasks. OpenTelemetry's variables, such as `OTEL_EXPORTER_OTLP_ENDPOINT`, take precedence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// Where a collector takes OTLP over HTTP, without `/v1/traces`. None are sent when absent.
    pub endpoint: Option<String>,
    /// What the traces' sender is called.
    pub service_name: String,
    /// Which part of the traces that begin here is sent, 0 to 1. A caller that sends a `traceparent` decides for its own.
    pub sample_ratio: f64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            service_name: "cuckoo-coordinator".into(),
            sample_ratio: 1.0,
        }
    }
}

impl TraceSettings {
    /// # Errors
    /// `Invalid` that names the setting.
    pub fn validate(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(Error::invalid("otel.sample_ratio is between 0 and 1"));
        }
        let web = |endpoint: &String| {
            url::Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        };
        // Not quoted: it may carry a password.
        if !self.endpoint.as_ref().is_none_or(web) {
            return Err(Error::invalid(
                "otel.endpoint is an address such as http://127.0.0.1:4318",
            ));
        }
        Ok(())
    }

    /// Whether OpenTelemetry's variables ask for traces.
    pub fn asked_by_environment() -> bool {
        !switched_off() && ENDPOINTS.iter().any(|name| variable(name).is_some())
    }
}

/// Whether OpenTelemetry's variables forbid traces.
pub(super) fn switched_off() -> bool {
    let is = |name, value| variable(name).is_some_and(|text| text.eq_ignore_ascii_case(value));
    is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none")
}

/// A variable of the environment that says something.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_named_without_quoting_it() {
        let with = |endpoint: &str, sample_ratio| TraceSettings {
            endpoint: Some(endpoint.into()),
            sample_ratio,
            ..TraceSettings::default()
        };
        TraceSettings::default().validate().unwrap();
        with("https://user:secret@otel.example/x", 0.25)
            .validate()
            .unwrap();
        for (settings, named) in [
            (with("http://127.0.0.1:4318", 1.5), "otel.sample_ratio"),
            (with("http://127.0.0.1:4318", f64::NAN), "otel.sample_ratio"),
            (with("user:secret@otel.example", 1.0), "otel.endpoint"),
            (with("grpc://secret@otel.example", 1.0), "otel.endpoint"),
        ] {
            let error = settings.validate().unwrap_err();
            assert!(error.message().contains(named), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
