//! One key's transactions: an actor of its own signs them, puts them on disk, hands them over and watches them to their
//! end. docs/chain.md tells a transaction's life.

mod actor;
mod book;
mod open;
mod questions;
mod replace;
mod signing;
mod view;

use std::sync::Arc;

use alloy::primitives::Address;
use tokio::sync::{mpsc, oneshot, watch};

use self::actor::Actor;
use self::open::Waiter;
use super::Node;
use super::journal::Journal;
use super::tx_id::TxId;
use crate::chain::evm::{Failure, Mined};
use crate::{Error, Key, Result};

pub(super) use self::book::Book;
pub(super) use self::signing::Call;

/// Requests that may wait for an actor to look at them.
const INBOX: usize = 64;

/// How a transaction ended.
type Answer = Result<Mined, Failure>;

/// A transaction that somebody wants.
struct Request {
    key: Key,
    id: Option<TxId>,
    call: Call,
    waiter: Waiter,
}

/// The way to a key's actor. The actor stops when the last of these is dropped; what is in the journal is taken up by the
/// next one.
#[derive(Debug, Clone)]
pub(super) struct Transactor {
    node: Arc<Node>,
    requests: mpsc::Sender<Request>,
    unfinished: watch::Receiver<usize>,
}

impl Transactor {
    /// Starts the actor of an account with what its journal holds.
    pub(super) fn start(node: Arc<Node>, account: Address, journal: Journal, book: Book) -> Self {
        let (requests, inbox) = mpsc::channel(INBOX);
        let (count, unfinished) = watch::channel(book.open.len());
        let actor = Actor::new(Arc::clone(&node), account, journal, book, count);
        tokio::spawn(actor.run(inbox));
        Self {
            node,
            requests,
            unfinished,
        }
    }

    /// Transactions that have not ended.
    pub(super) fn unfinished(&self) -> usize {
        *self.unfinished.borrow()
    }

    /// Whether the actor is there no more.
    pub(super) fn is_stopped(&self) -> bool {
        self.requests.is_closed()
    }

    /// Sends a transaction, or waits for the one that this id names already. A dropped future takes nothing back.
    pub(super) async fn send(&self, key: &Key, id: Option<TxId>, call: Call) -> Answer {
        let stopped =
            || Error::closed("the actor of this key's transactions stopped; connect again");
        let (reply, answer) = oneshot::channel();
        let deadline = self.node.clock.now().after(self.node.settings.receipt());
        let request = Request {
            key: key.clone(),
            id,
            call,
            waiter: Waiter { reply, deadline },
        };
        self.requests.send(request).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}
