//! The hub's HTTP interface, as far as pulling needs it. Source: https://huggingface.co/docs/hub/api and the headers that
//! huggingface_hub reads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Clock, Entropy, Error, ErrorKind, OsEntropy, Result, Retry, SystemClock};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode, Url};

use super::content::ContentId;
use super::environment;
use super::listing::{self, Listing};
use super::name::HubModel;
use super::trouble::{Trouble, host, lost, retry_after};
use crate::client::{is_loopback, plain, to};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the hub may say nothing at all.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a list of files may take in all.
const LIST_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest list of files, in bytes.
const LONGEST_LIST: usize = 32 << 20;
const MOST_REDIRECTS: usize = 8;

const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");

/// A hub of models: Hugging Face's, or a mirror of it.
///
/// The token goes to the hub itself and to no host that it redirects to; without TLS only to this machine.
#[derive(Clone)]
pub struct Hub {
    client: Client,
    endpoint: Url,
    token: Option<HeaderValue>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

impl Hub {
    /// The hub at `endpoint`, such as `https://huggingface.co`, without a token. Nothing is sent yet.
    ///
    /// # Errors
    /// `Invalid` for anything but an http or https URL without user, query and fragment; `Unavailable` when the system has
    /// no randomness.
    pub fn new(endpoint: &str) -> Result<Self> {
        let invalid = || {
            Error::invalid(format!(
                "`{endpoint}` is not a hub's address; write it like https://huggingface.co"
            ))
        };
        let endpoint = plain(endpoint, invalid)?;
        let client = to(&endpoint)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .build()
            .map_err(|source| Error::internal("no HTTP client").with_source(source))?;
        Ok(Self {
            client,
            endpoint,
            token: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy::new()?),
        })
    }

    /// The hub that Hugging Face's own tools would ask: at `HF_ENDPOINT`, with the token in `HF_TOKEN` or that of
    /// `hf auth login`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_env() -> Result<Self> {
        Self::new(&environment::of_process().endpoint())?.with_token_from_env()
    }

    /// With the token in `HF_TOKEN`, or else that of `hf auth login`, where there is one.
    ///
    /// # Errors
    /// `Invalid` when it has characters that no token has.
    pub fn with_token_from_env(self) -> Result<Self> {
        let environment = environment::of_process();
        let token = environment
            .token()
            .or_else(|| cuckoo_core::cli::read_secret(&environment.token_file()).ok());
        match token {
            Some(token) => self.with_token(&token),
            None => Ok(self),
        }
    }

    /// With a token, for gated and private models.
    ///
    /// # Errors
    /// `Invalid` when it has characters that no token has.
    pub fn with_token(mut self, token: &str) -> Result<Self> {
        let mut header = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| Error::invalid("the hub's token has characters that no token has"))?;
        header.set_sensitive(true);
        self.token = Some(header);
        Ok(self)
    }

    /// With another clock and source of randomness, for pauses between repeats.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        self.clock = clock;
        self.entropy = entropy;
        self
    }

    /// All files of a model at its revision.
    pub(super) async fn listing(&self, model: &HubModel) -> Result<Listing, Trouble> {
        let mut url = self.url(
            ["api", "models"],
            model.name(),
            ["revision", model.revision()],
        );
        url.set_query(Some("blobs=true"));
        let call = Call {
            timeout: Some(LIST_TIMEOUT),
            ..Call::get(url)
        };
        let response = self.send(call, model, None).await?;
        let json = self.body(response, LONGEST_LIST).await?;
        Listing::parse(&json).map_err(|problem| Trouble::Lasting(self.odd(model, &problem)))
    }

    /// What one file holds, for hubs whose lists do not say.
    pub(super) async fn describe(
        &self,
        model: &HubModel,
        path: &str,
    ) -> Result<(ContentId, u64), Trouble> {
        let call = Call {
            method: Method::HEAD,
            // The hub's own answer is what describes the file, not that of the store it redirects to.
            leave: false,
            ..Call::get(self.file(model, path))
        };
        let response = self.send(call, model, Some(path)).await?;
        let headers = response.headers();
        let id = text(headers, &LINKED_ETAG).or_else(|| text(headers, &header::ETAG));
        let size = text(headers, &LINKED_SIZE)
            .or_else(|| text(headers, &header::CONTENT_LENGTH))
            .and_then(|size| size.parse().ok());
        let described = match (id, size) {
            (Some(id), Some(size)) => {
                listing::content(path, id.trim_start_matches("W/").trim_matches('"'), size)
            }
            _ => Err(format!("neither list nor headers say what `{path}` holds")),
        };
        described.map_err(|problem| Trouble::Lasting(self.odd(model, &problem)))
    }

    /// The content of a file from the byte `from` on: 206 with that part, 200 with all of it where parts are not given,
    /// 416 where it ends before.
    pub(super) async fn open(
        &self,
        model: &HubModel,
        path: &str,
        from: u64,
    ) -> Result<Response, Trouble> {
        let call = Call {
            from,
            ..Call::get(self.file(model, path))
        };
        self.send(call, model, Some(path)).await
    }

    fn file(&self, model: &HubModel, path: &str) -> Url {
        let mut url = self.url([], model.name(), ["resolve", model.revision()]);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path.split('/'));
        }
        url
    }

    /// An address below the endpoint. A revision is one segment, whatever is in it.
    fn url<const N: usize>(&self, before: [&str; N], name: &str, behind: [&str; 2]) -> Url {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(before)
                .extend(name.split('/'))
                .extend(behind);
        }
        url
    }

    /// Sends a call and follows redirects, the token staying with the hub.
    async fn send(
        &self,
        call: Call,
        model: &HubModel,
        path: Option<&str>,
    ) -> Result<Response, Trouble> {
        let mut url = call.url;
        for _ in 0..=MOST_REDIRECTS {
            let at_home = url.origin() == self.endpoint.origin();
            let mut request = self
                .client
                .request(call.method.clone(), url.clone())
                // Sizes and hashes are those of the content as it is.
                .header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = self.token.as_ref().filter(|_| at_home && is_safe(&url)) {
                request = request.header(header::AUTHORIZATION, token);
            }
            if call.from > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", call.from));
            }
            if let Some(timeout) = call.timeout {
                request = request.timeout(timeout);
            }
            let response = request.send().await.map_err(|source| lost(&url, source))?;
            let status = response.status();
            if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
                return Ok(response);
            }
            let target = text(response.headers(), &header::LOCATION);
            let Some(target) = target.filter(|_| status.is_redirection()) else {
                return Err(self.refusal(&response, at_home, model, path));
            };
            let next = url.join(target).ok().filter(|next| {
                matches!(next.scheme(), "http" | "https")
                    && (url.scheme() == "http" || next.scheme() == "https")
            });
            let Some(next) = next else {
                return Err(Trouble::Lasting(
                    self.odd(model, "it redirects to an address that is not followed"),
                ));
            };
            if !call.leave && next.origin() != self.endpoint.origin() {
                return Ok(response);
            }
            url = next;
        }
        Err(Trouble::Lasting(self.odd(model, "it redirects in circles")))
    }

    async fn body(&self, mut response: Response, most: usize) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        let url = response.url().clone();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| lost(&url, source))?
        {
            if body.len() + chunk.len() > most {
                return Err(Trouble::Lasting(Error::unavailable(format!(
                    "the answer of {} is longer than {most} bytes; is it a hub of models?",
                    self.endpoint
                ))));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The error that an answer other than a success stands for.
    fn refusal(
        &self,
        response: &Response,
        at_home: bool,
        model: &HubModel,
        path: Option<&str>,
    ) -> Trouble {
        let status = response.status();
        let code = text(response.headers(), &ERROR_CODE).unwrap_or_default();
        let what = match path {
            Some(path) => format!("`{path}` of {model}"),
            None => model.to_string(),
        };
        let server = host(response.url());
        let passing = matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error();
        // The address of a store is signed and expires; a new one comes with the next attempt.
        if passing || !at_home {
            let kind = match status.as_u16() {
                408 | 504 => ErrorKind::Timeout,
                _ => ErrorKind::Unavailable,
            };
            let error = Error::new(kind, format!("{server} answered {status} for {what}"));
            let wait = text(response.headers(), &header::RETRY_AFTER)
                .and_then(|text| retry_after(text, self.clock.now()));
            return Trouble::Passing(error, wait);
        }
        let name = model.name();
        let error = match (status.as_u16(), code) {
            (401 | 403, "GatedRepo") => Error::unauthorized(format!(
                "{name} is gated: accept its terms at {}{name}, then set HF_TOKEN, or --token-file, to a token of that account",
                slashed(&self.endpoint)
            )),
            (401 | 403, _) if self.token.is_none() => Error::unauthorized(format!(
                "{server} shows {what} to nobody without a token: check the name; if it is private, set HF_TOKEN or --token-file"
            )),
            (401 | 403, _) => Error::unauthorized(format!(
                "{server} does not show {what} with this token: check the name, and that the token is valid and may read it"
            )),
            (404, "RevisionNotFound") => Error::not_found(format!(
                "{name} has no revision `{}`; its page on the hub lists branches, tags and commits",
                model.revision()
            )),
            (404, _) => {
                Error::not_found(format!("{server} has no {what}; check name and revision"))
            }
            _ => Error::unavailable(format!(
                "{server} answered {status} for {what}; is it a hub of models?"
            ))
            .with_retry(Retry::Never),
        };
        Trouble::Lasting(error)
    }

    /// The error of an answer that no hub gives.
    pub(super) fn odd(&self, model: &HubModel, problem: &str) -> Error {
        Error::new(
            ErrorKind::Unverified,
            format!(
                "the answer of {} for {model} is refused: {problem}",
                host(&self.endpoint)
            ),
        )
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({})", self.endpoint)
    }
}

/// One call.
struct Call {
    method: Method,
    url: Url,
    from: u64,
    timeout: Option<Duration>,
    /// Whether redirects to other hosts are followed.
    leave: bool,
}

impl Call {
    fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            from: 0,
            timeout: None,
            leave: true,
        }
    }
}

/// Whether nobody in between can read what is sent.
fn is_safe(url: &Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

fn slashed(url: &Url) -> String {
    format!("{}/", url.as_str().trim_end_matches('/'))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_below_the_endpoint() {
        let hub = Hub::new("https://mirror.example/hub/").unwrap();
        let model: HubModel = "org/name@refs/pr/1".parse().unwrap();
        assert_eq!(
            hub.file(&model, "unet/a b#?.json").as_str(),
            "https://mirror.example/hub/org/name/resolve/refs%2Fpr%2F1/unet/a%20b%23%3F.json"
        );
        for bad in [
            "huggingface.co",
            "ftp://x",
            "https://u:p@x",
            "https://x/?a=b",
        ] {
            assert_eq!(
                Hub::new(bad).unwrap_err().kind(),
                ErrorKind::Invalid,
                "{bad}"
            );
        }
    }

    #[test]
    fn a_token_is_shown_to_nobody() {
        let hub = Hub::new("https://x.example")
            .unwrap()
            .with_token("hf_secret\n")
            .unwrap();
        assert!(!format!("{hub:?} {:?}", hub.token).contains("secret"));
        assert!(
            Hub::new("https://x.example")
                .unwrap()
                .with_token("a\nb")
                .is_err()
        );
        for (url, safe) in [
            ("https://x.example", true),
            ("http://127.0.0.1:1", true),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_safe(&Url::parse(url).unwrap()), safe, "{url}");
        }
    }
}
