//! What convicts a miner, put together from the receipts and the outputs that came with them.

use cuckoo_core::{Error, Result};

use super::{Conclude, Journal};
use crate::{Evidence, Exhibit};

impl Journal {
    /// The evidence that a conviction stands on; none where nobody is convicted.
    pub(super) async fn gather(&self, conclude: &Conclude) -> Result<Option<Evidence>> {
        let Some(conviction) = conclude.conviction else {
            return Ok(None);
        };
        let mut exhibits = Vec::new();
        for received in &conclude.record.received {
            let lease = received.receipt.value.lease;
            let task = conclude.record.task.id;
            let output = self.tried(|| self.store.output(task, lease)).await?;
            let output = output.ok_or_else(|| Error::internal("the store lost an output"))?;
            exhibits.push(Exhibit {
                receipt: received.receipt.clone(),
                output_hash: received.receipt.value.output_hash,
                media_type: output.media_type,
                output: output.bytes,
            });
        }
        Ok(Some(Evidence {
            task: conclude.record.task.clone(),
            at: conclude.at,
            convicted: conviction.convicted,
            accepted: conviction.accepted,
            exhibits,
        }))
    }
}
