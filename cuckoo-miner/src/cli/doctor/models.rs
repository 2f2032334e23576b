//! The models: can each be loaded, and does a first task come out?

use std::time::Duration;

use cuckoo_core::{Capability, Clock as _, Result, SystemClock, format_cai};

use super::report::Report;
use crate::Executor;
use crate::cli::config::Config;
use crate::cli::{Host, run};

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
        let began = SystemClock.now();
        let tried = match run::load(model, config.settings.slots) {
            Ok(executor) => {
                let loaded = SystemClock.now().since(began);
                let found = try_out(&*executor).await;
                found.map(|found| (executor.capabilities(), loaded, found))
            }
            Err(error) => Err(error),
        };
        match tried {
            Ok((offer, loaded, found)) => {
                let found = format!(
                    "`{}`: loaded in {:.1} s, {found}, at least {} CAI a task",
                    model.name,
                    loaded.as_secs_f64(),
                    format_cai(model.min_price)
                );
                report.good("model", found);
                offers.extend(offer);
            }
            Err(error) => {
                let remedy = format!(
                    "look closer with `cuckoo-miner models check {}`",
                    model.place()
                );
                let said = error.to_string();
                // Errors of its section begin with its name.
                let named = format!("model `{}`: ", model.name);
                let said = said.strip_prefix(&named).unwrap_or(&said);
                report.bad("model", format!("`{}`: {said}", model.name), remedy);
            }
        }
    }
    offers.extend(own(config, host, report).await);
    offers
}

/// What the host's own executors offer. Those that know no small task of theirs the conformance kit tries.
async fn own(config: &Config, host: &Host, report: &mut Report) -> Vec<Capability> {
    let executors = match host.load(config) {
        Ok(executors) => executors,
        Err(error) => {
            let remedy = "correct the section [executor], or what it names";
            report.bad("executor", &error, remedy);
            return Vec::new();
        }
    };
    let mut offers = Vec::new();
    for executor in executors {
        let found = try_out(&*executor).await;
        for offer in executor.capabilities() {
            let model = &offer.model;
            match &found {
                Ok(found) => {
                    let price = format_cai(offer.min_price);
                    let found = format!("`{model}`: loaded, {found}, at least {price} CAI a task");
                    report.good("executor", found);
                    offers.push(offer);
                }
                Err(error) => {
                    let remedy = "run its author's tests";
                    report.bad("executor", format!("`{model}`: {error}"), remedy);
                }
            }
        }
    }
    offers
}

/// Runs the smallest trial of each model; how that went.
async fn try_out(executor: &dyn Executor) -> Result<String> {
    let began = SystemClock.now();
    let deadline = began.after(PATIENCE);
    let mut tried = false;
    for offer in executor.capabilities() {
        if let Some(trial) = executor.trials(&offer.model).first() {
            let (task, context) = (
                trial.assignment(offer.model, deadline),
                trial.context(deadline),
            );
            executor.execute(task, context).await?;
            tried = true;
        }
    }
    let took = SystemClock.now().since(began).as_secs_f64();
    Ok(match tried {
        true => format!("a small task in {took:.2} s"),
        false => "not tried, which its author's tests do".to_owned(),
    })
}
