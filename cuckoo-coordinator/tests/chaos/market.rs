//! A market of processes: a chain node that stays, and a coordinator and miners that die and come again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cuckoo_coordinator::{MarketStatus, ModelSettings, Settings};
use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    Clock as _, DeployConfig, Deployment, Entropy, Key, LeaseId, LocalMarket, Member, NodeId,
    RpcSettings, RpcStaking, SeededEntropy, SystemClock, Wei, cai, http_client, paths,
};
use tokio::sync::watch;

use crate::books::{Books, Found};
use crate::chain::Wire;
use crate::host::{Chain, Hosting};
use crate::process::{Order, Process, Said};
use crate::requester::Requesters;
use crate::worker::{MODEL, Working};

/// Far more than anything may take; only a hang reaches it.
const HANG: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);

/// What is to be different.
pub(crate) struct Plan {
    pub(crate) miners: usize,
    pub(crate) audit_probability: f64,
    pub(crate) lease_millis: u64,
    pub(crate) longest_output: u64,
}

/// The market under torture.
pub(crate) struct Market {
    pub(crate) seed: u64,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) requesters: Arc<Requesters>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) wire: Wire,
    _anvil: Anvil,
    chain: Chain,
    members: Vec<Member>,
    hosting: Hosting,
    wrapper: Vec<String>,
}

/// What processes told.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The highest voucher that each miner was shown.
    pub(crate) vouchers: HashMap<NodeId, Wei>,
    /// In which life of the coordinator a lease was granted.
    assigned: HashMap<LeaseId, u32>,
    /// The coordinator's lives so far.
    pub(crate) lives: u32,
    pub(crate) accepted: usize,
    /// Accepted in a later life than the lease was granted in.
    pub(crate) carried: usize,
    pub(crate) sessions: usize,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

impl Seen {
    fn hear(&mut self, said: Said) {
        match said {
            Said::Serving(_) => {}
            Said::Session => self.sessions += 1,
            Said::Assigned(lease) => {
                self.assigned.insert(lease, self.lives);
            }
            Said::Accepted(lease) => {
                self.accepted += 1;
                let granted = self.assigned.get(&lease);
                self.carried += usize::from(granted.is_some_and(|life| *life < self.lives));
            }
            Said::Voucher { miner, cumulative } => {
                let highest = self.vouchers.entry(miner).or_default();
                *highest = cumulative.max(*highest);
            }
            Said::Wrong(what) => self.wrong.push(what),
        }
    }
}

/// A coordinator's process.
pub(crate) struct Host {
    pub(crate) process: Process,
    serving: watch::Receiver<Option<SocketAddr>>,
}

impl Host {
    /// Waits until it serves.
    pub(crate) async fn serving(&mut self) -> SocketAddr {
        let address = tokio::time::timeout(HANG, self.serving.wait_for(Option::is_some));
        let address = *address.await.expect("it does not start").expect("it ended");
        address.unwrap()
    }
}

pub(crate) fn price() -> Wei {
    cai(1) / Wei::from(1_000)
}

impl Market {
    /// A market whose coordinator runs already and keeps its things in `folder`; `wrapper` is the command that runs it.
    pub(crate) async fn open(
        seed: u64,
        plan: &Plan,
        folder: PathBuf,
        wrapper: Vec<String>,
    ) -> (Self, Host) {
        let entropy = Arc::new(SeededEntropy::from_number(seed));
        let anvil = Anvil::start_ticking()
            .await
            .expect("anvil; `make setup` installs it");
        let rpc = RpcSettings {
            poll_millis: 200,
            ..RpcSettings::new(anvil.url())
        };
        let treasury = Key::random(entropy.as_ref());
        anvil
            .fund(treasury.address(), cai(20_000_000))
            .await
            .unwrap();
        let clock = Arc::new(SystemClock);
        let contracts = RpcStaking::deploy(&rpc, &treasury, &DeployConfig::demo(), clock)
            .await
            .unwrap();
        let local = LocalMarket::new(contracts.clone(), treasury, entropy.clone());
        let host = local
            .add_coordinator("host", cai(2_000_000), cai(1_000))
            .await
            .unwrap();
        let mut members = Vec::new();
        for _ in 0..plan.miners {
            members.push(local.add_miner("miner", cai(20_000)).await.unwrap());
        }
        let everybody: Vec<_> = members.iter().chain([&host]).collect();
        local.settle(&everybody, &SystemClock, HANG).await.unwrap();
        let wire = Wire::to(anvil.url()).await;
        let chain = Chain {
            rpc: RpcSettings {
                urls: vec![format!("http://{}", wire.address)],
                request_millis: 1_000,
                ..rpc
            },
            deployment: contracts.deployment(),
        };
        let mut hosting = Hosting {
            chain: chain.clone(),
            operator: host.operator.secret_bytes(),
            folder,
            address: "127.0.0.1:0".parse().unwrap(),
            settings: Settings {
                models: vec![ModelSettings::new(MODEL.parse().unwrap(), price())],
                audit_probability: plan.audit_probability,
                audit_wait_millis: 2_000,
                lease_millis: plan.lease_millis,
                heartbeat_millis: plan.lease_millis / 4,
                retry_pause_millis: 100,
                ..Settings::default()
            },
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut host = start(&hosting, &wrapper, &seen);
        hosting.address = host.serving().await;
        let requesters = Requesters::new(hosting.address, entropy.clone(), plan.longest_output);
        let market = Self {
            seed,
            entropy,
            requesters: Arc::new(requesters),
            seen,
            wire,
            _anvil: anvil,
            chain,
            members,
            hosting,
            wrapper,
        };
        (market, host)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.hosting.address
    }

    /// A random time from zero to `most` milliseconds.
    pub(crate) async fn sleep_up_to(&self, most: u64) {
        let millis = self.entropy.number() % (most + 1);
        SystemClock.sleep(Duration::from_millis(millis)).await;
    }

    /// Starts the coordinator again; it may not serve yet.
    pub(crate) fn start_host(&self) -> Host {
        self.seen.lock().unwrap().lives += 1;
        start(&self.hosting, &self.wrapper, &self.seen)
    }

    pub(crate) fn start_miners(&self) -> Vec<Process> {
        (0..self.members.len())
            .map(|number| self.start_miner(number))
            .collect()
    }

    pub(crate) fn start_miner(&self, number: usize) -> Process {
        let member = &self.members[number];
        let owed = self
            .seen
            .lock()
            .unwrap()
            .vouchers
            .get(&member.node)
            .copied();
        let working = Working {
            chain: self.chain.clone(),
            operator: member.operator.secret_bytes(),
            coordinator: self.address(),
            owed: owed.unwrap_or_default(),
        };
        let seen = Arc::clone(&self.seen);
        Process::start(&Order::Work(Box::new(working)), &[], move |said| {
            seen.lock().unwrap().hear(said);
        })
    }

    /// Puts so many requesters to work.
    pub(crate) fn start_requesters(&self, count: usize) -> Vec<tokio::task::JoinHandle<()>> {
        let ask = |_| {
            let requesters = Arc::clone(&self.requesters);
            tokio::spawn(async move { requesters.ask().await })
        };
        (0..count).map(ask).collect()
    }

    /// Waits until so many more tasks are acknowledged.
    pub(crate) async fn more(&self, tasks: usize) {
        let until = self.requesters.acknowledged() + tasks;
        self.wait_for("more tasks", || self.requesters.acknowledged() >= until)
            .await;
    }

    /// Waits until the coordinator calls its weights stale, or no longer does.
    pub(crate) async fn wait_for_weights(&self, stale: bool) {
        let waiting = async {
            while self.status().await.weights_stale_since.is_some() != stale {
                SystemClock.sleep(PAUSE).await;
            }
        };
        let in_time = tokio::time::timeout(HANG, waiting).await;
        in_time.unwrap_or_else(|_| panic!("seed {}: never stale: {stale}", self.seed));
    }

    pub(crate) async fn wait_for(&self, what: &str, is_there: impl Fn() -> bool) {
        let waiting = async {
            while !is_there() {
                SystemClock.sleep(PAUSE).await;
            }
        };
        let in_time = tokio::time::timeout(HANG, waiting).await;
        in_time.unwrap_or_else(|_| panic!("seed {}: no {what} came", self.seed));
    }

    /// Waits until all that was asked for has ended.
    pub(crate) async fn drain(&self, asking: Vec<tokio::task::JoinHandle<()>>) {
        self.requesters.enough();
        let drained = async {
            for requester in asking {
                requester.await.unwrap();
            }
            loop {
                let status = self.status().await;
                if status.queued + status.running == 0 {
                    return;
                }
                SystemClock.sleep(PAUSE).await;
            }
        };
        let drained = tokio::time::timeout(HANG, drained).await;
        drained.unwrap_or_else(|_| panic!("seed {}: it does not drain", self.seed));
    }

    pub(crate) async fn status(&self) -> MarketStatus {
        let url = format!("http://{}{}", self.address(), paths::STATUS);
        let client = http_client().no_proxy().build().unwrap();
        client.get(url).send().await.unwrap().json().await.unwrap()
    }

    /// What the store in `folder` has of it, its coordinator being gone.
    pub(crate) async fn books(&self, folder: &Path) -> Found {
        let operators = self
            .members
            .iter()
            .map(|member| (member.node, member.operator.address()))
            .collect();
        let books = Books {
            folder,
            price: price(),
            deployment: self.deployment(),
            operators: &operators,
        };
        let promises = std::mem::take(&mut *self.requesters.promises.lock().unwrap());
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        books.hold_against(&promises, &seen).await
    }

    fn deployment(&self) -> Deployment {
        self.chain.deployment
    }
}

fn start(hosting: &Hosting, wrapper: &[String], seen: &Arc<Mutex<Seen>>) -> Host {
    let (sender, serving) = watch::channel(None);
    let seen = Arc::clone(seen);
    let process = Process::start(
        &Order::Host(Box::new(hosting.clone())),
        wrapper,
        move |said| {
            if let Said::Serving(address) = said {
                sender.send_replace(Some(address));
            } else {
                seen.lock().unwrap().hear(said);
            }
        },
    );
    Host { process, serving }
}
