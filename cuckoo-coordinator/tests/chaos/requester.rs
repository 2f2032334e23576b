//! Requesters who submit over HTTP, repeat what broke under the same key, and fetch what they asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::{
    Clock as _, Entropy, ErrorBody, LeaseId, SignedReceipt, SystemClock, TaskId, TaskSpec,
    http_client, paths,
};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

use crate::worker::{MODEL, Question};

const PAUSE: Duration = Duration::from_millis(20);
/// No call takes so long unless something hangs.
const CALL: Duration = Duration::from_secs(20);

/// What requesters were told.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// Every task that was acknowledged, and what it asked.
    pub(crate) tasks: HashMap<TaskId, Promise>,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

/// What a requester knows of a task.
#[derive(Debug)]
pub(crate) struct Promise {
    pub(crate) key: String,
    pub(crate) question: Question,
    /// The lease of the output that was fetched.
    pub(crate) fetched: Option<LeaseId>,
    /// What was answered instead of an output.
    pub(crate) failed: Option<String>,
}

/// Requesters at work.
#[derive(Debug)]
pub(crate) struct Requesters {
    client: Client,
    base: String,
    entropy: std::sync::Arc<dyn Entropy>,
    /// The longest output asked for, in bytes.
    longest: u64,
    next: AtomicU64,
    enough: AtomicBool,
    pub(crate) promises: Mutex<Promises>,
    /// What refusals to submit said: each 503 that was answered.
    pub(crate) refused: Mutex<Vec<String>>,
}

/// How an answer came out.
enum Answer {
    Done(Response),
    /// The coordinator is gone, or says to come again.
    Again,
}

impl Requesters {
    pub(crate) fn new(
        address: SocketAddr,
        entropy: std::sync::Arc<dyn Entropy>,
        longest: u64,
    ) -> Self {
        Self {
            client: http_client().no_proxy().timeout(CALL).build().unwrap(),
            base: format!("http://{address}"),
            entropy,
            longest,
            next: AtomicU64::new(0),
            enough: AtomicBool::new(false),
            promises: Mutex::default(),
            refused: Mutex::default(),
        }
    }

    /// No new tasks; those that are asked for are seen to their end.
    pub(crate) fn enough(&self) {
        self.enough.store(true, Ordering::SeqCst);
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.promises.lock().unwrap().tasks.len()
    }

    pub(crate) fn fetched(&self) -> usize {
        let promises = self.promises.lock().unwrap();
        let fetched = |promise: &&Promise| promise.fetched.is_some();
        promises.tasks.values().filter(fetched).count()
    }

    fn below(&self, bound: u64) -> u64 {
        self.entropy.number() % bound
    }

    /// What to ask next, and its key.
    fn next(&self) -> (String, Question) {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let question = Question {
            prompt: format!("what is {number}? "),
            length: self.below(self.longest) as usize,
            // Some outlast what a lease must to be written down.
            millis: self.below(150),
        };
        (format!("key-{number}"), question)
    }

    /// Submits one task after the other and does not come for the outputs.
    pub(crate) async fn leave(&self) {
        loop {
            let (key, question) = self.next();
            self.submit(&key, &question).await;
        }
    }

    /// One requester, one task after the other.
    pub(crate) async fn ask(&self) {
        while !self.enough.load(Ordering::SeqCst) {
            let (key, question) = self.next();
            let id = if self.entropy.chance(0.1) {
                // In a hurry: twice at once.
                let twice = futures::future::join(
                    self.submit(&key, &question),
                    self.submit(&key, &question),
                );
                let (first, second) = twice.await;
                self.expect_same(&key, first, second);
                first
            } else {
                self.submit(&key, &question).await
            };
            if self.entropy.chance(0.05) {
                self.cancel(id).await;
            } else if self.entropy.chance(0.8) {
                self.fetch(id, &question).await;
            }
            if self.entropy.chance(0.2) {
                let again = self.submit(&key, &question).await;
                self.expect_same(&key, id, again);
            }
        }
    }

    fn expect_same(&self, key: &str, first: TaskId, second: TaskId) {
        if first != second {
            self.wrong(format!("{key} names both {first} and {second}"));
        }
    }

    fn wrong(&self, what: String) {
        self.promises.lock().unwrap().wrong.push(what);
    }

    /// Submits until it is acknowledged.
    async fn submit(&self, key: &str, question: &Question) -> TaskId {
        let spec = TaskSpec::new(MODEL.parse().unwrap(), question.input());
        loop {
            let request = self
                .client
                .post(format!("{}{}", self.base, paths::TASKS))
                .header("idempotency-key", key)
                .json(&spec);
            if let Answer::Done(response) = self.call(request).await {
                assert_eq!(response.status(), StatusCode::ACCEPTED);
                let Ok(body) = response.json::<Value>().await else {
                    continue;
                };
                let id = body["id"].as_str().unwrap().parse().unwrap();
                let promise = Promise {
                    key: key.to_owned(),
                    question: question.clone(),
                    fetched: None,
                    failed: None,
                };
                let mut promises = self.promises.lock().unwrap();
                promises.tasks.entry(id).or_insert(promise);
                return id;
            }
            SystemClock.sleep(PAUSE).await;
        }
    }

    /// Waits for the output, or for another end.
    async fn fetch(&self, id: TaskId, question: &Question) {
        let path = paths::TASK_OUTPUT.replace("{id}", &id.to_string());
        loop {
            let request = self
                .client
                .get(format!("{}{path}?wait_millis=5000", self.base));
            match self.call(request).await {
                Answer::Done(response) if response.status() == StatusCode::ACCEPTED => continue,
                Answer::Done(response) => {
                    if self.take(id, question, response).await {
                        return;
                    }
                }
                Answer::Again => {}
            }
            SystemClock.sleep(PAUSE).await;
        }
    }

    /// Whether the output came whole.
    async fn take(&self, id: TaskId, question: &Question, response: Response) -> bool {
        if response.status() != StatusCode::OK {
            let status = response.status();
            let Ok(body) = response.text().await else {
                return false;
            };
            let mut promises = self.promises.lock().unwrap();
            let promise = promises.tasks.get_mut(&id).unwrap();
            promise.failed = Some(format!("{status}: {body}"));
            return true;
        }
        let receipt = URL_SAFE_NO_PAD
            .decode(&response.headers()[paths::RECEIPT])
            .unwrap();
        let receipt: SignedReceipt = serde_json::from_slice(&receipt).unwrap();
        let Ok(body) = response.bytes().await else {
            return false;
        };
        if body != question.answer() {
            self.wrong(format!("{id} has another output than was asked for"));
        }
        let mut promises = self.promises.lock().unwrap();
        let promise = promises.tasks.get_mut(&id).unwrap();
        promise.fetched = Some(receipt.value.lease);
        true
    }

    async fn cancel(&self, id: TaskId) {
        let path = paths::TASK.replace("{id}", &id.to_string());
        let url = format!("{}{path}", self.base);
        while let Answer::Again = self.call(self.client.delete(&url)).await {
            SystemClock.sleep(PAUSE).await;
        }
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Answer {
        let Ok(response) = request.send().await else {
            return Answer::Again;
        };
        let status = response.status();
        if status != StatusCode::SERVICE_UNAVAILABLE {
            return Answer::Done(response);
        }
        if let Ok(body) = response.json::<ErrorBody>().await {
            self.refused.lock().unwrap().push(body.message);
        }
        Answer::Again
    }
}
