//! The wire protocol over HTTP, from the miner's side.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::{
    BlobId, Chunk, ChunkReply, Completion, CompletionReply, CoordinatorInfo, Error, ErrorBody,
    ErrorKind, Failure, Heartbeat, HeartbeatReply, LeaseId, Output, PollReply, PollRequest, Result,
    Retry, Session, SessionOpened, SessionToken, Signed, TaskProtocol, http_client, paths,
};
use reqwest::{
    Client, ClientBuilder, Method, RequestBuilder, Response, StatusCode, Url, header, redirect,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for an answer, beyond what a poll asks for.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest control message taken, in bytes.
const MAX_REPLY: usize = 1 << 20;
/// Largest assignment taken, in bytes: 64 KiB of input, escaped as JSON at worst, and what is around it.
const MAX_ASSIGNMENT: usize = 512 << 10;
/// Largest blob taken, in bytes.
const MAX_BLOB: usize = 1 << 30;
/// Largest error taken, in bytes.
const MAX_ERROR: usize = 64 << 10;

/// A coordinator reached over HTTP.
///
/// It opens no session by itself and repeats nothing: that is the [`Miner`](crate::Miner)'s business. Answers are bounded
/// in size and time; redirects are not followed, since they would carry the session's token elsewhere.
#[derive(Clone)]
pub struct HttpCoordinator {
    client: Client,
    base: Url,
    timeout: Duration,
}

impl HttpCoordinator {
    /// The coordinator at `url`, such as `http://127.0.0.1:8480`. Nothing is sent yet.
    ///
    /// # Errors
    /// `Invalid` for anything but an http or https URL without user, query and fragment.
    pub fn new(url: &str) -> Result<Self> {
        let invalid = || {
            Error::invalid(format!(
                "`{url}` is not a coordinator's address; write it like http://127.0.0.1:8480"
            ))
        };
        let mut base = plain(url, invalid)?;
        let folder = base.path().trim_end_matches('/').to_owned();
        base.set_path(&folder);
        let client = to(&base)
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|source| Error::internal("no HTTP client").with_source(source))?;
        Ok(Self {
            client,
            base,
            timeout: CALL_TIMEOUT,
        })
    }

    /// Waits at most `timeout` for an answer (60 s unless set), on top of what a poll asks for.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        self.client.request(method, url).timeout(self.timeout)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|source| self.lost(source))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refusal(response).await)
    }

    async fn reply<T: DeserializeOwned>(&self, request: RequestBuilder, most: usize) -> Result<T> {
        let response = self.send(request).await?;
        let body = self.body(response, most).await?;
        serde_json::from_slice(&body).map_err(|source| {
            Error::unavailable(format!(
                "{} does not answer as a coordinator does; check the address and both versions",
                self.base
            ))
            .with_source(source)
        })
    }

    /// A body of at most `most` bytes.
    async fn body(&self, mut response: Response, most: usize) -> Result<Vec<u8>> {
        let too_long = || {
            Error::unavailable(format!(
                "the answer of {} is longer than {most} bytes; is it a coordinator?",
                self.base
            ))
        };
        let announced = response.content_length().unwrap_or(0);
        if announced > most as u64 {
            return Err(too_long());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.lost(source))? {
            if body.len() + chunk.len() > most {
                return Err(too_long());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The error that an answer other than a success stands for.
    async fn refusal(&self, response: Response) -> Error {
        let status = response.status();
        let body = match self.body(response, MAX_ERROR).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) => body.into(),
            // Not a coordinator's words: a proxy on the way, or another server.
            Err(_) => self.foreign(status),
        }
    }

    fn foreign(&self, status: StatusCode) -> Error {
        let kind = match status.as_u16() {
            401 | 403 => ErrorKind::Unauthorized,
            404 | 405 => ErrorKind::NotFound,
            408 | 504 => ErrorKind::Timeout,
            _ => ErrorKind::Unavailable,
        };
        Error::new(
            kind,
            format!(
                "{} answered {status} and not as a coordinator does; check the address and what is in between",
                self.base
            ),
        )
        .with_retry(Retry::Later)
    }

    /// The error of an exchange that broke off.
    fn lost(&self, source: reqwest::Error) -> Error {
        let base = &self.base;
        let error = if source.is_timeout() {
            Error::timeout(format!("{base} did not answer in time"))
        } else if source.is_connect() {
            Error::unavailable(format!(
                "cannot reach the coordinator at {base}; check that it runs and that the address is right"
            ))
        } else if source.is_builder() {
            Error::invalid(format!("cannot make a request to {base}"))
        } else {
            Error::unavailable(format!("the connection to {base} broke off"))
        };
        error.with_source(source.without_url())
    }
}

impl fmt::Debug for HttpCoordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpCoordinator({})", self.base)
    }
}

/// An address and nothing else: no password, query or fragment.
pub(crate) fn plain(address: &str, invalid: impl Fn() -> Error) -> Result<Url> {
    let url = Url::parse(address.trim()).map_err(|source| invalid().with_source(source))?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    match plain {
        true => Ok(url),
        false => Err(invalid()),
    }
}

/// A client for one server, which follows no redirect.
pub(crate) fn to(server: &Url) -> ClientBuilder {
    let client = http_client()
        .redirect(redirect::Policy::none())
        .user_agent(concat!("cuckoo-miner/", env!("CARGO_PKG_VERSION")));
    match is_loopback(server) {
        true => client.no_proxy(),
        false => client,
    }
}

/// Whether a URL names this machine, which no proxy leads to.
pub(crate) fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}

/// The JSON of `value` in a header.
fn header_of(value: &impl Serialize) -> Result<String> {
    let json = serde_json::to_vec(value)
        .map_err(|source| Error::internal("a receipt has no JSON form").with_source(source))?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

#[async_trait]
impl TaskProtocol for HttpCoordinator {
    async fn info(&self) -> Result<CoordinatorInfo> {
        self.reply(self.request(Method::GET, paths::INFO), MAX_REPLY)
            .await
    }

    async fn open_session(&self, request: Signed<Session>) -> Result<SessionOpened> {
        let call = self.request(Method::POST, paths::SESSIONS).json(&request);
        self.reply(call, MAX_REPLY).await
    }

    async fn close_session(&self, token: &SessionToken) -> Result<()> {
        let call = self.request(Method::DELETE, paths::SESSIONS);
        self.send(call.bearer_auth(token.expose())).await.map(drop)
    }

    async fn poll(&self, token: &SessionToken, request: PollRequest) -> Result<PollReply> {
        let free = request.free_slots.min(PollRequest::MAX_SLOTS) as usize;
        let wait = Duration::from_millis(request.wait_millis.min(3_600_000));
        let call = self
            .request(Method::POST, paths::POLL)
            .timeout(self.timeout + wait)
            .bearer_auth(token.expose())
            .json(&request);
        self.reply(call, MAX_REPLY + free * MAX_ASSIGNMENT).await
    }

    async fn blob(&self, token: &SessionToken, lease: LeaseId, blob: BlobId) -> Result<Output> {
        let call = self
            .request(
                Method::GET,
                &paths::MINER_BLOB.replace("{id}", &blob.to_string()),
            )
            .bearer_auth(token.expose())
            .header(paths::LEASE, lease.to_string());
        let response = self.send(call).await?;
        let media_type = response.headers().get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or("application/octet-stream").to_owned();
        let bytes = self.body(response, MAX_BLOB).await?;
        Ok(Output::new(media_type, bytes))
    }

    async fn heartbeat(&self, token: &SessionToken, request: Heartbeat) -> Result<HeartbeatReply> {
        let call = self
            .request(Method::POST, paths::HEARTBEAT)
            .bearer_auth(token.expose())
            .json(&request);
        self.reply(call, MAX_REPLY).await
    }

    async fn stream(&self, token: &SessionToken, chunk: Chunk) -> Result<ChunkReply> {
        let call = self
            .request(Method::POST, paths::STREAM)
            .bearer_auth(token.expose())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(paths::LEASE, chunk.lease.to_string())
            .header(paths::OFFSET, chunk.offset)
            .body(chunk.bytes);
        self.reply(call, MAX_REPLY).await
    }

    async fn complete(
        &self,
        token: &SessionToken,
        completion: Completion,
    ) -> Result<CompletionReply> {
        let call = self
            .request(Method::POST, paths::COMPLETE)
            .bearer_auth(token.expose())
            .header(header::CONTENT_TYPE, completion.output.media_type)
            .header(paths::RECEIPT, header_of(&completion.receipt)?)
            .body(completion.output.bytes);
        self.reply(call, MAX_REPLY).await
    }

    async fn fail(&self, token: &SessionToken, failure: Failure) -> Result<()> {
        let call = self
            .request(Method::POST, paths::FAIL)
            .bearer_auth(token.expose())
            .json(&failure);
        self.send(call).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anything_is_sent() {
        for good in [
            "http://127.0.0.1:8480",
            "http://127.0.0.1:8480/",
            "http://[::1]:8480",
            "https://coordinator.example/market/",
        ] {
            HttpCoordinator::new(good).unwrap();
        }
        for bad in [
            "",
            "127.0.0.1:8480",
            "ftp://coordinator.example",
            "http://user:secret@coordinator.example",
            "http://coordinator.example/?token=1",
            "http://coordinator.example/#x",
        ] {
            let error = HttpCoordinator::new(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        }
    }

    #[test]
    fn routes_are_below_the_base() {
        let url = |base: &str| {
            let coordinator = HttpCoordinator::new(base).unwrap();
            let request = coordinator.request(Method::GET, paths::INFO);
            request.build().unwrap().url().to_string()
        };
        assert_eq!(
            url("http://127.0.0.1:1/"),
            "http://127.0.0.1:1/miner/v1/info"
        );
        assert_eq!(
            url("http://h.example/a/b/"),
            "http://h.example/a/b/miner/v1/info"
        );
    }

    #[test]
    fn loopback_is_recognised() {
        let loopback = |url: &str| is_loopback(&Url::parse(url).unwrap());
        assert!(loopback("http://127.0.0.1:1"));
        assert!(loopback("http://[::1]:1"));
        assert!(loopback("http://localhost:1"));
        assert!(!loopback("http://10.0.0.1:1"));
        assert!(!loopback("http://localhost.example:1"));
    }
}
