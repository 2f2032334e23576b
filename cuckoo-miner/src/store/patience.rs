//! How long a hub that falters is asked again.

use std::time::Duration;

use cuckoo_core::{Error, ErrorKind, Result};

use super::hub::Hub;
use super::pull::{PullEvent, PullOptions, Watch};
use crate::backoff::Backoff;

/// How much failing is borne before a pull gives up.
pub(super) struct Patience<'a> {
    hub: &'a Hub,
    options: &'a PullOptions,
    backoff: Backoff,
    failures: u32,
}

impl<'a> Patience<'a> {
    pub(super) fn new(hub: &'a Hub, options: &'a PullOptions) -> Self {
        Self {
            hub,
            options,
            backoff: Backoff::between(options.retry_min_millis, options.retry_max_millis),
            failures: 0,
        }
    }

    /// Something was achieved, so failures count anew.
    pub(super) fn renew(&mut self) {
        self.failures = 0;
        self.backoff.reset();
    }

    /// Waits before the next attempt, at least as long as the hub asked for.
    ///
    /// # Errors
    /// The failure itself, when there were enough of them or the hub asks for too long a wait.
    pub(super) async fn after(
        &mut self,
        error: Error,
        wait: Option<Duration>,
        path: &str,
        watch: Watch<'_>,
    ) -> Result<()> {
        self.failures += 1;
        if self.failures >= self.options.attempts {
            let message = format!(
                "{}; gave up after {} attempts, what is here is kept: run it again to go on",
                error.message(),
                self.failures
            );
            return Err(Error::new(error.kind(), message).with_source(error));
        }
        let longest = Duration::from_millis(self.options.longest_wait_millis);
        let wait = wait.unwrap_or_default();
        if wait > longest {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "{}, and asks to wait {} s; try again then, or set HF_TOKEN, since limits are higher for those who say who they are",
                    error.message(),
                    wait.as_secs()
                ),
            ));
        }
        let pause = self.backoff.next(&*self.hub.entropy).max(wait);
        watch(PullEvent::Repeated {
            path,
            error: &error,
            pause,
        });
        self.hub.clock.sleep(pause).await;
        Ok(())
    }
}
