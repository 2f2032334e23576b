//! The miner's status over HTTP, for programs on the same machine.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cuckoo_core::{Clock as _, Error, Result, SystemClock};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::machine::Machine;
use super::{StatusConfig, metrics};
use crate::{Miner, MinerStatus, WarmPool};

const MAX_CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(10);
/// After the system refused a connection, mostly for want of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A page that shows a miner once there is one, and the machine it runs on.
#[derive(Debug, Clone, Default)]
pub(crate) struct StatusPage {
    shown: Arc<OnceLock<Shown>>,
    machine: Machine,
}

#[derive(Debug)]
struct Shown {
    miner: Miner,
    /// The most bytes of weights in memory, where models take turns.
    warm_budget: Option<u64>,
}

impl StatusPage {
    /// Serves the page, if the settings say where, as long as the process runs.
    ///
    /// # Errors
    /// `Unavailable` when another process has the port.
    pub(crate) async fn open(config: Option<&StatusConfig>) -> Result<Self> {
        let page = Self::default();
        if let Some(StatusConfig { listen }) = config {
            let listener = TcpListener::bind(listen).await.map_err(|source| {
                Error::unavailable(format!(
                    "cannot listen on {listen}; another miner or program has the port: change status.listen"
                ))
                .with_source(source)
            })?;
            let address = listener.local_addr().unwrap_or(*listen);
            tracing::info!("status at http://{address}/status; see `cuckoo-miner status`");
            tokio::spawn(page.clone().serve(listener));
        }
        Ok(page)
    }

    /// From now on the page shows `miner`, and the budget of `pool` where its models take turns in one.
    pub(crate) fn show(&self, miner: &Miner, pool: Option<&WarmPool>) {
        // There is one miner in a process.
        let _ = self.shown.set(Shown {
            miner: miner.clone(),
            warm_budget: pool.map(WarmPool::budget),
        });
    }

    async fn serve(self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                SystemClock.sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let page = self.clone();
            tokio::spawn(async move {
                let answer = service_fn(move |request| {
                    let page = page.clone();
                    async move { Ok::<_, Infallible>(page.answer(request).await) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(PATIENCE)
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::select! {
                    // A client that broke off has its answer, or wants none.
                    _ = connection => {}
                    () = SystemClock.sleep(PATIENCE * 2) => {}
                }
                drop(permit);
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<String> {
        if !is_local(&request) {
            return plain(
                StatusCode::FORBIDDEN,
                "ask by a loopback address, such as http://127.0.0.1:9461",
            );
        }
        if request.method() != Method::GET {
            return plain(
                StatusCode::METHOD_NOT_ALLOWED,
                "this can only be read: use GET",
            );
        }
        let Some(shown) = self.shown.get() else {
            return plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "the miner is starting; its log says what it waits for",
            );
        };
        let scrape = match request.uri().path() {
            "/" | "/status" => false,
            "/metrics" => true,
            _ => return plain(StatusCode::NOT_FOUND, "there are /status and /metrics"),
        };
        let status = self.status(shown).await;
        let (kind, text) = match scrape {
            false => {
                let text = serde_json::to_string(&status).map_err(|error| error.to_string());
                ("application/json", text)
            }
            true => {
                let text = metrics::render(&status).map_err(|error| error.to_string());
                (metrics::TEXT_FORMAT, text)
            }
        };
        match text {
            Ok(text) => answer(StatusCode::OK, kind, text),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }

    /// The miner now, and the machine, which is asked first since that may take a while.
    async fn status(&self, shown: &Shown) -> MinerStatus {
        let mut machine = self.machine.read().await;
        machine.warm_budget = shown.warm_budget;
        MinerStatus {
            machine: Some(machine),
            ..shown.miner.status()
        }
    }
}

/// Whether the client meant this machine: a web page that has its own name lead here did not.
fn is_local(request: &Request<Incoming>) -> bool {
    let host = request.headers().get(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    authority.is_some_and(|authority| {
        let name = authority.host().trim_matches(['[', ']']);
        let loopback = |ip: IpAddr| ip.is_loopback();
        name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(loopback)
    })
}

fn plain(code: StatusCode, text: &str) -> Response<String> {
    answer(code, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn answer(code: StatusCode, kind: &'static str, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = code;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
