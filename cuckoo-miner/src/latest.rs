//! What a run has shown last.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cuckoo_core::Preview;

/// A run's latest preview, until a heartbeat takes it.
#[derive(Debug, Default)]
pub(crate) struct Latest(Mutex<Option<Preview>>);

impl Latest {
    fn shown(&self) -> MutexGuard<'_, Option<Preview>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn show(&self, preview: Preview) {
        if preview.fits() {
            *self.shown() = Some(preview);
        } else {
            tracing::debug!(
                bytes = preview.data.len(),
                most = Preview::MAX_BYTES,
                "a preview is too large and not sent"
            );
        }
    }

    /// Takes it away, if it has at most `most` bytes.
    pub(crate) fn take(&self, most: usize) -> Option<Preview> {
        self.shown().take_if(|preview| preview.data.len() <= most)
    }
}
