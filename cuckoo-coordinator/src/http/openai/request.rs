//! What the routes do with a request: who asks, its fields, the model it means, and the tasks it becomes.

use std::ops::Deref;

use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use cuckoo_core::{Error, ModelKind, Result, TaskResult, TaskSpec};
use futures::future::try_join_all;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Refused;
use crate::http::Shared;
use crate::http::body::{json, task_limit};
use crate::http::tasks::idempotency_key;
use crate::{ModelSettings, Requester, TaskGuard};

/// The most pictures or choices of one request: each is a task.
pub(super) const MAX_CHOICES: usize = 10;
/// The longest idempotency key: a task's own is a little longer.
const MAX_KEY: usize = TaskSpec::MAX_KEY - 4;

/// Who calls, with refusals that OpenAI's clients read.
pub(super) struct Caller(pub(super) Requester);

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refused> {
        let requester = Requester::from_request_parts(parts, shared).await?;
        Ok(Self(requester))
    }
}

/// Fields that a request has beyond those that the route knows.
pub(super) type Rest = Map<String, Value>;

/// Values of a field that change nothing, as compact JSON. Without any, every value does not.
pub(super) type Harmless = (&'static str, &'static [&'static str]);

/// A request's fields. All of them may be absent: a field that is malformed can then be told from the others.
pub(super) trait Fields: DeserializeOwned {
    /// Fields beyond those it knows that may be there, with the values for which nothing is lost by ignoring them.
    const HARMLESS: &[Harmless];

    /// What is beyond the fields it knows.
    fn rest(&self) -> &Rest;
}

/// Reads a request's body.
///
/// # Errors
/// Status 400 that names the field that is malformed, unknown or cannot be honoured; 413 and 415 as for every body.
pub(super) async fn fields<T: Fields>(shared: &Shared, request: Request) -> Result<T, Refused> {
    let body: Value = json(request, task_limit(shared.max_input_bytes)).await?;
    known(&body)
}

/// Reads the fields that were given, as a JSON object.
///
/// # Errors
/// Status 400 that names the field that is malformed, unknown or cannot be honoured.
pub(super) fn known<T: Fields>(body: &Value) -> Result<T, Refused> {
    let Value::Object(given) = body else {
        return Err(Error::invalid("the body is not a JSON object").into());
    };
    let fields = T::deserialize(body).map_err(|error| {
        let alone = |name: &String, value: &Value| {
            let field = Rest::from_iter([(name.clone(), value.clone())]);
            T::deserialize(&Value::Object(field))
        };
        let mut fields = given.iter();
        match fields.find(|(name, value)| alone(name, value).is_err()) {
            Some((name, _)) => Refused::param(name, format!("{name}: {error}")),
            None => Error::invalid(error.to_string()).into(),
        }
    })?;
    for (name, value) in fields.rest() {
        let Some((_, values)) = T::HARMLESS.iter().find(|(known, _)| known == name) else {
            let message = format!("{name} is not a field of this route; leave it out");
            return Err(Refused::param(name, message).code("unknown_parameter"));
        };
        let text = value.to_string();
        if !values.is_empty() && !value.is_null() && !values.contains(&text.as_str()) {
            let taken = match *values {
                ["null"] => "leave it out".to_owned(),
                values => format!("leave it out, or set it to {}", values.join(" or ")),
            };
            let message = format!("{name} is not supported here; {taken}");
            return Err(Refused::param(name, message).code("unsupported_parameter"));
        }
    }
    Ok(fields)
}

/// A field that must be there.
pub(super) fn needed<T>(name: &'static str, value: Option<T>) -> Result<T, Refused> {
    let missing = || Refused::param(name, format!("{name} is missing"));
    value.ok_or_else(|| missing().code("missing_required_parameter"))
}

/// How many choices are asked for, where each comes `times` over.
pub(super) fn choices(n: Option<usize>, times: usize) -> Result<usize, Refused> {
    let n = n.unwrap_or(1);
    if n == 0 || n.saturating_mul(times) > MAX_CHOICES {
        let message = format!("n is {n}; a request makes 1 to {MAX_CHOICES}");
        return Err(Refused::param("n", message));
    }
    Ok(n)
}

/// The model that a request means, which must be of this kind.
pub(super) fn model<'a>(
    shared: &'a Shared,
    name: Option<&str>,
    kind: ModelKind,
) -> Result<&'a ModelSettings, Refused> {
    let name = needed("model", name)?;
    let models = &shared.coordinator.settings().models;
    let fitting = || {
        let fitting = models.iter().filter(|model| model.kind == kind);
        let names: Vec<_> = fitting.map(|model| model.model.as_str()).collect();
        match names.as_slice() {
            [] => format!("this coordinator serves no {kind} models"),
            names => format!("its {kind} models: {}", names.join(", ")),
        }
    };
    let Some(model) = models.iter().find(|model| model.model.as_str() == name) else {
        return Err(unknown_model(name, &fitting()));
    };
    if model.kind != kind {
        let (is, wanted) = (model.kind.phrase(), kind.phrase());
        let message = format!("`{name}` is {is}, and this takes {wanted}; {}", fitting());
        return Err(Refused::param("model", message).code("model_not_supported"));
    }
    Ok(model)
}

/// Status 404 for a model that is not served.
pub(super) fn unknown_model(name: &str, hint: &str) -> Refused {
    let error = Error::not_found(format!("no model `{name}` here; {hint}"));
    Refused::from(error).about("model").code("model_not_found")
}

/// The tasks of one request, cancelled when dropped.
pub(super) struct Tasks(Vec<TaskGuard>);

impl Deref for Tasks {
    type Target = [TaskGuard];

    fn deref(&self) -> &[TaskGuard] {
        &self.0
    }
}

impl Tasks {
    /// Submits a task for each input, all or none.
    ///
    /// With an idempotency key they are not cancelled when the client hangs up: it may come again and ask for them.
    pub(super) async fn submit(
        shared: &Shared,
        requester: &Requester,
        model: &ModelSettings,
        key: Option<String>,
        inputs: Vec<Value>,
    ) -> Result<Self, Refused> {
        let submissions = inputs.into_iter().enumerate().map(async |(index, input)| {
            let mut spec = TaskSpec::new(model.model.clone(), input);
            spec.idempotency_key = key.as_ref().map(|key| format!("{key}#{index}"));
            let task = shared.coordinator.submit_as(requester, spec).await?;
            Ok::<_, Error>(task.guard())
        });
        let mut tasks = Self(try_join_all(submissions).await?);
        if key.is_some() {
            tasks.arm(false);
        }
        Ok(tasks)
    }

    /// Waits for all. When one fails, the others are cancelled.
    pub(super) async fn results(&mut self) -> Result<Vec<TaskResult>> {
        let results = try_join_all(self.0.iter().map(|task| task.result())).await;
        if results.is_err() {
            self.arm(true);
        }
        results
    }

    /// Whether they are cancelled when dropped.
    pub(super) fn arm(&mut self, armed: bool) {
        self.0.iter_mut().for_each(|task| task.arm(armed));
    }
}

/// The request's `Idempotency-Key`, of which each of its tasks gets one.
pub(super) fn key(request: &Request) -> Result<Option<String>, Refused> {
    let key = idempotency_key(request.headers())?;
    let fits = |key: &String| {
        (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if key.as_ref().is_some_and(|key| !fits(key)) {
        let message = format!("an Idempotency-Key is 1 to {MAX_KEY} visible ASCII characters");
        return Err(Error::invalid(message).into());
    }
    Ok(key)
}

/// The seed of one of several choices: the first has the one that was asked for, the others differ.
pub(super) fn seed(first: Option<u64>, index: usize) -> Option<u64> {
    first.map(|seed| seed.wrapping_add(index as u64))
}

/// One text or several.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(super) enum Texts {
    One(String),
    Many(Vec<String>),
}

impl From<Texts> for Vec<String> {
    fn from(texts: Texts) -> Self {
        match texts {
            Texts::One(text) => vec![text],
            Texts::Many(texts) => texts,
        }
    }
}
