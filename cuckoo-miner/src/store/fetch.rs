//! One content from the hub to the disk: resumed where it stopped, repeated where the hub falters, and named by its hash
//! only once it has that hash.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cuckoo_core::{Error, Result};
use reqwest::{Response, StatusCode, header};
use tokio::sync::mpsc;

use super::content::ContentId;
use super::hub::Hub;
use super::name::HubModel;
use super::partial::Partial;
use super::patience::Patience;
use super::pull::{PullEvent, PullOptions, Watch};
use super::repo::{Repo, unwritable};
use super::trouble::{Trouble, lost};

/// How often to look whether another process is done with a content.
const LOCK_PAUSE: Duration = Duration::from_millis(200);
/// Pieces that wait for the disk.
const QUEUE: usize = 32;
/// How often a content may come with another hash than it is named by.
const MOST_WRONG: u32 = 2;

/// A content that is wanted, and one of the files that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) path: String,
    pub(super) content: ContentId,
    pub(super) size: u64,
}

/// What all fetches of a pull have in common.
pub(super) struct Fetcher<'a> {
    pub(super) hub: &'a Hub,
    pub(super) repo: &'a Repo,
    /// At its commit.
    pub(super) model: &'a HubModel,
    pub(super) options: &'a PullOptions,
    pub(super) watch: Watch<'a>,
}

impl Fetcher<'_> {
    /// Sees to it that the content is among the blobs; how many bytes came over the network.
    pub(super) async fn fetch(&self, wanted: &Wanted) -> Result<u64> {
        let lock = Arc::new(self.lock(wanted).await?);
        // Whoever had the lock may have fetched it.
        if self.repo.has(&wanted.content, wanted.size) {
            self.done(wanted, wanted.size);
            return Ok(0);
        }
        let path = self.repo.incomplete(&wanted.content);
        let mut partial = Partial::open(path, wanted.clone(), lock).await?;
        let mut patience = Patience::new(self.hub, self.options);
        let (mut furthest, mut wrong) = (partial.length, 0);
        loop {
            if partial.length == wanted.size {
                let found = partial.content();
                if found == wanted.content {
                    let fetched = partial.written;
                    partial.keep(self.repo.blob(&wanted.content)).await?;
                    self.done(wanted, wanted.size);
                    return Ok(fetched);
                }
                partial.restart()?;
                let error = self.hub.odd(
                    self.model,
                    &format!(
                        "`{}` came with the hash {found} instead of {}; somebody on the way changes it, or the hub is broken",
                        wanted.path, wanted.content
                    ),
                );
                self.wrong(&mut wrong, error, wanted)?;
            }
            self.at(wanted, partial.length);
            let (left, outcome) = self.transfer(wanted, partial).await;
            partial = left?;
            match outcome {
                Ok(()) => {}
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Wrong(error)) => {
                    partial.restart()?;
                    self.wrong(&mut wrong, error, wanted)?;
                }
                Err(Trouble::Passing(error, wait)) => {
                    if partial.length > furthest {
                        furthest = partial.length;
                        patience.renew();
                    }
                    patience
                        .after(error, wait, &wanted.path, self.watch)
                        .await?;
                }
            }
        }
    }

    /// The lock that keeps others from fetching the same.
    async fn lock(&self, wanted: &Wanted) -> Result<File> {
        let mut said = false;
        loop {
            if let Some(lock) = self.repo.try_lock(&wanted.content)? {
                return Ok(lock);
            }
            if !said {
                (self.watch)(PullEvent::Shared { path: &wanted.path });
                said = true;
            }
            self.hub.clock.sleep(LOCK_PAUSE).await;
        }
    }

    /// Asks for what is missing and writes it down; what is there afterwards, and how it ended.
    async fn transfer(
        &self,
        wanted: &Wanted,
        mut partial: Partial,
    ) -> (Result<Partial>, Result<(), Trouble>) {
        let opened = self
            .hub
            .open(self.model, &wanted.path, partial.length)
            .await;
        let response = match opened.and_then(|response| self.begin(wanted, &mut partial, response))
        {
            Ok(response) => response,
            Err(trouble) => return (Ok(partial), Err(trouble)),
        };
        let start = partial.length;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = tokio::task::spawn_blocking(move || partial.write(receiver));
        let received = self.receive(wanted, response, start, sender).await;
        match writer.await {
            Ok((partial, Ok(()))) => (Ok(partial), received),
            Ok((partial, Err(source))) => {
                let error = self.unwritten(wanted, &partial, source);
                (Ok(partial), Err(Trouble::Lasting(error)))
            }
            Err(join) => {
                let error = Error::internal("the thread that writes a download stopped");
                (Err(error.with_source(join)), Ok(()))
            }
        }
    }

    /// Looks at the head of an answer: does it go on where the partial file ends?
    fn begin(
        &self,
        wanted: &Wanted,
        partial: &mut Partial,
        response: Response,
    ) -> Result<Response, Trouble> {
        let odd = |problem: String| Trouble::Wrong(self.hub.odd(self.model, &problem));
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE);
                let range = range.and_then(|range| range.to_str().ok()).unwrap_or("");
                let expected = format!(
                    "bytes {}-{}/{}",
                    partial.length,
                    wanted.size.saturating_sub(1),
                    wanted.size
                );
                if range != expected {
                    return Err(odd(format!(
                        "`{}` was to come as `{expected}` and comes as `{}`",
                        wanted.path,
                        range.escape_debug()
                    )));
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(odd(format!("`{}` ends before it should", wanted.path)));
            }
            _ => {
                // The whole of it, since that server gives no parts.
                partial.restart().map_err(Trouble::Lasting)?;
                let announced = response.content_length().unwrap_or(wanted.size);
                if announced != wanted.size {
                    return Err(odd(format!(
                        "`{}` has {announced} bytes where {} were listed",
                        wanted.path, wanted.size
                    )));
                }
            }
        }
        self.at(wanted, partial.length);
        Ok(response)
    }

    /// Hands what comes to the writer.
    async fn receive(
        &self,
        wanted: &Wanted,
        mut response: Response,
        start: u64,
        writer: mpsc::Sender<Bytes>,
    ) -> Result<(), Trouble> {
        let mut length = start;
        let url = response.url().clone();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    length += chunk.len() as u64;
                    if length > wanted.size {
                        let problem = format!("`{}` is longer than listed", wanted.path);
                        return Err(Trouble::Wrong(self.hub.odd(self.model, &problem)));
                    }
                    if writer.send(chunk).await.is_err() {
                        // The writer says why.
                        return Ok(());
                    }
                    self.at(wanted, length);
                }
                Ok(None) if length < wanted.size => {
                    let error = Error::unavailable(format!(
                        "`{}` broke off after {length} of {} bytes",
                        wanted.path, wanted.size
                    ));
                    return Err(Trouble::Passing(error, None));
                }
                Ok(None) => return Ok(()),
                Err(source) => return Err(lost(&url, source)),
            }
        }
    }

    fn unwritten(&self, wanted: &Wanted, partial: &Partial, source: io::Error) -> Error {
        let error = unwritable(&partial.path, source);
        Error::new(
            error.kind(),
            format!(
                "{}; `{}` needs {} more bytes there, and goes on where it stopped",
                error.message(),
                wanted.path,
                wanted.size.saturating_sub(partial.length)
            ),
        )
    }

    fn wrong(&self, wrong: &mut u32, error: Error, wanted: &Wanted) -> Result<()> {
        *wrong += 1;
        if *wrong >= MOST_WRONG {
            return Err(error);
        }
        (self.watch)(PullEvent::Repeated {
            path: &wanted.path,
            error: &error,
            pause: Duration::ZERO,
        });
        Ok(())
    }

    fn at(&self, wanted: &Wanted, length: u64) {
        (self.watch)(PullEvent::At {
            path: &wanted.path,
            bytes: length,
            size: wanted.size,
        });
    }

    fn done(&self, wanted: &Wanted, length: u64) {
        self.at(wanted, length);
        (self.watch)(PullEvent::Done { path: &wanted.path });
    }
}
