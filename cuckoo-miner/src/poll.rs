//! The poll loop of one coordinator: reserve slots, ask for work, start it.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Assignment, ErrorKind, Failure, PollReply, PollRequest, Result, Retry};
use tracing::Instrument as _;

use crate::backoff::Backoff;
use crate::link::Link;
use crate::session::OpenSession;
use crate::slots::Slot;
use crate::work;

/// An empty answer that comes sooner than this is not a long poll; the next one waits, so that a coordinator that does
/// not wait is not flooded.
const SHORTEST_POLL: Duration = Duration::from_millis(100);

/// Asks for work until the miner stops or the coordinator is given up.
pub(crate) async fn run(link: Arc<Link>) {
    let shared = Arc::clone(&link.shared);
    let over = async {
        tokio::select! {
            () = shared.stopping.cancelled() => {}
            () = link.dropped.cancelled() => {}
        }
    };
    tokio::select! {
        () = over => {}
        () = poll_forever(&link) => {}
    }
}

async fn poll_forever(link: &Arc<Link>) {
    let shared = &link.shared;
    let mut backoff = Backoff::new(&shared.settings);
    loop {
        let session = link.session().await;
        let Some(slots) = shared.slots.reserve().await else {
            return;
        };
        let started = shared.clock.now();
        let reply = tokio::select! {
            biased;
            reply = poll(link, &session, slots.len()) => reply,
            () = link.lost(&session) => continue,
        };
        let pause = match reply {
            Ok(reply) => {
                backoff.reset();
                let idle = reply.assignments.is_empty() && reply.voucher.is_none();
                take(link, &session, reply, slots);
                if !idle || shared.clock.now().since(started) >= SHORTEST_POLL {
                    continue;
                }
                SHORTEST_POLL
            }
            // The session loop opens another and does the waiting.
            Err(error) if error.kind() == ErrorKind::Unauthorized => continue,
            Err(error) => {
                drop(slots);
                let mut pause = backoff.next(&*shared.entropy);
                if error.retry() == Retry::Never {
                    pause = Duration::from_millis(shared.settings.retry_max_millis);
                }
                tracing::warn!(%error, retry_in = ?pause, "the coordinator gave no work");
                pause
            }
        };
        shared.clock.sleep(pause).await;
    }
}

async fn poll(link: &Link, session: &Arc<OpenSession>, free: usize) -> Result<PollReply> {
    let shared = &link.shared;
    let wait = if shared.alone {
        shared.settings.poll_wait_millis
    } else {
        shared
            .settings
            .poll_wait_millis
            .min(shared.settings.turn_millis)
    };
    let request = PollRequest {
        capabilities: shared.offers.capabilities(),
        free_slots: u32::try_from(free).unwrap_or(PollRequest::MAX_SLOTS),
        warm: shared.offers.warm(),
        wait_millis: wait,
    };
    let limit = shared.settings.call_timeout() + Duration::from_millis(wait);
    link.call(
        session,
        "poll",
        limit,
        link.protocol.poll(&session.token, request),
    )
    .await
}

/// Starts what fits into `slots`; what was never asked for goes back.
fn take(link: &Arc<Link>, session: &Arc<OpenSession>, reply: PollReply, slots: Vec<Slot>) {
    let shared = &link.shared;
    link.take_voucher(session, reply.voucher);
    let mut slots = slots.into_iter();
    for assignment in reply.assignments {
        let span = tracing::info_span!("task", id = %assignment.task);
        match slots.next() {
            Some(slot) => {
                let run = work::run(Arc::clone(link), Arc::clone(session), assignment, slot);
                shared.runs.spawn(run.instrument(span));
            }
            None => {
                shared.runs.spawn(
                    give_back(Arc::clone(link), Arc::clone(session), assignment).instrument(span),
                );
            }
        }
    }
}

async fn give_back(link: Arc<Link>, session: Arc<OpenSession>, assignment: Assignment) {
    let failure = Failure {
        lease: assignment.lease,
        kind: ErrorKind::Rejected,
        message: "more work than free slots were announced".to_owned(),
    };
    let limit = link.shared.settings.call_timeout();
    let call = link.protocol.fail(&session.token, failure);
    if let Err(error) = link.call(&session, "fail", limit, call).await {
        tracing::debug!(%error, "the coordinator did not take the lease back");
    }
}
