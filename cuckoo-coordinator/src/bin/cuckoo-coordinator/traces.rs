//! Traces, where the program is built with them.

use cuckoo_coordinator::TraceSettings;
#[cfg(feature = "otel")]
pub(crate) use cuckoo_coordinator::Traces;
#[cfg(not(feature = "otel"))]
use cuckoo_core::Error;
use cuckoo_core::Result;

/// Not built in: there are none.
#[cfg(not(feature = "otel"))]
pub(crate) enum Traces {}

/// Sends traces where the settings' `[otel]` and OpenTelemetry's variables say, if they do.
///
/// # Errors
/// `Invalid` for settings out of bounds, or when this program is built without traces.
#[cfg(feature = "otel")]
pub(crate) fn start(settings: Option<&TraceSettings>) -> Result<Option<Traces>> {
    match settings {
        Some(settings) => Traces::start(settings),
        None => Traces::start(&TraceSettings::default()),
    }
}

/// Refuses what the settings' `[otel]` asks for.
///
/// # Errors
/// `Invalid` when there is such a section: this program is built without traces.
#[cfg(not(feature = "otel"))]
pub(crate) fn start(settings: Option<&TraceSettings>) -> Result<Option<Traces>> {
    match settings {
        Some(_) => Err(Error::invalid(
            "[otel] asks for traces, and this program is built without them; build it with `cargo build --release \
             -p cuckoo-coordinator --features otel`, or remove the section",
        )),
        None => Ok(None),
    }
}

/// Says so when OpenTelemetry's variables alone, which may be meant for other programs, ask for what is not built in.
pub(crate) fn explain() {
    if cfg!(not(feature = "otel")) && TraceSettings::asked_by_environment() {
        tracing::warn!(
            "the environment asks for traces (OTEL_EXPORTER_OTLP_ENDPOINT), and this program is built without them; build \
             it with `--features otel`"
        );
    }
}
