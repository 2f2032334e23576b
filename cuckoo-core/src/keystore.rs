//! Encrypted key files (Web3 Secret Storage, version 3), as geth, foundry and every wallet write them.

use std::fs;
use std::path::Path;

use alloy::primitives::B256;
use eth_keystore::{EthKeystore, KdfparamsType, KeystoreError};
use rand08::SeedableRng as _;
use rand08::rngs::StdRng;

use crate::{Entropy, Error, Key, Result};

/// A keystore file is about 500 bytes; anything far larger is something else.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Largest scrypt memory accepted from a file (128 N r bytes): 1 GiB, four times what geth writes.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
/// Most PBKDF2 rounds accepted from a file.
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;

/// Reads the key in an encrypted keystore file.
///
/// # Errors
/// `NotFound` when there is no such file, `Unauthorized` for a wrong password, `Invalid` for a file of another format or
/// one whose key derivation asks for more than 1 GiB of memory.
pub fn load_key(path: &Path, password: &str) -> Result<Key> {
    let not_a_keystore = || {
        Error::invalid(format!(
            "{} is not a version 3 keystore file",
            path.display()
        ))
    };
    let size = fs::metadata(path).map_err(|source| {
        Error::not_found(format!(
            "no keystore at {}; create one with `key new`",
            path.display()
        ))
        .with_source(source)
    })?;
    if size.len() > MAX_FILE_BYTES {
        return Err(not_a_keystore());
    }
    let text = fs::read_to_string(path).map_err(|source| not_a_keystore().with_source(source))?;
    let keystore: EthKeystore =
        serde_json::from_str(&text).map_err(|source| not_a_keystore().with_source(source))?;
    // The library slices and allocates by these numbers without a look at them.
    let bounded = match &keystore.crypto.kdfparams {
        KdfparamsType::Pbkdf2 { c, dklen, .. } => *dklen == 32 && *c <= MAX_PBKDF2_ROUNDS,
        KdfparamsType::Scrypt { dklen, n, p, r, .. } => {
            *dklen == 32
                && n.is_power_of_two()
                && *p <= 16
                && 128 * u64::from(*n) * u64::from(*r) <= MAX_SCRYPT_BYTES
        }
    };
    if keystore.version != 3 || keystore.crypto.cipherparams.iv.len() != 16 || !bounded {
        return Err(not_a_keystore());
    }
    let secret = eth_keystore::decrypt_key(path, password).map_err(|source| match source {
        KeystoreError::MacMismatch => Error::unauthorized(format!(
            "wrong password for the keystore {}",
            path.display()
        )),
        other => not_a_keystore().with_source(other),
    })?;
    let secret = <[u8; 32]>::try_from(secret).map_err(|_| not_a_keystore())?;
    Key::from_bytes(B256::from(secret))
}

/// Writes a key to an encrypted keystore file that only its user may read; never overwrites one.
///
/// # Errors
/// `Conflict` when the file exists, `Unavailable` when it cannot be written.
pub fn save_key(path: &Path, key: &Key, password: &str, entropy: &dyn Entropy) -> Result<()> {
    if path.exists() {
        return Err(Error::conflict(format!(
            "{} exists already and is not overwritten",
            path.display()
        )));
    }
    let unwritable = || Error::unavailable(format!("cannot write the keystore {}", path.display()));
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(unwritable)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(|source| unwritable().with_source(source))?;
    let mut rng = StdRng::from_seed(entropy.word().0);
    eth_keystore::encrypt_key(folder, &mut rng, key.secret_bytes(), password, Some(name))
        .map_err(|source| unwritable().with_source(source))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|source| unwritable().with_source(source))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, SeededEntropy};

    #[test]
    fn a_key_survives_the_file_and_only_the_password_opens_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.json");
        let entropy = SeededEntropy::from_number(1);
        let key = Key::random(&entropy);
        save_key(&path, &key, "correct horse", &entropy).unwrap();
        assert_eq!(
            load_key(&path, "correct horse").unwrap().address(),
            key.address()
        );
        assert_eq!(
            load_key(&path, "wrong").unwrap_err().kind(),
            ErrorKind::Unauthorized
        );
        assert_eq!(
            save_key(&path, &key, "x", &entropy).unwrap_err().kind(),
            ErrorKind::Conflict
        );
        assert_eq!(
            load_key(&folder.path().join("none"), "x")
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
    }

    #[test]
    fn hostile_files_are_refused_without_work() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.json");
        let entropy = SeededEntropy::from_number(2);
        save_key(&path, &Key::random(&entropy), "x", &entropy).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("\"dklen\":32", "\"dklen\":8"),
            ("\"n\":8192", "\"n\":1073741824"),
            ("\"version\":3", "\"version\":1"),
            ("{", "["),
        ] {
            assert!(good.contains(from), "{from} in {good}");
            fs::write(&path, good.replacen(from, to, 1)).unwrap();
            assert_eq!(
                load_key(&path, "x").unwrap_err().kind(),
                ErrorKind::Invalid,
                "{to}"
            );
        }
    }
}
