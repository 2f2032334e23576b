//! Batches over all tasks in work: one thread that computes some texts of each at a time. Tasks join and leave between
//! batches, and a small one does not wait for a large one.
//!
//! A text's vector does not depend on its batch, so every choice here is about speed alone.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};

use cuckoo_core::{Clock, Embeddings, Error as CoreError, Result as CoreResult, Timestamp, Usage};
use tokio::sync::oneshot;

use super::EmbeddingModel;
use crate::line::{Line, WAITING};
use crate::model::error::Error;
use crate::{Execution, TaskContext};

/// The thread and the line to it.
#[derive(Debug)]
pub(crate) struct Engine(Line<Job>);

/// A task on its way to the thread.
#[derive(Debug)]
struct Job {
    texts: Vec<Vec<u32>>,
    context: TaskContext,
    reply: oneshot::Sender<CoreResult<Execution>>,
}

impl Engine {
    /// Starts the thread; batches have up to `most` tokens.
    pub(crate) fn start(
        model: Arc<EmbeddingModel>,
        most: usize,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let work = move |arriving| {
            let worker = Worker {
                model,
                most,
                clock,
                arriving,
                tasks: VecDeque::new(),
            };
            worker.work();
        };
        Line::start("cuckoo-embed", work).map(Self)
    }

    /// Embeds texts with these tokens; dropping the future gives them up.
    pub(crate) async fn run(
        &self,
        texts: Vec<Vec<u32>>,
        context: TaskContext,
    ) -> CoreResult<Execution> {
        let job = |reply| Job {
            texts,
            context,
            reply,
        };
        self.0.run(job).await
    }
}

/// The thread's side.
struct Worker {
    model: Arc<EmbeddingModel>,
    most: usize,
    clock: Arc<dyn Clock>,
    arriving: mpsc::Receiver<Job>,
    /// The one to have the first place in the next batch comes first.
    tasks: VecDeque<Task>,
}

impl Worker {
    fn work(mut self) {
        loop {
            if self.tasks.is_empty() {
                match self.arriving.recv() {
                    Ok(job) => self.tasks.push_back(Task::new(job)),
                    Err(_) => return,
                }
            }
            while self.tasks.len() < WAITING
                && let Ok(job) = self.arriving.try_recv()
            {
                self.tasks.push_back(Task::new(job));
            }
            self.give_up();
            self.step();
        }
    }

    /// Ends tasks that are cancelled or late.
    fn give_up(&mut self) {
        let now = self.clock.now();
        for i in (0..self.tasks.len()).rev() {
            if let Some(error) = self.tasks[i].unwanted(now)
                && let Some(task) = self.tasks.remove(i)
            {
                task.end(Err(error.into()));
            }
        }
    }

    /// Computes one batch.
    fn step(&mut self) {
        let waiting: Vec<_> = self.tasks.iter().map(Task::lengths).collect();
        let shares = plan(&waiting, self.most);
        let mut batch = Vec::new();
        for (task, share) in self.tasks.iter().zip(&shares) {
            batch.extend(task.next(*share));
        }
        if batch.is_empty() {
            return;
        }
        let vectors = self.model.run(&batch);
        let mut vectors = match vectors {
            Ok(vectors) => vectors.into_iter(),
            Err(error) => return self.fail(&shares, &error),
        };
        for (task, share) in self.tasks.iter_mut().zip(&shares) {
            task.take(vectors.by_ref().take(*share));
        }
        for i in (0..self.tasks.len()).rev() {
            if self.tasks[i].is_done()
                && let Some(task) = self.tasks.remove(i)
            {
                task.finish();
            }
        }
        // What one batch has no room for is another one's turn.
        if !self.tasks.is_empty() {
            self.tasks.rotate_left(1);
        }
    }

    /// A layer failed, and nobody knows for whose sake.
    fn fail(&mut self, shares: &[usize], error: &Error) {
        for (i, share) in shares.iter().enumerate().rev() {
            if *share > 0
                && let Some(task) = self.tasks.remove(i)
            {
                task.end(Err(CoreError::execution(error.to_string())));
            }
        }
    }
}

/// How many texts of each task a batch takes, by the lengths of those that wait: one of each in turn, until the next one has
/// no room in `most` tokens. There is always one.
fn plan(waiting: &[Vec<usize>], most: usize) -> Vec<usize> {
    let mut shares = vec![0; waiting.len()];
    let mut total = 0;
    let mut open: Vec<usize> = (0..waiting.len()).collect();
    while !open.is_empty() {
        open.retain(|task| match waiting[*task].get(shares[*task]) {
            Some(length) if total == 0 || total + length <= most => {
                total += length;
                shares[*task] += 1;
                true
            }
            _ => false,
        });
    }
    shares
}

/// A task in work.
#[derive(Debug)]
struct Task {
    texts: Vec<Vec<u32>>,
    /// Places of the texts, longest first, so that those of like length share a batch and the last ones fill it up.
    order: Vec<usize>,
    /// As far along that order it has come.
    done: usize,
    vectors: Vec<Vec<f32>>,
    /// Tokens of the texts that are done, and of all.
    read: usize,
    tokens: usize,
    context: TaskContext,
    reply: oneshot::Sender<CoreResult<Execution>>,
}

impl Task {
    fn new(job: Job) -> Self {
        let Job {
            texts,
            context,
            reply,
        } = job;
        let mut order: Vec<_> = (0..texts.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(texts[*i].len()));
        Self {
            order,
            done: 0,
            vectors: vec![Vec::new(); texts.len()],
            read: 0,
            tokens: texts.iter().map(Vec::len).sum(),
            texts,
            context,
            reply,
        }
    }

    /// Why it should be carried no further, if so.
    fn unwanted(&self, now: Timestamp) -> Option<Error> {
        if self.context.is_cancelled() || self.reply.is_closed() {
            let (step, steps) = (self.done, self.texts.len());
            return Some(Error::Cancelled { step, steps });
        }
        let made = self.read;
        (now >= self.context.deadline()).then_some(Error::Late { made })
    }

    /// Lengths of the texts that wait, in their order.
    fn lengths(&self) -> Vec<usize> {
        let waiting = &self.order[self.done..];
        waiting.iter().map(|i| self.texts[*i].len()).collect()
    }

    /// The next `count` texts.
    fn next(&self, count: usize) -> impl Iterator<Item = &[u32]> {
        let next = &self.order[self.done..self.done + count];
        next.iter().map(|i| self.texts[*i].as_slice())
    }

    /// Takes the vectors of the next texts.
    fn take(&mut self, vectors: impl Iterator<Item = Vec<f32>>) {
        for vector in vectors {
            let i = self.order[self.done];
            self.read += self.texts[i].len();
            self.vectors[i] = vector;
            self.done += 1;
        }
        let thousandths = self.read * 1000 / self.tokens.max(1);
        self.context
            .progress(u16::try_from(thousandths).unwrap_or(1000).min(999));
    }

    fn is_done(&self) -> bool {
        self.done == self.texts.len()
    }

    /// Hands in the output.
    fn finish(mut self) {
        let usage = Usage {
            input_units: self.tokens as u64,
            ..Usage::default()
        };
        let vectors = std::mem::take(&mut self.vectors);
        let output = Embeddings::output(&vectors);
        self.end(output.map(|output| Execution::new(output).with_usage(usage)));
    }

    fn end(self, result: CoreResult<Execution>) {
        // Whoever asked may be gone.
        let _ = self.reply.send(result);
    }
}

#[cfg(test)]
mod tests;
