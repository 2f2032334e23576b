//! From a text's tokens to one vector.

use crate::model::error::Result;
use crate::model::settings::Settings;

/// How a text's tokens become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The first token's numbers.
    First,
    /// The largest of each number.
    Largest,
    /// The mean.
    Mean,
    /// The sum over the square root of how many there are.
    MeanOfRoot,
    /// The mean, in which the first token counts once, the second twice, and so on.
    WeightedMean,
    /// The last token's numbers.
    Last,
}

/// In the order in which they are laid side by side: the names of today, and the switches before.
const MODES: [(&str, &str, Mode); 6] = [
    ("cls", "pooling_mode_cls_token", Mode::First),
    ("max", "pooling_mode_max_tokens", Mode::Largest),
    ("mean", "pooling_mode_mean_tokens", Mode::Mean),
    (
        "mean_sqrt_len_tokens",
        "pooling_mode_mean_sqrt_len_tokens",
        Mode::MeanOfRoot,
    ),
    (
        "weightedmean",
        "pooling_mode_weightedmean_tokens",
        Mode::WeightedMean,
    ),
    ("lasttoken", "pooling_mode_lasttoken", Mode::Last),
];

/// One vector for each text, of one mode or of several side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pooling {
    modes: Vec<Mode>,
}

impl Default for Pooling {
    fn default() -> Self {
        Self {
            modes: vec![Mode::Mean],
        }
    }
}

impl Pooling {
    /// Reads the settings of tokens that are `width` numbers each; with `prompted`, texts begin with a prompt.
    pub(crate) fn read(mut s: Settings, width: usize, prompted: bool) -> Result<Self> {
        for key in ["word_embedding_dimension", "embedding_dimension"] {
            let given = s.count(key, width, 1..=1 << 20)?;
            if given != width {
                let problem = format!("is {given}, and the encoder's tokens have {width} numbers");
                return Err(s.error(key, problem));
            }
        }
        let mut modes = Vec::new();
        for (_, switch, mode) in MODES {
            if s.flag(switch, false)? {
                modes.push(mode);
            }
        }
        let names = MODES.map(|(name, _, mode)| (name, mode));
        let named = s.one_or_more("pooling_mode", &names, MODES.len())?;
        if !named.is_empty() {
            modes = named;
        }
        if !s.flag("include_prompt", true)? && prompted {
            let problem = "is false; this miner pools the prompt's tokens, too";
            return Err(s.error("include_prompt", problem));
        }
        s.finish()?;
        Ok(match modes.is_empty() {
            true => Self::default(),
            false => Self { modes },
        })
    }

    /// How many numbers come of tokens with `width` each.
    pub(crate) fn width(&self, width: usize) -> usize {
        self.modes.len() * width
    }

    /// The vector of a text with these tokens, `width` numbers each; there is at least one.
    pub(crate) fn pool(&self, tokens: &[f32], width: usize) -> Vec<f32> {
        let rows = || tokens.chunks_exact(width);
        let count = tokens.len() / width;
        let mut pooled = Vec::with_capacity(self.width(width));
        for mode in &self.modes {
            match mode {
                Mode::First => pooled.extend(&tokens[..width]),
                Mode::Last => pooled.extend(&tokens[tokens.len() - width..]),
                Mode::Largest => {
                    let mut largest = vec![f32::NEG_INFINITY; width];
                    for row in rows() {
                        for (largest, x) in largest.iter_mut().zip(row) {
                            *largest = largest.max(*x);
                        }
                    }
                    pooled.extend(largest);
                }
                Mode::Mean => pooled.extend(sum(rows(), width, |_| 1.0, count as f64)),
                Mode::MeanOfRoot => {
                    pooled.extend(sum(rows(), width, |_| 1.0, (count as f64).sqrt()));
                }
                Mode::WeightedMean => {
                    let total = count as f64 * (count as f64 + 1.0) / 2.0;
                    pooled.extend(sum(rows(), width, |i| i as f64 + 1.0, total));
                }
            }
        }
        pooled
    }
}

/// The sum of all rows, each times its weight, over `total`.
fn sum<'a>(
    rows: impl Iterator<Item = &'a [f32]>,
    width: usize,
    weight: impl Fn(usize) -> f64,
    total: f64,
) -> impl Iterator<Item = f32> {
    let mut sums = vec![0.0; width];
    for (i, row) in rows.enumerate() {
        let weight = weight(i);
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += weight * f64::from(*x);
        }
    }
    sums.into_iter().map(move |sum| (sum / total) as f32)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(settings: Value, prompted: bool) -> Result<Pooling> {
        let settings = Settings::parse("1_Pooling/config.json", settings.to_string().as_bytes())?;
        Pooling::read(settings, 2, prompted)
    }

    #[test]
    fn each_mode_follows_its_definition() {
        let tokens = [1.0, -1.0, 2.0, 0.0, 6.0, -5.0];
        for (mode, expected) in [
            ("cls", [1.0, -1.0]),
            ("max", [6.0, 0.0]),
            ("mean", [3.0, -2.0]),
            ("mean_sqrt_len_tokens", [5.196_152, -3.464_101_6]),
            ("weightedmean", [23.0 / 6.0, -16.0 / 6.0]),
            ("lasttoken", [6.0, -5.0]),
        ] {
            let pooling = read(json!({"pooling_mode": mode}), false).unwrap();
            assert_eq!(pooling.pool(&tokens, 2), expected, "{mode}");
            let one = pooling.pool(&tokens[..2], 2);
            assert_eq!(one, [1.0, -1.0], "{mode} of one token");
        }
    }

    #[test]
    fn several_modes_lie_side_by_side() {
        let old = json!({"word_embedding_dimension": 2, "pooling_mode_max_tokens": true, "pooling_mode_cls_token": true});
        let old = read(old, false).unwrap();
        assert_eq!(old.pool(&[1.0, 2.0, 3.0, 0.0], 2), [1.0, 2.0, 3.0, 2.0]);
        assert_eq!(old.width(2), 4);
        let new = json!({"embedding_dimension": 2, "pooling_mode": ["cls", "max"], "include_prompt": true});
        assert_eq!(read(new, true).unwrap(), old);
        assert_eq!(read(json!({}), false).unwrap(), Pooling::default());
        let none = json!({"pooling_mode_mean_tokens": false, "include_prompt": false});
        assert_eq!(read(none, false).unwrap(), Pooling::default());
    }

    #[test]
    fn what_is_unknown_is_named() {
        for (settings, named) in [
            (json!({"pooling_mode": "median"}), "median"),
            (json!({"pooling_mode": ["cls", "median"]}), "median"),
            (
                json!({"pooling_mode_median_tokens": true}),
                "pooling_mode_median_tokens",
            ),
            (
                json!({"word_embedding_dimension": 3}),
                "word_embedding_dimension",
            ),
            (json!({"include_prompt": false}), "include_prompt"),
        ] {
            let message = read(settings, true).unwrap_err().to_string();
            assert!(
                message.contains(named) && message.contains("1_Pooling"),
                "{message}"
            );
        }
    }
}
