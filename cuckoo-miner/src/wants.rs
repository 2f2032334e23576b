//! What coordinators want loaded: the hints of all of them, added up.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use cuckoo_core::{ModelId, PollRequest};

use crate::offers::Offers;

/// The latest hint of each coordinator.
#[derive(Debug)]
pub(crate) struct Wants(Mutex<Vec<Vec<ModelId>>>);

impl Wants {
    /// Of so many coordinators.
    pub(crate) fn new(parties: usize) -> Self {
        Self(Mutex::new(vec![Vec::new(); parties]))
    }

    /// Takes the hint of one coordinator in the place of its last one, and tells the executors what all want: one hint after
    /// the other, so that what they hear last is the latest.
    pub(crate) fn tell(&self, offers: &Offers, party: usize, mut wanted: Vec<ModelId>) {
        wanted.retain(|model| offers.has(model));
        wanted.truncate(PollRequest::MAX_CAPABILITIES);
        let mut hints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(hint) = hints.get_mut(party) else {
            return;
        };
        // There is nothing to take back, and nothing new.
        if hint.is_empty() && wanted.is_empty() {
            return;
        }
        *hint = wanted;
        offers.wanted(&sum(&hints));
    }
}

/// The models of all hints: first what most coordinators want, then what is nearer to the front of a hint.
fn sum(hints: &[Vec<ModelId>]) -> Vec<ModelId> {
    let mut ranks: BTreeMap<&ModelId, (Reverse<usize>, usize)> = BTreeMap::new();
    for hint in hints {
        for (rank, model) in hint.iter().enumerate() {
            let (wanting, best) = ranks.entry(model).or_insert((Reverse(0), rank));
            wanting.0 += 1;
            *best = rank.min(*best);
        }
    }
    let mut models: Vec<_> = ranks.into_iter().collect();
    models.sort_by_key(|(_, rank)| *rank);
    models.into_iter().map(|(model, _)| model.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use async_trait::async_trait;
    use cuckoo_core::{Assignment, B256, Capability, Clock, Error, ManualClock, Result, Timestamp};

    use super::*;
    use crate::{Execution, Executor, TaskContext};

    /// Notes what it is told, the first time only after a while: until another hint overtook that, if one can.
    #[derive(Debug)]
    struct Slow {
        begun: Mutex<Sender<()>>,
        overtaken: Mutex<Receiver<()>>,
        overtakes: Mutex<Sender<()>>,
        told: Mutex<Vec<Vec<ModelId>>>,
    }

    #[async_trait]
    impl Executor for Slow {
        fn capabilities(&self) -> Vec<Capability> {
            let models = hint("a b").into_iter();
            models
                .map(|model| Capability::new(model, B256::repeat_byte(7), "hand-1"))
                .collect()
        }

        fn wanted(&self, models: &[ModelId]) {
            if models.len() == 1 {
                self.begun.lock().unwrap().send(()).unwrap();
                let overtaken = self.overtaken.lock().unwrap();
                let _ = overtaken.recv_timeout(Duration::from_millis(300));
            }
            self.told.lock().unwrap().push(models.to_vec());
            if models.len() > 1 {
                self.overtakes.lock().unwrap().send(()).unwrap();
            }
        }

        async fn execute(&self, _: Assignment, _: TaskContext) -> Result<Execution> {
            Err(Error::execution("it only listens"))
        }
    }

    #[test]
    fn hints_that_come_at_once_are_passed_on_one_after_the_other() {
        let (begun, first) = channel();
        let (overtakes, overtaken) = channel();
        let slow = Arc::new(Slow {
            begun: Mutex::new(begun),
            overtaken: Mutex::new(overtaken),
            overtakes: Mutex::new(overtakes),
            told: Mutex::default(),
        });
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(1)));
        let offers = Offers::new(vec![Arc::clone(&slow) as Arc<dyn Executor>], &clock).unwrap();
        let wants = Wants::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| wants.tell(&offers, 0, hint("a")));
            first.recv().unwrap();
            wants.tell(&offers, 1, hint("b"));
        });
        let told = slow.told.lock().unwrap();
        assert_eq!(*told, [hint("a"), hint("a b")], "the latest comes last");
    }

    fn hint(models: &str) -> Vec<ModelId> {
        let models = models.split_whitespace();
        models.map(|model| model.parse().unwrap()).collect()
    }

    #[test]
    fn hints_of_several_coordinators_add_up() {
        assert_eq!(sum(&[hint(""), hint("")]), hint(""));
        assert_eq!(sum(&[hint("b a"), hint("")]), hint("b a"));
        assert_eq!(sum(&[hint("d b a"), hint("c b")]), hint("b c d a"));
    }
}
