//! The coordinators: do they answer, are they of this market, and do they want what this miner offers?

use std::time::Duration;

use cuckoo_core::{
    Capability, Clock as _, CoordinatorInfo, NodeKind, PROTOCOL_VERSION, Result, Snapshot,
    SystemClock, TaskProtocol as _, format_cai,
};

use super::report::Report;
use crate::HttpCoordinator;
use crate::cli::config::Config;
use crate::cli::run;

/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Times it is asked, of which the fastest counts.
const TRIES: usize = 3;
/// A clock that is off by more than this is worth knowing of.
const SKEW_MILLIS: u64 = 5_000;

pub(super) async fn check(
    config: &Config,
    chain: Option<&Snapshot>,
    offers: &[Capability],
    report: &mut Report,
) {
    if config.coordinators.is_empty() {
        let remedy =
            "set coordinators = [\"https://...\"]; their owners publish the addresses on chain";
        report.bad("coordinator", "there is none to serve", remedy);
    }
    for url in &config.coordinators {
        let info = match ask(url).await {
            Ok((info, millis)) => {
                report.good(
                    "coordinator",
                    format!("{url}: {} answers in {millis} ms", info.node),
                );
                info
            }
            Err(error) => {
                let remedy = "check the address in `coordinators`, and that it runs; the miner keeps trying by itself";
                report.bad("coordinator", format!("{url}: {error}"), remedy);
                continue;
            }
        };
        if run::is_open(url) {
            let remedy = "whoever is in between can read tasks and tokens: use its https address";
            report.note("", "not encrypted", remedy);
        }
        market(config, &info, chain, report);
        demand(&info, offers, report);
    }
}

/// Who is there, and how long that took at best, in milliseconds.
async fn ask(url: &str) -> Result<(CoordinatorInfo, u128)> {
    let coordinator = HttpCoordinator::new(url)?.with_timeout(PATIENCE);
    let mut best = None;
    for _ in 0..TRIES {
        let began = SystemClock.now();
        let info = coordinator.info().await?;
        let millis = SystemClock.now().since(began).as_millis();
        if best.as_ref().is_none_or(|(_, least)| millis < *least) {
            best = Some((info, millis));
        }
    }
    best.ok_or_else(|| cuckoo_core::Error::internal("nothing was asked"))
}

/// Whether it works for the same contracts, and the chain vouches for it.
fn market(config: &Config, info: &CoordinatorInfo, chain: Option<&Snapshot>, report: &mut Report) {
    if info.protocol != PROTOCOL_VERSION {
        let found = format!(
            "speaks protocol {}, this miner {PROTOCOL_VERSION}",
            info.protocol
        );
        report.bad("", found, "update the older one");
    }
    if config
        .chain
        .contracts()
        .is_ok_and(|ours| ours.market != info.deployment)
    {
        let found = format!("belongs to another market: {:?}", info.deployment);
        report.bad("", found, "correct [chain], or leave this coordinator out");
        return;
    }
    if let Some(snapshot) = chain {
        match snapshot.by_operator(info.operator) {
            Some(node) if node.kind == NodeKind::Coordinator && node.active => {}
            _ => {
                let found = format!(
                    "its operator {} is no active coordinator on chain",
                    info.operator
                );
                report.bad(
                    "",
                    found,
                    "nothing is sent to it until its owner has registered it",
                );
            }
        }
    }
    let (ours, theirs) = (SystemClock.now().as_millis(), info.time.as_millis());
    if ours.abs_diff(theirs) > SKEW_MILLIS {
        let found = format!(
            "its clock differs from ours by {} ms",
            ours.abs_diff(theirs)
        );
        report.note(
            "",
            found,
            "deadlines are moved by that much; set this machine's clock by NTP all the same",
        );
    }
}

/// Whether it takes tasks for a model that is offered, at a price that is asked.
fn demand(info: &CoordinatorInfo, offers: &[Capability], report: &mut Report) {
    if offers.is_empty() {
        return;
    }
    let mut wanted = 0;
    for offer in offers {
        let Some(taken) = info.models.iter().find(|taken| taken.model == offer.model) else {
            continue;
        };
        if taken
            .model_hash
            .is_some_and(|hash| hash != offer.model_hash)
        {
            let found = format!("takes other files for `{}` than yours", offer.model);
            report.note(
                "",
                found,
                "get the files with the hash that it publishes at /miner/v1/info",
            );
        } else if taken.price < offer.min_price {
            let found = format!(
                "pays {} CAI for `{}`, less than min_price",
                format_cai(taken.price),
                offer.model
            );
            report.note("", found, "lower min_price, or serve others");
        } else {
            wanted += 1;
            report.good(
                "",
                format!(
                    "pays {} CAI for a task of `{}`",
                    format_cai(taken.price),
                    offer.model
                ),
            );
        }
    }
    if wanted == 0 {
        let models: Vec<_> = info
            .models
            .iter()
            .map(|taken| taken.model.as_str())
            .collect();
        let found = format!(
            "wants nothing that this miner offers; it takes {}",
            models.join(", ")
        );
        report.note(
            "",
            found,
            "offer one of those, or serve another coordinator",
        );
    }
}
