//! Heartbeats: signs of life for all leases of one coordinator, and cancellations back.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Error, Heartbeat, HeartbeatReply, ModelId, Result};

use crate::leases::{self, Lease};
use crate::link::Link;

/// The bounds of what a coordinator may ask for, so that a strange one gets neither a flood nor silence.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(60);

/// How often to send heartbeats for a lease that asks for `millis`.
pub(crate) fn interval(millis: u64) -> Duration {
    Duration::from_millis(millis).clamp(SHORTEST, LONGEST)
}

/// Sends heartbeats while leases are in work, until the miner is closed.
pub(crate) async fn run(link: Arc<Link>) {
    let shared = Arc::clone(&link.shared);
    tokio::select! {
        () = shared.closed.cancelled() => {}
        () = link.dropped.cancelled() => {}
        () = beat_forever(&link) => {}
    }
}

async fn beat_forever(link: &Link) {
    let clock = &link.shared.clock;
    loop {
        let Some(due) = link.leases.next_beat() else {
            // Nothing is heard from it any more until it gives work.
            link.want(Vec::new());
            link.leases.changed().await;
            continue;
        };
        tokio::select! {
            () = clock.sleep(due.since(clock.now())) => {}
            // A lease that is due earlier may have come.
            () = link.leases.changed() => continue,
        }
        let leases = link.leases.beat(clock.now());
        if !leases.is_empty()
            && let Err(error) = beat(link, &leases).await
        {
            tracing::warn!(%error, leases = leases.len(), "no answer to a heartbeat");
        }
        link.leases.expire(clock.now());
    }
}

async fn beat(link: &Link, leases: &[Arc<Lease>]) -> Result<()> {
    let Some(session) = link.current_session() else {
        return Err(Error::unavailable("no session with the coordinator"));
    };
    let heartbeat = Heartbeat {
        leases: leases::progress_of(leases),
    };
    // One with pictures in it says nothing of how soon the coordinator answers.
    let name = match heartbeat.leases.iter().any(|lease| lease.preview.is_some()) {
        true => "heartbeat with previews",
        false => "heartbeat",
    };
    // One that stalls must not keep the next one from being sent.
    let limit = link.shared.settings.call_timeout().min(LONGEST / 12);
    let call = link.protocol.heartbeat(&session.token, heartbeat);
    let HeartbeatReply {
        leases: answer,
        wanted,
    } = link.call(&session, name, limit, call).await?;
    link.want(wanted);
    leases::apply(leases, &answer, |time| session.local(time))
}

impl Link {
    /// Passes on which models the coordinator wants loaded, in the place of what it wanted before.
    fn want(&self, wanted: Vec<ModelId>) {
        let shared = &self.shared;
        shared.wants.tell(&shared.offers, self.party, wanted);
    }
}
