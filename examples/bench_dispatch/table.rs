//! The report: our rows, then each peer's, which ends in ours divided by the peer's.

use crate::host::HostOptions;
use crate::load::Measured;
use crate::over_http::OverHttp;
use crate::requester::Style;
use crate::{Options, Result, embedded, over_http, parked, peers, signatures};

const PARKED: usize = 10_000;
const QUEUED: usize = 1_000_000;

/// Measures and prints everything.
pub(crate) async fn print(options: &Options) -> Result<()> {
    let wanted = |name: &str| name.contains(&options.only);
    let plan = options.effort.plan();
    println!("| system | tasks/s | in flight | one at a time, p50 ms | p99 ms | ours ÷ it |");
    println!("|---|---:|---:|---:|---:|---:|");
    let mut ours = None;
    let own = [
        ("Cuckoo, memory store", Style::Separate, 0.0),
        (
            "Cuckoo, memory store, one request a task",
            Style::Together,
            0.0,
        ),
        (
            "Cuckoo, memory store, 1 task in 20 audited",
            Style::Separate,
            0.05,
        ),
    ];
    let mut details = Vec::new();
    for (name, style, audits) in own.into_iter().filter(|(name, ..)| wanted(name)) {
        let host = HostOptions {
            miners: 4,
            store: None,
            audits,
        };
        let found = over_http::measure(&host, style, &plan).await?;
        print_row(name, &found.measured, None);
        ours.get_or_insert(found.measured.best().per_second);
        details.push((name, found));
    }
    if wanted("Cuckoo, embedded") {
        let mut arguments = vec!["lives".to_owned()];
        arguments.extend(options.effort.arguments());
        print_row(
            "Cuckoo, embedded, memory store",
            &embedded::apart(&arguments)?,
            None,
        );
    }
    let installed = peers::installed()?;
    for peer in peers::PEERS.iter().filter(|peer| wanted(peer.name)) {
        let found = peer.measure(&plan, &installed, &options.scratch)?;
        print_row(peer.name, &found, ours);
    }
    print_details(&details)?;
    if wanted("queue") {
        let arguments = ["queue", "--tasks", &QUEUED.to_string()].map(str::to_owned);
        let found: embedded::Queued = embedded::apart(&arguments)?;
        println!(
            "embedded, submissions accepted: {:.0} a second",
            found.accepted_per_second
        );
        println!(
            "{QUEUED} queued tasks, memory store: {:.0} bytes each beside the input",
            found.bytes_each
        );
    }
    if wanted("parked") {
        println!(
            "{PARKED} parked miners: {:.0} bytes each",
            parked::bytes_each(PARKED).await?
        );
    }
    Ok(())
}

fn print_row(name: &str, found: &Measured, ours: Option<f64>) {
    let best = found.best();
    let ratio = ours.map_or(String::new(), |ours| {
        format!("{:.2}x", ours / best.per_second)
    });
    println!(
        "| {name} | {:.0} | {} | {:.3} | {:.3} | {ratio} |",
        best.per_second, best.in_flight, found.p50_millis, found.p99_millis
    );
}

fn print_details(rows: &[(&str, OverHttp)]) -> Result<()> {
    println!();
    for (name, found) in rows {
        println!(
            "{name}: from submission to the miner's start {:.3} ms (p50); processor time a task {:.0} µs, of it the coordinator's {:.0} µs",
            found.start_p50_millis,
            found.coordinator_micros + found.generator_micros,
            found.coordinator_micros,
        );
    }
    let signed = signatures::measure()?;
    println!(
        "signatures: the miner's receipt {:.1} µs, its verification {:.1} µs, a voucher {:.1} µs; of each, hashing {:.1} µs",
        signed.receipt, signed.verify, signed.voucher, signed.digest
    );
    Ok(())
}
