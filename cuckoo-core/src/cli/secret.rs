//! Passwords and tokens: from files or the environment, never from the command line, where every user of the machine
//! can read them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::{Error, Result};

const VARIABLE: &str = "CUCKOO_PASSWORD";
/// No password, token or key is longer, in bytes.
const LONGEST: u64 = 4 * 1024;

/// The password in `file`, else in the environment.
pub(super) fn password(file: Option<&Path>) -> Result<String> {
    match file {
        Some(path) => read_secret(path),
        None => std::env::var(VARIABLE).map_err(|_| {
            Error::invalid(format!(
                "no password: name a file with --password-file (password_file in the settings), or set {VARIABLE}"
            ))
        }),
    }
}

/// A secret in a file, without the line break that editors add.
///
/// # Errors
/// `NotFound` when it cannot be read, `Invalid` when it is empty.
pub fn read_secret(path: &Path) -> Result<String> {
    let secret = File::open(path).and_then(first_line).map_err(|source| {
        Error::not_found(format!("cannot read the secret in {}", path.display()))
            .with_source(source)
    })?;
    if secret.is_empty() {
        return Err(Error::invalid(format!(
            "{} is empty; a secret is expected there",
            path.display()
        )));
    }
    Ok(secret)
}

/// A secret without the line break behind it.
pub(super) fn first_line(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(LONGEST).read_to_string(&mut text)?;
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

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
