//! One commit: tries while the store says that later may help, and sorts out what conflicts.

use std::time::Duration;

use cuckoo_core::{Clock, Error, Result, Retry};
use futures::future::{self, Either};

use super::{Admitted, Concluded, Journal, Write, Written};
use crate::Evidence;
use crate::registry::used_before;
use crate::settle::Ledger;
use crate::store::{Change, Commit, Committed, TaskRecord};
use crate::telemetry::CommitCost;

/// How often an operation is tried, and how long each try may take.
const TRIES: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(10);
/// How often accounts may change under our hands before we give up.
const MAX_CONFLICTS: u32 = 100;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The version of a task that was just inserted.
const FIRST: u64 = 1;

/// A write of a batch and where its changes stand in the commit.
struct Item {
    write: Write,
    evidence: Option<Evidence>,
    /// The position of the change that decides over it.
    decisive: usize,
    /// Positions of its payments.
    pays: std::ops::Range<usize>,
    outcome: Option<Result<Committed>>,
}

impl Journal {
    /// Carries out a batch; gives what the market must know.
    pub(super) async fn write(&mut self, batch: Vec<Write>) -> Vec<Written> {
        let mut items = Vec::with_capacity(batch.len());
        for write in batch {
            let gathered = match &write {
                Write::Conclude(conclude) => self.gather(conclude).await,
                _ => Ok(None),
            };
            let (evidence, outcome) = match gathered {
                Ok(evidence) => (evidence, None),
                Err(error) => (None, Some(Err(error))),
            };
            items.push(Item {
                write,
                evidence,
                decisive: 0,
                pays: 0..0,
                outcome,
            });
        }
        self.settle_and_commit(&mut items).await;
        let written = items.into_iter();
        written
            .filter_map(|item| item.report(&self.ledger))
            .collect()
    }

    /// Commits what is undecided. What conflicts is decided on its own, and the rest is committed again.
    async fn settle_and_commit(&mut self, items: &mut [Item]) {
        for _ in 0..MAX_CONFLICTS {
            let open = || items.iter().filter(|item| item.outcome.is_none());
            if open().next().is_none() {
                return;
            }
            let grown = self
                .ledger
                .grow(open().flat_map(|item| item.write.payments()));
            let committed = match &grown {
                Ok(growth) => {
                    let mut changes: Vec<_> = growth.changes().collect();
                    for item in items.iter_mut().filter(|item| item.outcome.is_none()) {
                        item.append(&mut changes);
                    }
                    let began = self.clock.now();
                    let committed = self.tried(|| self.store.commit(changes.clone())).await;
                    self.costs.push(CommitCost {
                        took: self.clock.now().since(began),
                        changes: changes.len(),
                        failed: committed.is_err(),
                    });
                    committed
                }
                Err(error) => Err(error.duplicate()),
            };
            match committed {
                Ok(Commit::Done(done)) => {
                    for item in items.iter_mut().filter(|item| item.outcome.is_none()) {
                        let missing = || Error::internal("the store did not answer each change");
                        item.outcome = Some(done.get(item.decisive).copied().ok_or_else(missing));
                    }
                    self.ledger.keep(grown.unwrap_or_default());
                }
                Ok(Commit::Conflict(positions)) => {
                    if let Err(error) = self.sort_out(items, &positions).await {
                        fail(items, &error);
                    }
                }
                Err(error) => fail(items, &error),
            }
        }
        let error = "others change the same accounts all the time; try later";
        fail(items, &Error::unavailable(error));
    }

    /// Decides the writes that conflict. A commit that was repeated conflicts with itself when only the first try's
    /// answer was lost: then all is as meant.
    async fn sort_out(&mut self, items: &mut [Item], positions: &[usize]) -> Result<()> {
        let accounts = self.tried(|| self.store.accounts()).await?;
        self.ledger.reload(accounts);
        let conflicts = |item: &Item| {
            positions.contains(&item.decisive)
                || positions
                    .iter()
                    .any(|position| item.pays.contains(position))
        };
        for item in items
            .iter_mut()
            .filter(|item| item.outcome.is_none() && conflicts(item))
        {
            if let Some(meant) = item.write.record()
                && let Some(version) = self.stored_as(meant).await?
            {
                item.outcome = Some(Ok(Committed::Version(version)));
                continue;
            }
            if let Write::OpenSession(asked) = &item.write {
                // Its own, when it was this very commit that used the request.
                let sessions = self.tried(|| self.store.sessions()).await?;
                item.outcome = Some(match sessions.contains(&asked.session) {
                    true => Ok(Committed::Version(0)),
                    false => Err(used_before()),
                });
            } else if positions.contains(&item.decisive) {
                item.outcome = Some(Err(Error::conflict(
                    "another coordinator changed the task meanwhile; look at it again",
                )));
            } else {
                self.drop_paid(item).await?;
            }
        }
        Ok(())
    }

    /// The version of a task that is stored exactly so.
    async fn stored_as(&self, meant: &TaskRecord) -> Result<Option<u64>> {
        let stored = self.tried(|| self.store.load(meant.task.id)).await?;
        Ok(stored
            .filter(|stored| stored.value == *meant)
            .map(|stored| stored.version))
    }

    /// Pays nothing twice: leases that were paid before leave the write.
    async fn drop_paid(&self, item: &mut Item) -> Result<()> {
        let Write::Conclude(conclude) = &mut item.write else {
            return Ok(());
        };
        let mut unpaid = Vec::new();
        for payment in conclude.payments.drain(..) {
            if self
                .tried(|| self.store.payment(payment.task, payment.lease))
                .await?
                .is_none()
            {
                unpaid.push(payment);
            }
        }
        conclude.payments = unpaid;
        Ok(())
    }

    pub(super) async fn tried<T, F>(&self, operation: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        tried(self.clock.as_ref(), operation).await
    }
}

impl Item {
    /// Adds its changes to a commit and notes where they are.
    fn append(&mut self, changes: &mut Vec<Change>) {
        let from = changes.len();
        let mine = self.write.changes(self.evidence.as_ref());
        // Evidence stands before the task's end; payments, if any, after it.
        self.decisive = from + usize::from(self.evidence.is_some());
        let payments = self.write.payments().len();
        changes.extend(mine);
        self.pays = changes.len() - payments..changes.len();
    }

    /// What the market must know of it.
    fn report(self, ledger: &Ledger) -> Option<Written> {
        let outcome = self
            .outcome
            .unwrap_or_else(|| Err(Error::internal("a write was left undecided")));
        let version = |outcome: Result<Committed>| {
            outcome.map(|committed| match committed {
                Committed::Version(version) => version,
                Committed::Known { .. } => 0,
            })
        };
        Some(match self.write {
            Write::Insert { record, reply } => Written::Inserted {
                id: record.task.id,
                written: outcome.and_then(|committed| admitted(&record, committed)),
                reply,
            },
            Write::Receive { lease, .. } => Written::Received {
                lease,
                written: version(outcome),
            },
            Write::Reopen { record, .. } => Written::Reopened {
                id: record.task.id,
                written: version(outcome),
            },
            Write::Conclude(conclude) => Written::Concluded {
                id: conclude.record.task.id,
                written: version(outcome).map(|version| Concluded {
                    version,
                    paid: conclude
                        .payments
                        .into_iter()
                        .filter_map(|payment| {
                            let voucher = ledger.voucher(payment.miner)?.clone();
                            Some((payment, voucher))
                        })
                        .collect(),
                    evidence: self.evidence,
                }),
            },
            Write::OpenSession(asked) => Written::SessionOpened {
                asked,
                written: outcome.map(|_| ()),
            },
            Write::PutLease(_)
            | Write::RemoveLease { .. }
            | Write::RemoveSession(_)
            | Write::Notified(_) => {
                if let Err(error) = outcome {
                    // Nothing was promised: a restart then starts such work anew.
                    tracing::warn!(%error, "a lease or session could not be noted in the store");
                }
                return None;
            }
        })
    }
}

fn admitted(record: &TaskRecord, committed: Committed) -> Result<Admitted> {
    match committed {
        Committed::Version(version) => Ok(Admitted::New(version)),
        // The first try of this very commit had taken effect, and only its answer was lost.
        Committed::Known { task, .. } if task == record.task.id => Ok(Admitted::New(FIRST)),
        Committed::Known { task, digest } if digest == record.submission.digest => {
            Ok(Admitted::Known(task))
        }
        Committed::Known { task, .. } => Err(Error::conflict(format!(
            "this idempotency key was used for task {task}, which asked for something else; use a new key"
        ))),
    }
}

fn fail(items: &mut [Item], error: &Error) {
    for item in items.iter_mut().filter(|item| item.outcome.is_none()) {
        item.outcome = Some(Err(error.duplicate()));
    }
}

/// Tries a store operation again while the store says that later may help.
pub(crate) async fn tried<T, F>(clock: &dyn Clock, operation: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut pause = FIRST_PAUSE;
    for tries in 1.. {
        let patience = clock.sleep(PATIENCE);
        let outcome = match future::select(Box::pin(operation()), patience).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(Error::unavailable("the store did not answer in time")),
        };
        match outcome {
            Err(error) if error.retry() == Retry::Later && tries < TRIES => {
                tracing::warn!(%error, tries, "the store failed; trying again");
            }
            outcome => return outcome,
        }
        clock.sleep(pause).await;
        pause *= 4;
    }
    Err(Error::internal("no try was made"))
}
