//! The poll loop of one coordinator: reserve slots, ask for work, start it.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Assignment, ErrorKind, Failure, PollReply, PollRequest, Result, Retry};
use tracing::Instrument as _;

use crate::backoff::Backoff;
use crate::credit::Claim;
use crate::link::Link;
use crate::session::OpenSession;
use crate::slots::{Slot, Turn};
use crate::work;

/// An empty answer that comes sooner than this is not a long poll; the next one waits, so that a coordinator that does
/// not wait is not flooded.
const SHORTEST_POLL: Duration = Duration::from_millis(100);
/// How often that pause doubles while a coordinator has nothing, so that asking it does not keep slots from those that have.
const DOUBLINGS: u32 = 4;
/// The first pause between two polls for no more than a voucher; it doubles to the interval of the credit settings.
const FIRST_REST: Duration = Duration::from_secs(1);

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
    shared.slots.found(link.party, 0);
}

async fn poll_forever(link: &Arc<Link>) {
    let shared = &link.shared;
    let mut backoff = Backoff::new(&shared.settings);
    let mut empty = 0;
    let mut rest = FIRST_REST;
    shared.tested.cancelled().await;
    loop {
        if link.current_session().is_none() {
            // It has no work for now, so others need not hurry their polls for its sake.
            shared.slots.found(link.party, 0);
        }
        let session = link.session().await;
        let room = link.room();
        if room == 0 {
            shared.slots.found(link.party, 0);
            settle(link, &session, rest).await;
            rest = (rest * 2).min(shared.settings.credit.every().max(FIRST_REST));
            continue;
        }
        rest = FIRST_REST;
        let Some(mut turn) = shared.slots.reserve(link.party, room).await else {
            return;
        };
        // Its credit may have shrunk while it waited.
        turn.slots.truncate(link.room() as usize);
        if turn.slots.is_empty() {
            continue;
        }
        let patient = turn.patient;
        let started = shared.clock.now();
        let reply = tokio::select! {
            biased;
            reply = poll(link, &session, &turn) => reply,
            () = link.lost(&session) => {
                shared.slots.found(link.party, 0);
                continue;
            }
        };
        let took = shared.clock.now().since(started);
        if !matches!(&reply, Ok(reply) if !reply.assignments.is_empty()) {
            // Who keeps slots longer than asked and gives nothing for it pays with its turns.
            let asked = Duration::from_millis(wait_of(link, patient));
            let kept = took.saturating_sub(asked).as_secs_f64() * turn.slots.len() as f64;
            shared.slots.kept(link.party, kept);
        }
        let pause = match reply {
            Ok(reply) => {
                backoff.reset();
                if !patient {
                    link.standing.heard_after(took);
                }
                let idle = reply.assignments.is_empty() && reply.voucher.is_none();
                take(link, &session, reply, turn.slots);
                if !idle || patient && took >= SHORTEST_POLL {
                    empty = 0;
                    continue;
                }
                let pause = SHORTEST_POLL * 2_u32.pow(empty);
                empty = (empty + 1).min(DOUBLINGS);
                if patient { SHORTEST_POLL } else { pause }
            }
            // The session loop opens another and does the waiting.
            Err(error) if error.kind() == ErrorKind::Unauthorized => {
                shared.slots.found(link.party, 0);
                continue;
            }
            Err(error) => {
                shared.slots.found(link.party, 0);
                drop(turn);
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

async fn poll(link: &Link, session: &Arc<OpenSession>, turn: &Turn) -> Result<PollReply> {
    ask(link, session, turn.slots.len(), wait_of(link, turn.patient)).await
}

/// How long a poll may wait for work, in milliseconds.
fn wait_of(link: &Link, patient: bool) -> u64 {
    let settings = &link.shared.settings;
    match patient {
        true if link.shared.alone => settings.poll_wait_millis,
        true => settings.poll_wait_millis.min(settings.turn_millis),
        false => 0,
    }
}

async fn ask(link: &Link, session: &Arc<OpenSession>, free: usize, wait: u64) -> Result<PollReply> {
    let shared = &link.shared;
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

/// While the coordinator's credit is used up, asks it for no work, only for the voucher that would make room: polls are how
/// vouchers come. Then rests for `pause`; returns when there may be room.
async fn settle(link: &Arc<Link>, session: &Arc<OpenSession>, pause: Duration) {
    // To its end, for a voucher in an answer that nobody reads does not come again before it grows.
    match ask(link, session, 0, 0).await {
        Ok(reply) => take(link, session, reply, Vec::new()),
        Err(error) => {
            tracing::debug!(%error, "no voucher came");
            // The answer that is lost may have had it, and a coordinator gives each voucher once in a session.
            link.lose(session);
        }
    }
    let room = async {
        while link.room() == 0 {
            link.standing.changed().await;
        }
    };
    tokio::select! {
        () = link.shared.clock.sleep(pause) => {}
        () = room => {}
        () = link.lost(session) => {}
    }
}

/// Starts what fits into `slots` and under the credit limit; what was never asked for goes back.
fn take(link: &Arc<Link>, session: &Arc<OpenSession>, reply: PollReply, slots: Vec<Slot>) {
    let shared = &link.shared;
    link.take_voucher(session, reply.voucher);
    let mut slots = slots.into_iter();
    let mut started: Vec<(Assignment, Claim, Slot)> = Vec::new();
    for assignment in reply.assignments {
        let excess = match slots.next() {
            None => "more work than free slots were announced",
            Some(slot) => match link.standing.take(assignment.price) {
                Some(claim) => {
                    started.push((assignment, claim, slot));
                    continue;
                }
                None => "what the coordinator owes leaves no room for a task of this price",
            },
        };
        let span = tracing::info_span!("task", id = %assignment.task);
        let back = give_back(Arc::clone(link), Arc::clone(session), assignment, excess);
        shared.runs.spawn(back.instrument(span));
    }
    let charged = shared.slots.found(link.party, started.len());
    for (assignment, claim, slot) in started {
        let span = tracing::info_span!("task", id = %assignment.task);
        let (link, session) = (Arc::clone(link), Arc::clone(session));
        let run = work::run(link, session, assignment, claim, slot, charged);
        shared.runs.spawn(run.instrument(span));
    }
}

async fn give_back(
    link: Arc<Link>,
    session: Arc<OpenSession>,
    assignment: Assignment,
    excess: &'static str,
) {
    let failure = Failure {
        lease: assignment.lease,
        kind: ErrorKind::Rejected,
        retry: Retry::Later,
        message: excess.to_owned(),
    };
    let limit = link.shared.settings.call_timeout();
    let call = link.protocol.fail(&session.token, failure);
    if let Err(error) = link.call(&session, "fail", limit, call).await {
        tracing::debug!(%error, "the coordinator did not take the lease back");
    }
}

impl Link {
    /// How many more tasks it may be asked for.
    fn room(&self) -> u32 {
        self.judge(self.shared.clock.now());
        self.standing.state().account.room()
    }
}
