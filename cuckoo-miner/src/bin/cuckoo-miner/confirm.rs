//! Asking before CAI moves.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use cuckoo_core::{Error, Result};

/// Passes when the person at the terminal agrees, or `agreed` in advance.
pub(crate) fn confirm(agreed: bool) -> Result<()> {
    if agreed {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::invalid(
            "nobody is there to ask; add --yes to agree in advance",
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
        return Ok(());
    }
    Err(Error::cancelled("nothing was sent"))
}
