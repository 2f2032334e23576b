//! What a run has shown of its output.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cuckoo_core::Bytes;
use tokio::sync::Notify;

/// The beginning of an output, kept until the run ends: it is sent piece by piece, again where a piece was lost, and
/// compared with the whole output.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    bytes: Mutex<Vec<u8>>,
    grew: Notify,
}

impl Emitted {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes().extend_from_slice(bytes);
            self.grew.notify_one();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// At most `most` bytes from `offset` on; none where there are none yet.
    pub(crate) fn from(&self, offset: usize, most: usize) -> Bytes {
        let bytes = self.bytes();
        let rest = bytes.get(offset..).unwrap_or_default();
        Bytes::copy_from_slice(&rest[..rest.len().min(most)])
    }

    /// Whether `output` begins with what was emitted.
    pub(crate) fn begins(&self, output: &[u8]) -> bool {
        output.starts_with(&self.bytes())
    }

    /// Completes when there are more than `offset` bytes. For one waiter at a time; safe to drop.
    pub(crate) async fn beyond(&self, offset: usize) {
        while self.len() <= offset {
            self.grew.notified().await;
        }
    }
}
