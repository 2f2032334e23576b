//! Connections whose other end must read what it asked for: one that does not is cut, or it would hold its connection and
//! its answer for ever.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use cuckoo_core::{Clock as _, SystemClock};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Longest that something written may wait to be taken, beside what its length grants.
const PATIENCE: Duration = Duration::from_secs(60);
/// The slowest reader that is served: 16 KiB a second.
const SLOWEST: u64 = 16 * 1024;

/// How long a reader may take for `bytes`.
pub(crate) fn patience(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / SLOWEST)
}

/// A stream whose writes fail when the other end takes too long to read.
pub(super) struct Patient<S> {
    stream: S,
    /// Since a write first had to wait, until everything is written. Costs a pointer while all is well.
    stall: Option<Box<Stall>>,
}

struct Stall {
    since: Instant,
    written: u64,
    timer: BoxFuture<'static, ()>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            stall: None,
        }
    }

    fn wrote(&mut self, bytes: usize) {
        if let Some(stall) = &mut self.stall {
            stall.written += bytes as u64;
        }
    }

    /// Fails once patience is over; else has the task woken when it may be.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let stall = self.stall.get_or_insert_with(|| {
            Box::new(Stall {
                since: Instant::now(),
                written: 0,
                timer: SystemClock.sleep(PATIENCE),
            })
        });
        loop {
            ready!(stall.timer.poll_unpin(context));
            let left = patience(stall.written).saturating_sub(stall.since.elapsed());
            if left.is_zero() {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the other end does not read what it asked for",
                )));
            }
            stall.timer = SystemClock.sleep(left);
        }
    }
}

impl<S> fmt::Debug for Patient<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patient").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(written) => {
                self.wrote(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
            Poll::Pending => self.wait(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, slices) {
            Poll::Ready(written) => {
                self.wrote(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
            Poll::Pending => self.wait(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Asked only when nothing is left to write.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(flushed) => {
                self.stall = None;
                Poll::Ready(flushed)
            }
            Poll::Pending => self.wait(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Ready(closed) => Poll::Ready(closed),
            Poll::Pending => self.wait(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const ANSWER: usize = 4 << 20;

    /// Writes an answer to somebody who reads `bytes` a second, in simulated time.
    async fn answer(bytes: usize) -> (io::Result<()>, Duration) {
        let (mut reader, stream) = tokio::io::duplex(8 * 1024);
        let mut stream = Patient::new(stream);
        let began = Instant::now();
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; bytes];
            while bytes > 0 && reader.read_exact(&mut buffer).await.is_ok() {
                SystemClock.sleep(Duration::from_secs(1)).await;
            }
            std::future::pending::<()>().await;
        });
        let written = async {
            stream.write_all(&vec![7; ANSWER]).await?;
            stream.flush().await
        };
        let written = written.await;
        reading.abort();
        (written, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut() {
        let (written, took) = answer(0).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(took.as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_slowly_is_served_and_who_drips_is_cut() {
        let (written, took) = answer(32 * 1024).await;
        written.unwrap();
        assert!(took > PATIENCE, "{took:?}");
        let (written, took) = answer(512).await;
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // A second for each 16 KiB that were taken: the drip gained it hardly anything.
        assert!((60..70).contains(&took.as_secs()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_left_alone() {
        let (mut reader, stream) = tokio::io::duplex(1_024);
        let mut stream = Patient::new(stream);
        for _ in 0..3 {
            let writing = async {
                stream.write_all(&[7; 2_048]).await?;
                stream.flush().await
            };
            let mut buffer = [0; 2_048];
            let (written, read) = tokio::join!(writing, reader.read_exact(&mut buffer));
            written.unwrap();
            read.unwrap();
            SystemClock.sleep(Duration::from_secs(600)).await;
        }
    }
}
