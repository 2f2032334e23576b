//! Which tokens may come next, and which does: the rules that hold Whisper to pairs of times that do not go back (Radford et al.,
//! 2022, section 4.5; as transformers has them).

use serde_json::json;

use super::language;
use super::vocabulary::Vocabulary;
use crate::language::pick;
use crate::model::error::{Error, Result};
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::settings::Settings;
use crate::portable::exp;

pub(crate) const FILE: &str = "generation_config.json";

/// What a model's file says of the tokens that it makes.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// Tokens that never come.
    never: Vec<usize>,
    /// Tokens that do not come first.
    not_first: Vec<usize>,
    /// The latest time that may come first.
    first_by: Option<usize>,
    /// The most tokens of a window, beside those that it begins with.
    pub(crate) most: usize,
    /// The language that is taken for spoken where the input names none.
    pub(crate) language: Option<String>,
    end: usize,
    times: usize,
}

impl Rules {
    /// Opens the file, from which [`Vocabulary`] takes the tokens' numbers first.
    pub(crate) fn open(folder: &mut Folder) -> Result<Settings> {
        Settings::parse(FILE, &folder.bytes(FILE, SETTINGS_LIMIT)?)
    }

    /// Reads the rest of it, for a model that tells `size` tokens apart and makes at most `targets`.
    pub(crate) fn read(
        mut s: Settings,
        vocabulary: &Vocabulary,
        size: usize,
        targets: usize,
    ) -> Result<Self> {
        let tokens = 0..=size - 1;
        let spoken = s.optional_text("language")?;
        let spoken = spoken.map(|name| language::code(name.trim_matches(['<', '|', '>'])));
        if let Some(code) = &spoken
            && vocabulary.language(code).is_err()
        {
            let known = vocabulary.languages().join(", ");
            return Err(s.error("language", format!("is `{code}`; this model knows {known}")));
        }
        let rules = Self {
            never: s
                .optional_counts("suppress_tokens", tokens.clone())?
                .unwrap_or_default(),
            not_first: s
                .optional_counts("begin_suppress_tokens", tokens)?
                .unwrap_or_default(),
            first_by: s.optional_count("max_initial_timestamp_index", 0..=size)?,
            most: s.count("max_length", targets, 1..=1 << 24)?,
            language: spoken,
            end: vocabulary.end as usize,
            times: vocabulary.first_time as usize,
        };
        // What is said again at another temperature or passed over, and what follows from what was said before: off, as in
        // transformers where nothing is set.
        for key in [
            "compression_ratio_threshold",
            "logprob_threshold",
            "no_speech_threshold",
            "max_new_tokens",
        ] {
            s.only(key, &[])?;
        }
        s.only("condition_on_prev_tokens", &[json!(false)])?;
        s.only("do_sample", &[json!(false)])?;
        s.only("num_beams", &[json!(1)])?;
        s.only("repetition_penalty", &[json!(1)])?;
        s.only("no_repeat_ngram_size", &[json!(0)])?;
        s.only("task", &[json!("transcribe")])?;
        s.ignore(&[
            // Of times of single words.
            "alignment_heads",
            "median_filter_width",
            // What the tokens above say.
            "bos_token_id",
            "forced_decoder_ids",
            "pad_token_id",
            // Times are always asked for.
            "return_timestamps",
            // Of searches and draws that are off, and how other programs hold the model.
            "cache_implementation",
            "dtype",
            "length_penalty",
            "temperature",
            "top_k",
            "top_p",
            "transformers_version",
            "use_cache",
        ]);
        s.finish()?;
        Ok(rules)
    }

    /// The token that follows those `made` in a window: the likeliest of those that may, or at a temperature above 0 the one
    /// that `draw`, a number from 0 to 1, falls on.
    pub(crate) fn choose(
        &self,
        scores: &[f32],
        made: &[u32],
        temperature: f64,
        draw: impl FnOnce() -> f64,
    ) -> Result<u32> {
        let scores = self.allowed(scores, made)?;
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let candidates = (0_u32..).zip(&scores);
        if temperature < 1e-6 {
            let mut likeliest = candidates.filter(|(_, score)| **score == top);
            return Ok(likeliest.next().map_or(0, |(token, _)| token));
        }
        let weighted: Vec<_> = candidates
            .filter(|(_, score)| score.is_finite())
            .map(|(token, score)| (token, exp((score - top) / temperature)))
            .collect();
        Ok(pick(&weighted, draw()))
    }

    /// The scores, minus infinity for what may not come.
    fn allowed(&self, scores: &[f32], made: &[u32]) -> Result<Vec<f64>> {
        const NEVER: f64 = f64::NEG_INFINITY;
        let odd = Error::NotFinite {
            token: made.len() + 1,
        };
        if scores.len() <= self.times || !scores.iter().all(|score| score.is_finite()) {
            return Err(odd);
        }
        let mut x: Vec<f64> = scores.iter().copied().map(f64::from).collect();
        // Before the times is the mark that there are none.
        let not_first = self.not_first.iter().filter(|_| made.is_empty());
        for token in self
            .never
            .iter()
            .chain(not_first)
            .chain([&(self.times - 1)])
        {
            x[*token] = NEVER;
        }
        let is_time = |token: &u32| *token as usize >= self.times;
        let (words, times) = (self.end, self.times);
        let after_time = made.last().is_some_and(is_time);
        let after_two = made.len() < 2 || is_time(&made[made.len() - 2]);
        match (after_time, after_two) {
            // The first time, or the second of a pair: words follow.
            (true, true) => x[times..].fill(NEVER),
            // Words and a time: another one, or the end.
            (true, false) => x[..words].fill(NEVER),
            (false, _) => {}
        }
        if let Some(latest) = made.iter().rev().find(|token| is_time(token)) {
            let earliest = match after_time && !after_two {
                true => *latest as usize,
                false => *latest as usize + 1,
            };
            let last = x.len();
            x[times..earliest.min(last)].fill(NEVER);
        }
        if made.is_empty() {
            x[..times].fill(NEVER);
            if let Some(most) = self.first_by {
                let beyond = times.saturating_add(most).saturating_add(1);
                let last = x.len();
                x[beyond.min(last)..].fill(NEVER);
            }
        }
        // Where all times together are likelier than any word, it is a time.
        let best = |x: &[f64]| x.iter().copied().fold(NEVER, f64::max);
        let (word, top) = (best(&x[..times]), best(&x));
        if top == NEVER {
            return Err(odd);
        }
        let together: f64 = x[times..]
            .iter()
            .filter(|score| score.is_finite())
            .map(|score| exp(score - top))
            .sum();
        if word == NEVER || together > exp(word - top) {
            x[..times].fill(NEVER);
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words 0 to 3, the end, the start, no times, and times from 7 to 12.
    fn rules() -> Rules {
        Rules {
            never: vec![1, 5],
            not_first: vec![0, 4],
            first_by: Some(2),
            most: 20,
            language: None,
            end: 4,
            times: 7,
        }
    }

    const EVEN: [f32; 13] = [0.0; 13];
    const T: u32 = 7;

    fn may(made: &[u32], scores: &[f32]) -> Vec<usize> {
        let allowed = rules().allowed(scores, made).unwrap();
        let open = allowed.iter().enumerate().filter(|(_, x)| x.is_finite());
        open.map(|(token, _)| token).collect()
    }

    #[test]
    fn times_come_in_pairs_and_do_not_go_back() {
        // A word so likely that times are not forced.
        let mut words = EVEN;
        words[2] = 9.0;
        words[4] = 9.0;
        assert_eq!(may(&[], &words), [7, 8, 9], "a time, and soon");
        assert_eq!(may(&[T + 1], &words), [0, 2, 3, 4], "then words");
        assert_eq!(may(&[T + 1, 2], &words), [0, 2, 3, 4, 9, 10, 11, 12]);
        assert_eq!(
            may(&[T, 2, T + 3], &words),
            [4, 10, 11, 12],
            "the same again, or the end"
        );
        assert_eq!(may(&[T, 2, T + 3, T + 3], &words), [0, 2, 3, 4]);
        assert_eq!(may(&[T, 2, T + 3, T + 3, 2], &words), [0, 2, 3, 4, 11, 12]);
        assert_eq!(may(&[T + 5, 2], &words), [0, 2, 3, 4], "none is later");
    }

    #[test]
    fn times_that_are_likelier_together_win() {
        assert_eq!(may(&[T, 2], &EVEN), [8, 9, 10, 11, 12]);
        let mut words = EVEN;
        words[3] = 1.7;
        assert_eq!(may(&[T, 2], &words).len(), 9, "e^1.7 is more than 5");
        words[3] = 1.5;
        assert_eq!(may(&[T, 2], &words).len(), 5);
    }

    #[test]
    fn the_likeliest_or_a_drawn_one_is_chosen() {
        let mut scores = EVEN;
        scores[8] = 1.0;
        let choose = |temperature, draw: f64| {
            let chosen = rules().choose(&scores, &[], temperature, || draw);
            chosen.unwrap()
        };
        assert_eq!(choose(0.0, 0.99), 8);
        // Of 1, e and 1.
        assert_eq!(
            [0.2, 0.22, 0.78, 0.8].map(|draw| choose(1.0, draw)),
            [7, 8, 8, 9]
        );
        for bad in [f32::NAN, f32::INFINITY] {
            let mut scores = EVEN;
            scores[3] = bad;
            let error = rules().choose(&scores, &[T], 0.0, || 0.0).unwrap_err();
            assert!(matches!(error, Error::NotFinite { token: 2 }));
        }
    }
}
