//! How long tasks take on this machine: timed at the start, corrected by every run, and asked before a task is taken.
//!
//! The time of a task is what every task of its model costs and a part in proportion to its [`work`](Executor::work): a
//! straight line through what runs took, of which a later one weighs more.

mod line;
mod trial;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cuckoo_core::{Assignment, Clock, Error, ModelId, Result, Retry, Timestamp};

use crate::{Executor, PaceStatus, TrialStatus};
use line::Line;
pub(crate) use trial::self_test;

/// What is left of an earlier run's weight with each later one.
const KEPT: f64 = 0.8;
/// A run counts for at most so many times what was expected, so that a clock that jumped is forgotten soon.
const MOST: f64 = 4.0;
/// Shorter than anybody's deadline, in seconds: below, times are noise.
const SHORT: f64 = 0.05;
/// No task is larger, in any unit; what seems to be is of unknown size.
const LARGEST: f64 = 1e15;
/// After so long without a run as large as those that are refused, one task is taken to see whether the machine is faster by now.
const RETRY: Duration = Duration::from_secs(600);

/// The pace of one executor.
#[derive(Debug)]
pub(crate) struct Pace {
    executor: Arc<dyn Executor>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    speeds: HashMap<ModelId, Speed>,
    line: Line,
}

impl Pace {
    pub(crate) fn new(executor: Arc<dyn Executor>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            executor,
            clock,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The size of a task, where its executor says one.
    fn work(&self, task: &Assignment) -> Option<f64> {
        // What panics here does so again when it is run, and is reported.
        let work = catch_unwind(AssertUnwindSafe(|| self.executor.work(task)));
        let work = work.ok().flatten();
        work.filter(|work| (0.0..=LARGEST).contains(work))
    }

    /// Lets a task in, unless `percent` of the time that it should take is more than is left to its deadline.
    ///
    /// # Errors
    /// `Rejected` with both times: for good where a task of its size takes too long even on a loaded model with nothing before
    /// it. One of unknown size may be a smaller one, so it may come back.
    pub(crate) fn begin(
        self: &Arc<Self>,
        task: &Assignment,
        deadline: Timestamp,
        percent: u32,
    ) -> Result<Run> {
        let work = self.work(task);
        let cold = !self.executor.warm().contains(&task.model);
        let places = self.executor.concurrency().max(1);
        let now = self.clock.now();
        let mut state = self.state();
        let State { speeds, line } = &mut *state;
        let speed = speeds.entry(task.model.clone()).or_default();
        let expected = speed.estimate(work, cold);
        if let Some(seconds) = expected {
            let before = line.wait(places, now);
            let needed = (before + seconds) * f64::from(percent) / 100.0;
            let left = deadline.since(now).as_secs_f64();
            if needed > left && speed.refuse(work, now) {
                let before = match before > 0.0 {
                    true => format!(", after {before:.1} s for what is before it"),
                    false => String::new(),
                };
                let at_best = speed.of_size(work).unwrap_or(0.0);
                let retry = match at_best * f64::from(percent) / 100.0 > left {
                    true => Retry::Never,
                    false => Retry::Later,
                };
                let size = match work {
                    Some(_) => "a task of this size",
                    None => "a task of usual size (that of this one is unknown)",
                };
                return Err(Error::rejected(format!(
                    "{size} of `{}` takes this miner about {seconds:.1} s{before}, and its deadline is in \
                     {left:.1} s; assign it to another miner, or give it more time",
                    task.model
                ))
                .with_retry(retry));
            }
        }
        let place = line.enter(expected.unwrap_or(0.0), places, now);
        drop(state);
        Ok(Run {
            pace: Arc::clone(self),
            model: task.model.clone(),
            work,
            cold,
            place,
            places,
        })
    }

    /// These trials of a model were timed.
    fn tried(&self, model: &ModelId, trials: Vec<TrialStatus>) {
        let mut state = self.state();
        let speed = state.speeds.entry(model.clone()).or_default();
        for trial in &trials {
            if let Some(work) = trial.work {
                speed.sized.learn(work, trial.seconds);
            }
        }
        speed.trials = trials;
    }

    /// What the trials of a model took; `None` before they were timed, and where there are none.
    pub(crate) fn measured(&self, model: &ModelId) -> Option<PaceStatus> {
        let trials = self.state().speeds.get(model)?.trials.clone();
        let largest = trials.last()?;
        let work_per_second = largest.work.filter(|_| largest.seconds > 0.0);
        Some(PaceStatus {
            work_per_second: work_per_second.map(|work| work / largest.seconds),
            trials,
        })
    }
}

/// A task that was let in; it is in its executor's line until this is dropped.
#[derive(Debug)]
pub(crate) struct Run {
    pace: Arc<Pace>,
    model: ModelId,
    work: Option<f64>,
    cold: bool,
    place: u64,
    places: usize,
}

impl Run {
    /// It gave an output.
    pub(crate) fn done(&self) {
        self.learn(false);
    }

    /// It was not done by its deadline, so it takes longer than it had.
    pub(crate) fn late(&self) {
        self.learn(true);
    }

    fn learn(&self, at_least: bool) {
        let now = self.pace.clock.now();
        let mut state = self.pace.state();
        let State { speeds, line } = &mut *state;
        let (Some(began), Some(speed)) = (line.began(self.place), speeds.get_mut(&self.model))
        else {
            return;
        };
        let seconds = now.since(began).as_secs_f64();
        let expected = speed.estimate(self.work, self.cold).unwrap_or(0.0);
        if !at_least || seconds > expected {
            speed.learn(self.work, self.cold, seconds);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let now = self.pace.clock.now();
        self.pace.state().line.leave(self.place, self.places, now);
    }
}

/// What is known of one model's tasks.
#[derive(Debug, Default)]
struct Speed {
    /// Runs of a known size.
    sized: Fit,
    /// All runs.
    usual: Fit,
    /// What runs took longer because their model was loaded first.
    loading: Fit,
    /// The refusals since the last run that was as large.
    refused: Option<Refused>,
    /// The trials at the start.
    trials: Vec<TrialStatus>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    since: Timestamp,
    /// The size of the smallest, where it is known.
    work: Option<f64>,
}

impl Speed {
    /// Seconds that tasks of this size take on a loaded model; `None` where the size is unknown, or no run's was known.
    fn of_size(&self, work: Option<f64>) -> Option<f64> {
        work.and_then(|work| self.sized.at(work))
    }

    /// Seconds that a task should take; `None` before the first run.
    fn estimate(&self, work: Option<f64>, cold: bool) -> Option<f64> {
        let seconds = self.of_size(work).or_else(|| self.usual.mean())?;
        let loading = self.loading.mean().filter(|_| cold);
        Some(seconds + loading.unwrap_or(0.0))
    }

    fn learn(&mut self, work: Option<f64>, cold: bool, seconds: f64) {
        // Small runs say little of large ones, which would be refused for good while small ones come.
        let tells = |refused: &Refused| match (work, refused.work) {
            (Some(work), Some(least)) => work >= least,
            _ => true,
        };
        self.refused = self.refused.filter(|refused| !tells(refused));
        let seconds = match self.estimate(work, cold) {
            Some(expected) => seconds.min(expected.max(SHORT) * MOST),
            None => seconds,
        };
        if cold {
            // The rest is known only once there was a run without loading.
            if let Some(warm) = self.estimate(work, false) {
                self.loading.learn(0.0, (seconds - warm).max(0.0));
            }
            return;
        }
        self.usual.learn(0.0, seconds);
        if let Some(work) = work {
            self.sized.learn(work, seconds);
        }
    }

    /// Whether a task that takes too long is refused: not if there was nothing but refusals of its size for long.
    fn refuse(&mut self, work: Option<f64>, now: Timestamp) -> bool {
        let refused = self.refused.get_or_insert(Refused { since: now, work });
        refused.work = match (refused.work, work) {
            (Some(least), Some(work)) => Some(least.min(work)),
            _ => None,
        };
        let refuse = now.since(refused.since) < RETRY;
        if !refuse {
            refused.since = now;
        }
        refuse
    }
}

/// A straight line of seconds over sizes, by weighted least squares; each run weighs [`KEPT`] of the next one.
#[derive(Debug, Clone, Copy, Default)]
struct Fit {
    weight: f64,
    x: f64,
    xx: f64,
    y: f64,
    xy: f64,
}

impl Fit {
    fn learn(&mut self, x: f64, y: f64) {
        for (sum, more) in [
            (&mut self.weight, 1.0),
            (&mut self.x, x),
            (&mut self.xx, x * x),
            (&mut self.y, y),
            (&mut self.xy, x * y),
        ] {
            *sum = *sum * KEPT + more;
        }
    }

    /// The mean of all; `None` before the first.
    fn mean(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.y / self.weight)
    }

    /// What a size takes, between the mean of all and that in proportion to its size: few runs of much the same size say
    /// nothing of others.
    fn at(&self, x: f64) -> Option<f64> {
        let (mean, middle) = (self.mean()?, self.x / self.weight);
        if middle <= 0.0 {
            return Some(mean);
        }
        let most = mean / middle;
        let variance = self.xx / self.weight - middle * middle;
        let slope = match variance > middle * middle * 1e-6 {
            true => (self.xy / self.weight - middle * mean) / variance,
            false => most,
        };
        Some(mean + slope.clamp(0.0, most) * (x - middle))
    }
}

#[cfg(test)]
mod tests;
