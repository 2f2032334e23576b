//! A model's folder in the cache, in the layout that `huggingface_hub` gives it:
//!
//! ```text
//! models--org--name/
//!   blobs/5891b5…             contents, named by their hash; `.incomplete` while they come
//!   snapshots/0123ab…/        one folder for each commit, whose files are links to blobs
//!   refs/main                 the commit that a branch was at when it was last asked about
//!   trees/0123ab….json        the list of a commit's files
//! .locks/models--org--name/   one file for each blob, locked by whoever fetches it
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cuckoo_core::{Error, Result};

use super::content::ContentId;
use super::listing::sizes_in_tree;
use super::name::{HubModel, is_commit, is_model_name};

const PREFIX: &str = "models--";
/// The shortest beginning of a commit that stands for it.
const SHORTEST_COMMIT: usize = 7;
const LARGEST_TREE: u64 = 64 << 20;
/// Deeper folders than a listing may have are nobody's.
const DEEPEST: usize = 20;

/// The folder of one model.
#[derive(Debug, Clone)]
pub(super) struct Repo {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) locks: PathBuf,
}

impl Repo {
    pub(super) fn new(cache: &Path, name: &str) -> Self {
        let folder = format!("{PREFIX}{}", name.replace('/', "--"));
        Self {
            name: name.to_owned(),
            locks: cache.join(".locks").join(&folder),
            folder: cache.join(folder),
        }
    }

    /// All models of a cache, by name. A cache that is not there has none.
    pub(super) fn all(cache: &Path) -> Result<Vec<Self>> {
        let mut names = Vec::new();
        for entry in entries(cache)? {
            let name = entry
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix(PREFIX))
                .map(|name| name.replacen("--", "/", 1));
            names.extend(name.filter(|name| is_model_name(name) && entry.is_dir()));
        }
        names.sort();
        Ok(names.iter().map(|name| Self::new(cache, name)).collect())
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.folder.join("blobs")
    }

    pub(super) fn blob(&self, content: &ContentId) -> PathBuf {
        self.blobs().join(content.to_string())
    }

    /// Whether a blob is there in full, by its size.
    pub(super) fn has(&self, content: &ContentId, size: u64) -> bool {
        fs::metadata(self.blob(content)).is_ok_and(|found| found.is_file() && found.len() == size)
    }

    /// Where the content is gathered until it is complete.
    pub(super) fn incomplete(&self, content: &ContentId) -> PathBuf {
        self.blobs().join(format!("{content}.incomplete"))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(super) fn tree(&self, commit: &str) -> PathBuf {
        self.folder.join("trees").join(format!("{commit}.json"))
    }

    /// The commits that there are snapshots of.
    pub(super) fn commits(&self) -> Result<Vec<String>> {
        let mut commits: Vec<String> = entries(&self.folder.join("snapshots"))?
            .into_iter()
            .filter(|path| path.is_dir())
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .filter(|name| is_commit(name))
            .collect();
        commits.sort();
        Ok(commits)
    }

    /// Branches and tags, and the commit that each was last seen at.
    pub(super) fn refs(&self) -> Result<BTreeMap<String, String>> {
        let root = self.folder.join("refs");
        let mut refs = BTreeMap::new();
        for path in files_below(&root)? {
            let name = path.strip_prefix(&root).ok().and_then(Path::to_str);
            if let (Some(name), Some(commit)) = (name, read_ref(&path)) {
                refs.insert(name.replace('\\', "/"), commit);
            }
        }
        Ok(refs)
    }

    /// The commit that a model's revision stands for here.
    pub(super) fn commit(&self, model: &HubModel) -> Result<Option<String>> {
        let revision = model.revision();
        if is_commit(revision) {
            return Ok(Some(revision.to_ascii_lowercase()));
        }
        if let Some(commit) = read_ref(&self.folder.join("refs").join(revision)) {
            return Ok(Some(commit));
        }
        let short = revision.len() >= SHORTEST_COMMIT;
        let begun: Vec<String> = self
            .commits()?
            .into_iter()
            .filter(|commit| short && commit.starts_with(revision))
            .collect();
        match &begun[..] {
            [commit] => Ok(Some(commit.clone())),
            _ => Ok(None),
        }
    }

    /// Remembers where a branch or tag is. Readers see the old commit or the new one.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<()> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(revision);
        write_whole(&path, commit.as_bytes()).map_err(|source| unwritable(&path, source))
    }

    /// The sizes of contents, as far as lists that were kept say them.
    pub(super) fn known_sizes(&self) -> Result<BTreeMap<ContentId, u64>> {
        let mut sizes = BTreeMap::new();
        for path in entries(&self.folder.join("trees"))? {
            let mut json = Vec::new();
            let read =
                File::open(&path).and_then(|file| file.take(LARGEST_TREE).read_to_end(&mut json));
            if read.is_ok() {
                sizes.extend(sizes_in_tree(&json));
            }
        }
        Ok(sizes)
    }

    /// Takes the lock of one blob, unless another process has it.
    pub(super) fn try_lock(&self, content: &ContentId) -> Result<Option<File>> {
        let path = self.locks.join(format!("{content}.lock"));
        let open = || {
            fs::create_dir_all(&self.locks)?;
            File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
        };
        let file = open().map_err(|source| unwritable(&path, source))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(unwritable(&path, source)),
        }
    }
}

/// Counts drafts, so that two writers of one file have one each.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// Writes a small file so that it is there in full or not at all.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = folder.join(format!(".{name}.{}.{number}.tmp", std::process::id()));
    fs::write(&draft, content)
        .and_then(|()| fs::rename(&draft, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&draft);
        })
}

fn read_ref(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(64).read_to_string(&mut text).ok()?;
    let commit = text.trim();
    is_commit(commit).then(|| commit.to_ascii_lowercase())
}

/// What is in a folder; nothing when there is no such folder.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
        paths.sort();
        Ok(paths)
    };
    match list() {
        Ok(paths) => Ok(paths),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::unavailable(format!(
            "cannot list {}; check its permissions",
            folder.display()
        ))
        .with_source(source)),
    }
}

/// All files and links in a folder and those below it; links to folders are not followed.
pub(super) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        for path in entries(&folder)? {
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() && depth < DEEPEST => open.push((path, depth + 1)),
                Ok(found) if !found.is_dir() => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The error of a write to the cache.
pub(super) fn unwritable(path: &Path, source: io::Error) -> Error {
    let advice = match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "the disk is full: free some room"
        }
        io::ErrorKind::FileTooLarge => {
            "the file is larger than the system lets it be: raise the limit (ulimit -f), or take another disk"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "name a cache that this user may write, in HF_HOME or with --cache"
        }
        _ => "check the disk",
    };
    Error::unavailable(format!(
        "cannot write {} ({source}); {advice}",
        path.display()
    ))
    .with_source(source)
}
