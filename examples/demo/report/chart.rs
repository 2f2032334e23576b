//! Stake share, fair share and task share of each miner, as one bar chart in SVG.

use maud::{Markup, html};

use crate::ledger::Row;

const LEFT: f64 = 120.0;
const WIDTH: f64 = 720.0;
const BAR: f64 = 13.0;
const GROUP: f64 = 58.0;

/// Grouped horizontal bars, one group a miner.
pub(super) fn shares(rows: &[Row]) -> Markup {
    let largest = rows
        .iter()
        .flat_map(|row| [row.stake_share, row.fair_share, row.task_share])
        .fold(0.05, f64::max);
    // Whole tenths, so that the grid has round labels.
    let top = (largest * 10.0).ceil() / 10.0;
    let scale = (WIDTH - LEFT - 60.0) / top;
    let height = GROUP * rows.len() as f64 + 30.0;
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img"
            aria-label="Stake share, fair share and task share of each miner" {
            @for tick in 0..=(top * 10.0).round() as u32 {
                @let x = LEFT + f64::from(tick) / 10.0 * scale;
                line.grid x1=(x) x2=(x) y1="0" y2=(height - 24.0) {}
                text.tick x=(x) y=(height - 8.0) text-anchor="middle" { (tick * 10) " %" }
            }
            @for (index, row) in rows.iter().enumerate() {
                @let y = GROUP * index as f64 + 6.0;
                text.name x=(LEFT - 10.0) y=(y + BAR * 1.5 + 5.0) text-anchor="end" { (row.name) }
                (bar("stake", row.stake_share, y, scale))
                (bar("fair", row.fair_share, y + BAR + 1.0, scale))
                (bar("task", row.task_share, y + 2.0 * (BAR + 1.0), scale))
            }
        }
        ul.legend {
            li.stake { "stake share" } li.fair { "fair share" } li.task { "task share" }
        }
    }
}

fn bar(class: &str, share: f64, y: f64, scale: f64) -> Markup {
    html! {
        rect class=(class) x=(LEFT) y=(y) width=(share * scale) height=(BAR) rx="2" {}
        text.value x=(LEFT + share * scale + 5.0) y=(y + BAR - 3.0) { (format!("{:.1} %", share * 100.0)) }
    }
}
