//! The report: our rows, then each peer's, which ends in ours divided by the peer's.

use std::path::Path;

use cuckoo_coordinator::StoreSettings;

use crate::host::HostOptions;
use crate::load::Measured;
use crate::over_http::OverHttp;
use crate::requester::Style;
use crate::{Options, Result, embedded, over_http, parked, peers, restart, signatures};

const PARKED: usize = 10_000;
const QUEUED: usize = 1_000_000;
const FINISHED: usize = 1_000_000;
const OPEN: usize = 100_000;

/// A row of ours over HTTP.
struct Row {
    name: &'static str,
    durable: bool,
    style: Style,
    audits: f64,
}

/// The first is what peers are compared with.
const ROWS: [Row; 4] = [
    Row {
        name: "Cuckoo, everything on",
        durable: true,
        style: Style::Separate,
        audits: 0.0,
    },
    Row {
        name: "Cuckoo, everything on, one request a task",
        durable: true,
        style: Style::Together,
        audits: 0.0,
    },
    Row {
        name: "Cuckoo, everything on, 1 task in 20 audited",
        durable: true,
        style: Style::Separate,
        audits: 0.05,
    },
    Row {
        name: "Cuckoo, not durable",
        durable: false,
        style: Style::Separate,
        audits: 0.0,
    },
];

/// Measures and prints everything.
pub(crate) async fn print(options: &Options) -> Result<()> {
    let wanted = |name: &str| name.starts_with(&options.only);
    let plan = options.effort.plan();
    println!("| system | tasks/s | in flight | one at a time, p50 ms | p99 ms | ours ÷ it |");
    println!("|---|---:|---:|---:|---:|---:|");
    let (mut ours, mut details) = (None, Vec::new());
    for row in ROWS.iter().filter(|row| wanted(row.name)) {
        let store = if row.durable {
            fresh(&options.scratch)?
        } else {
            StoreSettings::MEMORY.into()
        };
        let host = HostOptions {
            miners: 4,
            store,
            audits: row.audits,
        };
        let found = over_http::measure(&host, row.style, &plan).await?;
        print_row(row.name, &found.measured, None);
        ours.get_or_insert(found.measured.best().per_second);
        details.push((row.name, found));
    }
    if wanted("Cuckoo, embedded") {
        let mut arguments = vec!["lives".to_owned()];
        arguments.extend(options.effort.arguments());
        print_row(
            "Cuckoo, embedded, not durable",
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
    if wanted("queued") {
        print_queue(StoreSettings::MEMORY, "not durable")?;
        let store = fresh(&options.scratch)?;
        print_queue(store, "durable")?;
    }
    if wanted("restart") {
        print_restart(&options.scratch)?;
    }
    if wanted("parked") {
        println!(
            "{PARKED} parked miners: {:.0} bytes each",
            parked::bytes_each(PARKED).await?
        );
    }
    Ok(())
}

/// The file of a store that is not there yet.
fn fresh(scratch: &Path) -> Result<std::path::PathBuf> {
    let folder = scratch.join("store");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join("coordinator.db"))
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

fn print_queue(store: impl AsRef<Path>, kind: &str) -> Result<()> {
    let store = store.as_ref().display().to_string();
    let tasks = QUEUED.to_string();
    let arguments = ["queue", "--tasks", &tasks, "--store", &store].map(str::to_owned);
    let found: embedded::Queued = embedded::apart(&arguments)?;
    println!(
        "embedded, {kind}: {:.0} submissions accepted a second; {QUEUED} queued tasks take {:.0} bytes each beside the input",
        found.accepted_per_second, found.bytes_each
    );
    Ok(())
}

fn print_restart(scratch: &Path) -> Result<()> {
    let store = fresh(scratch)?;
    let role = |role: &str| -> Vec<String> {
        let (finished, open) = (FINISHED.to_string(), OPEN.to_string());
        let store = store.display().to_string();
        [
            role,
            "--finished",
            &finished,
            "--open",
            &open,
            "--store",
            &store,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    embedded::apart::<()>(&role("fill"))?;
    let found: restart::Restarted = embedded::apart(&role("restart"))?;
    restart::remove(&store)?;
    println!(
        "restart with {OPEN} open and {FINISHED} finished tasks: ready in {:.2} s",
        found.seconds
    );
    Ok(())
}
