//! A connection that sends one request at a time and waits for its answer.
//!
//! The load generator shares two cores with what it measures, so this does no more than it must: one write, one parse,
//! no task per connection, no bodies in chunks. What miners use is `HttpCoordinator`.

use std::io::Write as _;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Failure, Result};

/// The longest answer taken, in bytes.
const MAX_ANSWER: usize = 4 << 20;
const MAX_HEADERS: usize = 32;

/// An open connection, kept alive between requests.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    sent: Vec<u8>,
    received: Vec<u8>,
}

/// An answer whose body lies in the connection's buffer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) location: Option<&'a str>,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            sent: Vec::with_capacity(4096),
            received: Vec::new(),
        })
    }

    /// Sends a request with more header lines (each ended by CRLF) and a body; gives the answer.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<Answer<'_>> {
        self.send(method, path, headers, body).await?;
        self.received.clear();
        let head = self.read_head().await?;
        self.read_to(head.length + head.body).await?;
        let location = match head.location {
            Some((start, end)) => Some(std::str::from_utf8(&self.received[start..end])?),
            None => None,
        };
        Ok(Answer {
            status: head.status,
            location,
            body: &self.received[head.length..],
        })
    }

    /// Sends a request and waits for nothing.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Result<()> {
        self.sent.clear();
        let length = body.len();
        write!(
            self.sent,
            "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {length}\r\n{headers}\r\n"
        )?;
        self.sent.extend_from_slice(body);
        self.stream.write_all(&self.sent).await?;
        Ok(())
    }

    async fn read_head(&mut self) -> Result<Head> {
        loop {
            self.read_some().await?;
            if let Some(head) = Head::parse(&self.received)? {
                return Ok(head);
            }
        }
    }

    async fn read_to(&mut self, length: usize) -> Result<()> {
        if length > MAX_ANSWER {
            return Err(Failure::from("an answer is too long"));
        }
        while self.received.len() < length {
            self.read_some().await?;
        }
        if self.received.len() > length {
            return Err(Failure::from("more came than one answer"));
        }
        Ok(())
    }

    async fn read_some(&mut self) -> Result<()> {
        self.received.reserve(2048);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(Failure::from("the coordinator closed a connection")),
            _ => Ok(()),
        }
    }
}

/// What of an answer's head is used.
#[derive(Debug)]
struct Head {
    status: u16,
    /// Of the head itself.
    length: usize,
    /// Of the body.
    body: usize,
    /// Where in the head the `Location` is.
    location: Option<(usize, usize)>,
}

impl Head {
    /// `None` until all of it is there.
    fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(length) = response.parse(bytes)? else {
            return Ok(None);
        };
        let header = |name: &str| {
            let is_it = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
            response
                .headers
                .iter()
                .find(is_it)
                .map(|header| header.value)
        };
        if header("transfer-encoding").is_some() {
            return Err(Failure::from("an answer came in chunks"));
        }
        let body = match header("content-length") {
            Some(text) => std::str::from_utf8(text)?.parse()?,
            None => 0,
        };
        let start = |value: &[u8]| value.as_ptr() as usize - bytes.as_ptr() as usize;
        Ok(Some(Self {
            status: response.code.unwrap_or(0),
            length,
            body,
            location: header("location").map(|value| (start(value), start(value) + value.len())),
        }))
    }
}
