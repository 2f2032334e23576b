//! Logs of new blocks, by polling: no subscription to lose, and an outage is no gap.

use std::collections::VecDeque;

use alloy::primitives::Address;
use alloy::providers::Provider as _;
use alloy::rpc::types::Filter;

use super::RpcStaking;
use crate::chain::evm::{Evm as _, Failure, MinedLog};
use crate::{Error, ErrorKind, Result};

/// Blocks whose logs are asked for at once; common providers refuse more.
const LOG_BLOCKS: u64 = 1_000;
/// Blocks that a reader of changes may fall behind before it is told of a gap.
const MOST_BEHIND: u64 = 100_000;

/// Reads the logs of new blocks, a bounded range at a time.
pub(super) struct LogReader {
    chain: RpcStaking,
    contracts: Vec<Address>,
    /// The first block not read yet.
    next: u64,
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
    /// Reads from block `next` on.
    pub(super) fn new(chain: RpcStaking, contracts: Vec<Address>, next: u64) -> Self {
        Self {
            chain,
            contracts,
            next,
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
        let (head, _) = self.chain.head().await?;
        if self.lost {
            tracing::info!(block = head.number, "the chain node is back");
            self.lost = false;
        }
        let end = head.number.saturating_add(1);
        let Some(behind @ 0..=MOST_BEHIND) = end.checked_sub(self.next) else {
            // Too far behind, or on a chain that was replaced by a shorter one.
            let from = std::mem::replace(&mut self.next, end);
            return Ok(Progress::Skipped(Error::unavailable(format!(
                "the changes from block {from} to block {end} were skipped; take a new snapshot"
            ))));
        };
        if behind == 0 {
            return Ok(Progress::UpToDate);
        }
        let last = self.next + behind.min(self.most) - 1;
        let filter = Filter::new()
            .address(self.contracts.clone())
            .from_block(self.next)
            .to_block(last);
        let logs = self
            .chain
            .provider()
            .get_logs(&filter)
            .await
            .map_err(|error| self.chain.failed(error))?;
        let mut logs: Vec<_> = logs.into_iter().filter(|log| !log.removed).collect();
        logs.sort_by_key(|log| (log.block_number, log.log_index));
        self.ready.extend(logs.into_iter().map(|log| MinedLog {
            block: log.block_number.unwrap_or(last),
            log: log.inner,
        }));
        self.next = last + 1;
        self.most = (self.most * 2).min(LOG_BLOCKS);
        Ok(Progress::Read)
    }
}
