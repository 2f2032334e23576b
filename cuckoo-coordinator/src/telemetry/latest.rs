//! The latest of what ended: for people, who want to see it.

use std::collections::VecDeque;

use cuckoo_core::{ErrorKind, Fault, ModelId, NodeId, TaskId, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::market::Entry;
use crate::store::StagedOutput;

/// How many pictures, and how many failures, are remembered.
const KEPT: usize = 12;
/// The largest picture that is shown, in bytes: a page loads a dozen.
const LARGEST_PICTURE: u64 = 2 << 20;
/// One step of the pace, in seconds.
pub(crate) const STEP_SECONDS: u64 = 5;
/// How many steps are remembered: ten minutes.
pub(crate) const STEPS: usize = 120;

/// What ended last.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    pub(crate) pictures: VecDeque<Picture>,
    pub(crate) failures: VecDeque<FailedTask>,
    pace: VecDeque<Step>,
}

/// A task that came back as a picture: its output is fetched like any other.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Picture {
    /// The task.
    task: TaskId,
    /// Who made it.
    miner: NodeId,
    /// The model.
    #[schema(value_type = String)]
    model: ModelId,
    /// When it was accepted.
    at: Timestamp,
}

/// A task that ended without an output.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct FailedTask {
    /// The task.
    task: TaskId,
    /// The model.
    #[schema(value_type = String)]
    model: ModelId,
    /// What went wrong.
    kind: ErrorKind,
    /// The same in words, a miner's among them.
    message: String,
    /// Who caused it.
    fault: Fault,
    /// When it ended.
    at: Timestamp,
}

/// How many tasks ended within a few seconds.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// Steps since the Unix epoch.
    number: u64,
    completed: u64,
    failed: u64,
}

impl Step {
    fn number(at: Timestamp) -> u64 {
        at.as_secs() / STEP_SECONDS
    }
}

impl Latest {
    /// Whether an output is one that people can look at in a page.
    pub(crate) fn shows(output: &StagedOutput) -> bool {
        output.media_type.starts_with("image/") && output.size <= LARGEST_PICTURE
    }

    pub(crate) fn completed(&mut self, entry: &Entry, miner: NodeId, now: Timestamp) {
        self.step(now).completed += 1;
        if entry.picture {
            let task = &entry.record.task;
            let picture = Picture {
                task: task.id,
                miner,
                model: task.model.clone(),
                at: now,
            };
            keep(&mut self.pictures, picture);
        }
    }

    pub(crate) fn failed(
        &mut self,
        entry: &Entry,
        kind: ErrorKind,
        message: &str,
        fault: Fault,
        now: Timestamp,
    ) {
        self.step(now).failed += 1;
        let task = &entry.record.task;
        let failure = FailedTask {
            task: task.id,
            model: task.model.clone(),
            kind,
            message: message.to_owned(),
            fault,
            at: now,
        };
        keep(&mut self.failures, failure);
    }

    /// How many tasks were completed and how many failed in each of the last [`STEPS`], the present one last.
    pub(crate) fn pace(&self, now: Timestamp) -> (Vec<u64>, Vec<u64>) {
        let (mut completed, mut failed) = (vec![0; STEPS], vec![0; STEPS]);
        for step in &self.pace {
            let ago = Step::number(now).saturating_sub(step.number);
            let at = usize::try_from(ago)
                .ok()
                .and_then(|ago| STEPS.checked_sub(ago + 1));
            if let Some(at) = at {
                completed[at] = step.completed;
                failed[at] = step.failed;
            }
        }
        (completed, failed)
    }

    fn step(&mut self, now: Timestamp) -> &mut Step {
        let number = Step::number(now);
        let last = self.pace.back().map(|step| step.number);
        // A clock that was set back adds to the latest step.
        if last.is_none_or(|last| last < number) {
            self.pace.push_back(Step {
                number,
                completed: 0,
                failed: 0,
            });
            if self.pace.len() > STEPS {
                self.pace.pop_front();
            }
        }
        let last = self.pace.len() - 1;
        &mut self.pace[last]
    }
}

fn keep<T>(list: &mut VecDeque<T>, latest: T) {
    list.push_front(latest);
    list.truncate(KEPT);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_moves_on_with_time() {
        let at = |seconds: u64| Timestamp::from_millis(1_800_000_000_000 + seconds * 1_000);
        let mut latest = Latest::default();
        latest.step(at(0)).completed += 2;
        latest.step(at(4)).failed += 1;
        latest.step(at(11)).completed += 1;
        // Set back: nothing is lost.
        latest.step(at(3)).completed += 1;
        let (completed, failed) = latest.pace(at(12));
        assert_eq!(completed[STEPS - 3..], [2, 0, 2]);
        assert_eq!(failed[STEPS - 3..], [1, 0, 0]);
        let (completed, _) = latest.pace(at(10 + 600));
        assert_eq!(completed.iter().sum::<u64>(), 0);
    }
}
