//! Measures of fairness, for reports. Choices never depend on them, so floating point is harmless here.

use crate::Wei;

/// The fair share of each miner in the work that can be done: in proportion to `weights`, but no miner more than it
/// is able to do, what is left over going to the others by weight again (water-filling, max-min fairness with
/// weights).
///
/// `capacities` are the tasks that each miner could do in the period, and `demand` the tasks that were asked for.
/// Any scheduler that lets no miner idle while a task waits is bound by capacity under load, so this, not the share
/// of stake, is what it is to be measured by. The shares add up to one, unless nobody can do anything: then they are
/// all zero. Weights of zero, negative capacities and NaN count as nothing. The longer of the two slices is cut to
/// the shorter.
pub fn feasible_shares(weights: &[Wei], capacities: &[f64], demand: f64) -> Vec<f64> {
    let mut members: Vec<(usize, f64, f64)> = weights
        .iter()
        .zip(capacities)
        .map(|(&weight, &capacity)| (f64::from(weight), capacity))
        .enumerate()
        .map(|(index, (weight, capacity))| (index, weight, capacity))
        .filter(|(_, weight, capacity)| *weight > 0.0 && *capacity > 0.0)
        .collect();
    // The miners that fill up first come first: least capacity per stake.
    members.sort_by(|a, b| (a.2 / a.1).total_cmp(&(b.2 / b.1)));

    let mut weight_left: f64 = members.iter().map(|(_, weight, _)| weight).sum();
    let mut work_left = demand
        .max(0.0)
        .min(members.iter().map(|(_, _, capacity)| capacity).sum());
    let work = work_left;
    let mut shares = vec![0.0; weights.len().min(capacities.len())];
    if work <= 0.0 {
        return shares;
    }
    for (index, weight, capacity) in members {
        let done = (work_left * weight / weight_left).min(capacity).max(0.0);
        shares[index] = done / work;
        work_left -= done;
        weight_left -= weight;
    }
    shares
}

/// Total variation distance of two distributions, from 0 (equal) to 1 (disjoint): the part of the work that would
/// have to change hands to turn one into the other. A value missing in the shorter slice counts as zero.
pub fn total_variation(a: &[f64], b: &[f64]) -> f64 {
    let at = |shares: &[f64], index: usize| shares.get(index).copied().unwrap_or(0.0);
    (0..a.len().max(b.len()))
        .map(|index| (at(a, index) - at(b, index)).abs())
        .sum::<f64>()
        / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cai;

    fn close(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        assert!(total_variation(a, b) < 1e-12, "{a:?} is not {b:?}");
    }

    #[test]
    fn without_bounds_the_feasible_share_is_the_stake_share() {
        let weights = [cai(1), cai(2), cai(5)];
        close(
            &feasible_shares(&weights, &[1e9; 3], 100.0),
            &[0.125, 0.25, 0.625],
        );
        close(
            &feasible_shares(&weights, &[f64::INFINITY; 3], 100.0),
            &[0.125, 0.25, 0.625],
        );
    }

    #[test]
    fn what_a_full_miner_cannot_do_goes_to_the_others_by_stake() {
        let weights = [cai(1), cai(3), cai(96)];
        // The big one does 40 of 100; 60 are split 1 : 3.
        close(
            &feasible_shares(&weights, &[100.0, 100.0, 40.0], 100.0),
            &[0.15, 0.45, 0.4],
        );
        // Then the second fills up too.
        close(
            &feasible_shares(&weights, &[100.0, 20.0, 40.0], 100.0),
            &[0.4, 0.2, 0.4],
        );
    }

    #[test]
    fn beyond_all_capacity_the_shares_are_those_of_capacity() {
        close(
            &feasible_shares(&[cai(1), cai(99)], &[30.0, 10.0], 1000.0),
            &[0.75, 0.25],
        );
    }

    #[test]
    fn who_cannot_work_has_no_share() {
        let weights = [cai(1), Wei::ZERO, cai(1), cai(1)];
        close(
            &feasible_shares(&weights, &[9.0, 9.0, 0.0, f64::NAN], 5.0),
            &[1.0, 0.0, 0.0, 0.0],
        );
        close(&feasible_shares(&weights, &[0.0; 4], 5.0), &[0.0; 4]);
        close(&feasible_shares(&weights, &[9.0; 4], f64::NAN), &[0.0; 4]);
        assert!(feasible_shares(&[], &[], 5.0).is_empty());
    }

    #[test]
    fn total_variation_is_the_work_that_would_change_hands() {
        assert_eq!(total_variation(&[0.5, 0.5], &[0.5, 0.5]), 0.0);
        assert_eq!(total_variation(&[1.0], &[0.0, 1.0]), 1.0);
        assert!((total_variation(&[0.6, 0.4], &[0.4, 0.6]) - 0.2).abs() < 1e-12);
    }
}
