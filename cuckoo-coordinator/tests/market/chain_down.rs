//! A chain that cannot be reached: at the start, and during work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use cuckoo_coordinator::Coordinator;
use cuckoo_core::{
    Address, Change, Deployment, Error, ErrorKind, Escrow, Fault, Key, NodeId, NodeKind, Profile,
    Registration, Result, Signature, SignedVoucher, Slash, Snapshot, StakingContract, TxReceipt,
    U256, Vote, Wei,
};
use futures::stream::BoxStream;

use crate::fixture::{Setup, failure, kind, settings, settle, spec};

/// The real contracts behind a line that a test can cut.
#[derive(Debug)]
struct Line {
    chain: Arc<dyn StakingContract>,
    cut: AtomicBool,
}

impl Line {
    fn open(&self) -> Result<&dyn StakingContract> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(Error::unavailable("the line is cut"));
        }
        Ok(self.chain.as_ref())
    }
}

macro_rules! forward {
    ($(fn $name:ident(&self $(, $argument:ident: $kind:ty)*) -> $reply:ty;)*) => {
        #[async_trait]
        impl StakingContract for Line {
            fn deployment(&self) -> Deployment {
                self.chain.deployment()
            }
            $(async fn $name(&self $(, $argument: $kind)*) -> Result<$reply> {
                self.open()?.$name($($argument),*).await
            })*
        }
    };
}

forward! {
    fn snapshot(&self) -> Snapshot;
    fn changes(&self) -> BoxStream<'static, Result<Change>>;
    fn block_time(&self) -> u64;
    fn balance(&self, account: Address) -> Wei;
    fn free_stake(&self, account: Address) -> Wei;
    fn vote_of(&self, node: NodeId, staker: Address) -> Vote;
    fn consent_nonce(&self, operator: Address) -> U256;
    fn minimum_vote(&self, kind: NodeKind) -> Wei;
    fn escrow(&self, coordinator: NodeId) -> Escrow;
    fn redeemed(&self, coordinator: NodeId, miner: NodeId) -> Wei;
    fn transfer(&self, from: &Key, to: Address, amount: Wei) -> TxReceipt;
    fn stake(&self, staker: &Key, amount: Wei) -> TxReceipt;
    fn vote(&self, staker: &Key, node: NodeId, amount: Wei) -> TxReceipt;
    fn unvote(&self, staker: &Key, node: NodeId, shares: U256) -> (U256, TxReceipt);
    fn release(&self, staker: &Key, ticket: U256) -> TxReceipt;
    fn withdraw(&self, staker: &Key, amount: Wei) -> TxReceipt;
    fn register(&self, owner: &Key, registration: Registration) -> (NodeId, TxReceipt);
    fn set_profile(&self, owner: &Key, node: NodeId, profile: Profile) -> TxReceipt;
    fn set_verifier(&self, admin: &Key, verifier: Address, allowed: bool) -> TxReceipt;
    fn slash(&self, verifier: &Key, slash: Slash) -> (Wei, TxReceipt);
    fn rotate_operator(
        &self,
        owner: &Key,
        node: NodeId,
        operator: Address,
        deadline: u64,
        consent: Signature
    ) -> TxReceipt;
    fn exit(&self, owner: &Key, node: NodeId) -> TxReceipt;
    fn deposit_escrow(&self, from: &Key, coordinator: NodeId, amount: Wei) -> TxReceipt;
    fn request_escrow(&self, owner: &Key, coordinator: NodeId, amount: Wei) -> TxReceipt;
    fn withdraw_escrow(&self, owner: &Key, coordinator: NodeId) -> TxReceipt;
    fn redeem(&self, sender: &Key, voucher: &SignedVoucher) -> (Wei, TxReceipt);
}

#[tokio::test]
async fn a_coordinator_does_not_start_without_its_chain() {
    let market = Setup::with_miners(0).open().await;
    let line = Line {
        chain: market.chain.clone(),
        cut: AtomicBool::new(true),
    };
    let builder = Coordinator::builder()
        .settings(settings())
        .chain(Arc::new(line))
        .operator(market.me.operator.clone())
        .clock(market.clock.clone());
    assert_eq!(kind(builder.start().await), ErrorKind::Unavailable);
}

#[tokio::test]
async fn work_goes_on_with_the_last_weights_while_the_chain_is_down() {
    let mut market = Setup::with_miners(1).open().await;
    let line = Arc::new(Line {
        chain: market.chain.clone(),
        cut: AtomicBool::new(false),
    });
    market.coordinator = Coordinator::builder()
        .settings(settings())
        .chain(line.clone())
        .operator(market.me.operator.clone())
        .clock(market.clock.clone())
        .entropy(market.entropy.clone())
        .start()
        .await
        .unwrap();
    let member = market.miners[0].member.clone();
    market.miners[0] = market.join(member.clone()).await.unwrap();
    settle().await;
    line.cut.store(true, Ordering::SeqCst);
    market.advance(5_000).await;
    let since = market.coordinator.status().weights_stale_since;
    assert!(since.is_some());
    let (handle, assignment) = market.assigned(0).await;
    market.miners[0]
        .complete(&assignment, b"done")
        .await
        .unwrap();
    handle.result().await.unwrap();
    // Sessions too are opened from what was known.
    market.join(member).await.unwrap();
    market.advance(5_000).await;
    assert_eq!(market.coordinator.status().weights_stale_since, since);
    line.cut.store(false, Ordering::SeqCst);
    market.advance(5_000).await;
    assert_eq!(market.coordinator.status().weights_stale_since, None);
}

#[tokio::test]
async fn a_task_that_nobody_could_join_for_names_the_chain() {
    let mut market = Setup::with_miners(0).open().await;
    let line = Arc::new(Line {
        chain: market.chain.clone(),
        cut: AtomicBool::new(false),
    });
    market.coordinator = Coordinator::builder()
        .settings(settings())
        .chain(line.clone())
        .operator(market.me.operator.clone())
        .clock(market.clock.clone())
        .start()
        .await
        .unwrap();
    line.cut.store(true, Ordering::SeqCst);
    market.advance(5_000).await;
    let handle = market.coordinator.submit(spec()).await.unwrap();
    market.advance(120_000).await;
    assert_eq!(failure(&handle), (ErrorKind::Timeout, Fault::Chain));
}
