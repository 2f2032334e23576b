//! The thread that a model computes on, and the line of work to it.

use std::sync::mpsc;
use std::{io, thread};

use cuckoo_core::{Error, Result, Retry};
use tokio::sync::oneshot;

use crate::{Execution, heap};

/// Tasks that may wait for the thread before others are turned away.
pub(crate) const WAITING: usize = 256;

/// The way to the thread; when the last one is dropped, the thread ends what it has begun and then itself.
#[derive(Debug)]
pub(crate) struct Line<J> {
    jobs: mpsc::SyncSender<J>,
}

impl<J: Send + 'static> Line<J> {
    /// Starts a thread that does `work` on what comes along.
    pub(crate) fn start(
        name: &str,
        work: impl FnOnce(mpsc::Receiver<J>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, arriving) = mpsc::sync_channel(WAITING);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                work(arriving);
                // The model went with it.
                heap::give_back();
            })?;
        Ok(Self { jobs })
    }

    /// Hands over the job that `make` puts together with the way back for its result; dropping the future gives it up.
    pub(crate) async fn run(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<Execution>>) -> J,
    ) -> Result<Execution> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .try_send(make(reply))
            .map_err(|refused| match refused {
                mpsc::TrySendError::Full(_) => Error::rejected(format!(
                    "{WAITING} tasks wait already; assign this one to another miner"
                ))
                .with_retry(Retry::Later),
                mpsc::TrySendError::Disconnected(_) => stopped(),
            })?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::execution("the model's thread has stopped; this is a defect, restart the miner")
}
