//! The status for people: a page of at most 80 columns, and a line.

mod machine;
mod text;

use std::fmt::Write as _;

use cuckoo_core::cli::span_text;

use self::text::{clip, narrow, paragraph, plain, short};
use crate::{CoordinatorStatus, MinerStatus, RunStatus};

const BAR: u16 = 10;

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
    let ended = format!(
        "{} done, {} failed, {} refused, {} cancelled; earned {} CAI, {} CAI an hour",
        status.completed,
        status.failed,
        status.refused,
        status.cancelled,
        short(status.earned),
        short(status.hourly)
    );
    paragraph(page, 0, &ended)?;
    writeln!(page, "\nslots: {} of {} busy", status.running, status.slots)?;
    for run in &status.runs {
        write_run(page, run, status)?;
    }
    machine::write(page, status)?;
    writeln!(
        page,
        "\n{:<11} {:>8} {:>7} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8}",
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
        "  {:<16} for {:<9} [{:<width$}] {:>3} %  {left}",
        clip(run.model.as_str(), 16),
        run.coordinator.to_string(),
        "#".repeat(full),
        progress / 10,
        width = usize::from(BAR)
    )
}

fn write_coordinator(page: &mut String, one: &CoordinatorStatus) -> std::fmt::Result {
    let name = one
        .node
        .map_or_else(|| "unknown".to_owned(), |node| node.to_string());
    let latency = match one.latency_millis {
        None => "-".to_owned(),
        Some(millis) if millis < 10_000 => format!("{millis} ms"),
        Some(millis) => format!("{} s", millis / 1_000),
    };
    let owing = one.owed.saturating_sub(one.redeemed);
    writeln!(
        page,
        "{name:<11} {:>8} {:>3}.{} % {latency:>7} {:>7} {:>8} {:>8} {:>8} {:>8}",
        narrow(one.stake),
        one.share / 10,
        one.share % 10,
        one.completed,
        narrow(one.hourly),
        narrow(owing),
        narrow(one.redeemed),
        narrow(one.unpaid)
    )?;
    let escrow = one.escrow.filter(|_| !one.uncovered.is_zero());
    if let Some(escrow) = escrow {
        let (uncovered, escrow) = (short(one.uncovered), short(escrow));
        let missing = format!("not covered: {uncovered} CAI; its escrow has {escrow} CAI");
        paragraph(page, 2, &missing)?;
    }
    let state = match (one.dropped, one.connected) {
        (true, _) => "dropped",
        (false, false) => "no session",
        (false, true) => "trouble",
    };
    let said = match (&one.held, &one.last_error) {
        (Some(held), _) if !one.dropped => format!("held: {}", plain(held)),
        (_, Some(error)) => format!("{state}: {}", plain(error)),
        (_, None) if !one.connected => state.to_owned(),
        _ => return Ok(()),
    };
    paragraph(page, 2, &said)
}

#[cfg(test)]
mod tests;
