//! Streaming: what a run emits goes up in chunks while it runs.

use std::sync::Arc;

use cuckoo_core::{Chunk, Error, Result, Retry};

use crate::backoff::Backoff;
use crate::leases::Lease;
use crate::link::Link;

/// Sends what the run of `lease` emits until the run ends; gives up quietly where the coordinator does not take it, for
/// the output is handed in whole in any case.
///
/// While a chunk is on its way the next ones gather, so that a slow line carries fewer and longer ones.
pub(crate) async fn run(link: Arc<Link>, lease: Arc<Lease>) {
    let shared = &link.shared;
    let emitted = lease.context.outlet();
    let mut backoff = Backoff::new(&shared.settings);
    let mut sent = 0;
    loop {
        tokio::select! {
            biased;
            () = lease.context.cancelled() => return,
            () = emitted.beyond(sent) => {}
        }
        if emitted.len() as u64 > shared.settings.max_output_bytes {
            tracing::debug!(
                "the run emitted more than an output may have; nothing more is streamed"
            );
            return;
        }
        // A run that ends meanwhile does not cut this short, or the next call would have to connect anew.
        let pause = match send(&link, &lease, sent).await {
            Ok(received) if received > sent => {
                sent = received;
                backoff.reset();
                continue;
            }
            // It lost what it had, say by a restart: again, but not at full speed.
            Ok(received) => {
                sent = received;
                backoff.next(&*shared.entropy)
            }
            Err(error) if error.retry() == Retry::Later => {
                tracing::debug!(%error, "a chunk was not taken; trying again");
                backoff.next(&*shared.entropy)
            }
            Err(error) => {
                tracing::debug!(%error, "the coordinator takes no chunks; nothing more is streamed");
                return;
            }
        };
        tokio::select! {
            () = shared.clock.sleep(pause) => {}
            () = lease.context.cancelled() => return,
        }
    }
}

/// Sends the next chunk; gives how much the coordinator has.
async fn send(link: &Arc<Link>, lease: &Lease, offset: usize) -> Result<usize> {
    let Some(session) = link.current_session() else {
        return Err(Error::unavailable("no session with the coordinator"));
    };
    let chunk = Chunk {
        lease: lease.id,
        offset: offset as u64,
        bytes: lease.context.outlet().from(offset, Chunk::MAX_BYTES),
    };
    let limit = link.shared.settings.call_timeout();
    let call = link.protocol.stream(&session.token, chunk);
    let reply = link.call(&session, "stream", limit, call).await?;
    lease.apply(reply.lease, |time| session.local(time));
    let emitted = lease.context.outlet().len();
    usize::try_from(reply.received)
        .ok()
        .filter(|received| *received <= emitted)
        .ok_or_else(|| Error::invalid("the coordinator says it has more than was emitted"))
}
