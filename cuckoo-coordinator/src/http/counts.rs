//! How many requests were answered, by route, method and status; counted without a lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::{Method, StatusCode};

use crate::telemetry::RequestCount;

/// Statuses with a number of their own; the others share one.
const STATUSES: [u16; 24] = [
    200, 201, 202, 204, 303, 304, 400, 401, 403, 404, 405, 408, 409, 410, 411, 413, 415, 422, 429,
    500, 501, 502, 503, 504,
];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];
/// Stands for a route, method or status that is not listed.
const OTHER: &str = "other";

/// Requests answered since the start.
#[derive(Debug)]
pub(super) struct Requests {
    routes: HashMap<String, Route>,
    /// Of paths that are no route.
    unknown: Route,
}

#[derive(Debug, Default)]
struct Route {
    methods: [Answers; METHODS.len() + 1],
}

/// Answers to one method of one route.
#[derive(Debug, Default)]
pub(super) struct Answers {
    counts: [AtomicU64; STATUSES.len() + 1],
}

impl Requests {
    /// Counts for these routes, written as the router writes them.
    pub(super) fn new<'a>(routes: impl Iterator<Item = &'a String>) -> Self {
        Self {
            routes: routes
                .map(|route| (route.clone(), Route::default()))
                .collect(),
            unknown: Route::default(),
        }
    }

    pub(super) fn of(&self, route: &str, method: &Method) -> &Answers {
        let route = self.routes.get(route).unwrap_or(&self.unknown);
        let named = METHODS.iter().position(|name| *name == method.as_str());
        &route.methods[named.unwrap_or(METHODS.len())]
    }

    /// What was counted, but for what never happened; by route.
    pub(super) fn counts(&self) -> Vec<RequestCount> {
        let routes = self.routes.iter();
        let routes = routes.map(|(name, route)| (name.as_str(), route));
        let mut counts = Vec::new();
        for (name, route) in routes.chain([(OTHER, &self.unknown)]) {
            let methods = METHODS.into_iter().chain([OTHER]);
            for (method, answers) in methods.zip(&route.methods) {
                counts.extend(answers.counts(name, method));
            }
        }
        counts
            .sort_by(|a, b| (&a.route, a.method, &a.status).cmp(&(&b.route, b.method, &b.status)));
        counts
    }
}

impl Answers {
    pub(super) fn note(&self, status: StatusCode) {
        let named = STATUSES.iter().position(|known| *known == status.as_u16());
        self.counts[named.unwrap_or(STATUSES.len())].fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self, route: &str, method: &'static str) -> impl Iterator<Item = RequestCount> {
        let statuses = STATUSES.iter().map(u16::to_string);
        let statuses = statuses.chain([OTHER.to_owned()]);
        statuses
            .zip(&self.counts)
            .filter_map(move |(status, count)| {
                let count = count.load(Ordering::Relaxed);
                (count > 0).then(|| RequestCount {
                    route: route.to_owned(),
                    method,
                    status,
                    count,
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_counted_together() {
        let requests = Requests::new(["/v1/tasks".to_owned()].iter());
        let teapot = StatusCode::from_u16(418).unwrap();
        requests
            .of("/v1/tasks", &Method::POST)
            .note(StatusCode::ACCEPTED);
        requests
            .of("/v1/tasks", &Method::POST)
            .note(StatusCode::ACCEPTED);
        requests
            .of("/wp-login.php", &Method::GET)
            .note(StatusCode::NOT_FOUND);
        requests.of("/.env", &Method::PATCH).note(teapot);
        let counts = requests.counts();
        let lines = counts.iter().map(|count| {
            let RequestCount {
                route,
                method,
                status,
                count,
            } = count;
            format!("{route} {method} {status} {count}")
        });
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "/v1/tasks POST 202 2",
                "other GET 404 1",
                "other other other 1"
            ]
        );
    }
}
