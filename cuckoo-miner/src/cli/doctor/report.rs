//! What was found, as it is shown.

use std::fmt::Display;
use std::io::IsTerminal as _;

/// Prints a line a check and counts.
#[derive(Debug)]
pub(super) struct Report {
    colours: bool,
    checks: usize,
    failed: usize,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            colours: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
            checks: 0,
            failed: 0,
        }
    }
}

impl Report {
    /// As it should be.
    pub(super) fn good(&mut self, what: &str, found: impl Display) {
        self.line("ok", "32", what, found);
    }

    /// The miner works, but somebody should know.
    pub(super) fn note(&mut self, what: &str, found: impl Display, remedy: impl Display) {
        self.line("note", "33", what, found);
        Self::remedy(remedy);
    }

    /// The miner does not work.
    pub(super) fn bad(&mut self, what: &str, found: impl Display, remedy: impl Display) {
        self.failed += 1;
        self.line("FAIL", "31", what, found);
        Self::remedy(remedy);
    }

    pub(super) fn checks(&self) -> usize {
        self.checks
    }

    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    fn line(&mut self, verdict: &str, colour: &str, what: &str, found: impl Display) {
        self.checks += 1;
        if self.colours {
            println!("\x1b[{colour}m{verdict:>4}\x1b[0m  {what:<14} {found}");
        } else {
            println!("{verdict:>4}  {what:<14} {found}");
        }
    }

    fn remedy(remedy: impl Display) {
        println!("{:21}-> {remedy}", "");
    }
}
