//! Our rows over HTTP: a coordinator in its own process, four miners and the requesters in this one.

use std::sync::{Arc, Mutex, PoisonError};

use crate::Result;
use crate::host::{Host, HostOptions};
use crate::load::{Measured, Plan, Rate, one_at_a_time, quantile, rounds, rush};
use crate::miner::{Arrivals, Miners};
use crate::process::Usage;
use crate::requester::{Requester, Stopwatch, Style};

/// Slots of each miner.
const SLOTS: usize = 64;

/// What was measured of a coordinator of ours.
#[derive(Debug)]
pub(crate) struct OverHttp {
    pub(crate) measured: Measured,
    /// From before the submission is sent until the miner has read its assignment, one at a time.
    pub(crate) start_p50_millis: f64,
    /// Processor time for each task at the best rate, in microseconds.
    pub(crate) coordinator_micros: f64,
    pub(crate) generator_micros: f64,
}

/// Measures whole lives of tasks.
pub(crate) async fn measure(options: &HostOptions, style: Style, plan: &Plan) -> Result<OverHttp> {
    let host = Host::start(options)?;
    let watch = Arc::new(Stopwatch::new());
    let arrivals = Arc::new(Arrivals {
        watch: Arc::clone(&watch),
        millis: Mutex::default(),
    });
    let mut miners = Miners::over_http(
        &host.miners,
        host.address,
        SLOTS,
        Some(Arc::clone(&arrivals)),
    )
    .await?;
    let mut rates = Vec::new();
    let (mut best, mut coordinator_micros, mut generator_micros) = (0.0, 0.0, 0.0);
    for width in &plan.widths {
        let mut lanes = Vec::new();
        for _ in 0..width.in_flight {
            lanes.push(Requester::connect(host.address, style).await?);
        }
        rush(&mut lanes, plan.seconds / 2.0).await?;
        let before = (host.usage()?, Usage::own()?);
        let done = rounds(&mut lanes, plan).await?;
        let after = (host.usage()?, Usage::own()?);
        miners.check()?;
        rates.push(Rate {
            in_flight: width.in_flight,
            at_worker: SLOTS * host.miners.len(),
            per_second: done.per_second,
        });
        if done.per_second > best {
            let micros = |before: Usage, after: Usage| {
                (after.cpu_seconds - before.cpu_seconds) * 1e6 / done.tasks as f64
            };
            best = done.per_second;
            coordinator_micros = micros(before.0, after.0);
            generator_micros = micros(before.1, after.1);
        }
    }
    let mut lane = Requester::connect(host.address, style)
        .await?
        .with_stopwatch(watch);
    arrivals
        .millis
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
    let millis = one_at_a_time(&mut lane, plan).await?;
    let mut starts = std::mem::take(
        &mut *arrivals
            .millis
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    let starts = starts.split_off(starts.len().min(plan.single / 10));
    Ok(OverHttp {
        measured: Measured {
            rates,
            p50_millis: quantile(millis.clone(), 0.5),
            p99_millis: quantile(millis, 0.99),
        },
        start_p50_millis: quantile(starts, 0.5),
        coordinator_micros,
        generator_micros,
    })
}
