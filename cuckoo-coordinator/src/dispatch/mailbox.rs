//! Polls: a miner's request for work waits here until its mailbox has something.

use std::sync::Arc;

use cuckoo_core::{
    Assignment, Error, LeaseId, NodeId, PollReply, PollRequest, Result, SessionToken, Timestamp,
};
use tokio::sync::Notify;

use super::{Lease, LeaseState};
use crate::market::Market;
use crate::registry::Parked;

/// The longest name of kernels, in bytes.
const MAX_KERNELS: usize = 64;

/// A poll that waits: what it is woken by, and what it gives back when it ends.
#[derive(Debug)]
pub(crate) struct PollTicket {
    pub(crate) miner: NodeId,
    poll: u64,
    pub(crate) wake: Arc<Notify>,
}

impl Market {
    /// Lets a poll wait for work; what is there already is in the mailbox when this returns. An earlier poll of the
    /// same miner ends.
    ///
    /// # Errors
    /// `Closed`, `Unauthorized`, or `Invalid` for a request out of bounds.
    pub(crate) fn park(
        &mut self,
        token: &SessionToken,
        request: PollRequest,
        now: Timestamp,
    ) -> Result<PollTicket> {
        self.check_running()?;
        let node = self.registry.authenticate(token, now)?;
        check_bounds(&request)?;
        let capabilities = self.useful(request.capabilities);
        let Some(miner) = self.registry.miners.get_mut(&node) else {
            return Err(Error::internal("a session without a miner"));
        };
        crate::registry::check_node(Some(&miner.node), miner.node.operator)?;
        let poll = self.dispatch.next_poll;
        self.dispatch.next_poll += 1;
        let wake = Arc::new(Notify::new());
        let slots = request.free_slots.min(PollRequest::MAX_SLOTS);
        // The poll that waited before, if any, finds that it is not the current one.
        miner.wake();
        miner.parked = Some(Parked {
            poll,
            slots,
            wake: Arc::clone(&wake),
        });
        let known = miner.capabilities == capabilities && !miner.joined.is_empty();
        miner.capabilities = capabilities;
        if known {
            self.sync_free(node);
        } else {
            self.sync_pools(node, now);
        }
        self.note_warm(node, &request.warm);
        self.fill(node, now);
        Ok(PollTicket {
            miner: node,
            poll,
            wake,
        })
    }

    /// What a waiting poll takes away; `None` when it should wait on. With `last` it takes what there is.
    ///
    /// # Errors
    /// `Unauthorized` when the session ended meanwhile, `Closed` after the shutdown.
    pub(crate) fn take(
        &mut self,
        token: &SessionToken,
        ticket: &PollTicket,
        last: bool,
        now: Timestamp,
    ) -> Result<Option<PollReply>> {
        self.check_running()?;
        self.registry.authenticate(token, now)?;
        let Some(miner) = self.registry.miners.get_mut(&ticket.miner) else {
            return Ok(None);
        };
        if miner
            .parked
            .as_ref()
            .is_none_or(|parked| parked.poll != ticket.poll)
        {
            // A later poll took its place.
            return Ok(Some(PollReply::default()));
        }
        if miner.mailbox.is_empty() && !last {
            return Ok(None);
        }
        // What the miner has no slot for stays: an earlier poll with more slots may have been dropped.
        let slots = miner
            .parked
            .take()
            .map_or(0, |parked| parked.slots as usize);
        let count = slots.min(miner.mailbox.len());
        let leases: Vec<_> = miner.mailbox.drain(..count).collect();
        let voucher = miner.take_voucher();
        let assignments = leases
            .into_iter()
            .filter_map(|lease| self.deliver(lease, now))
            .collect();
        self.sync_free(ticket.miner);
        self.watch_for_quiet(ticket.miner, now);
        Ok(Some(PollReply {
            assignments,
            voucher,
        }))
    }

    /// A poll was dropped before it took anything: its miner gets nothing until the next one.
    pub(crate) fn unpark(&mut self, ticket: &PollTicket, now: Timestamp) {
        let Some(miner) = self.registry.miners.get_mut(&ticket.miner) else {
            return;
        };
        if miner
            .parked
            .as_ref()
            .is_some_and(|parked| parked.poll == ticket.poll)
        {
            miner.parked = None;
            miner.last_seen = now;
            self.sync_free(ticket.miner);
            self.watch_for_quiet(ticket.miner, now);
        }
    }

    fn deliver(&mut self, id: LeaseId, now: Timestamp) -> Option<Assignment> {
        let Lease {
            task, model_hash, ..
        } = *self.dispatch.lease(id)?;
        let entry = self.tasks.get(&task)?;
        let task = &entry.record.task;
        // An auditor may have until the audit's end, which can be after the task's deadline.
        let deadline = entry
            .audit
            .as_ref()
            .map_or(task.deadline, |audit| audit.ends);
        let patience = self.settings.lease();
        let expires_at = now.after(patience);
        // A refusal needs a look at the input, and it may be that the model is loaded for that: more than one lease, which
        // is some heartbeats, and not many. What is refused must leave others as much time.
        let to_refuse = patience.saturating_mul(2).min(deadline.since(now) / 2);
        let assignment = Assignment {
            lease: id,
            task: task.id,
            coordinator: self.node,
            model: task.model.clone(),
            model_hash,
            input: task.input.clone(),
            input_hash: task.input_hash,
            price: task.price,
            lease_expires_at: expires_at,
            heartbeat_millis: self.settings.heartbeat_millis,
            deadline,
        };
        let lease = self.dispatch.leases.get_mut(&id)?;
        if !matches!(lease.state, LeaseState::Active) {
            return None;
        }
        lease.delivered = true;
        lease.expires_at = expires_at;
        lease.refusable_until = now.after(to_refuse);
        Some(assignment)
    }
}

/// # Errors
/// `Invalid` that names the bound.
fn check_bounds(request: &PollRequest) -> Result<()> {
    if request.capabilities.len() > PollRequest::MAX_CAPABILITIES
        || request.warm.len() > PollRequest::MAX_CAPABILITIES
    {
        return Err(Error::invalid(format!(
            "a poll names at most {} capabilities and warm models",
            PollRequest::MAX_CAPABILITIES
        )));
    }
    if request
        .capabilities
        .iter()
        .any(|capability| capability.kernels.len() > MAX_KERNELS)
    {
        return Err(Error::invalid(format!(
            "the name of kernels is at most {MAX_KERNELS} bytes"
        )));
    }
    Ok(())
}
