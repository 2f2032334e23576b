//! Blobs, handed in before the tasks whose inputs name them.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use cuckoo_core::{BlobId, Error, ErrorBody, Output, paths};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::body::read;
use super::error::Refusal;
use super::miner::media_type;
use crate::Requester;

/// What a web page may send to another site without its leave (Fetch standard, CORS-safelisted `Content-Type`): such a page
/// must not fill a coordinator on its visitor's machine.
const OF_ANY_PAGE: [&str; 3] = [
    "text/plain",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
];

/// A blob that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(super) struct BlobView {
    /// What an input writes in its place: `blob:` and keccak256 of the bytes.
    id: BlobId,
    /// Its size.
    bytes: usize,
    /// Its media type.
    media_type: String,
}

/// Keeps bytes that inputs may then name: the body as it is, its media type as `Content-Type`.
#[utoipa::path(post, path = paths::BLOBS, tag = "requester", security((), ("requester" = [])),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The bytes; any media type but text/plain and those of forms"),
    responses(
        (status = 201, description = "Kept; write `id` into an input", body = BlobView),
        (status = 400, description = "No media type", body = ErrorBody),
        (status = 413, description = "Too many bytes", body = ErrorBody),
        (status = 415, description = "A media type that any web page could send", body = ErrorBody),
        (status = 429, description = "Refused by limits, or no room for more", body = ErrorBody),
    )
)]
pub(super) async fn put(
    State(shared): State<Shared>,
    _: Requester,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<BlobView>), Refusal> {
    let media_type = media_type(&headers)?;
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    if OF_ANY_PAGE
        .iter()
        .any(|page| essence.eq_ignore_ascii_case(page))
    {
        return Err(Refusal::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Error::invalid(
                "send the blob as `Content-Type: application/octet-stream`, or what it is",
            ),
        ));
    }
    let bytes = read(&headers, body, shared.coordinator.settings().max_blob_bytes).await?;
    let length = bytes.len();
    let blob = Output::new(media_type.clone(), bytes);
    let id = shared.coordinator.put_blob(blob).await?;
    let view = BlobView {
        id,
        bytes: length,
        media_type,
    };
    Ok((StatusCode::CREATED, Json(view)))
}
