//! The load: how many tasks a second with so many in flight, and how long one takes alone. The peers' programs do the
//! same (`peers/load.mjs`, `peers/celery_peer.py`).

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::Result;

/// One requester that does one task after the other.
pub(crate) trait Lane: Send + 'static {
    /// Does a task, from submission to its checked result.
    fn run(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// How much is measured. Also given to the peers' programs, as JSON.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    /// Numbers of tasks in flight to try.
    pub(crate) widths: Vec<Width>,
    /// Repetitions, of which the median counts.
    pub(crate) rounds: usize,
    /// Length of each.
    pub(crate) seconds: f64,
    /// How many tasks are done one at a time; the first tenth warms up.
    pub(crate) single: usize,
}

/// So many tasks in flight, and so many that a peer's worker takes at once.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Width {
    pub(crate) in_flight: usize,
    pub(crate) at_worker: usize,
}

/// What was measured of one system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) rates: Vec<Rate>,
    /// One at a time, from submission to the result.
    pub(crate) p50_millis: f64,
    pub(crate) p99_millis: f64,
}

/// Tasks a second.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rate {
    pub(crate) in_flight: usize,
    pub(crate) at_worker: usize,
    pub(crate) per_second: f64,
}

impl Measured {
    /// The fastest of the rates.
    pub(crate) fn best(&self) -> Rate {
        let slowest = Rate {
            in_flight: 0,
            at_worker: 0,
            per_second: 0.0,
        };
        self.rates.iter().fold(slowest, |best, rate| {
            if rate.per_second > best.per_second {
                *rate
            } else {
                best
            }
        })
    }
}

/// What lanes did in some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) tasks: u64,
    pub(crate) per_second: f64,
}

/// Has all `lanes` do tasks for so many seconds.
pub(crate) async fn rush<L: Lane>(lanes: &mut Vec<L>, seconds: f64) -> Result<Done> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let running = std::mem::take(lanes).into_iter().map(|mut lane| {
        tokio::spawn(async move {
            let mut done = 0_u64;
            while Instant::now() < end {
                lane.run().await?;
                done += 1;
            }
            Result::Ok((lane, done))
        })
    });
    let mut total = 0;
    for ended in try_join_all(running).await? {
        let (lane, done) = ended?;
        lanes.push(lane);
        total += done;
    }
    Ok(Done {
        tasks: total,
        per_second: total as f64 / start.elapsed().as_secs_f64(),
    })
}

/// `plan`'s rounds: how many tasks were done in all, and the median rate.
pub(crate) async fn rounds<L: Lane>(lanes: &mut Vec<L>, plan: &Plan) -> Result<Done> {
    let (mut tasks, mut rates) = (0, Vec::new());
    for _ in 0..plan.rounds {
        let done = rush(lanes, plan.seconds).await?;
        tasks += done.tasks;
        rates.push(done.per_second);
    }
    Ok(Done {
        tasks,
        per_second: quantile(rates, 0.5),
    })
}

/// How long each task takes alone, in milliseconds, without those that warm up.
pub(crate) async fn one_at_a_time<L: Lane>(lane: &mut L, plan: &Plan) -> Result<Vec<f64>> {
    let mut millis = Vec::with_capacity(plan.single);
    for _ in 0..plan.single {
        let start = Instant::now();
        lane.run().await?;
        millis.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(millis.split_off(plan.single / 10))
}

/// The value below which a share of `values` lies; not a number when there are none.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (share * values.len().saturating_sub(1) as f64) as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}
