//! Errors as OpenAI's clients read them.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use cuckoo_core::{Error, Retry};
use serde::Serialize;
use utoipa::openapi::{self, ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::LimitReached;
use crate::http::error::Refusal;

/// Tells OpenAI's clients whether to repeat a request by themselves.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why a request was refused or failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct OpenAiError {
    error: Problem,
}

/// What went wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Problem {
    /// What happened and what to do next.
    message: String,
    /// `invalid_request_error`, `rate_limit_error`, `insufficient_quota` or `server_error`.
    r#type: &'static str,
    /// The field of the request that it is about.
    param: Option<String>,
    /// The same for programs, such as `model_not_found`.
    code: Option<&'static str>,
}

/// A refusal that names a field of the request, and a code for programs.
#[derive(Debug)]
pub(in crate::http) struct Refused {
    refusal: Refusal,
    param: Option<String>,
    code: Option<&'static str>,
}

impl Refused {
    /// Status 400, because of one field.
    pub(super) fn param(param: impl Into<String>, message: impl Into<String>) -> Self {
        let mut refused = Self::from(Error::invalid(message));
        refused.param = Some(param.into());
        refused
    }

    /// Names the field that it is about.
    pub(super) fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says the same for programs.
    pub(super) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// What is told, also in the middle of a stream.
    pub(super) fn body(&self) -> OpenAiError {
        let error = self.refusal.error();
        let (r#type, code) = classify(self.refusal.status(), error);
        OpenAiError {
            error: Problem {
                message: error.to_string(),
                r#type,
                param: self.param.clone(),
                code: self.code.or(code),
            },
        }
    }
}

/// The type and code that OpenAI uses in such a case.
fn classify(status: StatusCode, error: &Error) -> (&'static str, Option<&'static str>) {
    const INVALID: &str = "invalid_request_error";
    match status {
        StatusCode::UNAUTHORIZED => (INVALID, Some("invalid_api_key")),
        StatusCode::TOO_MANY_REQUESTS => match LimitReached::of(error).map(|limit| limit.policy) {
            Some("tasks-per-day" | "spend-per-day") => {
                ("insufficient_quota", Some("insufficient_quota"))
            }
            _ => ("rate_limit_error", Some("rate_limit_exceeded")),
        },
        status if status.is_server_error() => ("server_error", None),
        _ => (INVALID, None),
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            param: None,
            code: None,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refusal::from(error).into()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = self.body();
        // These clients repeat what failed with 409, 429 or 5xx. A task was tried by several miners before it failed: once
        // more costs the requester again and ends the same.
        let hopeless = self.refusal.error().retry() == Retry::Never;
        let mut response = self.refusal.respond(|_| Json(body));
        if hopeless {
            let value = HeaderValue::from_static("false");
            response.headers_mut().insert(SHOULD_RETRY, value);
        }
        response
    }
}

/// What a request that becomes tasks is refused with, as its route is described.
impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        described(&[
            ("400", "A field is malformed or cannot be honoured"),
            ("401", "This coordinator asks for an API key"),
            ("404", "No such model"),
            ("409", "The idempotency key named another request"),
            ("413", "The body is too long"),
            ("429", "Refused by limits"),
            ("default", "A task failed, with its kind's status"),
        ])
    }
}

/// Errors among the responses of a route: their statuses, and what each says.
pub(super) fn described(errors: &[(&str, &str)]) -> BTreeMap<String, RefOr<openapi::Response>> {
    let describe = |(status, description): &(&str, &str)| {
        let schema = Ref::from_schema_name(OpenAiError::name());
        let body = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description(*description)
            .content("application/json", body)
            .build();
        ((*status).to_owned(), RefOr::T(response))
    };
    errors.iter().map(describe).collect()
}
