//! A model from the hub to the cache.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cuckoo_core::{Error, ErrorKind, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::choice::Choice;
use super::content::ContentId;
use super::fetch::{Fetcher, Wanted};
use super::hub::Hub;
use super::listing::{Listing, RemoteFile};
use super::name::{HubModel, is_commit};
use super::partial::begun;
use super::patience::Patience;
use super::repo::{Repo, unwritable, write_whole};
use super::space::free_space;
use super::trouble::Trouble;
use super::{ModelStore, size_text};

/// What is pulled, and how patiently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PullOptions {
    /// Patterns of paths, such as `*Q4_K_M.gguf`: `*` stands for any text, `?` for one character. Where there are none,
    /// what executors read is pulled.
    pub include: Vec<String>,
    /// Files fetched at once (1 to 32).
    pub at_once: usize,
    /// Failures in a row after which a file is given up (1 to 100).
    pub attempts: u32,
    /// The first pause after a failure, in milliseconds; later ones double.
    pub retry_min_millis: u64,
    /// The longest such pause.
    pub retry_max_millis: u64,
    /// The longest pause that the hub may ask for.
    pub longest_wait_millis: u64,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            at_once: 4,
            attempts: 6,
            retry_min_millis: 500,
            retry_max_millis: 30_000,
            longest_wait_millis: 300_000,
        }
    }
}

impl PullOptions {
    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` that names the field and its range.
    pub fn validate(&self) -> Result<()> {
        for (name, value, high) in [
            ("at_once", self.at_once as u64, 32),
            ("attempts", u64::from(self.attempts), 100),
            ("retry_min_millis", self.retry_min_millis, 3_600_000),
            ("retry_max_millis", self.retry_max_millis, 3_600_000),
        ] {
            if !(1..=high).contains(&value) {
                return Err(Error::invalid(format!(
                    "`{name}` is {value}; it must be from 1 to {high}"
                )));
            }
        }
        Ok(())
    }
}

/// What a pull says while it runs. Paths are those of files in the model.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum PullEvent<'a> {
    /// What there is to do is known.
    Planned {
        /// The commit that is pulled.
        commit: &'a str,
        /// Files chosen.
        files: usize,
        /// Bytes of all of them, equal contents counted once.
        bytes: u64,
        /// How many of these are here already.
        here: u64,
    },
    /// A file is here up to this byte. It may fall back when a server gives no parts, or wrong ones.
    At {
        /// Which file.
        path: &'a str,
        /// Bytes that are here.
        bytes: u64,
        /// Bytes it has.
        size: u64,
    },
    /// A call failed, and is repeated after a pause.
    Repeated {
        /// Which file; `list of files` where that is meant.
        path: &'a str,
        /// Why.
        error: &'a Error,
        /// How long until then.
        pause: Duration,
    },
    /// Another process fetches this file; it is waited for.
    Shared {
        /// Which file.
        path: &'a str,
    },
    /// A file is complete, and its hash is right.
    Done {
        /// Which file.
        path: &'a str,
    },
}

/// Who is told of events.
pub(super) type Watch<'a> = &'a (dyn Fn(PullEvent<'_>) + Send + Sync);

/// A model that is in the cache now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The model at its commit.
    pub model: HubModel,
    /// Where its files are.
    pub folder: PathBuf,
    /// Files of it that were chosen.
    pub files: usize,
    /// Bytes of these.
    pub bytes: u64,
    /// Bytes that came over the network.
    pub fetched: u64,
}

impl fmt::Display for Pulled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} files, {}, of which {} came over the network",
            self.model,
            self.files,
            size_text(self.bytes),
            size_text(self.fetched)
        )
    }
}

impl ModelStore {
    /// Pulls a model: those of its files that executors read, unless `options` choose others. What is in the cache is not
    /// fetched again, and what was begun goes on where it stopped. Every content is checked against the hash that the hub
    /// lists for it; a snapshot shows a file only once it is complete.
    ///
    /// Cancelling `stop`, or dropping the future, keeps what has come.
    ///
    /// # Errors
    /// `NotFound` when the hub has no such model or revision; `Unauthorized` when it wants a token, or a better one;
    /// `Unavailable` and `Timeout` when it cannot be reached or the disk has no room; `Unverified` when what it sends is
    /// not what it lists; `Cancelled`; `Invalid` for options out of range.
    pub async fn pull(
        &self,
        hub: &Hub,
        model: &HubModel,
        options: &PullOptions,
        watch: &(dyn Fn(PullEvent<'_>) + Send + Sync),
        stop: &CancellationToken,
    ) -> Result<Pulled> {
        options.validate()?;
        let choice = Choice::new(&options.include).map_err(Error::invalid)?;
        tokio::select! {
            () = stop.cancelled() => Err(Error::cancelled(
                "stopped; what has come is kept: run it again to go on",
            )),
            pulled = self.pull_on(hub, model, &choice, options, watch) => pulled,
        }
    }

    async fn pull_on(
        &self,
        hub: &Hub,
        model: &HubModel,
        choice: &Choice,
        options: &PullOptions,
        watch: Watch<'_>,
    ) -> Result<Pulled> {
        let list = || hub.listing(model);
        let listing = repeated(hub, options, watch, "list of files", list).await?;
        if is_commit(model.revision()) && !model.revision().eq_ignore_ascii_case(&listing.commit) {
            let problem = format!("it lists the files of {}", listing.commit);
            return Err(hub.odd(model, &problem));
        }
        let fixed = model.at(&listing.commit);
        let chosen = choose(&listing, choice)
            .map_err(|problem| Error::new(ErrorKind::Invalid, format!("{model}: {problem}")))?;
        let files: Vec<Wanted> = stream::iter(chosen)
            .map(|file| describe(hub, &fixed, options, watch, file))
            .buffered(options.at_once)
            .try_collect()
            .await?;

        let repo = Repo::new(self.folder(), model.name());
        let absent = self.plan(&repo, &listing.commit, &files, watch)?;
        let fetcher = Fetcher {
            hub,
            repo: &repo,
            model: &fixed,
            options,
            watch,
        };
        let fetched = stream::iter(&absent)
            .map(|wanted| fetcher.fetch(wanted))
            .buffer_unordered(options.at_once)
            .try_fold(0, |sum, bytes| async move { Ok(sum + bytes) })
            .await?;

        // What is not known of all files is asked anew the next time.
        if let Some(tree) = listing.to_tree() {
            let path = repo.tree(&listing.commit);
            write_whole(&path, &tree).map_err(|source| unwritable(&path, source))?;
        }
        link_all(&repo, &listing.commit, &files)?;
        repo.write_ref(model.revision(), &listing.commit)?;
        Ok(Pulled {
            model: fixed,
            folder: repo.snapshot(&listing.commit),
            files: files.len(),
            bytes: files
                .iter()
                .fold(0, |sum, file| file.size.saturating_add(sum)),
            fetched,
        })
    }

    /// What has to be fetched, each content once, and whether there is room for it.
    fn plan(
        &self,
        repo: &Repo,
        commit: &str,
        files: &[Wanted],
        watch: Watch<'_>,
    ) -> Result<Vec<Wanted>> {
        let contents: BTreeMap<ContentId, &Wanted> =
            files.iter().map(|file| (file.content, file)).collect();
        let (mut bytes, mut here, mut absent) = (0_u64, 0_u64, Vec::new());
        for file in contents.into_values() {
            bytes = bytes.saturating_add(file.size);
            if repo.has(&file.content, file.size) {
                here = here.saturating_add(file.size);
            } else {
                let part = begun(&repo.incomplete(&file.content));
                here = here.saturating_add(part.min(file.size));
                absent.push(file.clone());
            }
        }
        let needed = bytes.saturating_sub(here);
        watch(PullEvent::Planned {
            commit,
            files: files.len(),
            bytes,
            here,
        });
        let blobs = repo.blobs();
        if let Some(free) = free_space(&blobs)
            && free < needed
        {
            return Err(Error::unavailable(format!(
                "{} needs {} more at {}, where {} are free: {} are missing; free them, or name a cache on another disk in HF_HOME or with --cache",
                repo.name,
                size_text(needed),
                self.folder().display(),
                size_text(free),
                size_text(needed - free)
            )));
        }
        fs::create_dir_all(&blobs).map_err(|source| unwritable(&blobs, source))?;
        Ok(absent)
    }
}

/// Repeats a call while its failures are of the passing kind.
async fn repeated<T, F: Future<Output = Result<T, Trouble>>>(
    hub: &Hub,
    options: &PullOptions,
    watch: Watch<'_>,
    what: &str,
    call: impl Fn() -> F,
) -> Result<T> {
    let mut patience = Patience::new(hub, options);
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(Trouble::Passing(error, wait)) => patience.after(error, wait, what, watch).await?,
            Err(trouble) => return Err(trouble.into()),
        }
    }
}

fn choose(listing: &Listing, choice: &Choice) -> Result<Vec<RemoteFile>, String> {
    let paths: Vec<&str> = listing
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    let chosen = choice.of(&paths)?;
    let files = listing.files.iter();
    Ok(files
        .filter(|file| chosen.contains(file.path.as_str()))
        .cloned()
        .collect())
}

async fn describe(
    hub: &Hub,
    model: &HubModel,
    options: &PullOptions,
    watch: Watch<'_>,
    file: RemoteFile,
) -> Result<Wanted> {
    let ask = || hub.describe(model, &file.path);
    let (content, size) = match file.content {
        Some(known) => known,
        None => repeated(hub, options, watch, &file.path, ask).await?,
    };
    Ok(Wanted {
        path: file.path,
        content,
        size,
    })
}

/// Shows the files in the commit's snapshot; the one that says what the model is comes last.
fn link_all(repo: &Repo, commit: &str, files: &[Wanted]) -> Result<()> {
    let snapshot = repo.snapshot(commit);
    let is_head = |file: &&Wanted| matches!(&*file.path, "config.json" | "model_index.json");
    let heads = files.iter().filter(is_head);
    for file in files.iter().filter(|file| !is_head(file)).chain(heads) {
        let path = snapshot.join(&file.path);
        let depth = file.path.split('/').count();
        let target: PathBuf = std::iter::repeat_n("..", depth + 1)
            .chain(["blobs", &file.content.to_string()])
            .collect();
        link(&target, &path, file.size).map_err(|source| unwritable(&path, source))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn link(target: &Path, path: &Path, size: u64) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder)?;
    match (fs::read_link(path), fs::symlink_metadata(path)) {
        (Ok(found), _) if found == target => return Ok(()),
        // A copy, where there are no links.
        (Err(_), Ok(found)) if found.is_file() && found.len() == size => return Ok(()),
        (_, Ok(_)) => remove(path)?,
        (_, Err(_)) => {}
    }
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(target, path);
    #[cfg(not(unix))]
    let made = fs::hard_link(folder.join(target), path);
    match made {
        // Another pull was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}
