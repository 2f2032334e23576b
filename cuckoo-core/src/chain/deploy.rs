//! Putting the contracts on a chain.

use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy::primitives::{Address, TxKind, U256};
use alloy::sol_types::SolConstructor as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::abi::court::DisputeCourt;
use super::abi::equivocation::EquivocationVerifier;
use super::abi::faucet::Faucet;
use super::abi::payments::Payments;
use super::abi::staking::Staking;
use super::abi::timelock::TimelockController;
use super::abi::unpaid_voucher::UnpaidVoucherVerifier;
use super::calls::{self, Role, Transaction};
use super::evm::{Evm, Failure};
use super::{Action, Contracts};
use crate::amount::{Wei, cai, cai_text};
use crate::{Deployment, Error, Key, Result};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// What a market's contracts are deployed with. Times are seconds, amounts wei (in a file: decimal CAI as text), parts
/// hundredths of a percent. Only the rate of rewards can be changed later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeployConfig {
    /// Length of an epoch: votes count from the next one.
    pub epoch_seconds: u64,
    /// How long stake stays slashable after it was voted off a node.
    pub unbonding_seconds: u64,
    /// How long a coordinator's escrow stays redeemable after its withdrawal was announced.
    pub withdrawal_delay_seconds: u64,
    /// The least own vote of an active miner's owner.
    #[serde(with = "cai_text")]
    pub miner_minimum: Wei,
    /// The least own vote of an active coordinator's owner.
    #[serde(with = "cai_text")]
    pub coordinator_minimum: Wei,
    /// Share of a slash that is burnt.
    pub burn_bps: u16,
    /// Share of a slash that rewards who reported it; the rest goes to the wronged party.
    pub reporter_bps: u16,
    /// Share of redeemed vouchers that goes to the paid miner's stakers.
    pub stakers_bps: u16,
    /// What all active nodes together earn in an epoch.
    #[serde(with = "cai_text")]
    pub reward_per_epoch: Wei,
    /// CAI that the deployer puts into the budget of rewards.
    #[serde(with = "cai_text")]
    pub reward_budget: Wei,
    /// What signing two outputs for one lease costs, as far as the pools reach.
    #[serde(with = "cai_text")]
    pub equivocation_penalty: Wei,
    /// How long a coordinator has to pay a voucher that was demanded, before its bond pays.
    pub notice_seconds: u64,
    /// The dispute court's settings.
    pub court: CourtConfig,
    /// A faucet, on test networks.
    pub faucet: Option<FaucetConfig>,
    /// Whom the contracts obey in the end, through the timelock where there is one: the deployer when absent.
    pub admin: Option<Address>,
    /// Who may pause entries at once: the admin when absent.
    pub guardian: Option<Address>,
    /// How long everybody can see what the admin will do before it is done; without it the admin acts directly.
    pub timelock_seconds: Option<u64>,
}

/// The dispute court's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CourtConfig {
    /// What each side puts up: at least the fees of a full jury.
    #[serde(with = "cai_text")]
    pub bond: Wei,
    /// What a convicted miner is slashed, as far as its pools reach.
    #[serde(with = "cai_text")]
    pub penalty: Wei,
    /// What a juror earns with a dispute.
    #[serde(with = "cai_text")]
    pub jury_fee: Wei,
    /// What a juror that does not reveal is slashed.
    #[serde(with = "cai_text")]
    pub absence_penalty: Wei,
    /// How long the accused's side may answer.
    pub answer_seconds: u64,
    /// How long a jury may be drawn after that.
    pub draw_seconds: u64,
    /// How long jurors may re-compute and commit.
    pub commit_seconds: u64,
    /// How long they may reveal.
    pub reveal_seconds: u64,
    /// Blocks between the answer and the draw.
    pub draw_blocks: u64,
    /// Jurors of a dispute, odd.
    pub jury_size: u8,
    /// How many must reveal for a verdict.
    pub quorum: u8,
}

/// A faucet's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaucetConfig {
    /// What one asking gives.
    #[serde(with = "cai_text")]
    pub amount: Wei,
    /// Accounts that hold more get nothing.
    #[serde(with = "cai_text")]
    pub holding_cap: Wei,
    /// What all get together in a day.
    #[serde(with = "cai_text")]
    pub day_cap: Wei,
    /// How long an account waits for its next.
    pub cool_down_seconds: u64,
    /// CAI that the deployer puts in.
    #[serde(with = "cai_text")]
    pub funds: Wei,
}

impl Default for DeployConfig {
    /// The public network's, [`mainnet`](Self::mainnet).
    fn default() -> Self {
        Self::mainnet()
    }
}

impl Default for CourtConfig {
    /// The public network's.
    fn default() -> Self {
        Self {
            bond: cai(500),
            penalty: cai(20_000),
            jury_fee: cai(50),
            absence_penalty: cai(100),
            answer_seconds: DAY,
            draw_seconds: 6 * HOUR,
            commit_seconds: DAY,
            reveal_seconds: 12 * HOUR,
            draw_blocks: 8,
            jury_size: 7,
            quorum: 5,
        }
    }
}

impl DeployConfig {
    /// The public network's: daily epochs, eight days of unbonding, 20,000 and 2,000,000 CAI. `docs/contracts.md` gives the
    /// reason of each value.
    pub fn mainnet() -> Self {
        Self {
            epoch_seconds: DAY,
            unbonding_seconds: 8 * DAY,
            withdrawal_delay_seconds: 2 * DAY,
            miner_minimum: cai(20_000),
            coordinator_minimum: cai(2_000_000),
            burn_bps: 5_000,
            reporter_bps: 1_000,
            stakers_bps: 1_000,
            reward_per_epoch: cai(50_000),
            reward_budget: Wei::ZERO,
            equivocation_penalty: cai(20_000),
            notice_seconds: 3 * DAY,
            court: CourtConfig::default(),
            faucet: None,
            admin: None,
            guardian: None,
            timelock_seconds: Some(3 * DAY),
        }
    }

    /// A public test network's: the same amounts, hours instead of days, and a faucet.
    pub fn testnet() -> Self {
        Self {
            epoch_seconds: HOUR,
            unbonding_seconds: 8 * HOUR,
            withdrawal_delay_seconds: 2 * HOUR,
            notice_seconds: 3 * HOUR,
            court: CourtConfig {
                answer_seconds: HOUR,
                draw_seconds: HOUR,
                commit_seconds: HOUR,
                reveal_seconds: HOUR,
                jury_size: 3,
                quorum: 2,
                ..CourtConfig::default()
            },
            faucet: Some(FaucetConfig {
                amount: cai(25_000),
                holding_cap: cai(100_000),
                day_cap: cai(10_000_000),
                cool_down_seconds: HOUR,
                funds: Wei::ZERO,
            }),
            timelock_seconds: Some(HOUR),
            ..Self::mainnet()
        }
    }

    /// The same market in quick motion, for demos and tests: epochs of a second, a minute of unbonding, a jury of three, no
    /// timelock.
    pub fn demo() -> Self {
        Self {
            epoch_seconds: 1,
            unbonding_seconds: 60,
            withdrawal_delay_seconds: 60,
            reward_per_epoch: cai(10),
            notice_seconds: 10,
            court: CourtConfig {
                answer_seconds: 10,
                draw_seconds: 10,
                commit_seconds: 15,
                reveal_seconds: 15,
                draw_blocks: 1,
                jury_size: 3,
                quorum: 2,
                ..CourtConfig::default()
            },
            timelock_seconds: None,
            ..Self::mainnet()
        }
    }

    /// CAI that the deployer needs besides the fees, in wei.
    pub fn funds(&self) -> Wei {
        let faucet = self
            .faucet
            .as_ref()
            .map_or(Wei::ZERO, |faucet| faucet.funds);
        self.reward_budget.saturating_add(faucet)
    }
}

/// What a deployment would cost.
#[cfg(all(feature = "dev-chain", feature = "rpc"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployQuote {
    /// The chain's EIP-155 id.
    pub chain_id: u64,
    /// What the deployer holds, in wei.
    pub balance: Wei,
    /// Gas of all its transactions.
    pub gas: u64,
    /// The most that the gas costs at the present price, in wei.
    pub fee: Wei,
}

/// Deploys every contract, lets the verifiers slash, and hands the market to its admin.
///
/// When it fails on the way, the error names what is on the chain already.
pub(crate) async fn deploy<E: Evm>(
    evm: &E,
    deployer: &Key,
    config: &DeployConfig,
) -> Result<Contracts> {
    let deploying = Deploying::new(evm, deployer);
    let contracts = deploying.everything(config).await;
    contracts.map_err(|error| deploying.stopped(error))
}

/// What [`deploy`] would cost now, by a rehearsal on a chain in this process: settings that a contract would refuse are
/// refused here, before anything is paid.
#[cfg(all(feature = "dev-chain", feature = "rpc"))]
pub(crate) async fn quote<E: Evm>(
    evm: &E,
    deployer: &Key,
    config: &DeployConfig,
) -> Result<DeployQuote> {
    let stage = super::DevChain::new(std::sync::Arc::new(crate::SystemClock));
    // Enough for any fee: what it costs there is not what it costs on a real chain.
    stage.fund(
        deployer.address(),
        config.funds().saturating_add(cai(1_000)),
    );
    let rehearsal = Deploying::new(&stage, deployer);
    rehearsal.everything(config).await?;
    let gas = rehearsal.progress().gas;
    let account = deployer.address();
    let transfer = evm
        .estimate(account, account, U256::ZERO, Bytes::new())
        .await
        .map_err(Failure::into_error)?;
    let price = transfer.fee / U256::from(transfer.gas.max(1));
    Ok(DeployQuote {
        chain_id: evm.chain_id(),
        balance: evm.balance(account).await?,
        gas,
        fee: price.saturating_mul(U256::from(gas)),
    })
}

struct Deploying<'a, E> {
    evm: &'a E,
    deployer: &'a Key,
    progress: Mutex<Progress>,
}

/// What was done so far.
#[derive(Debug, Default, Clone)]
struct Progress {
    gas: u64,
    contracts: Vec<(&'static str, Address)>,
}

impl<'a, E: Evm> Deploying<'a, E> {
    fn new(evm: &'a E, deployer: &'a Key) -> Self {
        Self {
            evm,
            deployer,
            progress: Mutex::default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn everything(&self, config: &DeployConfig) -> Result<Contracts> {
        let market = self.market(config).await?;
        let mut contracts = Contracts::from(market);
        self.verifiers(config, &mut contracts).await?;
        self.faucet(config, &mut contracts).await?;
        self.hand_over(config, &mut contracts).await?;
        contracts.since_block = Some(self.evm.head().await?.0.number);
        Ok(contracts)
    }

    fn stopped(&self, error: Error) -> Error {
        let done = self.progress().contracts.clone();
        if done.is_empty() {
            return error;
        }
        let names: Vec<_> = done
            .iter()
            .map(|(name, address)| format!("{name} {address}"))
            .collect();
        Error::new(
            error.kind(),
            format!(
                "the deployment stopped halfway. On the chain, and of no use without the rest: {}. Put right what follows and deploy again",
                names.join(", ")
            ),
        )
        .with_retry(error.retry())
        .with_source(error)
    }

    async fn market(&self, config: &DeployConfig) -> Result<Deployment> {
        let constructor = Staking::constructorCall {
            config: Staking::StakingConfig {
                admin: self.deployer.address(),
                epochLength: config.epoch_seconds,
                unbondingPeriod: config.unbonding_seconds,
                minerMinimum: config.miner_minimum,
                coordinatorMinimum: config.coordinator_minimum,
                burnBps: config.burn_bps,
                reporterBps: config.reporter_bps,
            },
        };
        let staking = self
            .create("Staking", &Staking::BYTECODE, constructor.abi_encode())
            .await?;
        let constructor = Payments::constructorCall {
            staking_: staking,
            withdrawalDelay_: config.withdrawal_delay_seconds,
            stakersBps_: config.stakers_bps,
        };
        let payments = self
            .create("Payments", &Payments::BYTECODE, constructor.abi_encode())
            .await?;
        Ok(Deployment {
            chain_id: self.evm.chain_id(),
            staking,
            payments,
        })
    }

    async fn verifiers(&self, config: &DeployConfig, contracts: &mut Contracts) -> Result<()> {
        let Deployment {
            staking, payments, ..
        } = contracts.market;
        let constructor = EquivocationVerifier::constructorCall {
            staking_: staking,
            penalty_: config.equivocation_penalty,
        };
        let equivocation = self
            .create(
                "EquivocationVerifier",
                &EquivocationVerifier::BYTECODE,
                constructor.abi_encode(),
            )
            .await?;
        let constructor = UnpaidVoucherVerifier::constructorCall {
            payments_: payments,
            noticePeriod_: config.notice_seconds,
        };
        let unpaid_voucher = self
            .create(
                "UnpaidVoucherVerifier",
                &UnpaidVoucherVerifier::BYTECODE,
                constructor.abi_encode(),
            )
            .await?;
        let court = &config.court;
        let constructor = DisputeCourt::constructorCall {
            staking_: staking,
            c: DisputeCourt::CourtConfig {
                bond: court.bond,
                penalty: court.penalty,
                juryFee: court.jury_fee,
                absencePenalty: court.absence_penalty,
                answerTime: court.answer_seconds,
                drawTime: court.draw_seconds,
                commitTime: court.commit_seconds,
                revealTime: court.reveal_seconds,
                drawBlocks: court.draw_blocks,
                jurySize: court.jury_size,
                quorum: court.quorum,
            },
        };
        let court = self
            .create(
                "DisputeCourt",
                &DisputeCourt::BYTECODE,
                constructor.abi_encode(),
            )
            .await?;
        for verifier in [equivocation, unpaid_voucher, court] {
            self.send(calls::role(staking, Role::Verifier, verifier, true))
                .await?;
        }
        contracts.equivocation = Some(equivocation);
        contracts.unpaid_voucher = Some(unpaid_voucher);
        contracts.court = Some(court);
        Ok(())
    }

    async fn faucet(&self, config: &DeployConfig, contracts: &mut Contracts) -> Result<()> {
        let Some(faucet) = &config.faucet else {
            return Ok(());
        };
        let constructor = Faucet::constructorCall {
            owner_: config.admin.unwrap_or_else(|| self.deployer.address()),
            config_: Faucet::FaucetConfig {
                amount: faucet.amount.saturating_to(),
                holdingCap: faucet.holding_cap.saturating_to(),
                dayCap: faucet.day_cap.saturating_to(),
                coolDown: faucet.cool_down_seconds,
            },
        };
        let address = self
            .create("Faucet", &Faucet::BYTECODE, constructor.abi_encode())
            .await?;
        if !faucet.funds.is_zero() {
            self.act(
                contracts,
                Action::Transfer {
                    to: address,
                    amount: faucet.funds,
                },
            )
            .await?;
        }
        contracts.faucet = Some(address);
        Ok(())
    }

    /// Sets what only an admin may, then gives the role away where the deployer is not meant to keep it.
    async fn hand_over(&self, config: &DeployConfig, contracts: &mut Contracts) -> Result<()> {
        let staking = contracts.market.staking;
        let deployer = self.deployer.address();
        let admin = config.admin.unwrap_or(deployer);
        self.send(calls::role(
            staking,
            Role::Pauser,
            config.guardian.unwrap_or(admin),
            true,
        ))
        .await?;
        if !config.reward_budget.is_zero() {
            let amount = config.reward_budget;
            self.act(contracts, Action::FundRewards { amount }).await?;
        }
        let per_epoch = config.reward_per_epoch;
        self.act(contracts, Action::SetRewardRate { per_epoch })
            .await?;
        let owner = match config.timelock_seconds {
            None => admin,
            Some(delay) => {
                let constructor = TimelockController::constructorCall {
                    minDelay: U256::from(delay),
                    proposers: vec![admin],
                    // Once its time has come, anybody may execute what was announced.
                    executors: vec![Address::ZERO],
                    admin: Address::ZERO,
                };
                let timelock = self
                    .create(
                        "TimelockController",
                        &TimelockController::BYTECODE,
                        constructor.abi_encode(),
                    )
                    .await?;
                contracts.timelock = Some(timelock);
                timelock
            }
        };
        if owner != deployer {
            self.send(calls::role(staking, Role::Admin, owner, true))
                .await?;
            self.send(calls::role(staking, Role::Admin, deployer, false))
                .await?;
        }
        Ok(())
    }

    async fn act(&self, contracts: &Contracts, action: Action) -> Result<()> {
        self.send(calls::call(contracts, self.deployer.address(), &action)?)
            .await
    }

    async fn send(&self, call: Transaction) -> Result<()> {
        let mined = self
            .evm
            .send(self.deployer, TxKind::Call(call.to), call.value, call.data)
            .await
            .map_err(Failure::into_error)?;
        self.progress().gas += mined.receipt.gas_used;
        Ok(())
    }

    async fn create(
        &self,
        name: &'static str,
        bytecode: &[u8],
        arguments: Vec<u8>,
    ) -> Result<Address> {
        let code = Bytes::from([bytecode, &arguments].concat());
        let mined = self
            .evm
            .send(self.deployer, TxKind::Create, U256::ZERO, code)
            .await
            .map_err(Failure::into_error)?;
        let address = mined.contract.ok_or_else(|| {
            Error::chain(
                "the chain accepted the deployment but named no contract; check the endpoint",
            )
        })?;
        let mut progress = self.progress();
        progress.gas += mined.receipt.gas_used;
        progress.contracts.push((name, address));
        Ok(address)
    }
}

#[cfg(all(test, feature = "dev-chain"))]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{DevChain, ErrorKind, SeededEntropy, SystemClock};

    #[tokio::test]
    async fn a_deployment_that_stops_says_what_is_there() {
        let deployer = Key::random(&SeededEntropy::from_number(1));
        let chain = DevChain::new(Arc::new(SystemClock));
        chain.fund(deployer.address(), cai(1_000));
        let first = DeployConfig {
            epoch_seconds: 0,
            ..DeployConfig::demo()
        };
        let error = deploy(&chain, &deployer, &first).await.unwrap_err();
        assert!(error.message().contains("epochLength"), "{error}");
        assert!(!error.to_string().contains("halfway"), "{error}");

        let fourth = DeployConfig {
            notice_seconds: 0,
            ..DeployConfig::demo()
        };
        let error = deploy(&chain, &deployer, &fourth).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Chain);
        let text = error.to_string();
        for part in [
            "halfway",
            "Staking 0x",
            "Payments 0x",
            "EquivocationVerifier 0x",
            "noticePeriod",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("UnpaidVoucherVerifier 0x"), "{text}");
    }
}
