//! Are the contents in the cache still what they were?

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cuckoo_core::{Error, Result};

use super::content::ContentId;
use super::name::HubModel;
use super::repo::{Repo, entries, files_below, unwritable};
use super::{ModelStore, size_text};

/// What a look at all contents found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Contents whose hash is right.
    pub sound: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Contents that are not here in full yet; a pull goes on with them.
    pub incomplete: Vec<PathBuf>,
    /// Files whose name is no hash, which nobody can check.
    pub unknown: Vec<PathBuf>,
}

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The model it belongs to.
    pub model: String,
    /// Its path in the model, or among the contents where no commit has it.
    pub file: String,
    /// Which file on disk that is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It ends too early.
    Truncated {
        /// Bytes that are here.
        size: u64,
        /// Bytes that it has on the hub.
        expected: u64,
    },
    /// It has another hash than its name says.
    Corrupt,
    /// The commit has it, and it is gone.
    Missing,
    /// The system cannot read it.
    Unreadable(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { size, expected } => write!(
                f,
                "truncated: {} of {}",
                size_text(*size),
                size_text(*expected)
            ),
            Self::Corrupt => f.write_str("corrupt: its hash is not that of its name"),
            Self::Missing => f.write_str("missing"),
            Self::Unreadable(error) => write!(f, "unreadable: {error}"),
        }
    }
}

impl ModelStore {
    /// Hashes every content of a model, or of all, and compares with the name it has. Reads all of it, so it takes as long
    /// as the disk does; `watch` hears the path of each file before it is read, and its size.
    ///
    /// # Errors
    /// `NotFound` when the model is not in the cache; `Unavailable` when the cache cannot be read. What is wrong with
    /// files is no error, but in the answer.
    pub fn verify(
        &self,
        model: Option<&HubModel>,
        mut watch: impl FnMut(&Path, u64),
    ) -> Result<Verified> {
        let repos = match model {
            Some(model) => {
                let repo = Repo::new(self.folder(), model.name());
                if !repo.folder.is_dir() {
                    return Err(Error::not_found(format!(
                        "{} is not in the cache at {}",
                        model.name(),
                        self.folder().display()
                    )));
                }
                vec![repo]
            }
            None => Repo::all(self.folder())?,
        };
        let mut found = Verified::default();
        for repo in &repos {
            verify(repo, &mut found, &mut watch)?;
        }
        Ok(found)
    }
}

impl Verified {
    /// Removes the damaged contents, so that the next pull fetches them again; how many were.
    ///
    /// # Errors
    /// `Unavailable` when one cannot be removed.
    pub fn remove_damaged(&self) -> Result<usize> {
        let mut removed = 0;
        for fault in &self.faults {
            if matches!(fault.problem, Problem::Truncated { .. } | Problem::Corrupt) {
                fs::remove_file(&fault.path).map_err(|source| unwritable(&fault.path, source))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn verify(repo: &Repo, found: &mut Verified, watch: &mut dyn FnMut(&Path, u64)) -> Result<()> {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for commit in repo.commits()? {
        let snapshot = repo.snapshot(&commit);
        for path in files_below(&snapshot)? {
            let file = path
                .strip_prefix(&snapshot)
                .unwrap_or(&path)
                .display()
                .to_string();
            if !path.exists() {
                found.faults.push(Fault {
                    model: repo.name.clone(),
                    file: file.clone(),
                    path: path.clone(),
                    problem: Problem::Missing,
                });
            }
            let target = fs::read_link(&path).ok();
            let name = target.as_deref().and_then(Path::file_name);
            if let Some(name) = name {
                names.insert(name.to_string_lossy().into_owned(), file);
            }
        }
    }
    let sizes = repo.known_sizes()?;
    for path in entries(&repo.blobs())? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".incomplete") {
            found.incomplete.push(path);
            continue;
        }
        let Some(content) = ContentId::parse(&name) else {
            found.unknown.push(path);
            continue;
        };
        let size = fs::metadata(&path).map_or(0, |found| found.len());
        watch(&path, size);
        let hashed = File::open(&path).and_then(|file| content.of(file, size));
        found.bytes += size;
        let problem = match hashed {
            Ok(hashed) if hashed == content => {
                found.sound += 1;
                continue;
            }
            Ok(_) => match sizes.get(&content) {
                Some(expected) if size < *expected => Problem::Truncated {
                    size,
                    expected: *expected,
                },
                _ => Problem::Corrupt,
            },
            Err(error) => Problem::Unreadable(error.to_string()),
        };
        found.faults.push(Fault {
            model: repo.name.clone(),
            file: names.get(&name).cloned().unwrap_or(name),
            path,
            problem,
        });
    }
    Ok(())
}
