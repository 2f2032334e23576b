//! Blobs: bytes that requesters hand in beside their inputs, and that miners fetch while they work on one that names them.

use std::sync::Arc;

use cuckoo_core::{BlobId, Error, LeaseId, Output, Result, SessionToken, Timestamp};
use futures::future::try_join_all;

use crate::coordinator::Inner;
use crate::dispatch;
use crate::market::Market;
use crate::protocol::hashed;

impl Inner {
    /// Keeps a blob; what names it is submitted next.
    pub(crate) async fn put_blob(&self, blob: Output) -> Result<BlobId> {
        let most = self.settings.max_blob_bytes;
        if blob.bytes.len() > most {
            return Err(Error::invalid(format!(
                "the blob is {} bytes; at most {most} are taken",
                blob.bytes.len()
            )));
        }
        let bytes = blob.bytes.clone();
        let id = hashed(bytes.len(), move || BlobId::of(&bytes)).await?;
        let now = self.clock.now();
        self.tried(|| self.store.put_blob(id.hash(), blob.clone(), now))
            .await?;
        Ok(id)
    }

    /// Keeps the blobs that an input names for as long as what becomes of it, until `deadline` and the retention after.
    ///
    /// # Errors
    /// `Invalid` when one is not here, or there are too many.
    pub(crate) async fn hold_blobs(&self, named: Vec<BlobId>, deadline: Timestamp) -> Result<()> {
        if named.len() > BlobId::MAX_IN_INPUT {
            return Err(Error::invalid(format!(
                "the input names {} blobs; at most {} are taken",
                named.len(),
                BlobId::MAX_IN_INPUT
            )));
        }
        // At once, so that they share a commit.
        let held = named.into_iter().map(async |id| {
            let kept = self.tried(|| self.store.extend_blob(id.hash(), deadline));
            if kept.await? {
                return Ok(());
            }
            Err(Error::invalid(format!(
                "the input names {id}, which is not here (any more); hand its bytes in first"
            )))
        });
        try_join_all(held).await.map(drop)
    }

    /// A blob that the input of a lease in work names.
    pub(crate) async fn blob_for(
        self: &Arc<Self>,
        token: &SessionToken,
        lease: LeaseId,
        id: BlobId,
    ) -> Result<Output> {
        self.with(|market, now| market.check_blob(token, lease, id, now))?;
        let blob = self.tried(|| self.store.blob(id.hash())).await?;
        blob.ok_or_else(|| Error::not_found(format!("{id} is kept no longer")))
    }
}

impl Market {
    /// Whether the miner behind `token` works on an input that names this blob.
    ///
    /// # Errors
    /// `Closed`, `Unauthorized`, `Conflict` when the lease is over or not this miner's, `NotFound` for another blob.
    fn check_blob(
        &mut self,
        token: &SessionToken,
        lease: LeaseId,
        id: BlobId,
        now: Timestamp,
    ) -> Result<()> {
        self.check_running()?;
        let miner = self.registry.authenticate(token, now)?;
        self.expire_if_due(lease, now);
        let lease = self.dispatch.lease(lease);
        let entry = lease
            .filter(|lease| lease.miner == miner && lease.is_active())
            .and_then(|lease| self.tasks.get(&lease.task))
            .ok_or_else(dispatch::not_yours)?;
        if !entry.record.task.input.contains(&id.to_string()) {
            return Err(Error::not_found(format!(
                "the lease's input does not name {id}"
            )));
        }
        Ok(())
    }
}
