//! A miner's settings: plain data, from TOML, the environment or a foreign language.

use std::time::Duration;

use cuckoo_core::{Error, PollRequest, Result};
use serde::{Deserialize, Serialize};

use crate::{CreditSettings, RedeemSettings};

/// How a miner works. Every field has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Tasks run at once, shared by all coordinators (1 to 256).
    pub slots: u32,
    /// How long one poll waits for work, in milliseconds; coordinators bound it too.
    pub poll_wait_millis: u64,
    /// How long a poll may hold a slot while others may wait for one, none of them known to have work, in milliseconds.
    pub turn_millis: u64,
    /// How long any other call to a coordinator may take, in milliseconds.
    pub call_timeout_millis: u64,
    /// First pause after a failed call, in milliseconds; it doubles with each failure in a row.
    pub retry_min_millis: u64,
    /// Longest pause after a failed call, in milliseconds.
    pub retry_max_millis: u64,
    /// How long a cancelled run may take to stop by itself before it is dropped, in milliseconds.
    pub cancel_grace_millis: u64,
    /// Largest output handed in, in bytes.
    pub max_output_bytes: u64,
    /// Whether a small task of each model is timed at the start, before work is taken; half a minute for each model at the
    /// most.
    pub self_test: bool,
    /// A task is given back unless this much of the time that it should take is left to its deadline, in percent (to 1000);
    /// 0 takes every task.
    pub estimate_percent: u32,
    /// When vouchers are redeemed without being asked to; never when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redeem: Option<RedeemSettings>,
    /// What coordinators may owe.
    pub credit: CreditSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            slots: 1,
            poll_wait_millis: 30_000,
            turn_millis: 200,
            call_timeout_millis: 30_000,
            retry_min_millis: 200,
            retry_max_millis: 30_000,
            cancel_grace_millis: 2_000,
            max_output_bytes: 32 * 1024 * 1024,
            self_test: true,
            estimate_percent: 125,
            redeem: None,
            credit: CreditSettings::default(),
        }
    }
}

impl Settings {
    /// Checks every field.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](cuckoo_core::ErrorKind::Invalid) naming the field and its range.
    pub fn validate(&self) -> Result<()> {
        const HOUR: u64 = 3_600_000;
        let ranges = [
            (
                "slots",
                u64::from(self.slots),
                1,
                u64::from(PollRequest::MAX_SLOTS),
            ),
            ("poll_wait_millis", self.poll_wait_millis, 1, HOUR),
            ("turn_millis", self.turn_millis, 1, HOUR),
            ("call_timeout_millis", self.call_timeout_millis, 1, HOUR),
            ("retry_min_millis", self.retry_min_millis, 1, HOUR),
            (
                "retry_max_millis",
                self.retry_max_millis,
                self.retry_min_millis,
                HOUR,
            ),
            ("cancel_grace_millis", self.cancel_grace_millis, 0, HOUR),
            ("max_output_bytes", self.max_output_bytes, 1, 1 << 32),
            (
                "estimate_percent",
                u64::from(self.estimate_percent),
                0,
                1_000,
            ),
        ];
        for (name, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(Error::invalid(format!(
                    "setting `{name}` is {value}; it must be from {low} to {high}"
                )));
            }
        }
        self.credit.validate()?;
        self.redeem
            .as_ref()
            .map_or(Ok(()), RedeemSettings::validate)
    }

    pub(crate) fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bad_values_are_named() {
        Settings::default().validate().unwrap();
        for (name, settings) in [
            (
                "slots",
                Settings {
                    slots: 0,
                    ..Settings::default()
                },
            ),
            (
                "slots",
                Settings {
                    slots: 257,
                    ..Settings::default()
                },
            ),
            (
                "retry_max_millis",
                Settings {
                    retry_max_millis: 1,
                    ..Settings::default()
                },
            ),
            (
                "call_timeout_millis",
                Settings {
                    call_timeout_millis: 0,
                    ..Settings::default()
                },
            ),
            (
                "estimate_percent",
                Settings {
                    estimate_percent: 1_001,
                    ..Settings::default()
                },
            ),
        ] {
            let error = settings.validate().unwrap_err();
            assert!(error.message().contains(name), "{error}");
        }
    }

    #[test]
    fn unknown_fields_are_refused() {
        let read = serde_json::from_str::<Settings>;
        assert_eq!(read(r#"{"slots": 3}"#).unwrap().slots, 3);
        assert!(
            read(r#"{"slot": 3}"#)
                .unwrap_err()
                .to_string()
                .contains("slot")
        );
    }
}
