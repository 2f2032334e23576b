//! Who is registered with which stake, as the core's mirror of the chain shows it; the last known state stays in force
//! while the chain is down.

use std::sync::Weak;

use cuckoo_core::{Address, Error, Mirror, Node, NodeKind, Result, Snapshot};
use tokio_util::sync::CancellationToken;

use crate::coordinator::Inner;

/// The node that `operator` may run a coordinator as.
///
/// # Errors
/// `Unauthorized` when it is not an active coordinator.
pub(crate) fn own_node(snapshot: &Snapshot, operator: Address) -> Result<&Node> {
    let node = snapshot.by_operator(operator).ok_or_else(|| {
        Error::unauthorized(format!(
            "{operator} is not the operator of any registered node; register a coordinator with it first"
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
    Ok(node)
}

/// Keeps the market's weights as the mirror has them, until `stop`.
pub(crate) async fn follow(inner: Weak<Inner>, mut mirror: Mirror, stop: CancellationToken) {
    loop {
        let view = tokio::select! {
            () = stop.cancelled() => return,
            view = mirror.changed() => view,
        };
        let (Ok(view), Some(inner)) = (view, inner.upgrade()) else {
            return;
        };
        inner.with(|market, now| market.set_weights(view, now));
    }
}
