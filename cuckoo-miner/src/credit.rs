//! Credit: how much work a coordinator may owe, and what counts as owed.
//!
//! An account adds the price of every accepted completion, less a share that is forgiven, and subtracts what vouchers grow
//! by, down to nothing. So at any time it holds the worst stretch since some moment: what was accepted in it, less the
//! forgiven share, less what was paid in it. A coordinator that in the long run pays for all but the forgiven share of what
//! it takes comes back to nothing again and again; one that pays nothing gets the limit, once.

mod desk;
mod standing;

use std::time::Duration;

use cuckoo_core::{Error, Result, Timestamp, Wei, cai, format_cai};
use serde::{Deserialize, Serialize};

pub(crate) use desk::run;
pub(crate) use standing::{Claim, Standing};

/// What coordinators may owe, and what happens to those that owe more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CreditSettings {
    /// The most that one coordinator may owe, in wei: for work in hand, for accepted work that no voucher promises to pay,
    /// and for vouchers beyond its escrow. In files, text such as `"2.5"` in CAI.
    #[serde(with = "cuckoo_core::cai_text")]
    pub limit: Wei,
    /// The share of accepted work that need never be paid, in percent (0 to 90): for tasks that were cancelled under
    /// audit, and what a coordinator forgot in a crash.
    pub forgiven_percent: u8,
    /// How often escrows are read from the chain and accounts looked through, in seconds (1 to 86,400).
    pub every_seconds: u64,
    /// How long a coordinator may stay over the limit before it is dropped, in seconds (1 to 31,536,000).
    pub drop_after_seconds: u64,
    /// Whether a dropped coordinator whose vouchers its escrow does not cover is given notice on chain, and after the notice
    /// its bond is charged. The operator's account pays the gas.
    pub report: bool,
}

impl Default for CreditSettings {
    fn default() -> Self {
        Self {
            limit: cai(100),
            forgiven_percent: 10,
            every_seconds: 30,
            drop_after_seconds: 86_400,
            report: false,
        }
    }
}

impl CreditSettings {
    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` that names the field and its range.
    pub(crate) fn validate(&self) -> Result<()> {
        for (name, value, low, high) in [
            ("forgiven_percent", u64::from(self.forgiven_percent), 0, 90),
            ("every_seconds", self.every_seconds, 1, 86_400),
            ("drop_after_seconds", self.drop_after_seconds, 1, 31_536_000),
        ] {
            if !(low..=high).contains(&value) {
                return Err(Error::invalid(format!(
                    "setting `credit.{name}` is {value}; it must be from {low} to {high}"
                )));
            }
        }
        if self.limit.is_zero() {
            return Err(Error::invalid(
                "setting `credit.limit` is 0, so no task that is paid for would ever be taken; set it to several tasks' price",
            ));
        }
        Ok(())
    }

    pub(crate) fn every(&self) -> Duration {
        Duration::from_secs(self.every_seconds)
    }
}

/// What one coordinator owes, in wei.
#[derive(Debug)]
pub(crate) struct Account {
    limit: Wei,
    forgiven_percent: u8,
    /// Accepted and not paid, less what is forgiven.
    unpaid: Wei,
    /// The same with nothing forgiven: the most that a voucher can pay for.
    claimed: Wei,
    /// The price of assignments in work.
    in_work: Wei,
    /// Of these, what is being handed in: a voucher may pay for it before the answer is here.
    handing_in: Wei,
    /// What vouchers paid of that.
    ahead: Wei,
    /// What the latest voucher promises in all.
    promised: Wei,
    /// What of all promises was redeemed or is in escrow, once the chain was asked.
    backing: Option<Wei>,
    /// What its dearest task costs.
    price: Wei,
    over_since: Option<Timestamp>,
}

impl Account {
    pub(crate) fn new(settings: &CreditSettings) -> Self {
        Self {
            limit: settings.limit,
            forgiven_percent: settings.forgiven_percent.min(100),
            unpaid: Wei::ZERO,
            claimed: Wei::ZERO,
            in_work: Wei::ZERO,
            handing_in: Wei::ZERO,
            ahead: Wei::ZERO,
            promised: Wei::ZERO,
            backing: None,
            price: Wei::ZERO,
            over_since: None,
        }
    }

    /// The coordinator asks `price` for its dearest task; vouchers kept from before promise `promised`.
    pub(crate) fn open(&mut self, price: Wei, promised: Wei) {
        self.price = price;
        self.promised = promised;
    }

    /// Takes work of this price in hand, if that stays within the limit.
    pub(crate) fn take(&mut self, price: Wei) -> bool {
        self.price = self.price.max(price);
        let after = self.used().saturating_add(price);
        let fits = price.is_zero() || after <= self.limit;
        if fits {
            self.in_work = self.in_work.saturating_add(price);
        }
        fits
    }

    /// Work in hand is being handed in.
    pub(crate) fn hand_in(&mut self, price: Wei) {
        self.handing_in = self.handing_in.saturating_add(price);
    }

    /// Work in hand is over; `accepted` if it was handed in and taken.
    pub(crate) fn end(&mut self, price: Wei, handed_in: bool, accepted: bool) {
        self.in_work = self.in_work.saturating_sub(price);
        if accepted {
            self.claimed = self.claimed.saturating_add(price);
            let counts =
                price.saturating_mul(Wei::from(100 - self.forgiven_percent)) / Wei::from(100);
            let paid = self.ahead.min(counts);
            self.ahead = self.ahead.saturating_sub(paid);
            self.unpaid = self.unpaid.saturating_add(counts.saturating_sub(paid));
        }
        if handed_in {
            self.handing_in = self.handing_in.saturating_sub(price);
            self.ahead = self.ahead.min(self.handing_in);
        }
    }

    /// A voucher grew by `growth`, to `promised`. Gives what of that pays for work done here.
    pub(crate) fn pay(&mut self, growth: Wei, promised: Wei) -> Wei {
        self.promised = self.promised.max(promised);
        let rest = growth.saturating_sub(self.unpaid);
        self.unpaid = self.unpaid.saturating_sub(growth);
        // Replies overtake each other: a poll may bring the voucher for a completion whose own answer is still on its way.
        self.ahead = self.ahead.saturating_add(rest).min(self.handing_in);
        let paid = growth.min(self.claimed.saturating_add(self.handing_in));
        self.claimed = self.claimed.saturating_sub(growth);
        paid
    }

    /// What the chain says was redeemed and is in escrow, together.
    pub(crate) fn back(&mut self, backing: Wei) {
        self.backing = Some(backing);
    }

    pub(crate) fn unpaid(&self) -> Wei {
        self.unpaid
    }

    pub(crate) fn in_work(&self) -> Wei {
        self.in_work
    }

    pub(crate) fn promised(&self) -> Wei {
        self.promised
    }

    /// What vouchers promise beyond what was redeemed and is in escrow; nothing before the chain was asked.
    pub(crate) fn uncovered(&self) -> Wei {
        self.backing
            .map_or(Wei::ZERO, |backing| self.promised.saturating_sub(backing))
    }

    fn owed(&self) -> Wei {
        self.unpaid.saturating_add(self.uncovered())
    }

    fn used(&self) -> Wei {
        self.owed().saturating_add(self.in_work)
    }

    /// How many more tasks fit under the limit, at the price of the dearest.
    pub(crate) fn room(&self) -> u32 {
        let left = self.limit.saturating_sub(self.used());
        if self.used() > self.limit {
            0
        } else if self.price.is_zero() {
            u32::MAX
        } else {
            u32::try_from(left / self.price).unwrap_or(u32::MAX)
        }
    }

    /// Notes since when what it owes leaves no room for another task; gives that.
    pub(crate) fn judge(&mut self, now: Timestamp) -> Option<Timestamp> {
        let owed = self.owed();
        let over = !owed.is_zero() && owed.saturating_add(self.price) > self.limit;
        self.over_since = over.then(|| self.over_since.unwrap_or(now));
        self.over_since
    }

    pub(crate) fn over_since(&self) -> Option<Timestamp> {
        self.over_since
    }

    /// Why it gets no polls, and what to do; nothing while it gets them.
    pub(crate) fn trouble(&self) -> Option<String> {
        if self.over_since.is_some() {
            return Some(format!(
                "it owes {} CAI for accepted work without a voucher and {} CAI in vouchers that its escrow does not cover, of at \
                 most {} CAI; it gets no more work until it pays. Ask its owner to, or raise settings.credit.limit",
                format_cai(self.unpaid),
                format_cai(self.uncovered()),
                format_cai(self.limit)
            ));
        }
        (self.price > self.limit).then(|| {
            format!(
                "a task of it may cost {} CAI, more than it may owe ({} CAI); raise settings.credit.limit to work for it",
                format_cai(self.price),
                format_cai(self.limit)
            )
        })
    }
}

#[cfg(test)]
mod tests;
