//! The pages that come with the program. They load nothing from elsewhere, and hold nothing about the market
//! themselves: what they show they ask for like any other client, with the reader's key.

use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use cuckoo_core::{Error, ErrorBody, paths};

use super::error::Refusal;

/// Only what this server sends, and pictures that the script fetched itself; in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// A page that shows the market at work. Where there are API keys it asks for an operator's.
#[utoipa::path(get, path = paths::DASHBOARD, tag = "operator", responses(
    (status = 200, description = "HTML", content_type = "text/html", body = String),
))]
pub(super) async fn dashboard() -> Response {
    file(HTML, include_str!("pages/dashboard.html"))
}

/// A page that explains these routes, for people.
#[utoipa::path(get, path = paths::DOCS, tag = "operator", responses(
    (status = 200, description = "HTML", content_type = "text/html", body = String),
))]
pub(super) async fn docs() -> Response {
    file(HTML, include_str!("pages/docs.html"))
}

/// A script or style of these pages.
#[utoipa::path(get, path = paths::ASSET, tag = "operator",
    params(("name" = String, Path, description = "As the pages name it")),
    responses(
        (status = 200, description = "A script or style", content_type = "text/javascript", body = String),
        (status = 404, description = "No page names it", body = ErrorBody),
    )
)]
pub(super) async fn asset(Path(name): Path<String>) -> Result<Response, Refusal> {
    Ok(match name.as_str() {
        "page.css" => file(STYLE, include_str!("pages/page.css")),
        "dashboard.css" => file(STYLE, include_str!("pages/dashboard.css")),
        "dashboard.js" => file(SCRIPT, include_str!("pages/dashboard.js")),
        "miners.js" => file(SCRIPT, include_str!("pages/miners.js")),
        "dom.js" => file(SCRIPT, include_str!("pages/dom.js")),
        "docs.css" => file(STYLE, include_str!("pages/docs.css")),
        "docs.js" => file(SCRIPT, include_str!("pages/docs.js")),
        _ => return Err(Error::not_found("no page has such a file").into()),
    })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Asked for again with each visit: the next release may have other ones.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}
