//! Doors through which `fuzz/` reaches what reads bytes from outside and is nobody else's to call. Nothing here is part of
//! the interface.

use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use cuckoo_core::{Error, Result, SignedReceipt, paths};
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::store::{RowStore, Stored};

/// What the header of a completion holds.
///
/// # Errors
/// `Invalid` when that is no signed receipt.
pub fn receipt_header(bytes: &[u8]) -> Result<SignedReceipt> {
    let value = HeaderValue::from_bytes(bytes)
        .map_err(|source| Error::invalid("this is no header's value").with_source(source))?;
    let name = HeaderName::from_static(paths::RECEIPT);
    crate::http::receipt(&HeaderMap::from_iter([(name, value)]))
}

/// Serves one connection from this machine as the server does, until its other end is gone or too slow.
pub async fn serve_connection<S>(stream: S, routes: Router)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    crate::http::serve_connection(stream, routes, peer).await;
}
