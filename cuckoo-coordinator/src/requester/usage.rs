//! What each requester used of its limits: open tasks, and tasks and spend of the day.
//!
//! Counted in memory under the market's lock, so that two submissions at once cannot both be the last one allowed. After a
//! restart it goes on from what the store knows.

use std::collections::HashMap;
use std::time::Duration;

use cuckoo_core::{Error, Result, Task, Timestamp, Wei, format_cai};

use super::{ApiKeySettings, LimitReached};
use crate::store::RequesterUsage;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Usage by requester's name. There are as many as keys.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    by_name: HashMap<String, Used>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Used {
    /// Days since the Unix epoch that `tasks` and `spent` are of.
    day: u64,
    tasks: u64,
    spent: Wei,
    open: u64,
}

impl Used {
    /// Begins a new day when it is another; also when the clock was set back, or it would never end.
    fn roll(&mut self, now: Timestamp) {
        if self.day != day(now) {
            *self = Self {
                day: day(now),
                open: self.open,
                ..Self::default()
            };
        }
    }
}

impl Usage {
    /// The beginning of the day that is counted.
    pub(crate) fn since(now: Timestamp) -> Timestamp {
        Timestamp::from_millis(day(now) * DAY.as_millis() as u64)
    }

    /// Goes on from what was stored [since](Self::since) midnight.
    pub(crate) fn restore(&mut self, stored: Vec<RequesterUsage>, now: Timestamp) {
        for usage in stored {
            let used = Used {
                day: day(now),
                tasks: usage.tasks,
                spent: usage.spent,
                open: usage.open,
            };
            self.by_name.insert(usage.requester, used);
        }
    }

    /// Whether `limits` let another task in.
    ///
    /// # Errors
    /// `Rejected`, with the [limit](LimitReached) where waiting helps.
    pub(crate) fn check(&self, limits: &ApiKeySettings, task: &Task, now: Timestamp) -> Result<()> {
        if let Some(most) = limits.max_priority
            && task.priority > most
        {
            return Err(Error::rejected(format!(
                "priority {} is above {most}, the highest that this API key may ask for; lower it",
                task.priority
            )));
        }
        let mut used = self.by_name.get(&limits.name).copied().unwrap_or_default();
        used.roll(now);
        let renewed = Self::since(now).after(DAY).since(now);
        let renews = format!("it renews at midnight UTC, in {}", span(renewed));
        if let Some(most) = limits.max_open_tasks
            && used.open >= most
        {
            let limit = LimitReached {
                policy: "open-tasks",
                allowed: None,
                retry_after: Duration::from_secs(1),
                words: format!("at most {most} at once; submit again when one has ended"),
            };
            return Err(limit.refuse("too many open tasks"));
        }
        if let Some(most) = limits.max_tasks_per_day
            && used.tasks >= most
        {
            let limit = LimitReached {
                policy: "tasks-per-day",
                allowed: Some((most, DAY)),
                retry_after: renewed,
                words: format!("at most {most} a day; {renews}"),
            };
            return Err(limit.refuse("too many tasks today"));
        }
        if let Some(most) = limits.max_spend_per_day
            && used.spent.saturating_add(task.price) > most
        {
            let limit = LimitReached {
                policy: "spend-per-day",
                allowed: None,
                retry_after: renewed,
                words: format!(
                    "at most {} CAI a day, of which {} are left and this task costs {}; {renews}",
                    format_cai(most),
                    format_cai(most.saturating_sub(used.spent)),
                    format_cai(task.price)
                ),
            };
            return Err(limit.refuse("too much spent today"));
        }
        Ok(())
    }

    /// A task was taken in.
    pub(crate) fn begin(&mut self, requester: Option<&str>, task: &Task, now: Timestamp) {
        let Some(name) = requester else { return };
        let used = match self.by_name.get_mut(name) {
            Some(used) => used,
            None => self.by_name.entry(name.to_owned()).or_default(),
        };
        used.roll(now);
        used.open += 1;
        used.tasks += 1;
        used.spent = used.spent.saturating_add(task.price);
    }

    /// A task ended; `charged` tells whether its price was spent.
    pub(crate) fn end(
        &mut self,
        requester: Option<&str>,
        task: &Task,
        charged: bool,
        now: Timestamp,
    ) {
        let Some(used) = requester.and_then(|name| self.by_name.get_mut(name)) else {
            return;
        };
        used.roll(now);
        used.open = used.open.saturating_sub(1);
        if !charged && day(task.submitted_at) == used.day {
            used.spent = used.spent.saturating_sub(task.price);
        }
    }

    /// A task was not taken in after all.
    pub(crate) fn undo(&mut self, requester: Option<&str>, task: &Task, now: Timestamp) {
        self.end(requester, task, false, now);
        if let Some(used) = requester.and_then(|name| self.by_name.get_mut(name))
            && day(task.submitted_at) == used.day
        {
            used.tasks = used.tasks.saturating_sub(1);
        }
    }
}

fn day(at: Timestamp) -> u64 {
    at.as_secs() / DAY.as_secs()
}

/// Hours and minutes, or seconds in the last minute.
fn span(left: Duration) -> String {
    let seconds = left.as_secs().max(1);
    match (seconds / 3_600, seconds % 3_600 / 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{B256, ErrorKind, Retry, SeededEntropy, TaskId, cai};

    use super::*;

    /// 2027-01-15, 08:00 UTC.
    const MORNING: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn task(at: Timestamp) -> Task {
        Task {
            id: TaskId::random(&SeededEntropy::from_number(1)),
            model: "shapes".parse().unwrap(),
            input: String::new(),
            input_hash: B256::ZERO,
            price: cai(1),
            submitted_at: at,
            deadline: at,
            priority: 0,
        }
    }

    fn limits(change: impl FnOnce(&mut ApiKeySettings)) -> ApiKeySettings {
        let mut limits = ApiKeySettings::named("app");
        change(&mut limits);
        limits
    }

    /// Takes a task in if the limits let it.
    fn submit(usage: &mut Usage, limits: &ApiKeySettings, at: Timestamp) -> Result<Task> {
        let task = task(at);
        usage.check(limits, &task, at)?;
        usage.begin(Some("app"), &task, at);
        Ok(task)
    }

    #[test]
    fn open_tasks_count_until_they_end() {
        let limits = limits(|limits| limits.max_open_tasks = Some(2));
        let mut usage = Usage::default();
        let first = submit(&mut usage, &limits, MORNING).unwrap();
        submit(&mut usage, &limits, MORNING).unwrap();
        let error = submit(&mut usage, &limits, MORNING).unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Rejected, Retry::Later)
        );
        assert_eq!(LimitReached::of(&error).unwrap().policy, "open-tasks");
        // Tomorrow they are open still.
        submit(&mut usage, &limits, MORNING.after(DAY)).unwrap_err();
        usage.end(Some("app"), &first, true, MORNING.after(DAY));
        submit(&mut usage, &limits, MORNING.after(DAY)).unwrap();
        // Others are not concerned.
        let other = ApiKeySettings {
            name: "other".into(),
            ..limits
        };
        usage.check(&other, &task(MORNING), MORNING).unwrap();
    }

    #[test]
    fn tasks_of_a_day_renew_at_midnight() {
        let limits = limits(|limits| limits.max_tasks_per_day = Some(1));
        let mut usage = Usage::default();
        let first = submit(&mut usage, &limits, MORNING).unwrap();
        usage.end(Some("app"), &first, false, MORNING);
        let error = submit(&mut usage, &limits, MORNING).unwrap_err();
        assert!(error.to_string().contains("in 16 h 0 min"), "{error}");
        let limit = LimitReached::of(&error).unwrap();
        assert_eq!(limit.retry_after, Duration::from_secs(16 * 3_600));
        let midnight = MORNING.after(limit.retry_after);
        let before = Timestamp::from_millis(midnight.as_millis() - 1);
        submit(&mut usage, &limits, before).unwrap_err();
        let last = submit(&mut usage, &limits, midnight).unwrap();
        // What was never taken in does not count.
        usage.undo(Some("app"), &last, midnight);
        submit(&mut usage, &limits, midnight).unwrap();
        submit(&mut usage, &limits, midnight).unwrap_err();
    }

    #[test]
    fn what_ends_without_an_output_costs_nothing() {
        let limits = limits(|limits| limits.max_spend_per_day = Some(cai(2)));
        let mut usage = Usage::default();
        let first = submit(&mut usage, &limits, MORNING).unwrap();
        let second = submit(&mut usage, &limits, MORNING).unwrap();
        let error = submit(&mut usage, &limits, MORNING).unwrap_err();
        assert!(error.to_string().contains("of which 0 are left"), "{error}");
        usage.end(Some("app"), &first, true, MORNING);
        submit(&mut usage, &limits, MORNING).unwrap_err();
        usage.end(Some("app"), &second, false, MORNING);
        let third = submit(&mut usage, &limits, MORNING).unwrap();
        // It fails tomorrow: yesterday's spend is nobody's concern then.
        let tomorrow = MORNING.after(DAY);
        submit(&mut usage, &limits, tomorrow).unwrap();
        usage.end(Some("app"), &third, false, tomorrow);
        submit(&mut usage, &limits, tomorrow).unwrap();
        submit(&mut usage, &limits, tomorrow).unwrap_err();
    }

    #[test]
    fn a_restart_goes_on_counting() {
        let limits = limits(|limits| {
            limits.max_tasks_per_day = Some(5);
            limits.max_open_tasks = Some(2);
        });
        let mut usage = Usage::default();
        let stored = RequesterUsage {
            requester: "app".into(),
            tasks: 4,
            open: 1,
            spent: cai(3),
        };
        usage.restore(vec![stored], MORNING);
        submit(&mut usage, &limits, MORNING).unwrap();
        let error = submit(&mut usage, &limits, MORNING).unwrap_err();
        assert_eq!(LimitReached::of(&error).unwrap().policy, "open-tasks");
        usage.end(Some("app"), &task(MORNING), true, MORNING);
        let error = submit(&mut usage, &limits, MORNING).unwrap_err();
        assert_eq!(LimitReached::of(&error).unwrap().policy, "tasks-per-day");
    }

    #[test]
    fn a_priority_too_high_is_refused_for_good() {
        let limits = limits(|limits| limits.max_priority = Some(3));
        let usage = Usage::default();
        let mut urgent = task(MORNING);
        urgent.priority = 3;
        usage.check(&limits, &urgent, MORNING).unwrap();
        urgent.priority = 4;
        let error = usage.check(&limits, &urgent, MORNING).unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Rejected, Retry::Never)
        );
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_day_that_ends() {
        let limits = limits(|limits| limits.max_tasks_per_day = Some(1));
        let mut usage = Usage::default();
        submit(&mut usage, &limits, MORNING.after(DAY)).unwrap();
        submit(&mut usage, &limits, MORNING).unwrap();
        submit(&mut usage, &limits, MORNING).unwrap_err();
        submit(&mut usage, &limits, MORNING.after(DAY)).unwrap();
    }
}
