//! Request bodies, bounded in size and in the time they take to arrive.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use cuckoo_core::{Error, Result};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;

use super::error::Refusal;

/// Longest a body may take to arrive: 32 MiB at 4.5 Mbit/s.
const PATIENCE: Duration = Duration::from_secs(60);
/// Read and thrown away beyond the limit, so that a client that sends first and listens later sees the refusal instead
/// of a broken connection.
const DRAINED: usize = 8 * 1024 * 1024;
/// The most bytes of a miner's control message: 64 capabilities or 256 heartbeats fit several times.
pub(super) const MAX_CONTROL_BYTES: usize = 256 * 1024;

/// The most bytes of a task's JSON when its input may be `max_input_bytes` long: JSON may spend six bytes on one
/// (`\u0041`), and there are other fields beside the input.
pub(super) fn task_limit(max_input_bytes: usize) -> usize {
    max_input_bytes.saturating_mul(6).saturating_add(4 * 1024)
}

/// A JSON message of a miner, at most [`MAX_CONTROL_BYTES`] long.
pub(super) struct Control<T>(pub(super) T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Control<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        json(request, MAX_CONTROL_BYTES).await.map(Self)
    }
}

/// Reads a JSON body of at most `limit` bytes.
///
/// `Content-Type: application/json` is asked for because a browser sends that to another site only with the site's
/// leave, while it sends other types freely: a page must not use a coordinator on its visitor's machine.
pub(super) async fn json<T: DeserializeOwned>(
    request: Request,
    limit: usize,
) -> Result<T, Refusal> {
    let is_json = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    if !is_json {
        return Err(Refusal::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Error::invalid("send JSON with the header `Content-Type: application/json`"),
        ));
    }
    let (parts, body) = request.into_parts();
    let bytes = read(&parts.headers, body, limit).await?;
    match Json::from_bytes(&bytes) {
        Ok(Json(value)) => Ok(value),
        Err(rejection) => Err(Error::invalid(format!(
            "the body is not what this route takes ({}); /openapi.json describes it",
            rejection.body_text()
        ))
        .into()),
    }
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// Status 413 for a longer one, `Timeout` when it takes over a minute to arrive.
pub(super) async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    let announced_too_long = announced.is_some_and(|length| length > limit);
    // A client that asks first has sent nothing yet, and one that announces too much is not worth the drain.
    if announced_too_long
        && (headers.contains_key(EXPECT) || announced > Some(limit.saturating_add(DRAINED)))
    {
        return Err(too_long(limit));
    }
    let reading = async {
        let mut chunks = body.into_data_stream();
        let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0).min(limit));
        let mut length = 0_usize;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|source| {
                Error::invalid("the body broke off; send it again").with_source(source)
            })?;
            length = length.saturating_add(chunk.len());
            if length <= limit {
                bytes.extend_from_slice(&chunk);
            } else if length > limit.saturating_add(DRAINED) {
                break;
            }
        }
        if length > limit {
            Err(too_long(limit))
        } else {
            Ok(bytes.freeze())
        }
    };
    // The time a peer may take is the network's matter, not the market's: it does not follow a simulated clock.
    tokio::time::timeout(PATIENCE, reading)
        .await
        .unwrap_or_else(|_| {
            let message = format!(
                "the body did not arrive within {} s; send it again",
                PATIENCE.as_secs()
            );
            Err(Refusal::with_status(
                StatusCode::REQUEST_TIMEOUT,
                Error::timeout(message),
            ))
        })
}

fn too_long(limit: usize) -> Refusal {
    let message = format!("the body is too long; this route takes at most {limit} bytes");
    Refusal::with_status(StatusCode::PAYLOAD_TOO_LARGE, Error::invalid(message))
}
