//! What the demo remembers of the market's events: shares, pay, audits and the life of each task.

use std::collections::{BTreeMap, HashMap, HashSet};

use cuckoo_coordinator::{Event, MarketEvent, Verdict};
use cuckoo_core::{NodeId, SignedReceipt, SignedVoucher, TaskId, Timestamp, Wei, format_cai};

/// One miner's line in the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) stake: Wei,
    pub(crate) stake_share: f64,
    /// What stake entitled it to while it was in the market.
    pub(crate) fair_share: f64,
    pub(crate) task_share: f64,
    pub(crate) tasks: u64,
    /// Audits it did for others.
    pub(crate) audits: u64,
    /// How often its own work was audited.
    pub(crate) audited: u64,
    /// Redeemed on chain, in wei.
    pub(crate) paid: Wei,
    /// Claimed by its owner, in wei.
    pub(crate) rewards: Wei,
    pub(crate) suspended: bool,
}

/// One task from submission to pay.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) task: String,
    pub(crate) prompt: String,
    pub(crate) steps: Vec<Step>,
}

/// One step of a task's life.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Since submission.
    pub(crate) millis: u128,
    pub(crate) title: String,
    pub(crate) detail: String,
    pub(crate) signature: Option<Signed>,
}

/// A signature made in a step, and over what.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) what: &'static str,
    pub(crate) bytes: String,
}

/// A miner as it entered the market.
#[derive(Debug, Clone)]
pub(crate) struct Entrant {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) stake: Wei,
}

#[derive(Debug, Default)]
struct Tally {
    tasks: u64,
    fair: f64,
    audits: u64,
    audited: u64,
}

/// Folds events, in order, into everything that table and report show.
#[derive(Debug)]
pub(crate) struct Ledger {
    entrants: Vec<Entrant>,
    tallies: HashMap<NodeId, Tally>,
    suspended: BTreeMap<NodeId, u64>,
    audited: HashSet<TaskId>,
    holders: HashMap<TaskId, NodeId>,
    lives: HashMap<TaskId, Vec<(Timestamp, Event)>>,
}

impl Ledger {
    pub(crate) fn new(entrants: Vec<Entrant>) -> Self {
        Self {
            tallies: entrants
                .iter()
                .map(|entrant| (entrant.node, Tally::default()))
                .collect(),
            entrants,
            suspended: BTreeMap::new(),
            audited: HashSet::new(),
            holders: HashMap::new(),
            lives: HashMap::new(),
        }
    }

    /// Takes the next event.
    pub(crate) fn record(&mut self, event: MarketEvent) {
        match (&event.event, event.task) {
            (Event::Assigned { miner, .. }, Some(task)) => {
                self.entitle();
                self.holders.insert(task, *miner);
                if let Some(tally) = self.tallies.get_mut(miner) {
                    tally.tasks += 1;
                }
            }
            (Event::AuditDrawn { auditor, .. }, Some(task)) => {
                if self.audited.insert(task)
                    && let Some(tally) = self
                        .holders
                        .get(&task)
                        .and_then(|m| self.tallies.get_mut(m))
                {
                    tally.audited += 1;
                }
                if let Some(tally) = self.tallies.get_mut(auditor) {
                    tally.audits += 1;
                }
            }
            (Event::Suspended { miner, .. }, _) => {
                let done = self.tallies.get(miner).map_or(0, |tally| tally.tasks);
                self.suspended.entry(*miner).or_insert(done);
            }
            _ => {}
        }
        if let Some(task) = event.task
            && !matches!(event.event, Event::Progress { .. })
        {
            self.lives
                .entry(task)
                .or_default()
                .push((event.at, event.event));
        }
    }

    /// Credits every miner in the market with its stake's share of one task.
    fn entitle(&mut self) {
        let present = || {
            self.entrants
                .iter()
                .filter(|e| !self.suspended.contains_key(&e.node))
        };
        let total: f64 = present().map(|entrant| as_f64(entrant.stake)).sum();
        for entrant in present() {
            if let Some(tally) = self.tallies.get_mut(&entrant.node) {
                tally.fair += as_f64(entrant.stake) / total;
            }
        }
    }

    /// How many tasks each miner has been given, in the order they entered.
    pub(crate) fn counts(&self) -> Vec<u64> {
        self.entrants
            .iter()
            .map(|entrant| self.tallies[&entrant.node].tasks)
            .collect()
    }

    /// The tasks a miner had been given when it was suspended.
    pub(crate) fn suspended_after(&self, miner: NodeId) -> Option<u64> {
        self.suspended.get(&miner).copied()
    }

    /// The public name of a node.
    pub(crate) fn name(&self, node: NodeId) -> String {
        let entrant = self.entrants.iter().find(|entrant| entrant.node == node);
        entrant.map_or_else(|| node.to_string(), |entrant| entrant.name.clone())
    }

    /// Whether a task's output was repeated by another miner.
    pub(crate) fn was_audited(&self, task: TaskId) -> bool {
        self.audited.contains(&task)
    }

    /// One line a miner, with what was redeemed for it and what its owner claimed.
    pub(crate) fn rows(
        &self,
        paid: &HashMap<NodeId, Wei>,
        rewards: &HashMap<NodeId, Wei>,
    ) -> Vec<Row> {
        let stake: f64 = self
            .entrants
            .iter()
            .map(|entrant| as_f64(entrant.stake))
            .sum();
        let tasks = self
            .tallies
            .values()
            .map(|tally| tally.tasks)
            .sum::<u64>()
            .max(1) as f64;
        let row = |entrant: &Entrant| {
            let tally = &self.tallies[&entrant.node];
            Row {
                name: entrant.name.clone(),
                stake: entrant.stake,
                stake_share: as_f64(entrant.stake) / stake,
                fair_share: tally.fair / tasks,
                task_share: tally.tasks as f64 / tasks,
                tasks: tally.tasks,
                audits: tally.audits,
                audited: tally.audited,
                paid: paid.get(&entrant.node).copied().unwrap_or_default(),
                rewards: rewards.get(&entrant.node).copied().unwrap_or_default(),
                suspended: self.suspended.contains_key(&entrant.node),
            }
        };
        self.entrants.iter().map(row).collect()
    }

    /// The steps of one task.
    pub(crate) fn life(&self, task: TaskId, prompt: &str) -> Option<Life> {
        let events = self.lives.get(&task)?;
        let start = events.first()?.0;
        let steps = events
            .iter()
            .map(|(at, event)| Step {
                millis: at.since(start).as_millis(),
                ..self.step(event)
            })
            .collect();
        Some(Life {
            task: task.to_string(),
            prompt: prompt.to_owned(),
            steps,
        })
    }

    fn step(&self, event: &Event) -> Step {
        let step = |title: String, detail: String, signature| Step {
            millis: 0,
            title,
            detail,
            signature,
        };
        match event {
            Event::Submitted => step(
                "submitted".into(),
                "checked, given a seed, stored".into(),
                None,
            ),
            Event::Assigned { miner, lease } => step(
                format!("assigned to {}", self.name(*miner)),
                format!("lease {lease}"),
                None,
            ),
            Event::Received { miner, receipt } => step(
                format!("{} returned its output", self.name(*miner)),
                format!("output hash {}", receipt.value.output_hash),
                Some(receipt_signature(receipt)),
            ),
            Event::AuditDrawn { auditor, lease } => step(
                format!(
                    "audit: {} was drawn by stake to repeat it",
                    self.name(*auditor)
                ),
                format!("lease {lease}"),
                None,
            ),
            Event::AuditMatched { auditor } => step(
                format!("{} got the same bytes", self.name(*auditor)),
                String::new(),
                None,
            ),
            Event::AuditMismatched { auditor } => step(
                format!("{} got other bytes", self.name(*auditor)),
                String::new(),
                None,
            ),
            Event::Verdict { verdict } => step("verdict".into(), self.reason(verdict), None),
            Event::Paid {
                miner,
                amount,
                voucher,
            } => step(
                format!("{} earned {} CAI", self.name(*miner), format_cai(*amount)),
                format!(
                    "voucher over {} CAI in all",
                    format_cai(voucher.value.cumulative)
                ),
                Some(voucher_signature(voucher)),
            ),
            Event::Suspended { miner, .. } => step(
                format!("{} was suspended", self.name(*miner)),
                String::new(),
                None,
            ),
            Event::Requeued { miner, reason } => step(
                format!("{} gave it back", self.name(*miner)),
                reason.clone(),
                None,
            ),
            Event::Completed { .. } => {
                step("delivered to the requester".into(), String::new(), None)
            }
            Event::Failed { message, .. } => step("failed".into(), message.clone(), None),
            Event::Cancelled => step("cancelled".into(), String::new(), None),
            other => step(format!("{other:?}"), String::new(), None),
        }
    }
}

impl Ledger {
    fn reason(&self, verdict: &Verdict) -> String {
        match verdict {
            Verdict::NotDrawn { .. } => "accepted on its receipt; no audit was drawn".to_owned(),
            Verdict::NoAuditor { .. } => {
                "accepted unaudited: nobody was free to audit in time".to_owned()
            }
            Verdict::Honest { auditors, .. } => {
                let names: Vec<_> = auditors.iter().map(|auditor| self.name(*auditor)).collect();
                format!("honest: {} got the same output", names.join(" and "))
            }
            Verdict::Convicted {
                convicted,
                accepted,
            } => {
                format!(
                    "{} stands alone against {}",
                    self.name(*convicted),
                    self.name(*accepted)
                )
            }
            Verdict::AllDiffer { .. } => "all outputs differ: others try".to_owned(),
            Verdict::Undecided { .. } => "no third miner decided in time".to_owned(),
            other => format!("{other:?}"),
        }
    }
}

fn receipt_signature(receipt: &SignedReceipt) -> Signed {
    Signed {
        what: "the miner's signature over the receipt",
        bytes: receipt.signature.to_string(),
    }
}

fn voucher_signature(voucher: &SignedVoucher) -> Signed {
    Signed {
        what: "the coordinator's signature over the voucher",
        bytes: voucher.signature.to_string(),
    }
}

/// For shares, where 53 bits are plenty.
fn as_f64(amount: Wei) -> f64 {
    f64::from(amount)
}
