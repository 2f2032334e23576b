//! A transaction that is under way, and what to do about it after a look at the chain.

use std::time::Duration;

use alloy::primitives::B256;
use alloy::rpc::types::TransactionReceipt;
use tokio::sync::oneshot;

use super::Answer;
use super::signing::{Call, Fees, Variant};
use super::view::{Sought, View};
use crate::chain::evm::Failure;
use crate::chain::rpc::RpcSettings;
use crate::chain::rpc::answer::Handover;
use crate::chain::rpc::tx_id::TxId;
use crate::{Error, Retry, Timestamp};

/// How often bytes that a node has are handed over again, in case it dropped them.
const RESEND: Duration = Duration::from_secs(10);
/// How often in a row a node must turn a transaction down before its nonce is used up by nothing.
const REJECTIONS: u32 = 5;
/// Signed forms of one transaction; each costs an eighth more than the one before.
const MOST_VARIANTS: usize = 24;
/// How long no form of a transaction may be found before its nonce counts as used by others, where a node cannot tell
/// whose it was. Far longer than the nodes behind one address are apart.
const LOST: Duration = Duration::from_secs(60);

/// Somebody who wants to know how a transaction ends.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) reply: oneshot::Sender<Answer>,
    /// Until when.
    pub(super) deadline: Timestamp,
}

impl Waiter {
    /// Tells the answer; whoever has stopped waiting misses it.
    pub(super) fn tell(self, answer: Answer) {
        let _ = self.reply.send(answer);
    }
}

/// Tells all of them.
pub(super) fn tell_all(waiters: Vec<Waiter>, answer: &Answer) {
    for waiter in waiters {
        waiter.tell(match answer {
            Ok(mined) => Ok(mined.clone()),
            Err(Failure::Reverted(data)) => Err(Failure::Reverted(data.clone())),
            Err(Failure::Other(error)) => Err(Failure::Other(error.duplicate())),
        });
    }
}

/// A transaction that was signed and has not ended.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) number: u64,
    pub(super) id: Option<TxId>,
    pub(super) call: Call,
    /// Every form that was signed, the last one current. Never empty.
    variants: Vec<Variant>,
    pub(super) waiters: Vec<Waiter>,
    signed_at: Timestamp,
    tried_at: Option<Timestamp>,
    /// It is being handed over.
    sending: bool,
    /// A node has it.
    taken: bool,
    underpaid: bool,
    rejections: u32,
    /// What a node had against it.
    complaint: Option<String>,
    /// It is in a block, not deep enough.
    in_block: bool,
    /// It reverted, and why is being found out.
    pub(super) judged: bool,
    /// Since when its nonce has been used and none of its forms found.
    outrun_since: Option<Timestamp>,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Verdict {
    Wait,
    /// It is in a block for good.
    Final(Box<TransactionReceipt>),
    /// Hand it over (again).
    Send,
    /// Sign it with higher fees.
    Raise(Fees),
    /// Use up its nonce with nothing.
    Cancel(Fees, String),
    /// Its nonce was used by another: sign it with a new one.
    Renew(Fees),
    /// Its nonce was to be used up, and another did that.
    Abandon,
}

impl Open {
    pub(super) fn new(
        number: u64,
        id: Option<TxId>,
        call: Call,
        variant: Variant,
        now: Timestamp,
    ) -> Self {
        Self {
            number,
            id,
            call,
            variants: vec![variant],
            waiters: Vec::new(),
            signed_at: now,
            tried_at: None,
            sending: false,
            taken: false,
            underpaid: false,
            rejections: 0,
            complaint: None,
            in_block: false,
            judged: false,
            outrun_since: None,
        }
    }

    /// The form that counts now.
    pub(super) fn current(&self) -> &Variant {
        &self.variants[self.variants.len() - 1]
    }

    pub(super) fn variants(&self) -> &[Variant] {
        &self.variants
    }

    pub(super) fn nonce(&self) -> u64 {
        self.current().nonce
    }

    /// Gas that the call itself may use.
    pub(super) fn gas(&self) -> u64 {
        self.variants[0].gas
    }

    pub(super) fn sought(&self) -> Sought {
        Sought {
            number: self.number,
            nonce: self.nonce(),
            hashes: self.variants.iter().map(|variant| variant.hash).collect(),
        }
    }

    /// A new form was signed.
    pub(super) fn push(&mut self, variant: Variant, now: Timestamp) {
        self.variants.push(variant);
        self.signed_at = now;
        self.tried_at = None;
        self.taken = false;
        self.underpaid = false;
        self.rejections = 0;
        self.outrun_since = None;
    }

    /// It is handed over now.
    pub(super) fn sending(&mut self, now: Timestamp) {
        self.sending = true;
        self.tried_at = Some(now);
    }

    /// What came of handing over the form `hash`.
    pub(super) fn handed_over(&mut self, hash: B256, outcome: Handover) {
        self.sending = false;
        if hash != self.current().hash {
            return;
        }
        self.taken = false;
        match outcome {
            Handover::Taken => {
                self.taken = true;
                self.rejections = 0;
                self.complaint = None;
            }
            Handover::Underpaid => self.underpaid = true,
            Handover::Unfunded(why) | Handover::Refused(why) => {
                self.rejections += 1;
                self.complaint = Some(why);
            }
            // The next look tells; an occupied nonce is its own earlier form's or another's, and either may land.
            Handover::Unknown | Handover::NonceUsed | Handover::Occupied => {}
        }
    }

    /// Whether the price of gas matters for what is next.
    pub(super) fn wants_fees(&self, now: Timestamp, settings: &RpcSettings) -> bool {
        self.underpaid
            || self.rejections >= REJECTIONS
            || self.outrun_since.is_some()
            || now.since(self.signed_at) >= settings.stuck()
    }

    /// What to do, now that the chain looks like this.
    pub(super) fn verdict(
        &mut self,
        view: &View,
        now: Timestamp,
        settings: &RpcSettings,
    ) -> Verdict {
        let cancelled = self.current().cancels.is_some();
        if let Some(receipt) = view.found.get(&self.number) {
            self.in_block = true;
            self.outrun_since = None;
            let block = receipt.block_number.unwrap_or(u64::MAX);
            let depth = view.head.saturating_sub(block).saturating_add(1);
            if depth < settings.confirmations || self.judged {
                return Verdict::Wait;
            }
            return Verdict::Final(Box::new(receipt.clone()));
        }
        if std::mem::take(&mut self.in_block) {
            tracing::warn!(hash = %self.current().hash, "a transaction's block vanished; it is sent again");
            return Verdict::Send;
        }
        if self.nonce() < view.count {
            if !view.outrun.contains(&self.number) {
                self.outrun_since = None;
                return Verdict::Wait;
            }
            let since = *self.outrun_since.get_or_insert(now);
            return match view.fees {
                _ if !view.replaced.contains(&self.number) && now.since(since) < LOST => {
                    Verdict::Wait
                }
                _ if cancelled => Verdict::Abandon,
                Some(fees) => Verdict::Renew(fees),
                None => Verdict::Wait,
            };
        }
        self.outrun_since = None;
        if let Some(fees) = view.fees {
            if self.rejections >= REJECTIONS && !cancelled {
                let why = self.complaint.clone().unwrap_or_default();
                return Verdict::Cancel(fees, why);
            }
            let waiting = now.since(self.signed_at);
            // What cannot be paid for cannot be paid more for.
            let stuck = waiting >= settings.stuck()
                && self.rejections == 0
                && (self.nonce() == view.count || self.current().fees.most < fees.most);
            let underpaid = self.underpaid && waiting >= settings.poll();
            if (stuck || underpaid) && self.variants.len() < MOST_VARIANTS {
                return Verdict::Raise(fees);
            }
        }
        let pause = if self.taken || self.rejections > REJECTIONS {
            RESEND
        } else {
            settings.poll()
        };
        let due = self.tried_at.is_none_or(|tried| now.since(tried) >= pause);
        if due && !self.sending {
            Verdict::Send
        } else {
            Verdict::Wait
        }
    }

    /// Its fees cannot be raised now.
    pub(super) fn not_raised(&mut self, now: Timestamp) {
        self.signed_at = now;
        self.underpaid = false;
    }

    /// Tells those whose patience has run out, or everybody when the nodes are `silent`.
    pub(super) fn excuse(&mut self, now: Timestamp, patience: Duration, silent: Option<&Error>) {
        let hash = self.current().hash;
        let (advice, retry) = match self.id {
            Some(_) => ("ask again with the same id", Retry::Later),
            None => ("look it up before repeating it", Retry::Never),
        };
        // It is neither taken nor can its nonce be used up.
        let hopeless = self.current().cancels.is_some() && self.rejections >= REJECTIONS;
        let complaint = self.complaint.as_ref();
        let complaint = complaint.map_or(String::new(), |text| format!(" (a node said: {text})"));
        let error = || {
            silent
                .map_or_else(
                    || {
                        Error::timeout(format!(
                            "transaction {hash} is not in a block after {} s{complaint}; {advice}",
                            patience.as_secs()
                        ))
                    },
                    |lost| {
                        let text = format!(
                            "transaction {hash} was sent and its fate is unknown; {advice}"
                        );
                        Error::unavailable(text).with_source(lost.duplicate())
                    },
                )
                .with_retry(retry)
        };
        let over = |waiter: &mut Waiter| silent.is_some() || hopeless || now >= waiter.deadline;
        for waiter in self.waiters.extract_if(.., over) {
            waiter.tell(Err(error().into()));
        }
    }
}
