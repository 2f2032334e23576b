//! The miner's side: `TaskProtocol`, call by call.

use std::str::FromStr;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::{
    Chunk, ChunkReply, Completion, CompletionReply, CoordinatorInfo, Error, ErrorBody, Failure,
    Heartbeat, HeartbeatReply, LeaseId, Output, PollReply, PollRequest, Result, Session,
    SessionOpened, Signed, SignedReceipt, paths, schema,
};

use super::Shared;
use super::access::{Bearer, Newcomer};
use super::body::{Control, answer, read};
use super::error::Refusal;
use super::trace::note_task;

/// A receipt is about 700 bytes of JSON.
const MAX_RECEIPT_HEADER_BYTES: usize = 8 * 1024;
const MAX_MEDIA_TYPE_BYTES: usize = 128;
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

type Answer<T> = Result<Json<T>, Refusal>;

/// Who the coordinator is, which market it belongs to and which models it takes tasks for.
#[utoipa::path(get, path = paths::INFO, tag = "miner", responses(
    (status = 200, body = CoordinatorInfo),
))]
pub(super) async fn info(State(shared): State<Shared>) -> Answer<CoordinatorInfo> {
    Ok(Json(shared.protocol.info().await?))
}

/// Opens a session for the miner whose operator signed the request (EIP-712 type `Session`).
#[utoipa::path(post, path = paths::SESSIONS, tag = "miner", request_body = Signed<Session>, responses(
    (status = 200, description = "The token for every later call, and the coordinator's signed grant", body = SessionOpened),
    (status = 400, description = "Malformed", body = ErrorBody),
    (status = 401, description = "Not registered, not active, suspended, or an expired or replayed request", body = ErrorBody),
    (status = 422, description = "Signed by another key", body = ErrorBody),
    (status = 429, description = "Too many sessions opened by this miner or from this address", body = ErrorBody),
))]
pub(super) async fn open_session(
    State(shared): State<Shared>,
    _: Newcomer,
    Control(request): Control<Signed<Session>>,
) -> Answer<SessionOpened> {
    Ok(Json(shared.protocol.open_session(request).await?))
}

/// Ends the bearer's session; leases that are still open are re-assigned.
#[utoipa::path(delete, path = paths::SESSIONS, tag = "miner", security(("session" = [])), responses(
    (status = 204, description = "Ended"),
    (status = 401, description = "No such session", body = ErrorBody),
))]
pub(super) async fn close_session(
    State(shared): State<Shared>,
    Bearer(token): Bearer,
) -> Result<StatusCode, Refusal> {
    shared.protocol.close_session(&token).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks for work. Answers at once when there is some, else when the wait ends.
#[utoipa::path(post, path = paths::POLL, tag = "miner", security(("session" = [])), request_body = PollRequest, responses(
    (status = 200, description = "Assignments, none when the wait ended without any", body = PollReply),
    (status = 400, description = "Malformed", body = ErrorBody),
    (status = 401, description = "The session ended: open another", body = ErrorBody),
    (status = 503, description = "The coordinator is shutting down", body = ErrorBody),
))]
pub(super) async fn poll(
    State(shared): State<Shared>,
    Bearer(token): Bearer,
    Control(request): Control<PollRequest>,
) -> Answer<PollReply> {
    // The server drops this future when the miner hangs up, which ends the wait.
    Ok(Json(shared.protocol.poll(&token, request).await?))
}

/// A blob that the input of a lease in work names.
#[utoipa::path(get, path = paths::MINER_BLOB, tag = "miner", security(("session" = [])),
    params(
        ("id" = String, Path, description = "As the input has it: `blob:0x` and 64 hexadecimal digits"),
        ("Cuckoo-Lease" = String, Header, description = "The lease: 0x and 64 hexadecimal digits"),
    ),
    responses(
        (status = 200, description = "The bytes; any media type", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "The session ended: open another", body = ErrorBody),
        (status = 404, description = "The input does not name it", body = ErrorBody),
        (status = 409, description = "The lease ended", body = ErrorBody),
    )
)]
pub(super) async fn blob(
    State(shared): State<Shared>,
    Bearer(token): Bearer,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let lease = header(&headers, paths::LEASE)?;
    let blob = shared.protocol.blob(&token, lease, id.parse()?).await?;
    let length = HeaderValue::from(blob.bytes.len());
    let headers = [
        (
            CONTENT_TYPE,
            HeaderValue::try_from(blob.media_type).unwrap_or(OCTETS),
        ),
        (CONTENT_LENGTH, length),
    ];
    Ok((headers, answer(blob.bytes)).into_response())
}

/// Extends leases, reports progress and learns which tasks were cancelled.
#[utoipa::path(post, path = paths::HEARTBEAT, tag = "miner", security(("session" = [])), request_body = Heartbeat, responses(
    (status = 200, description = "What became of each lease, in the order asked, and which models are wanted", body = HeartbeatReply),
    (status = 400, description = "Malformed", body = ErrorBody),
    (status = 401, description = "The session ended: open another", body = ErrorBody),
))]
pub(super) async fn heartbeat(
    State(shared): State<Shared>,
    Bearer(token): Bearer,
    Control(request): Control<Heartbeat>,
) -> Answer<HeartbeatReply> {
    Ok(Json(shared.protocol.heartbeat(&token, request).await?))
}

/// Hands up the next bytes of an output in the making, as the body, for those who watch the task; extends the lease.
#[utoipa::path(post, path = paths::STREAM, tag = "miner", security(("session" = [])),
    params(
        ("Cuckoo-Lease" = LeaseId, Header, description = "The lease"),
        ("Cuckoo-Offset" = u64, Header, description = "How many bytes of the output are before these"),
    ),
    request_body(content = Option<schema::Payload>, content_type = "application/octet-stream", description = "The next bytes, at most 65536"),
    responses(
        (status = 200, description = "What to do about the lease, and where the next chunk begins", body = ChunkReply),
        (status = 400, description = "Malformed, or the output is too long", body = ErrorBody),
        (status = 401, description = "The session ended: open another", body = ErrorBody),
        (status = 413, description = "The chunk is too long", body = ErrorBody),
    )
)]
pub(super) async fn stream(
    State(shared): State<Shared>,
    Bearer(token): Bearer,
    headers: HeaderMap,
    body: Body,
) -> Answer<ChunkReply> {
    let chunk = Chunk {
        lease: header(&headers, paths::LEASE)?,
        offset: header(&headers, paths::OFFSET)?,
        bytes: read(&headers, body, Chunk::MAX_BYTES).await?,
    };
    Ok(Json(shared.protocol.stream(&token, chunk).await?))
}

/// Hands in an output: its bytes as the body, its media type as `Content-Type`, the signed receipt as a header.
#[utoipa::path(post, path = paths::COMPLETE, tag = "miner", security(("session" = [])),
    params(("Cuckoo-Receipt" = String, Header, pattern = "^[0-9A-Za-z_-]+$", max_length = 8192, description = "base64url, without padding, of the JSON of a `Signed_Receipt`")),
    request_body(content = Option<schema::Payload>, content_type = "application/octet-stream", description = "The output; any media type"),
    responses(
        (status = 200, description = "Accepted; a voucher when it is verified already", body = CompletionReply),
        (status = 400, description = "Malformed", body = ErrorBody),
        (status = 401, description = "The session ended: open another", body = ErrorBody),
        (status = 409, description = "The lease ended or was completed otherwise", body = ErrorBody),
        (status = 413, description = "The output is too long", body = ErrorBody),
        (status = 422, description = "Receipt, hash or signature do not hold", body = ErrorBody),
    )
)]
pub(super) async fn complete(
    State(shared): State<Shared>,
    Bearer(token): Bearer,
    headers: HeaderMap,
    body: Body,
) -> Answer<CompletionReply> {
    let receipt = receipt(&headers)?;
    note_task(receipt.value.task);
    let media_type = media_type(&headers)?;
    // Nobody without a session makes the server hold an output in memory.
    shared
        .protocol
        .heartbeat(&token, Heartbeat { leases: Vec::new() })
        .await?;
    let bytes = read(&headers, body, shared.max_output_bytes).await?;
    let completion = Completion {
        receipt,
        output: Output { media_type, bytes },
    };
    Ok(Json(shared.protocol.complete(&token, completion).await?))
}

/// Gives a lease back with the reason.
#[utoipa::path(post, path = paths::FAIL, tag = "miner", security(("session" = [])), request_body = Failure, responses(
    (status = 204, description = "Noted"),
    (status = 400, description = "Malformed", body = ErrorBody),
    (status = 401, description = "The session ended: open another", body = ErrorBody),
    (status = 409, description = "The lease ended", body = ErrorBody),
))]
pub(super) async fn fail(
    State(shared): State<Shared>,
    Bearer(token): Bearer,
    Control(failure): Control<Failure>,
) -> Result<StatusCode, Refusal> {
    shared.protocol.fail(&token, failure).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The value of a header that must be there.
fn header<T: FromStr>(headers: &HeaderMap, name: &str) -> Result<T> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            Error::invalid(format!(
                "send the header `{name}`; docs/protocol.md shows each route in use"
            ))
        })
}

pub(crate) fn receipt(headers: &HeaderMap) -> Result<SignedReceipt> {
    let malformed = || {
        Error::invalid(
            "send the signed receipt as `Cuckoo-Receipt`: base64url, without padding, of its JSON",
        )
    };
    let text = headers.get(paths::RECEIPT).ok_or_else(malformed)?;
    if text.len() > MAX_RECEIPT_HEADER_BYTES {
        return Err(malformed());
    }
    let json = URL_SAFE_NO_PAD
        .decode(text.as_bytes())
        .map_err(|_| malformed())?;
    serde_json::from_slice(&json).map_err(|source| malformed().with_source(source))
}

/// The media type of a body.
pub(super) fn media_type(headers: &HeaderMap) -> Result<String> {
    let malformed =
        || Error::invalid("send the media type of the body as `Content-Type`, such as `image/png`");
    let text = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(malformed)?;
    if text.len() > MAX_MEDIA_TYPE_BYTES || !text.contains('/') {
        return Err(malformed());
    }
    Ok(text.to_owned())
}
