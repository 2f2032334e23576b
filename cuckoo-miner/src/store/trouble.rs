//! What can go wrong with a call to the hub, and whether it is worth another.

use std::time::{Duration, UNIX_EPOCH};

use cuckoo_core::{Error, Timestamp};
use reqwest::Url;

/// Why a call to the hub failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The same call may succeed later; with how long the hub asked to wait.
    Passing(Error, Option<Duration>),
    /// What came is not what was announced.
    Wrong(Error),
    /// Repeating does not help.
    Lasting(Error),
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(error, _) | Trouble::Wrong(error) | Trouble::Lasting(error) => error,
        }
    }
}

/// The error of an exchange that broke off. Addresses of stores hold signatures, so only hosts are named.
pub(super) fn lost(url: &Url, source: reqwest::Error) -> Trouble {
    let host = host(url);
    let error = if source.is_timeout() {
        Error::timeout(format!("{host} did not answer in time"))
    } else if source.is_connect() {
        Error::unavailable(format!(
            "cannot reach {host}; check the network, and the address in HF_ENDPOINT or --endpoint if one is set"
        ))
    } else {
        Error::unavailable(format!("the connection to {host} broke off"))
    };
    Trouble::Passing(error.with_source(source.without_url()), None)
}

/// A URL's server, for people.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the hub");
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// How long to wait, of the two forms that RFC 9110 has for it.
pub(super) fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let date = Timestamp::from_millis(0).after(date.duration_since(UNIX_EPOCH).ok()?);
    Some(date.since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_retry_after_are_understood() {
        let now = Timestamp::from_millis(784_111_777_000);
        for (text, seconds) in [
            ("7", Some(7)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(
                retry_after(text, now),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }
}
