//! What requests to many routes are refused with alike: added to each of them here, so that no route has to list it.

use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    ContentBuilder, Header, ObjectBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder, Type,
    path::Operation,
};

struct Refusal {
    status: &'static str,
    name: &'static str,
    description: &'static str,
    header: Option<(&'static str, &'static str)>,
    /// Whether requests to a route can come to it.
    meets: fn(&Operation) -> bool,
}

const RETRY_AFTER: Option<(&str, &str)> = Some(("Retry-After", "Seconds to wait"));

const REFUSALS: [Refusal; 8] = [
    Refusal {
        status: "400",
        name: "Malformed",
        description: "Malformed",
        header: None,
        meets: |route| route.parameters.is_some() || route.request_body.is_some(),
    },
    Refusal {
        status: "401",
        name: "Unauthorized",
        description: "This asks for an API key or a session",
        header: Some(("WWW-Authenticate", "`Bearer`")),
        meets: |route| asks_for(route, "requester") || asks_for(route, "session"),
    },
    Refusal {
        status: "405",
        name: "WrongMethod",
        description: "The route does not take this method",
        header: Some(("Allow", "The methods it takes")),
        meets: |_| true,
    },
    Refusal {
        status: "408",
        name: "TooSlow",
        description: "The body did not arrive in time",
        header: RETRY_AFTER,
        meets: |route| route.request_body.is_some(),
    },
    Refusal {
        status: "413",
        name: "TooLong",
        description: "The body is too long",
        header: None,
        meets: |route| route.request_body.is_some(),
    },
    Refusal {
        status: "415",
        name: "NotJson",
        description: "The body is not sent as `application/json`",
        header: None,
        meets: takes_json,
    },
    Refusal {
        status: "429",
        name: "TooMany",
        description: "Refused by a limit",
        header: RETRY_AFTER,
        meets: |route| asks_for(route, "requester"),
    },
    Refusal {
        status: "503",
        name: "Unavailable",
        description: "Shutting down, or the store does not answer",
        header: RETRY_AFTER,
        meets: |route| !belongs_to(route, "operator") || asks_for(route, "requester"),
    },
];

/// Adds to every route what its requests can come to and it does not describe itself.
pub(super) fn add(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.put,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            let form = Form::of(operation);
            for refusal in &REFUSALS {
                if (refusal.meets)(operation) {
                    let responses = &mut operation.responses.responses;
                    responses
                        .entry(refusal.status.to_owned())
                        .or_insert_with(|| Ref::from_response_name(refusal.name(form)).into());
                }
            }
        }
    }
    let components = document.components.get_or_insert_default();
    for form in [Form::Native, Form::OpenAi] {
        for refusal in &REFUSALS {
            let response = RefOr::T(refusal.response(form));
            components.responses.insert(refusal.name(form), response);
        }
    }
}

/// Whose errors a route answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Native,
    OpenAi,
}

impl Form {
    fn of(route: &Operation) -> Self {
        if belongs_to(route, "openai") {
            Self::OpenAi
        } else {
            Self::Native
        }
    }
}

impl Refusal {
    fn name(&self, form: Form) -> String {
        match form {
            Form::Native => self.name.to_owned(),
            Form::OpenAi => format!("OpenAi{}", self.name),
        }
    }

    fn response(&self, form: Form) -> Response {
        let schema = match form {
            Form::Native => "ErrorBody",
            Form::OpenAi => "OpenAiError",
        };
        let body = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema)));
        let response = ResponseBuilder::new()
            .description(self.description)
            .content("application/json", body.build());
        let Some((name, description)) = self.header else {
            return response.build();
        };
        let mut header = Header::new(ObjectBuilder::new().schema_type(Type::String));
        header.description = Some(description.to_owned());
        response.header(name, header).build()
    }
}

fn asks_for(route: &Operation, scheme: &str) -> bool {
    let wanted = SecurityRequirement::new(scheme, [""; 0]);
    let asked = route.security.as_ref();
    asked.is_some_and(|asked| asked.contains(&wanted))
}

fn belongs_to(route: &Operation, tag: &str) -> bool {
    let tags = route.tags.as_ref();
    tags.is_some_and(|tags| tags.iter().any(|known| known == tag))
}

fn takes_json(route: &Operation) -> bool {
    match &route.request_body {
        Some(RefOr::T(body)) => body.content.contains_key("application/json"),
        _ => false,
    }
}
