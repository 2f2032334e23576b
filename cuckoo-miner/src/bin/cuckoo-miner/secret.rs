//! Passwords: from a file or the environment, never from the command line, which every user of the machine can read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use cuckoo_core::{Error, Key, Result, load_key};

const VARIABLE: &str = "CUCKOO_PASSWORD";
/// No password and no key is longer, in bytes.
const LONGEST: u64 = 4 * 1024;

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

impl Keystore {
    pub(crate) fn password(&self) -> Result<String> {
        password(self.password_file.as_deref())
    }

    pub(crate) fn load(&self) -> Result<Key> {
        load_key(&self.path, &self.password()?)
    }
}

/// The password in `file`, else in the environment.
pub(crate) fn password(file: Option<&Path>) -> Result<String> {
    let Some(path) = file else {
        return std::env::var(VARIABLE).map_err(|_| {
            Error::invalid(format!(
                "no password: name a file with --password-file (password_file in the settings), or set {VARIABLE}"
            ))
        });
    };
    let unreadable =
        |source| Error::not_found(format!("no password in {}", path.display())).with_source(source);
    let password = File::open(path).and_then(first_line).map_err(unreadable)?;
    if password.is_empty() {
        return Err(Error::invalid(format!(
            "{} is empty; it should hold a password",
            path.display()
        )));
    }
    Ok(password)
}

/// A secret without the line break behind it.
pub(crate) fn first_line(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(LONGEST).read_to_string(&mut text)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use cuckoo_core::ErrorKind;

    use super::*;

    #[test]
    fn a_password_is_the_files_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (content, expected) in [
            ("secret\n", "secret"),
            ("se cret \r\n", "se cret "),
            ("x", "x"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(password(Some(&path)).unwrap(), expected);
        }
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(
            password(Some(&path)).unwrap_err().kind(),
            ErrorKind::Invalid
        );
        let none = password(Some(&folder.path().join("none"))).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::NotFound);
    }
}
