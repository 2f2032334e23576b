//! The way to the collector: the exporter's requests through the client that the rest of the program uses.

use std::time::Duration;

use async_trait::async_trait;
use axum::http::{Request, Response};
use bytes::{Bytes, BytesMut};
use cuckoo_core::{Error, Result};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::redirect;
use tokio::runtime::Handle;

use super::settings::variable;

/// How long a collector may take, unless the environment says otherwise: OpenTelemetry's default.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of an answer that are read; it says at most what was not taken.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Sends from the exporter's own thread by tasks of the runtime.
#[derive(Debug)]
pub(super) struct Collector {
    client: reqwest::Client,
    runtime: Handle,
}

impl Collector {
    pub(super) fn new(runtime: Handle) -> Result<Self> {
        let patience = [
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
        ];
        let mut patience = patience.into_iter().filter_map(variable);
        let patience = patience.find_map(|millis| millis.parse().ok());
        let client = cuckoo_core::http_client()
            // The headers may carry a key, which is for this address alone.
            .redirect(redirect::Policy::none())
            .timeout(patience.map_or(PATIENCE, Duration::from_millis))
            .build()
            .map_err(|source| Error::internal("no HTTP client").with_source(source))?;
        Ok(Self { client, runtime })
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        // The thread that waits for this has no reactor of its own.
        let sent = self
            .runtime
            .spawn(async move { send(client, request).await });
        sent.await?
    }
}

async fn send(
    client: reqwest::Client,
    request: reqwest::Request,
) -> Result<Response<Bytes>, HttpError> {
    // Without the address in errors: it may carry a password.
    let sent = client.execute(request).await;
    let mut answer = sent.map_err(reqwest::Error::without_url)?;
    let mut body = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        let room = MAX_ANSWER_BYTES.saturating_sub(body.len());
        if piece.len() > room {
            break;
        }
        body.extend_from_slice(&piece);
    }
    let mut response = Response::new(body.freeze());
    *response.status_mut() = answer.status();
    *response.headers_mut() = answer.headers().clone();
    Ok(response)
}
