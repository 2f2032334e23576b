//! Key files of operators and owners.

use clap::Subcommand;
use cuckoo_core::{B256, Error, Key, OsEntropy, Result, load_key, save_key};

use crate::secret::{Keystore, password, read_stdin};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a key and writes it to an encrypted file, which is never overwritten.
    #[command(after_help = "\
Example:
  CUCKOO_PASSWORD=... cuckoo-coordinator key new --keystore operator.json")]
    New {
        #[command(flatten)]
        keystore: Keystore,
    },
    /// Writes a key that exists, read from standard input as 64 hexadecimal digits, to an encrypted file.
    #[command(after_help = "\
Example:
  cuckoo-coordinator key import --keystore owner.json --password-file owner.password < secret.hex")]
    Import {
        #[command(flatten)]
        keystore: Keystore,
    },
    /// Prints the address of a key file.
    Show {
        #[command(flatten)]
        keystore: Keystore,
    },
}

/// Each prints the key's address to standard output.
pub(crate) fn execute(command: Command) -> Result<()> {
    let key = match command {
        Command::New { keystore } => {
            let password = password(keystore.password_file.as_deref())?;
            let entropy = OsEntropy::new()?;
            let key = Key::random(&entropy);
            save_key(&keystore.path, &key, &password, &entropy)?;
            key
        }
        Command::Import { keystore } => {
            let password = password(keystore.password_file.as_deref())?;
            let secret = read_stdin()?.trim().parse::<B256>().map_err(|_| {
                // The parser's own error could quote the secret.
                Error::invalid("a secret key is 64 hexadecimal digits on standard input")
            })?;
            let key = Key::from_bytes(secret)?;
            save_key(&keystore.path, &key, &password, &OsEntropy::new()?)?;
            key
        }
        Command::Show { keystore } => load_key(
            &keystore.path,
            &password(keystore.password_file.as_deref())?,
        )?,
    };
    println!("{}", key.address());
    Ok(())
}
