//! What was found, as a table.

use std::fmt;

use super::topic::Topic;

/// Findings of one check that are kept; more of the same say nothing new.
const MOST_FINDINGS: usize = 5;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was not reached, because one before it failed.
    Skipped,
    /// As it should be.
    Passed,
    /// Nothing is wrong, but somebody should know.
    Noted,
    /// Coordinators cannot rely on it.
    Failed,
}

impl Outcome {
    /// The word of the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skipped => "skip",
            Self::Passed => "ok",
            Self::Noted => "note",
            Self::Failed => "FAIL",
        }
    }
}

/// One check of a [`Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    topic: Topic,
    outcome: Outcome,
    findings: Vec<String>,
    more: usize,
}

impl Check {
    /// Its name, such as `repeatable`.
    pub fn name(&self) -> &'static str {
        self.topic.name()
    }

    /// What it makes sure of.
    pub fn meaning(&self) -> &'static str {
        self.topic.meaning()
    }

    /// What to do where it failed.
    pub fn remedy(&self) -> &'static str {
        self.topic.remedy()
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// What was found, a sentence each; the first few where there are many.
    pub fn findings(&self) -> &[String] {
        &self.findings
    }
}

/// What [`Conformance`](super::Conformance) found. Printed, it is a table: a line for each check, below it what was found,
/// and what to do where it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new() -> Self {
        let check = |topic| Check {
            topic,
            outcome: Outcome::Skipped,
            findings: Vec::new(),
            more: 0,
        };
        Self {
            checks: Topic::ALL.map(check).into(),
        }
    }

    /// Every check, in the order in which they were made.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name() == name)
    }

    /// Whether every check was made and none failed.
    pub fn passed(&self) -> bool {
        let sound = |check: &Check| matches!(check.outcome, Outcome::Passed | Outcome::Noted);
        self.checks.iter().all(sound)
    }

    /// The check was made: what is not found from here on is as it should be.
    pub(super) fn reached(&mut self, topic: Topic) {
        self.raise(topic, Outcome::Passed);
    }

    pub(super) fn say(&mut self, topic: Topic, found: impl Into<String>) {
        self.add(topic, Outcome::Passed, found.into());
    }

    pub(super) fn note(&mut self, topic: Topic, found: impl Into<String>) {
        self.add(topic, Outcome::Noted, found.into());
    }

    pub(super) fn fail(&mut self, topic: Topic, found: impl Into<String>) {
        self.add(topic, Outcome::Failed, found.into());
    }

    fn add(&mut self, topic: Topic, outcome: Outcome, found: String) {
        let Some(check) = self.raise(topic, outcome) else {
            return;
        };
        if check.findings.contains(&found) {
            return;
        }
        if check.findings.len() < MOST_FINDINGS {
            check.findings.push(found);
        } else {
            check.more += 1;
        }
    }

    fn raise(&mut self, topic: Topic, outcome: Outcome) -> Option<&mut Check> {
        let check = self.checks.iter_mut().find(|check| check.topic == topic)?;
        if outcome > check.outcome {
            // What led to a lesser outcome must not crowd out what led to this one.
            check.findings.clear();
            check.more = 0;
            check.outcome = outcome;
        }
        Some(check).filter(|check| outcome == check.outcome)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let (word, name) = (check.outcome.as_str(), check.name());
            writeln!(f, "{word:>4}  {name:<13} {}", check.meaning())?;
            for found in &check.findings {
                writeln!(f, "{:20}{found}", "")?;
            }
            if check.more > 0 {
                writeln!(f, "{:20}and {} more like these", "", check.more)?;
            }
            if check.outcome == Outcome::Failed {
                writeln!(f, "{:20}-> {}", "", check.remedy())?;
            }
        }
        let count = |outcome| {
            let of = |check: &&Check| check.outcome == outcome;
            self.checks.iter().filter(of).count()
        };
        write!(
            f,
            "{} of {} checks passed, {} of them with a note; {} failed, {} skipped",
            count(Outcome::Passed) + count(Outcome::Noted),
            self.checks.len(),
            count(Outcome::Noted),
            count(Outcome::Failed),
            count(Outcome::Skipped)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_passes_when_every_check_was_made_and_none_failed() {
        let mut report = Report::new();
        assert!(!report.passed(), "nothing was checked");
        for topic in Topic::ALL {
            report.reached(topic);
        }
        report.note(Topic::Fields, "unknown fields are ignored");
        assert!(report.passed());
        assert!(report.to_string().contains("note  fields"));
        assert!(!report.to_string().contains("->"));
        for number in 0..7 {
            report.fail(Topic::Fields, format!("number {number}"));
        }
        report.note(Topic::Fields, "lost among worse");
        assert!(!report.passed());
        let check = report.check("fields").unwrap();
        assert_eq!(
            (check.outcome(), check.findings().len()),
            (Outcome::Failed, 5)
        );
        let table = report.to_string();
        for line in [
            "FAIL  fields",
            "number 0",
            "and 2 more",
            "-> read the input",
            "1 failed",
        ] {
            assert!(table.contains(line), "{line} in {table}");
        }
        assert!(!table.contains("ignored") && !table.contains("lost"));
    }
}
