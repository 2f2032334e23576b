//! What a miner knows of one coordinator: its account, what its work pays, how fast it answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cuckoo_core::{Timestamp, Wei};
use tokio::sync::Notify;

use super::{Account, CreditSettings};
use crate::earnings::Meter;

/// How much of the difference a call moves the latency.
const LEARNING: f64 = 0.2;

/// One coordinator as a payer, shared by all that deals with it.
#[derive(Debug)]
pub(crate) struct Standing {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) account: Account,
    pub(crate) meter: Meter,
    /// Its weight on chain, in wei.
    pub(crate) stake: Wei,
    /// How long calls take that carry little and wait for nothing, in seconds; none was made yet when absent.
    pub(crate) latency: Option<f64>,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    pub(crate) redeemed: Wei,
    pub(crate) escrow: Option<Wei>,
    /// The trouble that was logged.
    pub(crate) told: bool,
}

impl Standing {
    pub(crate) fn new(settings: &CreditSettings, now: Timestamp) -> Self {
        Self {
            state: Mutex::new(State {
                account: Account::new(settings),
                meter: Meter::new(now),
                stake: Wei::ZERO,
                latency: None,
                completed: 0,
                failed: 0,
                refused: 0,
                redeemed: Wei::ZERO,
                escrow: None,
                told: false,
            }),
            changed: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Completes when the account may have room again that it had not when this was called last.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes work of this price in hand, if that stays within the limit.
    pub(crate) fn take(self: &Arc<Self>, price: Wei) -> Option<Claim> {
        self.state().account.take(price).then(|| Claim {
            standing: Arc::clone(self),
            price,
            handed_in: false,
            accepted: false,
        })
    }

    /// A voucher grew by `growth`, to `promised`.
    pub(crate) fn pay(&self, growth: Wei, promised: Wei, now: Timestamp) {
        let mut state = self.state();
        let paid = state.account.pay(growth, promised);
        state.meter.pay(paid, now);
        drop(state);
        self.changed.notify_one();
    }

    /// What the chain says.
    pub(crate) fn back(&self, redeemed: Wei, escrow: Wei) {
        let mut state = self.state();
        (state.redeemed, state.escrow) = (redeemed, Some(escrow));
        state.account.back(redeemed.saturating_add(escrow));
        drop(state);
        self.changed.notify_one();
    }

    /// A small call took so long.
    pub(crate) fn heard_after(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let latency = &mut self.state().latency;
        *latency = Some(latency.map_or(seconds, |known| known + LEARNING * (seconds - known)));
    }
}

/// Work in hand, and what it costs; counted until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    standing: Arc<Standing>,
    price: Wei,
    handed_in: bool,
    accepted: bool,
}

impl Claim {
    /// It is being handed in.
    pub(crate) fn hand_in(&mut self) {
        if !std::mem::replace(&mut self.handed_in, true) {
            self.standing.state().account.hand_in(self.price);
        }
    }

    /// The coordinator took it: from here on it is owed.
    pub(crate) fn accepted(mut self) {
        self.accepted = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.standing.state();
        state.account.end(self.price, self.handed_in, self.accepted);
        drop(state);
        self.standing.changed.notify_one();
    }
}
