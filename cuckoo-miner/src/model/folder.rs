//! A pipeline's folder on disk: bounded reads, and the hash that names what was read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::{Error, Result};
use super::memory;

/// Largest file of settings: published ones have a few kilobytes.
pub(crate) const SETTINGS_LIMIT: u64 = 1 << 20;
/// Largest vocabulary, merge list or weight index: CLIP's tokenizer has 2 MB.
pub(crate) const TABLE_LIMIT: u64 = 64 << 20;

/// The folder, and what has been read from it so far.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    read: BTreeMap<String, FileRecord>,
    /// What stands for the small files, where all of the model is in one large file.
    documents: BTreeMap<&'static str, Vec<u8>>,
    /// Bytes that the weights opened so far take in memory.
    pub(crate) memory: u64,
    /// Tells how many more are free, where that is known.
    pub(crate) free: fn() -> Option<u64>,
}

#[derive(Debug)]
struct FileRecord {
    size: u64,
    digest: [u8; 32],
}

impl Folder {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        if !root.is_dir() {
            return Err(Error::Missing {
                file: format!("{} (not a folder)", root.display()),
            });
        }
        Ok(Self {
            root: root.to_owned(),
            read: BTreeMap::new(),
            documents: BTreeMap::new(),
            memory: 0,
            free: memory::available,
        })
    }

    /// A folder whose small files are `documents` and nothing else. They were made of a large file in `root`, and do not
    /// count in the hash.
    pub(crate) fn of_documents(root: &Path, documents: BTreeMap<&'static str, Vec<u8>>) -> Self {
        Self {
            root: root.to_owned(),
            read: BTreeMap::new(),
            documents,
            memory: 0,
            free: memory::available,
        }
    }

    /// Whether the folder has `name` (a path inside it, with `/`).
    pub(crate) fn has(&self, name: &str) -> bool {
        match self.documents.is_empty() {
            true => self.root.join(name).is_file(),
            false => self.documents.contains_key(name),
        }
    }

    /// The bytes of a small file.
    pub(crate) fn bytes(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let within = |size| match size > limit {
            true => Err(Error::TooLarge {
                file: name.to_owned(),
                size,
                limit,
            }),
            false => Ok(()),
        };
        if let Some(document) = self.documents.get(name) {
            within(document.len() as u64)?;
            return Ok(document.clone());
        }
        let (file, size) = self.open_file(name)?;
        within(size)?;
        let mut bytes = Vec::new();
        // One byte more than allowed, in case the file grows while it is read.
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| read_error(name, source))?;
        within(bytes.len() as u64)?;
        self.record(name, bytes.len() as u64, Sha256::digest(&bytes).into());
        Ok(bytes)
    }

    /// A large file, hashed in full and rewound; its size in bytes.
    pub(crate) fn file(&mut self, name: &str) -> Result<(File, u64)> {
        let (file, _) = self.open_file(name)?;
        self.hashed(file, name)
    }

    /// As [`file`](Self::file), hashed as if its name were `known`.
    pub(crate) fn known_as(&mut self, name: &str, known: &str) -> Result<(File, u64)> {
        let (file, _) = self.open_file(name)?;
        self.hashed(file, known)
    }

    /// As [`file`](Self::file), for a file at any `path`, which is hashed as if it were `name`.
    pub(crate) fn outside(&mut self, path: &Path, name: &str) -> Result<(File, u64)> {
        let file = File::open(path)
            .and_then(|file| match file.metadata()?.is_file() {
                true => Ok(file),
                false => Err(io::ErrorKind::NotFound.into()),
            })
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => Error::Lora {
                    file: path.display().to_string(),
                    problem: "there is no such file".to_owned(),
                },
                _ => read_error(&path.display().to_string(), source),
            })?;
        self.hashed(file, name)
    }

    fn hashed(&mut self, mut file: File, name: &str) -> Result<(File, u64)> {
        let mut digest = Sha256::new();
        let size = io::copy(&mut file, &mut digest).map_err(|source| read_error(name, source))?;
        file.seek(SeekFrom::Start(0))
            .map_err(|source| read_error(name, source))?;
        self.record(name, size, digest.finalize().into());
        Ok((file, size))
    }

    /// Names exactly what was read: SHA-256 over `"cuckoo model 1\n"` and then, in the order of the file names, the
    /// length of the name, the name, the size (both lengths as 8 bytes, little-endian) and the SHA-256 of the content.
    ///
    /// Files nobody read (other formats of the same weights, read-me files) do not count, so two miners that
    /// downloaded different extras still name the same model.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(b"cuckoo model 1\n");
        for (name, record) in &self.read {
            digest.update((name.len() as u64).to_le_bytes());
            digest.update(name);
            digest.update(record.size.to_le_bytes());
            digest.update(record.digest);
        }
        digest.finalize().into()
    }

    fn open_file(&self, name: &str) -> Result<(File, u64)> {
        let open = || {
            let file = File::open(self.root.join(name))?;
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok((file, metadata.len()))
        };
        open().map_err(|source| read_error(name, source))
    }

    fn record(&mut self, name: &str, size: u64, digest: [u8; 32]) {
        self.read
            .insert(name.to_owned(), FileRecord { size, digest });
    }
}

fn read_error(name: &str, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound => Error::Missing {
            file: name.to_owned(),
        },
        _ => Error::Read {
            file: name.to_owned(),
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        (dir, folder)
    }

    #[test]
    fn hash_covers_name_and_content_of_what_was_read_and_nothing_else() {
        let hash = |files: &[(&str, &[u8])]| {
            let (_dir, mut folder) = folder(files);
            folder.file("b").unwrap();
            folder.bytes("a", 100).unwrap();
            folder.hash()
        };
        let base = hash(&[("a", b"1"), ("b", b"2")]);
        assert_eq!(base, hash(&[("a", b"1"), ("b", b"2"), ("extra", b"3")]));
        assert_ne!(base, hash(&[("a", b"2"), ("b", b"2")]));
        assert_ne!(base, hash(&[("a", b"1"), ("b", b"1")]));
        // Whoever re-implements the hash can check themselves against this value.
        assert_eq!(hex(&base), HASH);
    }

    const HASH: &str = "5dfa98b1f95ed7f15865d9e743eca75f28a076b92392dfcfc0fe67adc495735d";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn reads_are_bounded_and_missing_files_named() {
        let (dir, mut folder) = folder(&[("big", &[b' '; 11])]);
        assert!(matches!(
            folder.bytes("big", 10),
            Err(Error::TooLarge { size: 11, .. })
        ));
        assert!(matches!(folder.bytes("none", 10), Err(Error::Missing { file }) if file == "none"));
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        assert!(folder.bytes("sub", 10).is_err());
        assert!(Folder::open(&dir.path().join("nowhere")).is_err());
    }
}
