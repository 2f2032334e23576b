//! Continuous batching (Yu et al., "Orca", OSDI 2022): one thread that carries all texts in work a step further at a
//! time. Texts join and leave between steps; a long prompt is read in parts, so that those in the middle of an answer
//! do not wait for it.
//!
//! What a text says does not depend on any of this, so every choice here is about speed alone.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};

use cuckoo_core::{Clock, Result};
use rayon::prelude::*;
use tokio::sync::oneshot;

use super::LanguageModel;
use super::sequence::Sequence;
use super::token_sampler::TokenSampler;
use crate::line::{Line, WAITING};
use crate::model::cache::{Cache, Pool};
use crate::model::error::{self, Error};
use crate::{Execution, TaskContext, TextLimits};

/// A text on its way to the thread.
#[derive(Debug)]
struct Job {
    text: TokenSampler,
    context: TaskContext,
    reply: oneshot::Sender<Result<Execution>>,
}

/// The thread and the line to it.
#[derive(Debug)]
pub(crate) struct Engine(Line<Job>);

impl Engine {
    /// Starts the thread.
    pub(crate) fn start(
        model: Arc<LanguageModel>,
        limits: TextLimits,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let page = model.decoder.page_size().bytes().max(1);
        let pages = (limits.memory_mib << 20) / page;
        let pages = usize::try_from(pages).unwrap_or(usize::MAX).max(1);
        Self::with_pages(model, limits, pages, clock)
    }

    /// As [`Engine::start`], with so many pages of memory.
    fn with_pages(
        model: Arc<LanguageModel>,
        limits: TextLimits,
        pages: usize,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let size = model.decoder.page_size();
        let pool = Pool::new(size, pages, model.kernels.device());
        let work = move |arriving| {
            let worker = Worker {
                model,
                limits,
                clock,
                arriving,
                waiting: VecDeque::new(),
                running: Vec::new(),
                pool,
            };
            worker.work();
        };
        Line::start("cuckoo-text", work).map(Self)
    }

    /// Writes a text to its end; dropping the future gives it up.
    pub(crate) async fn run(&self, text: TokenSampler, context: TaskContext) -> Result<Execution> {
        let job = |reply| Job {
            text,
            context,
            reply,
        };
        self.0.run(job).await
    }
}

/// The thread's side.
struct Worker {
    model: Arc<LanguageModel>,
    limits: TextLimits,
    clock: Arc<dyn Clock>,
    arriving: mpsc::Receiver<Job>,
    waiting: VecDeque<Sequence>,
    /// In the order they joined.
    running: Vec<Sequence>,
    pool: Pool,
}

impl Worker {
    fn work(mut self) {
        loop {
            if self.running.is_empty() && self.waiting.is_empty() {
                match self.arriving.recv() {
                    Ok(job) => self.arrive(job),
                    Err(_) => return,
                }
            }
            while self.waiting.len() < WAITING
                && let Ok(job) = self.arriving.try_recv()
            {
                self.arrive(job);
            }
            self.give_up();
            self.admit();
            self.step();
        }
    }

    /// Takes a text, unless it can never fit.
    fn arrive(&mut self, job: Job) {
        let needed = Cache::pages_for(job.text.least());
        let sequence = Sequence::new(job.text, job.context, job.reply);
        if needed > self.pool.limit() {
            let problem = format!(
                "the text may need {needed} pages of memory, and this miner has {}; assign the task to another one",
                self.pool.limit()
            );
            return sequence.fail(Error::Full { problem });
        }
        self.waiting.push_back(sequence);
    }

    /// Ends texts that are cancelled or late.
    fn give_up(&mut self) {
        let now = self.clock.now();
        for i in (0..self.running.len()).rev() {
            if let Some(error) = self.running[i].unwanted(now) {
                self.remove(i).fail(error);
            }
        }
        for i in (0..self.waiting.len()).rev() {
            if let Some(error) = self.waiting[i].unwanted(now)
                && let Some(sequence) = self.waiting.remove(i)
            {
                sequence.fail(error);
            }
        }
    }

    /// Lets waiting texts join while there is a place and memory for what they have so far.
    fn admit(&mut self) {
        while self.running.len() < self.limits.texts
            && let Some(next) = self.waiting.front()
        {
            let needed = Cache::pages_for(next.tokens().len());
            if !self.running.is_empty() && needed > self.pool.available() {
                return;
            }
            self.running.extend(self.waiting.pop_front());
        }
    }

    /// Carries the running texts one step further.
    fn step(&mut self) {
        let pending: Vec<_> = self.running.iter().map(Sequence::pending).collect();
        let mut rows = plan(&pending, self.limits.chunk);
        self.make_room(&mut rows);
        let mut texts: Vec<_> = self
            .running
            .iter_mut()
            .zip(rows)
            .enumerate()
            .filter(|(_, (_, rows))| *rows > 0)
            .map(|(i, (sequence, rows))| (i, sequence, rows))
            .collect();
        if texts.is_empty() {
            return;
        }
        let rows = texts.iter().map(|(_, _, rows)| rows).sum();
        let share = self.model.decoder.share(texts.len(), rows);
        let model = &*self.model;
        let tokens: Vec<_> = texts
            .par_chunks_mut(share)
            .flat_map_iter(|texts| advance(model, texts))
            .collect();
        for (i, token) in tokens.into_iter().rev() {
            match token {
                Ok(Some(_)) => {}
                Ok(None) => self.remove(i).finish(),
                Err(error) => self.remove(i).fail(error),
            }
        }
    }

    /// Takes the memory that the step needs. Where there is not enough, the text that joined last is set back: it
    /// forgets, waits, and is read again later, which gives the same.
    fn make_room(&mut self, rows: &mut Vec<usize>) {
        let mut i = 0;
        while i < self.running.len() {
            match self.running[i].grow(&mut self.pool, rows[i]) {
                Ok(true) => i += 1,
                Ok(false) if self.running.len() == 1 => {
                    let problem = "the text has outgrown this miner's memory for texts; assign the task to another one";
                    self.remove(0).fail(Error::Full {
                        problem: problem.to_owned(),
                    });
                }
                Ok(false) => {
                    let last = self.running.len() - 1;
                    let sequence = self.remove(last);
                    self.waiting.push_front(sequence);
                }
                Err(error) => {
                    rows.remove(i);
                    self.remove(i).fail(error);
                }
            }
            rows.truncate(self.running.len());
        }
    }

    /// Takes a text out of work, its memory given back.
    fn remove(&mut self, i: usize) -> Sequence {
        let mut sequence = self.running.remove(i);
        sequence.forget(&mut self.pool);
        sequence
    }
}

/// Carries some of the running texts, each with its place among them, so many tokens further. Gives what came of those that
/// got their next token; of all, where a layer failed, since nobody knows for whose sake.
fn advance(
    model: &LanguageModel,
    texts: &mut [(usize, &mut Sequence, usize)],
) -> Vec<(usize, error::Result<Option<u32>>)> {
    let mut batch: Vec<_> = texts
        .iter_mut()
        .map(|(_, sequence, rows)| sequence.chunk(*rows))
        .collect();
    let scores = match model.decoder.forward(&*model.kernels, &mut batch) {
        Ok(scores) => scores,
        Err(error) => {
            let problem = error.to_string();
            let stopped = |problem: &str| Error::Stopped {
                problem: problem.to_owned(),
            };
            let failed = texts.iter().map(|(i, ..)| (*i, Err(stopped(&problem))));
            return failed.collect();
        }
    };
    // Those whose last token was among the rows, each with its scores.
    let due: Vec<_> = texts
        .iter_mut()
        .filter(|(_, sequence, _)| sequence.pending() == 0)
        .zip(&scores)
        .collect();
    due.into_par_iter()
        .map(|((i, sequence, _), scores)| (*i, sequence.advance(scores)))
        .collect()
}

/// How many tokens of each text a step takes: the one that each answer is at, and `chunk` more of prompts, those that
/// joined first before the others.
fn plan(pending: &[usize], chunk: usize) -> Vec<usize> {
    let mut left = chunk;
    pending
        .iter()
        .map(|pending| match pending {
            0 | 1 => *pending,
            _ => {
                let rows = left.min(*pending);
                left -= rows;
                rows
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
