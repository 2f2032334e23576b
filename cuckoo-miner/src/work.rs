//! One assignment, from check to receipt.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cuckoo_core::{
    Assignment, Completion, Error, ErrorKind, Failure, Receipt, Result, Retry, Signed, Timestamp,
    payload_hash,
};
use tokio::task::{JoinError, JoinHandle};
use tracing::Instrument as _;

use crate::blobs::LeaseBlobs;
use crate::credit::Claim;
use crate::leases::{Job, LeaseGuard, Over};
use crate::link::Link;
use crate::miner::Shared;
use crate::pace::Run as Place;
use crate::session::OpenSession;
use crate::slots::Slot;
use crate::{Execution, Executor, heartbeat, stream};

/// The longest media type handed in, in bytes.
pub(crate) const MAX_MEDIA_TYPE: usize = 127;

/// An assignment in work.
struct Work {
    link: Arc<Link>,
    session: Arc<OpenSession>,
    task: Assignment,
    lease: LeaseGuard,
    claim: Claim,
    started: Timestamp,
}

/// How a run ended, or what ended it.
enum Ended {
    Joined(Result<Result<Execution>, JoinError>),
    Unwanted(Over),
    Late,
    Closing,
}

/// Runs one assignment and hands in what came of it; holds `slot`, for which the coordinator was charged `charged` seconds,
/// until the run has really ended.
pub(crate) async fn run(
    link: Arc<Link>,
    session: Arc<OpenSession>,
    task: Assignment,
    claim: Claim,
    slot: Slot,
    charged: f64,
) {
    let started = link.shared.clock.now();
    if let Some(work) = Work::start(Arc::clone(&link), session, task, claim) {
        match work.check() {
            Ok((executor, place)) => work.execute(executor, place).await,
            Err(error) => work.fail(&error).await,
        }
    }
    let now = link.shared.clock.now();
    let seconds = now.since(started).as_secs_f64();
    slot.spent(charged, seconds);
    link.standing.state().meter.work(seconds, now);
}

impl Work {
    /// Puts the lease in work, unless it is already.
    fn start(
        link: Arc<Link>,
        session: Arc<OpenSession>,
        task: Assignment,
        claim: Claim,
    ) -> Option<Self> {
        let started = link.shared.clock.now();
        let interval = heartbeat::interval(task.heartbeat_millis);
        let blobs = Arc::new(LeaseBlobs {
            link: Arc::clone(&link),
            lease: task.lease,
        });
        let lease = link.leases.start(
            task.lease,
            Job {
                task: task.task,
                model: task.model.clone(),
                started_at: started,
            },
            crate::TaskContext::new(session.local(task.deadline)).with_source(blobs),
            session.local(task.lease_expires_at),
            started.after(interval),
            interval,
        );
        let Some(lease) = lease else {
            tracing::warn!(lease = %task.lease, "a lease that is in work came again; it is ignored");
            return None;
        };
        Some(Self {
            link,
            session,
            task,
            lease,
            claim,
            started,
        })
    }

    /// Whether this is work that was offered, from the coordinator it says, on the input it says, and can be done in time.
    fn check(&self) -> Result<(Arc<dyn Executor>, Place)> {
        if self.task.coordinator != self.session.coordinator {
            return Err(Error::unverified(format!(
                "{} handed out work in the name of {}; nothing was run",
                self.session.coordinator, self.task.coordinator
            )));
        }
        let deadline = self.lease.context.deadline();
        let Shared {
            offers, settings, ..
        } = &*self.link.shared;
        let percent = settings.estimate_percent;
        offers.executor_for(&self.task, self.started, deadline, percent)
    }

    /// Runs the task and hands in or reports what came of it.
    async fn execute(self, executor: Arc<dyn Executor>, place: Place) {
        let shared = Arc::clone(&self.link.shared);
        let context = self.lease.context.clone();
        let deadline = context.deadline();
        tracing::debug!(model = %self.task.model, "run started");
        let mut handle = {
            let (task, context) = (self.task.clone(), context.clone());
            // A task of its own, so that a panic ends the run and nothing else.
            tokio::spawn(async move { executor.execute(task, context).await }.in_current_span())
        };
        // Beside the run, and no longer than it but for the last call.
        tokio::spawn(stream::run(Arc::clone(&self.link), self.lease.share()).in_current_span());
        let ended = tokio::select! {
            joined = &mut handle => Ended::Joined(joined),
            over = self.lease.over() => Ended::Unwanted(over),
            () = self.link.dropped.cancelled() => Ended::Unwanted(Over::Ended),
            () = shared.clock.sleep(deadline.since(self.started)) => Ended::Late,
            () = shared.aborting.cancelled() => Ended::Closing,
        };
        context.cancel();
        match &ended {
            Ended::Joined(Ok(Ok(_))) => place.done(),
            Ended::Late => place.late(),
            _ => {}
        }
        // What is still to be stopped keeps its place in the executor until then.
        let _place = Some(place).filter(|_| !matches!(ended, Ended::Joined(_)));
        match ended {
            Ended::Joined(Ok(Ok(execution))) => self.hand_in(execution).await,
            Ended::Joined(Ok(Err(error))) => self.fail(&error).await,
            Ended::Joined(Err(join)) => self.fail(&Error::execution(describe(join))).await,
            Ended::Unwanted(why) => {
                tracing::info!(?why, "run stopped: its result is not wanted any more");
                shared.counts.cancelled.fetch_add(1, Ordering::Relaxed);
                // No more heartbeats for it.
                drop(self);
                stop(&shared, handle).await;
            }
            Ended::Late => {
                let late = Error::timeout("the executor was not done by the deadline");
                tokio::join!(self.fail(&late), stop(&shared, handle));
            }
            Ended::Closing => {
                let closing = Error::rejected("the miner is shutting down; assign the task again")
                    .with_retry(Retry::Later);
                tokio::join!(self.fail(&closing), stop(&shared, handle));
            }
        }
    }

    /// Signs for an output and hands it in.
    async fn hand_in(mut self, execution: Execution) {
        let completion = match self.completion(execution) {
            Ok(completion) => completion,
            Err(error) => return self.fail(&error).await,
        };
        let shared = Arc::clone(&self.link.shared);
        self.lease.hand_in();
        self.claim.hand_in();
        let answer = self
            .link
            .deliver(&self.lease, "complete", |session| {
                let (protocol, completion) = (Arc::clone(&self.link.protocol), completion.clone());
                Box::pin(async move { protocol.complete(&session.token, completion).await })
            })
            .await;
        match answer {
            Ok((session, reply)) => {
                shared.counts.completed.fetch_add(1, Ordering::Relaxed);
                self.link.standing.state().completed += 1;
                tracing::info!(
                    millis = shared.clock.now().since(self.started).as_millis(),
                    bytes = completion.output.bytes.len(),
                    "task completed"
                );
                self.claim.accepted();
                self.link.take_voucher(&session, reply.voucher);
            }
            Err(error) => {
                shared.counts.failed.fetch_add(1, Ordering::Relaxed);
                self.link.standing.state().failed += 1;
                tracing::warn!(%error, "the output was not taken");
            }
        }
    }

    fn completion(&self, execution: Execution) -> Result<Completion> {
        let shared = &self.link.shared;
        let Execution {
            output,
            mut usage,
            states_root,
        } = execution;
        if output.bytes.len() as u64 > shared.settings.max_output_bytes {
            return Err(Error::execution(format!(
                "the executor gave {} bytes; at most {} are handed in",
                output.bytes.len(),
                shared.settings.max_output_bytes
            )));
        }
        if !self.lease.context.outlet().begins(&output.bytes) {
            return Err(Error::execution(
                "the executor's output does not begin with what it emitted; emit nothing but the output itself",
            ));
        }
        let printable = output
            .media_type
            .bytes()
            .all(|byte| (b' '..=b'~').contains(&byte));
        if output.media_type.is_empty() || output.media_type.len() > MAX_MEDIA_TYPE || !printable {
            return Err(Error::execution(format!(
                "the executor gave no media type of 1 to {MAX_MEDIA_TYPE} ASCII characters, such as image/png"
            )));
        }
        if usage.compute_millis == 0 {
            let elapsed = shared.clock.now().since(self.started).as_millis();
            usage.compute_millis = u64::try_from(elapsed).unwrap_or(u64::MAX);
        }
        let receipt = Receipt {
            coordinator: self.session.coordinator,
            miner: self.session.miner,
            lease: self.task.lease,
            task: self.task.task,
            model_hash: self.task.model_hash,
            input_hash: self.task.input_hash,
            output_hash: payload_hash(&output.bytes),
            states_root,
            usage,
        };
        let deployment = shared.chain.deployment();
        Ok(Completion {
            receipt: Signed::sign(receipt, &shared.operator, &deployment),
            output,
        })
    }

    /// Counts a task that was not done, and says why.
    fn note(&self, error: &Error) {
        let counts = &self.link.shared.counts;
        let mut standing = self.link.standing.state();
        // Nobody's fault, and neither is it a run that came to nothing.
        if error.kind() == ErrorKind::Rejected {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            standing.refused += 1;
            tracing::info!(%error, "task given back");
        } else {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            standing.failed += 1;
            tracing::warn!(%error, "task not done");
        }
    }

    /// Gives the lease back with the reason.
    async fn fail(&self, error: &Error) {
        self.note(error);
        self.lease.hand_in();
        let failure = Failure {
            lease: self.task.lease,
            kind: reported_kind(error.kind()),
            retry: error.retry(),
            message: truncated(error.to_string(), Failure::MAX_MESSAGE),
        };
        let answer = self
            .link
            .deliver(&self.lease, "fail", |session| {
                let (protocol, failure) = (Arc::clone(&self.link.protocol), failure.clone());
                Box::pin(async move { protocol.fail(&session.token, failure).await })
            })
            .await;
        if let Err(error) = answer {
            tracing::debug!(%error, "the coordinator did not take the lease back");
        }
    }
}

/// Gives a cancelled run time to stop by itself, then drops it; completes once it is gone.
async fn stop(shared: &Shared, mut run: JoinHandle<Result<Execution>>) {
    let grace = Duration::from_millis(shared.settings.cancel_grace_millis);
    tokio::select! {
        _ = &mut run => return,
        () = shared.clock.sleep(grace) => {}
    }
    run.abort();
    // How it ended does not matter any more.
    let _ = run.await;
}

/// What coordinators are told: who is to blame, not how the executor is made.
fn reported_kind(kind: ErrorKind) -> ErrorKind {
    match kind {
        ErrorKind::Invalid
        | ErrorKind::Rejected
        | ErrorKind::Timeout
        | ErrorKind::Unverified
        | ErrorKind::Cancelled => kind,
        _ => ErrorKind::Execution,
    }
}

fn describe(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("the executor panicked: {}", panic_message(&*panic)),
        Err(error) => format!("the run was dropped: {error}"),
    }
}

/// What a panic says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

fn truncated(mut text: String, most: usize) -> String {
    let end = (0..=most.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_between_characters() {
        assert_eq!(truncated("short".to_owned(), 10), "short");
        assert_eq!(truncated("grüße".to_owned(), 3), "gr");
        assert_eq!(truncated("grüße".to_owned(), 4), "grü");
    }

    #[test]
    fn only_kinds_that_place_blame_are_reported() {
        assert_eq!(reported_kind(ErrorKind::Invalid), ErrorKind::Invalid);
        assert_eq!(reported_kind(ErrorKind::Rejected), ErrorKind::Rejected);
        for kind in [ErrorKind::Internal, ErrorKind::NotFound, ErrorKind::Chain] {
            assert_eq!(reported_kind(kind), ErrorKind::Execution);
        }
    }
}
