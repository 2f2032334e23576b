//! A chain that cannot be reached: at the start, and during work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use cuckoo_coordinator::Coordinator;
use cuckoo_core::{
    Action, Address, Change, Contracts, CourtTerms, Dispute, Done, Earnings, Error, ErrorKind,
    Escrow, Fault, Juror, Key, NodeId, NodeKind, Quote, Result, RewardBudget, Snapshot,
    StakingContract, Ticket, U256, Vote, Wei, cai,
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
            fn contracts(&self) -> Contracts {
                self.chain.contracts()
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
    fn ticket(&self, ticket: U256) -> Ticket;
    fn unbonding_seconds(&self) -> u64;
    fn claimable(&self, node: NodeId, staker: Address) -> Wei;
    fn rewards(&self) -> RewardBudget;
    fn consent_nonce(&self, operator: Address) -> U256;
    fn minimum_vote(&self, kind: NodeKind) -> Wei;
    fn escrow(&self, coordinator: NodeId) -> Escrow;
    fn redeemed(&self, coordinator: NodeId, miner: NodeId) -> Wei;
    fn earnings(&self, miner: NodeId) -> Earnings;
    fn court_terms(&self) -> CourtTerms;
    fn dispute(&self, dispute: U256) -> Dispute;
    fn jurors(&self, dispute: U256) -> Vec<Juror>;
    fn quote(&self, from: Address, action: &Action) -> Quote;
    fn submit(&self, from: &Key, action: Action) -> Done;
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

#[tokio::test]
async fn a_chain_may_stop_for_ten_minutes() {
    let mut market = Setup::with_miners(2).open().await;
    let line = Arc::new(Line {
        chain: market.chain.clone(),
        cut: AtomicBool::new(false),
    });
    let mut settings = settings();
    // The escrow, as it was read last, covers all that follows.
    settings.models[0].price = cai(1);
    market.coordinator = Coordinator::builder()
        .settings(settings)
        .chain(line.clone())
        .operator(market.me.operator.clone())
        .clock(market.clock.clone())
        .entropy(market.entropy.clone())
        .start()
        .await
        .unwrap();
    for number in 0..2 {
        let member = market.miners[number].member.clone();
        market.miners[number] = market.join(member).await.unwrap();
    }
    line.cut.store(true, Ordering::SeqCst);
    const SECONDS: u64 = 600;
    for second in 0..SECONDS {
        let handle = market.submit().await;
        settle().await;
        let miner = &market.miners[usize::from(second % 2 == 1)];
        let assignment = miner.take().await.expect("it waits for nobody else");
        miner.complete(&assignment, b"done").await.unwrap();
        handle.result().await.unwrap();
        market.advance(1_000).await;
    }
    let status = market.coordinator.status();
    assert!(status.weights_stale_since.is_some());
    let owed: Wei = (0..2).map(|miner| market.status(miner).owed).sum();
    assert_eq!(owed, cai(SECONDS));
    line.cut.store(false, Ordering::SeqCst);
    market.advance(60_000).await;
    let status = market.coordinator.status();
    assert_eq!(status.weights_stale_since, None);
    println!(
        "chaos|chain stops for 10 simulated minutes|1|{SECONDS}|0|0|0|-|all completed and paid once"
    );
}
