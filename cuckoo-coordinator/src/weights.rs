//! Who is registered with which stake: read at the start, on every change, and at an interval; the last known state
//! stays in force while the chain is down.

use std::sync::{Arc, Weak};
use std::time::Duration;

use cuckoo_core::{
    ChainEvent, Change, Clock, Error, Key, Node, NodeKind, Result, Snapshot, StakingContract,
};
use futures::future::{self, Either};
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::coordinator::Inner;

/// How long one look at the chain may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reads the chain for the first time.
///
/// # Errors
/// `Unavailable` when the chain is down, `Unauthorized` when `operator` is not an active coordinator.
pub(crate) async fn first_look(
    chain: &dyn StakingContract,
    operator: &Key,
    clock: &dyn Clock,
) -> Result<(Snapshot, Node)> {
    let snapshot = look(chain, clock).await?;
    let address = operator.address();
    let node = snapshot.by_operator(address).cloned().ok_or_else(|| {
        Error::unauthorized(format!(
            "{address} is not the operator of any registered node; register a coordinator with it first"
        ))
    })?;
    if node.kind != NodeKind::Coordinator {
        return Err(Error::unauthorized(format!(
            "{} is registered as a miner; a coordinator needs a node of its own",
            node.id
        )));
    }
    if !node.active {
        return Err(Error::unauthorized(format!(
            "{} is not active: its owner's own vote must reach the minimum for coordinators",
            node.id
        )));
    }
    Ok((snapshot, node))
}

async fn look(chain: &dyn StakingContract, clock: &dyn Clock) -> Result<Snapshot> {
    match future::select(chain.snapshot(), clock.sleep(PATIENCE)).await {
        Either::Left((snapshot, _)) => snapshot,
        Either::Right(_) => Err(Error::unavailable(
            "the chain did not answer in time; check its RPC endpoint",
        )),
    }
}

/// Keeps the market's weights up to date until `stop`.
pub(crate) async fn watch(
    inner: Weak<Inner>,
    chain: Arc<dyn StakingContract>,
    clock: Arc<dyn Clock>,
    interval: Duration,
    stop: CancellationToken,
) {
    let mut changes: Option<BoxStream<'static, Result<Change>>> = None;
    loop {
        if changes.is_none() {
            changes = match chain.changes().await {
                Ok(stream) => Some(stream),
                Err(error) => {
                    tracing::warn!(%error, "no stream of chain changes; reading at intervals");
                    None
                }
            };
        }
        let changed = async {
            match &mut changes {
                Some(stream) => next_change(stream).await,
                None => std::future::pending().await,
            }
        };
        let stream_ends = tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep(interval) => false,
            goes_on = changed => !goes_on,
        };
        if stream_ends {
            changes = None;
        }
        let snapshot = tokio::select! {
            () = stop.cancelled() => return,
            snapshot = look(chain.as_ref(), clock.as_ref()) => snapshot,
        };
        let Some(inner) = inner.upgrade() else { return };
        match snapshot {
            Ok(snapshot) => inner.with(|market, now| market.set_weights(snapshot, now)),
            Err(error) => inner.with(|market, now| {
                if market.stale_since.is_none() {
                    tracing::warn!(%error, "the chain cannot be read; the last weights stay in force");
                    market.stale_since = Some(now);
                }
            }),
        }
        if stream_ends {
            // A stream that ends at once must not make this loop spin.
            drop(inner);
            tokio::select! {
                () = stop.cancelled() => return,
                () = clock.sleep(interval) => {}
            }
        }
    }
}

/// Waits for a change that concerns nodes or weights, and takes those that came with it; false when the stream broke.
async fn next_change(changes: &mut BoxStream<'static, Result<Change>>) -> bool {
    loop {
        match changes.next().await {
            Some(Ok(change)) if concerns_weights(&change.event) => break,
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(%error, "the stream of chain changes broke");
                return false;
            }
            None => return false,
        }
    }
    // What is there already is covered by the same look at the chain.
    while let Some(Some(Ok(_))) = changes.next().now_or_never() {}
    true
}

fn concerns_weights(event: &ChainEvent) -> bool {
    !matches!(
        event,
        ChainEvent::EscrowChanged(_) | ChainEvent::Redeemed { .. }
    )
}
