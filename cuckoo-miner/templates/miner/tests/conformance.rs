//! Is the executor one that coordinators can rely on? Runs it in a real miner, against a coordinator in this process.

use std::sync::Arc;

use cuckoo_miner::conformance::{Conformance, Samples};
use executor::{Charts, Settings};
use serde_json::{from_value, json};

#[test]
fn the_executor_conforms() -> cuckoo_core::Result<()> {
    let settings: Settings = from_value(json!({ "model": "charts" })).expect("the settings");
    let samples = Samples::new("charts".parse()?)
        .valid(json!({ "bars": [20, 60, 35, 90] }))
        .valid(json!({ "bars": [], "seed": 99 }))
        .invalid(json!({ "bars": [101] }))
        .invalid(json!({ "bars": [20], "colour": "red" }))
        // Something that takes a second or more is what cancellation is tried on.
        .long(json!({ "bars": vec![50; 10_000] }));
    let report = Conformance::new(Arc::new(Charts::new(settings)))
        .samples(samples)
        .run_blocking();
    println!("{report}");
    assert!(report.passed(), "see the report above");
    Ok(())
}
