//! Asking before CAI moves.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use crate::{Error, Result};

/// How a command that sends transactions gets leave to.
#[derive(Debug, Clone, Copy, Args)]
pub struct Asking {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Say what would be done and what it would cost, and send nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Asking {
    /// True when the person at the terminal agrees, or did in advance; false when this is only a rehearsal, which it says.
    ///
    /// # Errors
    /// `Cancelled` when the answer is no, `Invalid` when nobody is there to ask.
    pub fn agreed(self) -> Result<bool> {
        if self.dry_run {
            println!("dry run: nothing was sent");
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Err(Error::invalid(
                "nobody is there to ask; add --yes to agree in advance, or --dry-run to look only",
            ));
        }
        let mut answer = String::new();
        print!("go on? [y/N] ");
        std::io::stdout()
            .flush()
            .and_then(|()| stdin.lock().read_line(&mut answer))
            .map_err(|source| {
                Error::unavailable("cannot ask on this terminal; add --yes").with_source(source)
            })?;
        if answer.trim().eq_ignore_ascii_case("y") {
            return Ok(true);
        }
        Err(Error::cancelled("nothing was sent"))
    }
}
