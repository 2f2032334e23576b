//! The numbers as Prometheus reads them.
//!
//! Every number is named here, once; `docs/watch.md` has the same list for readers, and a test compares the two.

use std::fmt;

use cuckoo_core::{Error, Result};
use prometheus_client::collector::Collector;
pub(crate) use prometheus_client::encoding::prometheus_text::CONTENT_TYPE as TEXT_FORMAT;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, EncodeMetric as _, NoLabelSet,
    prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Readings;
use super::histogram::Histogram;
use super::tally::ModelTally;

/// How often a route was answered with a status.
#[derive(Debug, Clone)]
pub(crate) struct RequestCount {
    pub(crate) route: String,
    pub(crate) method: &'static str,
    pub(crate) status: String,
    pub(crate) count: u64,
}

/// The text of a scrape.
///
/// # Errors
/// `Internal` when the text cannot be put together, which is not known to happen.
pub(crate) fn render(readings: Readings, requests: Vec<RequestCount>) -> Result<String> {
    let mut registry = Registry::with_prefix("cuckoo");
    registry.register_collector(Box::new(Scrape { readings, requests }));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)
        .map_err(|source| Error::internal("the metrics cannot be written").with_source(source))?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape {
    readings: Readings,
    requests: Vec<RequestCount>,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut numbers = Numbers(encoder);
        self.tasks(&mut numbers)?;
        self.work(&mut numbers)?;
        self.miners(&mut numbers)?;
        self.money(&mut numbers)?;
        self.chain(&mut numbers)?;
        self.store(&mut numbers)?;
        self.http(&mut numbers)
    }
}

impl Scrape {
    fn tasks(&self, to: &mut Numbers) -> fmt::Result {
        let tally = &self.readings.tally;
        let models = || tally.models.iter();
        to.counters(
            "tasks_accepted",
            "Tasks taken in",
            models().map(|(model, tally)| ([("model", model.as_str())], tally.accepted)),
        )?;
        let failed = tally.failed.iter();
        let failed = failed.map(|(fault, count)| (outcome("failed", fault), *count));
        let ended = [
            (outcome("completed", "nobody"), tally.completed),
            (outcome("cancelled", "nobody"), tally.cancelled),
        ];
        to.counters(
            "tasks_ended",
            "Tasks that ended, how, and whose fault it was",
            ended.into_iter().chain(failed),
        )?;
        let queued = self.readings.queued.iter();
        to.gauges(
            "tasks_queued",
            "Tasks that wait for a miner",
            queued.map(|(model, length)| ([("model", model.as_str())], *length)),
        )?;
        to.gauge(
            "tasks_open",
            "Tasks that have not ended",
            self.readings.open,
        )?;
        for (name, help, pick) in LATENCIES {
            to.histograms(
                name,
                help,
                models().map(|(model, tally)| ([("model", model.as_str())], pick(tally))),
            )?;
        }
        let verdicts = tally.verdicts.iter();
        to.counters(
            "verdicts",
            "What was decided about outputs",
            verdicts.map(|(verdict, count)| ([("verdict", *verdict)], *count)),
        )
    }

    fn work(&self, to: &mut Numbers) -> fmt::Result {
        let leases = self.readings.leases;
        let roles = [("work", leases.work), ("audit", leases.audit)];
        to.gauges(
            "leases_active",
            "Leases that miners work under",
            roles
                .into_iter()
                .map(|(role, count)| ([("role", role)], count)),
        )?;
        let models = self.readings.tally.models.iter();
        to.counters(
            "leases_lost",
            "Leases that ended without an output, and what they came to",
            models.flat_map(|(model, tally)| {
                let lost = tally.lost.iter();
                lost.map(move |(loss, count)| {
                    ([("model", model.as_str()), ("loss", *loss)], *count)
                })
            }),
        )?;
        let free = self.readings.free_slots;
        to.gauge("slots_free", "Tasks that miners could take right now", free)?;
        let presence = self.readings.presence.iter();
        to.gauges(
            "miners",
            "Miners that opened a session since the start",
            presence.map(|(state, count)| ([("state", *state)], *count)),
        )
    }

    fn miners(&self, to: &mut Numbers) -> fmt::Result {
        let label = |node: u64| [("miner", node.to_string())];
        let miners = || self.readings.miners.iter();
        to.counters(
            "miner_tasks",
            "Tasks given to a miner",
            miners().map(|miner| (label(miner.node.0), miner.assigned)),
        )?;
        to.gauges(
            "miner_task_ratio",
            "A miner's part of all tasks given out since the start",
            miners().map(|miner| (label(miner.node.0), miner.task_share)),
        )?;
        to.gauges(
            "miner_stake_ratio",
            "A miner's part of the stake of all that may work now",
            miners().map(|miner| (label(miner.node.0), miner.stake_share)),
        )?;
        to.gauges(
            "miner_promised_cai",
            "All that a miner was ever promised by vouchers",
            miners().map(|miner| (label(miner.node.0), miner.promised)),
        )
    }

    fn money(&self, to: &mut Numbers) -> fmt::Result {
        let readings = &self.readings;
        to.gauge(
            "promised_cai",
            "All that miners were ever promised by vouchers",
            readings.promised,
        )?;
        let known = |amount: Option<f64>| amount.map(|amount| (NO_LABELS, amount)).into_iter();
        to.gauges(
            "owed_cai",
            "What of that was not redeemed yet",
            known(readings.escrow_owed),
        )?;
        to.gauge(
            "escrow_reserved_cai",
            "The price of what miners work on now",
            readings.escrow_reserved,
        )?;
        to.gauges(
            "escrow_left_cai",
            "What more can be promised before the escrow must be filled up",
            known(readings.escrow_left),
        )
    }

    fn chain(&self, to: &mut Numbers) -> fmt::Result {
        let readings = &self.readings;
        to.gauge(
            "chain_block",
            "The block the weights were read at",
            readings.block,
        )?;
        to.gauge("chain_epoch", "The epoch of that block", readings.epoch)?;
        to.gauge(
            "chain_lag_seconds",
            "Time since the chain was read last",
            readings.chain_age.as_secs_f64(),
        )?;
        to.gauge(
            "chain_block_age_seconds",
            "Time since a reading showed a new block",
            readings.block_age.as_secs_f64(),
        )
    }

    fn store(&self, to: &mut Numbers) -> fmt::Result {
        let tally = &self.readings.tally;
        to.histogram(
            "store_commit_seconds",
            "What a commit took, tries again included",
            &tally.commit_seconds,
        )?;
        to.histogram(
            "store_commit_changes",
            "Changes in one commit",
            &tally.commit_changes,
        )?;
        to.counters(
            "store_commits_failed",
            "Commits that were given up",
            [(NO_LABELS, tally.commits_failed)].into_iter(),
        )
    }

    fn http(&self, to: &mut Numbers) -> fmt::Result {
        let labels = |request: &RequestCount| {
            [
                ("route", request.route.clone()),
                ("method", request.method.to_owned()),
                ("status", request.status.clone()),
            ]
        };
        let requests = self.requests.iter();
        to.counters(
            "http_requests",
            "Requests answered",
            requests.map(|request| (labels(request), request.count)),
        )
    }
}

/// A name, what it means, and where its histogram is.
type Latency = (&'static str, &'static str, fn(&ModelTally) -> &Histogram);

const LATENCIES: [Latency; 3] = [
    (
        "task_wait_seconds",
        "From a task's submission to its first lease",
        |tally| &tally.wait,
    ),
    (
        "task_execution_seconds",
        "From a lease to its receipt",
        |tally| &tally.execution,
    ),
    (
        "task_duration_seconds",
        "From a task's submission to its output",
        |tally| &tally.duration,
    ),
];

const NO_LABELS: [(&str, &str); 0] = [];

fn outcome<'a>(outcome: &'a str, fault: &'a str) -> [(&'static str, &'a str); 2] {
    [("outcome", outcome), ("fault", fault)]
}

/// Writes one family after the other.
struct Numbers<'a>(DescriptorEncoder<'a>);

impl Numbers<'_> {
    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.gauges(name, help, [(NO_LABELS, value)].into_iter())
    }

    fn histograms<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, &'h Histogram)>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, histogram) in values {
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(
                    histogram.sum(),
                    histogram.count(),
                    &histogram.buckets(),
                    None,
                )?;
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        self.histograms(name, help, [(NO_LABELS, histogram)].into_iter())
    }
}
