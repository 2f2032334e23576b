//! Asking before CAI moves, or something is lost.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use crate::{Error, Result};

/// How a command that sends transactions gets leave to.
#[derive(Debug, Clone, Copy, Args)]
pub struct Asking {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Say what would be done and what it would cost, and do nothing.
    #[arg(long)]
    dry_run: bool,
}

impl Asking {
    /// True when the person at the terminal agrees, or did in advance; false when this is only a rehearsal, which it says.
    ///
    /// # Errors
    /// `Cancelled` when the answer is no, `Invalid` when nobody is there to ask.
    pub fn agreed(self) -> Result<bool> {
        self.agreed_or("nothing was sent")
    }

    /// [`agreed`](Self::agreed) for commands that send nothing: `refused` is what is said when they are not carried out.
    ///
    /// # Errors
    /// As [`agreed`](Self::agreed).
    pub fn agreed_or(self, refused: &str) -> Result<bool> {
        if self.dry_run {
            println!("dry run: {refused}");
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
        Err(Error::cancelled(refused))
    }
}
