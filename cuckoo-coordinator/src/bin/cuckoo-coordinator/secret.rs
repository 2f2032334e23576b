//! Passwords and tokens: from files or the environment, never from the command line, where every user of the machine
//! can read them.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use cuckoo_core::{Error, Result};

const MAX_SECRET_BYTES: u64 = 4 * 1024;
const PASSWORD_VARIABLE: &str = "CUCKOO_PASSWORD";

/// A key file and where its password is.
#[derive(Debug, Args)]
pub(crate) struct Keystore {
    /// The encrypted key file (Web3 Secret Storage, version 3).
    #[arg(long = "keystore", value_name = "FILE")]
    pub(crate) path: PathBuf,
    /// A file that holds the key file's password; CUCKOO_PASSWORD when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

/// The password in `file`, else in the environment.
pub(crate) fn password(file: Option<&Path>) -> Result<String> {
    match file {
        Some(path) => read_line(path),
        None => std::env::var(PASSWORD_VARIABLE).map_err(|_| {
            Error::invalid(format!(
                "no password: name a file with --password-file, or set {PASSWORD_VARIABLE}"
            ))
        }),
    }
}

/// A secret in a file, without the line break that editors add.
pub(crate) fn read_line(path: &Path) -> Result<String> {
    let unreadable = || Error::not_found(format!("cannot read the secret in {}", path.display()));
    let file = File::open(path).map_err(|source| unreadable().with_source(source))?;
    let text = read(file).map_err(|source| unreadable().with_source(source))?;
    if text.is_empty() {
        return Err(Error::invalid(format!(
            "{} is empty; a secret is expected there",
            path.display()
        )));
    }
    Ok(text)
}

/// A secret from standard input.
pub(crate) fn read_stdin() -> Result<String> {
    read(std::io::stdin().lock()).map_err(|source| {
        Error::invalid("cannot read the secret from standard input").with_source(source)
    })
}

fn read(from: impl std::io::Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(MAX_SECRET_BYTES).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
