//! What goes: finished tasks past their time or too many, outputs past the size budget, old blobs.

use std::collections::BTreeMap;

use cuckoo_core::{Timestamp, Wei};
use rusqlite::{Result, params};

use super::row::{amount, integer, millis, number, time, wei};
use super::tables::{COMPLETED, Tables};
use crate::store::Hour;

/// The most tasks, and the most blobs, that one sweep takes: commits wait meanwhile.
const SWEEP: i64 = 64;
/// The most tasks that lose their outputs in one transaction.
const EMPTY: usize = 256;

impl Tables {
    /// Forgets finished tasks that ended before `before`, and the oldest beyond `keep`; gives how many went.
    pub(super) fn sweep(&mut self, before: Timestamp, keep: usize) -> Result<usize> {
        let keep = u64::try_from(keep).unwrap_or(u64::MAX);
        let mut oldest = Vec::new();
        let mut sums: BTreeMap<(String, Hour), (u64, Wei)> = BTreeMap::new();
        {
            let mut ended = self.connection.prepare_cached(
                "SELECT e.sequence, e.ended_at < ?, e.state, t.requester, t.submitted_at, t.price
                 FROM ended e CROSS JOIN tasks t USING (sequence) ORDER BY e.position LIMIT ?",
            )?;
            let mut rows = ended.query(params![millis(before), SWEEP])?;
            while let Some(row) = rows.next()? {
                // One that does not say when it ended is past any time.
                let late = row.get::<_, Option<bool>>(1)?.unwrap_or(true);
                if !late && self.counts.finished - oldest.len() as u64 <= keep {
                    break;
                }
                oldest.push(row.get::<_, i64>(0)?);
                if let Some(requester) = row.get(3)? {
                    let sum = sums
                        .entry((requester, Hour::of(time(row, 4)?)))
                        .or_default();
                    sum.0 += 1;
                    if row.get::<_, i64>(2)? == COMPLETED {
                        sum.1 = sum.1.saturating_add(wei(row, 5)?);
                    }
                }
            }
        }
        for sequence in &oldest {
            self.forget(*sequence)?;
        }
        for ((requester, hour), (tasks, spent)) in sums {
            self.remember(&requester, hour, tasks, spent)?;
        }
        let long_ago = integer(Hour::first_kept(before).0);
        self.execute("DELETE FROM forgotten WHERE hour < ?", [long_ago])?;
        self.sweep_blobs(before)?;
        Ok(oldest.len())
    }

    fn forget(&mut self, sequence: i64) -> Result<()> {
        self.drop_outputs(sequence, |_| false)?;
        self.execute("DELETE FROM payments WHERE sequence = ?", [sequence])?;
        self.execute("DELETE FROM untold WHERE sequence = ?", [sequence])?;
        self.execute("DELETE FROM ended WHERE sequence = ?", [sequence])?;
        self.execute("DELETE FROM tasks WHERE sequence = ?", [sequence])?;
        self.counts.finished = self.counts.finished.saturating_sub(1);
        Ok(())
    }

    /// Adds to what a requester's forgotten tasks count.
    fn remember(&self, requester: &str, hour: Hour, tasks: u64, spent: Wei) -> Result<()> {
        let hour = integer(hour.0);
        let known = self.first(
            "SELECT tasks, spent FROM forgotten WHERE requester = ? AND hour = ?",
            params![requester, hour],
            |row| Ok((number(row, 0)?, wei(row, 1)?)),
        )?;
        let (before, spent_before) = known.unwrap_or_default();
        self.execute(
            "INSERT OR REPLACE INTO forgotten VALUES (?, ?, ?, ?)",
            params![
                requester,
                hour,
                integer(before.saturating_add(tasks)),
                amount(spent_before.saturating_add(spent)),
            ],
        )?;
        Ok(())
    }

    fn sweep_blobs(&mut self, before: Timestamp) -> Result<()> {
        let mut old = Vec::new();
        {
            let mut blobs = self.connection.prepare_cached(
                "SELECT rowid, size, object FROM blobs WHERE kept_at < ? ORDER BY kept_at LIMIT ?",
            )?;
            let mut rows = blobs.query(params![millis(before), SWEEP])?;
            while let Some(row) = rows.next()? {
                let object = row.get::<_, Option<String>>(2)?;
                old.push((row.get::<_, i64>(0)?, number(row, 1)?, object));
            }
        }
        for (blob, size, object) in old {
            self.execute("DELETE FROM blobs WHERE rowid = ?", [blob])?;
            self.counts.blob_bytes = self.counts.blob_bytes.saturating_sub(size);
            self.freed.extend(object);
        }
        Ok(())
    }

    /// Takes outputs from the tasks that ended first while all together are beyond the budget. Does a bounded part of it;
    /// the next transaction goes on.
    pub(super) fn make_room(&mut self) -> Result<()> {
        for _ in 0..EMPTY {
            if self.counts.output_bytes <= self.outputs_max_bytes {
                break;
            }
            let next = self.first(
                "SELECT sequence, position FROM ended WHERE position > ? ORDER BY position LIMIT 1",
                [self.counts.emptied],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
            )?;
            let Some((sequence, position)) = next else {
                break;
            };
            self.drop_outputs(sequence, |_| false)?;
            self.counts.emptied = position;
        }
        Ok(())
    }
}
