//! Time of one decision: choose a miner, charge it, note that it is busy, and note another that is free again.

use std::collections::VecDeque;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cuckoo_core::{B256, NodeId, Scheduler, StakeLottery, StakeOrder, TaskId, U256, cai};

/// A scheduler whose miners have Zipf stakes (the `i`-th 20 million CAI divided by `i`), and those that work, oldest
/// first.
struct Market {
    scheduler: Box<dyn Scheduler>,
    working: VecDeque<NodeId>,
    tasks: u64,
}

impl Market {
    /// `count` miners with one slot, of which `busy` work at any time.
    fn new(mut scheduler: Box<dyn Scheduler>, count: u64, busy: u64) -> Self {
        for number in 1..=count {
            scheduler.join(NodeId(number), cai(20_000_000) / U256::from(number));
            scheduler.set_free(NodeId(number), 1);
        }
        let mut market = Self {
            scheduler,
            working: VecDeque::new(),
            tasks: 0,
        };
        for _ in 0..busy {
            market.assign();
        }
        // Past the start, where all are equally far from their due.
        for _ in 0..2 * count {
            market.cycle();
        }
        market
    }

    fn assign(&mut self) {
        self.tasks += 1;
        let task = TaskId::from(B256::from(U256::from(self.tasks)));
        let chosen = self.scheduler.assign(task, &[]);
        self.working.extend(black_box(chosen));
    }

    fn cycle(&mut self) {
        self.assign();
        if let Some(done) = self.working.pop_front() {
            self.scheduler.set_free(done, 1);
        }
    }
}

fn decisions(criterion: &mut Criterion) {
    let seed = B256::repeat_byte(1);
    let mut group = criterion.benchmark_group("scheduler");
    group.throughput(Throughput::Elements(1));
    for count in [100, 1_000, 10_000, 100_000] {
        for (load, busy) in [
            ("all_free", 0),
            ("half_busy", count / 2),
            ("most_busy", count - count / 10),
        ] {
            let mut market = Market::new(Box::new(StakeOrder::new(seed)), count, busy);
            let name = BenchmarkId::new(format!("stake_order/{load}"), count);
            group.bench_function(name, |bencher| bencher.iter(|| market.cycle()));
        }
        let mut market = Market::new(Box::new(StakeLottery::new(seed)), count, 0);
        let name = BenchmarkId::new("stake_lottery/all_free", count);
        group.bench_function(name, |bencher| bencher.iter(|| market.cycle()));
    }
    group.finish();
}

criterion_group!(benches, decisions);
criterion_main!(benches);
