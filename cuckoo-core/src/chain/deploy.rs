//! Putting the contracts on a chain.

use alloy::primitives::{Address, TxKind, U256};
use alloy::sol_types::SolConstructor as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::abi::payments::Payments;
use super::abi::staking::Staking;
use super::evm::{Evm, Failure};
use crate::amount::{Wei, cai};
use crate::{Deployment, Error, Key, Result};

/// What a market's contracts are deployed with; none of it can be changed later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeployConfig {
    /// Length of an epoch, in seconds: votes count from the next one.
    pub epoch_seconds: u64,
    /// How long stake stays slashable after it was voted off a node, in seconds.
    pub unbonding_seconds: u64,
    /// How long a coordinator's escrow stays redeemable after its withdrawal was announced, in seconds.
    pub withdrawal_delay_seconds: u64,
    /// The least own vote of an active miner's owner, in wei.
    pub miner_minimum: Wei,
    /// The least own vote of an active coordinator's owner, in wei.
    pub coordinator_minimum: Wei,
    /// Share of a slash that is burnt, in hundredths of a percent.
    pub burn_bps: u16,
    /// Share of a slash that rewards who reported it, in hundredths of a percent; the rest goes to the wronged party.
    pub reporter_bps: u16,
}

impl Default for DeployConfig {
    /// The public network's settings: daily epochs, a week of unbonding, 20,000 and 2,000,000 CAI.
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            epoch_seconds: DAY,
            unbonding_seconds: 7 * DAY,
            withdrawal_delay_seconds: DAY,
            miner_minimum: cai(20_000),
            coordinator_minimum: cai(2_000_000),
            burn_bps: 5_000,
            reporter_bps: 1_000,
        }
    }
}

impl DeployConfig {
    /// The same market in quick motion, for demos and tests: epochs of a second, a minute of unbonding.
    pub fn demo() -> Self {
        Self {
            epoch_seconds: 1,
            unbonding_seconds: 60,
            withdrawal_delay_seconds: 60,
            ..Self::default()
        }
    }
}

/// Deploys `Staking` and `Payments`, owned by `admin`.
pub(crate) async fn deploy<E: Evm>(
    evm: &E,
    admin: &Key,
    config: &DeployConfig,
) -> Result<Deployment> {
    let constructor = Staking::constructorCall {
        config: Staking::StakingConfig {
            admin: admin.address(),
            epochLength: config.epoch_seconds,
            unbondingPeriod: config.unbonding_seconds,
            minerMinimum: config.miner_minimum,
            coordinatorMinimum: config.coordinator_minimum,
            burnBps: config.burn_bps,
            reporterBps: config.reporter_bps,
        },
    };
    let staking = create(evm, admin, &Staking::BYTECODE, constructor.abi_encode()).await?;
    let constructor = Payments::constructorCall {
        staking_: staking,
        withdrawalDelay_: config.withdrawal_delay_seconds,
    };
    let payments = create(evm, admin, &Payments::BYTECODE, constructor.abi_encode()).await?;
    Ok(Deployment {
        chain_id: evm.chain_id(),
        staking,
        payments,
    })
}

async fn create<E: Evm>(
    evm: &E,
    admin: &Key,
    bytecode: &[u8],
    arguments: Vec<u8>,
) -> Result<Address> {
    let code = Bytes::from([bytecode, &arguments].concat());
    let mined = evm
        .send(admin, TxKind::Create, U256::ZERO, code)
        .await
        .map_err(Failure::into_error)?;
    mined.contract.ok_or_else(|| {
        Error::chain("the chain accepted the deployment but named no contract; check the endpoint")
    })
}
