//! The status for people: a page, and a line.

use std::fmt::Write as _;

use cuckoo_core::cli::span_text;
use cuckoo_core::{Wei, format_cai};

use crate::{CoordinatorStatus, MinerStatus, RunStatus};

const BAR: u16 = 20;

/// One line, for logs.
pub(super) fn line(status: &MinerStatus) -> String {
    let connected = status
        .coordinators
        .iter()
        .filter(|one| one.connected)
        .count();
    let held = status
        .coordinators
        .iter()
        .filter(|one| one.held_since.is_some() || one.dropped)
        .count();
    format!(
        "slots {}/{} done {} failed {} refused {} cancelled {} coordinators {}/{} held {} earned {} CAI ({} CAI/h)",
        status.running,
        status.slots,
        status.completed,
        status.failed,
        status.refused,
        status.cancelled,
        connected,
        status.coordinators.len(),
        held,
        short(status.earned),
        short(status.hourly)
    )
}

/// A whole page.
pub(super) fn page(status: &MinerStatus) -> String {
    let mut page = String::new();
    // Writing to a String cannot fail.
    let _ = write_page(&mut page, status);
    page
}

fn write_page(page: &mut String, status: &MinerStatus) -> std::fmt::Result {
    let up = status.at.since(status.started_at).as_secs();
    writeln!(page, "miner {}, up {}", status.operator, span_text(up))?;
    writeln!(
        page,
        "{} done, {} failed, {} refused, {} cancelled; earned {} CAI, {} CAI an hour",
        status.completed,
        status.failed,
        status.refused,
        status.cancelled,
        short(status.earned),
        short(status.hourly)
    )?;
    writeln!(page, "\nslots: {} of {} busy", status.running, status.slots)?;
    for run in &status.runs {
        write_run(page, run, status)?;
    }
    writeln!(
        page,
        "\n{:<12} {:>12} {:>7} {:>8} {:>7} {:>12} {:>12} {:>12} {:>12}",
        "coordinator", "stake", "share", "latency", "done", "CAI/h", "owed", "redeemed", "unpaid"
    )?;
    for coordinator in &status.coordinators {
        write_coordinator(page, coordinator)?;
    }
    Ok(())
}

fn write_run(page: &mut String, run: &RunStatus, status: &MinerStatus) -> std::fmt::Result {
    let ran = status.at.since(run.started_at);
    let progress = run.progress.min(1_000);
    let full = usize::from(progress * BAR / 1_000);
    let left = if progress >= 1_000 {
        "handing in".to_owned()
    } else if progress > 0 {
        let rest = ran.as_secs_f64() * f64::from(1_000 - progress) / f64::from(progress);
        format!("about {} left", span_text(rest.ceil() as u64))
    } else {
        let rest = run.deadline.since(status.at).as_secs();
        format!("{} to the deadline", span_text(rest))
    };
    writeln!(
        page,
        "  {:<20} for {:<10} [{:<width$}] {:>3} %  {}",
        plain(run.model.as_str()),
        run.coordinator.to_string(),
        "#".repeat(full),
        progress / 10,
        left,
        width = usize::from(BAR)
    )
}

fn write_coordinator(page: &mut String, one: &CoordinatorStatus) -> std::fmt::Result {
    let name = one
        .node
        .map_or_else(|| "unknown".to_owned(), |node| node.to_string());
    let latency = one
        .latency_millis
        .map_or_else(|| "-".to_owned(), |millis| format!("{millis} ms"));
    let owing = one.owed.saturating_sub(one.redeemed);
    writeln!(
        page,
        "{name:<12} {:>12} {:>5}.{} % {latency:>6} {:>7} {:>12} {:>12} {:>12} {:>12}",
        short(one.stake),
        one.share / 10,
        one.share % 10,
        one.completed,
        short(one.hourly),
        short(owing),
        short(one.redeemed),
        short(one.unpaid)
    )?;
    let escrow = one.escrow.filter(|_| !one.uncovered.is_zero());
    if let Some(escrow) = escrow {
        let (uncovered, escrow) = (short(one.uncovered), short(escrow));
        writeln!(
            page,
            "  not covered: {uncovered} CAI; its escrow has {escrow} CAI"
        )?;
    }
    let state = match (one.dropped, one.connected) {
        (true, _) => "dropped",
        (false, false) => "no session",
        (false, true) => "trouble",
    };
    match (&one.held, &one.last_error) {
        (Some(held), _) if !one.dropped => writeln!(page, "  held: {}", plain(held)),
        (_, Some(error)) => writeln!(page, "  {state}: {}", plain(error)),
        (_, None) if !one.connected => writeln!(page, "  {state}"),
        _ => Ok(()),
    }
}

/// An amount in CAI to six places.
fn short(amount: Wei) -> String {
    let text = format_cai(amount);
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.len() > 6 => {
            let fraction = fraction[..6].trim_end_matches('0');
            if fraction.is_empty() {
                whole.to_owned()
            } else {
                format!("{whole}.{fraction}")
            }
        }
        _ => text,
    }
}

/// Text of others without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{Address, B256, NodeId, TaskId, Timestamp, cai};

    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_page_tells_runs_pay_and_trouble() {
        let run = |progress| RunStatus {
            task: TaskId::from(B256::ZERO),
            coordinator: NodeId(1),
            model: "shapes".parse().unwrap(),
            progress,
            started_at: at(90),
            deadline: at(220),
        };
        let coordinator = CoordinatorStatus {
            node: Some(NodeId(1)),
            connected: true,
            stake: cai(2_000_000),
            share: 625,
            latency_millis: Some(12),
            completed: 7,
            owed: cai(9),
            redeemed: cai(4),
            unpaid: cai(1) / Wei::from(3),
            escrow: Some(cai(2)),
            uncovered: cai(3),
            held: Some("it owes\x1b[2J too much".to_owned()),
            ..CoordinatorStatus::default()
        };
        let status = MinerStatus {
            operator: Address::ZERO,
            at: at(100),
            started_at: at(0),
            slots: 4,
            running: 3,
            completed: 7,
            failed: 1,
            refused: 3,
            cancelled: 2,
            earned: cai(7),
            hourly: cai(252),
            runs: vec![run(0), run(250), run(1_000)],
            coordinators: vec![coordinator, CoordinatorStatus::default()],
        };
        let page = page(&status);
        for part in [
            "up 1 min 40 s",
            "7 done, 1 failed, 3 refused, 2 cancelled; earned 7 CAI, 252 CAI an hour",
            "slots: 3 of 4 busy",
            "2 min to the deadline",
            "[#####               ]  25 %  about 30 s left",
            "handing in",
            "node 1            2000000    62.5 %  12 ms       7            0            5            4     0.333333",
            "not covered: 3 CAI; its escrow has 2 CAI",
            "held: it owes [2J too much",
            "  no session",
        ] {
            assert!(page.contains(part), "`{part}` in\n{page}");
        }
        assert!(!page.contains('\x1b'));
        assert_eq!(
            line(&status),
            "slots 3/4 done 7 failed 1 refused 3 cancelled 2 coordinators 1/2 held 0 earned 7 CAI (252 CAI/h)"
        );
        assert_eq!(short(cai(1) / Wei::from(10_000_000)), "0");
    }
}
