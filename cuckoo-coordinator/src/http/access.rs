//! Bearer tokens: a miner's session and a requester's API key.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use cuckoo_core::{Error, Result, SessionToken};

use super::Shared;
use super::error::Refusal;
use crate::{Requester, TaskHandle};

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

pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<SessionToken>> {
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

impl Requester {
    /// Whose tasks it sees: its own, or all, as operators do.
    pub(super) fn scope(&self) -> Option<&str> {
        self.name().filter(|_| !self.is_operator())
    }

    /// A task, if it sees it.
    ///
    /// # Errors
    /// `NotFound` when it is another's: that it exists is none of its business.
    pub(super) fn own(&self, task: TaskHandle) -> Result<TaskHandle> {
        match self.scope() {
            Some(name) if task.requester() != Some(name) => {
                Err(Error::not_found(format!("no task {} here", task.id())))
            }
            _ => Ok(task),
        }
    }
}

impl FromRequestParts<Shared> for Requester {
    type Rejection = Refusal;

    /// Asked once a request: what was found stays with the request, for whoever looks later.
    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        if let Some(known) = parts.extensions.get::<Self>() {
            return Ok(known.clone());
        }
        let requester = shared.front.requester(parts)?;
        parts.extensions.insert(requester.clone());
        Ok(requester)
    }
}

/// A request by somebody who may see what concerns everybody.
pub(super) struct Operator;

impl FromRequestParts<Shared> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let requester = Requester::from_request_parts(parts, shared).await?;
        if !requester.is_operator() {
            return Err(Refusal::with_status(
                StatusCode::FORBIDDEN,
                Error::unauthorized(
                    "this shows what all requesters do; it needs an API key with `operator = true`",
                ),
            ));
        }
        Ok(Self)
    }
}

/// A request by a miner without a session, not too soon after others from where it comes.
pub(super) struct Newcomer;

impl FromRequestParts<Shared> for Newcomer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        shared.front.session_attempt(parts)?;
        Ok(Self)
    }
}
