//! A chain inside the process: the contracts' bytecode executed by revm, for demos and tests that need nothing but cargo.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes as EvmBytes, TxKind, U256, keccak256};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction, Output};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::database::{CacheDB, DatabaseRef, EmptyDB, WrapDatabaseRef};
use revm::primitives::hardfork::SpecId;
use revm::state::EvmState;
use revm::{Context, DatabaseCommit as _, ExecuteEvm as _, MainBuilder as _, MainContext as _};
use tokio::sync::broadcast::{self, error::RecvError};

use super::evm::{Call, Evm, Failure, Head, MOST_GAS, Mined, MinedLog};
use super::evm_staking::EvmStaking;
use super::{Contracts, DeployConfig, Quote, StakingContract, TxReceipt, deploy};
use crate::{Clock, Error, Key, Result, format_cai};

type Db = CacheDB<EmptyDB>;

/// Price of gas, in wei: low and constant, but not zero, so that an account without CAI fails here as it does elsewhere.
const GAS_PRICE: u64 = 1_000_000_000;
/// Gas a read may use: what a common node's `eth_call` allows, so that a page too large for those fails here too.
const CALL_GAS_LIMIT: u64 = 30_000_000;
/// Logs a slow reader of changes may be behind before it sees a gap.
const LOG_BACKLOG: usize = 4_096;

/// An EVM chain in this process. Clones share one chain.
///
/// Every transaction is a block of its own. Time is the clock's, plus what [`advance`](Self::advance) added; when it has
/// moved on since the last block, a read first adds an empty block, as a live chain would have.
#[derive(Clone)]
pub struct DevChain {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    chain_id: u64,
    state: Mutex<State>,
    logs: broadcast::Sender<MinedLog>,
}

struct State {
    /// Copied on write while a reader holds an older block.
    db: Arc<Db>,
    head: Head,
    skipped: Duration,
}

/// One block's state, kept as long as somebody reads it.
pub(crate) struct View {
    db: Arc<Db>,
    head: Head,
}

impl DevChain {
    /// The chain id unless another is asked for.
    pub const CHAIN_ID: u64 = 1337;

    /// A fresh chain that takes its time from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_chain_id(clock, Self::CHAIN_ID)
    }

    /// A fresh chain with this EIP-155 chain id.
    pub fn with_chain_id(clock: Arc<dyn Clock>, chain_id: u64) -> Self {
        let head = Head {
            number: 0,
            time: clock.now().as_secs(),
        };
        let state = State {
            db: Arc::new(Db::new(EmptyDB::default())),
            head,
            skipped: Duration::ZERO,
        };
        Self {
            shared: Arc::new(Shared {
                clock,
                chain_id,
                state: Mutex::new(state),
                logs: broadcast::Sender::new(LOG_BACKLOG),
            }),
        }
    }

    /// Gives an account `amount` wei out of nothing.
    pub fn fund(&self, account: Address, amount: U256) {
        let mut state = self.locked();
        let db = Arc::make_mut(&mut state.db);
        let mut info = db
            .basic_ref(account)
            .unwrap_or_else(|never| match never {})
            .unwrap_or_default();
        info.balance = info.balance.saturating_add(amount);
        db.insert_account_info(account, info);
    }

    /// Moves the chain's time forward and adds an empty block.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.locked();
        state.skipped = state.skipped.saturating_add(duration);
        drop(state);
        drop(self.caught_up());
    }

    /// Deploys the contracts; `admin` pays and may name verifiers.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain) when `admin` cannot pay for gas ([`fund`](Self::fund) it first) or
    /// the settings are refused.
    pub async fn deploy(
        &self,
        admin: &Key,
        config: &DeployConfig,
    ) -> Result<Arc<dyn StakingContract>> {
        let contracts = deploy::deploy(self, admin, config).await?;
        self.contracts(contracts).await
    }

    /// Access to contracts that are already on this chain.
    ///
    /// # Errors
    /// [`ErrorKind::Chain`](crate::ErrorKind::Chain) when they are not,
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) when the deployment names another chain or mixes two markets.
    pub async fn contracts(
        &self,
        contracts: impl Into<Contracts>,
    ) -> Result<Arc<dyn StakingContract>> {
        Ok(Arc::new(
            EvmStaking::attach(self.clone(), contracts.into()).await?,
        ))
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // The state changes only by whole assignments, so a panicking holder leaves it sound.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, after the empty block that the passage of time calls for.
    fn caught_up(&self) -> MutexGuard<'_, State> {
        let mut state = self.locked();
        let time = self.time(&state);
        if time > state.head.time {
            state.head.number += 1;
            state.head.time = time;
        }
        state
    }

    fn time(&self, state: &State) -> u64 {
        let now = self.shared.clock.now().after(state.skipped).as_secs();
        now.max(state.head.time)
    }

    /// The block and the transaction that come next from `sender`.
    fn next(
        &self,
        state: &State,
        sender: Address,
        to: TxKind,
        value: U256,
        data: Bytes,
    ) -> (Head, TxEnv) {
        let head = Head {
            number: state.head.number + 1,
            time: self.time(state),
        };
        let account = state
            .db
            .basic_ref(sender)
            .unwrap_or_else(|never| match never {});
        let tx = TxEnv {
            caller: sender,
            gas_limit: MOST_GAS,
            gas_price: GAS_PRICE.into(),
            kind: to,
            value,
            data: EvmBytes(data),
            nonce: account.map_or(0, |info| info.nonce),
            chain_id: Some(self.shared.chain_id),
            ..TxEnv::default()
        };
        (head, tx)
    }

    fn config(&self) -> CfgEnv {
        CfgEnv::new()
            .with_spec_and_mainnet_gas_params(SpecId::OSAKA)
            .with_chain_id(self.shared.chain_id)
    }
}

/// What gas costs here, in wei.
fn fee(gas: u64) -> U256 {
    U256::from(gas).saturating_mul(U256::from(GAS_PRICE))
}

/// Executes one transaction on a state that it does not change.
fn execute(
    db: &Db,
    config: CfgEnv,
    head: Head,
    base_fee: u64,
    tx: TxEnv,
) -> Result<(ExecutionResult, EvmState), Failure> {
    let block = BlockEnv {
        number: U256::from(head.number),
        timestamp: U256::from(head.time),
        basefee: base_fee,
        prevrandao: Some(beacon(&config, head)),
        ..BlockEnv::default()
    };
    let mut evm = Context::mainnet()
        .with_db(WrapDatabaseRef(db))
        .with_cfg(config)
        .with_block(block)
        .build_mainnet();
    match evm.transact(tx) {
        Ok(outcome) => Ok((outcome.result, outcome.state)),
        Err(EVMError::Transaction(InvalidTransaction::LackOfFundForMaxFee { fee, balance })) => {
            Err(Error::chain(format!(
                "the account holds {} CAI and the transaction needs {} CAI with its highest fee; send it more CAI",
                format_cai(*balance),
                format_cai(*fee)
            ))
            .into())
        }
        Err(EVMError::Database(never)) => match never {},
        Err(refused) => Err(Error::chain("the chain refused the transaction")
            .with_source(refused.to_string())
            .into()),
    }
}

/// The randomness of a block: no secret, and the same in every run that makes the same blocks.
fn beacon(config: &CfgEnv, head: Head) -> B256 {
    let block = [config.chain_id, head.number, head.time].map(u64::to_be_bytes);
    keccak256(block.concat())
}

/// What a successful execution gave, or how it failed.
fn succeeded(
    result: ExecutionResult,
) -> Result<(Output, Vec<alloy::primitives::Log>, u64), Failure> {
    match result {
        ExecutionResult::Success {
            output, logs, gas, ..
        } => Ok((output, logs, gas.tx_gas_used())),
        ExecutionResult::Revert { output, .. } => Err(Failure::Reverted(output.0)),
        ExecutionResult::Halt { reason, .. } => {
            Err(Error::chain(format!("the contract stopped: {reason:?}")).into())
        }
    }
}

#[async_trait]
impl Evm for DevChain {
    type At = View;

    fn chain_id(&self) -> u64 {
        self.shared.chain_id
    }

    async fn head(&self) -> Result<(Head, View)> {
        let state = self.caught_up();
        let view = View {
            db: Arc::clone(&state.db),
            head: state.head,
        };
        Ok((state.head, view))
    }

    async fn balance(&self, account: Address) -> Result<U256> {
        let info = self
            .locked()
            .db
            .basic_ref(account)
            .unwrap_or_else(|never| match never {});
        Ok(info.map_or(U256::ZERO, |info| info.balance))
    }

    async fn call(&self, at: Option<&View>, to: Address, data: Bytes) -> Result<Bytes, Failure> {
        let (db, head) = match at {
            Some(view) => (Arc::clone(&view.db), view.head),
            None => {
                let state = self.caught_up();
                (Arc::clone(&state.db), state.head)
            }
        };
        let mut config = self.config();
        config.disable_nonce_check = true;
        config.tx_gas_limit_cap = Some(CALL_GAS_LIMIT);
        let tx = TxEnv {
            gas_limit: CALL_GAS_LIMIT,
            gas_price: 0,
            kind: TxKind::Call(to),
            data: EvmBytes(data),
            chain_id: Some(self.shared.chain_id),
            ..TxEnv::default()
        };
        let (result, _) = execute(&db, config, head, 0, tx)?;
        let (output, _, _) = succeeded(result)?;
        Ok(output.into_data().0)
    }

    async fn estimate(
        &self,
        from: Address,
        to: Address,
        value: U256,
        data: Bytes,
    ) -> Result<Quote, Failure> {
        let state = self.locked();
        let (head, tx) = self.next(&state, from, TxKind::Call(to), value, data);
        let (result, _) = execute(&state.db, self.config(), head, GAS_PRICE, tx)?;
        let (_, _, gas) = succeeded(result)?;
        Ok(Quote { gas, fee: fee(gas) })
    }

    async fn call_many(
        &self,
        at: &View,
        calls: &[Call],
        _together: usize,
    ) -> Result<Vec<Result<Bytes, Failure>>> {
        let mut answers = Vec::with_capacity(calls.len());
        for call in calls {
            answers.push(self.call(Some(at), call.to, call.data.clone()).await);
        }
        Ok(answers)
    }

    async fn holds(&self, _at: &View) -> Result<bool> {
        Ok(true)
    }

    async fn send(
        &self,
        from: &Key,
        to: TxKind,
        value: U256,
        data: Bytes,
    ) -> Result<Mined, Failure> {
        let sender = from.address();
        let mut state = self.locked();
        let (head, tx) = self.next(&state, sender, to, value, data);
        let nonce = tx.nonce;
        let (result, changes) = execute(&state.db, self.config(), head, GAS_PRICE, tx)?;
        // A transaction that would fail is not sent, as with a node that estimates gas first: no block, no fee.
        let (output, logs, gas_used) = succeeded(result)?;
        Arc::make_mut(&mut state.db).commit(changes);
        state.head = head;
        for log in &logs {
            // Nobody may be listening.
            let _ = self.shared.logs.send(MinedLog {
                block: head.number,
                log: log.clone(),
            });
        }
        Ok(Mined {
            receipt: TxReceipt {
                hash: transaction_hash(self.shared.chain_id, sender, nonce),
                block: head.number,
                gas_used,
                fee: fee(gas_used),
            },
            contract: output.address().copied(),
            logs,
        })
    }

    async fn logs(&self, contracts: Vec<Address>) -> Result<BoxStream<'static, Result<MinedLog>>> {
        let receiver = self.shared.logs.subscribe();
        let items = stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(mined) => Some((Ok(mined), receiver)),
                Err(RecvError::Lagged(missed)) => Some((
                    Err(Error::unavailable(format!(
                        "{missed} changes were missed because they were read too slowly; take a new snapshot"
                    ))),
                    receiver,
                )),
                Err(RecvError::Closed) => None,
            }
        });
        Ok(items
            .filter(move |item| {
                let wanted = match item {
                    Ok(mined) => contracts.contains(&mined.log.address),
                    Err(_) => true,
                };
                std::future::ready(wanted)
            })
            .boxed())
    }
}

/// Transactions of this chain have no encoding of their own; chain, sender and nonce name one.
fn transaction_hash(chain_id: u64, sender: Address, nonce: u64) -> B256 {
    let mut name = [0; 36];
    name[..8].copy_from_slice(&chain_id.to_be_bytes());
    name[8..28].copy_from_slice(sender.as_slice());
    name[28..].copy_from_slice(&nonce.to_be_bytes());
    keccak256(name)
}

impl fmt::Debug for DevChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevChain")
            .field("chain_id", &self.shared.chain_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{B256, ManualClock, NodeKind, Profile, Timestamp, cai, register_with_consent};

    fn key(byte: u8) -> Key {
        Key::from_bytes(B256::repeat_byte(byte)).unwrap()
    }

    #[tokio::test]
    async fn time_is_the_clocks_and_passes_without_transactions() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let chain = DevChain::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let at = |number, time| Head { number, time };
        assert_eq!(chain.head().await.unwrap().0, at(0, 1_000));
        clock.advance(Duration::from_secs(5));
        assert_eq!(chain.head().await.unwrap().0, at(1, 1_005));
        assert_eq!(chain.head().await.unwrap().0, at(1, 1_005));
        chain.advance(Duration::from_secs(60));
        clock.advance(Duration::from_secs(5));
        assert_eq!(chain.head().await.unwrap().0, at(3, 1_070));
    }

    #[tokio::test]
    async fn a_view_stays_as_it_was() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let chain = DevChain::new(clock);
        let (admin, owner) = (key(1), key(2));
        for account in [&admin, &owner] {
            chain.fund(account.address(), cai(100_000));
        }
        let contracts = chain.deploy(&admin, &DeployConfig::demo()).await.unwrap();
        let staking = contracts.deployment().staking;
        let read = alloy::sol_types::SolCall::abi_encode(
            &super::super::abi::staking::Staking::nodeCountCall {},
        );
        let (_, before) = chain.head().await.unwrap();
        register_with_consent(
            &*contracts,
            &owner,
            &key(3),
            NodeKind::Miner,
            Profile::default(),
            0,
        )
        .await
        .unwrap();
        let (_, after) = chain.head().await.unwrap();
        for (view, count) in [(&before, 0), (&after, 1)] {
            let answer = chain
                .call(Some(view), staking, read.clone().into())
                .await
                .unwrap();
            assert_eq!(U256::from_be_slice(&answer), U256::from(count));
        }
    }
}
