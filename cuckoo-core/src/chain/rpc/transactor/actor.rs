//! The actor: owns a key's nonces, and is the only one to sign with it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes as EvmBytes};
use alloy::providers::Provider as _;
use alloy::rpc::types::TransactionReceipt;
use alloy::transports::TransportResult;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, watch};

use super::book::{Book, signed};
use super::open::{Open, Verdict, Waiter, tell_all};
use super::questions::{Quote, judge, mined, quote, recall};
use super::signing::{Call, Fees, Variant};
use super::view::{Question, View, look};
use super::{Answer, Request};
use crate::chain::evm::Failure;
use crate::chain::rpc::Node;
use crate::chain::rpc::answer::{Handover, handover};
use crate::chain::rpc::journal::{Journal, Outcome};
use crate::chain::rpc::tx_id::TxId;
use crate::{Error, Key, Result, Retry, Timestamp};

/// Transactions that may wait until others of the key are through.
const MOST_WAITING: usize = 1_024;
/// The first pause after something was sent, for chains that make a block for each transaction.
const SOON: Duration = Duration::from_millis(10);
/// Looks in a row that may fail before those who wait are told.
const MOST_FAILURES: u32 = 3;

/// A transaction without a nonce.
struct Waiting {
    number: u64,
    id: Option<TxId>,
    call: Call,
    waiters: Vec<Waiter>,
}

/// Something that was waited for.
pub(super) enum Step {
    Quoted(u64, Result<Quote, Failure>),
    HandedOver(u64, B256, Handover),
    Looked(TransportResult<View>),
    /// Why a transaction reverted.
    Judged(u64, B256, Failure),
    /// Nothing comes of it.
    Done,
}

pub(super) struct Actor {
    pub(super) node: Arc<Node>,
    pub(super) account: Address,
    /// Known from the first request on; until then it only watches what its journal holds.
    pub(super) key: Option<Key>,
    pub(super) journal: Journal,
    pub(super) book: Book,
    line: VecDeque<Waiting>,
    quoting: HashMap<u64, Waiting>,
    pub(super) steps: FuturesUnordered<BoxFuture<'static, Step>>,
    looking: bool,
    failures: u32,
    pause: Duration,
    timer: BoxFuture<'static, ()>,
    /// Nonces below others' that nobody is known to use, and since when.
    pub(super) gaps: HashMap<u64, Timestamp>,
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
            self.report();
            let busy = self.busy();
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

    /// Makes known how much there is to do.
    fn report(&self) {
        self.unfinished.send_replace(self.busy());
    }

    fn busy(&self) -> usize {
        self.book.open.len() + self.quoting.len() + self.line.len()
    }

    pub(super) fn now(&self) -> Timestamp {
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
                    let told = recall(Arc::clone(&self.node), outcome, waiter);
                    self.steps.push(Box::pin(async move {
                        told.await;
                        Step::Done
                    }));
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
        let chain_id = self.node.chain_id;
        let variant = Variant::sign(&key, chain_id, nonce, &call, quote.gas_limit, fees);
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
    pub(super) fn affordable(&self, now: Fees) -> Result<Fees> {
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
    pub(super) fn hand_over(&mut self, number: u64) {
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
        // Whoever is told may look at once.
        self.report();
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
}
