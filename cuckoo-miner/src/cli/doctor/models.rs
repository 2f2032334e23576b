//! The models: can each be loaded, and does a first task come out?

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Capability, Clock as _, Result, SystemClock, format_cai};

use super::report::Report;
use crate::cli::config::{Config, Kind, ModelConfig};
use crate::cli::models::trial;
use crate::cli::{Host, run};
use crate::{Executor, TaskContext};

/// How long the first task may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Loads every model and runs one small task of it; what can be offered.
pub(super) async fn check(config: &Config, host: &Host, report: &mut Report) -> Vec<Capability> {
    if config.models.is_empty() && !host.brings_executors() {
        let remedy = "add a [[models]] section with name, and folder or hub, such as those of miner.example.toml";
        report.bad("models", "none is offered", remedy);
    }
    let mut offers = Vec::new();
    for model in &config.models {
        match try_out(model, config.settings.slots).await {
            Ok((offer, found)) => {
                report.good("model", found);
                offers.extend(offer);
            }
            Err(error) => {
                let remedy = format!(
                    "look closer with `cuckoo-miner models check {}`",
                    model.place()
                );
                report.bad("model", format!("`{}`: {error}", model.name), remedy);
            }
        }
    }
    offers.extend(own(config, host, report));
    offers
}

/// What the host's own executors offer. What a small task of theirs is, its author knows: the conformance kit runs some.
fn own(config: &Config, host: &Host, report: &mut Report) -> Vec<Capability> {
    let executors = match host.load(config) {
        Ok(executors) => executors,
        Err(error) => {
            let remedy = "correct the section [executor], or what it names";
            report.bad("executor", &error, remedy);
            return Vec::new();
        }
    };
    let capabilities = |executor: &Arc<dyn Executor>| executor.capabilities();
    let offers: Vec<_> = executors.iter().flat_map(capabilities).collect();
    for offer in &offers {
        let found = format!(
            "`{}`: loaded, at least {} CAI a task; not tried, which its author's tests do",
            offer.model,
            format_cai(offer.min_price)
        );
        report.good("executor", found);
    }
    offers
}

async fn try_out(model: &ModelConfig, slots: u32) -> Result<(Vec<Capability>, String)> {
    let began = SystemClock.now();
    let executor = run::load(model, slots)?;
    let loaded = SystemClock.now();
    let offers = executor.capabilities();
    for offer in &offers {
        executor
            .execute(
                trial(offer.model.clone(), least(model.kind).to_owned()),
                TaskContext::new(loaded.after(PATIENCE)),
            )
            .await?;
    }
    let done = SystemClock.now();
    let found = format!(
        "`{}`: loaded in {:.1} s, a small task in {:.2} s, at least {} CAI a task",
        model.name,
        loaded.since(began).as_secs_f64(),
        done.since(loaded).as_secs_f64(),
        format_cai(model.min_price)
    );
    Ok((offers, found))
}

/// The least that a model can be asked for.
fn least(kind: Kind) -> &'static str {
    match kind {
        Kind::Image => r#"{"prompt":"a first task","seed":1,"steps":1}"#,
        Kind::Text => r#"{"prompt":"A first task","seed":1,"max_tokens":1}"#,
        Kind::Embedding => r#"{"texts":["a first task"],"seed":1}"#,
    }
}
