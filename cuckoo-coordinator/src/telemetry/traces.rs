//! Traces: what each request and each task spent its time on, as spans that an OpenTelemetry collector takes.
//!
//! A request is a span of `tracing` ([`Traces::layer`] turns it into one of OpenTelemetry's). A task lives longer than the
//! request that submitted it and no code runs for as long as it waits, so its spans are made from the market's events
//! (`task`), with the times these carry.

#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod exporter;
#[cfg(feature = "otel")]
mod journey;
mod settings;
#[cfg(feature = "otel")]
mod task;

#[cfg(feature = "otel")]
pub use exporter::Traces;
pub use settings::TraceSettings;
#[cfg(feature = "otel")]
pub(crate) use task::TaskTraces;
