//! Quotes: what a task would cost and when it would start, or why it would not be taken, before anybody is bound.

use cuckoo_core::{Error, ErrorBody, Task, Timestamp, Wei};
use serde::{Deserialize, Serialize};

use crate::Requester;
use crate::market::Market;

/// What submitting a task now would come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "quote", rename_all = "snake_case")]
pub enum Quote {
    /// It would be taken and should end in time.
    Feasible {
        /// What it costs, in wei.
        #[schema(value_type = cuckoo_core::schema::Amount)]
        price: Wei,
        /// Miners that could have it.
        miners: u64,
        /// Tasks that wait and go before it.
        ahead: u64,
        /// When a miner should begin with it, from now, in milliseconds; absent while too little is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        starts_in_millis: Option<u64>,
    },
    /// It would be refused, or wait in vain.
    Refused {
        /// Why, and what to change.
        reason: ErrorBody,
    },
}

impl Quote {
    pub(crate) fn refused(error: &Error) -> Self {
        Self::Refused {
            reason: ErrorBody::from(error),
        }
    }
}

impl Market {
    /// What taking `task` in for `requester` now would come to.
    pub(crate) fn quote(&self, task: &Task, requester: &Requester, now: Timestamp) -> Quote {
        if let Err(error) = self.check_room(task, requester, now) {
            return Quote::refused(&error);
        }
        if !self.cover.covers(task.price) {
            return Quote::refused(&Error::unavailable(
                "this coordinator's escrow does not cover more work now; try again when it was filled up",
            ));
        }
        let outlook = self
            .dispatch
            .outlook(&task.model, task.input.len() as u64, task.priority);
        if outlook.miners == 0 {
            return Quote::refused(&Error::unavailable(format!(
                "no miner offers `{}` for an input of {} bytes now; try again later",
                task.model,
                task.input.len()
            )));
        }
        let starts_in_millis = outlook.starts_in_millis();
        let left = task.deadline.since(now).as_millis();
        if starts_in_millis.is_some_and(|start| u128::from(start) >= left) {
            return Quote::refused(&Error::rejected(format!(
                "{} tasks go before it, so that it would hardly start before its deadline; allow more time",
                outlook.ahead
            )));
        }
        Quote::Feasible {
            price: task.price,
            miners: outlook.miners,
            ahead: outlook.ahead,
            starts_in_millis,
        }
    }
}
