//! Progress bars while the market runs, and the table after it.

use std::time::Duration;

use cuckoo_core::{Wei, format_cai};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::ledger::{Entrant, Row};

/// One bar for all tasks and one for each miner's count.
pub(crate) struct Bars {
    tasks: ProgressBar,
    miners: Vec<ProgressBar>,
}

impl Bars {
    pub(crate) fn new(tasks: u64, entrants: &[Entrant]) -> Self {
        let all = MultiProgress::new();
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸ ")
        };
        let total = all.add(ProgressBar::new(tasks).with_style(style(
            "{msg:>10} {bar:40.green} {pos:>3}/{len} tasks  {elapsed_precise}",
        )));
        total.set_message("market");
        total.enable_steady_tick(Duration::from_millis(200));
        let miners = entrants
            .iter()
            .map(|entrant| {
                let bar = all.add(
                    ProgressBar::new(tasks)
                        .with_style(style("{msg:>10} {bar:40.cyan} {pos:>3} tasks")),
                );
                bar.set_message(entrant.name.clone());
                bar
            })
            .collect();
        Self {
            tasks: total,
            miners,
        }
    }

    pub(crate) fn show(&self, done: u64, counts: &[u64]) {
        self.tasks.set_position(done);
        for (bar, count) in self.miners.iter().zip(counts) {
            bar.set_position(*count);
        }
    }

    pub(crate) fn finish(self) {
        for bar in self.miners.iter().chain([&self.tasks]) {
            bar.finish();
        }
    }
}

/// The table of miners.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "\n{:<10} {:>10} {:>7} {:>7} {:>7} {:>6} {:>7} {:>7} {:>9} {:>8}\n",
        "miner",
        "stake CAI",
        "stake",
        "fair",
        "got",
        "tasks",
        "audited",
        "audits",
        "paid CAI",
        "rewards"
    );
    for row in rows {
        text += &format!(
            "{:<10} {:>10} {:>6.1}% {:>6.1}% {:>6.1}% {:>6} {:>7} {:>7} {:>9} {:>8.3}{}\n",
            row.name,
            format_cai(row.stake),
            row.stake_share * 100.0,
            row.fair_share * 100.0,
            row.task_share * 100.0,
            row.tasks,
            row.audited,
            row.audits,
            format_cai(row.paid),
            in_cai(row.rewards),
            if row.suspended { "  suspended" } else { "" }
        );
    }
    text
}

/// For columns, where three places are plenty.
fn in_cai(amount: Wei) -> f64 {
    f64::from(amount) / 1e18
}
