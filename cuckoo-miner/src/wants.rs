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

    /// Takes the hint of one coordinator in the place of its last one, and tells the executors what all want.
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
        let all = sum(&hints);
        drop(hints);
        offers.wanted(&all);
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
    use super::*;

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
