//! The self-test: small tasks of each model, before the first one that anybody pays for.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Error, ModelId, Result, Timestamp};
use tokio::task::AbortHandle;

use super::Pace;
use crate::miner::Shared;
use crate::{TaskContext, Trial, TrialStatus};

/// How long the trials of one model may take together.
const PATIENCE: Duration = Duration::from_secs(30);
/// A first trial that is done so soon is run again, since the first run of all finds caches and threads cold.
const QUICK: Duration = Duration::from_secs(1);

/// Times the models that are in memory; ends early when the miner stops.
pub(crate) async fn self_test(shared: &Shared) {
    for (model, pace) in shared.offers.paces() {
        if !pace.executor.warm().contains(model) {
            continue;
        }
        let measured = tokio::select! {
            () = shared.stopping.cancelled() => return,
            measured = pace.measure(model) => measured,
        };
        match measured {
            Ok(None) => {}
            Ok(Some((what, took))) => {
                tracing::info!("model `{model}`: {:.2} s {what}", took.as_secs_f64());
            }
            Err(error) => tracing::warn!(
                %error,
                "model `{model}` was not timed; its pace is learned from its work"
            ),
        }
    }
}

impl Pace {
    /// Runs the trials of a model, and learns from them if all come to an end. The largest and what it took; `None` when
    /// there are none.
    pub(super) async fn measure(&self, model: &ModelId) -> Result<Option<(String, Duration)>> {
        let deadline = self.clock.now().after(PATIENCE);
        let mut measured = Vec::new();
        for trial in self.executor.trials(model) {
            let mut took = self.time(model, &trial, deadline).await?;
            if measured.is_empty() && took < QUICK {
                took = self.time(model, &trial, deadline).await?;
            }
            measured.push((trial, took));
        }
        let timed = measured.iter().map(|(trial, took)| TrialStatus {
            what: trial.what.clone(),
            work: self.work(&trial.assignment(model.clone(), deadline)),
            seconds: took.as_secs_f64(),
        });
        self.tried(model, timed.collect());
        let largest = measured.pop();
        Ok(largest.map(|(trial, took)| (trial.what, took)))
    }

    /// How long a trial takes.
    async fn time(&self, model: &ModelId, trial: &Trial, deadline: Timestamp) -> Result<Duration> {
        let context = trial.context(deadline);
        let task = trial.assignment(model.clone(), deadline);
        let began = self.clock.now();
        let mut run = {
            let (executor, context) = (Arc::clone(&self.executor), context.clone());
            // A task of its own, so that a panic ends the run and nothing else.
            tokio::spawn(async move { executor.execute(task, context).await })
        };
        let _stop = Stop(context, run.abort_handle());
        tokio::select! {
            biased;
            () = self.clock.sleep(deadline.since(began)) => Err(Error::timeout(format!(
                "{} takes longer than {} s",
                trial.what,
                PATIENCE.as_secs()
            ))),
            ended = &mut run => {
                ended.map_err(|join| Error::execution("the trial broke off").with_source(join))??;
                Ok(self.clock.now().since(began))
            }
        }
    }
}

/// Ends a run that nobody waits for any more.
struct Stop(TaskContext, AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.cancel();
        self.1.abort();
    }
}
