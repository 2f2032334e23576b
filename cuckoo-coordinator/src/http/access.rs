//! Bearer tokens: a miner's session, and the one that an operator may ask of requesters.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use cuckoo_core::{B256, Error, Result, SessionToken};

use super::Shared;
use super::error::Refusal;
use crate::TaskHandle;

/// The longest token looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 512;

/// The token of `Authorization: Bearer <token>` (RFC 6750).
pub(super) struct Bearer(pub(super) SessionToken);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        bearer(&parts.headers)?.map(Self).ok_or_else(|| {
            Error::unauthorized(
                "this needs a session: open one with POST /miner/v1/sessions and send its token as \
                 `Authorization: Bearer <token>`",
            )
            .into()
        })
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<SessionToken>> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let malformed = || Error::unauthorized("write the header as `Authorization: Bearer <token>`");
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(malformed)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > MAX_TOKEN_BYTES {
        return Err(malformed());
    }
    Ok(Some(SessionToken::new(token)))
}

/// Who may submit tasks and look at the market.
#[derive(Debug, Clone)]
pub(super) struct RequesterAccess {
    token_hash: Option<B256>,
}

impl RequesterAccess {
    pub(super) fn open() -> Self {
        Self { token_hash: None }
    }

    pub(super) fn with_token(token: &SessionToken) -> Self {
        Self {
            token_hash: Some(token.hash()),
        }
    }
}

/// A request by somebody who may use the requester's side.
pub(super) struct Requester;

impl Requester {
    /// The name of its API key; none where requesters need none.
    pub(super) fn name(&self) -> Option<&str> {
        None
    }

    /// A task, if it is this requester's.
    ///
    /// # Errors
    /// `NotFound` when it is another's: that it exists is none of its business.
    pub(super) fn own(&self, task: TaskHandle) -> Result<TaskHandle> {
        match self.name() {
            Some(name) if task.requester() != Some(name) => {
                Err(Error::not_found(format!("no task {} here", task.id())))
            }
            _ => Ok(task),
        }
    }
}

impl FromRequestParts<Shared> for Requester {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let Some(wanted) = shared.access.token_hash else {
            return Ok(Self);
        };
        // Hashes are compared, so the time it takes tells nothing about the token.
        match bearer(&parts.headers)? {
            Some(token) if token.hash() == wanted => Ok(Self),
            _ => Err(Error::unauthorized(
                "this coordinator asks requesters for a token; send it as `Authorization: Bearer <token>`",
            )
            .into()),
        }
    }
}
