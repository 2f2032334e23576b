//! Errors as responses.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use cuckoo_core::{Error, ErrorBody, ErrorKind, Retry};

use super::openai;
use crate::LimitReached;

/// An error and the status it is answered with.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    error: Error,
}

impl Refusal {
    /// A refusal whose status says more than its error's kind does.
    pub(super) fn with_status(status: StatusCode, error: Error) -> Self {
        Self { status, error }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = StatusCode::from_u16(error.kind().http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.respond(|error| Json(ErrorBody::from(error)))
    }
}

impl Refusal {
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn error(&self) -> &Error {
        &self.error
    }

    /// The answer with what `body` makes of the error.
    pub(super) fn respond<B>(self, body: impl FnOnce(&Error) -> B) -> Response
    where
        B: IntoResponse,
    {
        let Self { status, error } = self;
        if error.kind() == ErrorKind::Internal {
            tracing::error!(%error, "request failed");
        } else {
            tracing::debug!(%status, %error, "request refused");
        }
        let mut response = (status, body(&error)).into_response();
        let headers = response.headers_mut();
        if let Some(limit) = LimitReached::of(&error) {
            tell_limit(limit, headers);
        } else if error.retry() == Retry::Later {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// When to come back, and what for a client may count: the `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers-10.
fn tell_limit(limit: &LimitReached, headers: &mut HeaderMap) {
    let (policy, seconds) = (limit.policy, limit.retry_after_seconds());
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    let mut tell = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    tell("ratelimit", format!("\"{policy}\";r=0;t={seconds}"));
    if let Some((quota, window)) = limit.allowed {
        let window = window.as_secs_f64().ceil();
        tell(
            "ratelimit-policy",
            format!("\"{policy}\";q={quota};w={window}"),
        );
    }
}

pub(super) async fn unknown_route(uri: Uri) -> Refusal {
    Error::not_found(format!(
        "there is no {}; /openapi.json lists what there is",
        uri.path()
    ))
    .into()
}

pub(super) async fn wrong_method(uri: Uri) -> Response {
    let path = uri.path();
    let refusal = Refusal::with_status(
        StatusCode::METHOD_NOT_ALLOWED,
        Error::invalid(format!(
            "{path} does not take this method; the Allow header names those it takes"
        )),
    );
    if openai::has(path) {
        openai::Refused::from(refusal).into_response()
    } else {
        refusal.into_response()
    }
}
