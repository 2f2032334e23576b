//! The custom miner's executor is one that coordinators can rely on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[allow(dead_code, reason = "its market is not opened here")]
#[path = "../custom_miner.rs"]
mod custom_miner;

use std::sync::Arc;

use cuckoo_core::ModelId;
use cuckoo_miner::conformance::{Conformance, Samples};
use serde_json::json;

use custom_miner::Charts;

#[test]
fn the_custom_miners_executor_conforms() {
    let name: ModelId = "charts".parse().unwrap();
    let samples = Samples::new(name.clone())
        .valid(json!({ "bars": [20, 60, 35, 90] }))
        .valid(json!({ "bars": [] }))
        .invalid(json!({ "bars": "high" }))
        .invalid(json!({}));
    let report = Conformance::new(Arc::new(Charts(name)))
        .samples(samples)
        .run_blocking();
    println!("{report}");
    assert!(report.passed(), "{report}");
    // It is short: it reads what it knows, and no more.
    let fields = report.check("fields").unwrap().findings().join("\n");
    assert!(fields.contains("ignored"), "{report}");
}
