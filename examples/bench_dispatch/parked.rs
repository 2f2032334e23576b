//! What a miner that waits for work costs the coordinator: its session, its connection, its poll.

use std::time::Duration;

use cuckoo_coordinator::StoreSettings;
use cuckoo_core::{Clock as _, SystemClock, paths};
use cuckoo_miner::HttpCoordinator;

use crate::Result;
use crate::host::{Host, HostOptions};
use crate::http::Connection;
use crate::miner::Miner;

/// How often is looked whether all polls have arrived, and with what pause between.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of the coordinator's memory for each of `count` miners that are parked, each on a connection of its own.
pub(crate) async fn bytes_each(count: usize) -> Result<f64> {
    let host = Host::start(&HostOptions {
        miners: count,
        store: StoreSettings::MEMORY.into(),
        audits: 0.0,
    })?;
    let before = host.usage()?.resident;
    let protocol = HttpCoordinator::new(&format!("http://{}", host.address))?;
    let body = serde_json::to_vec(&Miner::request(1)?)?;
    let mut connections = Vec::with_capacity(count);
    for operator in &host.miners {
        let miner = Miner::open(operator.clone(), &protocol).await?;
        let mut connection = Connection::open(host.address).await?;
        connection
            .send("POST", paths::POLL, &miner.headers(), &body)
            .await?;
        connections.push(connection);
    }
    let mut asking = Connection::open(host.address).await?;
    // The last polls may be on their way still.
    let (clock, mut tries) = (SystemClock, 0);
    loop {
        let parked = parked(&mut asking).await?;
        if parked == count {
            break;
        }
        tries += 1;
        if tries > TRIES {
            return Err(format!("{parked} miners are parked, not {count}").into());
        }
        clock.sleep(PAUSE).await;
    }
    Ok((host.usage()?.resident.saturating_sub(before)) as f64 / count as f64)
}

/// How many miners wait: the status counts a miner as able to take work while its poll does.
async fn parked(asking: &mut Connection) -> Result<usize> {
    let answer = asking.call("GET", paths::STATUS, "", b"").await?;
    let status: serde_json::Value = serde_json::from_slice(answer.body)?;
    let waits = |miner: &&serde_json::Value| miner["free_slots"] == 1;
    Ok(status["miners"]
        .as_array()
        .map_or(0, |miners| miners.iter().filter(waits).count()))
}
