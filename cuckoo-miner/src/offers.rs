//! What a miner offers: the capabilities of its executors, and who runs what.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cuckoo_core::{
    Assignment, Capability, Clock, Error, ModelId, PollRequest, Result, Timestamp, payload_hash,
};

use crate::pace::{Pace, Run};
use crate::{Executor, ModelStatus};

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

    /// Each model, by name.
    pub(crate) fn status(&self) -> Vec<ModelStatus> {
        let offers = self.models.iter();
        let offers = offers.map(|(model, offer)| ModelStatus {
            model: model.clone(),
            warm: offer.executor.warm().contains(model),
            memory: offer.executor.memory(),
            pace: offer.pace.measured(model),
        });
        offers.collect()
    }

    /// Bytes that executors with a warm model hold.
    pub(crate) fn weights(&self) -> u64 {
        let mut counted: Vec<&Arc<Pace>> = Vec::new();
        let mut bytes = 0_u64;
        for offer in self.models.values() {
            // Of an executor there is one pace, whatever it offers.
            if counted.iter().any(|pace| Arc::ptr_eq(pace, &offer.pace)) {
                continue;
            }
            counted.push(&offer.pace);
            if !offer.executor.warm().is_empty() {
                bytes = bytes.saturating_add(offer.executor.memory());
            }
        }
        bytes
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use cuckoo_core::{B256, ManualClock};

    use super::*;
    use crate::{Execution, TaskContext};

    /// Models that share weights of this many bytes, in memory or not.
    #[derive(Debug)]
    struct Shelf {
        models: &'static [&'static str],
        memory: u64,
        warm: &'static [&'static str],
    }

    fn shelf(
        models: &'static [&'static str],
        memory: u64,
        warm: &'static [&'static str],
    ) -> Arc<dyn Executor> {
        Arc::new(Shelf {
            models,
            memory,
            warm,
        })
    }

    fn ids(names: &[&str]) -> Vec<ModelId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[async_trait]
    impl Executor for Shelf {
        fn capabilities(&self) -> Vec<Capability> {
            let models = ids(self.models).into_iter();
            models
                .map(|model| Capability::new(model, B256::repeat_byte(7), "hand-1"))
                .collect()
        }

        async fn execute(&self, _: Assignment, _: TaskContext) -> Result<Execution> {
            Err(Error::execution("only offered"))
        }

        fn memory(&self) -> u64 {
            self.memory
        }

        fn warm(&self) -> Vec<ModelId> {
            ids(self.warm)
        }
    }

    #[test]
    fn weights_that_models_share_count_once_and_cold_ones_not() {
        let executors = vec![
            shelf(&["b", "d"], 100, &["b", "d"]),
            shelf(&["a"], 20, &["a"]),
            shelf(&["c"], 3, &[]),
        ];
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(1)));
        let offers = Offers::new(executors, &clock).unwrap();
        assert_eq!(offers.weights(), 120);
        let status = offers.status();
        let told: Vec<_> = status
            .iter()
            .map(|one| (one.model.as_str(), one.warm, one.memory))
            .collect();
        assert_eq!(
            told,
            [
                ("a", true, 20),
                ("b", true, 100),
                ("c", false, 3),
                ("d", true, 100)
            ]
        );
        assert!(status.iter().all(|one| one.pace.is_none()));
    }
}
