//! The coordinator over real HTTP on loopback, and the protocol's behaviour over HTTP and in process.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "http_api/blobs.rs"]
mod blobs;
#[cfg(feature = "otel")]
#[path = "http_api/collector.rs"]
mod collector;
#[path = "http_api/front.rs"]
mod front;
#[path = "http_api/market.rs"]
mod market;
#[path = "http_api/native.rs"]
mod native;
#[path = "http_api/openai.rs"]
mod openai;
#[path = "http_api/openai_audio.rs"]
mod openai_audio;
#[path = "http_api/openai_audio_refusals.rs"]
mod openai_audio_refusals;
#[path = "http_api/openai_images.rs"]
mod openai_images;
#[path = "http_api/openai_models.rs"]
mod openai_models;
#[path = "http_api/openai_refusals.rs"]
mod openai_refusals;
#[path = "http_api/openai_text.rs"]
mod openai_text;
#[path = "http_api/openapi.rs"]
mod openapi;
#[path = "http_api/previews.rs"]
mod previews;
#[path = "http_api/protocol.rs"]
mod protocol;
#[path = "http_api/requests.rs"]
mod requests;
#[path = "http_api/server.rs"]
mod server;
#[cfg(feature = "otel")]
#[path = "http_api/traces.rs"]
mod traces;
#[path = "http_api/watch.rs"]
mod watch;
