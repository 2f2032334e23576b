//! The file with the contracts' addresses, that a deployment writes and everything else reads.

use std::fs::{self, File as Handle, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use config::{File, FileFormat};

use crate::{Contracts, Error, Result};

/// Reads the file that [`write_contracts`] writes.
///
/// # Errors
/// `NotFound` when there is none, `Invalid` when it is malformed.
pub fn read_contracts(path: &Path) -> Result<Contracts> {
    if !path.is_file() {
        return Err(Error::not_found(format!(
            "no deployment at {}; `cuckoo-coordinator chain deploy` writes one, or ask the market's operator for it",
            path.display()
        )));
    }
    config::Config::builder()
        .add_source(File::from(path).format(FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|source| {
            Error::invalid(format!("{} is not a deployment file", path.display()))
                .with_source(source)
        })
}

/// Writes where a market's contracts are, in one step and never over a file.
///
/// # Errors
/// `Conflict` when the file exists, `Unavailable` when it cannot be written.
pub fn write_contracts(path: &Path, contracts: &Contracts) -> Result<()> {
    let unwritable = |source: std::io::Error| {
        let text = format!("cannot write {}", path.display());
        match source.kind() {
            std::io::ErrorKind::AlreadyExists => Error::conflict(format!("{text}: it exists")),
            _ => Error::unavailable(text).with_source(source),
        }
    };
    let beside = path.with_extension("toml.new");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(&beside)
        .and_then(|mut file: Handle| {
            file.write_all(text(contracts)?.as_bytes())?;
            file.sync_all()?;
            // Unlike a rename, a link does not replace what is there.
            fs::hard_link(&beside, path)
        });
    let _ = fs::remove_file(&beside);
    written.map_err(unwritable)
}

fn text(contracts: &Contracts) -> std::io::Result<String> {
    let values = serde_json::to_value(contracts)?;
    let mut text = "# The contracts of one Cuckoo market.\n".to_owned();
    // Numbers and texts without quotes in them are written alike in JSON and TOML.
    for (name, value) in values.as_object().into_iter().flatten() {
        text += &format!("{name} = {value}\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Deployment, ErrorKind};

    #[test]
    fn contracts_survive_their_file_which_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deployment.toml");
        let market = Deployment {
            chain_id: 31_337,
            staking: Address::repeat_byte(0x5a),
            payments: Address::repeat_byte(0x9b),
        };
        let all = Contracts {
            equivocation: Some(Address::repeat_byte(1)),
            unpaid_voucher: Some(Address::repeat_byte(2)),
            court: Some(Address::repeat_byte(3)),
            timelock: Some(Address::repeat_byte(4)),
            faucet: Some(Address::repeat_byte(5)),
            since_block: Some(77),
            market,
        };
        write_contracts(&path, &all).unwrap();
        assert_eq!(read_contracts(&path).unwrap(), all);
        let again = write_contracts(&path, &market.into()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Conflict);
        assert_eq!(read_contracts(&path).unwrap(), all);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        let few = folder.path().join("few.toml");
        write_contracts(&few, &market.into()).unwrap();
        assert_eq!(read_contracts(&few).unwrap(), market.into());
        fs::write(&few, "chain_id = 5\n").unwrap();
        assert_eq!(read_contracts(&few).unwrap_err().kind(), ErrorKind::Invalid);
    }
}
