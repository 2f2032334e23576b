//! A large market on anvil, made by the contract `Crowd`: thousands of accounts that call the staking contract.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::{SolCall as _, SolConstructor as _};
use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    Clock as _, DeployConfig, Deployment, Error, Key, NodeKind, OperatorConsent, Result,
    RpcSettings, RpcStaking, Signed, SystemClock, Wei, cai,
};

mod abi {
    alloy::sol!(Crowd, "contracts/artifacts/test/Crowd.json");
}

/// Citizens that one transaction creates, or has vote.
const TOGETHER: u64 = 250;
/// CAI that a citizen votes with for its own miner, and for each other one.
const OWN: u64 = 20_000;
const OTHER: u64 = 1_000;

/// The contract `Crowd` on an anvil, and the account that commands it.
pub(crate) struct Crowd<'a> {
    anvil: &'a Anvil,
    deployment: Deployment,
    sender: Address,
    address: Address,
}

impl<'a> Crowd<'a> {
    /// Deploys a market and a crowd for it.
    pub(crate) async fn new(anvil: &'a Anvil) -> Result<Self> {
        let admin = Key::from_bytes(B256::repeat_byte(7))?;
        anvil.fund(admin.address(), cai(100)).await?;
        let settings = RpcSettings::new(anvil.url());
        let config = DeployConfig::default();
        let market = RpcStaking::deploy(&settings, &admin, &config, Arc::new(SystemClock)).await?;
        let senders: Vec<Address> = request(anvil, "eth_accounts", ()).await?;
        let [sender, ..] = senders[..] else {
            return Err(Error::unavailable("anvil has no account of its own"));
        };
        anvil.fund(sender, cai(10_000_000_000)).await?;
        let mut crowd = Self {
            anvil,
            deployment: market.deployment(),
            sender,
            address: Address::ZERO,
        };
        let constructor = abi::Crowd::constructorCall {
            staking: crowd.deployment.staking,
        };
        let code = [&abi::Crowd::BYTECODE[..], &constructor.abi_encode()].concat();
        let receipt = crowd.send(TxKind::Create, Wei::ZERO, code).await?;
        crowd.address = receipt
            .contract_address
            .ok_or_else(|| Error::chain("anvil created no contract"))?;
        Ok(crowd)
    }

    /// Registers so many miners and gives each so many votes, one of them its owner's; then lets an epoch pass, so that
    /// they count.
    pub(crate) async fn fill(self, nodes: u64, votes: u64) -> Result<Deployment> {
        for first in (0..nodes).step_by(TOGETHER as usize) {
            let count = TOGETHER.min(nodes - first);
            let stake = Self::weight(votes) * U256::from(count);
            let call = abi::Crowd::admitCall {
                entrants: (first..first + count)
                    .map(|number| self.entrant(number))
                    .collect::<Result<_>>()?,
                deadline: U256::from(u64::MAX),
            };
            self.send(TxKind::Call(self.address), stake, call.abi_encode())
                .await?;
        }
        for first in (0..nodes).step_by(TOGETHER as usize) {
            let call = abi::Crowd::voteCall {
                first,
                count: TOGETHER.min(nodes - first),
                own: cai(OWN),
                others: votes - 1,
                other: cai(OTHER),
            };
            self.send(TxKind::Call(self.address), Wei::ZERO, call.abi_encode())
                .await?;
        }
        let epoch = DeployConfig::default().epoch_seconds;
        self.anvil.advance(Duration::from_secs(epoch)).await?;
        Ok(self.deployment)
    }

    /// What every miner weighs.
    pub(crate) fn weight(votes: u64) -> Wei {
        cai(OWN + OTHER * (votes - 1))
    }

    fn entrant(&self, number: u64) -> Result<abi::Crowd::Entrant> {
        let operator = Key::from_bytes(B256::from(U256::from(0xc0c0_0000 + number)))?;
        let consent = OperatorConsent {
            // The contract's first creation has nonce 1.
            owner: self.address.create(number + 1),
            operator: operator.address(),
            kind: NodeKind::Miner,
            nonce: U256::ZERO,
            deadline: u64::MAX,
        };
        let consent = Signed::sign(consent, &operator, &self.deployment).signature;
        Ok(abi::Crowd::Entrant {
            operator: operator.address(),
            profile: abi::Crowd::Profile {
                name: format!("miner {number}"),
                description: "two graphics cards in a cellar; pictures and chat".into(),
                endpoint: String::new(),
            },
            consent: consent.as_bytes().to_vec().into(),
        })
    }

    async fn send(&self, to: TxKind, value: Wei, input: Vec<u8>) -> Result<TransactionReceipt> {
        let transaction = TransactionRequest {
            from: Some(self.sender),
            to: Some(to),
            value: Some(value),
            gas: Some(2_500_000_000),
            input: Bytes::from(input).into(),
            ..TransactionRequest::default()
        };
        let hash: B256 = request(self.anvil, "eth_sendTransaction", (transaction,)).await?;
        loop {
            let receipt: Option<TransactionReceipt> =
                request(self.anvil, "eth_getTransactionReceipt", (hash,)).await?;
            match receipt {
                Some(receipt) if receipt.status() => return Ok(receipt),
                Some(_) => return Err(Error::chain(format!("transaction {hash} failed"))),
                None => SystemClock.sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

async fn request<P, R>(anvil: &Anvil, method: &'static str, parameters: P) -> Result<R>
where
    P: alloy::rpc::json_rpc::RpcSend,
    R: alloy::rpc::json_rpc::RpcRecv,
{
    let answer = anvil.provider().raw_request(method.into(), parameters);
    answer
        .await
        .map_err(|source| Error::unavailable(format!("anvil refused {method}")).with_source(source))
}
