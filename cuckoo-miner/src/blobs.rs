//! The blobs that a run's input names: fetched from the coordinator, and believed by their hash alone.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use cuckoo_core::{BlobId, Error, LeaseId, Output, Result};

use crate::backoff::Backoff;
use crate::link::{Link, may_pass};

/// Where a run's blobs come from.
#[async_trait]
pub(crate) trait Blobs: fmt::Debug + Send + Sync + 'static {
    /// The bytes of that name.
    async fn fetch(&self, id: BlobId) -> Result<Output>;
}

/// Blobs at hand, for tests of executors.
#[async_trait]
impl Blobs for HashMap<BlobId, Output> {
    async fn fetch(&self, id: BlobId) -> Result<Output> {
        self.get(&id)
            .cloned()
            .ok_or_else(|| Error::not_found(format!("this context has no {id}")))
    }
}

/// The blobs of a lease's input, at its coordinator.
#[derive(Debug)]
pub(crate) struct LeaseBlobs {
    pub(crate) link: Arc<Link>,
    pub(crate) lease: LeaseId,
}

#[async_trait]
impl Blobs for LeaseBlobs {
    /// Asks again, in a new session where the old one was lost, as long as that may help: the run ends with its lease.
    async fn fetch(&self, id: BlobId) -> Result<Output> {
        let Self { link, lease } = self;
        let shared = &link.shared;
        let mut backoff = Backoff::new(&shared.settings);
        loop {
            let session = link.session().await;
            let call = link.protocol.blob(&session.token, *lease, id);
            let limit = shared.settings.call_timeout();
            match link.call(&session, "blob", limit, call).await {
                Ok(blob) if BlobId::of(&blob.bytes) == id => return Ok(blob),
                Ok(_) => {
                    return Err(Error::unverified(format!(
                        "the coordinator gave other bytes for {id}; the task was not run on them"
                    )));
                }
                Err(error) if may_pass(&error) => {
                    shared.clock.sleep(backoff.next(&*shared.entropy)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
