//! The vouchers on disk: what coordinators owe must outlive this process, and the coordinators themselves.

use std::fs;
use std::path::Path;

use cuckoo_core::{Error, Result, SignedVoucher};

/// Far more than all coordinators of a market make; anything larger is something else.
const MAX_BYTES: u64 = 16 << 20;

/// The vouchers in `path`; none when there is no such file.
///
/// # Errors
/// `Invalid` for a file of another format.
pub(crate) fn read(path: &Path) -> Result<Vec<SignedVoucher>> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(Vec::new());
    };
    let malformed = || {
        Error::invalid(format!(
            "{} is not a file of vouchers; move it away, and look into it before it is lost",
            path.display()
        ))
    };
    if metadata.len() > MAX_BYTES {
        return Err(malformed());
    }
    let text = fs::read(path).map_err(|source| malformed().with_source(source))?;
    serde_json::from_slice(&text).map_err(|source| malformed().with_source(source))
}

/// Replaces the file in one step, so that a crash leaves the old one or the new one.
///
/// # Errors
/// `Unavailable` when it cannot be written.
pub(crate) fn write(path: &Path, vouchers: &[SignedVoucher]) -> Result<()> {
    let unwritable = || Error::unavailable(format!("cannot write {}", path.display()));
    let text = serde_json::to_vec_pretty(vouchers)
        .map_err(|source| Error::internal("a voucher has no JSON form").with_source(source))?;
    let beside = path.with_extension("json.new");
    fs::write(&beside, text)
        .and_then(|()| fs::File::open(&beside)?.sync_all())
        .and_then(|()| fs::rename(&beside, path))
        .map_err(|source| unwritable().with_source(source))
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{
        Address, Deployment, ErrorKind, Key, NodeId, SeededEntropy, Signed, Voucher, cai,
    };

    use super::*;

    #[test]
    fn vouchers_survive_their_file_and_strange_files_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vouchers.json");
        assert!(read(&path).unwrap().is_empty());
        let deployment = Deployment {
            chain_id: 7,
            staking: Address::ZERO,
            payments: Address::ZERO,
        };
        let key = Key::random(&SeededEntropy::from_number(1));
        let sign = |amount| {
            let voucher = Voucher {
                coordinator: NodeId(1),
                miner: NodeId(2),
                cumulative: cai(amount),
            };
            Signed::sign(voucher, &key, &deployment)
        };
        for amount in [1, 2] {
            write(&path, &[sign(amount)]).unwrap();
            assert_eq!(read(&path).unwrap(), [sign(amount)]);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(&path, "{").unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{");
    }
}
