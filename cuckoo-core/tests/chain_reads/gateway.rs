//! A gateway to a chain node that has limits and faults of its own, as providers' have.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What the gateway does itself with what it is sent.
pub(crate) enum Answer {
    /// Nothing: the node answers.
    Pass,
    /// The same, once the node has done this.
    PassAfter(Value),
    /// This, instead of the node.
    Json(Value),
    /// This HTTP status, instead of the node.
    Status(u16),
}

/// Looks at a request, which may be a batch.
pub(crate) type Rule = dyn Fn(&Value) -> Answer + Send + Sync;
/// Changes a node's answer.
pub(crate) type Edit = dyn Fn(&mut Value) + Send + Sync;

/// A gateway on the loopback interface, gone when this value is dropped.
pub(crate) struct Gateway {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Value>>>,
    _server: JoinSet<()>,
}

impl Gateway {
    /// A gateway to the node at `url` that answers by `rule`.
    pub(crate) async fn with_rule(
        url: &str,
        rule: impl Fn(&Value) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(url, Arc::new(rule), Arc::new(|_| {})).await
    }

    /// A gateway to the node at `url` that changes its answers.
    pub(crate) async fn with_edit(
        url: &str,
        edit: impl Fn(&mut Value) + Send + Sync + 'static,
    ) -> Self {
        Self::start(url, Arc::new(|_| Answer::Pass), Arc::new(edit)).await
    }

    async fn start(url: &str, rule: Arc<Rule>, edit: Arc<Edit>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (url, log) = (url.to_owned(), Arc::clone(&seen));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let client = cuckoo_core::http_client().build().unwrap();
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (url, log, client) = (url.clone(), Arc::clone(&log), client.clone());
                let (rule, edit) = (Arc::clone(&rule), Arc::clone(&edit));
                connections.spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(request) = request(&mut stream).await {
                        log.lock().unwrap().push(request.clone());
                        let ask = async |request: &Value| -> Value {
                            let sent = client.post(&url).json(request).send().await;
                            sent.unwrap().json().await.unwrap()
                        };
                        let (status, mut answer) = match rule(&request) {
                            Answer::Json(answer) => (200, answer),
                            Answer::Status(status) => (status, json!("refused")),
                            Answer::Pass => (200, ask(&request).await),
                            Answer::PassAfter(first) => {
                                ask(&first).await;
                                (200, ask(&request).await)
                            }
                        };
                        edit(&mut answer);
                        reply(&mut stream, status, &answer).await;
                    }
                });
            }
        });
        Self {
            address,
            seen,
            _server: server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was sent since the last time this was asked, batches as they came.
    pub(crate) fn take_seen(&self) -> Vec<Value> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// The single requests of one that may be a batch.
pub(crate) fn calls(request: &Value) -> &[Value] {
    match request {
        Value::Array(batch) => batch,
        single => std::slice::from_ref(single),
    }
}

/// One HTTP request's JSON; none when the connection ends.
async fn request(stream: &mut BufReader<TcpStream>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim().to_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    serde_json::from_slice(&body).ok()
}

async fn reply(stream: &mut BufReader<TcpStream>, status: u16, answer: &Value) {
    let body = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    // The client may be gone.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body.as_bytes()).await;
}
