//! A content on its way to the disk: what is here of it, and the hash of that.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cuckoo_core::{Error, Result};
use tokio::sync::mpsc;

use super::content::{ContentHasher, ContentId};
use super::fetch::Wanted;
use super::repo::unwritable;

/// A content as far as it is here.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    file: File,
    /// Bytes that are here.
    pub(super) length: u64,
    /// Bytes that came over the network, in all attempts of this process.
    pub(super) written: u64,
    hasher: ContentHasher,
    wanted: Wanted,
    /// Held for as long as anybody may write.
    _lock: Arc<File>,
}

impl Partial {
    /// Opens what an earlier attempt left, and hashes it.
    pub(super) async fn open(path: PathBuf, wanted: Wanted, lock: Arc<File>) -> Result<Self> {
        let opened = tokio::task::spawn_blocking(move || {
            let open = || -> io::Result<(File, u64, ContentHasher)> {
                let mut file = File::options()
                    .create(true)
                    .truncate(false)
                    .read(true)
                    .write(true)
                    .open(&path)?;
                if file.metadata()?.len() > wanted.size {
                    file.set_len(0)?;
                }
                let mut hasher = wanted.content.hasher(wanted.size);
                let length = hasher.read(&mut file)?;
                Ok((file, length, hasher))
            };
            match open() {
                Ok((file, length, hasher)) => Ok(Self {
                    path,
                    file,
                    length,
                    written: 0,
                    hasher,
                    wanted,
                    _lock: lock,
                }),
                Err(source) => Err(unwritable(&path, source)),
            }
        });
        opened.await.map_err(|join| {
            Error::internal("the thread that reads a partial download stopped").with_source(join)
        })?
    }

    /// The name of what is here.
    pub(super) fn content(&self) -> ContentId {
        self.hasher.clone().finish()
    }

    /// Writes what comes until no more does; what was written counts, whatever happens then.
    pub(super) fn write(mut self, mut pieces: mpsc::Receiver<Bytes>) -> (Self, io::Result<()>) {
        while let Some(piece) = pieces.blocking_recv() {
            if let Err(error) = self.append(&piece) {
                return (self, Err(error));
            }
        }
        (self, Ok(()))
    }

    fn append(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let written = match self.file.write(piece) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.hasher.update(&piece[..written]);
            self.length += written as u64;
            self.written += written as u64;
            piece = &piece[written..];
        }
        Ok(())
    }

    /// Forgets what is there.
    pub(super) fn restart(&mut self) -> Result<()> {
        let emptied = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(|source| unwritable(&self.path, source))?;
        self.length = 0;
        self.hasher = self.wanted.content.hasher(self.wanted.size);
        Ok(())
    }

    /// Gives the complete content its name.
    pub(super) async fn keep(self, blob: PathBuf) -> Result<()> {
        let kept = tokio::task::spawn_blocking(move || {
            self.file
                .sync_all()
                .and_then(|()| std::fs::rename(&self.path, &blob))
                .map_err(|source| unwritable(&blob, source))
        });
        kept.await.map_err(|join| {
            Error::internal("the thread that names a download stopped").with_source(join)
        })?
    }
}

/// How much of a content an earlier attempt left.
pub(super) fn begun(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.len())
}
