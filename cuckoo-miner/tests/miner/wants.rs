//! What coordinators want loaded while the slots are taken.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cuckoo_core::{Assignment, Capability, Error, ModelId, Output, Result};
use cuckoo_miner::{Execution, Executor, TaskContext, WarmPool};
use tokio::sync::Semaphore;

use crate::echo::Echo;
use crate::peer::{MODEL_HASH, Market};
use crate::{builder, eventually};

/// Takes memory, and runs once the test adds a permit.
#[derive(Debug)]
struct Weights {
    model: ModelId,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl Executor for Weights {
    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability::new(self.model.clone(), MODEL_HASH, "weights-1")]
    }

    fn memory(&self) -> u64 {
        4
    }

    async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
        self.gate.acquire().await.unwrap().forget();
        Ok(Execution::new(Output::new("application/json", task.input)))
    }
}

/// Notes what it is told.
#[derive(Debug, Default)]
struct Scout(Mutex<Vec<Vec<ModelId>>>);

#[async_trait]
impl Executor for Scout {
    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability::new(model("scout"), MODEL_HASH, "scout-1")]
    }

    fn wanted(&self, models: &[ModelId]) {
        self.0.lock().unwrap().push(models.to_vec());
        assert!(models.is_empty(), "what it makes of that is its own affair");
    }

    async fn execute(&self, _: Assignment, _: TaskContext) -> Result<Execution> {
        Err(Error::rejected("it only listens"))
    }
}

fn model(name: &str) -> ModelId {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_wanted_model_is_loaded_while_the_only_slot_works_on_another() {
    let market = Market::new().await;
    let (peer, gate) = (market.peer(), Arc::new(Semaphore::new(0)));
    let scout = Arc::new(Scout::default());
    let pool = WarmPool::new(8);
    let mut builder = builder(&market, &peer, &Echo::new()).executor(scout.clone());
    let mut executors = Vec::new();
    for name in ["busy", "idle", "cold"] {
        let gate = Arc::clone(&gate);
        let load = move || -> Result<Arc<dyn Executor>> {
            Ok(Arc::new(Weights {
                model: name.parse()?,
                gate: Arc::clone(&gate),
            }))
        };
        let executor = pool.add(load).await.unwrap();
        builder = builder.executor(Arc::clone(&executor));
        executors.push(executor);
    }
    let _miner = builder.start().await.unwrap();
    peer.set(|state| state.wanted = vec![model("unheard-of"), model("cold"), model("busy")]);
    let mut task = peer.task("a long one");
    task.model = model("busy");
    peer.assign(task);

    eventually("the cold one to be loaded", || {
        !executors[2].warm().is_empty()
    })
    .await;
    assert!(executors[1].warm().is_empty(), "what was idle made room");
    assert!(!executors[0].warm().is_empty(), "what is in work stayed");
    assert_eq!(pool.used(), 8);
    assert!(peer.state().completions.is_empty());
    let told = scout.0.lock().unwrap()[0].clone();
    assert_eq!(told, [model("cold"), model("busy")], "what is offered");

    gate.add_permits(1);
    peer.until("the output", |state| state.completions.len() == 1)
        .await;
    let warm = ["busy", "cold", "echo", "scout"].map(model);
    peer.until("a poll that says so", |state| {
        state.polls.last().is_some_and(|poll| poll.warm == warm)
    })
    .await;
    eventually("nothing to be wanted", || {
        scout
            .0
            .lock()
            .is_ok_and(|told| told.last().is_some_and(Vec::is_empty))
    })
    .await;
}
