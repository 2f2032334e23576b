//! Key files of operators, owners and stakers.

use std::io::{Read, stdin};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::secret::{first_line, password};
use crate::{B256, Error, Key, OsEntropy, Result, load_key, save_key};

/// A key file and where its password is.
#[derive(Debug, Clone, Args)]
pub struct Keystore {
    /// The encrypted key file (Web3 Secret Storage, version 3).
    #[arg(long = "keystore", value_name = "FILE")]
    path: PathBuf,
    /// A file that holds the key file's password; CUCKOO_PASSWORD when absent.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Keystore {
    /// Decrypts the key.
    ///
    /// # Errors
    /// As [`load_key`]; `Invalid` or `NotFound` when there is no password.
    pub fn load(&self) -> Result<Key> {
        load_key(&self.path, &self.password()?)
    }

    fn password(&self) -> Result<String> {
        password(self.password_file.as_deref())
    }

    fn save(&self, key: Key) -> Result<Key> {
        save_key(&self.path, &key, &self.password()?, &OsEntropy::new()?)?;
        Ok(key)
    }
}

/// Makes, imports and shows encrypted key files.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  PROGRAM key new --keystore operator.json
  PROGRAM key import --keystore owner.json < secret.hex
  PROGRAM key show --keystore operator.json")]
pub enum KeyCommand {
    /// Makes a key and writes it to an encrypted file, which is never overwritten; prints its address.
    #[command(after_help = "\
Example:
  CUCKOO_PASSWORD=... PROGRAM key new --keystore operator.json")]
    New(Keystore),
    /// Writes a key that exists, read from standard input as 64 hexadecimal digits, to an encrypted file.
    #[command(after_help = "\
Example:
  PROGRAM key import --keystore owner.json --password-file owner.password < secret.hex")]
    Import(Keystore),
    /// Prints the address of a key file.
    #[command(after_help = "\
Example:
  CUCKOO_PASSWORD=... PROGRAM key show --keystore operator.json")]
    Show(Keystore),
}

impl KeyCommand {
    /// Does it and prints the key's address.
    ///
    /// # Errors
    /// As [`load_key`] and [`save_key`]; `Invalid` for a malformed secret, which is not quoted.
    pub fn run(self) -> Result<()> {
        let key = match self {
            Self::New(keystore) => keystore.save(Key::random(&OsEntropy::new()?))?,
            Self::Import(keystore) => keystore.save(read_key(stdin().lock())?)?,
            Self::Show(keystore) => keystore.load()?,
        };
        println!("{}", key.address());
        Ok(())
    }
}

fn read_key(from: impl Read) -> Result<Key> {
    // Neither the reader's nor the parser's error may quote the secret.
    let malformed = || Error::invalid("a secret key is 64 hexadecimal digits on standard input");
    let text = first_line(from).map_err(|_| malformed())?;
    Key::from_bytes(text.trim().parse::<B256>().map_err(|_| malformed())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_never_quoted() {
        let digits = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
        let address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
        for text in [format!("{digits}\n"), format!("0x{digits}")] {
            let key = read_key(text.as_bytes()).unwrap();
            assert_eq!(key.address().to_string(), address);
        }
        let error = read_key(format!("{digits}00").as_bytes()).unwrap_err();
        assert!(!format!("{error:?}").contains("ac0974"), "{error:?}");
    }
}
