//! A wire to an HTTP server that counts what passes.

use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cuckoo_core::{Error, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What passed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) requests: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            sent: self.sent - earlier.sent,
            received: self.received - earlier.received,
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// A server on the loopback interface that passes everything on to another.
#[derive(Debug)]
pub(crate) struct Meter {
    url: String,
    counters: Arc<Counters>,
    _relay: JoinSet<()>,
}

impl Meter {
    /// A wire to the server at `url`, cut when this value is dropped.
    pub(crate) async fn start(url: &str) -> Result<Self> {
        let there = url.trim_start_matches("http://").to_owned();
        let unavailable = |source| Error::unavailable("no port to measure at").with_source(source);
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(unavailable)?;
        let url = format!("http://{}", listener.local_addr().map_err(unavailable)?);
        let counters = Arc::new(Counters::default());
        let mut relay = JoinSet::new();
        relay.spawn(accept(listener, there, Arc::clone(&counters)));
        Ok(Self {
            url,
            counters,
            _relay: relay,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn read(&self) -> Traffic {
        Traffic {
            requests: self.counters.requests.load(Ordering::Relaxed),
            sent: self.counters.sent.load(Ordering::Relaxed),
            received: self.counters.received.load(Ordering::Relaxed),
        }
    }
}

async fn accept(listener: TcpListener, there: String, counters: Arc<Counters>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (there, counters) = (there.clone(), Arc::clone(&counters));
        connections.spawn(async move {
            let Ok(far) = TcpStream::connect(there).await else {
                return;
            };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            let up = pass(from_near, to_far, &counters.sent, Some(&counters.requests));
            let down = pass(from_far, to_near, &counters.received, None);
            tokio::join!(up, down);
        });
    }
}

/// Copies until either side ends. Every request of an RPC client is a POST.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
    requests: Option<&AtomicU64>,
) {
    const METHOD: &[u8] = b"POST ";
    let mut buffer = vec![0; 1 << 16];
    // The end of what was read before, in case a request begins across two reads.
    let mut tail = Vec::new();
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(length as u64, Ordering::Relaxed);
        if let Some(requests) = requests {
            tail.extend_from_slice(&buffer[..length]);
            let begun = tail.windows(METHOD.len()).filter(|text| *text == METHOD);
            requests.fetch_add(begun.count() as u64, Ordering::Relaxed);
            tail.drain(..tail.len().saturating_sub(METHOD.len() - 1));
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
