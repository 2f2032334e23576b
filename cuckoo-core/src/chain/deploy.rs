//! Putting the contracts on a chain.

mod config;

use alloy::primitives::{Address, TxKind, U256};
use alloy::sol_types::SolConstructor as _;
use bytes::Bytes;
#[cfg(all(feature = "dev-chain", feature = "rpc"))]
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
use crate::amount::Wei;
#[cfg(all(feature = "dev-chain", any(feature = "rpc", test)))]
use crate::amount::cai;
use crate::{Deployment, Error, Key, Result};

pub use self::config::{CourtConfig, DeployConfig, FaucetConfig};

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
    let mut deploying = Deploying::new(evm, deployer);
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
    clock: std::sync::Arc<dyn crate::Clock>,
) -> Result<DeployQuote> {
    let stage = super::DevChain::new(clock);
    // Enough for any fee: what it costs there is not what it costs on a real chain.
    stage.fund(
        deployer.address(),
        config.funds().saturating_add(cai(1_000)),
    );
    let mut rehearsal = Deploying::new(&stage, deployer);
    rehearsal.everything(config).await?;
    let gas = rehearsal.gas;
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
    /// Used so far.
    gas: u64,
    /// On the chain so far.
    created: Vec<(&'static str, Address)>,
}

impl<'a, E: Evm> Deploying<'a, E> {
    fn new(evm: &'a E, deployer: &'a Key) -> Self {
        Self {
            evm,
            deployer,
            gas: 0,
            created: Vec::new(),
        }
    }

    async fn everything(&mut self, config: &DeployConfig) -> Result<Contracts> {
        let market = self.market(config).await?;
        let mut contracts = Contracts::from(market);
        self.verifiers(config, &mut contracts).await?;
        self.faucet(config, &mut contracts).await?;
        self.hand_over(config, &mut contracts).await?;
        contracts.since_block = Some(self.evm.head().await?.0.number);
        Ok(contracts)
    }

    fn stopped(&self, error: Error) -> Error {
        if self.created.is_empty() {
            return error;
        }
        let names: Vec<_> = self
            .created
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

    async fn market(&mut self, config: &DeployConfig) -> Result<Deployment> {
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

    async fn verifiers(&mut self, config: &DeployConfig, contracts: &mut Contracts) -> Result<()> {
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

    async fn faucet(&mut self, config: &DeployConfig, contracts: &mut Contracts) -> Result<()> {
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
    async fn hand_over(&mut self, config: &DeployConfig, contracts: &mut Contracts) -> Result<()> {
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

    async fn act(&mut self, contracts: &Contracts, action: Action) -> Result<()> {
        self.send(calls::call(contracts, self.deployer.address(), &action)?)
            .await
    }

    async fn send(&mut self, call: Transaction) -> Result<()> {
        let mined = self
            .evm
            .send(self.deployer, TxKind::Call(call.to), call.value, call.data)
            .await
            .map_err(Failure::into_error)?;
        self.gas += mined.receipt.gas_used;
        Ok(())
    }

    async fn create(
        &mut self,
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
        self.gas += mined.receipt.gas_used;
        self.created.push((name, address));
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

    #[tokio::test]
    async fn a_market_behind_a_timelock_obeys_neither_its_deployer_nor_its_admin_at_once() {
        let entropy = SeededEntropy::from_number(2);
        let [deployer, admin, guardian] = [(); 3].map(|()| Key::random(&entropy));
        let chain = DevChain::new(Arc::new(SystemClock));
        for account in [&deployer, &admin, &guardian] {
            chain.fund(account.address(), cai(1_000));
        }
        let config = DeployConfig {
            admin: Some(admin.address()),
            guardian: Some(guardian.address()),
            timelock_seconds: Some(3_600),
            ..DeployConfig::demo()
        };
        let market = chain.deploy(&deployer, &config).await.unwrap();
        assert!(market.contracts().timelock.is_some());
        let grant = Action::SetVerifier {
            account: admin.address(),
            allowed: true,
        };
        let rate = Action::SetRewardRate {
            per_epoch: Wei::ZERO,
        };
        for (key, action, role) in [
            (&deployer, grant.clone(), "admin"),
            (&deployer, rate.clone(), "admin"),
            (&deployer, Action::Pause, "pauser"),
            (&admin, grant, "admin"),
            (&admin, rate, "admin"),
            (&admin, Action::Pause, "pauser"),
        ] {
            let error = market.submit(key, action.clone()).await.unwrap_err();
            let named = error.message().contains(&format!("the role `{role}`"));
            assert!(named, "{action}: {error}");
        }
        market.submit(&guardian, Action::Pause).await.unwrap();
        let error = market.submit(&guardian, Action::Unpause).await.unwrap_err();
        assert!(error.message().contains("the role `admin`"), "{error}");
        assert_eq!(
            market.rewards().await.unwrap().per_epoch,
            config.reward_per_epoch
        );
    }
}
