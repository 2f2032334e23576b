//! The one that writes: a thread that owns the connection and carries out what waits in one transaction.
//!
//! While the disk makes a transaction durable, the next calls gather; they then share one. Each call is atomic on its own:
//! what fails or conflicts is undone alone.

use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use cuckoo_core::{Error, Result};
use rusqlite::ErrorCode;
use tokio::sync::{mpsc, oneshot};

use super::fault::fault;
use super::log::{Length, checkpoint};
use super::tables::{Counts, Tables};

/// Calls that may wait before callers do.
const WAITING: usize = 1024;
/// The most calls in one transaction.
const GROUP: usize = 256;

/// Sends calls to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    calls: Option<mpsc::Sender<Box<dyn Call>>>,
    thread: Option<JoinHandle<()>>,
}

/// Whether what a call did stays.
#[derive(Debug)]
pub(super) enum Done<T> {
    Keep(T),
    Undo(T),
}

/// Something to do in a transaction, and somebody who waits for it.
trait Call: Send {
    /// Does it; whether it stays.
    fn perform(&mut self, tables: &mut Tables) -> rusqlite::Result<bool>;
    /// Answers once it is durable, or could not be made so.
    fn answer(self: Box<Self>, outcome: Result<()>);
}

struct Waiting<T, F> {
    work: Option<F>,
    result: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Call for Waiting<T, F>
where
    T: Send,
    F: FnOnce(&mut Tables) -> rusqlite::Result<Done<T>> + Send,
{
    fn perform(&mut self, tables: &mut Tables) -> rusqlite::Result<bool> {
        let Some(work) = self.work.take() else {
            return Ok(false);
        };
        let (result, stays) = match work(tables)? {
            Done::Keep(result) => (result, true),
            Done::Undo(result) => (result, false),
        };
        self.result = Some(result);
        Ok(stays)
    }

    fn answer(self: Box<Self>, outcome: Result<()>) {
        let missing = || Error::internal("a call on the store was not carried out");
        let Self { result, reply, .. } = *self;
        // Nobody waits any more for a call that was dropped.
        let _ = reply.send(outcome.and_then(|()| result.ok_or_else(missing)));
    }
}

impl Writer {
    /// Starts the thread. It copies the log when `length` says so, and sends on the names of objects that were freed.
    pub(super) fn start(
        tables: Tables,
        path: Arc<Path>,
        length: Arc<Length>,
        freed: mpsc::Sender<Vec<String>>,
    ) -> Result<Self> {
        let (calls, waiting) = mpsc::channel(WAITING);
        let thread = Thread {
            tables,
            path,
            length,
            freed,
        };
        let thread = Builder::new()
            .name("cuckoo-store".into())
            .spawn(move || thread.run(waiting))
            .map_err(|source| {
                Error::unavailable("cannot start the store's thread").with_source(source)
            })?;
        Ok(Self {
            calls: Some(calls),
            thread: Some(thread),
        })
    }

    /// Does `work` in a transaction and waits until that is durable.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tables) -> rusqlite::Result<Done<T>> + Send + 'static,
    ) -> Result<T> {
        let closed = || Error::unavailable("the store's thread ended; start the program again");
        let (reply, answer) = oneshot::channel();
        let call = Waiting {
            work: Some(work),
            result: None,
            reply,
        };
        let calls = self.calls.as_ref().ok_or_else(closed)?;
        calls.send(Box::new(call)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Writer {
    /// Waits until what was begun is durable and the file is free again.
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Thread {
    tables: Tables,
    path: Arc<Path>,
    length: Arc<Length>,
    freed: mpsc::Sender<Vec<String>>,
}

/// How a call of a group went.
enum Performed {
    /// What it did stays.
    Kept,
    /// Nothing of it does, as it wanted.
    Undone,
    /// Nothing of it does, for it failed.
    Failed(Error),
    /// The transaction cannot go on.
    Broken(Error),
}

impl Thread {
    fn run(mut self, mut waiting: mpsc::Receiver<Box<dyn Call>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut calls = vec![first];
            while calls.len() < GROUP
                && let Ok(call) = waiting.try_recv()
            {
                calls.push(call);
            }
            self.finish_copy();
            self.carry_out(calls);
        }
    }

    /// One transaction for all of them.
    fn carry_out(&mut self, calls: Vec<Box<dyn Call>>) {
        let before = self.tables.counts;
        let alone = calls.len() == 1;
        let mut broken = self.execute("BEGIN IMMEDIATE").err();
        let mut kept = 0;
        let mut performed = Vec::with_capacity(calls.len());
        for mut call in calls {
            let mut outcome = Ok(());
            if broken.is_none() {
                match self.perform(call.as_mut(), alone) {
                    Performed::Kept => kept += 1,
                    Performed::Undone => {}
                    Performed::Failed(error) => outcome = Err(error),
                    Performed::Broken(error) => broken = Some(error),
                }
            }
            performed.push((call, outcome));
        }
        if broken.is_none() && kept > 0 {
            broken = self.commit(before).err();
        }
        if broken.is_some() || kept == 0 {
            self.roll_back(before);
        }
        if broken.is_some() {
            // On a full disk the log may begin again in the room that it has.
            self.copy_log();
        }
        let freed = std::mem::take(&mut self.tables.freed);
        if !freed.is_empty() && self.freed.try_send(freed).is_err() {
            // The next start finds them.
            tracing::debug!("outputs that are not needed are left for later");
        }
        for (call, outcome) in performed {
            let broken = broken.as_ref().map(Error::duplicate);
            call.answer(outcome.and(broken.map_or(Ok(()), Err)));
        }
    }

    fn perform(&mut self, call: &mut dyn Call, alone: bool) -> Performed {
        // A group of one is undone with its transaction.
        let savepoint = |sql| if alone { Ok(()) } else { self.execute(sql) };
        if let Err(error) = savepoint("SAVEPOINT call") {
            return Performed::Broken(error);
        }
        let (counts, freed) = (self.tables.counts, self.tables.freed.len());
        let failure = match call.perform(&mut self.tables) {
            Ok(true) if alone => return Performed::Kept,
            Ok(true) => {
                return match self.execute("RELEASE call") {
                    Ok(()) => Performed::Kept,
                    Err(error) => Performed::Broken(error),
                };
            }
            Ok(false) => None,
            Err(error) if concerns_all(&error) || self.tables.connection.is_autocommit() => {
                return Performed::Broken(fault(&self.path, error));
            }
            Err(error) => Some(fault(&self.path, error)),
        };
        self.tables.counts = counts;
        self.tables.freed.truncate(freed);
        if !alone && let Err(error) = self.execute("ROLLBACK TO call; RELEASE call") {
            return Performed::Broken(error);
        }
        failure.map_or(Performed::Undone, Performed::Failed)
    }

    fn commit(&mut self, before: Counts) -> Result<()> {
        let tables = &mut self.tables;
        let counted = tables.make_room().and_then(|()| {
            if tables.counts == before {
                Ok(())
            } else {
                tables.keep_counts()
            }
        });
        counted.map_err(|error| fault(&self.path, error))?;
        self.execute("COMMIT")
    }

    fn roll_back(&mut self, before: Counts) {
        self.tables.counts = before;
        self.tables.freed.clear();
        // After some failures the database has done it already.
        if !self.tables.connection.is_autocommit()
            && let Err(error) = self.execute("ROLLBACK")
        {
            tracing::error!(%error, "a failed transaction could not be undone");
        }
    }

    /// Once most of the log was copied into the database, copies what came since, which is little: the log then begins
    /// again at its start.
    fn finish_copy(&self) {
        if self.length.writers_turn() {
            self.copy_log();
        }
    }

    fn copy_log(&self) {
        if let Err(error) = checkpoint(&self.tables.connection, &self.length) {
            tracing::warn!(error = %fault(&self.path, error), "the log could not be copied into the database yet");
        }
    }

    fn execute(&self, sql: &str) -> Result<()> {
        let executed = self.tables.connection.execute_batch(sql);
        executed.map_err(|error| fault(&self.path, error))
    }
}

/// Whether an error is no matter of one call but of the file or the disk.
fn concerns_all(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code().is_some_and(|code| {
        !matches!(
            code,
            ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch
        )
    })
}
