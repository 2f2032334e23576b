//! The status as Prometheus reads it.

mod machine;

use std::fmt;
use std::sync::atomic::AtomicU64;

use cuckoo_core::Wei;
use prometheus_client::encoding::prometheus_text;
pub(super) use prometheus_client::encoding::prometheus_text::CONTENT_TYPE as TEXT_FORMAT;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::{CoordinatorStatus, MinerStatus};

type Labels = Vec<(&'static str, String)>;

/// The text of a scrape.
pub(super) fn render(status: &MinerStatus) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("cuckoo_miner");
    let mut number = |name: &str, help: &str, values: Vec<(Labels, f64)>| {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        registry.register(name, help, family);
    };
    let count = |value: u64| vec![(Vec::new(), value as f64)];
    number(
        "slots",
        "Tasks it may run at once",
        count(status.slots.into()),
    );
    number("running", "Tasks it runs now", count(status.running.into()));
    number(
        "cancelled",
        "Runs stopped since the start, their result not wanted any more",
        count(status.cancelled),
    );
    for (key, help, values) in machine::families(status) {
        number(key, help, values);
    }
    type Part = fn(&CoordinatorStatus) -> Option<f64>;
    let parts: [(&str, &str, Part); 15] = [
        ("completed", "Outputs accepted since the start", |one| {
            Some(one.completed as f64)
        }),
        (
            "failed",
            "Runs failed, or not accepted, since the start",
            |one| Some(one.failed as f64),
        ),
        (
            "refused",
            "Tasks given back without fault since the start",
            |one| Some(one.refused as f64),
        ),
        ("connected", "Whether a session is open", |one| {
            Some(f64::from(one.connected))
        }),
        (
            "held",
            "Whether it owes too much to be asked for work, or was dropped",
            |one| Some(f64::from(one.held.is_some() || one.dropped)),
        ),
        ("stake_cai", "Its weight on chain", |one| {
            Some(cai(one.stake))
        }),
        ("share", "Its share of the slots' time, 0 to 1", |one| {
            Some(f64::from(one.share) / 1_000.0)
        }),
        ("latency_seconds", "How long small calls take", |one| {
            one.latency_millis.map(|millis| millis as f64 / 1_000.0)
        }),
        (
            "earned_cai",
            "Paid by vouchers for work since the start",
            |one| Some(cai(one.earned)),
        ),
        ("owed_cai", "Promised by its latest voucher in all", |one| {
            Some(cai(one.owed))
        }),
        ("redeemed_cai", "Redeemed of that", |one| {
            Some(cai(one.redeemed))
        }),
        ("escrow_cai", "In its escrow, for all miners", |one| {
            one.escrow.map(cai)
        }),
        (
            "uncovered_cai",
            "Promised beyond what was redeemed and is in escrow",
            |one| Some(cai(one.uncovered)),
        ),
        (
            "unpaid_cai",
            "Accepted without a voucher, less what is forgiven",
            |one| Some(cai(one.unpaid)),
        ),
        ("in_work_cai", "The price of its tasks in work", |one| {
            Some(cai(one.in_work))
        }),
    ];
    let name = |(place, one): (usize, &CoordinatorStatus)| {
        // One that never answered has no node yet.
        let node = one
            .node
            .map_or_else(|| format!("unknown-{place}"), |node| node.0.to_string());
        vec![("coordinator", node)]
    };
    for (key, help, part) in parts {
        let values = status.coordinators.iter().enumerate();
        let values = values.filter_map(|one| Some((name(one), part(one.1)?)));
        number(&format!("coordinator_{key}"), help, values.collect());
    }
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

fn cai(amount: Wei) -> f64 {
    f64::from(amount) / 1e18
}

#[cfg(test)]
mod tests;
