//! A legacy network: contracts that answer as the deployed ones, at the deployed ones' addresses, on a chain of their id.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, TxKind, U256};
use alloy::providers::Provider as _;
use alloy::rpc::json_rpc::{RpcRecv, RpcSend};
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::sol_types::SolCall;
use cuckoo_core::testing::Anvil;
use cuckoo_core::{Clock as _, LegacyNetwork, SystemClock, Wei};

mod abi {
    alloy::sol!(LegacyStakes, "contracts/artifacts/test/LegacyStakes.json");
    alloy::sol!(LegacyVotes, "contracts/artifacts/test/LegacyVotes.json");
}

/// Entries that one transaction sets.
const TOGETHER: usize = 800;

pub(crate) struct Network {
    pub(crate) anvil: Anvil,
    pub(crate) contracts: LegacyNetwork,
    sender: Address,
}

impl Network {
    /// The network without its contracts.
    pub(crate) async fn bare(contracts: LegacyNetwork) -> Self {
        let id = contracts.chain_id.to_string();
        // Transactions as large as a block, and blocks as large as on common chains.
        let arguments = [
            "--chain-id",
            &id,
            "--hardfork",
            "cancun",
            "--gas-limit",
            "60000000",
        ];
        let anvil = Anvil::start_with(&arguments).await.unwrap();
        let senders: Vec<Address> = request(&anvil, "eth_accounts", ()).await;
        Self {
            sender: senders[0],
            anvil,
            contracts,
        }
    }

    /// The network with its contracts, which know nobody.
    pub(crate) async fn start(contracts: LegacyNetwork) -> Self {
        let network = Self::bare(contracts).await;
        network
            .place(&abi::LegacyStakes::BYTECODE, contracts.staking)
            .await;
        network
            .place(&abi::LegacyVotes::BYTECODE, contracts.voting)
            .await;
        network
    }

    /// Puts the code that `creation` creates at `address`.
    async fn place(&self, creation: &Bytes, address: Address) {
        let receipt = self.send(TxKind::Create, creation.clone()).await;
        let created = receipt.contract_address.unwrap();
        let code: Bytes = self.request("eth_getCode", (created, "latest")).await;
        let _: Option<bool> = self.request("anvil_setCode", (address, code)).await;
    }

    pub(crate) async fn set_stakes(&self, stakes: &[(Address, Wei)]) {
        for some in stakes.chunks(TOGETHER) {
            let (stakers, stakes) = some.iter().copied().unzip();
            self.staking(abi::LegacyStakes::setCall { stakers, stakes })
                .await;
        }
    }

    /// Adds a vote for each pair of voter and miner.
    pub(crate) async fn add_votes(&self, votes: &[(Address, Address)]) {
        for some in votes.chunks(TOGETHER) {
            let (voters, miners) = some.iter().copied().unzip();
            self.voting(abi::LegacyVotes::addCall { voters, miners })
                .await;
        }
    }

    pub(crate) async fn add_stale(&self, voter: Address, miner: Address) {
        self.voting(abi::LegacyVotes::addStaleCall { voter, miner })
            .await;
    }

    pub(crate) async fn flood(&self, miner: Address, voters: u64) {
        let voters = U256::from(voters);
        self.voting(abi::LegacyVotes::floodCall { miner, voters })
            .await;
    }

    pub(crate) async fn refuse(&self, account: Address) {
        self.voting(abi::LegacyVotes::refuseCall { account }).await;
    }

    async fn staking(&self, call: impl SolCall) {
        let to = TxKind::Call(self.contracts.staking);
        self.send(to, call.abi_encode().into()).await;
    }

    async fn voting(&self, call: impl SolCall) {
        let to = TxKind::Call(self.contracts.voting);
        self.send(to, call.abi_encode().into()).await;
    }

    async fn send(&self, to: TxKind, input: Bytes) -> TransactionReceipt {
        let transaction = TransactionRequest {
            from: Some(self.sender),
            to: Some(to),
            gas: Some(60_000_000),
            input: input.into(),
            ..TransactionRequest::default()
        };
        let hash: B256 = self.request("eth_sendTransaction", (transaction,)).await;
        loop {
            let receipt: Option<TransactionReceipt> =
                self.request("eth_getTransactionReceipt", (hash,)).await;
            if let Some(receipt) = receipt {
                assert!(receipt.status(), "the test's own transaction failed");
                return receipt;
            }
            SystemClock.sleep(Duration::from_millis(5)).await;
        }
    }

    async fn request<R: RpcRecv>(&self, method: &'static str, parameters: impl RpcSend) -> R {
        request(&self.anvil, method, parameters).await
    }
}

async fn request<R: RpcRecv>(anvil: &Anvil, method: &'static str, parameters: impl RpcSend) -> R {
    let answer = anvil.provider().raw_request(method.into(), parameters);
    answer.await.unwrap()
}
