//! The actor: owns a key's nonces, and is the only one to sign with it.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alloy::network::TransactionBuilder as _;
use alloy::primitives::{Address, B256, Bytes as EvmBytes, U256};
use alloy::providers::Provider as _;
use alloy::rpc::types::{TransactionReceipt, TransactionRequest};
use alloy::transports::TransportResult;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, watch};

use super::book::{Book, signed};
use super::open::{Open, Verdict, Waiter, tell_all};
use super::signing::{Call, Fees, Variant};
use super::view::{Question, View, fees, look};
use super::{Answer, Request};
use crate::chain::TxReceipt;
use crate::chain::evm::{Failure, Mined};
use crate::chain::rpc::Node;
use crate::chain::rpc::answer::{Handover, handover};
use crate::chain::rpc::journal::{Journal, Outcome, Record};
use crate::chain::rpc::tx_id::TxId;
use crate::{Error, Key, Result, Retry, Timestamp, format_cai};

/// Transactions that may wait until others of the key are through.
const MOST_WAITING: usize = 1_024;
/// The first pause after something was sent, for chains that make a block for each transaction.
const SOON: Duration = Duration::from_millis(10);
/// Looks in a row that may fail before those who wait are told.
const MOST_FAILURES: u32 = 3;
/// Unowned nonces that are looked after at once.
const MOST_GAPS: u64 = 64;

/// A transaction without a nonce.
struct Waiting {
    number: u64,
    id: Option<TxId>,
    call: Call,
    waiters: Vec<Waiter>,
}

/// What the nodes say before a transaction is signed.
struct Quote {
    gas: u64,
    fees: Fees,
    /// The first nonce that no transaction known to them has.
    nonce: u64,
}

/// Something that was waited for.
enum Step {
    Quoted(u64, Result<Quote, Failure>),
    HandedOver(u64, B256, Handover),
    Looked(TransportResult<View>),
    /// Why a transaction reverted.
    Judged(u64, B256, Failure),
    /// Nothing comes of it.
    Done,
}

pub(super) struct Actor {
    node: Arc<Node>,
    account: Address,
    /// Known from the first request on; until then it only watches what its journal holds.
    key: Option<Key>,
    journal: Journal,
    book: Book,
    line: VecDeque<Waiting>,
    quoting: HashMap<u64, Waiting>,
    steps: FuturesUnordered<BoxFuture<'static, Step>>,
    looking: bool,
    failures: u32,
    pause: Duration,
    timer: BoxFuture<'static, ()>,
    /// Nonces below others' that nobody is known to use, and since when.
    gaps: HashMap<u64, Timestamp>,
    unfinished: watch::Sender<usize>,
}

impl Actor {
    pub(super) fn new(
        node: Arc<Node>,
        account: Address,
        journal: Journal,
        book: Book,
        unfinished: watch::Sender<usize>,
    ) -> Self {
        Self {
            timer: node.clock.sleep(SOON),
            node,
            account,
            key: None,
            journal,
            book,
            line: VecDeque::new(),
            quoting: HashMap::new(),
            steps: FuturesUnordered::new(),
            looking: false,
            failures: 0,
            pause: SOON,
            gaps: HashMap::new(),
            unfinished,
        }
    }

    /// Works until nobody can ask for anything any more.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            let busy = self.busy();
            if *self.unfinished.borrow() != busy {
                self.unfinished.send_replace(busy);
            }
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(request) => self.take(request),
                    None => return,
                },
                Some(step) = self.steps.next() => self.follow(step).await,
                () = &mut self.timer, if busy > 0 => self.tick(),
            }
            self.begin();
        }
    }

    fn busy(&self) -> usize {
        self.book.open.len() + self.quoting.len() + self.line.len()
    }

    fn now(&self) -> Timestamp {
        self.node.clock.now()
    }

    /// Looks at the chain soon, then ever more seldom until something happens again.
    fn wake(&mut self) {
        self.pause = SOON;
        self.timer = self.node.clock.sleep(SOON);
    }

    /// Puts a request into the line, or beside an earlier one of its id.
    fn take(&mut self, request: Request) {
        let Request {
            key,
            id,
            call,
            waiter,
        } = request;
        self.key = Some(key);
        if let Some(id) = &id {
            let conflict = |waiter: Waiter| {
                waiter.tell(Err(Error::conflict(format!(
                    "the id {id} names another transaction of this key; give this one an id of its own"
                ))
                .into()));
            };
            let mut unsigned = self.line.iter_mut().chain(self.quoting.values_mut());
            let same = unsigned.find(|waiting| waiting.id.as_ref() == Some(id));
            let same = same.map(|waiting| (&waiting.call, &mut waiting.waiters));
            let same = same.or_else(|| {
                let open = self.book.open_by_id(id)?;
                Some((&open.call, &mut open.waiters))
            });
            if let Some((earlier, waiters)) = same {
                if *earlier == call {
                    waiters.push(waiter);
                    self.wake();
                } else {
                    conflict(waiter);
                }
                return;
            }
            if let Some(ended) = self.book.ended(id) {
                if ended.content == call.content() {
                    let outcome = ended.outcome.clone();
                    self.steps
                        .push(Box::pin(recall(Arc::clone(&self.node), outcome, waiter)));
                } else {
                    conflict(waiter);
                }
                return;
            }
        }
        if self.line.len() >= MOST_WAITING {
            waiter.tell(Err(Error::unavailable(format!(
                "{MOST_WAITING} transactions of {} wait already; this one was not sent, try again later",
                self.account
            ))
            .into()));
            return;
        }
        let idle = self.busy() == 0;
        let number = self.book.number();
        self.line.push_back(Waiting {
            number,
            id,
            call,
            waiters: vec![waiter],
        });
        if idle {
            self.wake();
        }
    }

    /// Begins what waits in line, as far as there is room.
    fn begin(&mut self) {
        let room = self.node.settings.max_in_flight.max(1);
        while self.book.open.len() + self.quoting.len() < room {
            let Some(waiting) = self.line.pop_front() else {
                return;
            };
            // Nothing was promised yet to those who have left.
            if waiting
                .waiters
                .iter()
                .all(|waiter| waiter.reply.is_closed())
            {
                continue;
            }
            let quote = quote(Arc::clone(&self.node), self.account, waiting.call.clone());
            let number = waiting.number;
            self.quoting.insert(number, waiting);
            self.steps
                .push(Box::pin(async move { Step::Quoted(number, quote.await) }));
        }
    }

    fn tick(&mut self) {
        let now = self.now();
        let patience = self.node.settings.receipt();
        for open in self.book.open.values_mut() {
            open.excuse(now, patience, None);
        }
        for waiting in &mut self.line {
            for waiter in (waiting.waiters).extract_if(.., |waiter| now >= waiter.deadline) {
                waiter.tell(Err(Error::timeout(
                    "the transaction was not sent, since others of its key wait for a block; try again later",
                )
                .into()));
            }
        }
        if !self.looking && !self.book.open.is_empty() {
            self.looking = true;
            let settings = &self.node.settings;
            let mut open = self.book.open.values();
            let question = Question {
                account: self.account,
                fees: !self.gaps.is_empty() || open.any(|open| open.wants_fees(now, settings)),
                sought: self.book.open.values().map(Open::sought).collect(),
                confirmations: settings.confirmations,
            };
            let node = self.node.endpoints.best().provider();
            self.steps.push(Box::pin(
                async move { Step::Looked(look(node, question).await) },
            ));
        }
        self.timer = self.node.clock.sleep(self.pause);
        self.pause = (self.pause * 2).min(self.node.settings.poll());
    }

    async fn follow(&mut self, step: Step) {
        match step {
            Step::Quoted(number, quote) => {
                let Some(waiting) = self.quoting.remove(&number) else {
                    return;
                };
                if let Err((waiters, failure)) = self.sign_first(waiting, quote).await {
                    tell_all(waiters, &Err(failure));
                }
            }
            Step::HandedOver(number, hash, outcome) => {
                if let Some(open) = self.book.open.get_mut(&number) {
                    if outcome != Handover::Taken {
                        tracing::debug!(%hash, ?outcome, "a transaction was not taken");
                    }
                    open.handed_over(hash, outcome);
                }
            }
            Step::Looked(Ok(view)) => {
                self.looking = false;
                self.failures = 0;
                self.reconcile(view).await;
            }
            Step::Looked(Err(error)) => {
                self.looking = false;
                self.failures = self.failures.saturating_add(1);
                self.pause = self.node.settings.poll();
                let error = self.node.failed(error).into_error();
                tracing::warn!(%error, account = %self.account, "cannot look after transactions");
                if self.failures >= MOST_FAILURES {
                    let (now, patience) = (self.now(), self.node.settings.receipt());
                    for open in self.book.open.values_mut() {
                        open.excuse(now, patience, Some(&error));
                    }
                }
            }
            Step::Judged(number, hash, failure) => {
                let data = match &failure {
                    Failure::Reverted(data) => Some(EvmBytes(data.clone())),
                    Failure::Other(_) => None,
                };
                let outcome = Outcome::Reverted(hash, data);
                self.end(number, outcome, Some(hash), Err(failure)).await;
            }
            Step::Done => {}
        }
    }

    /// Gives a request its nonce.
    async fn sign_first(
        &mut self,
        waiting: Waiting,
        quote: Result<Quote, Failure>,
    ) -> Result<(), (Vec<Waiter>, Failure)> {
        let Waiting {
            number,
            id,
            call,
            waiters,
        } = waiting;
        let Some(key) = self.key.clone() else {
            return Ok(());
        };
        let priced = quote.and_then(|quote| Ok((self.affordable(quote.fees)?, quote)));
        let (fees, quote) = match priced {
            Ok(priced) => priced,
            Err(failure) => return Err((waiters, failure)),
        };
        // The own count wins over a node that is behind.
        let nonce = self.book.next_nonce.max(quote.nonce);
        // A quarter more: other transactions may change the path it takes before its block comes.
        let gas = quote.gas.saturating_add(quote.gas / 4);
        let variant = Variant::sign(&key, self.node.chain_id, nonce, &call, gas, fees);
        let record = signed(number, id.as_ref(), &call, &variant);
        if let Err(error) = self.journal.append(&[record], true).await {
            return Err((waiters, error.into()));
        }
        self.book.next_nonce = nonce.saturating_add(1);
        let mut open = Open::new(number, id, call, variant, self.now());
        open.waiters = waiters;
        self.book.open.insert(number, open);
        self.hand_over(number);
        Ok(())
    }

    /// Fees for a new transaction, unless the chain asks for more than the settings allow.
    fn affordable(&self, now: Fees) -> Result<Fees> {
        let limit = u128::from(self.node.settings.max_fee_per_gas);
        // The estimate allows for the base fee to double.
        let least = now.tip.saturating_add(now.most.saturating_sub(now.tip) / 2);
        now.within(limit).filter(|_| least <= limit).ok_or_else(|| {
            Error::chain(format!(
                "gas costs {least} wei, more than max_fee_per_gas ({limit}); nothing was sent, try again later or allow more"
            ))
            .with_retry(Retry::Later)
        })
    }

    /// Hands the current form over to a node.
    fn hand_over(&mut self, number: u64) {
        let now = self.now();
        let Some(open) = self.book.open.get_mut(&number) else {
            return;
        };
        open.sending(now);
        let (hash, raw) = (open.current().hash, open.current().raw.clone());
        let node = Arc::clone(&self.node);
        self.steps.push(Box::pin(async move {
            // The actor watches it, by the injected clock.
            let sent = node.provider.send_raw_transaction(&raw).await.map(drop);
            Step::HandedOver(number, hash, handover(sent))
        }));
        if self.book.open.len() == 1 {
            self.wake();
        }
    }

    /// Acts upon a look at the chain.
    async fn reconcile(&mut self, view: View) {
        let before = self.book.open.len();
        let numbers: Vec<u64> = self.book.open.keys().copied().collect();
        for number in numbers {
            let now = self.now();
            let Some(open) = self.book.open.get_mut(&number) else {
                continue;
            };
            match open.verdict(&view, now, &self.node.settings) {
                Verdict::Wait => {}
                Verdict::Send => self.hand_over(number),
                Verdict::Final(receipt) => self.landed(number, *receipt).await,
                Verdict::Raise(fees) => self.raise(number, fees).await,
                Verdict::Cancel(fees, why) => self.cancel(number, fees, why).await,
                Verdict::Renew(fees) => self.renew(number, fees, view.count).await,
                Verdict::Abandon => {
                    let error = Error::chain("the nonce was used by another transaction");
                    self.end(number, Outcome::Cancelled, None, Err(error.into()))
                        .await;
                }
            }
        }
        self.close_gaps(&view).await;
        if self.book.open.len() < before && !self.book.open.is_empty() {
            // The chain moves, and the others may be next.
            self.wake();
        }
    }

    /// A transaction is in a block for good.
    async fn landed(&mut self, number: u64, receipt: TransactionReceipt) {
        let Some(open) = self.book.open.get_mut(&number) else {
            return;
        };
        let hash = receipt.transaction_hash;
        let form = open.variants().iter().find(|variant| variant.hash == hash);
        if let Some(why) = form.and_then(|form| form.cancels.clone()) {
            let error = Error::chain(format!(
                "the transaction could not be sent and has no effect: {why}"
            ));
            self.end(number, Outcome::Cancelled, Some(hash), Err(error.into()))
                .await;
        } else if receipt.status() {
            let mined = mined(&receipt);
            self.end(number, Outcome::Succeeded(hash), Some(hash), Ok(mined))
                .await;
        } else {
            open.judged = true;
            let block = receipt.block_number.unwrap_or_default();
            let why = judge(
                Arc::clone(&self.node),
                self.account,
                open.call.clone(),
                hash,
                block,
            );
            self.steps.push(Box::pin(
                async move { Step::Judged(number, hash, why.await) },
            ));
        }
    }

    async fn end(&mut self, number: u64, outcome: Outcome, landed: Option<B256>, answer: Answer) {
        let Some((open, record)) = self.book.end(number, outcome, landed) else {
            return;
        };
        // If this line is lost, the transaction is found in its block again.
        if let Err(error) = self.journal.append(&[record], false).await {
            tracing::warn!(%error, "the journal does not say how a transaction ended");
        }
        tell_all(open.waiters, &answer);
        if self.journal.wants_rewrite()
            && let Err(error) = self
                .journal
                .rewrite(self.book.next_nonce, self.book.records())
                .await
        {
            tracing::warn!(%error, "the journal could not be shortened");
        }
    }

    /// Signs a form that takes the current one's place; `false` when it cannot be put on disk.
    async fn replace(&mut self, number: u64, variant: Variant) {
        let now = self.now();
        let Some(open) = self.book.open.get_mut(&number) else {
            return;
        };
        let record = signed(number, open.id.as_ref(), &open.call, &variant);
        if let Err(error) = self.journal.append(&[record], true).await {
            tracing::warn!(%error, "a transaction cannot be replaced");
            return;
        }
        self.book.next_nonce = self.book.next_nonce.max(variant.nonce.saturating_add(1));
        open.push(variant, now);
        self.hand_over(number);
    }

    /// Raises the fees of a transaction that waits too long.
    async fn raise(&mut self, number: u64, now: Fees) {
        let limit = u128::from(self.node.settings.max_fee_per_gas);
        let at = self.now();
        let (Some(key), Some(open)) = (self.key.clone(), self.book.open.get_mut(&number)) else {
            return;
        };
        let old = open.current();
        let (chain_id, nonce) = (self.node.chain_id, old.nonce);
        let Some(fees) = old.fees.raised(now, limit) else {
            tracing::warn!(hash = %old.hash, limit, "a transaction waits, and its fees cannot be raised within max_fee_per_gas");
            open.not_raised(at);
            self.hand_over(number);
            return;
        };
        let variant = match &old.cancels {
            Some(why) => Variant::cancel(&key, chain_id, nonce, fees, why.clone()),
            None => Variant::sign(&key, chain_id, nonce, &open.call, open.gas(), fees),
        };
        tracing::info!(old = %old.hash, new = %variant.hash, wei = fees.most, "a transaction waits too long; its fees are raised");
        self.replace(number, variant).await;
    }

    /// Uses up the nonce of a transaction that no node will have, so that those behind it can go on.
    async fn cancel(&mut self, number: u64, now: Fees, why: String) {
        let limit = u128::from(self.node.settings.max_fee_per_gas);
        let (Some(key), Some(open)) = (self.key.clone(), self.book.open.get(&number)) else {
            return;
        };
        let old = open.current();
        // Some node may have the old form in its pool.
        let Some(fees) = old.fees.raised(now, limit).or_else(|| now.within(limit)) else {
            return;
        };
        tracing::warn!(hash = %old.hash, why, "no node takes a transaction; its nonce is used up");
        let variant = Variant::cancel(&key, self.node.chain_id, old.nonce, fees, why);
        self.replace(number, variant).await;
    }

    /// Gives a transaction whose nonce another one used a new nonce.
    async fn renew(&mut self, number: u64, now: Fees, count: u64) {
        let Ok(fees) = self.affordable(now) else {
            return;
        };
        let (Some(key), Some(open)) = (self.key.clone(), self.book.open.get(&number)) else {
            return;
        };
        let nonce = self.book.next_nonce.max(count);
        let chain_id = self.node.chain_id;
        let variant = Variant::sign(&key, chain_id, nonce, &open.call, open.gas(), fees);
        tracing::warn!(old = %open.current().hash, new = %variant.hash, "another transaction used a nonce; signed anew");
        self.replace(number, variant).await;
    }

    /// Looks after nonces that hold up later ones: hands over again what the chain forgot, uses up what is nobody's.
    async fn close_gaps(&mut self, view: &View) {
        let nonces: BTreeSet<u64> = self.book.open.values().map(Open::nonce).collect();
        let end = nonces.last().map_or(view.count, |last| *last);
        let missing: Vec<u64> = (view.count..end.min(view.count.saturating_add(MOST_GAPS)))
            .filter(|nonce| !nonces.contains(nonce))
            .collect();
        self.gaps.retain(|nonce, _| missing.contains(nonce));
        let now = self.now();
        let stuck = self.node.settings.stuck();
        for nonce in missing {
            let since = *self.gaps.entry(nonce).or_insert(now);
            if let Some(raw) = self.book.kept(nonce).cloned() {
                let node = Arc::clone(&self.node);
                self.steps.push(Box::pin(async move {
                    // A refusal is as good: then the chain has it.
                    let _ = node.provider.send_raw_transaction(&raw).await;
                    Step::Done
                }));
            } else if now.since(since) >= stuck
                && let (Some(key), Some(fees)) = (self.key.clone(), view.fees)
                && let Ok(fees) = self.affordable(fees)
            {
                self.fill(&key, nonce, fees).await;
            }
        }
    }

    /// Uses up a nonce that is nobody's.
    async fn fill(&mut self, key: &Key, nonce: u64, fees: Fees) {
        tracing::warn!(account = %self.account, nonce, "a nonce is missing; it is used up");
        let why = "its nonce was missing".to_owned();
        let variant = Variant::cancel(key, self.node.chain_id, nonce, fees, why);
        let call = Call::nothing(self.account);
        let number = self.book.number();
        let record: Record = signed(number, None, &call, &variant);
        if let Err(error) = self.journal.append(&[record], true).await {
            tracing::warn!(%error, "a missing nonce cannot be used up");
            return;
        }
        self.book
            .open
            .insert(number, Open::new(number, None, call, variant, self.now()));
        self.gaps.remove(&nonce);
        self.hand_over(number);
    }
}

/// What a transaction left behind.
fn mined(receipt: &TransactionReceipt) -> Mined {
    Mined {
        receipt: TxReceipt {
            hash: receipt.transaction_hash,
            block: receipt.block_number.unwrap_or_default(),
            gas_used: receipt.gas_used,
        },
        contract: receipt.contract_address,
        logs: receipt.logs().iter().map(|log| log.inner.clone()).collect(),
    }
}

fn request(from: Address, call: Call) -> TransactionRequest {
    TransactionRequest::default()
        .with_from(from)
        .with_kind(call.to)
        .with_value(call.value)
        .with_input(call.data)
}

/// Gas, price and nonce; a call that would revert, or that the account cannot pay for, fails here.
async fn quote(node: Arc<Node>, from: Address, call: Call) -> Result<Quote, Failure> {
    let provider = &node.provider;
    let value = call.value;
    let gas = provider.estimate_gas(request(from, call)).await;
    let gas = gas.map_err(|error| node.failed(error))?;
    let (fees, nonce, balance) = futures::future::join3(
        fees(provider),
        provider.get_transaction_count(from).pending().into_future(),
        provider.get_balance(from).into_future(),
    )
    .await;
    let fees = fees.map_err(|error| node.failed(error))?;
    let balance = balance.map_err(|error| node.failed(error))?;
    let cost = U256::from(gas).saturating_mul(U256::from(fees.most));
    if balance < value.saturating_add(cost) {
        return Err(Error::chain(format!(
            "{from} holds {} CAI, and would send {} CAI and up to {} CAI for gas; send it more CAI",
            format_cai(balance),
            format_cai(value),
            format_cai(cost)
        ))
        .into());
    }
    Ok(Quote {
        gas,
        fees,
        nonce: nonce.map_err(|error| node.failed(error))?,
    })
}

/// Why a transaction reverted: the same call tells, at the end of its block.
async fn judge(node: Arc<Node>, from: Address, call: Call, hash: B256, block: u64) -> Failure {
    let again = node.provider.call(request(from, call)).number(block).await;
    match again.map_err(|error| node.failed(error)) {
        Err(Failure::Reverted(data)) => Failure::Reverted(data),
        _ => reverted(hash),
    }
}

/// It reverted, and nobody can say why any more.
fn reverted(hash: B256) -> Failure {
    Error::chain(format!(
        "transaction {hash} failed because others came before it; try again"
    ))
    .into()
}

/// Tells the outcome of a transaction that ended earlier.
async fn recall(node: Arc<Node>, outcome: Outcome, waiter: Waiter) -> Step {
    let answer = match outcome {
        Outcome::Succeeded(hash) => match node.provider.get_transaction_receipt(hash).await {
            Ok(Some(receipt)) => Ok(mined(&receipt)),
            Ok(None) => Err(Error::chain(format!(
                "transaction {hash} succeeded, and the chain node does not know it; ask again later or another node"
            ))
            .with_retry(Retry::Later)
            .into()),
            Err(error) => Err(node.failed(error)),
        },
        Outcome::Reverted(_, Some(data)) => Err(Failure::Reverted(data.0)),
        Outcome::Reverted(hash, None) => Err(reverted(hash)),
        Outcome::Cancelled => Err(Error::chain("the transaction had no effect").into()),
    };
    waiter.tell(answer);
    Step::Done
}
