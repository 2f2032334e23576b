//! Logs of new blocks, by polling: no subscription to lose, and an outage is no gap. The hashes of the blocks that were
//! read are remembered for a while, so that a reorganisation is noticed and read again from where it began.

use std::collections::VecDeque;

use alloy::primitives::Address;
use alloy::providers::Provider as _;
use alloy::rpc::types::{Filter, Header};

use super::{Pin, RpcStaking};
use crate::chain::evm::{Evm as _, Failure, MinedLog};
use crate::{Error, ErrorKind, Result};

/// Blocks whose logs are asked for at once; common providers refuse more.
const LOG_BLOCKS: u64 = 1_000;
/// Blocks that a reader of changes may fall behind before it is told of a gap.
const MOST_BEHIND: u64 = 100_000;

/// Blocks that are remembered by their hash. Deeper reorganisations are noticed, but what came before is not read again.
const REMEMBERED: usize = 256;

/// Reads the logs of new blocks, a bounded range at a time.
pub(super) struct LogReader {
    chain: RpcStaking,
    contracts: Vec<Address>,
    /// The first block not read yet.
    next: u64,
    /// The last block of each range that was read, oldest first.
    read: VecDeque<Pin>,
    /// Blocks to ask for at once; halved when the node finds a range too large.
    most: u64,
    ready: VecDeque<MinedLog>,
    /// The node did not answer the last time.
    lost: bool,
}

/// How far one reading came.
enum Progress {
    /// It read a range of blocks.
    Read,
    /// There is no new block.
    UpToDate,
    /// It had to go on at a later or earlier block.
    Skipped(Error),
}

impl LogReader {
    /// Reads what comes after the block `head`.
    pub(super) fn new(chain: RpcStaking, contracts: Vec<Address>, head: &Header) -> Self {
        Self {
            chain,
            contracts,
            next: head.number.saturating_add(1),
            read: VecDeque::from([Pin::of(head)]),
            most: LOG_BLOCKS,
            ready: VecDeque::new(),
            lost: false,
        }
    }

    /// The next log, however long it takes; an error is a gap.
    pub(super) async fn item(&mut self) -> Result<MinedLog> {
        loop {
            if let Some(log) = self.ready.pop_front() {
                return Ok(log);
            }
            match self.read().await {
                Ok(Progress::Read) => {}
                Ok(Progress::UpToDate) => self.chain.pause().await,
                Ok(Progress::Skipped(gap)) => return Err(gap),
                Err(Failure::Other(error)) if error.kind() == ErrorKind::Unavailable => {
                    // Nothing is missed: reading goes on at the same block.
                    if !self.lost {
                        tracing::warn!(%error, "waiting for the chain node to report changes");
                    }
                    self.lost = true;
                    self.chain.pause().await;
                }
                Err(_) if self.most > 1 => self.most /= 2,
                Err(failure) => {
                    let block = self.next;
                    self.next += 1;
                    return Err(Error::unavailable(format!(
                        "the changes of block {block} cannot be read; take a new snapshot"
                    ))
                    .with_source(failure.into_error()));
                }
            }
        }
    }

    async fn read(&mut self) -> Result<Progress, Failure> {
        let head = self.chain.latest().await?;
        if self.lost {
            tracing::info!(block = head.number, "the chain node is back");
            self.lost = false;
        }
        if !self.continues(&head).await? {
            return self.rewind(&head).await;
        }
        let end = head.number.saturating_add(1);
        let behind = end.saturating_sub(self.next);
        if behind == 0 {
            // Also when the node is one of several and has not seen the latest blocks yet.
            return Ok(Progress::UpToDate);
        }
        if behind > MOST_BEHIND {
            let from = std::mem::replace(&mut self.next, end);
            self.read = VecDeque::from([Pin::of(&head)]);
            return Ok(Progress::Skipped(Error::unavailable(format!(
                "the changes from block {from} to block {end} were skipped; take a new snapshot"
            ))));
        }
        let last = self.next + behind.min(self.most) - 1;
        // Before the logs: a block that is replaced in between is then noticed by the next reading.
        let last = if last == head.number {
            Pin::of(&head)
        } else {
            match self.chain.header(last.into()).await? {
                Some(header) => Pin::of(&header),
                None => return Ok(Progress::UpToDate),
            }
        };
        let filter = Filter::new()
            .address(self.contracts.clone())
            .from_block(self.next)
            .to_block(last.number);
        let logs = self
            .chain
            .provider()
            .get_logs(&filter)
            .await
            .map_err(|error| self.chain.failed(error))?;
        let (removed, mut logs): (Vec<_>, Vec<_>) = logs.into_iter().partition(|log| log.removed);
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        self.ready.extend(logs.into_iter().map(|log| MinedLog {
            block: log.block_number.unwrap_or(last.number),
            log: log.inner,
        }));
        let from = std::mem::replace(&mut self.next, last.number.saturating_add(1));
        self.remember(last);
        self.most = (self.most * 2).min(LOG_BLOCKS);
        Ok(if removed.is_empty() {
            Progress::Read
        } else {
            Progress::Skipped(replaced(from))
        })
    }

    fn remember(&mut self, block: Pin) {
        if self.read.len() == REMEMBERED {
            self.read.pop_front();
        }
        self.read.push_back(block);
    }

    /// Whether the chain that ends with `head` goes on from what was read.
    async fn continues(&self, head: &Header) -> Result<bool, Failure> {
        let Some(known) = self.read.iter().rfind(|pin| pin.number <= head.number) else {
            return Ok(false);
        };
        Ok(match head.number - known.number {
            0 => head.hash == known.hash,
            1 => head.parent_hash == known.hash,
            _ => self.chain.holds(known).await?,
        })
    }

    /// Goes back to the last block read that still belongs to the chain; when none does, on to what comes after `head`.
    async fn rewind(&mut self, head: &Header) -> Result<Progress, Failure> {
        // Blocks are replaced from one on, so those that stayed come first.
        let (mut stayed, mut unknown) = (0, self.read.len());
        while stayed < unknown {
            let middle = usize::midpoint(stayed, unknown);
            if self.chain.holds(&self.read[middle]).await? {
                stayed = middle + 1;
            } else {
                unknown = middle;
            }
        }
        self.read.truncate(stayed);
        if self.read.is_empty() {
            self.read.push_back(Pin::of(head));
        }
        let last = self.read.back().map_or(head.number, |pin| pin.number);
        self.next = last.saturating_add(1);
        tracing::warn!(
            block = self.next,
            "the chain was reorganised from this block on"
        );
        Ok(Progress::Skipped(replaced(self.next)))
    }
}

fn replaced(from: u64) -> Error {
    Error::unavailable(format!(
        "the chain was reorganised from block {from} on; take a new snapshot"
    ))
}
