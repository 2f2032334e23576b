//! Links to outputs that work without an API key for an hour: what they point at is signed with a key that only this
//! coordinator has, so that nothing about them is stored, and they survive its restart.

use axum::extract::FromRequestParts;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::{Error, Key, Result, TaskId, Timestamp, paths};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::Requester;
use crate::http::Shared;
use crate::http::error::Refusal;
use crate::http::tasks::{Asked, OutputQuery, TaskPath};

/// How long a link works, in seconds: as long as OpenAI's.
const LIFE_SECONDS: u64 = 3_600;

/// Signs links.
#[derive(Debug, Clone)]
pub(in crate::http) struct Links {
    mac: Hmac<Sha256>,
}

impl Links {
    /// Those of the coordinator with this operator key.
    pub(in crate::http) fn new(operator: &Key) -> Self {
        // A key of its own, from which the operator's cannot be found.
        let mut derived = keyed(operator.secret_bytes().0);
        derived.update(b"cuckoo links to outputs, version 1");
        Self {
            mac: keyed(derived.finalize().into_bytes().into()),
        }
    }

    /// A link to a task's output, which begins with `base` and works from `now` on for an hour.
    pub(super) fn link(&self, base: &str, task: TaskId, now: Timestamp) -> String {
        let expires = now.as_secs().saturating_add(LIFE_SECONDS);
        let signature = URL_SAFE_NO_PAD.encode(self.signed(task, expires).finalize().into_bytes());
        let path = paths::TASK_OUTPUT.replace("{id}", &task.to_string());
        format!("{base}{path}?expires={expires}&signature={signature}")
    }

    /// Whether a link to this task's output works now.
    fn check(&self, task: TaskId, expires: u64, signature: &str, now: Timestamp) -> Result<()> {
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        if self.signed(task, expires).verify_slice(&signature).is_err() {
            return Err(Error::unauthorized(
                "this link was changed on its way; copy all of it, or send an API key",
            ));
        }
        if now.as_secs() >= expires {
            return Err(Error::unauthorized(
                "this link has expired; ask for the output with an API key",
            ));
        }
        Ok(())
    }

    fn signed(&self, task: TaskId, expires: u64) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(format!("{task}.{expires}").as_bytes());
        mac
    }
}

fn keyed(key: [u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a key to its hash's block of 64 bytes; this constructor takes it padded, and cannot fail.
    let mut block = [0; 64];
    block[..32].copy_from_slice(&key);
    Hmac::new(&block.into())
}

/// Who may see one task's output.
pub(in crate::http) enum Viewer {
    /// Somebody with a link to it.
    Linked,
    /// Its requester, if it is.
    Requester(Requester),
}

impl FromRequestParts<Shared> for Viewer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let Asked(query) = Asked::<OutputQuery>::from_request_parts(parts, shared).await?;
        let Some(signature) = query.signature else {
            let requester = Requester::from_request_parts(parts, shared).await?;
            return Ok(Self::Requester(requester));
        };
        shared.front.visit(parts)?;
        let TaskPath(task) = TaskPath::from_request_parts(parts, shared).await?;
        let (expires, now) = (query.expires.unwrap_or_default(), shared.coordinator.now());
        let checked = shared.links.check(task, expires, &signature, now);
        checked.map_err(|error| Refusal::with_status(StatusCode::FORBIDDEN, error))?;
        Ok(Self::Linked)
    }
}

/// Where the client reached this server, such as `https://api.example.org`: what its links begin with.
pub(super) struct Base(pub(super) Result<String>);

impl FromRequestParts<Shared> for Base {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        shared: &Shared,
    ) -> Result<Self, Self::Rejection> {
        if let Some(url) = &shared.front.settings().public_url {
            return Ok(Self(Ok(url.trim_end_matches('/').to_owned())));
        }
        let scheme = shared.front.scheme(parts);
        // HTTP/2 has no Host; what takes its place is in the address.
        let named = parts.uri.authority().map(ToString::to_string);
        let host = named.or_else(|| host(&parts.headers));
        let unnamed = || {
            Error::invalid(
                "no link can be made without a Host header; ask for response_format b64_json",
            )
        };
        Ok(Self(
            host.map(|host| format!("{scheme}://{host}"))
                .ok_or_else(unnamed),
        ))
    }
}

fn host(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(HOST)?.to_str().ok()?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{B256, SeededEntropy};

    use super::*;

    #[test]
    fn a_link_is_for_one_task_and_one_hour() {
        let key = Key::random(&SeededEntropy::from_number(1));
        let links = Links::new(&key);
        let (task, other) = (
            TaskId::from(B256::repeat_byte(1)),
            TaskId::from(B256::repeat_byte(2)),
        );
        let at = |seconds: u64| Timestamp::from_millis(seconds * 1_000);
        let link = links.link("http://host", task, at(100));
        let (path, query) = link.split_once('?').unwrap();
        assert_eq!(path, format!("http://host/v1/tasks/{task}/output"));
        let signature = query.strip_prefix("expires=3700&signature=").unwrap();
        // The same after a restart, and not by another coordinator.
        let again = Links::new(&key);
        again.check(task, 3_700, signature, at(3_699)).unwrap();
        let foreign = Links::new(&Key::random(&SeededEntropy::from_number(2)));
        foreign.check(task, 3_700, signature, at(101)).unwrap_err();
        let late = links.check(task, 3_700, signature, at(3_700)).unwrap_err();
        assert!(late.message().contains("expired"));
        links.check(other, 3_700, signature, at(101)).unwrap_err();
        links.check(task, 9_999, signature, at(101)).unwrap_err();
        links.check(task, 3_700, "", at(101)).unwrap_err();
    }
}
