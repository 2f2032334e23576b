//! What one key has signed and what became of it, on disk before anybody else sees it.
//!
//! One file per chain and account, appended to only: a line is eight hexadecimal digits of its content's Keccak hash, a
//! space, and a [`Record`] as JSON. A last line without its end was never acted upon and is cut off; any other damage is
//! an error. Signed transactions are in it, keys never.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use alloy::primitives::{Address, B256, Bytes as EvmBytes, hex, keccak256};
use serde::{Deserialize, Serialize};

use super::tx_id::TxId;
use crate::{Error, Result};

/// The longest file that is read: about half a million transactions without a rewrite in between.
const MOST_BYTES: u64 = 512 << 20;
/// A file shorter than this is not worth rewriting.
const REWRITE_BYTES: u64 = 1 << 20;
const VERSION: u32 = 1;

/// A line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Record {
    /// The first line: whose journal this is.
    Journal {
        version: u32,
        chain_id: u64,
        account: Address,
        /// Hash of the chain's first block, so that a development chain that was started anew is not taken for the old one.
        genesis: B256,
        /// No transaction of this file has this nonce or a higher one.
        next_nonce: u64,
    },
    /// A transaction was signed and may be on its way.
    Signed {
        /// Which of the account's transactions this is; replacements share it.
        number: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<TxId>,
        /// What was asked for, as [`Call::content`](super::transactor::Call::content).
        content: B256,
        /// The signed bytes (EIP-2718).
        raw: EvmBytes,
        /// It does nothing but use up its nonce, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cancels: Option<String>,
    },
    /// A transaction came to its end.
    Ended {
        number: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<TxId>,
        content: B256,
        outcome: Outcome,
    },
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It succeeded, as this transaction.
    Succeeded(B256),
    /// It is in a block and reverted with this data, if that could be found out.
    Reverted(B256, Option<EvmBytes>),
    /// It had no effect and never will: its nonce was used up instead.
    Cancelled,
}

/// An open journal, locked against other processes.
#[derive(Debug, Default)]
pub(super) enum Journal {
    /// It remembers nothing.
    #[default]
    Memory,
    Disk(Disk),
    /// Its writer came to harm, so nothing may be signed any more.
    Lost,
}

#[derive(Debug)]
pub(super) struct Disk {
    chain_id: u64,
    account: Address,
    genesis: B256,
    path: PathBuf,
    file: File,
    /// Held as long as the journal is.
    _lock: File,
    /// Length of what is known to be whole.
    length: u64,
    /// Length after the last rewrite.
    rewritten: u64,
}

impl Journal {
    /// Where the journal of an account is.
    pub(super) fn path(folder: &Path, chain_id: u64, account: Address) -> PathBuf {
        folder.join(format!("{chain_id}-{account:#x}.journal"))
    }

    /// The accounts that have a journal for this chain.
    ///
    /// # Errors
    /// `Unavailable` when the folder cannot be read.
    pub(super) fn accounts(folder: &Path, chain_id: u64) -> Result<Vec<Address>> {
        fs::create_dir_all(folder).map_err(|source| unusable(folder, source))?;
        let entries = fs::read_dir(folder).map_err(|source| unusable(folder, source))?;
        let prefix = format!("{chain_id}-");
        Ok(entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| {
                let account = name.strip_prefix(&prefix)?.strip_suffix(".journal")?;
                account.parse().ok()
            })
            .collect())
    }

    /// Opens or creates a journal, and gives what it holds; `None` while another process or handle has it.
    ///
    /// # Errors
    /// `Conflict` when it belongs to another chain, `Invalid` when it is damaged, `Unavailable` when it cannot
    /// be read or written.
    pub(super) fn open(
        folder: &Path,
        chain_id: u64,
        account: Address,
        genesis: B256,
    ) -> Result<Option<(Self, Vec<Record>)>> {
        let path = Self::path(folder, chain_id, account);
        fs::create_dir_all(folder).map_err(|source| unusable(folder, source))?;
        let Some(lock) = lock(&path)? else {
            return Ok(None);
        };
        let mut file = private()
            .read(true)
            .append(true)
            .open(&path)
            .map_err(|source| unusable(&path, source))?;
        let size = (file.metadata())
            .map_err(|source| unusable(&path, source))?
            .len();
        if size > MOST_BYTES {
            return Err(damaged(&path, "it is larger than any journal"));
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)
            .map_err(|source| unusable(&path, source))?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        if whole < text.len() {
            tracing::warn!(path = %path.display(), "the journal's last line was never finished; it is dropped");
            file.set_len(whole as u64)
                .map_err(|source| unusable(&path, source))?;
        }
        let mut records = Vec::new();
        for (line, number) in text[..whole]
            .split_inclusive(|byte| *byte == b'\n')
            .zip(1_u64..)
        {
            let record = decode(&line[..line.len() - 1])
                .ok_or_else(|| damaged(&path, &format!("line {number} is not what was written")))?;
            records.push(record);
        }
        let mut disk = Disk {
            chain_id,
            account,
            genesis,
            path,
            file,
            _lock: lock,
            length: whole as u64,
            rewritten: 0,
        };
        if records.is_empty() {
            let header = Record::Journal {
                version: VERSION,
                chain_id,
                account,
                genesis,
                next_nonce: 0,
            };
            disk.write(&encode(std::slice::from_ref(&header))?, true)?;
            sync_folder(&disk.path).map_err(|source| unusable(&disk.path, source))?;
            records.push(header);
        }
        disk.check(records.first())?;
        Ok(Some((Self::Disk(disk), records)))
    }

    /// Writes records behind the others; with `durable`, returns once they are on disk.
    ///
    /// # Errors
    /// `Unavailable` when they are not; the journal is as before then.
    pub(super) async fn append(&mut self, records: &[Record], durable: bool) -> Result<()> {
        if matches!(self, Self::Memory) {
            return Ok(());
        }
        let text = encode(records)?;
        self.away(move |disk| disk.write(&text, durable)).await
    }

    /// Whether so much of the file is of no use any more that it is worth rewriting.
    pub(super) fn wants_rewrite(&self) -> bool {
        match self {
            Self::Disk(disk) => disk.length > REWRITE_BYTES.max(disk.rewritten.saturating_mul(2)),
            _ => false,
        }
    }

    /// Replaces the file by one that holds only these records behind its first line, which names the next nonce.
    ///
    /// # Errors
    /// `Unavailable` when that fails; the journal is as before then.
    pub(super) async fn rewrite(&mut self, next_nonce: u64, records: Vec<Record>) -> Result<()> {
        let text = encode(&records)?;
        self.away(move |disk| {
            let header = Record::Journal {
                version: VERSION,
                chain_id: disk.chain_id,
                account: disk.account,
                genesis: disk.genesis,
                next_nonce,
            };
            disk.replace(&[encode(&[header])?, text].concat())
        })
        .await
    }

    /// Does file work where it holds up nobody.
    async fn away(
        &mut self,
        work: impl FnOnce(&mut Disk) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let lost = || Error::closed("the journal's writer came to harm; start this process again");
        let Self::Disk(mut disk) = std::mem::replace(self, Self::Lost) else {
            return Err(lost());
        };
        let worked = tokio::task::spawn_blocking(move || {
            let result = work(&mut disk);
            (disk, result)
        });
        let (disk, result) = worked.await.map_err(|source| lost().with_source(source))?;
        *self = Self::Disk(disk);
        result
    }
}

impl Disk {
    /// Whose journal it is.
    fn check(&self, first: Option<&Record>) -> Result<()> {
        match first {
            Some(Record::Journal {
                version,
                chain_id,
                account,
                genesis,
                ..
            }) if *chain_id == self.chain_id && *account == self.account => {
                if *version != VERSION {
                    return Err(damaged(&self.path, "another version of Cuckoo wrote it"));
                }
                if *genesis != self.genesis {
                    return Err(Error::conflict(format!(
                        "the journal {} belongs to another chain with the id {chain_id}: its first block is {genesis}, this chain's {}; move the file away if the chain was started anew",
                        self.path.display(),
                        self.genesis
                    )));
                }
                Ok(())
            }
            _ => Err(damaged(&self.path, "its first line is another account's")),
        }
    }

    fn write(&mut self, text: &[u8], durable: bool) -> Result<()> {
        let mut write = || {
            // What an earlier failure may have left behind.
            if self.file.metadata()?.len() != self.length {
                self.file.set_len(self.length)?;
            }
            self.file.write_all(text)?;
            if durable {
                self.file.sync_data()
            } else {
                Ok(())
            }
        };
        if let Err(source) = write() {
            // Whoever is told that it failed must not be contradicted by the file. If this fails too, the next write sees it.
            let _ = self.file.set_len(self.length);
            return Err(unusable(&self.path, source));
        }
        self.length += text.len() as u64;
        Ok(())
    }

    fn replace(&mut self, text: &[u8]) -> Result<()> {
        let unusable = |source| unusable(&self.path, source);
        let fresh = self.path.with_extension("journal.new");
        let mut file = private()
            .write(true)
            .truncate(true)
            .open(&fresh)
            .map_err(unusable)?;
        file.write_all(text).map_err(unusable)?;
        file.sync_all().map_err(unusable)?;
        fs::rename(&fresh, &self.path).map_err(unusable)?;
        sync_folder(&self.path).map_err(unusable)?;
        self.file = private()
            .read(true)
            .append(true)
            .open(&self.path)
            .map_err(unusable)?;
        self.length = text.len() as u64;
        self.rewritten = self.length;
        Ok(())
    }
}

/// Options for a file that only its user may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes sure that a rename survives a power cut.
fn sync_folder(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// A lock of its own file, since the journal's is replaced now and then.
fn lock(path: &Path) -> Result<Option<File>> {
    let path = path.with_extension("lock");
    let lock = (private().write(true).open(&path)).map_err(|source| unusable(&path, source))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(unusable(&path, source)),
    }
}

fn unusable(path: &Path, source: io::Error) -> Error {
    Error::unavailable(format!(
        "the journal {} cannot be used; check the folder, its rights and the space on the disk",
        path.display()
    ))
    .with_source(source)
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::invalid(format!(
        "the journal {} is damaged: {what}; look up the account's last transactions, then move the file away",
        path.display()
    ))
}

fn encode(records: &[Record]) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    for record in records {
        let json = serde_json::to_vec(record)
            .map_err(|source| Error::internal("a journal's record").with_source(source))?;
        text.extend_from_slice(checksum(&json).as_bytes());
        text.push(b' ');
        text.extend_from_slice(&json);
        text.push(b'\n');
    }
    Ok(text)
}

fn decode(line: &[u8]) -> Option<Record> {
    let (sum, json) = line.split_at_checked(8)?;
    let json = json.strip_prefix(b" ")?;
    (checksum(json).as_bytes() == sum).then_some(())?;
    serde_json::from_slice(json).ok()
}

fn checksum(json: &[u8]) -> String {
    hex::encode(&keccak256(json)[..4])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const GENESIS: B256 = B256::repeat_byte(9);

    fn whose() -> Address {
        Address::repeat_byte(1)
    }

    fn open(folder: &Path) -> Result<(Journal, Vec<Record>)> {
        Ok(Journal::open(folder, 1, whose(), GENESIS)?.expect("it is free"))
    }

    fn signed(number: u64) -> Record {
        Record::Signed {
            number,
            id: Some(TxId::new(format!("tx-{number}")).unwrap()),
            content: B256::repeat_byte(3),
            raw: vec![2; 100].into(),
            cancels: None,
        }
    }

    async fn filled(folder: &Path) -> Vec<Record> {
        let (mut journal, mut records) = open(folder).unwrap();
        for number in 0..3 {
            journal.append(&[signed(number)], true).await.unwrap();
            records.push(signed(number));
        }
        records
    }

    #[tokio::test]
    async fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let records = filled(folder.path()).await;
        assert_eq!(open(folder.path()).unwrap().1, records);
        assert_eq!(Journal::accounts(folder.path(), 1).unwrap(), [whose()]);
        assert!(Journal::accounts(folder.path(), 2).unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_line_cut_at_any_byte_is_dropped_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let records = filled(folder.path()).await;
        let path = Journal::path(folder.path(), 1, whose());
        let text = fs::read(&path).unwrap();
        let last = encode(&[signed(2)]).unwrap().len();
        for cut in 1..=last {
            fs::write(&path, &text[..text.len() - cut]).unwrap();
            let (mut journal, read) = open(folder.path()).unwrap();
            assert_eq!(read, records[..3], "cut {cut}");
            journal.append(&[signed(2)], true).await.unwrap();
            assert_eq!(fs::read(&path).unwrap(), text, "cut {cut}");
        }
    }

    #[tokio::test]
    async fn damage_before_the_last_line_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path()).await;
        let path = Journal::path(folder.path(), 1, whose());
        let text = fs::read(&path).unwrap();
        for at in (0..text.len() - 1).step_by(7) {
            let mut damaged = text.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let error = open(folder.path()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "byte {at}: {error}");
            assert!(error.message().contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[tokio::test]
    async fn one_owner_one_chain_and_only_for_its_user() {
        let folder = tempfile::tempdir().unwrap();
        let (held, _) = open(folder.path()).unwrap();
        let second = Journal::open(folder.path(), 1, whose(), GENESIS).unwrap();
        assert!(second.is_none(), "two hold one journal");
        drop(held);
        let error = Journal::open(folder.path(), 1, whose(), B256::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("started anew"), "{error}");
        let other = Journal::path(folder.path(), 1, Address::ZERO);
        fs::rename(Journal::path(folder.path(), 1, whose()), other).unwrap();
        let error = Journal::open(folder.path(), 1, Address::ZERO, GENESIS).unwrap_err();
        assert!(error.message().contains("another account's"), "{error}");
        #[cfg(unix)]
        for entry in fs::read_dir(folder.path()).unwrap() {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                entry.unwrap().metadata().unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[tokio::test]
    async fn a_rewritten_journal_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut records = filled(folder.path()).await;
        let (mut journal, _) = open(folder.path()).unwrap();
        assert!(!journal.wants_rewrite());
        records.remove(1);
        journal.rewrite(9, records[1..].to_vec()).await.unwrap();
        journal.append(&[signed(7)], true).await.unwrap();
        drop(journal);
        records.push(signed(7));
        let (_, read) = open(folder.path()).unwrap();
        assert_eq!(read[1..], records[1..]);
        assert!(matches!(read[0], Record::Journal { next_nonce: 9, .. }));
    }
}
