//! What stands before the routes: who may call, how fast, and from which pages.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use cuckoo_core::{Error, Result, paths};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::HttpSettings;
use super::access::bearer;
use super::api_keys::ApiKeys;
use super::error::Refusal;
use super::peer;
use super::rate::Throttle;
use crate::{ApiKeySettings, Requester};

/// How long browsers may remember which requests a page may send.
const PREFLIGHT_LIFE: Duration = Duration::from_secs(600);

/// Who may use a coordinator over HTTP, ready for [`router_with`](crate::router_with). Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Front {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: HttpSettings,
    keys: ApiKeys,
    requests: Throttle<IpAddr>,
    sessions: Throttle<IpAddr>,
}

impl Default for Front {
    /// For requesters without keys, with the default limits: serve it on a loopback address only.
    fn default() -> Self {
        Self::assemble(HttpSettings::default(), ApiKeys::default())
    }
}

impl Front {
    /// Reads the key files that `keys` name. Without any key, everybody may submit tasks.
    ///
    /// # Errors
    /// `Invalid` for settings out of bounds, `NotFound` for a key file that cannot be read.
    pub fn new(settings: HttpSettings, keys: &[ApiKeySettings]) -> Result<Self> {
        settings.validate()?;
        Ok(Self::assemble(settings, ApiKeys::load(keys)?))
    }

    fn assemble(settings: HttpSettings, keys: ApiKeys) -> Self {
        let requests = Throttle::new(settings.requests_per_second, Some(settings.burst));
        let sessions = Throttle::new(settings.sessions_per_second, Some(settings.session_burst));
        Self {
            inner: Arc::new(Inner {
                settings,
                keys,
                requests,
                sessions,
            }),
        }
    }

    /// Who sends a request.
    ///
    /// # Errors
    /// Status 401 without a known key where there are keys, 429 for too many requests.
    pub(super) fn requester(&self, parts: &Parts) -> Result<Requester, Refusal> {
        let Inner { keys, requests, .. } = &*self.inner;
        let too_fast = |limit: crate::LimitReached| limit.refuse("too many requests");
        if keys.is_empty() {
            if let Some(sender) = self.sender(parts) {
                requests.take(&sender, "requests").map_err(too_fast)?;
            }
            return Ok(Requester::anonymous());
        }
        let key = bearer(&parts.headers)?;
        let Some((requester, pace)) = key.and_then(|key| keys.find(&key)) else {
            return Err(Error::unauthorized(
                "this coordinator asks for an API key; send it as `Authorization: Bearer <key>`",
            )
            .into());
        };
        pace.map_err(too_fast)?;
        Ok(requester.clone())
    }

    /// Lets a miner try to open a session.
    ///
    /// # Errors
    /// Status 429 for too many from one address.
    pub(super) fn session_attempt(&self, parts: &Parts) -> Result<(), Refusal> {
        if let Some(sender) = self.sender(parts) {
            self.inner
                .sessions
                .take(&sender, "sessions")
                .map_err(|limit| limit.refuse("too many sessions opened from one address"))?;
        }
        Ok(())
    }

    /// Lets somebody look at what needs no key.
    ///
    /// # Errors
    /// Status 429 for too many from one address.
    pub(super) fn visit(&self, parts: &Parts) -> Result<(), Refusal> {
        if let Some(sender) = self.sender(parts) {
            let requests = &self.inner.requests;
            requests
                .take(&sender, "requests")
                .map_err(|limit| limit.refuse("too many requests from one address"))?;
        }
        Ok(())
    }

    pub(super) fn settings(&self) -> &HttpSettings {
        &self.inner.settings
    }

    /// How the sender reached this server: `https`, also where a trusted proxy speaks it, or `http`.
    pub(super) fn scheme(&self, parts: &Parts) -> &'static str {
        peer::scheme(parts, &self.inner.settings.trusted_proxies)
    }

    /// How old the last reading of the chain may be while the coordinator counts as ready.
    pub(super) fn max_chain_age(&self) -> Duration {
        Duration::from_secs(self.inner.settings.max_chain_age_seconds)
    }

    fn sender(&self, parts: &Parts) -> Option<IpAddr> {
        peer::sender(parts, &self.inner.settings.trusted_proxies)
    }

    /// Lets pages of the allowed origins call, and browsers show them what they need of the answers.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        let origins = &self.inner.settings.cors_origins;
        let allowed = match origins.as_slice() {
            [] => return None,
            origins
                if origins
                    .iter()
                    .any(|origin| origin == HttpSettings::ANY_ORIGIN) =>
            {
                AllowOrigin::any()
            }
            origins => {
                let origin = |origin: &String| HeaderValue::from_str(origin).ok();
                AllowOrigin::list(origins.iter().filter_map(origin))
            }
        };
        // Without credentials: a key is sent by the page itself, never by the browser on its own.
        let cors = CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([
                header::LOCATION,
                header::RETRY_AFTER,
                HeaderName::from_static("ratelimit"),
                HeaderName::from_static("ratelimit-policy"),
                HeaderName::from_static(paths::TASK_ID),
                HeaderName::from_static(paths::MINER),
                HeaderName::from_static(paths::RECEIPT),
            ])
            .max_age(PREFLIGHT_LIFE);
        Some(cors)
    }
}
