//! Prints how near each scheduler comes to the fair share, as the tables of `docs/benchmarks.md`.
//!
//! `cargo run --release -p cuckoo-core --example fairness`

mod comparators;
mod market;

use cuckoo_core::{
    B256, Scheduler, StakeLottery, StakeOrder, U256, Wei, feasible_shares, total_variation,
};

use comparators::Stride;
use market::{Market, node, pareto_stakes, task};

fn schedulers() -> [(&'static str, Box<dyn Scheduler>); 3] {
    [
        ("lottery", Box::new(StakeLottery::new(B256::repeat_byte(7)))),
        ("stride", Box::<Stride>::default()),
        (
            "`StakeOrder`",
            Box::new(StakeOrder::new(B256::repeat_byte(7))),
        ),
    ]
}

fn main() {
    println!("All miners always free; Pareto stakes; 1,000 tasks per miner.\n");
    println!("| miners | scheduler | worst deviation, tasks | χ²/df | worst gap ÷ fair interval |");
    println!("|---|---|---|---|---|");
    for count in [10, 100, 1_000] {
        for (name, mut scheduler) in schedulers() {
            let fairness = always_free(
                scheduler.as_mut(),
                &pareto_stakes(count, 1),
                1_000 * count as u64,
            );
            println!(
                "| {count} | {name} | {:.2} | {:.5} | {:.2} |",
                fairness.worst_deviation, fairness.chi_square, fairness.worst_gap
            );
        }
    }

    let stakes = pareto_stakes(100, 1);
    let top = stake_shares(&stakes)[0];
    println!(
        "\n100 miners of equal speed with one slot each; the greatest stake is {:.0} %; 100,000 tasks at random times.",
        100.0 * top
    );
    println!("Distance (total variation) of the shares of tasks:\n");
    println!("| load | scheduler | from the share of stake | from the feasible share |");
    println!("|---|---|---|---|");
    for load in [10, 60, 90] {
        let market = Market {
            stakes: stakes.clone(),
            slots: 1,
            task_time: 1_000_000,
            interval: 1_000_000 / load,
            poisson: true,
            tasks: 100_000,
            seed: 1,
        };
        for (name, mut scheduler) in schedulers() {
            let outcome = market.run(scheduler.as_mut());
            let shares = outcome.shares();
            let feasible = feasible_shares(&stakes, &outcome.capacities, market.tasks as f64);
            println!(
                "| {:.0} % | {name} | {:.3} | {:.3} |",
                100.0 * market.load(),
                total_variation(&shares, &stake_shares(&stakes)),
                total_variation(&shares, &feasible),
            );
        }
    }
}

/// How far from fair a run was.
struct Fairness {
    /// Greatest distance of a miner's tasks from its exact due at any moment, in tasks.
    worst_deviation: f64,
    /// Pearson's statistic of the final counts per degree of freedom: about 1 for a fair lottery.
    chi_square: f64,
    /// Longest wait of a miner between two tasks, in units of the interval its stake entitles it to.
    worst_gap: f64,
}

fn always_free(scheduler: &mut dyn Scheduler, stakes: &[Wei], tasks: u64) -> Fairness {
    for (index, &stake) in stakes.iter().enumerate() {
        scheduler.join(node(index), stake);
        scheduler.set_free(node(index), 1);
    }
    let due = stake_shares(stakes);
    let mut given = vec![0_u64; stakes.len()];
    let mut last = vec![0_u64; stakes.len()];
    let (mut worst_deviation, mut worst_gap) = (0.0_f64, 0.0_f64);
    for number in 1..=tasks {
        // Everybody is free, so somebody is chosen.
        let Some(chosen) = scheduler.assign(task(number), &[]) else {
            break;
        };
        scheduler.set_free(chosen, 1);
        let miner = chosen.0 as usize - 1;
        // A deviation is greatest just before and just after a task is given.
        worst_deviation = worst_deviation
            .max((number as f64 * due[miner] - given[miner] as f64).abs())
            .max((number as f64 * due[miner] - given[miner] as f64 - 1.0).abs());
        if given[miner] > 0 {
            worst_gap = worst_gap.max((number - last[miner]) as f64 * due[miner]);
        }
        given[miner] += 1;
        last[miner] = number;
    }
    let mut chi_square = 0.0;
    for (&count, share) in given.iter().zip(&due) {
        let expected = share * tasks as f64;
        worst_deviation = worst_deviation.max((count as f64 - expected).abs());
        chi_square += (count as f64 - expected).powi(2) / expected;
    }
    Fairness {
        worst_deviation,
        chi_square: chi_square / (stakes.len() - 1) as f64,
        worst_gap,
    }
}

fn stake_shares(stakes: &[Wei]) -> Vec<f64> {
    let total: U256 = stakes.iter().sum();
    stakes
        .iter()
        .map(|&stake| f64::from(stake) / f64::from(total))
        .collect()
}
