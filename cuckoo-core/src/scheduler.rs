//! Which miner does the next task: in proportion to stake, by rules that anybody can replay.
//!
//! A [`Scheduler`] is a plain state machine. It has no clock, lock, network or randomness of its own, so equal
//! [`SchedulerEvent`]s in equal order give equal choices on every machine, and a coordinator that publishes its
//! [`LoggedChoice`]s can be checked by [`replay`]. One scheduler serves one class of interchangeable miners: those
//! that offer the same model with the same capability.
//!
//! [`StakeOrder`] is the default and the fair one; [`StakeLottery`] draws at random by stake and serves where the
//! choice must not be foreseen, such as the choice of auditors.

mod replay;
mod share;
mod stake_lottery;
mod stake_order;

use std::fmt;

use crate::{NodeId, TaskId, Wei};

pub use replay::{LoggedChoice, SchedulerEvent, replay};
pub use share::{feasible_shares, total_variation};
pub use stake_lottery::StakeLottery;
pub use stake_order::StakeOrder;

/// Chooses miners for tasks of one class.
///
/// The caller keeps it informed with [`join`](Self::join), [`leave`](Self::leave) and [`set_free`](Self::set_free),
/// and asks with [`assign`](Self::assign). Every implementation keeps these promises:
///
/// - *Pure*: choices depend on the events alone.
/// - *Work-conserving*: while an active miner of positive weight that is not excluded has a free slot, `assign`
///   chooses one.
/// - *Obedient*: it never chooses a miner that is excluded, absent, without a free slot or of weight zero.
pub trait Scheduler: fmt::Debug + Send + 'static {
    /// Makes `miner` active with `weight` (its stake in wei), or changes the weight of an active one.
    ///
    /// A miner is active from the start of its session to its end, *also while all its slots are busy*: that is what
    /// lets it catch up on tasks that passed it by while it worked. A miner that joins has no free slot until
    /// [`set_free`](Self::set_free) says so; one that was active keeps its free slots. Weight zero has the effect of
    /// [`leave`](Self::leave).
    fn join(&mut self, miner: NodeId, weight: Wei);

    /// Makes `miner` inactive and its slots not free, for instance because it stopped polling or was suspended. What
    /// it is owed or owes is kept, within the scheduler's caps.
    fn leave(&mut self, miner: NodeId);

    /// Says how many more tasks `miner` can take now. Has no effect on a miner that is not active.
    fn set_free(&mut self, miner: NodeId, free_slots: u32);

    /// Chooses a miner for one unit of work, charges it and takes one of its free slots. `None`, and no other effect,
    /// when no active miner outside `excluded` has a free slot.
    ///
    /// `excluded` is meant for the few miners that failed this task or are party to its audit: a decision takes longer
    /// by about a tree look-up for each.
    fn assign(&mut self, task: TaskId, excluded: &[NodeId]) -> Option<NodeId>;

    /// Gives `miner` back the charge of one unit of work that it was assigned and did not do: the lease expired
    /// or the task was cancelled. Frees no slot.
    fn refund(&mut self, miner: NodeId);

    /// Performs one event from a log; the choice when it is an [`Assign`](SchedulerEvent::Assign).
    fn apply(&mut self, event: &SchedulerEvent) -> Option<NodeId> {
        match event {
            SchedulerEvent::Join { miner, weight } => self.join(*miner, *weight),
            SchedulerEvent::Leave { miner } => self.leave(*miner),
            SchedulerEvent::SetFree { miner, free_slots } => self.set_free(*miner, *free_slots),
            SchedulerEvent::Refund { miner } => self.refund(*miner),
            SchedulerEvent::Assign { task, excluded } => return self.assign(*task, excluded),
        }
        None
    }
}
