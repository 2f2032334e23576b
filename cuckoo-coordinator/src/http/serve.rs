//! Accepts connections, bounded in number and in the patience shown to each.

mod patience;
mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use cuckoo_core::{Clock as _, SystemClock};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

use super::HttpSettings;
use super::peer::Secured;
use patience::Patient;
pub(super) use patience::patience;
pub use tls::{Tls, TlsSettings};

/// Longest a client may take to send its headers, or stay idle between requests. Above the 90 seconds after which
/// common clients give up an idle connection, so that none is closed under a request on its way.
const HEADER_PATIENCE: Duration = Duration::from_secs(95);
/// Longest a client may take to agree on keys.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// Longest that open connections are waited for once `stop` completed.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The most bytes of a request's headers over HTTP/1.1. A receipt fits several times.
const MAX_HEADER_BYTES: usize = 64 * 1024;
/// The same over HTTP/2, where they come unpacked.
const MAX_HEADER_LIST_BYTES: u32 = 32 * 1024;
/// The most requests at once over one connection of HTTP/2.
const MAX_STREAMS: u32 = 128;

/// Serves routes over HTTP/1.1 and HTTP/2.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    max_connections: usize,
    tls: Option<Tls>,
}

/// [`Server::serve`] with the defaults, until `stop` completes.
pub async fn serve(listener: TcpListener, routes: Router, stop: impl Future<Output = ()> + Send) {
    Server::new(listener).serve(routes, stop).await;
}

impl Server {
    /// A server for what `listener` accepts.
    pub fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            max_connections: HttpSettings::default().max_connections,
            tls: None,
        }
    }

    /// The most connections at a time; more wait in the system's backlog.
    #[must_use]
    pub fn max_connections(mut self, most: usize) -> Self {
        self.max_connections = most.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Speaks TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Serves `routes` until `stop` completes; then takes no more requests, answers those in work for at most five
    /// seconds, and returns.
    pub async fn serve(self, routes: Router, stop: impl Future<Output = ()> + Send) {
        let Self {
            listener,
            max_connections,
            tls,
        } = self;
        let http = Arc::new(http());
        let closing = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(max_connections));
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&listener, &room) => accepted,
            };
            let (stream, peer, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection; is the limit of open files too low?");
                    SystemClock.sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let routes = FromPeer {
                routes: routes.clone(),
                peer,
                secured: tls.is_some(),
            };
            let (http, watcher) = (Arc::clone(&http), closing.watcher());
            match tls.clone() {
                None => {
                    tokio::spawn(converse(http, stream, routes, watcher, permit));
                }
                Some(tls) => {
                    tokio::spawn(async move {
                        // Not in the loop above: whoever connects and says nothing holds up nobody else.
                        let handshake = tls.accept(stream);
                        match tokio::time::timeout(HANDSHAKE_PATIENCE, handshake).await {
                            Ok(Ok(stream)) => {
                                converse(http, stream, routes, watcher, permit).await;
                            }
                            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                            Err(_) => tracing::debug!("a TLS handshake took too long"),
                        }
                    });
                }
            }
        }
        drop(listener);
        if tokio::time::timeout(CLOSING_PATIENCE, closing.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("closing connections that are still busy");
        }
    }
}

fn http() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .max_buf_size(MAX_HEADER_BYTES);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_PATIENCE)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_concurrent_streams(MAX_STREAMS);
    http
}

/// Answers the requests of one connection until it ends.
async fn converse<S>(
    http: Arc<auto::Builder<TokioExecutor>>,
    stream: S,
    routes: FromPeer,
    watcher: Watcher,
    permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream = TokioIo::new(Patient::new(stream));
    let connection = http
        .serve_connection(stream, TowerToHyperService::new(routes))
        .into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error, "a connection broke");
    }
    drop(permit);
}

/// Serves one connection that somebody else accepted.
#[cfg(feature = "fuzzing")]
pub(crate) async fn serve_connection<S>(stream: S, routes: Router, peer: SocketAddr)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let room = Arc::new(Semaphore::new(1));
    if let Ok(permit) = room.acquire_owned().await {
        let routes = FromPeer {
            routes,
            peer,
            secured: false,
        };
        // Kept until the end: dropping it ends the connection.
        let closing = GracefulShutdown::new();
        converse(Arc::new(http()), stream, routes, closing.watcher(), permit).await;
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Control messages are small and waited for.
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

/// The routes as one connection sees them: each request tells whose it is.
#[derive(Clone)]
struct FromPeer {
    routes: Router,
    peer: SocketAddr,
    secured: bool,
}

impl<B> Service<Request<B>> for FromPeer
where
    Router: Service<Request<B>>,
{
    type Response = <Router as Service<Request<B>>>::Response;
    type Error = <Router as Service<Request<B>>>::Error;
    type Future = <Router as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.routes.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        if self.secured {
            request.extensions_mut().insert(Secured);
        }
        self.routes.call(request)
    }
}
