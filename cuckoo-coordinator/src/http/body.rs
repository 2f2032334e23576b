//! Bodies: those of requests, bounded in size and in the time they take to arrive; large ones of answers, bounded in the
//! time they take to be read.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use cuckoo_core::{Error, Result};
use futures::stream::{self, StreamExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::error::Refusal;
use super::serve::patience;

/// Longest a body may take to arrive: 32 MiB at 4.5 Mbit/s.
const PATIENCE: Duration = Duration::from_secs(60);
/// Read and thrown away beyond the limit, so that a client that sends first and listens later sees the refusal instead
/// of a broken connection.
const DRAINED: usize = 8 * 1024 * 1024;
/// An answer above this many bytes is handed over in parts of it.
const CHUNK: usize = 64 * 1024;
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

/// Bytes as the body of an answer. A client that does not read them in time gets no more, whatever keeps it: over HTTP/2 it
/// may read the connection and refuse the stream.
pub(super) fn answer(bytes: Bytes) -> Body {
    if bytes.len() <= CHUNK {
        return Body::from(bytes);
    }
    let total = bytes.len();
    let (sender, receiver) = mpsc::channel(1);
    let deadline = Instant::now() + patience(total as u64);
    tokio::spawn(async move {
        let mut rest = bytes;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK));
            let taken = tokio::time::timeout_at(deadline, sender.send(chunk)).await;
            if !matches!(taken, Ok(Ok(()))) {
                return;
            }
        }
    });
    let chunks = stream::try_unfold(
        (receiver, total),
        async |(mut receiver, left)| match receiver.recv().await {
            _ if left == 0 => Ok(None),
            Some(chunk) => {
                let left = left - chunk.len();
                Ok(Some((chunk, (receiver, left))))
            }
            None => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the answer was not read in time",
            )),
        },
    );
    Body::from_stream(chunks)
}

fn too_long(limit: usize) -> Refusal {
    let message = format!("the body is too long; this route takes at most {limit} bytes");
    Refusal::with_status(StatusCode::PAYLOAD_TOO_LARGE, Error::invalid(message))
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{Clock as _, SystemClock};

    use super::*;

    const LENGTH: usize = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn a_large_answer_comes_whole_to_who_reads_it() {
        let mut chunks = answer(vec![7; LENGTH].into()).into_data_stream();
        let mut length = 0;
        while let Some(chunk) = chunks.next().await {
            length += chunk.unwrap().len();
            SystemClock.sleep(Duration::from_secs(5)).await;
        }
        assert_eq!(length, LENGTH);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_a_large_answer_gets_no_more_of_it() {
        let bytes = Bytes::from(vec![7; LENGTH]);
        let held = bytes.clone();
        let mut chunks = answer(bytes).into_data_stream();
        chunks.next().await.unwrap().unwrap();
        assert!(!held.is_unique());
        SystemClock
            .sleep(patience(LENGTH as u64) + Duration::from_secs(1))
            .await;
        // One part was waiting to be taken.
        chunks.next().await.unwrap().unwrap();
        chunks.next().await.unwrap().unwrap_err();
        drop(chunks);
        assert!(held.is_unique(), "its memory is free");
    }
}
