//! A wire to a chain node that loses, repeats, delays and refuses, at random and the same for every seed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{Clock as _, Entropy, SeededEntropy, SystemClock, http_client};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What happens to one request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Served,
    /// The node never sees it.
    LostOnTheWay,
    /// The node acts upon it, and nobody learns that.
    AnswerLost,
    /// Neither answer nor end of the connection.
    Silence,
    Late(u64),
    /// The node gets it twice.
    Twice,
    Status(&'static str),
}

impl Fate {
    /// About one request in five goes wrong.
    fn draw(entropy: &SeededEntropy) -> Self {
        match entropy.number() % 1_000 {
            0..40 => Self::LostOnTheWay,
            40..80 => Self::AnswerLost,
            80..83 => Self::Silence,
            83..133 => Self::Late(entropy.number() % 50),
            133..163 => Self::Twice,
            163..178 => Self::Status("503 Service Unavailable"),
            178..193 => Self::Status("429 Too Many Requests"),
            _ => Self::Served,
        }
    }
}

/// The wire; cut when dropped.
pub(crate) struct Proxy {
    here: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A bad wire to the node at `url`.
    pub(crate) async fn to(url: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        let entropy = Arc::new(SeededEntropy::from_number(seed));
        let node = Arc::new((http_client().build().unwrap(), url.to_owned()));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&node), Arc::clone(&entropy)));
                while connections.try_join_next().is_some() {}
            }
        });
        Self {
            here,
            _tasks: tasks,
        }
    }

    /// Where the node seems to be.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.here)
    }
}

/// Serves one connection until it ends, by its client or by fate.
async fn serve(
    mut stream: TcpStream,
    node: Arc<(reqwest::Client, String)>,
    entropy: Arc<SeededEntropy>,
) {
    while let Some(body) = request(&mut stream).await {
        let fate = Fate::draw(&entropy);
        let ask = async || {
            let asked = node
                .0
                .post(&node.1)
                .header("content-type", "application/json");
            let answer = asked.body(body.clone()).send().await.ok()?;
            answer.bytes().await.ok()
        };
        let answer = match fate {
            Fate::LostOnTheWay => return,
            Fate::Silence => std::future::pending().await,
            Fate::Status(status) => Ok(status),
            Fate::AnswerLost => {
                ask().await;
                return;
            }
            Fate::Late(millis) => {
                SystemClock.sleep(Duration::from_millis(millis)).await;
                Err(ask().await)
            }
            Fate::Twice => {
                ask().await;
                Err(ask().await)
            }
            Fate::Served => Err(ask().await),
        };
        let (status, body) = match answer {
            Ok(status) => (status, Default::default()),
            Err(Some(body)) => ("200 OK", body),
            Err(None) => return,
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if stream
            .write_all(&[head.as_bytes(), &body].concat())
            .await
            .is_err()
        {
            return;
        }
    }
}

/// The body of the connection's next request.
async fn request(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length:"))?;
            let end = end + 4 + length.trim().parse::<usize>().ok()?;
            if read.len() >= end {
                let start = end - length.trim().parse::<usize>().ok()?;
                return Some(read[start..end].to_vec());
            }
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}
