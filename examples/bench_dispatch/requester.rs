//! Requesters: submit a task over HTTP, wait for its output, check it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde_json::json;

use crate::http::{Answer, Connection};
use crate::load::Lane;
use crate::{Failure, OUTPUT, Result, host, input};

const JSON: &str = "content-type: application/json\r\n";
const JSON_AND_WAIT: &str = "content-type: application/json\r\nprefer: wait=30\r\n";

/// How a requester asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// One request that submits and another that waits for the output: what survives a broken connection.
    Separate,
    /// `Prefer: wait`: the answer to the submission is the output.
    Together,
}

/// A requester with a connection of its own.
#[derive(Debug)]
pub(crate) struct Requester {
    connection: Connection,
    style: Style,
    body: Vec<u8>,
    submitted: Option<Arc<Stopwatch>>,
}

impl Requester {
    pub(crate) async fn connect(address: SocketAddr, style: Style) -> Result<Self> {
        let body = json!({ "model": host::MODEL, "input": input() });
        Ok(Self {
            connection: Connection::open(address).await?,
            style,
            body: serde_json::to_vec(&body)?,
            submitted: None,
        })
    }

    /// Has `watch` know of every submission.
    pub(crate) fn with_stopwatch(mut self, watch: Arc<Stopwatch>) -> Self {
        self.submitted = Some(watch);
        self
    }
}

impl Lane for Requester {
    async fn run(&mut self) -> Result<()> {
        let Self {
            connection,
            style,
            body,
            submitted,
        } = self;
        if let Some(watch) = submitted {
            watch.start();
        }
        if *style == Style::Together {
            return check(
                &connection
                    .call("POST", "/v1/tasks", JSON_AND_WAIT, body)
                    .await?,
            );
        }
        let answer = connection.call("POST", "/v1/tasks", JSON, body).await?;
        let Some(location) = answer.location.filter(|_| answer.status == 202) else {
            return Err(refused(&answer));
        };
        let path = format!("{location}/output?wait_millis=30000");
        check(&connection.call("GET", &path, "", b"").await?)
    }
}

fn check(answer: &Answer<'_>) -> Result<()> {
    if answer.status == 200 && answer.body == OUTPUT {
        return Ok(());
    }
    Err(refused(answer))
}

fn refused(answer: &Answer<'_>) -> Failure {
    let body = String::from_utf8_lossy(answer.body);
    Failure::from(format!(
        "a requester was answered {}: {body}",
        answer.status
    ))
}

/// When the only task in flight was submitted.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    origin: Instant,
    started: AtomicU64,
}

impl Stopwatch {
    pub(crate) fn new() -> Self {
        Self {
            origin: Instant::now(),
            started: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn start(&self) {
        self.started.store(self.now(), Ordering::SeqCst);
    }

    /// Milliseconds since the start.
    pub(crate) fn millis(&self) -> f64 {
        self.now()
            .saturating_sub(self.started.load(Ordering::SeqCst)) as f64
            / 1e6
    }
}
