//! Where large payloads are: a folder, or what `object_store` reaches under a URL.
//!
//! Every object is written once under a name of its own, `<run>/<thousand>/<number>`, before a row names it. A process
//! that ends in between leaves one that nothing names; the next run finds those among the earlier runs' names, where
//! nothing is written any more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cuckoo_core::{Error, Result};
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, parse_url_opts};
use url::Url;

use super::StoreSettings;

/// Objects of one store.
#[derive(Debug, Clone)]
pub(super) struct Objects {
    store: Arc<dyn ObjectStore>,
    root: Name,
    /// The folder they are in, when they are files.
    folder: Option<Arc<Path>>,
    /// Where they are, for messages.
    place: Arc<str>,
    run: u64,
    next: Arc<AtomicU64>,
}

/// The object that says whose the others are.
const MARK: &str = "cuckoo-store";
const THOUSAND: u64 = 1_000;

impl Objects {
    /// Opens the place that settings name, for the store that `mark` stands for, which has been opened `run` times.
    ///
    /// # Errors
    /// `Invalid` for a URL that is none or that this program cannot reach, `Conflict` for a place that belongs to another
    /// store, `Unavailable` when it cannot be reached or written.
    pub(super) async fn open(settings: &StoreSettings, mark: &str, run: u64) -> Result<Self> {
        let mut objects = Self::find(settings)?;
        objects.run = run;
        objects.claim(mark).await?;
        Ok(objects)
    }

    /// The same for reading only: whoever's they are.
    pub(super) fn find(settings: &StoreSettings) -> Result<Self> {
        match folder(settings)? {
            Some(folder) => Self::in_folder(folder),
            None => Self::at_url(settings.outputs_url.as_deref().unwrap_or_default()),
        }
    }

    fn in_folder(folder: PathBuf) -> Result<Self> {
        let unwritable = |source: Box<dyn std::error::Error + Send + Sync>| {
            Error::unavailable(format!(
                "the folder {} for outputs cannot be made or read: look at its permissions and the disk",
                folder.display()
            ))
            .with_source(source)
        };
        std::fs::create_dir_all(&folder).map_err(|source| unwritable(source.into()))?;
        let store = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| unwritable(source.into()))?
            .with_fsync(true)
            .with_automatic_cleanup(true);
        Ok(Self {
            store: Arc::new(store),
            root: Name::default(),
            place: folder.display().to_string().into(),
            folder: Some(folder.into()),
            run: 0,
            next: Arc::default(),
        })
    }

    fn at_url(url: &str) -> Result<Self> {
        let parsed = parse(url)?;
        #[cfg(feature = "cloud")]
        provide_tls();
        // As the stores' own programs do, keys and regions come from the environment.
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?.to_ascii_lowercase();
            Some((name, value.into_string().ok()?))
        });
        let (store, root) = parse_url_opts(&parsed, variables).map_err(|source| {
            Error::invalid(format!(
                "store.outputs_url: `{}` addresses cannot be used: is the address whole, and was this program built \
                 for them (cargo features aws, azure, gcp, http)?",
                parsed.scheme()
            ))
            .with_source(source)
        })?;
        Ok(Self {
            store: store.into(),
            root,
            folder: None,
            // What follows a question mark may be a key.
            place: url.split('?').next().unwrap_or_default().into(),
            run: 0,
            next: Arc::default(),
        })
    }

    /// Makes sure that nobody else's objects are here.
    async fn claim(&self, mark: &str) -> Result<()> {
        let name = self.root.clone().join(MARK);
        let found = match self.store.get(&name).await {
            Ok(found) => found.bytes().await.map_err(|error| self.fault(error))?,
            Err(object_store::Error::NotFound { .. }) => {
                let payload = PutPayload::from(mark.to_owned());
                self.store
                    .put(&name, payload)
                    .await
                    .map_err(|error| self.fault(error))?;
                return Ok(());
            }
            Err(error) => return Err(self.fault(error)),
        };
        if found != mark.as_bytes() {
            return Err(Error::conflict(format!(
                "{} holds the outputs of another store: give each store a place of its own (store.outputs_url), or \
                 remove what is there",
                self.place
            )));
        }
        Ok(())
    }

    /// Keeps a payload; its name once it is durable.
    pub(super) async fn put(&self, payload: Bytes) -> Result<String> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}/{}/{number}", self.run, number / THOUSAND);
        self.store
            .put(&self.locate(&name), PutPayload::from_bytes(payload))
            .await
            .map_err(|error| self.fault(error))?;
        Ok(name)
    }

    /// A payload, while it is kept.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        match self.store.get(&self.locate(name)).await {
            Ok(found) => found
                .bytes()
                .await
                .map(Some)
                .map_err(|error| self.fault(error)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Whether a payload is there.
    pub(super) async fn has(&self, name: &str) -> Result<bool> {
        match self.store.head(&self.locate(name)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// A payload piece by piece, while it is kept.
    pub(super) async fn stream(
        &self,
        name: &str,
    ) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let found = match self.store.get(&self.locate(name)).await {
            Ok(found) => found.into_stream(),
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.fault(error)),
        };
        let objects = self.clone();
        Ok(Some(
            found.map_err(move |error| objects.fault(error)).boxed(),
        ))
    }

    /// Removes objects. One that cannot be removed is left for the next run.
    pub(super) async fn remove(&self, names: Vec<String>) {
        let locations: Vec<_> = names.iter().map(|name| Ok(self.locate(name))).collect();
        let mut removed = self.store.delete_stream(stream::iter(locations).boxed());
        while let Some(removal) = removed.next().await {
            match removal {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(error = %self.fault(error), "an output that is not needed is left");
                }
            }
        }
    }

    /// Names that earlier runs gave.
    pub(super) fn of_earlier_runs(&self) -> BoxStream<'_, Result<String>> {
        self.store
            .list(Some(&self.root))
            .map_err(|error| self.fault(error))
            .try_filter_map(async |found| {
                let parts: Option<Vec<_>> = found
                    .location
                    .prefix_match(&self.root)
                    .map(|parts| parts.map(|part| part.as_ref().to_owned()).collect());
                Ok(parts
                    .filter(|parts| self.is_earlier(parts))
                    .map(|parts| parts.join("/")))
            })
            .boxed()
    }

    fn is_earlier(&self, parts: &[String]) -> bool {
        let numbers: Vec<_> = parts.iter().map(|part| part.parse::<u64>()).collect();
        matches!(numbers[..], [Ok(run), Ok(_), Ok(_)] if run < self.run)
    }

    /// Removes what earlier runs were writing when they ended: a file is whole once it has lost the `#` in its name.
    pub(super) fn remove_torn(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        for run in subfolders(folder)? {
            let name = run.file_name().and_then(|name| name.to_str());
            if !name.is_some_and(|name| name.parse().is_ok_and(|run: u64| run < self.run)) {
                continue;
            }
            for thousand in subfolders(&run)? {
                for entry in std::fs::read_dir(thousand)? {
                    let path = entry?.path();
                    if path.to_str().is_some_and(|path| path.contains('#')) {
                        std::fs::remove_file(path)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn locate(&self, name: &str) -> Name {
        name.split('/').fold(self.root.clone(), Name::join)
    }

    fn fault(&self, error: object_store::Error) -> Error {
        let place = &self.place;
        let full = "is full: free some space; nothing was lost";
        let message = if is_full(&error) {
            format!("the disk that holds {place} {full}")
        } else {
            format!(
                "outputs at {place} cannot be read or written: is it there, and are the keys right?"
            )
        };
        Error::unavailable(message).with_source(error)
    }
}

/// The folder for objects, when they are files.
fn folder(settings: &StoreSettings) -> Result<Option<PathBuf>> {
    let Some(url) = &settings.outputs_url else {
        return Ok(Some(settings.outputs_folder()));
    };
    let url = parse(url)?;
    if url.scheme() != "file" {
        return Ok(None);
    }
    let path = url.to_file_path().map_err(|()| {
        Error::invalid("store.outputs_url: a file address is file:// and an absolute path")
    })?;
    Ok(Some(path))
}

fn parse(url: &str) -> Result<Url> {
    Url::parse(url).map_err(|source| {
        Error::invalid(
            "store.outputs_url is an address such as file:///var/lib/cuckoo/outputs or s3://bucket/folder",
        )
        .with_source(source)
    })
}

fn subfolders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// Whether there was no space left, however deep that is buried.
fn is_full(error: &object_store::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && matches!(
                io.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            )
        {
            return true;
        }
        source = error.source();
    }
    false
}

/// The clients of cloud stores take the process's TLS provider; one that the embedding program chose stays.
#[cfg(feature = "cloud")]
fn provide_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
