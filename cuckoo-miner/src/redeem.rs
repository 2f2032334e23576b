//! Pay without a person: vouchers become earnings, and earnings are paid out, once they are worth their gas.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Action, Error, NodeId, Result, SignedVoucher, Wei, cai, format_cai};
use serde::{Deserialize, Serialize};

use crate::miner::Shared;

/// When a miner redeems its vouchers by itself. The operator's account sends the transactions and pays for their gas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedeemSettings {
    /// What a coordinator has to owe before its voucher is redeemed, and a miner to have earned before that is paid out,
    /// in wei; in files, text such as `"2.5"` in CAI.
    #[serde(with = "cuckoo_core::cai_text")]
    pub from: Wei,
    /// How many times the transaction's fee that has to be (1 to 10,000).
    pub times_fee: u32,
    /// How often to look, in seconds (1 to 86,400).
    pub every_seconds: u64,
}

impl Default for RedeemSettings {
    fn default() -> Self {
        Self {
            from: cai(10),
            times_fee: 20,
            every_seconds: 300,
        }
    }
}

impl RedeemSettings {
    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` that names the field and its range.
    pub(crate) fn validate(&self) -> Result<()> {
        if !(1..=10_000).contains(&self.times_fee) || !(1..=86_400).contains(&self.every_seconds) {
            return Err(Error::invalid(
                "redeem.times_fee is from 1 to 10000 and redeem.every_seconds from 1 to 86400",
            ));
        }
        Ok(())
    }
}

/// Looks again and again until the miner is closed.
pub(crate) async fn run(shared: Arc<Shared>, settings: RedeemSettings) {
    let mut desk = Desk {
        shared: Arc::clone(&shared),
        pause: Duration::from_secs(settings.every_seconds),
        settings,
        redeemed: BTreeMap::new(),
        told: None,
    };
    tokio::select! {
        () = shared.closed.cancelled() => {}
        () = desk.keep_looking() => {}
    }
}

#[derive(Debug)]
struct Desk {
    shared: Arc<Shared>,
    settings: RedeemSettings,
    pause: Duration,
    /// What each coordinator's vouchers paid each node at the last look: it only grows, so the chain is asked again only
    /// when enough may be owed.
    redeemed: BTreeMap<(NodeId, NodeId), Wei>,
    /// The last trouble, told once while it stays the same.
    told: Option<String>,
}

impl Desk {
    async fn keep_looking(&mut self) {
        loop {
            let mut trouble = None;
            for voucher in self.shared.vouchers.all() {
                if let Err(error) = self.redeem(voucher).await {
                    trouble = Some(error.to_string());
                }
            }
            if self.told != trouble {
                if let Some(error) = &trouble {
                    tracing::warn!("vouchers wait to be redeemed: {error}");
                }
                self.told = trouble;
            }
            self.shared.clock.sleep(self.pause).await;
        }
    }

    /// Redeems a voucher that is worth it, then pays out what the miner has earned by it and by earlier ones.
    async fn redeem(&mut self, voucher: SignedVoucher) -> Result<()> {
        let (coordinator, miner) = (voucher.value.coordinator, voucher.value.miner);
        let cumulative = voucher.value.cumulative;
        let known = self.redeemed.get(&(coordinator, miner)).copied();
        let enough = |redeemed: Wei| cumulative.saturating_sub(redeemed) >= self.settings.from;
        if !enough(known.unwrap_or_default()) {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let chain = &shared.chain;
        let redeemed = chain.redeemed(coordinator, miner).await?;
        self.redeemed.insert((coordinator, miner), redeemed);
        if enough(redeemed) {
            let escrow = chain.escrow(coordinator).await?.amount;
            let owed = cumulative.saturating_sub(redeemed).min(escrow);
            if let Some(paid) = self.send(Action::Redeem(voucher), owed).await? {
                tracing::info!(%coordinator, %miner, "redeemed {} CAI", format_cai(paid));
                self.redeemed
                    .insert((coordinator, miner), redeemed.saturating_add(paid));
            }
        }
        let earnings = chain.earnings(miner).await?;
        let earned = earnings.to_owner.saturating_add(earnings.to_stakers);
        if let Some(paid) = self.send(Action::Collect { miner }, earned).await? {
            tracing::info!(%miner, "paid {} CAI out to the owner", format_cai(paid));
        }
        Ok(())
    }

    /// Sends `action` if what it moves, `worth` in wei, is enough for the settings; gives what it gave.
    async fn send(&self, action: Action, worth: Wei) -> Result<Option<Wei>> {
        if worth < self.settings.from {
            return Ok(None);
        }
        send_if_worth(&self.shared, action, worth, self.settings.times_fee).await
    }
}

/// Sends `action` from the operator's account if what it moves, `worth` in wei, is `times_fee` of its fee; gives what it
/// gave.
///
/// # Errors
/// `Rejected` when the account cannot pay the fee, else as [`StakingContract::quote`](cuckoo_core::StakingContract::quote)
/// and [`submit`](cuckoo_core::StakingContract::submit).
pub(crate) async fn send_if_worth(
    shared: &Shared,
    action: Action,
    worth: Wei,
    times_fee: u32,
) -> Result<Option<Wei>> {
    let Shared {
        chain, operator, ..
    } = shared;
    let fee = chain.quote(operator.address(), &action).await?.fee;
    if worth < fee.saturating_mul(Wei::from(times_fee)) {
        tracing::debug!(
            "{action}: {} CAI are not worth a fee of {} CAI",
            format_cai(worth),
            format_cai(fee)
        );
        return Ok(None);
    }
    let balance = chain.balance(operator.address()).await?;
    if balance < fee {
        return Err(Error::rejected(format!(
            "{action}: the operator {} has {} CAI and the fee may be {} CAI; send it more, or use another account with \
             `cuckoo-miner redeem` or `cuckoo-miner unpaid`",
            operator.address(),
            format_cai(balance),
            format_cai(fee)
        )));
    }
    Ok(Some(chain.submit(operator, action).await?.value))
}
