//! A mirror of the hub on this machine: serves models from memory as the hub does, counts what it sends, and fails as told.

mod answers;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::Method;
use axum::routing::get;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The list of files, where faults are told by path.
pub(crate) const LIST: &str = "";

/// What goes wrong with one answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Another status, with the hub's code for the reason, and seconds in `Retry-After`.
    Status(u16, &'static str, Option<u64>),
    /// The connection breaks after so many bytes.
    Cut(usize),
    /// One byte in the middle is another one.
    WrongBytes,
    /// The content is so much shorter, and says so.
    Shorter(usize),
    /// Parts are not given.
    NoRange,
    /// A pause before each piece.
    Slow(Duration),
}

/// A call that was answered.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The hub itself, or the store that it sends to for large files.
    pub(crate) store: bool,
    pub(crate) method: Method,
    /// Of the file; [`LIST`] for the list.
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) token: Option<String>,
    /// Bytes of content that were given to the connection.
    pub(crate) sent: u64,
}

struct Commit {
    id: String,
    files: BTreeMap<String, Bytes>,
}

#[derive(Default)]
struct Shelf {
    models: BTreeMap<String, Vec<Commit>>,
    /// By SHA-256, with the path of one file that has it.
    stored: BTreeMap<String, (String, Bytes)>,
    once: BTreeMap<String, VecDeque<Fault>>,
    always: BTreeMap<String, Fault>,
    calls: BTreeMap<usize, Call>,
    /// Calls ever.
    count: usize,
    /// Lists without sizes and hashes, as simple mirrors give.
    lean: bool,
    /// What is changed in lists.
    lie: Option<fn(&mut Value)>,
    store: Option<SocketAddr>,
}

type Shared = Arc<Mutex<Shelf>>;

/// The mirror; it ends with its owner.
pub(crate) struct Mirror {
    pub(crate) url: String,
    shelf: Shared,
    runtime: Option<Runtime>,
}

impl Mirror {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let shelf = Shared::default();
        let listen = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (hub, store) = (listen(), listen());
        lock(&shelf).store = Some(store.local_addr().unwrap());
        let url = format!("http://{}", hub.local_addr().unwrap());
        let files = Router::new()
            .route(
                "/api/models/{org}/{name}/revision/{revision}",
                get(answers::list),
            )
            .route(
                "/{org}/{name}/resolve/{revision}/{*path}",
                get(answers::resolve),
            )
            .with_state(Arc::clone(&shelf));
        let large = Router::new()
            .route("/{sha256}", get(answers::stored))
            .with_state(Arc::clone(&shelf));
        runtime.spawn(async move { axum::serve(hub, files).await });
        runtime.spawn(async move { axum::serve(store, large).await });
        Self {
            url,
            shelf,
            runtime: Some(runtime),
        }
    }

    /// Makes the files of `folder` the newest commit of a model; its id.
    pub(crate) fn publish(&self, model: &str, folder: &Path) -> String {
        let mut files = BTreeMap::new();
        read(folder, "", &mut files);
        self.publish_files(model, files)
    }

    pub(crate) fn publish_files(&self, model: &str, files: BTreeMap<String, Bytes>) -> String {
        let mut hasher = Sha1::new();
        for (path, content) in &files {
            hasher.update(path);
            hasher.update(content);
        }
        let id = hex(&hasher.finalize());
        let mut shelf = self.shelf();
        for (path, content) in files.iter().filter(|(path, _)| is_large(path)) {
            let stored = (path.clone(), content.clone());
            shelf.stored.insert(hex(&Sha256::digest(content)), stored);
        }
        let commit = Commit {
            id: id.clone(),
            files,
        };
        shelf
            .models
            .entry(model.to_owned())
            .or_default()
            .push(commit);
        id
    }

    /// The next answer about a file (or the [`LIST`]) fails so, and the ones after that as told in later calls.
    pub(crate) fn once(&self, path: &str, fault: Fault) {
        let mut shelf = self.shelf();
        shelf
            .once
            .entry(path.to_owned())
            .or_default()
            .push_back(fault);
    }

    /// All answers about a file fail so, where none of [`once`](Self::once) is left.
    pub(crate) fn always(&self, path: &str, fault: Fault) {
        self.shelf().always.insert(path.to_owned(), fault);
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        let mut shelf = self.shelf();
        shelf.once.clear();
        shelf.always.clear();
    }

    pub(crate) fn lean(&self) {
        self.shelf().lean = true;
    }

    pub(crate) fn lie(&self, lie: fn(&mut Value)) {
        self.shelf().lie = Some(lie);
    }

    /// The calls since the last look.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.shelf().calls)
            .into_values()
            .collect()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.shelf)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock(shelf: &Shared) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap()
}

/// Files that git keeps pointers of.
fn is_large(path: &str) -> bool {
    path.ends_with(".safetensors")
}

fn read(folder: &Path, within: &str, files: &mut BTreeMap<String, Bytes>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{within}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            read(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(path).unwrap().into());
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What git calls a content.
fn git_id(content: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(content);
    hex(&hasher.finalize())
}

/// Bytes that were sent of a file.
pub(crate) fn sent(calls: &[Call], path: &str) -> u64 {
    let of_file = calls.iter().filter(|call| call.path == path);
    of_file.map(|call| call.sent).sum()
}
