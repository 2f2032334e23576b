//! The OpenAPI document of the HTTP interface, generated from its routes and types.

mod refusals;

use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};

/// The OpenAPI document as pretty JSON: what `GET /openapi.json` answers and `openapi.json` in this crate holds.
pub fn openapi() -> String {
    render(crate::http::routes().into_openapi())
}

/// What stands before the routes.
pub(crate) fn preamble() -> utoipa::openapi::OpenApi {
    #[derive(OpenApi)]
    #[openapi(
        info(
            title = "Cuckoo coordinator",
            description = "Takes tasks from requesters, hands them to miners, and pays for verified work. \
                           Amounts are wei of CAI as decimal text or 0x quantities; times are milliseconds."
        ),
        tags(
            (name = "requester", description = "Submit tasks and fetch what came of them"),
            (name = "openai", description = "The same for OpenAI's clients"),
            (name = "miner", description = "Sessions, work, results"),
            (name = "operator", description = "Watch the coordinator, and this document"),
        )
    )]
    struct Preamble;

    let mut document = Preamble::openapi();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("session", bearer("The token of an open session"));
    components.add_security_scheme(
        "requester",
        bearer("An API key, where the coordinator was started with some"),
    );
    document
}

/// The document as text, with what all routes have alike.
pub(crate) fn render(mut document: utoipa::openapi::OpenApi) -> String {
    refusals::add(&mut document);
    // The document is plain data; were it ever not, the drift test would show the error in its place.
    let mut text = document
        .to_pretty_json()
        .unwrap_or_else(|error| error.to_string())
        // What the registry of formats calls uint64, the library spells otherwise.
        .replace("\"u-int", "\"uint");
    text.push('\n');
    text
}

fn bearer(description: &str) -> SecurityScheme {
    let mut scheme = Http::new(HttpAuthScheme::Bearer);
    scheme.description = Some(description.to_owned());
    SecurityScheme::Http(scheme)
}
