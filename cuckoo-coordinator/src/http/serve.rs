//! Accepts connections, bounded in number and in the patience shown to each.

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
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_service::Service;

/// The most connections at a time; more wait in the system's backlog.
const MAX_CONNECTIONS: usize = 4096;
/// Longest a client may take to send its headers, or stay idle between requests. Above the 90 seconds after which
/// common clients give up an idle connection, so that none is closed under a request on its way.
const HEADER_PATIENCE: Duration = Duration::from_secs(95);
/// Longest that open connections are waited for once `stop` completed.
const CLOSING_PATIENCE: Duration = Duration::from_secs(5);
/// Pause after the system refused a connection, mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `routes` over HTTP/1.1 and HTTP/2 on `listener` until `stop` completes; then takes no more requests, answers
/// those in work for at most five seconds, and returns.
pub async fn serve(listener: TcpListener, routes: Router, stop: impl Future<Output = ()> + Send) {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_PATIENCE);
    let closing = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
        let service = FromPeer {
            routes: routes.clone(),
            peer,
        };
        let connection = server
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
            .into_owned();
        let connection = closing.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection broke");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(CLOSING_PATIENCE, closing.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("closing connections that are still busy");
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
        self.routes.call(request)
    }
}
