//! Miners that do nothing but what the protocol asks of them: session, polls, real receipts, completions. Over HTTP with
//! the generator's lean connections, or through the in-process handle.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::{
    Assignment, B256, Capability, Clock as _, Completion, CompletionReply, CoordinatorInfo,
    Deployment, Entropy as _, Key, NodeId, OsEntropy, Output, PollReply, PollRequest, Receipt,
    Session, SessionToken, Signed, SystemClock, TaskProtocol, Usage, paths, payload_hash,
};
use cuckoo_miner::HttpCoordinator;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::http::Connection;
use crate::requester::Stopwatch;
use crate::{Failure, OUTPUT, Result, host};

/// How long a poll waits, in milliseconds.
const WAIT_MILLIS: u64 = 30_000;

/// A miner with an open session.
#[derive(Debug)]
pub(crate) struct Miner {
    operator: Key,
    node: NodeId,
    deployment: Deployment,
    token: SessionToken,
}

impl Miner {
    /// Opens a session.
    pub(crate) async fn open(operator: Key, protocol: &dyn TaskProtocol) -> Result<Self> {
        let CoordinatorInfo {
            operator: coordinator,
            deployment,
            ..
        } = protocol.info().await?;
        let request = Session {
            coordinator,
            miner: operator.address(),
            nonce: OsEntropy::new()?.word(),
            expiry: SystemClock.now().after(std::time::Duration::from_secs(120)),
        };
        let opened = protocol
            .open_session(Signed::sign(request, &operator, &deployment))
            .await?;
        Ok(Self {
            operator,
            node: opened.miner,
            deployment,
            token: opened.token,
        })
    }

    /// What it asks when so many of its slots are free.
    pub(crate) fn request(free_slots: u32) -> Result<PollRequest> {
        Ok(PollRequest {
            capabilities: vec![Capability::new(
                host::model()?,
                B256::repeat_byte(1),
                "none",
            )],
            free_slots,
            warm: vec![host::model()?],
            wait_millis: WAIT_MILLIS,
        })
    }

    /// The header lines of its control messages.
    pub(crate) fn headers(&self) -> String {
        format!(
            "authorization: Bearer {}\r\ncontent-type: application/json\r\n",
            self.token.expose()
        )
    }

    /// The output and its receipt, made as miners make them.
    fn work(&self, task: &Assignment) -> Completion {
        let receipt = Receipt {
            coordinator: task.coordinator,
            miner: self.node,
            lease: task.lease,
            task: task.task,
            model_hash: task.model_hash,
            input_hash: payload_hash(task.input.as_bytes()),
            output_hash: payload_hash(OUTPUT),
            states_root: B256::ZERO,
            usage: Usage {
                input_units: 1,
                output_units: 1,
                compute_millis: 1,
            },
        };
        Completion {
            receipt: Signed::sign(receipt, &self.operator, &self.deployment),
            output: Output::new("text/plain", OUTPUT),
        }
    }
}

/// Miners at work; they stop with this value.
#[derive(Debug)]
pub(crate) struct Miners(JoinSet<()>);

impl Miners {
    /// Puts a miner for each of `operators` to work over HTTP, with `slots` each. With a stopwatch, the times at which
    /// tasks arrive are noted in it.
    pub(crate) async fn over_http(
        operators: &[Key],
        address: SocketAddr,
        slots: usize,
        arrivals: Option<Arc<Arrivals>>,
    ) -> Result<Self> {
        let protocol = HttpCoordinator::new(&format!("http://{address}"))?;
        let mut miners = JoinSet::new();
        for operator in operators {
            let miner = Miner::open(operator.clone(), &protocol).await?;
            let remote = Arc::new(Remote {
                miner,
                address,
                idle: Mutex::default(),
                arrivals: arrivals.clone(),
            });
            miners.spawn(async move {
                if let Err(error) = remote.work(slots).await {
                    eprintln!("a miner failed: {error}");
                }
            });
        }
        Ok(Self(miners))
    }

    /// Puts a miner for each of `operators` to work in the coordinator's own process.
    pub(crate) async fn in_process(
        operators: &[Key],
        protocol: Arc<dyn TaskProtocol>,
        slots: u32,
    ) -> Result<Self> {
        let mut miners = JoinSet::new();
        for operator in operators {
            let miner = Arc::new(Miner::open(operator.clone(), protocol.as_ref()).await?);
            let protocol = Arc::clone(&protocol);
            miners.spawn(async move {
                if let Err(error) = work_in_process(miner, protocol, slots).await {
                    eprintln!("a miner failed: {error}");
                }
            });
        }
        Ok(Self(miners))
    }

    /// Whether one of them stopped.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.0.try_join_next() {
            None => Ok(()),
            Some(_) => Err(Failure::from("a miner stopped")),
        }
    }
}

/// How long tasks took to arrive at a miner, in milliseconds.
#[derive(Debug)]
pub(crate) struct Arrivals {
    pub(crate) watch: Arc<Stopwatch>,
    pub(crate) millis: Mutex<Vec<f64>>,
}

/// A miner that is reached over HTTP.
#[derive(Debug)]
struct Remote {
    miner: Miner,
    address: SocketAddr,
    /// Connections to hand outputs in by.
    idle: Mutex<Vec<Connection>>,
    arrivals: Option<Arc<Arrivals>>,
}

impl Remote {
    async fn work(self: Arc<Self>, slots: usize) -> Result<()> {
        let free = Arc::new(Semaphore::new(slots));
        let mut runs = JoinSet::new();
        let mut connection = Connection::open(self.address).await?;
        let headers = self.miner.headers();
        loop {
            let mut slots = vec![Arc::clone(&free).acquire_owned().await?];
            while let Ok(slot) = Arc::clone(&free).try_acquire_owned() {
                slots.push(slot);
            }
            let request = Miner::request(u32::try_from(slots.len())?)?;
            let answer = connection
                .call(
                    "POST",
                    paths::POLL,
                    &headers,
                    &serde_json::to_vec(&request)?,
                )
                .await?;
            if answer.status != 200 {
                return Err(refused("a poll", answer.status, answer.body));
            }
            let reply: PollReply = serde_json::from_slice(answer.body)?;
            if let Some(arrivals) = &self.arrivals
                && !reply.assignments.is_empty()
            {
                let millis = arrivals.watch.millis();
                arrivals
                    .millis
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(millis);
            }
            for (assignment, slot) in reply.assignments.into_iter().zip(slots) {
                let remote = Arc::clone(&self);
                runs.spawn(async move {
                    let done = remote.complete(assignment).await;
                    drop(slot);
                    done
                });
            }
            while let Some(run) = runs.try_join_next() {
                run??;
            }
        }
    }

    async fn complete(&self, assignment: Assignment) -> Result<()> {
        let completion = self.miner.work(&assignment);
        let receipt = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&completion.receipt)?);
        let headers = format!(
            "authorization: Bearer {}\r\ncontent-type: {}\r\n{}: {receipt}\r\n",
            self.miner.token.expose(),
            completion.output.media_type,
            paths::RECEIPT,
        );
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::open(self.address).await?,
        };
        let answer = connection
            .call("POST", paths::COMPLETE, &headers, &completion.output.bytes)
            .await?;
        if answer.status != 200 {
            return Err(refused("a completion", answer.status, answer.body));
        }
        let _: CompletionReply = serde_json::from_slice(answer.body)?;
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        Ok(())
    }
}

fn refused(what: &str, status: u16, body: &[u8]) -> Failure {
    let body = String::from_utf8_lossy(body);
    Failure::from(format!("{what} was answered {status}: {body}"))
}

async fn work_in_process(
    miner: Arc<Miner>,
    protocol: Arc<dyn TaskProtocol>,
    slots: u32,
) -> Result<()> {
    let mut runs = JoinSet::new();
    loop {
        while let Some(run) = runs.try_join_next() {
            let run: cuckoo_core::Result<CompletionReply> = run?;
            run?;
        }
        let busy = u32::try_from(runs.len())?;
        if busy >= slots {
            if let Some(run) = runs.join_next().await {
                run??;
            }
            continue;
        }
        let reply = protocol
            .poll(&miner.token, Miner::request(slots - busy)?)
            .await?;
        for assignment in reply.assignments {
            let (miner, protocol) = (Arc::clone(&miner), Arc::clone(&protocol));
            runs.spawn(async move {
                let completion = miner.work(&assignment);
                protocol.complete(&miner.token, completion).await
            });
        }
    }
}
