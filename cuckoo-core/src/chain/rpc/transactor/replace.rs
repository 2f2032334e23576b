//! Other forms of transactions: dearer ones, ones with a new nonce, and ones that only use a nonce up.

use std::collections::BTreeSet;
use std::sync::Arc;

use alloy::providers::Provider as _;

use super::actor::{Actor, Step};
use super::book::signed;
use super::open::Open;
use super::signing::{Call, Fees, Variant};
use super::view::View;
use crate::Key;

/// Unowned nonces that are looked after at once.
const MOST_GAPS: u64 = 64;

impl Actor {
    /// Signs a form that takes the current one's place; none when it cannot be put on disk.
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
    pub(super) async fn raise(&mut self, number: u64, now: Fees) {
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
    pub(super) async fn cancel(&mut self, number: u64, now: Fees, why: String) {
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
    pub(super) async fn renew(&mut self, number: u64, now: Fees, count: u64) {
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
    pub(super) async fn close_gaps(&mut self, view: &View) {
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
                // A node that is behind may not have it yet.
                if now.since(since) < self.node.settings.poll() {
                    continue;
                }
                self.gaps.remove(&nonce);
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
        let record = signed(number, None, &call, &variant);
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
