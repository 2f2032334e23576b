//! What a measurement gave, as a line of a table or an object of JSON.

use cuckoo_core::B256;
use serde::Serialize;

use crate::FolderKind;

/// What speed is told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Unit {
    #[serde(rename = "seconds/step")]
    SecondsAStep,
    #[serde(rename = "seconds/picture")]
    SecondsAPicture,
    #[serde(rename = "tokens/second")]
    TokensASecond,
    #[serde(rename = "texts/second")]
    TextsASecond,
    #[serde(rename = "seconds/second")]
    SecondsASecond,
}

impl Unit {
    /// The speed of so many steps, pictures, tokens, texts or seconds of sound in so many seconds.
    pub(super) fn of(self, units: f64, seconds: f64) -> f64 {
        // Less than clocks tell.
        let seconds = seconds.max(1e-4);
        match self {
            Self::SecondsAStep | Self::SecondsAPicture => seconds / units.max(1.0),
            Self::TokensASecond | Self::TextsASecond | Self::SecondsASecond => units / seconds,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::SecondsAStep => "s/step",
            Self::SecondsAPicture => "s/picture",
            Self::TokensASecond => "tokens/s",
            Self::TextsASecond => "texts/s",
            Self::SecondsASecond => "s/s",
        }
    }
}

/// What is measured, and where.
#[derive(Debug, Clone, Serialize)]
pub(super) struct About {
    pub(super) model: String,
    pub(super) kind: FolderKind,
    pub(super) hash: B256,
    pub(super) kernels: String,
    pub(super) threads: usize,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    #[serde(flatten)]
    about: About,
    test: String,
    unit: Unit,
    median: f64,
    low: f64,
    high: f64,
    samples: Vec<f64>,
}

impl Row {
    /// At least one sample.
    pub(super) fn new(about: &About, test: String, unit: Unit, samples: Vec<f64>) -> Self {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let (middle, last) = (sorted.len() / 2, sorted.len().saturating_sub(1));
        Self {
            about: about.clone(),
            test,
            unit,
            median: match sorted.len() % 2 {
                1 => at(middle),
                _ => (at(middle.saturating_sub(1)) + at(middle)) / 2.0,
            },
            low: at(0),
            high: at(last),
            samples,
        }
    }

    pub(super) fn head() -> [String; 5] {
        ["MODEL", "TEST", "RUNS", "MEDIAN", "SPREAD"].map(str::to_owned)
    }

    pub(super) fn cells(&self) -> [String; 5] {
        [
            self.about.model.clone(),
            self.test.clone(),
            self.samples.len().to_string(),
            format!("{} {}", number(self.median), self.unit.as_str()),
            format!("{} to {}", number(self.low), number(self.high)),
        ]
    }
}

/// Three digits that say something; all before the point.
fn number(number: f64) -> String {
    let decimals = match number {
        number if number > 0.0 => 2 - number.log10().floor() as i32,
        _ => 0,
    };
    let decimals = decimals.clamp(0, 6) as usize;
    format!("{number:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.000_234_1, "0.000234"),
            (0.0231, "0.0231"),
            (1.0, "1.00"),
            (45.67, "45.7"),
            (123.4, "123"),
            (45_678.9, "45679"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_row_has_the_middle_and_both_ends() {
        let about = About {
            model: "shapes".to_owned(),
            kind: FolderKind::Image,
            hash: B256::ZERO,
            kernels: "cpu".to_owned(),
            threads: 2,
        };
        let row = |samples: &[f64]| {
            let samples = samples.to_vec();
            let row = Row::new(&about, "x".to_owned(), Unit::TextsASecond, samples);
            (row.median, row.low, row.high)
        };
        assert_eq!(row(&[3.0, 9.0, 1.0]), (3.0, 1.0, 9.0));
        assert_eq!(row(&[3.0, 9.0, 1.0, 4.0]), (3.5, 1.0, 9.0));
        assert_eq!(row(&[7.0]), (7.0, 7.0, 7.0));
    }

    #[test]
    fn speeds_are_told_as_people_ask_for_them() {
        assert_eq!(Unit::SecondsAStep.of(4.0, 2.0), 0.5);
        assert_eq!(Unit::TokensASecond.of(4.0, 2.0), 2.0);
    }
}
