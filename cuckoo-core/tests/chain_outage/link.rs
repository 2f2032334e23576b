//! Bad servers, and a wire to a good one that can be cut.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// What a server answers to whatever it is sent.
#[derive(Clone, Copy)]
pub(crate) enum Answer {
    /// Nothing, with the connection open.
    Silence,
    /// Nothing, with the connection closed.
    Hangup,
    /// This.
    Text(&'static str),
}

/// An address that is taken and on which nobody listens, until the second value is dropped.
pub(crate) fn nobody() -> (SocketAddr, TcpSocket) {
    let held = TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    (held.local_addr().unwrap(), held)
}

/// A server that answers every connection alike, until the second value is dropped.
pub(crate) async fn server(answer: Answer) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            match answer {
                Answer::Silence => open.push(stream),
                Answer::Hangup => drop(stream),
                Answer::Text(text) => {
                    let _ = stream.write_all(text.as_bytes()).await;
                }
            }
        }
    });
    (address, tasks)
}

/// A wire to a server: cut it, and the server is gone; mend it, and it is back at the same address.
pub(crate) struct Link {
    here: SocketAddr,
    there: String,
    running: Mutex<Option<AbortHandle>>,
}

impl Link {
    /// A wire to the server at `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let link = Self {
            here: listener.local_addr().unwrap(),
            there: url.strip_prefix("http://").unwrap().to_owned(),
            running: Mutex::default(),
        };
        link.run(listener);
        link
    }

    /// Where the server seems to be.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.here)
    }

    /// Cuts every connection and accepts no more.
    pub(crate) async fn cut(&self) {
        let running = self.running.lock().unwrap().take();
        running.unwrap().abort();
        // Aborting takes effect when the task is next polled.
        while TcpStream::connect(self.here).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Makes the server reachable again.
    pub(crate) async fn mend(&self) {
        let listener = TcpListener::bind(self.here).await.unwrap();
        self.run(listener);
    }

    fn run(&self, listener: TcpListener) {
        let there = self.there.clone();
        let task = tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let there = there.clone();
                connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(there).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        *self.running.lock().unwrap() = Some(task.abort_handle());
    }
}
