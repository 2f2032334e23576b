//! What is in the cache.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cuckoo_core::{Error, Result, Timestamp};
use serde::Serialize;

use super::ModelStore;
use super::kind::{FolderKind, lacks};
use super::name::HubModel;
use super::repo::{Repo, files_below};

/// A model in the cache, at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachedModel {
    /// `org/name`.
    pub name: String,
    /// Its commit.
    pub commit: String,
    /// Branches and tags that were at this commit when they were last asked about.
    pub revisions: Vec<String>,
    /// Where its files are.
    pub folder: PathBuf,
    /// Files that are here.
    pub files: usize,
    /// Bytes of these; commits of one model may share some.
    pub bytes: u64,
    /// When one of them was last read, in milliseconds since the Unix epoch, where the disk tells.
    pub used_at: Option<Timestamp>,
    /// What it is.
    pub kind: FolderKind,
    /// The first file that is missing; `None` when all that is needed is here.
    pub lacks: Option<String>,
}

impl ModelStore {
    /// A model in the cache, complete or not; `None` when it is not there at all. Asks nobody.
    ///
    /// # Errors
    /// `Unavailable` when the cache cannot be read.
    pub fn find(&self, model: &HubModel) -> Result<Option<CachedModel>> {
        let repo = Repo::new(self.folder(), model.name());
        match repo.commit(model)? {
            Some(commit) if repo.snapshot(&commit).is_dir() => Ok(Some(look(&repo, commit)?)),
            _ => Ok(None),
        }
    }

    /// The folder of a complete model in the cache.
    ///
    /// # Errors
    /// `NotFound`, with the command that pulls it, when it is not there in full; `Unavailable` when the cache cannot be
    /// read.
    pub fn folder_of(&self, model: &HubModel) -> Result<PathBuf> {
        let pull = format!("pull it with `cuckoo-miner models pull {model}`");
        match self.find(model)? {
            Some(CachedModel {
                lacks: None,
                folder,
                ..
            }) => Ok(folder),
            Some(CachedModel {
                lacks: Some(file), ..
            }) => Err(Error::not_found(format!(
                "{model} is in the cache without {file}; {pull}"
            ))),
            None => Err(Error::not_found(format!(
                "{model} is not in the cache at {}; {pull}",
                self.folder().display()
            ))),
        }
    }

    /// The folder (or GGUF file) that `text` means: one on disk, or else that of a model in the cache by the name it has on the hub.
    ///
    /// # Errors
    /// As [`folder_of`](Self::folder_of); `NotFound` also when it is neither.
    pub fn locate(&self, text: &str) -> Result<PathBuf> {
        let path = Path::new(text);
        if path.exists() {
            return Ok(path.to_owned());
        }
        match text.parse() {
            Ok(model) => self.folder_of(&model),
            Err(_) => Err(Error::not_found(format!(
                "{text} is neither a folder, nor a file, nor the name of a model on the hub, such as org/name"
            ))),
        }
    }

    /// All models in the cache, by name and commit, those included that other programs put there.
    ///
    /// # Errors
    /// `Unavailable` when the cache cannot be read.
    pub fn list(&self) -> Result<Vec<CachedModel>> {
        let mut models = Vec::new();
        for repo in Repo::all(self.folder())? {
            for commit in repo.commits()? {
                models.push(look(&repo, commit)?);
            }
        }
        Ok(models)
    }
}

fn look(repo: &Repo, commit: String) -> Result<CachedModel> {
    let folder = repo.snapshot(&commit);
    // Two files may be one content.
    let mut contents: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let (mut files, mut used, mut dangling) = (0, None::<SystemTime>, BTreeSet::new());
    for path in files_below(&folder)? {
        let Ok(found) = fs::metadata(&path) else {
            dangling.insert(
                path.strip_prefix(&folder)
                    .unwrap_or(&path)
                    .display()
                    .to_string(),
            );
            continue;
        };
        files += 1;
        used = used.max(found.accessed().ok());
        contents.insert(path.canonicalize().unwrap_or(path), found.len());
    }
    let revisions = repo.refs()?.into_iter();
    let used = used.and_then(|used| used.duration_since(UNIX_EPOCH).ok());
    Ok(CachedModel {
        name: repo.name.clone(),
        revisions: revisions
            .filter(|(_, at)| *at == commit)
            .map(|(name, _)| name)
            .collect(),
        files,
        bytes: contents.values().sum(),
        used_at: used.map(|used| Timestamp::from_millis(0).after(used)),
        kind: FolderKind::of(&folder),
        lacks: dangling.pop_first().or_else(|| lacks(&folder)),
        folder,
        commit,
    })
}
