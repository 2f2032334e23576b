//! What an operator sets about the HTTP interface.

use std::net::IpAddr;

use axum::http::HeaderValue;
use cuckoo_core::{Error, Result};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::ApiKeySettings;

/// How the HTTP interface behaves, beside its API keys: plain data, each field with a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Where clients reach it, such as `https://api.example.org`: what links to outputs begin with. As each request says
    /// in its `Host` header when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// Web pages of these origins, such as `https://app.example.org`, may call it from a browser; `*` is all. None by default.
    pub cors_origins: Vec<String>,
    /// Addresses of reverse proxies, whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpAddr>,
    /// Where there are no API keys: how many requests a second one address may send in the long run. This machine's own
    /// addresses may send any number.
    pub requests_per_second: f64,
    /// How many of them at once.
    pub burst: u32,
    /// How many sessions miners of one address may open a second in the long run. This machine's own may open any number.
    pub sessions_per_second: f64,
    /// How many of them at once.
    pub session_burst: u32,
    /// The most connections at a time, a waiting miner's included; more wait in the system's backlog.
    pub max_connections: usize,
    /// How old the last reading of the chain may be, in seconds, before `/readyz` says that no tasks should be sent here.
    pub max_chain_age_seconds: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            public_url: None,
            cors_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            requests_per_second: 50.0,
            burst: 100,
            sessions_per_second: 5.0,
            session_burst: 200,
            max_connections: 16_384,
            max_chain_age_seconds: 120,
        }
    }
}

impl HttpSettings {
    /// Stands for every origin.
    pub(crate) const ANY_ORIGIN: &str = "*";

    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` that names the field and its bounds.
    pub fn validate(&self) -> Result<()> {
        let is_base = |url: &String| {
            url.parse::<Url>().is_ok_and(|parsed| {
                ["http", "https"].contains(&parsed.scheme())
                    && parsed.query().is_none()
                    && parsed.fragment().is_none()
            })
        };
        if let Some(url) = self.public_url.as_ref().filter(|url| !is_base(url)) {
            return Err(Error::invalid(format!(
                "http.public_url: `{url}` is no address; write it like https://api.example.org"
            )));
        }
        for origin in &self.cors_origins {
            let well_formed = origin == Self::ANY_ORIGIN
                || origin.split_once("://").is_some_and(|(scheme, host)| {
                    ["http", "https"].contains(&scheme) && !host.is_empty() && !host.contains('/')
                }) && HeaderValue::from_str(origin).is_ok();
            if !well_formed {
                return Err(Error::invalid(format!(
                    "http.cors_origins: `{origin}` is no origin; write it like https://app.example.org, without a path"
                )));
            }
        }
        for (name, rate) in [
            ("requests_per_second", self.requests_per_second),
            ("sessions_per_second", self.sessions_per_second),
        ] {
            if !ApiKeySettings::is_rate(rate) {
                return Err(Error::invalid(format!(
                    "http.{name} is a number from 0.001 to 1000000"
                )));
            }
        }
        if self.burst == 0 || self.session_burst == 0 || self.max_connections == 0 {
            return Err(Error::invalid(
                "http.burst, session_burst and max_connections are at least 1",
            ));
        }
        Ok(())
    }
}
