//! Several nodes of one chain as one: requests go to the best that answers, one at a time.
//!
//! Not alloy's `FallbackLayer`: that one asks several nodes at once (each request is billed as often), takes a refusal
//! for too many requests as an answer, and looks at neither chain nor height.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use alloy::network::Ethereum;
use alloy::providers::{Provider as _, RootProvider};
use alloy::rpc::client::RpcClient;
use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{
    RpcError, TransportError, TransportErrorKind, TransportFut, TransportResult,
};
use futures::future::join_all;
use reqwest::Url;
use tower_service::Service;

use super::RpcSettings;
use super::answer::failed;
use crate::{Clock, Error, Result, Timestamp, http_client};

/// How often nodes are compared with each other.
const PROBE: Duration = Duration::from_secs(5);
/// The longest answer that is read: a thousand blocks of logs stay far below.
const MOST_BYTES: usize = 64 << 20;

/// What is known of a node; the order is the order in which nodes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Good,
    /// Its head is behind the others', or was not compared with them since it failed.
    Behind,
    /// It did not answer the last time; when it does, its chain is looked at first.
    Failing,
    /// It is on another chain and never asked.
    Alien,
}

struct Endpoint {
    url: Url,
    origin: String,
    health: Mutex<Health>,
}

impl Endpoint {
    fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, health: Health) {
        let before = std::mem::replace(
            &mut *self.health.lock().unwrap_or_else(PoisonError::into_inner),
            health,
        );
        if before != health {
            tracing::info!(node = %self.origin, ?before, now = ?health, "a chain node changed");
        }
    }
}

struct Shared {
    http: reqwest::Client,
    nodes: Vec<Endpoint>,
    clock: Arc<dyn Clock>,
    max_lag: u64,
    /// The chain that all must be on; set once when it is known.
    chain_id: std::sync::OnceLock<u64>,
    /// When nodes are to be compared next; `None` while that happens.
    probe_at: Mutex<Option<Timestamp>>,
}

/// A transport over all nodes, or over one of them.
#[derive(Clone)]
pub(super) struct Endpoints {
    shared: Arc<Shared>,
    only: Option<usize>,
    /// Asks for what decides whether the node may be asked.
    probing: bool,
}

impl Endpoints {
    /// The nodes that the settings name; nothing is asked yet.
    pub(super) fn new(settings: &RpcSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        let http = http_client()
            .timeout(settings.request())
            .connect_timeout(settings.request())
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|source| {
                Error::internal("no HTTP client").with_source(source.without_url())
            })?;
        let nodes = settings.addresses()?.into_iter().map(|url| Endpoint {
            origin: url.origin().ascii_serialization(),
            url,
            health: Mutex::new(Health::Failing),
        });
        let shared = Shared {
            http,
            nodes: nodes.collect(),
            probe_at: Mutex::new(Some(clock.now().after(PROBE))),
            clock,
            max_lag: settings.max_lag_blocks,
            chain_id: std::sync::OnceLock::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            only: None,
            probing: false,
        })
    }

    /// Finds out which chain this is: `expected` if any node is on it, else the first answering node's.
    pub(super) async fn settle(&self, expected: Option<u64>) -> Result<u64> {
        let answers = self.heads().await;
        let found = answers.iter().filter_map(|answer| answer.as_ref().ok());
        let ids: Vec<u64> = found.map(|(chain_id, _)| *chain_id).collect();
        let chain_id = expected.filter(|expected| ids.contains(expected));
        let Some(chain_id) = chain_id.or(ids.first().copied()) else {
            let failure = answers.into_iter().find_map(std::result::Result::err);
            let failure = failure.unwrap_or(RpcError::NullResp);
            return Err(failed(&self.origins(), failure).into_error());
        };
        let chain_id = *self.shared.chain_id.get_or_init(|| chain_id);
        self.rank(&answers);
        Ok(chain_id)
    }

    /// A provider over this transport.
    pub(super) fn provider(&self) -> RootProvider<Ethereum> {
        RootProvider::new(RpcClient::new(self.clone(), false))
    }

    /// The best node alone, for answers that must fit each other.
    pub(super) fn best(&self) -> Self {
        self.probe_when_due();
        Self {
            shared: Arc::clone(&self.shared),
            only: Some(
                self.only
                    .or_else(|| self.order().first().copied())
                    .unwrap_or(0),
            ),
            probing: false,
        }
    }

    /// Where the nodes are, without what may be secret.
    pub(super) fn origins(&self) -> String {
        let nodes = &self.shared.nodes;
        if let Some(node) = self.only.and_then(|index| nodes.get(index)) {
            return node.origin.clone();
        }
        let origins: Vec<_> = nodes.iter().map(|node| node.origin.as_str()).collect();
        origins.join(" or ")
    }

    /// The nodes to ask, in order.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<_> = (self.shared.nodes.iter().map(Endpoint::health))
            .zip(0..)
            .filter(|(health, _)| *health != Health::Alien)
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, index)| index).collect()
    }

    /// Chain id and height of each node.
    async fn heads(&self) -> Vec<TransportResult<(u64, u64)>> {
        let nodes = (0..self.shared.nodes.len()).map(|index| self.probe(index));
        join_all(nodes.map(|node| async move {
            Ok((node.get_chain_id().await?, node.get_block_number().await?))
        }))
        .await
    }

    /// One node, asked whatever is known of it.
    fn probe(&self, index: usize) -> RootProvider<Ethereum> {
        Self {
            shared: Arc::clone(&self.shared),
            only: Some(index),
            probing: true,
        }
        .provider()
    }

    fn rank(&self, answers: &[TransportResult<(u64, u64)>]) {
        let chain_id = self.shared.chain_id.get().copied();
        let here = |id: &u64| chain_id.is_none_or(|chain_id| chain_id == *id);
        let best = (answers.iter().flatten())
            .filter(|(id, _)| here(id))
            .map(|(_, head)| *head)
            .max()
            .unwrap_or(0);
        for (node, answer) in self.shared.nodes.iter().zip(answers) {
            node.set(match answer {
                Err(_) => Health::Failing,
                Ok((id, _)) if !here(id) => Health::Alien,
                Ok((_, head)) if head.saturating_add(self.shared.max_lag) < best => Health::Behind,
                Ok(_) => Health::Good,
            });
        }
    }

    /// Compares the nodes in the background when that was long ago. A single node has nothing to be compared with.
    fn probe_when_due(&self) {
        if self.shared.nodes.len() < 2 {
            return;
        }
        let now = self.shared.clock.now();
        {
            let mut probe_at =
                (self.shared.probe_at.lock()).unwrap_or_else(PoisonError::into_inner);
            match *probe_at {
                Some(due) if now >= due => *probe_at = None,
                _ => return,
            }
        }
        let endpoints = self.clone();
        tokio::spawn(async move {
            let answers = endpoints.heads().await;
            endpoints.rank(&answers);
            let next = endpoints.shared.clock.now().after(PROBE);
            *(endpoints.shared.probe_at.lock()).unwrap_or_else(PoisonError::into_inner) =
                Some(next);
        });
    }

    async fn request(self, packet: RequestPacket) -> TransportResult<ResponsePacket> {
        let order = match self.only {
            Some(index) => vec![index],
            None => {
                self.probe_when_due();
                self.order()
            }
        };
        let nobody = "no node answers and is on the expected chain";
        let mut last = Err(TransportErrorKind::custom_str(nobody));
        for index in order {
            last = self.ask(index, &packet).await;
            if serves(&last) {
                break;
            }
        }
        last
    }

    /// Asks one node, and remembers whether it served.
    async fn ask(&self, index: usize, packet: &RequestPacket) -> TransportResult<ResponsePacket> {
        let Some(node) = self.shared.nodes.get(index) else {
            return Err(TransportErrorKind::custom_str("no such node"));
        };
        // A single node was looked at when it was connected to, and there is no other to turn to.
        if self.probing || self.shared.nodes.len() < 2 {
            return post(&self.shared.http, &node.url, packet).await;
        }
        if node.health() == Health::Failing {
            let chain_id = self.probe(index).get_chain_id().await?;
            if self.shared.chain_id.get().is_some_and(|id| *id != chain_id) {
                node.set(Health::Alien);
            } else {
                node.set(Health::Behind);
            }
        }
        if node.health() == Health::Alien {
            return Err(TransportErrorKind::custom_str(
                "the node is on another chain",
            ));
        }
        let answer = post(&self.shared.http, &node.url, packet).await;
        if !serves(&answer) {
            node.set(Health::Failing);
        }
        answer
    }
}

/// Whether this is an answer, and no refusal because of the node's load or state.
fn serves(answer: &TransportResult<ResponsePacket>) -> bool {
    answer.as_ref().is_ok_and(|answer| {
        let mut refusals = answer.iter_errors();
        !refusals.any(alloy::rpc::json_rpc::ErrorPayload::is_retry_err)
    })
}

/// One HTTP exchange. (alloy's own puts the whole address, a provider's key included, into its spans.)
async fn post(
    http: &reqwest::Client,
    url: &Url,
    packet: &RequestPacket,
) -> TransportResult<ResponsePacket> {
    let sent = http.post(url.clone()).json(packet).send().await;
    let mut response = sent.map_err(TransportErrorKind::custom)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(TransportErrorKind::custom)? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Err(TransportErrorKind::custom_str("the answer is too long"));
        }
        body.extend_from_slice(&chunk);
    }
    match serde_json::from_slice::<ResponsePacket>(&body) {
        // Some providers refuse with a JSON-RPC error under an HTTP status of its own.
        Ok(answer) if status.is_success() || answer.is_error() => Ok(answer),
        Err(error) if status.is_success() => Err(TransportError::deser_err(error, "")),
        _ => Err(TransportErrorKind::http_error(
            status.as_u16(),
            String::new(),
        )),
    }
}

impl Service<RequestPacket> for Endpoints {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<TransportResult<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        Box::pin(self.clone().request(packet))
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints")
            .field("origins", &self.origins())
            .finish_non_exhaustive()
    }
}
