//! Taking models out of the cache.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cuckoo_core::{Error, Result};

use super::ModelStore;
use super::name::HubModel;
use super::repo::{Repo, entries, files_below, unwritable};

/// What would be removed, and how much room that gives. Nothing is removed before [`carry_out`](Self::carry_out).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// The commits whose files go.
    pub commits: Vec<String>,
    /// Branches and tags that are forgotten with them.
    pub revisions: Vec<String>,
    /// Bytes that become free.
    pub bytes: u64,
    refs: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    blobs: Vec<PathBuf>,
    /// The model's own folder and that of its locks, when nothing is left.
    whole: Vec<PathBuf>,
}

impl ModelStore {
    /// What removing a model would mean: all of it, or where a revision is named that one alone, with the contents that
    /// no other revision has.
    ///
    /// # Errors
    /// `NotFound` when it is not in the cache; `Conflict` when a pull of it runs; `Unavailable` when the cache cannot be
    /// read.
    pub fn removal(&self, model: &HubModel) -> Result<Removal> {
        let repo = Repo::new(self.folder(), model.name());
        let absent = || {
            Error::not_found(format!(
                "{model} is not in the cache at {}; `cuckoo-miner models list` shows what is",
                self.folder().display()
            ))
        };
        if !repo.folder.is_dir() {
            return Err(absent());
        }
        if in_use(&repo)? {
            return Err(Error::new(
                cuckoo_core::ErrorKind::Conflict,
                format!(
                    "{} is being pulled by another program; wait for it, or stop it",
                    repo.name
                ),
            ));
        }
        let commits = repo.commits()?;
        if !model.is_pinned() {
            return everything(repo, commits);
        }
        let commit = repo.commit(model)?;
        match commit.filter(|commit| commits.contains(commit)) {
            Some(commit) if commits.len() == 1 => everything(repo, vec![commit]),
            Some(commit) => one(&repo, &commits, commit),
            None => Err(absent()),
        }
    }
}

impl Removal {
    /// Removes it; what is stopped in the middle can be begun again.
    ///
    /// # Errors
    /// `Unavailable` when something cannot be removed.
    pub fn carry_out(self) -> Result<()> {
        // Names first: whatever happens, none leads to something that is gone.
        for path in self.refs.iter() {
            remove(path, |path| fs::remove_file(path))?;
        }
        for path in self.folders.iter() {
            remove(path, |path| fs::remove_dir_all(path))?;
        }
        for path in self.blobs.iter() {
            remove(path, |path| fs::remove_file(path))?;
        }
        for path in self.whole.iter() {
            remove(path, |path| fs::remove_dir_all(path))?;
        }
        Ok(())
    }
}

fn everything(repo: Repo, commits: Vec<String>) -> Result<Removal> {
    let refs = repo.refs()?;
    let mut bytes = 0;
    for path in files_below(&repo.folder)? {
        bytes += size(&path);
    }
    Ok(Removal {
        folders: vec![repo.folder.join("refs"), repo.folder.join("snapshots")],
        refs: Vec::new(),
        revisions: refs.into_keys().collect(),
        blobs: Vec::new(),
        whole: vec![repo.folder, repo.locks],
        commits,
        bytes,
    })
}

fn one(repo: &Repo, commits: &[String], commit: String) -> Result<Removal> {
    let mut kept = BTreeSet::new();
    for other in commits.iter().filter(|other| **other != commit) {
        kept.extend(blobs_of(repo, other)?);
    }
    let blobs: Vec<PathBuf> = blobs_of(repo, &commit)?
        .into_iter()
        .filter(|blob| !kept.contains(blob))
        .collect();
    let refs = repo.refs()?.into_iter();
    let revisions: Vec<String> = refs
        .filter(|(_, at)| *at == commit)
        .map(|(name, _)| name)
        .collect();
    let mut refs: Vec<PathBuf> = revisions
        .iter()
        .map(|name| repo.folder.join("refs").join(name))
        .collect();
    refs.push(repo.tree(&commit));
    let snapshot = repo.snapshot(&commit);
    // Copies, where there are no links.
    let copies: u64 = files_below(&snapshot)?.iter().map(|path| size(path)).sum();
    Ok(Removal {
        bytes: copies + blobs.iter().map(|blob| size(blob)).sum::<u64>(),
        commits: vec![commit],
        revisions,
        refs,
        folders: vec![snapshot],
        blobs,
        whole: Vec::new(),
    })
}

/// The blobs that a snapshot's links lead to.
fn blobs_of(repo: &Repo, commit: &str) -> Result<BTreeSet<PathBuf>> {
    let mut blobs = BTreeSet::new();
    for path in files_below(&repo.snapshot(commit))? {
        let name = fs::read_link(&path).ok();
        let name = name.as_deref().and_then(Path::file_name);
        let blob = name.map(|name| repo.blobs().join(name));
        blobs.extend(blob.filter(|blob| fs::symlink_metadata(blob).is_ok()));
    }
    Ok(blobs)
}

/// Whether somebody fetches a blob of it now.
fn in_use(repo: &Repo) -> Result<bool> {
    for path in entries(&repo.locks)? {
        let file = fs::File::options().write(true).open(&path);
        if let Ok(file) = file
            && matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a file itself takes: of a link, nothing.
fn size(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |found| if found.is_file() { found.len() } else { 0 })
}

fn remove(path: &Path, how: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
    match how(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| unwritable(path, source)),
    }
}
