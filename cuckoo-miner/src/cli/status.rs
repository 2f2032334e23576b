//! What a running miner does: asked of it over the loopback interface, shown once or again and again.

mod machine;
mod metrics;
mod serve;
mod view;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use cuckoo_core::{Clock as _, Error, Result, SystemClock, http_client};
use serde::Deserialize;

use crate::MinerStatus;
use crate::cli::config::Config;

pub(crate) use serve::StatusPage;

/// A miner on busy cores takes a while.
const PATIENCE: Duration = Duration::from_secs(10);
/// Far more than 256 runs and as many coordinators take.
const MAX_BYTES: usize = 4 << 20;

/// Where the miner tells what it does.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StatusConfig {
    pub(crate) listen: SocketAddr,
}

impl Default for StatusConfig {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 9461).into(),
        }
    }
}

impl StatusConfig {
    /// Refuses addresses that others could reach.
    pub(crate) fn check(&self) -> Result<()> {
        if self.listen.ip().is_loopback() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "status.listen = {} can be reached by others, and there is no password; set an address such as 127.0.0.1:9461, and \
             let a proxy or a tunnel stand between it and others",
            self.listen
        )))
    }
}

/// Shows what the miner that runs here does and earns. It tells that where [status] in its settings says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  PROGRAM status --config SETTINGS
  PROGRAM status --config SETTINGS --watch
  PROGRAM status --json | jq .coordinators")]
pub(crate) struct Arguments {
    /// The miner's settings, for where it listens; 127.0.0.1:9461 without.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where it listens, whatever the settings say.
    #[arg(long, value_name = "IP:PORT", conflicts_with = "config")]
    address: Option<SocketAddr>,
    /// Shows it again and again, until Ctrl-C; where the output is no terminal, a line each time.
    #[arg(long)]
    watch: bool,
    /// How often to look, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, requires = "watch",
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// Prints JSON; with --watch, a line of it each time.
    #[arg(long)]
    json: bool,
}

pub(crate) async fn status(arguments: Arguments) -> Result<()> {
    let address = match (&arguments.address, &arguments.config) {
        (Some(address), _) => *address,
        (None, Some(path)) => {
            let config = Config::load(path)?;
            let absent = || {
                Error::invalid(format!(
                    "{} has no section [status], so the miner tells nothing; add the line `[status]` and restart it",
                    path.display()
                ))
            };
            config.status.ok_or_else(absent)?.listen
        }
        (None, None) => StatusConfig::default().listen,
    };
    let client = http_client()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .map_err(|source| Error::internal("no HTTP client").with_source(source))?;
    let terminal = io::stdout().is_terminal();
    loop {
        let seen = ask(&client, address).await;
        if !arguments.watch {
            let text = text(&seen?, arguments.json)?;
            return print(text.trim_end());
        }
        match seen {
            Ok(status) if arguments.json => print(&line(&status)?)?,
            Ok(status) if terminal => redraw(&view::page(&status))?,
            Ok(status) => print(&view::line(&status))?,
            // A miner that is restarted comes back.
            Err(error) if terminal && !arguments.json => redraw(&format!("{error}\n"))?,
            Err(error) => eprintln!("{error}"),
        }
        SystemClock
            .sleep(Duration::from_secs(arguments.every))
            .await;
    }
}

async fn ask(client: &reqwest::Client, address: SocketAddr) -> Result<MinerStatus> {
    let url = format!("http://{address}/status");
    let nobody = |source| {
        Error::unavailable(format!(
            "no miner answers at {address}: start one whose settings have a section [status], or name its address with --address"
        ))
        .with_source(source)
    };
    let mut response = client.get(&url).send().await.map_err(nobody)?;
    let code = response.status();
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(nobody)? {
        if body.len() + bytes.len() > MAX_BYTES {
            return Err(Error::invalid(format!(
                "what answers at {address} is no miner"
            )));
        }
        body.extend_from_slice(&bytes);
    }
    if code == reqwest::StatusCode::SERVICE_UNAVAILABLE {
        return Err(Error::unavailable(String::from_utf8_lossy(&body).trim()));
    }
    serde_json::from_slice(&body).map_err(|source| {
        Error::invalid(format!(
            "what answers at {address} (status {code}) is no miner of this version"
        ))
        .with_source(source)
    })
}

fn text(status: &MinerStatus, json: bool) -> Result<String> {
    if !json {
        return Ok(view::page(status));
    }
    serde_json::to_string_pretty(status).map_err(unprintable)
}

fn line(status: &MinerStatus) -> Result<String> {
    serde_json::to_string(status).map_err(unprintable)
}

fn unprintable(source: serde_json::Error) -> Error {
    Error::internal("the status has no JSON form").with_source(source)
}

fn print(text: &str) -> Result<()> {
    write(&format!("{text}\n"))
}

/// Draws over what was there: from the top, without wrapping, and what is left below goes.
fn redraw(page: &str) -> Result<()> {
    let page = page.replace('\n', "\x1b[K\r\n");
    write(&format!("\x1b[?7l\x1b[H{page}\x1b[J\x1b[?7h"))
}

fn write(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| Error::closed("the output was closed").with_source(source))
}
