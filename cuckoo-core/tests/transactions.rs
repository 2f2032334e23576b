//! What becomes of transactions when nodes lie, blocks vanish, fees rise and processes die: each takes effect once.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is a test"
)]

#[path = "chain_outage/link.rs"]
mod link;
#[path = "transactions/proxy.rs"]
mod proxy;
#[path = "transactions/worker.rs"]
mod worker;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    Action, Address, B256, Clock as _, DeployConfig, Entropy as _, Error, ErrorKind, Key, NodeId,
    NodeKind, Profile, Result, Retry, RpcSettings, RpcStaking, SeededEntropy, Slash,
    StakingContract, SystemClock, TxId, TxReceipt, U256, cai, register_with_consent,
};
use futures::future::join;

use link::{Answer, Link, nobody, server};
use proxy::Proxy;
use worker::{Order, journal};

/// Far more than anything may take here; only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

fn key(byte: u8) -> Key {
    Key::from_bytes(B256::repeat_byte(byte)).unwrap()
}

fn id(text: &str) -> TxId {
    TxId::new(text).unwrap()
}

fn settings(url: &str, folder: Option<&Path>) -> RpcSettings {
    RpcSettings {
        poll_millis: 50,
        journal: folder.map(Path::to_owned),
        ..RpcSettings::new(url)
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, work).await.expect("it hangs")
}

/// A market on a chain of its own, and a staker with money.
struct Market {
    anvil: Anvil,
    contracts: Arc<dyn StakingContract>,
    admin: Key,
    staker: Key,
}

impl Market {
    async fn new() -> Self {
        let anvil = Anvil::start().await.unwrap();
        let (admin, staker) = (key(7), key(8));
        anvil.fund(admin.address(), cai(30_000)).await.unwrap();
        anvil.fund(staker.address(), cai(100)).await.unwrap();
        let contracts = RpcStaking::deploy(
            &settings(anvil.url(), None),
            &admin,
            &DeployConfig::demo(),
            Arc::new(SystemClock),
        )
        .await
        .unwrap();
        Self {
            anvil,
            contracts,
            admin,
            staker,
        }
    }

    async fn open(&self, settings: &RpcSettings) -> Result<RpcStaking> {
        RpcStaking::open(settings, Anvil::CHAIN_ID, Arc::new(SystemClock)).await
    }

    /// Stakes one wei under an id.
    async fn stake(&self, chain: &RpcStaking, text: &str) -> Result<TxReceipt> {
        let contracts = chain
            .with_id(id(text))
            .contracts(self.contracts.deployment())
            .await?;
        contracts.stake(&self.staker, U256::ONE).await
    }

    async fn staked(&self) -> U256 {
        self.contracts
            .free_stake(self.staker.address())
            .await
            .unwrap()
    }

    async fn sent(&self) -> u64 {
        self.anvil
            .transaction_count(self.staker.address())
            .await
            .unwrap()
    }

    async fn wait_for_pending(&self) {
        in_time(self.anvil.wait_for_pending(&SystemClock))
            .await
            .unwrap();
    }

    /// Makes a block every so often until `work` is done.
    async fn mining<T>(&self, work: impl Future<Output = T>) -> T {
        let blocks = async {
            loop {
                self.anvil.mine().await.unwrap();
                SystemClock.sleep(Duration::from_millis(100)).await;
            }
        };
        in_time(async {
            tokio::select! { done = work => done, () = blocks => unreachable!() }
        })
        .await
    }
}

/// Nothing by itself: the process that other tests start, kill and start again.
#[tokio::test(flavor = "multi_thread")]
async fn worker() {
    if let Some(order) = Order::given() {
        order.obey().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_transactions_over_a_bad_wire_from_dying_processes_take_effect_once_each() {
    const STAKES: usize = 1_000;
    /// Then a process may finish.
    const KILLS: u32 = 25;
    let seed = u64::from_str_radix(
        &std::env::var("CUCKOO_TEST_SEED").unwrap_or_else(|_| "c0c0".into()),
        16,
    )
    .unwrap();
    println!("CUCKOO_TEST_SEED={seed:x}");
    let entropy = SeededEntropy::from_number(seed);
    let market = Market::new().await;
    let proxy = Proxy::to(market.anvil.url(), seed).await;
    let folder = tempfile::tempdir().unwrap();
    let mut order = Order {
        settings: RpcSettings {
            request_millis: 500,
            ..settings(&proxy.url(), Some(folder.path()))
        },
        deployment: market.contracts.deployment(),
        secret: market.staker.secret_bytes(),
        stakes: STAKES,
        first: 0,
        stay: false,
    };
    market.anvil.hold_blocks().await.unwrap();
    let lives = async {
        let mut kills = 0;
        loop {
            let (mut process, _input) = order.start();
            let output = BufReader::new(process.stdout.take().unwrap());
            // At first it has all to do; later it also learns again what earlier ones did.
            let lines = match kills {
                KILLS => usize::MAX,
                _ => (entropy.number() % 150) as usize,
            };
            let delay = Duration::from_millis(entropy.number() % 30);
            let reading = tokio::task::spawn_blocking(move || {
                let mut output = output.lines().map_while(std::result::Result::ok);
                let done = output.by_ref().filter(|line| line.contains("staked"));
                let finished = done.take(lines).count() < lines;
                // With the rest of it, so that the process goes on writing.
                (finished, output)
            });
            let (finished, output) = reading.await.unwrap();
            if finished {
                assert!(process.wait().unwrap().success(), "seed {seed:x}");
                return kills;
            }
            SystemClock.sleep(delay).await;
            process.kill().unwrap();
            process.wait().unwrap();
            drop(output);
            kills += 1;
            order.first = (entropy.number() % STAKES as u64) as usize;
        }
    };
    let blocks = async {
        loop {
            market.anvil.mine().await.unwrap();
            SystemClock.sleep(Duration::from_millis(100)).await;
        }
    };
    let kills = tokio::time::timeout(4 * HANG, async {
        tokio::select! { kills = lives => kills, () = blocks => unreachable!() }
    });
    let kills: u32 = kills.await.expect("it hangs");
    println!("{kills} processes were killed");
    assert_eq!(kills, KILLS);
    assert_eq!(market.staked().await, U256::from(STAKES), "seed {seed:x}");
    assert_eq!(market.sent().await, STAKES as u64, "seed {seed:x}");
    let (open, signed) = journal(folder.path());
    println!("{signed} signed forms");
    assert_eq!(open, 0, "seed {seed:x}");
}

#[tokio::test]
async fn a_transaction_that_pays_too_little_is_raised_until_it_lands() {
    let market = Market::new().await;
    let folder = tempfile::tempdir().unwrap();
    let chain = market
        .open(&RpcSettings {
            stuck_millis: 300,
            ..settings(market.anvil.url(), Some(folder.path()))
        })
        .await
        .unwrap();
    market.anvil.hold_blocks().await.unwrap();
    let pricey = async {
        market.wait_for_pending().await;
        loop {
            // Ten times what was estimated.
            market.anvil.set_base_fee(50_000_000_000).await.unwrap();
            market.anvil.mine().await.unwrap();
            SystemClock.sleep(Duration::from_millis(100)).await;
        }
    };
    let staked = in_time(async {
        tokio::select! { staked = market.stake(&chain, "stuck") => staked, () = pricey => unreachable!() }
    });
    staked.await.unwrap();
    assert_eq!(market.staked().await, U256::ONE);
    assert_eq!(market.sent().await, 1);
    let (open, signed) = journal(folder.path());
    assert_eq!(open, 0);
    assert!(signed > 1, "it landed without a raise");

    // Beyond the limit nothing is sent.
    let poor = RpcSettings {
        max_fee_per_gas: 1_000,
        ..settings(market.anvil.url(), None)
    };
    let chain = market.open(&poor).await.unwrap();
    let error = market.stake(&chain, "too-dear").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Chain, Retry::Later)
    );
    assert!(
        error.message().contains("more than max_fee_per_gas"),
        "{error}"
    );
}

#[tokio::test]
async fn a_transaction_whose_block_vanishes_lands_again_once() {
    let market = Market::new().await;
    let chain = market
        .open(&RpcSettings {
            confirmations: 3,
            ..settings(market.anvil.url(), None)
        })
        .await
        .unwrap();
    market.anvil.hold_blocks().await.unwrap();
    let vanish = async {
        market.wait_for_pending().await;
        market.anvil.mine().await.unwrap();
        assert_eq!(market.sent().await, 1);
        // So that the actor has seen it there.
        SystemClock.sleep(Duration::from_millis(300)).await;
        market.anvil.reorganise(1).await.unwrap();
        assert_eq!(market.sent().await, 0);
        market.wait_for_pending().await;
        for _ in 0..2 {
            market.anvil.mine().await.unwrap();
        }
        // Two blocks are too few.
        SystemClock.sleep(Duration::from_millis(300)).await;
        assert_eq!(chain.unfinished().await, 1);
        market.anvil.mine().await.unwrap();
    };
    let (staked, ()) = in_time(join(market.stake(&chain, "reorganised"), vanish)).await;
    staked.unwrap();
    assert_eq!((market.staked().await, market.sent().await), (U256::ONE, 1));
}

#[tokio::test]
async fn what_a_deep_reorganisation_takes_out_holds_up_nothing() {
    let market = Market::new().await;
    let chain = market
        .open(&settings(market.anvil.url(), None))
        .await
        .unwrap();
    market.stake(&chain, "first").await.unwrap();
    market.anvil.reorganise(1).await.unwrap();
    assert_eq!(
        (market.staked().await, market.sent().await),
        (U256::ZERO, 0)
    );
    in_time(market.stake(&chain, "second")).await.unwrap();
    assert_eq!(
        (market.staked().await, market.sent().await),
        (U256::from(2), 2)
    );
}

#[tokio::test]
async fn a_missing_nonce_is_used_up() {
    // An account whose journal knows more nonces than the chain, and not their transactions.
    let market = Market::new().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = RpcSettings {
        stuck_millis: 300,
        ..settings(market.anvil.url(), Some(folder.path()))
    };
    let chain = market.open(&settings).await.unwrap();
    market.stake(&chain, "first").await.unwrap();
    drop(chain);
    market.anvil.reorganise(1).await.unwrap();
    let chain = market.open(&settings).await.unwrap();
    in_time(market.stake(&chain, "second")).await.unwrap();
    assert_eq!((market.staked().await, market.sent().await), (U256::ONE, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_has_one_owner() {
    let market = Market::new().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(market.anvil.url(), Some(folder.path()));
    let order = Order {
        settings: settings.clone(),
        deployment: market.contracts.deployment(),
        secret: market.staker.secret_bytes(),
        stakes: 1,
        first: 0,
        stay: true,
    };
    let (mut process, _input) = order.start();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("staked 0")));

    let chain = market.open(&settings).await.unwrap();
    let error = market.stake(&chain, "wei-0").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error.message().contains("is in use by another process")
            && error
                .message()
                .contains(&market.staker.address().to_string()),
        "{error}"
    );
    process.kill().unwrap();
    process.wait().unwrap();
    // What the other process did is known.
    market.stake(&chain, "wei-0").await.unwrap();
    assert_eq!((market.staked().await, market.sent().await), (U256::ONE, 1));
}

#[tokio::test]
async fn a_torn_journal_is_mended_and_a_damaged_one_refused() {
    let market = Market::new().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(market.anvil.url(), Some(folder.path()));
    let chain = market.open(&settings).await.unwrap();
    market.stake(&chain, "one").await.unwrap();
    drop(chain);
    let files = std::fs::read_dir(folder.path()).unwrap();
    let mut paths = files.map(|entry| entry.unwrap().path());
    let path = paths
        .find(|path| path.extension().unwrap() == "journal")
        .unwrap();
    let text = std::fs::read(&path).unwrap();

    std::fs::write(&path, [&text[..], &text[..200]].concat()).unwrap();
    let chain = market.open(&settings).await.unwrap();
    market.stake(&chain, "one").await.unwrap();
    market.stake(&chain, "two").await.unwrap();
    assert_eq!(
        (market.staked().await, market.sent().await),
        (U256::from(2), 2)
    );
    drop(chain);

    let mut damaged = text;
    damaged[300] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let error = market.open(&settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains(path.to_str().unwrap()), "{error}");

    // Another chain of the same id; its first block has another time, in seconds.
    SystemClock.sleep(Duration::from_millis(1_100)).await;
    let other = Market::new().await;
    let settings = RpcSettings {
        urls: vec![other.anvil.url().into()],
        ..settings
    };
    std::fs::remove_file(&path).unwrap();
    let chain = market
        .open(&RpcSettings {
            urls: vec![market.anvil.url().into()],
            ..settings.clone()
        })
        .await
        .unwrap();
    market.stake(&chain, "three").await.unwrap();
    drop(chain);
    let error = other.open(&settings).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("started anew"), "{error}");
}

#[tokio::test]
async fn the_good_node_among_bad_ones_is_found() {
    let market = Market::new().await;
    let other_chain = Anvil::start_as(1_210).await.unwrap();
    // To whoever knows the market's chain, a chain of the same id without blocks is one that is far behind.
    let behind = Anvil::start().await.unwrap();
    let (closed, _held) = nobody();
    let mut urls = vec![format!("http://{closed}")];
    let mut servers = Vec::new();
    for answer in [
        Answer::Silence,
        Answer::Hangup,
        Answer::Text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        Answer::Text("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let (address, server) = server(answer).await;
        urls.push(format!("http://{address}"));
        servers.push(server);
    }
    urls.extend([other_chain.url().into(), behind.url().into()]);
    let link = Link::to(market.anvil.url()).await;
    urls.push(link.url());
    let settings = RpcSettings {
        urls,
        // As long the silent one is waited for; the good one must always be quicker.
        request_millis: 8_000,
        max_lag_blocks: 0,
        ..settings("", None)
    };
    let chain = in_time(market.open(&settings)).await.unwrap();
    for number in 0..10 {
        in_time(market.stake(&chain, &format!("wei-{number}")))
            .await
            .unwrap();
    }
    assert_eq!(
        (market.staked().await, market.sent().await),
        (U256::from(10), 10)
    );
    for bad in [&other_chain, &behind] {
        assert_eq!(
            bad.transaction_count(market.staker.address())
                .await
                .unwrap(),
            0
        );
    }

    // With the good one gone, the one behind is asked; it cannot make what was done look undone.
    link.cut().await;
    in_time(market.stake(&chain, "wei-10")).await.unwrap_err();
    link.mend().await;
    in_time(async {
        while market.stake(&chain, "wei-10").await.is_err() {
            SystemClock.sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(
        (market.staked().await, market.sent().await),
        (U256::from(11), 11)
    );

    let nowhere = RpcSettings {
        urls: settings.urls[..4].to_vec(),
        ..settings
    };
    assert_eq!(
        market.open(&nowhere).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
}

#[tokio::test]
async fn a_nonce_that_somebody_else_used_costs_nothing_but_a_new_signature() {
    let market = Market::new().await;
    let folder = tempfile::tempdir().unwrap();
    let chain = market
        .open(&settings(market.anvil.url(), Some(folder.path())))
        .await
        .unwrap();
    market.anvil.hold_blocks().await.unwrap();
    let elsewhere = async {
        market.wait_for_pending().await;
        market.anvil.drop_pending().await.unwrap();
        // The same key in another program.
        let deployment = market.contracts.deployment();
        let other = settings(market.anvil.url(), None);
        let other = RpcStaking::connect(&other, deployment, Arc::new(SystemClock))
            .await
            .unwrap();
        let sending = other.transfer(&market.staker, Address::repeat_byte(0xee), U256::from(5));
        market.mining(sending).await.unwrap();
    };
    let blocks = async {
        elsewhere.await;
        loop {
            SystemClock.sleep(Duration::from_millis(100)).await;
            market.anvil.mine().await.unwrap();
        }
    };
    in_time(async {
        tokio::select! { staked = market.stake(&chain, "mine") => staked, () = blocks => unreachable!() }
    })
    .await
    .unwrap();
    assert_eq!((market.staked().await, market.sent().await), (U256::ONE, 2));
    assert_eq!(
        market
            .contracts
            .balance(Address::repeat_byte(0xee))
            .await
            .unwrap(),
        U256::from(5)
    );
    assert_eq!(journal(folder.path()), (0, 2));
}

#[tokio::test]
async fn a_transaction_that_cannot_be_paid_any_more_makes_way() {
    let market = Market::new().await;
    let folder = tempfile::tempdir().unwrap();
    let chain = market
        .open(&RpcSettings {
            stuck_millis: 300,
            ..settings(market.anvil.url(), Some(folder.path()))
        })
        .await
        .unwrap();
    market.anvil.hold_blocks().await.unwrap();
    let contracts = chain
        .contracts(market.contracts.deployment())
        .await
        .unwrap();
    let broke = async {
        market.wait_for_pending().await;
        market.anvil.drop_pending().await.unwrap();
        // Enough for the stake, too little for its gas as well.
        let left = cai(50) + U256::ONE;
        market
            .anvil
            .set_balance(market.staker.address(), left)
            .await
            .unwrap();
        while journal(folder.path()).0 > 0 {
            SystemClock.sleep(Duration::from_millis(100)).await;
            market.anvil.mine().await.unwrap();
        }
    };
    let (staked, ()) = in_time(join(contracts.stake(&market.staker, cai(50)), broke)).await;
    let error = staked.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Chain, "{error}");
    assert!(error.message().contains("send it more CAI"), "{error}");
    market.mining(market.stake(&chain, "next")).await.unwrap();
    assert_eq!((market.staked().await, market.sent().await), (U256::ONE, 2));
}

/// Lets an account slash, or no longer.
fn verifier_role(account: &Key, allowed: bool) -> Action {
    Action::SetVerifier {
        account: account.address(),
        allowed,
    }
}

#[tokio::test]
async fn a_revert_between_estimate_and_block_is_told_with_its_reason() {
    let market = Market::new().await;
    let contracts = &market.contracts;
    let deployment = contracts.deployment();
    let (node, _) = register_with_consent(
        &**contracts,
        &market.admin,
        &key(9),
        NodeKind::Miner,
        Profile::default(),
        0,
    )
    .await
    .unwrap();
    contracts.stake(&market.admin, cai(20_000)).await.unwrap();
    contracts
        .vote(&market.admin, node, cai(20_000))
        .await
        .unwrap();
    let verifier = &market.staker;
    contracts
        .submit(&market.admin, verifier_role(verifier, true))
        .await
        .unwrap();
    let slash = || Slash {
        node,
        amount: cai(1),
        evidence: B256::repeat_byte(1),
        reporter: verifier.address(),
        wronged: verifier.address(),
    };

    let link = Link::to(market.anvil.url()).await;
    let settings = RpcSettings {
        stuck_millis: 300,
        ..settings(&link.url(), None)
    };
    let chain = market.open(&settings).await.unwrap();
    let once = chain
        .with_id(id("slash"))
        .contracts(deployment)
        .await
        .unwrap();
    market.anvil.hold_blocks().await.unwrap();
    let overtake = async {
        market.wait_for_pending().await;
        link.cut().await;
        market.anvil.drop_pending().await.unwrap();
        let forbid = contracts.submit(&market.admin, verifier_role(verifier, false));
        market.mining(forbid).await.unwrap();
        link.mend().await;
    };
    let (slashed, ()) = in_time(join(
        once.submit(verifier, Action::Slash(slash())),
        overtake,
    ))
    .await;
    let mut slashed = slashed.map(drop);
    // Whoever asked was told that nobody knows, and asks again.
    for _ in 0..20 {
        match &slashed {
            Err(error) if error.retry() == Retry::Later => {
                slashed = market
                    .mining(once.submit(verifier, Action::Slash(slash())))
                    .await
                    .map(drop);
            }
            _ => break,
        }
    }
    let reverted = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Chain);
        assert!(error.message().contains("the role `verifier`"), "{error}");
    };
    reverted(slashed.unwrap_err());
    assert_eq!(market.sent().await, 1, "it reverted in no block");
    // The outcome stays what it was.
    reverted(
        once.submit(verifier, Action::Slash(slash()))
            .await
            .map(drop)
            .unwrap_err(),
    );
    assert_eq!(market.sent().await, 1);
}

#[tokio::test]
async fn a_caller_and_a_handle_that_leave_take_nothing_back() {
    let market = Market::new().await;
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(market.anvil.url(), Some(folder.path()));
    let chain = market.open(&settings).await.unwrap();
    market.anvil.hold_blocks().await.unwrap();
    in_time(async {
        tokio::select! {
            _ = market.stake(&chain, "left") => panic!("there is no block"),
            () = market.wait_for_pending() => {}
        }
    })
    .await;
    drop(chain);
    // As if the node had been started anew.
    market.anvil.drop_pending().await.unwrap();

    let chain = in_time(async {
        loop {
            let chain = market.open(&settings).await.unwrap();
            // The earlier actor lets go of the journal in a moment.
            if chain.unfinished().await == 1 {
                break chain;
            }
        }
    })
    .await;
    market.wait_for_pending().await;
    market.mining(market.stake(&chain, "left")).await.unwrap();
    assert_eq!((market.staked().await, market.sent().await), (U256::ONE, 1));
    assert_eq!(journal(folder.path()), (0, 1));
}

#[tokio::test]
async fn an_id_names_one_transaction_of_a_key() {
    let market = Market::new().await;
    let chain = market
        .open(&settings(market.anvil.url(), None))
        .await
        .unwrap();
    let deployment = market.contracts.deployment();
    let once = chain
        .with_id(id("once"))
        .contracts(deployment)
        .await
        .unwrap();
    // Asked for at the same time, and later.
    let (one, two) = join(
        once.stake(&market.staker, U256::ONE),
        once.stake(&market.staker, U256::ONE),
    )
    .await;
    let three = once.stake(&market.staker, U256::ONE).await.unwrap();
    assert_eq!((one.unwrap(), two.unwrap()), (three.clone(), three));
    let error = once.stake(&market.staker, U256::from(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!((market.staked().await, market.sent().await), (U256::ONE, 1));

    // Ids are each key's own.
    once.stake(&market.admin, U256::ONE).await.unwrap();
    // What never was sent may be tried again.
    let vote = chain
        .with_id(id("vote"))
        .contracts(deployment)
        .await
        .unwrap();
    for _ in 0..2 {
        let error = vote
            .vote(&market.staker, NodeId(1), cai(1))
            .await
            .unwrap_err();
        assert!(error.message().contains("UnknownNode"), "{error}");
    }
    assert_eq!(market.sent().await, 1);
}
