//! Key files of operators and owners.

use std::io::stdin;

use clap::Subcommand;
use cuckoo_core::{B256, Error, Key, OsEntropy, Result, save_key};

use crate::secret::{Keystore, first_line};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a key and writes it to an encrypted file, which is never overwritten; prints its address.
    #[command(after_help = "\
Example:
  cuckoo-miner key new --keystore miner.json --password-file miner.password")]
    New {
        #[command(flatten)]
        keystore: Keystore,
    },
    /// Writes a key that exists, read from standard input as 64 hexadecimal digits, to an encrypted file.
    #[command(after_help = "\
Example:
  cuckoo-miner key import --keystore owner.json --password-file owner.password < secret.hex")]
    Import {
        #[command(flatten)]
        keystore: Keystore,
    },
    /// Prints the address of a key file.
    #[command(after_help = "\
Example:
  CUCKOO_PASSWORD=... cuckoo-miner key show --keystore miner.json")]
    Show {
        #[command(flatten)]
        keystore: Keystore,
    },
}

pub(crate) fn execute(command: Command) -> Result<()> {
    let key = match command {
        Command::New { keystore } => save(&keystore, Key::random(&OsEntropy::new()?))?,
        Command::Import { keystore } => save(&keystore, read_secret(stdin().lock())?)?,
        Command::Show { keystore } => keystore.load()?,
    };
    println!("{}", key.address());
    Ok(())
}

fn save(keystore: &Keystore, key: Key) -> Result<Key> {
    let password = keystore.password()?;
    save_key(&keystore.path, &key, &password, &OsEntropy::new()?)?;
    Ok(key)
}

fn read_secret(from: impl std::io::Read) -> Result<Key> {
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
            let key = read_secret(text.as_bytes()).unwrap();
            assert_eq!(key.address().to_string(), address);
        }
        let error = read_secret(format!("{digits}00").as_bytes()).unwrap_err();
        assert!(!format!("{error:?}").contains("ac0974"), "{error:?}");
    }
}
