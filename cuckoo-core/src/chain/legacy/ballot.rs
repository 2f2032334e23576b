//! Who voted for whom, and what that makes each miner weigh. Pure.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, U256};

use crate::amount::Wei;

/// Votes by voter, and every miner that is known, voted for or not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ballot {
    pub(super) miners: BTreeSet<Address>,
    pub(super) votes: BTreeMap<Address, BTreeSet<Address>>,
}

impl Ballot {
    /// Everybody whose stake matters.
    pub(super) fn accounts(&self) -> impl Iterator<Item = Address> {
        self.miners.iter().chain(self.votes.keys()).copied()
    }

    /// Each miner's part of the stakes of those who voted for it: a voter's stake divided by the number of its miners,
    /// rounded down.
    pub(super) fn weights(&self, stakes: &BTreeMap<Address, Wei>) -> BTreeMap<Address, Wei> {
        let mut weights: BTreeMap<_, _> = self
            .miners
            .iter()
            .map(|miner| (*miner, Wei::ZERO))
            .collect();
        for (voter, miners) in &self.votes {
            let stake = stakes.get(voter).copied().unwrap_or_default();
            // None for a voter without votes.
            let Some(part) = stake.checked_div(U256::from(miners.len())) else {
                continue;
            };
            for miner in miners {
                let weight = weights.entry(*miner).or_default();
                *weight = weight.saturating_add(part);
            }
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set};
    use proptest::prelude::*;

    use super::*;

    fn account() -> impl Strategy<Value = Address> {
        (0_u8..20).prop_map(Address::repeat_byte)
    }

    proptest! {
        #[test]
        fn weights_and_what_division_leaves_are_the_voters_stakes(
            miners in btree_set(account(), 0..20),
            votes in btree_map(account(), btree_set(account(), 0..20), 0..20),
            stakes in btree_map(account(), any::<u128>().prop_map(Wei::from), 0..20),
        ) {
            let ballot = Ballot { miners, votes };
            let weights = ballot.weights(&stakes);
            prop_assert!(ballot.miners.iter().all(|miner| weights.contains_key(miner)));
            let (mut staked, mut left) = (Wei::ZERO, Wei::ZERO);
            for (voter, miners) in &ballot.votes {
                let stake = stakes.get(voter).copied().unwrap_or_default();
                if !miners.is_empty() {
                    staked += stake;
                    left += stake % Wei::from(miners.len());
                }
            }
            let weighed: Wei = weights.values().sum();
            prop_assert_eq!(weighed + left, staked);
        }
    }

    #[test]
    fn a_stake_is_split_evenly() {
        let [a, b, c] = [1, 2, 3].map(Address::repeat_byte);
        let ballot = Ballot {
            miners: [a, b, c].into(),
            votes: [(a, [a, b].into()), (b, [b].into()), (c, [].into())].into(),
        };
        let stakes = [(a, Wei::from(7)), (b, Wei::from(10)), (c, Wei::from(99))].into();
        let weights = ballot.weights(&stakes);
        let expected = [(a, Wei::from(3)), (b, Wei::from(13)), (c, Wei::ZERO)];
        assert_eq!(weights, expected.into());
    }
}
