//! Looks through the accounts: reads escrows, tells who is over the limit, drops who stays there, and has bonds charged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Action, Error, ErrorKind, NodeId, Result, SignedVoucher, Wei, format_cai};

use crate::link::Link;
use crate::miner::Shared;
use crate::redeem::{self, RedeemSettings};

/// A demand that is on the chain.
struct Notice {
    voucher: SignedVoucher,
    /// When it can be collected, in seconds since the Unix epoch by the chain's clock.
    due: u64,
}

/// Looks again and again until the miner is closed.
pub(crate) async fn run(shared: Arc<Shared>, links: Vec<Arc<Link>>) {
    let mut desk = Desk {
        shared: Arc::clone(&shared),
        notices: BTreeMap::new(),
        told: None,
    };
    tokio::select! {
        () = shared.closed.cancelled() => {}
        () = desk.keep_looking(&links) => {}
    }
}

struct Desk {
    shared: Arc<Shared>,
    notices: BTreeMap<NodeId, Notice>,
    /// The last trouble with the chain, told once while it stays the same.
    told: Option<String>,
}

impl Desk {
    async fn keep_looking(&mut self, links: &[Arc<Link>]) {
        let every = self.shared.settings.credit.every();
        loop {
            let mut trouble = None;
            for link in links {
                if let Err(error) = self.look(link).await {
                    trouble = Some(error.to_string());
                }
            }
            if self.told != trouble {
                if let Some(error) = &trouble {
                    tracing::warn!(
                        "whether coordinators can pay is not known, or cannot be acted on: {error}"
                    );
                }
                self.told = trouble;
            }
            self.shared.clock.sleep(every).await;
        }
    }

    async fn look(&mut self, link: &Arc<Link>) -> Result<()> {
        let Some((coordinator, miner)) = link.nodes() else {
            return Ok(());
        };
        let read = self.read(link, coordinator, miner).await;
        let drop_after = self.shared.settings.credit.drop_after_seconds;
        if link.dropped.is_cancelled() {
            read?;
            return self.claim_bond(link, coordinator, miner).await;
        }
        let now = self.shared.clock.now();
        let patience = Duration::from_secs(drop_after);
        let over = link
            .judge(now)
            .filter(|since| now.since(*since) >= patience);
        // What is in work is finished first.
        if over.is_some() && link.standing.state().account.in_work().is_zero() {
            let why = link.standing.state().account.trouble().unwrap_or_default();
            // With the notice first: once no coordinator is left, the miner ends.
            let reported = self.claim_bond(link, coordinator, miner).await;
            link.give_up(Error::rejected(format!(
                "{coordinator} did not pay for {drop_after} s: {why}; restart the miner to try it again"
            )));
            reported?;
        }
        read
    }

    /// Reads what the coordinator's vouchers paid and what there is for more.
    async fn read(&self, link: &Link, coordinator: NodeId, miner: NodeId) -> Result<()> {
        if link.standing.state().account.promised().is_zero() {
            return Ok(());
        }
        let chain = &self.shared.chain;
        let limit = self.shared.settings.call_timeout();
        let reading = async {
            // In this order, for a redemption in between then makes it look better covered, not worse, until the next look.
            let escrow = chain.escrow(coordinator).await?.amount;
            Ok((chain.redeemed(coordinator, miner).await?, escrow))
        };
        match link.within("chain", limit, reading).await {
            Ok((redeemed, escrow)) => {
                link.standing.back(redeemed, escrow);
                Ok(())
            }
            // Contracts that know no escrow.
            Err(error) if error.kind() == ErrorKind::Rejected => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives notice of a voucher that the escrow does not cover, and once that is over has the bond pay; as far as the
    /// operator asked for that and it is worth the gas.
    async fn claim_bond(&mut self, link: &Link, coordinator: NodeId, miner: NodeId) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let owed = link.standing.state().account.uncovered();
        let possible = shared.chain.contracts().unpaid_voucher.is_some();
        if !shared.settings.credit.report || !possible || owed.is_zero() {
            return Ok(());
        }
        let Some(voucher) = shared.vouchers.latest(coordinator, miner) else {
            return Ok(());
        };
        match self.notices.get(&coordinator) {
            Some(notice) if shared.chain.block_time().await? >= notice.due => {
                let collect = Action::CollectUnpaid(notice.voucher.clone());
                self.send(collect, owed, coordinator).await
            }
            Some(_) => Ok(()),
            None => {
                let demand = Action::DemandUnpaid(voucher.clone());
                let demanded = self.send_worth(demand, owed).await;
                match demanded {
                    Ok(Some(due)) => {
                        let due = due.saturating_to();
                        tracing::warn!(
                            %coordinator,
                            "gave notice on chain of {} CAI that its escrow does not cover",
                            format_cai(owed)
                        );
                        self.notices.insert(coordinator, Notice { voucher, due });
                        Ok(())
                    }
                    Ok(None) => Ok(()),
                    // Perhaps there was notice in an earlier life.
                    Err(error) if error.kind() == ErrorKind::Chain => {
                        let collect = Action::CollectUnpaid(voucher);
                        let collected = self.send(collect, owed, coordinator).await;
                        collected.map_err(|_| error)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn send(&mut self, collect: Action, owed: Wei, coordinator: NodeId) -> Result<()> {
        if let Some(paid) = self.send_worth(collect, owed).await? {
            tracing::info!(%coordinator, "{} CAI were paid from its bond", format_cai(paid));
            self.notices.remove(&coordinator);
        }
        Ok(())
    }

    async fn send_worth(&self, action: Action, worth: Wei) -> Result<Option<Wei>> {
        let redeeming = self.shared.settings.redeem.as_ref();
        let times_fee =
            redeeming.map_or_else(|| RedeemSettings::default().times_fee, |set| set.times_fee);
        redeem::send_if_worth(&self.shared, action, worth, times_fee).await
    }
}

impl Link {
    /// Notes whether the coordinator owes too much, and tells once when that changes; gives since when it does.
    pub(crate) fn judge(&self, now: cuckoo_core::Timestamp) -> Option<cuckoo_core::Timestamp> {
        let mut state = self.standing.state();
        let since = state.account.judge(now);
        let trouble = state.account.trouble();
        let told = std::mem::replace(&mut state.told, trouble.is_some());
        drop(state);
        let name = self.nodes().map(|(coordinator, _)| coordinator.to_string());
        let coordinator = name.unwrap_or_else(|| "a coordinator".to_owned());
        match trouble {
            Some(why) if !told => tracing::warn!("{coordinator}: {why}"),
            None if told => tracing::info!("{coordinator} paid: it gets polls again"),
            _ => {}
        }
        since
    }
}
