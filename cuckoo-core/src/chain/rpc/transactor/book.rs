//! All that is known of one key's transactions: those under way, those that ended, and the next nonce.

use std::collections::{BTreeMap, HashMap, VecDeque};

use alloy::primitives::{B256, Bytes as EvmBytes};

use super::open::Open;
use super::signing::{Call, Variant};
use crate::chain::rpc::journal::{Outcome, Record};
use crate::chain::rpc::tx_id::TxId;
use crate::{Error, Result, Timestamp};

/// Ended transactions whose ids are remembered; asking again for an older one sends it again.
const REMEMBERED: usize = 20_000;
/// Ended transactions that are handed over again if the chain forgets them.
const KEPT: usize = 128;

/// How a transaction with an id ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) number: u64,
    pub(super) content: B256,
    pub(super) outcome: Outcome,
}

/// One key's transactions.
#[derive(Debug, Default)]
pub(in crate::chain::rpc) struct Book {
    /// Under way, by number.
    pub(super) open: BTreeMap<u64, Open>,
    ended: HashMap<TxId, Ended>,
    /// Ids of `ended`, the oldest first.
    order: VecDeque<TxId>,
    /// Nonces and bytes of the latest transactions in blocks.
    kept: VecDeque<(u64, EvmBytes)>,
    /// No transaction has this nonce or a higher one.
    pub(super) next_nonce: u64,
    next_number: u64,
}

impl Book {
    /// What a journal holds.
    ///
    /// # Errors
    /// `Invalid` when its records contradict each other.
    pub(in crate::chain::rpc) fn restore(records: Vec<Record>, now: Timestamp) -> Result<Self> {
        let mut book = Self::default();
        for record in records {
            match record {
                Record::Journal { next_nonce, .. } => book.next_nonce = next_nonce,
                Record::Signed {
                    number,
                    id,
                    raw,
                    cancels,
                    content,
                } => {
                    let (variant, call) = Variant::read(raw, cancels)?;
                    book.next_nonce = book.next_nonce.max(variant.nonce.saturating_add(1));
                    book.next_number = book.next_number.max(number.saturating_add(1));
                    match book.open.get_mut(&number) {
                        Some(open) => open.push(variant, now),
                        None => {
                            if call.content() != content && variant.cancels.is_none() {
                                return Err(contradiction(number));
                            }
                            let open = Open::new(number, id, call, variant, now);
                            book.open.insert(number, open);
                        }
                    }
                }
                Record::Ended {
                    number,
                    id,
                    content,
                    outcome,
                } => {
                    book.next_number = book.next_number.max(number.saturating_add(1));
                    book.open.remove(&number);
                    book.remember(id, number, content, outcome);
                }
            }
        }
        Ok(book)
    }

    /// The records that a journal needs to hold, behind its first line.
    pub(super) fn records(&self) -> Vec<Record> {
        let ended = self.order.iter().filter_map(|id| {
            let ended = self.ended.get(id)?;
            Some(Record::Ended {
                number: ended.number,
                id: Some(id.clone()),
                content: ended.content,
                outcome: ended.outcome.clone(),
            })
        });
        let signed = self.open.values().flat_map(|open| {
            let variants = open.variants().iter();
            variants.map(|variant| signed(open.number, open.id.as_ref(), &open.call, variant))
        });
        ended.chain(signed).collect()
    }

    /// How many have not ended.
    pub(in crate::chain::rpc) fn unfinished(&self) -> usize {
        self.open.len()
    }

    /// A number for a new transaction.
    pub(super) fn number(&mut self) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        number
    }

    /// The transaction of this id that is under way.
    pub(super) fn open_by_id(&mut self, id: &TxId) -> Option<&mut Open> {
        self.open
            .values_mut()
            .find(|open| open.id.as_ref() == Some(id))
    }

    /// How the transaction of this id ended.
    pub(super) fn ended(&self, id: &TxId) -> Option<&Ended> {
        self.ended.get(id)
    }

    /// Takes a transaction out that has ended; `landed` is the form that is in a block.
    pub(super) fn end(
        &mut self,
        number: u64,
        outcome: Outcome,
        landed: Option<B256>,
    ) -> Option<(Open, Record)> {
        let open = self.open.remove(&number)?;
        if let Some(variant) = open
            .variants()
            .iter()
            .find(|variant| Some(variant.hash) == landed)
        {
            self.kept.push_back((variant.nonce, variant.raw.clone()));
            if self.kept.len() > KEPT {
                self.kept.pop_front();
            }
        }
        let content = open.call.content();
        self.remember(open.id.clone(), number, content, outcome.clone());
        let record = Record::Ended {
            number,
            id: open.id.clone(),
            content,
            outcome,
        };
        Some((open, record))
    }

    /// The bytes of an ended transaction that used this nonce.
    pub(super) fn kept(&self, nonce: u64) -> Option<&EvmBytes> {
        self.kept
            .iter()
            .rev()
            .find(|(used, _)| *used == nonce)
            .map(|(_, raw)| raw)
    }

    /// What had no effect is not remembered: asking again sends it anew.
    fn remember(&mut self, id: Option<TxId>, number: u64, content: B256, outcome: Outcome) {
        let Some(id) = id.filter(|_| outcome != Outcome::Cancelled) else {
            return;
        };
        let ended = Ended {
            number,
            content,
            outcome,
        };
        if self.ended.insert(id.clone(), ended).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
    }
}

/// The record of one signed form.
pub(super) fn signed(number: u64, id: Option<&TxId>, call: &Call, variant: &Variant) -> Record {
    Record::Signed {
        number,
        id: id.cloned(),
        content: call.content(),
        raw: variant.raw.clone(),
        cancels: variant.cancels.clone(),
    }
}

fn contradiction(number: u64) -> Error {
    Error::invalid(format!(
        "the journal contradicts itself about its transaction {number}"
    ))
}
