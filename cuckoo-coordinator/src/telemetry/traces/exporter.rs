//! From spans to the collector, in batches and on a thread of their own.

use std::fmt;
use std::time::Duration;

use cuckoo_core::{Error, Result};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use super::collector::Collector;
use super::settings::{ENDPOINTS, TraceSettings, switched_off, variable};

/// What spans are made under.
const SCOPE: &str = "cuckoo-coordinator";
const SERVICE_NAME: Key = Key::from_static_str("service.name");
/// What OpenTelemetry calls a service that nobody named.
const UNNAMED: &str = "unknown_service";

/// Sends spans to a collector. Cheap to clone.
///
/// Whoever ends a span never waits: it goes into a bounded queue, and is dropped when that is full because the collector
/// is slow or away.
#[derive(Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl fmt::Debug for Traces {
    /// Without what is inside, where the collector's key is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").finish_non_exhaustive()
    }
}

impl Traces {
    /// Starts to send what `settings` and OpenTelemetry's variables say; `None` when neither names a collector. Must be
    /// called inside a tokio runtime, which then drives what is sent.
    ///
    /// # Errors
    /// `Invalid` for settings or variables out of bounds.
    pub fn start(settings: &TraceSettings) -> Result<Option<Self>> {
        settings.validate()?;
        let by_environment = TraceSettings::asked_by_environment();
        if switched_off() || (settings.endpoint.is_none() && !by_environment) {
            return Ok(None);
        }
        let runtime = Handle::try_current()
            .map_err(|_| Error::invalid("start traces inside a tokio runtime"))?;
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(runtime)?);
        if let Some(endpoint) = settings.endpoint.as_ref().filter(|_| !by_environment) {
            let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
            exporter = exporter.with_endpoint(endpoint);
        }
        let exporter = exporter.build().map_err(|_| {
            // Without the cause, which quotes the address: it may carry a password.
            Error::invalid(format!(
                "traces cannot be sent as the environment says: {} are addresses such as http://127.0.0.1:4318, and \
                 OTEL_EXPORTER_OTLP_COMPRESSION is absent",
                ENDPOINTS.join(" and ")
            ))
        })?;
        let mut provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(settings));
        // The variable is read by the provider itself.
        if variable("OTEL_TRACES_SAMPLER").is_none() {
            let ratio = Sampler::TraceIdRatioBased(settings.sample_ratio);
            provider = provider.with_sampler(Sampler::ParentBased(Box::new(ratio)));
        }
        Ok(Some(Self {
            provider: provider.build(),
        }))
    }

    /// Turns the coordinator's own spans of `tracing` into OpenTelemetry's, whatever else is logged.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        // No events: log lines have a place of their own, and these are formatted under the market's lock.
        let ours = filter_fn(|metadata| {
            metadata.is_span() && metadata.target().starts_with("cuckoo_coordinator")
        });
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours.with_max_level_hint(LevelFilter::DEBUG))
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.provider.tracer(SCOPE)
    }

    /// Sends what is left, for at most `patience`; spans that end later are lost.
    pub async fn shutdown(self, patience: Duration) {
        let closing = move || self.provider.shutdown_with_timeout(patience);
        match tokio::task::spawn_blocking(closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the latest traces were not delivered"),
            Err(error) => tracing::warn!(%error, "the latest traces were not delivered"),
        }
    }
}

/// Who sends.
fn resource(settings: &TraceSettings) -> Resource {
    let found = Resource::builder().build();
    let named = found
        .get(&SERVICE_NAME)
        .is_some_and(|name| !name.as_str().starts_with(UNNAMED));
    let mut resource = Resource::builder()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if !named {
        resource = resource.with_service_name(settings.service_name.clone());
    }
    resource.build()
}
