//! The choice of the next token from the model's scores.
//!
//! In this order: the format's choice of tokens, penalties, temperature, top-k, top-p, min-p, draw. Sums and exponentials are in `f64` with functions that
//! round alike everywhere, and the draw depends on seed and position alone; so equal scores give equal tokens on every
//! miner, whatever else it runs.

use std::collections::{BTreeMap, BTreeSet};

use super::grammar::Allowed;
use crate::model::error::{Error, Result};
use crate::noise;
use crate::portable::{exp, ln};

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampling {
    /// 0 takes the likeliest; others divide the scores.
    pub(crate) temperature: f64,
    /// Only so many of the likeliest tokens; all when 0.
    pub(crate) top_k: usize,
    /// Only the likeliest tokens that together have this probability (Holtzman et al., 2019).
    pub(crate) top_p: f64,
    /// Only tokens with at least this share of the likeliest one's probability.
    pub(crate) min_p: f64,
    /// Divides positive scores and multiplies negative ones of tokens that occurred, in the prompt too (Keskar et al.,
    /// 2019).
    pub(crate) repetition_penalty: f64,
    /// Taken from a token's score for each time it was made.
    pub(crate) frequency_penalty: f64,
    /// Taken from a token's score when it was made at all.
    pub(crate) presence_penalty: f64,
    pub(crate) seed: u64,
    /// Asks for log probabilities, and those of so many likeliest tokens.
    pub(crate) logprobs: Option<usize>,
}

/// What occurred in a text.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Tokens of the prompt and those made.
    seen: BTreeSet<u32>,
    /// How often each token was made.
    made: BTreeMap<u32, u32>,
    /// How many tokens were made.
    count: u64,
}

impl History {
    /// A text that begins with `prompt`.
    pub(crate) fn new(prompt: &[u32]) -> Self {
        Self {
            seen: prompt.iter().copied().collect(),
            ..Self::default()
        }
    }

    /// Adds a token that was made.
    pub(crate) fn push(&mut self, token: u32) {
        self.seen.insert(token);
        *self.made.entry(token).or_default() += 1;
        self.count += 1;
    }
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) token: u32,
    /// Its log probability and the likeliest tokens with theirs, where that was asked for: as the model has it, before
    /// penalties and temperature.
    pub(crate) logprobs: Option<(f64, Vec<(u32, f64)>)>,
}

impl Sampling {
    /// Chooses the next token, among those that are allowed where not all are.
    pub(crate) fn choose(
        &self,
        scores: &[f32],
        history: &History,
        allowed: Option<&Allowed>,
    ) -> Result<Choice> {
        if scores.is_empty() || !scores.iter().all(|score| score.is_finite()) {
            return Err(Error::NotFinite {
                token: history.count as usize + 1,
            });
        }
        let candidates = self.candidates(scores, history, allowed);
        let token = pick(&candidates, noise::uniform(self.seed, history.count));
        Ok(Choice {
            token,
            logprobs: self.logprobs.map(|count| logprobs(scores, token, count)),
        })
    }

    /// Tokens that may be drawn and their probabilities.
    #[cfg(test)]
    pub(crate) fn chances(&self, scores: &[f32], history: &History) -> Vec<(u32, f64)> {
        let candidates = self.candidates(scores, history, None);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let share = |(token, weight)| (token, weight / total);
        candidates.into_iter().map(share).collect()
    }

    /// Tokens that may be drawn and their weights, likeliest first, or in their own order where all may.
    fn candidates(
        &self,
        scores: &[f32],
        history: &History,
        allowed: Option<&Allowed>,
    ) -> Vec<(u32, f64)> {
        let mut candidates: Vec<(u32, f64)> =
            (0_u32..).zip(self.penalised(scores, history)).collect();
        if let Some(allowed) = allowed {
            candidates.retain(|(token, _)| allowed.contains(*token));
        }
        let Some((best, top)) = largest(&candidates) else {
            return Vec::new();
        };
        if self.temperature < 1e-6 {
            return vec![(best, 1.0)];
        }
        if self.top_k > 0 && self.top_k < candidates.len() {
            candidates.select_nth_unstable_by(self.top_k - 1, likelier);
            candidates.truncate(self.top_k);
        }
        for (_, score) in &mut candidates {
            *score = exp((*score - top) / self.temperature);
        }
        if self.top_p < 1.0 {
            let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
            // Tokens this rare have less than the rest of the probability even together: they need not be sorted.
            let rare = (1.0 - self.top_p) * total / candidates.len() as f64;
            candidates.retain(|(_, weight)| *weight >= rare);
            candidates.sort_unstable_by(likelier);
            let mut before = 0.0;
            candidates.retain(|(_, weight)| {
                let keep = before < self.top_p * total || before == 0.0;
                before += weight;
                keep
            });
        } else if self.top_k > 0 {
            candidates.sort_unstable_by(likelier);
        }
        // The likeliest has weight 1.
        candidates.retain(|(_, weight)| *weight >= self.min_p);
        candidates
    }

    /// The scores less what was to be taken off for repetition.
    fn penalised(&self, scores: &[f32], history: &History) -> Vec<f64> {
        let mut scores: Vec<f64> = scores.iter().copied().map(f64::from).collect();
        if self.repetition_penalty != 1.0 {
            for token in &history.seen {
                if let Some(score) = scores.get_mut(*token as usize) {
                    *score = if *score > 0.0 {
                        *score / self.repetition_penalty
                    } else {
                        *score * self.repetition_penalty
                    };
                }
            }
        }
        for (token, times) in &history.made {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score -= self.frequency_penalty * f64::from(*times) + self.presence_penalty;
            }
        }
        scores
    }
}

/// The one of these tokens and their weights that `draw`, from 0 to 1, falls on.
pub(crate) fn pick(candidates: &[(u32, f64)], draw: f64) -> u32 {
    let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
    let mut left = draw * total;
    for (token, weight) in candidates {
        if left < *weight {
            return *token;
        }
        left -= weight;
    }
    // Rounding may leave a little after the last one.
    candidates.last().map_or(0, |(token, _)| *token)
}

/// Orders by weight, larger first, then by token.
fn likelier(a: &(u32, f64), b: &(u32, f64)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// The token of the largest score; the first of several.
fn largest(scores: &[(u32, f64)]) -> Option<(u32, f64)> {
    let larger = |best: (u32, f64), next: (u32, f64)| if next.1 > best.1 { next } else { best };
    scores.iter().copied().reduce(larger)
}

/// The token's log probability, and the `count` likeliest tokens with theirs.
fn logprobs(scores: &[f32], token: u32, count: usize) -> (f64, Vec<(u32, f64)>) {
    let mut all: Vec<(u32, f64)> = (0_u32..)
        .zip(scores.iter().copied().map(f64::from))
        .collect();
    let top = all.iter().map(|(_, score)| *score).fold(f64::MIN, f64::max);
    let total: f64 = all.iter().map(|(_, score)| exp(score - top)).sum();
    let shift = top + ln(total);
    let own = scores
        .get(token as usize)
        .copied()
        .map_or(f64::MIN, f64::from)
        - shift;
    if count > 0 && count < all.len() {
        all.select_nth_unstable_by(count - 1, likelier);
    }
    all.truncate(count);
    all.sort_unstable_by(likelier);
    for (_, score) in &mut all {
        *score -= shift;
    }
    (own, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greedy() -> Sampling {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            seed: 0,
            logprobs: None,
        }
    }

    fn drawing() -> Sampling {
        Sampling {
            temperature: 1.0,
            ..greedy()
        }
    }

    const SCORES: [f32; 4] = [1.0, 3.0, 2.0, 3.0];

    fn tokens(sampling: &Sampling, scores: &[f32]) -> Vec<u32> {
        let candidates = sampling.candidates(scores, &History::default(), None);
        candidates.into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn the_likeliest_is_the_first_of_equals() {
        let choice = greedy().choose(&SCORES, &History::default(), None).unwrap();
        assert_eq!((choice.token, choice.logprobs), (1, None));
    }

    #[test]
    fn draws_follow_the_probabilities_and_the_seed() {
        let scores = [0.0, 1.0_f32];
        let draw = |seed, count| {
            let history = History {
                count,
                ..History::default()
            };
            let sampling = Sampling { seed, ..drawing() };
            sampling.choose(&scores, &history, None).unwrap().token
        };
        let n = 20_000;
        let ones = (0..n).filter(|i| draw(5, *i) == 1).count() as f64 / n as f64;
        let expected = 1.0 / (1.0 + (-1.0_f64).exp());
        assert!((ones - expected).abs() < 0.01, "{ones} for {expected}");
        let run = |seed| (0..64).map(|i| draw(seed, i)).collect::<Vec<_>>();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn top_k_top_p_and_min_p_keep_the_likeliest() {
        let with = |change: fn(&mut Sampling)| {
            let mut sampling = drawing();
            change(&mut sampling);
            tokens(&sampling, &SCORES)
        };
        assert_eq!(with(|_| ()), [0, 1, 2, 3]);
        assert_eq!(with(|s| s.top_k = 1), [1]);
        assert_eq!(with(|s| s.top_k = 3), [1, 3, 2]);
        assert_eq!(with(|s| s.top_k = 9), [1, 3, 2, 0]);
        // Probabilities 0.40, 0.40, 0.15, 0.05.
        assert_eq!(with(|s| s.top_p = 0.0), [1]);
        assert_eq!(with(|s| s.top_p = 0.39), [1]);
        assert_eq!(with(|s| s.top_p = 0.42), [1, 3]);
        assert_eq!(with(|s| s.top_p = 0.9), [1, 3, 2]);
        assert_eq!(with(|s| s.min_p = 0.3), [1, 2, 3]);
        assert_eq!(with(|s| s.temperature = 1e-9), [1]);
    }

    #[test]
    fn penalties_take_from_what_occurred() {
        let mut history = History::new(&[1]);
        history.push(3);
        history.push(3);
        let scores = |change: fn(&mut Sampling)| {
            let mut sampling = greedy();
            change(&mut sampling);
            sampling.penalised(&[-1.0, 3.0, 2.0, 3.0], &history)
        };
        assert_eq!(scores(|_| ()), [-1.0, 3.0, 2.0, 3.0]);
        assert_eq!(
            scores(|s| s.repetition_penalty = 2.0),
            [-1.0, 1.5, 2.0, 1.5]
        );
        assert_eq!(scores(|s| s.frequency_penalty = 0.5), [-1.0, 3.0, 2.0, 2.0]);
        assert_eq!(scores(|s| s.presence_penalty = 0.5), [-1.0, 3.0, 2.0, 2.5]);
        let negative = History::new(&[0]);
        let sampling = Sampling {
            repetition_penalty: 2.0,
            ..greedy()
        };
        assert_eq!(sampling.penalised(&[-1.0, 1.0], &negative), [-2.0, 1.0]);
    }

    #[test]
    fn log_probabilities_are_the_models_own() {
        let sampling = Sampling {
            logprobs: Some(2),
            presence_penalty: 2.0,
            ..greedy()
        };
        let mut history = History::default();
        history.push(1);
        let choice = sampling.choose(&SCORES, &history, None).unwrap();
        let total: f64 = SCORES.iter().map(|score| f64::from(*score).exp()).sum();
        let (own, top) = choice.logprobs.unwrap();
        assert_eq!(choice.token, 3);
        assert!((own - (3.0 - total.ln())).abs() < 1e-12);
        assert_eq!(
            top.iter().map(|(token, _)| *token).collect::<Vec<_>>(),
            [1, 3]
        );
        assert!((top[0].1 - own).abs() < 1e-12);
        let none = Sampling {
            logprobs: Some(0),
            ..greedy()
        };
        let choice = none.choose(&SCORES, &History::default(), None).unwrap();
        assert!(choice.logprobs.unwrap().1.is_empty());
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        for bad in [f32::NAN, f32::INFINITY] {
            let error = greedy().choose(&[1.0, bad], &History::default(), None);
            assert!(matches!(error, Err(Error::NotFinite { token: 1 })));
        }
        assert!(greedy().choose(&[], &History::default(), None).is_err());
    }
}
