//! The leases one coordinator gave that are in work here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cuckoo_core::{
    Error, LeaseId, LeaseProgress, LeaseStatus, ModelId, Preview, Result, TaskId, Timestamp,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::TaskContext;

/// The most bytes of previews in one heartbeat: as base64 they and 256 leases stay below the 256 KiB that coordinators take.
const PREVIEW_ROOM: usize = 8 * Preview::MAX_BYTES;

/// Why a run's result is not wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The requester cancelled the task.
    Cancelled,
    /// The coordinator ended the lease.
    Ended,
    /// The coordinator was silent until the lease ran out.
    Silent,
}

/// What a lease is for.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) task: TaskId,
    pub(crate) model: ModelId,
    pub(crate) started_at: Timestamp,
}

/// One lease in work.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) id: LeaseId,
    pub(crate) job: Job,
    /// The run's line to here.
    pub(crate) context: TaskContext,
    interval: Duration,
    over: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    expires_at: Timestamp,
    beat_at: Timestamp,
    handing_in: bool,
    over: Option<Over>,
}

impl Lease {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it ends unless a heartbeat extends it, by our clock.
    pub(crate) fn expires_at(&self) -> Timestamp {
        self.state().expires_at
    }

    /// From here on only the answer to the completion counts: a heartbeat that says "ended" may cross a completion that
    /// was accepted.
    pub(crate) fn hand_in(&self) {
        self.state().handing_in = true;
        self.context.progress(1000);
    }

    /// Completes when the result is not wanted any more.
    pub(crate) async fn over(&self) -> Over {
        self.over.cancelled().await;
        self.state().over.unwrap_or(Over::Ended)
    }

    /// Does what the coordinator answered about this lease; `local` moves its times to our clock.
    pub(crate) fn apply(&self, status: LeaseStatus, local: impl Fn(Timestamp) -> Timestamp) {
        match status {
            LeaseStatus::Active { expires_at } => self.state().expires_at = local(expires_at),
            LeaseStatus::Cancelled => self.end(Over::Cancelled),
            LeaseStatus::Ended => self.end(Over::Ended),
        }
    }

    fn end(&self, why: Over) {
        let mut state = self.state();
        if !state.handing_in && state.over.is_none() {
            state.over = Some(why);
            self.over.cancel();
        }
    }
}

/// All leases of one coordinator that are in work.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    open: Mutex<HashMap<LeaseId, Arc<Lease>>>,
    changed: Notify,
}

impl Leases {
    fn open(&self) -> MutexGuard<'_, HashMap<LeaseId, Arc<Lease>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a lease in work, unless it is already.
    pub(crate) fn start(
        self: &Arc<Self>,
        id: LeaseId,
        job: Job,
        context: TaskContext,
        expires_at: Timestamp,
        beat_at: Timestamp,
        interval: Duration,
    ) -> Option<LeaseGuard> {
        let lease = Arc::new(Lease {
            id,
            job,
            context,
            interval,
            over: CancellationToken::new(),
            state: Mutex::new(State {
                expires_at,
                beat_at,
                handing_in: false,
                over: None,
            }),
        });
        let mut open = self.open();
        if open.contains_key(&id) {
            return None;
        }
        open.insert(id, Arc::clone(&lease));
        drop(open);
        self.changed.notify_one();
        Some(LeaseGuard {
            leases: Arc::clone(self),
            lease,
        })
    }

    /// Completes when a lease was added since it last completed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// When the next heartbeat is due; nothing while no lease is in work.
    pub(crate) fn next_beat(&self) -> Option<Timestamp> {
        self.open()
            .values()
            .map(|lease| lease.state().beat_at)
            .min()
    }

    /// Every lease in work; their next heartbeats become due one interval from now.
    pub(crate) fn beat(&self, now: Timestamp) -> Vec<Arc<Lease>> {
        let open = self.open();
        for lease in open.values() {
            lease.state().beat_at = now.after(lease.interval);
        }
        open.values().cloned().collect()
    }

    /// Every lease in work.
    pub(crate) fn all(&self) -> Vec<Arc<Lease>> {
        self.open().values().cloned().collect()
    }

    /// Ends every lease that ran out at `now` without a word from the coordinator.
    pub(crate) fn expire(&self, now: Timestamp) {
        for lease in self.open().values() {
            if lease.expires_at() < now {
                lease.end(Over::Silent);
            }
        }
    }
}

/// What a heartbeat says about `leases`, with as many previews as it may carry; the others are left for the next one.
pub(crate) fn progress_of(leases: &[Arc<Lease>]) -> Vec<LeaseProgress> {
    let mut room = PREVIEW_ROOM;
    let progress = |lease: &Arc<Lease>| {
        let preview = lease.context.take_preview(room);
        room -= preview.as_ref().map_or(0, |preview| preview.data.len());
        LeaseProgress {
            lease: lease.id,
            progress: lease.context.progress_made(),
            preview,
        }
    };
    leases.iter().map(progress).collect()
}

/// Does to `leases` what the coordinator answered about each, in the same order; `local` moves its times to our clock.
///
/// # Errors
/// `Invalid` when the answer is not about as many leases.
pub(crate) fn apply(
    leases: &[Arc<Lease>],
    answer: &[LeaseStatus],
    local: impl Fn(Timestamp) -> Timestamp,
) -> Result<()> {
    if leases.len() != answer.len() {
        return Err(Error::invalid(format!(
            "the coordinator answered a heartbeat of {} leases about {}",
            leases.len(),
            answer.len()
        )));
    }
    for (lease, status) in leases.iter().zip(answer) {
        lease.apply(*status, &local);
    }
    Ok(())
}

/// A lease in work until this is dropped.
#[derive(Debug)]
pub(crate) struct LeaseGuard {
    leases: Arc<Leases>,
    lease: Arc<Lease>,
}

impl LeaseGuard {
    /// The lease, for what may outlast its work a little.
    pub(crate) fn share(&self) -> Arc<Lease> {
        Arc::clone(&self.lease)
    }
}

impl std::ops::Deref for LeaseGuard {
    type Target = Lease;

    fn deref(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.leases.open().remove(&self.lease.id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use cuckoo_core::{B256, Output};
    use futures::FutureExt as _;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn start(leases: &Arc<Leases>, number: u8) -> Option<LeaseGuard> {
        let id = LeaseId::from(B256::repeat_byte(number));
        leases.start(
            id,
            Job {
                task: TaskId::from(B256::repeat_byte(number)),
                model: "echo".parse().unwrap(),
                started_at: at(0),
            },
            TaskContext::new(at(60_000)),
            at(10_000),
            at(1_000),
            SECOND,
        )
    }

    #[test]
    fn a_lease_is_in_work_once_and_until_its_guard_is_dropped() {
        let leases = Arc::new(Leases::default());
        assert_eq!(leases.next_beat(), None);
        let guard = start(&leases, 1).unwrap();
        assert!(start(&leases, 1).is_none());
        assert_eq!(leases.next_beat(), Some(at(1_000)));
        assert_eq!(leases.beat(at(1_500)).len(), 1);
        assert_eq!(leases.next_beat(), Some(at(2_500)));
        drop(guard);
        assert_eq!(leases.next_beat(), None);
    }

    #[test]
    fn a_heartbeat_carries_eight_full_previews_and_the_next_one_the_rest() {
        let leases = Arc::new(Leases::default());
        let guards: Vec<_> = (1..=10)
            .map(|number| start(&leases, number).unwrap())
            .collect();
        for guard in &guards {
            let picture = vec![7; Preview::MAX_BYTES];
            guard.context.preview(Output::new("image/png", picture));
        }
        let mut sent = HashSet::new();
        for expected in [8, 2, 0] {
            let beat = progress_of(&leases.all());
            assert_eq!(beat.len(), 10);
            let shown = beat.iter().filter(|lease| lease.preview.is_some());
            let shown: Vec<_> = shown.map(|lease| lease.lease).collect();
            assert_eq!(shown.len(), expected);
            for lease in shown {
                assert!(sent.insert(lease), "sent twice");
            }
        }
    }

    #[test]
    fn answers_extend_or_end_leases() {
        let leases = Arc::new(Leases::default());
        let guard = start(&leases, 1).unwrap();
        let beat = leases.beat(at(1_000));
        let active = LeaseStatus::Active {
            expires_at: at(20_000),
        };
        apply(&beat, &[active], |time| time).unwrap();
        leases.expire(at(15_000));
        assert!(guard.over().now_or_never().is_none());
        assert!(apply(&beat, &[active, active], |time| time).is_err());
        apply(&beat, &[LeaseStatus::Cancelled], |time| time).unwrap();
        assert_eq!(guard.over().now_or_never(), Some(Over::Cancelled));
        apply(&beat, &[LeaseStatus::Ended], |time| time).unwrap();
        assert_eq!(guard.over().now_or_never(), Some(Over::Cancelled));
    }

    #[test]
    fn silence_ends_a_lease_unless_it_is_being_handed_in() {
        let leases = Arc::new(Leases::default());
        let (silent, handing_in) = (start(&leases, 1).unwrap(), start(&leases, 2).unwrap());
        handing_in.hand_in();
        leases.expire(at(10_001));
        assert_eq!(silent.over().now_or_never(), Some(Over::Silent));
        assert!(handing_in.over().now_or_never().is_none());
        assert_eq!(handing_in.context.progress_made(), 1000);
    }
}
