//! Where a market's contracts are.

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

use crate::{Deployment, Error, Result};

/// Every contract of one market, as `chain deploy` writes them to a file. Those of [`Deployment`] are always there; a market
/// may lack the others, and old files do not name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Contracts {
    /// The chain, `Staking` and `Payments`.
    #[serde(flatten)]
    pub market: Deployment,
    /// Slashes who signed two outputs for one lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equivocation: Option<Address>,
    /// Has vouchers that no escrow covers paid from the coordinator's bond.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpaid_voucher: Option<Address>,
    /// Judges wrong outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub court: Option<Address>,
    /// Delays what the admin does; the admin's own key where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timelock: Option<Address>,
    /// Gives CAI away, on test networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faucet: Option<Address>,
    /// The block the contracts were complete at; nothing before concerns them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_block: Option<u64>,
}

impl From<Deployment> for Contracts {
    fn from(market: Deployment) -> Self {
        Self {
            market,
            equivocation: None,
            unpaid_voucher: None,
            court: None,
            timelock: None,
            faucet: None,
            since_block: None,
        }
    }
}

impl Contracts {
    /// The verifier of equivocation.
    pub(crate) fn equivocation(&self) -> Result<Address> {
        Self::named(self.equivocation, "equivocation")
    }

    /// The verifier of unpaid vouchers.
    pub(crate) fn unpaid_voucher(&self) -> Result<Address> {
        Self::named(self.unpaid_voucher, "unpaid_voucher")
    }

    /// The dispute court.
    pub(crate) fn court(&self) -> Result<Address> {
        Self::named(self.court, "court")
    }

    /// The faucet.
    pub(crate) fn faucet(&self) -> Result<Address> {
        Self::named(self.faucet, "faucet")
    }

    fn named(contract: Option<Address>, name: &str) -> Result<Address> {
        contract.ok_or_else(|| {
            Error::invalid(format!(
                "the deployment names no `{name}` contract; add its address to the deployment file, if this market has one"
            ))
        })
    }
}
