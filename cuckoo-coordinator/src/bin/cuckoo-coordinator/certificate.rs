//! The server's certificate, read again when it was renewed.

use std::time::Duration;

use cuckoo_coordinator::Tls;
use cuckoo_core::{Clock as _, Error, Result, SystemClock};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// Reads the certificate again at every SIGHUP, and when its files changed; for as long as it is polled.
///
/// # Errors
/// `Unavailable` when the system takes no handler for the signal.
pub(crate) fn keep_fresh(tls: Tls) -> Result<impl Future<Output = ()>> {
    let mut hangups = Hangups::new()
        .map_err(|source| Error::unavailable("cannot listen for SIGHUP").with_source(source))?;
    Ok(async move {
        loop {
            let reloaded = tokio::select! {
                () = hangups.next() => tls.reload().map(|()| true),
                () = SystemClock.sleep(LOOK) => tls.reload_if_changed(),
            };
            match reloaded {
                Ok(true) => tracing::info!("the certificate was read again"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the old certificate stays; put its files right");
                }
            }
        }
    })
}

#[cfg(unix)]
struct Hangups(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangups {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        signal(SignalKind::hangup()).map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

#[cfg(windows)]
struct Hangups;

#[cfg(windows)]
impl Hangups {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        std::future::pending().await
    }
}
