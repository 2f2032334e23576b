//! The escrow: no work is given out that it does not cover, and it is filled up as the settings say.
//!
//! What is promised and not redeemed, and the price of what miners work on now, stay below what is in the escrow; so a
//! voucher that a miner is sent can always be redeemed.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cuckoo_core::{Error, LeaseId, NodeId, Result, StakingContract, Timestamp, Wei, format_cai};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use crate::TopUp;
use crate::coordinator::Inner;
use crate::market::Market;

/// How many miners are asked about at once.
const AT_ONCE: usize = 8;

/// What the escrow still covers.
#[derive(Debug, Default)]
pub(crate) struct Cover {
    /// What is in it less what is promised and not redeemed, in wei; unknown until the chain was asked once.
    free: Option<Wei>,
    /// What is promised and not redeemed, in wei, as of the same look and what was promised since.
    owed: Wei,
    /// The price of all that miners work on now, in wei.
    reserved: Wei,
}

impl Cover {
    /// Whether work of this price may be given out.
    pub(crate) fn covers(&self, price: Wei) -> bool {
        price.is_zero()
            || self
                .free
                .is_none_or(|free| self.reserved.saturating_add(price) <= free)
    }

    /// What more can be promised, in wei, when it is known.
    pub(crate) fn left(&self) -> Option<Wei> {
        Some(self.free?.saturating_sub(self.reserved))
    }

    /// What was promised to miners and not redeemed yet, in wei, when it is known.
    pub(crate) fn owed(&self) -> Option<Wei> {
        self.free.map(|_| self.owed)
    }

    /// The price of all that miners work on now, in wei.
    pub(crate) fn reserved(&self) -> Wei {
        self.reserved
    }

    pub(crate) fn reserve(&mut self, price: Wei) {
        self.reserved = self.reserved.saturating_add(price);
    }

    pub(crate) fn release(&mut self, price: Wei) {
        self.reserved = self.reserved.saturating_sub(price);
    }

    pub(crate) fn promise(&mut self, amount: Wei) {
        self.free = self.free.map(|free| free.saturating_sub(amount));
        self.owed = self.owed.saturating_add(amount);
    }
}

/// What the chain says of the escrow and of what was redeemed from it.
struct Reading {
    redeemed: HashMap<NodeId, Wei>,
    escrow: Wei,
}

impl Market {
    /// Takes over what the chain said; whoever waited for the escrow gets work. Gives what is free, in wei.
    fn set_cover(&mut self, reading: &Reading, now: Timestamp) -> Wei {
        let redeemed = |miner: NodeId| reading.redeemed.get(&miner).copied().unwrap_or_default();
        let owed = self.registry.miners.values().map(|miner| {
            let owed = miner.voucher.as_ref();
            let owed = owed.map_or(Wei::ZERO, |voucher| voucher.value.cumulative);
            owed.saturating_sub(redeemed(miner.id()))
        });
        let owed = owed.fold(Wei::ZERO, Wei::saturating_add);
        let free = reading.escrow.saturating_sub(owed);
        let grown = self.cover.free.is_some_and(|before| before < free);
        self.cover.free = Some(free);
        self.cover.owed = owed;
        if grown {
            let miners: Vec<_> = self.registry.miners.keys().copied().collect();
            for miner in miners {
                self.fill(miner, now);
            }
        }
        free
    }

    /// Gives the reservation of a lease back, once.
    pub(crate) fn release(&mut self, lease: LeaseId) {
        if let Some(lease) = self.dispatch.lease_mut(lease) {
            self.cover.release(std::mem::take(&mut lease.reserved));
        }
    }

    fn earners(&self) -> Vec<NodeId> {
        let miners = self.registry.miners.values();
        miners
            .filter(|miner| miner.voucher.is_some())
            .map(|miner| miner.id())
            .collect()
    }
}

/// Watches the escrow until `stop`, and fills it up.
pub(crate) async fn watch(
    inner: Weak<Inner>,
    chain: Arc<dyn StakingContract>,
    stop: CancellationToken,
) {
    while let Some(strong) = inner.upgrade() {
        let mut pause = Duration::from_millis(strong.settings.escrow.refresh_millis);
        match look(&strong, chain.as_ref()).await {
            Ok(true) => pause = Duration::ZERO,
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "the escrow cannot be read; what it covered at the last look stays in force");
            }
        }
        let pause = strong.clock.sleep(pause);
        drop(strong);
        tokio::select! {
            () = stop.cancelled() => return,
            () = pause => {}
        }
    }
}

/// Reads the escrow, and fills it up if that is due; tells whether it did.
async fn look(inner: &Arc<Inner>, chain: &dyn StakingContract) -> Result<bool> {
    let earners = inner.with(|market, _| market.earners());
    let node = inner.node;
    // Before the escrow: a redemption in between then makes it look smaller, not greater, than it is.
    let redeemed = stream::iter(earners)
        .map(|miner| async move {
            let redeemed = chain.redeemed(node, miner).await?;
            Ok::<_, Error>((miner, redeemed))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let escrow = chain.escrow(node).await?;
    let reading = Reading {
        redeemed,
        escrow: escrow.amount.saturating_sub(escrow.leaving),
    };
    let free = inner.with(|market, now| market.set_cover(&reading, now));
    let due = |top_up: &&TopUp| free < top_up.below;
    let Some(top_up) = inner.settings.escrow.top_up.as_ref().filter(due) else {
        return Ok(false);
    };
    let missing = top_up.to.saturating_sub(free);
    let operator = &inner.operator;
    let balance = chain.balance(operator.address()).await?;
    // It pays for gas as well.
    if balance <= missing {
        tracing::warn!(
            "the escrow covers {} CAI more and should be filled up by {} CAI, but the operator {} has only {} CAI",
            format_cai(free),
            format_cai(missing),
            operator.address(),
            format_cai(balance)
        );
        return Ok(false);
    }
    chain.deposit_escrow(operator, node, missing).await?;
    tracing::info!("filled the escrow up by {} CAI", format_cai(missing));
    Ok(true)
}
