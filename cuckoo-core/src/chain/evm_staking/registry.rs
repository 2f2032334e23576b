//! Reading who is registered with which weight: whole, or what changed since.

use std::collections::BTreeSet;
use std::ops::Range;

use alloy::sol_types::SolCall;

use super::EvmStaking;
use crate::chain::abi::staking::Staking;
use crate::chain::evm::{Call, Evm, Failure, Head, kept, reorganised};
use crate::chain::{Node, NodeKind, Profile, Snapshot};
use crate::{Error, NodeId, Result};

/// Nodes in one call: profiles of the longest kind stay within what a node's `eth_call` allows.
pub(super) const PAGE: usize = 200;
/// Pages in one request: a few megabytes.
const PAGES_TOGETHER: usize = 8;
/// Nodes in all; each costs its owner gas, so more than this is a broken or lying endpoint.
const MAX_NODES: u64 = 100_000;
/// How often a reading that a reorganisation spoilt is begun again.
const ATTEMPTS: usize = 3;

impl<E: Evm> EvmStaking<E> {
    /// `known` at the latest block: the nodes in `changed` and new ones are read, or all of them in a new epoch, when
    /// weights move without an event. Begins again when a reorganisation replaces the block meanwhile.
    pub(super) async fn read_nodes(
        &self,
        known: &Snapshot,
        changed: &BTreeSet<NodeId>,
    ) -> Result<Snapshot> {
        for _ in 0..ATTEMPTS {
            let (head, at) = self.evm.head().await?;
            let read = self.read_at(head, &at, known, changed).await;
            if let Some(snapshot) = kept(&self.evm, &at, read).await? {
                return Ok(snapshot);
            }
        }
        Err(reorganised())
    }

    async fn read_at(
        &self,
        head: Head,
        at: &E::At,
        known: &Snapshot,
        changed: &BTreeSet<NodeId>,
    ) -> Result<Snapshot> {
        let (epoch, count) = self.extent(at).await?;
        let read = known.nodes.len() as u64;
        let numbered = known.nodes.iter().map(|node| node.id.0).eq(1..=read);
        // Many single nodes take longer than all of them in pages.
        let few = changed.len() <= PAGE;
        let nodes = if epoch == known.epoch && read <= count && numbered && few {
            let mut nodes = known.nodes.clone();
            for (node, place) in self.some(at, changed, read).await? {
                nodes[place] = node;
            }
            nodes.extend(self.pages(at, read + 1..count + 1).await?);
            nodes
        } else {
            self.pages(at, 1..count + 1).await?
        };
        Ok(Snapshot {
            block: head.number,
            epoch,
            nodes,
        })
    }

    /// The epoch, and how many nodes there are.
    async fn extent(&self, at: &E::At) -> Result<(u64, u64)> {
        let calls = [
            self.staking_call(Staking::epochCall {}),
            self.staking_call(Staking::nodeCountCall {}),
        ];
        let mut answers = self
            .evm
            .call_many(at, &calls, calls.len())
            .await?
            .into_iter();
        let epoch = self.answer::<Staking::epochCall>(answers.next())?;
        let count = self.answer::<Staking::nodeCountCall>(answers.next())?;
        if count > MAX_NODES {
            return Err(Error::chain(format!(
                "the staking contract claims {count} nodes, more than the {MAX_NODES} this version reads; check the endpoint"
            )));
        }
        Ok((epoch, count))
    }

    /// The nodes with these numbers, in order, in pages that the chain can read.
    async fn pages(&self, at: &E::At, ids: Range<u64>) -> Result<Vec<Node>> {
        let mut nodes = Vec::with_capacity(ids.clone().count());
        let size = self.page_size.get();
        let mut pages: Vec<_> = ids
            .clone()
            .step_by(size)
            .map(|first| first..ids.end.min(first + size as u64))
            .collect();
        while !pages.is_empty() {
            let calls: Vec<_> = pages
                .iter()
                .map(|page| {
                    self.staking_call(Staking::nodesCall {
                        first: page.start,
                        count: page.end - page.start,
                    })
                })
                .collect();
            let answers = self.evm.call_many(at, &calls, PAGES_TOGETHER).await?;
            // A block that is gone gives no page, however small.
            let there = answers.iter().all(Result::is_ok) || self.evm.holds(at).await?;
            let mut smaller = Vec::new();
            for (page, answer) in pages.into_iter().zip(answers) {
                let length = page.end - page.start;
                // Too much gas or too long an answer: nodes say that in many ways, so half of it says which.
                if answer.is_err() && length > 1 && there {
                    self.page_size.refused(length as usize);
                    let middle = page.start + length / 2;
                    smaller.extend([page.start..middle, middle..page.end]);
                    continue;
                }
                self.page_size.taken(length as usize);
                let views = self.answer::<Staking::nodesCall>(Some(answer))?;
                if views.len() as u64 != length {
                    return Err(Error::chain(format!(
                        "the staking contract gave {} nodes of {length}; check the endpoint",
                        views.len()
                    )));
                }
                for (view, id) in views.into_iter().zip(page) {
                    nodes.push(node(view, id)?);
                }
            }
            pages = smaller;
        }
        nodes.sort_unstable_by_key(|node| node.id);
        Ok(nodes)
    }

    /// The nodes in `ids` up to number `last`, and each one's place in a list of all.
    async fn some(
        &self,
        at: &E::At,
        ids: &BTreeSet<NodeId>,
        last: u64,
    ) -> Result<Vec<(Node, usize)>> {
        let ids: Vec<_> = ids
            .iter()
            .map(|id| id.0)
            .filter(|id| (1..=last).contains(id))
            .collect();
        let calls: Vec<_> = ids
            .iter()
            .map(|id| self.staking_call(Staking::nodeByIdCall { id: *id }))
            .collect();
        let answers = self.evm.call_many(at, &calls, calls.len()).await?;
        ids.into_iter()
            .zip(answers)
            .map(|(id, answer)| {
                let view = self.answer::<Staking::nodeByIdCall>(Some(answer))?;
                Ok((node(view, id)?, id as usize - 1))
            })
            .collect()
    }

    fn staking_call(&self, call: impl SolCall) -> Call {
        Call {
            to: self.contracts.market.staking,
            data: call.abi_encode().into(),
        }
    }

    /// What an answer of `Staking` means.
    fn answer<C: SolCall>(
        &self,
        answer: Option<Result<bytes::Bytes, Failure>>,
    ) -> Result<C::Return> {
        let answer = answer.ok_or_else(|| Error::internal("a call was left unanswered"))?;
        Self::decoded::<C>(
            self.contracts.market.staking,
            &answer.map_err(Failure::into_error)?,
        )
    }
}

/// A node as the contract shows it, which must be number `id`.
fn node(view: Staking::NodeView, id: u64) -> Result<Node> {
    if view.id != id {
        return Err(Error::chain(format!(
            "the staking contract gave node {} where node {id} belongs; check the endpoint",
            view.id
        )));
    }
    Ok(Node {
        id: NodeId(view.id),
        kind: kind(view.kind)?,
        owner: view.owner,
        operator: view.operator,
        commission_bps: view.commissionBps,
        active: view.active,
        weight: view.weight,
        owner_vote: view.ownerVote,
        profile: Profile {
            name: view.profile.name,
            description: view.profile.description,
            endpoint: view.profile.endpoint,
        },
    })
}

fn kind(discriminant: u8) -> Result<NodeKind> {
    [NodeKind::Miner, NodeKind::Coordinator]
        .into_iter()
        .find(|kind| kind.discriminant() == discriminant)
        .ok_or_else(|| {
            Error::chain(format!(
                "the staking contract names a kind of node ({discriminant}) that this version does not know; update Cuckoo"
            ))
        })
}
