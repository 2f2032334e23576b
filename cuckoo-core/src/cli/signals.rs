//! Ctrl-C and SIGTERM.

use tokio_util::sync::CancellationToken;

use crate::{Error, Result};

/// A token that the first Ctrl-C or SIGTERM cancels; the second ends the process with the status shells expect. Needs a
/// Tokio runtime.
///
/// # Errors
/// `Unavailable` when the system does not let the process listen for signals.
pub fn watch_signals() -> Result<CancellationToken> {
    let mut signals = Signals::new()
        .map_err(|source| Error::unavailable("cannot listen for signals").with_source(source))?;
    let token = CancellationToken::new();
    let first = token.clone();
    tokio::spawn(async move {
        signals.next().await;
        first.cancel();
        let number = signals.next().await;
        std::process::exit(128 + number);
    });
    Ok(token)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal and gives its number.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    /// Waits for the next Ctrl-C and gives the number of its signal.
    async fn next(&mut self) -> i32 {
        self.0.recv().await;
        2
    }
}
