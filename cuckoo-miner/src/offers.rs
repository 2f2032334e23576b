//! What a miner offers: the capabilities of its executors, and who runs what.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cuckoo_core::{
    Assignment, Capability, Clock, Error, ModelId, PollRequest, Result, Timestamp, payload_hash,
};

use crate::Executor;
use crate::pace::{Pace, Run};

/// The longest name of kernels.
const MAX_KERNELS: usize = 64;

/// Executors, and what each model is run by.
#[derive(Debug)]
pub(crate) struct Offers {
    executors: Vec<Arc<dyn Executor>>,
    models: BTreeMap<ModelId, Offer>,
}

#[derive(Debug)]
struct Offer {
    capability: Capability,
    executor: Arc<dyn Executor>,
    pace: Arc<Pace>,
}

impl Offers {
    /// Reads what `executors` can run; their pace is told by `clock`.
    ///
    /// # Errors
    /// `Invalid` when they offer nothing, too much, or one model twice.
    pub(crate) fn new(executors: Vec<Arc<dyn Executor>>, clock: &Arc<dyn Clock>) -> Result<Self> {
        let mut offers = BTreeMap::new();
        for executor in &executors {
            let pace = Pace::new(Arc::clone(executor), Arc::clone(clock));
            for capability in executor.capabilities() {
                if capability.kernels.is_empty() || capability.kernels.len() > MAX_KERNELS {
                    return Err(Error::invalid(format!(
                        "model `{}` names kernels of {} bytes; 1 to {MAX_KERNELS} are allowed",
                        capability.model,
                        capability.kernels.len()
                    )));
                }
                let model = capability.model.clone();
                let offer = Offer {
                    capability,
                    executor: Arc::clone(executor),
                    pace: Arc::clone(&pace),
                };
                if offers.insert(model.clone(), offer).is_some() {
                    return Err(Error::invalid(format!(
                        "two executors offer the model `{model}`; give one of them another name"
                    )));
                }
            }
        }
        if offers.is_empty() {
            return Err(Error::invalid(
                "a miner needs an executor that offers at least one model",
            ));
        }
        if offers.len() > PollRequest::MAX_CAPABILITIES {
            return Err(Error::invalid(format!(
                "{} models are offered; at most {} are allowed",
                offers.len(),
                PollRequest::MAX_CAPABILITIES
            )));
        }
        Ok(Self {
            executors,
            models: offers,
        })
    }

    /// Everything offered, by model name.
    pub(crate) fn capabilities(&self) -> Vec<Capability> {
        let offers = self.models.values();
        offers.map(|offer| offer.capability.clone()).collect()
    }

    /// Whether `model` is offered.
    pub(crate) fn has(&self, model: &ModelId) -> bool {
        self.models.contains_key(model)
    }

    /// The models that tasks can run on at once.
    pub(crate) fn warm(&self) -> Vec<ModelId> {
        let mut warm = Vec::new();
        for (model, offer) in &self.models {
            if offer.executor.warm().contains(model) {
                warm.push(model.clone());
            }
        }
        warm
    }

    /// Tells every executor which models tasks wait for.
    pub(crate) fn wanted(&self, models: &[ModelId]) {
        for executor in &self.executors {
            // A hint must not end the heartbeats that bring it.
            if catch_unwind(AssertUnwindSafe(|| executor.wanted(models))).is_err() {
                tracing::error!("an executor panicked when it was told which models are wanted");
            }
        }
    }

    /// The pace of each model's executor.
    pub(crate) fn paces(&self) -> impl Iterator<Item = (&ModelId, &Arc<Pace>)> {
        self.models
            .iter()
            .map(|(model, offer)| (model, &offer.pace))
    }

    /// The executor for an assignment that arrived at `now` and must be done by `deadline`, both by the miner's clock, and
    /// its place in it. `percent` of the time that it should take must be left.
    ///
    /// # Errors
    /// `Unverified` when the input is not the one to be signed for, `Rejected` when it is not what was offered or would not
    /// be done in time, `Timeout` when it came too late.
    pub(crate) fn executor_for(
        &self,
        task: &Assignment,
        now: Timestamp,
        deadline: Timestamp,
        percent: u32,
    ) -> Result<(Arc<dyn Executor>, Run)> {
        let Some(Offer {
            capability: offer,
            executor,
            pace,
        }) = self.models.get(&task.model)
        else {
            return Err(Error::rejected(format!(
                "this miner does not offer the model `{}`",
                task.model
            )));
        };
        if task.model_hash != offer.model_hash {
            return Err(Error::rejected(format!(
                "this miner's files of `{}` have the hash {}, not {}",
                task.model, offer.model_hash, task.model_hash
            )));
        }
        if task.price < offer.min_price {
            return Err(Error::rejected(format!(
                "`{}` is offered from {} wei, not for {}",
                task.model, offer.min_price, task.price
            )));
        }
        if task.input.len() as u64 > offer.max_input_bytes {
            return Err(Error::rejected(format!(
                "the input has {} bytes; `{}` takes at most {}",
                task.input.len(),
                task.model,
                offer.max_input_bytes
            )));
        }
        if payload_hash(task.input.as_bytes()) != task.input_hash {
            return Err(Error::unverified(
                "the input does not have the hash that comes with it; nothing was run",
            ));
        }
        if deadline <= now {
            return Err(Error::timeout(
                "the deadline had passed when the task arrived",
            ));
        }
        let place = pace.begin(task, deadline, percent)?;
        Ok((Arc::clone(executor), place))
    }
}
