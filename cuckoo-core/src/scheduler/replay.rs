//! The log of a scheduler's events and choices, and its check.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, NodeId, Result, Scheduler, TaskId, Wei};

/// One input of a [`Scheduler`]; each is a call of the method of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum SchedulerEvent {
    /// A miner became active, or its weight changed.
    Join {
        /// The miner.
        miner: NodeId,
        /// Its stake, in wei.
        weight: Wei,
    },
    /// A miner became inactive.
    Leave {
        /// The miner.
        miner: NodeId,
    },
    /// A miner said how many more tasks it can take.
    SetFree {
        /// The miner.
        miner: NodeId,
        /// The number of tasks.
        free_slots: u32,
    },
    /// A task was to be given to somebody.
    Assign {
        /// The task.
        task: TaskId,
        /// Miners that must not get it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        excluded: Vec<NodeId>,
    },
    /// A miner got the charge of one unit of work back.
    Refund {
        /// The miner.
        miner: NodeId,
    },
}

/// One line of a scheduler's log: an event, and the miner that was chosen if it asked for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedChoice {
    /// What happened.
    #[serde(flatten)]
    pub event: SchedulerEvent,
    /// Whom the coordinator says its scheduler chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<NodeId>,
}

/// Repeats `log` on `scheduler`, which must be as the logged one was before the first entry (same kind, same seed),
/// and compares every choice.
///
/// # Errors
/// [`ErrorKind::Unverified`] at the first entry, counted from 0, whose logged choice is not the one that the rules
/// give: the coordinator that published the log did not follow it.
pub fn replay<'a>(
    scheduler: &mut dyn Scheduler,
    log: impl IntoIterator<Item = &'a LoggedChoice>,
) -> Result<()> {
    for (index, entry) in log.into_iter().enumerate() {
        let chosen = scheduler.apply(&entry.event);
        if chosen != entry.chosen {
            let name =
                |miner: Option<NodeId>| miner.map_or("nobody".to_owned(), |id| id.to_string());
            return Err(Error::new(
                ErrorKind::Unverified,
                format!(
                    "entry {index} of the scheduler's log chooses {}, the rules choose {}; do not trust this log from there on",
                    name(entry.chosen),
                    name(chosen),
                ),
            ));
        }
    }
    Ok(())
}
