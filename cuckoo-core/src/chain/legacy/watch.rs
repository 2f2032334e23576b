//! Changes of a legacy network: the difference between two readings of everything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};

use super::{LEAST_POLL, LegacyStaking};
use crate::chain::{ChainEvent, Change, Node, Snapshot};
use crate::{NodeId, Result};

struct Watch {
    legacy: LegacyStaking,
    known: Snapshot,
    ready: VecDeque<Change>,
    lost: bool,
}

/// Every change after `known`. While the chain cannot be read nothing is missed: the next reading shows the difference.
pub(super) fn changes(
    legacy: LegacyStaking,
    known: Snapshot,
) -> BoxStream<'static, Result<Change>> {
    let watch = Watch {
        legacy,
        known,
        ready: VecDeque::new(),
        lost: false,
    };
    stream::unfold(watch, |mut watch| async move {
        let change = watch.next().await;
        Some((Ok(change), watch))
    })
    .boxed()
}

impl Watch {
    async fn next(&mut self) -> Change {
        let pause = Duration::from_millis(self.legacy.settings.poll_millis).max(LEAST_POLL);
        loop {
            if let Some(change) = self.ready.pop_front() {
                return change;
            }
            self.legacy.clock.sleep(pause).await;
            match self.legacy.read().await {
                Ok(snapshot) => {
                    self.lost = false;
                    self.ready.extend(difference(&self.known, &snapshot));
                    self.known = snapshot.clone();
                    let latest = &self.legacy.latest;
                    *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
                }
                Err(error) => {
                    if !self.lost {
                        tracing::warn!(%error, "the legacy contracts cannot be read; trying again");
                    }
                    self.lost = true;
                }
            }
        }
    }
}

/// One change for each node that differs.
fn difference(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let nodes = |snapshot: &Snapshot| -> BTreeMap<NodeId, Node> {
        let nodes = snapshot.nodes.iter().cloned();
        nodes.map(|node| (node.id, node)).collect()
    };
    let (mut old, new) = (nodes(before), nodes(after));
    let mut events = Vec::new();
    for (id, node) in new {
        match old.remove(&id) {
            Some(same) if same == node => {}
            Some(other) if other.active == node.active => {
                events.push(ChainEvent::VotesChanged(id));
            }
            _ => events.push(ChainEvent::NodeChanged(id)),
        }
    }
    events.extend(old.into_keys().map(ChainEvent::NodeChanged));
    let block = after.block;
    events
        .into_iter()
        .map(|event| Change { block, event })
        .collect()
}
