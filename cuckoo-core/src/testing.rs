//! A real chain node for tests, demos and examples: anvil, as `make setup` installs it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alloy::network::Ethereum;
use alloy::primitives::{Address, U64, U256};
use alloy::providers::{Provider as _, RootProvider};
use tokio::sync::oneshot;

use crate::amount::Wei;
use crate::{Clock, Error, Result};

/// How long anvil may take to listen.
const START: Duration = Duration::from_secs(30);
/// The longest line of anvil's that is read.
const LINE: u64 = 4_096;

/// An anvil process with a chain of its own, on a free port of the loopback interface. It ends when this value is dropped.
pub struct Anvil {
    process: Child,
    url: String,
    provider: RootProvider<Ethereum>,
}

impl Anvil {
    /// The chain id of every anvil.
    pub const CHAIN_ID: u64 = 31_337;

    /// A chain that makes one block for each transaction, at once, and none without.
    ///
    /// # Errors
    /// `NotFound` when anvil is not installed, `Unavailable` when it does not start.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// A chain that also makes a block every second, so that time and epochs pass by themselves.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_ticking() -> Result<Self> {
        Self::start_with(&["--block-time", "1", "--mixed-mining"]).await
    }

    /// As [`start`](Self::start), a chain of this id.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_as(chain_id: u64) -> Result<Self> {
        Self::start_with(&["--chain-id", &chain_id.to_string()]).await
    }

    /// A chain that anvil was told more about, by arguments of its command line.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with(arguments: &[&str]) -> Result<Self> {
        let mut process = Command::new(binary()?)
            // No accounts of its own: `fund` gives money to any.
            .args(["--host", "127.0.0.1", "--port", "0", "--accounts", "1"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|source| {
                Error::unavailable("anvil does not start; run `make setup`").with_source(source)
            })?;
        let (sender, address) = oneshot::channel();
        if let Some(stdout) = process.stdout.take() {
            // Ends with the process.
            std::thread::spawn(move || listen(BufReader::new(stdout), sender));
        }
        let Ok(Ok(address)) = tokio::time::timeout(START, address).await else {
            end(&mut process);
            return Err(Error::unavailable(
                "anvil started and does not listen; try `npx anvil` to see why",
            ));
        };
        let url = format!("http://{address}");
        let provider = crate::chain::provider(&url).inspect_err(|_| end(&mut process))?;
        Ok(Self {
            process,
            url,
            provider,
        })
    }

    /// Its JSON-RPC address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Everything else that anvil can be asked.
    pub fn provider(&self) -> &RootProvider<Ethereum> {
        &self.provider
    }

    /// Adds `amount` wei to an account.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn fund(&self, account: Address, amount: Wei) -> Result<()> {
        let balance: U256 = self.request("eth_getBalance", (account, "latest")).await?;
        self.request(
            "anvil_setBalance",
            (account, balance.saturating_add(amount)),
        )
        .await
    }

    /// How many transactions an account has sent.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn nonce(&self, account: Address) -> Result<u64> {
        let nonce: U64 = self
            .request("eth_getTransactionCount", (account, "latest"))
            .await?;
        Ok(nonce.saturating_to())
    }

    /// Moves the chain's time forward and adds an empty block.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn advance(&self, duration: Duration) -> Result<()> {
        let _: i64 = self
            .request("evm_increaseTime", (duration.as_secs(),))
            .await?;
        let _: String = self.request("evm_mine", ()).await?;
        Ok(())
    }

    /// Makes `amount` wei all that an account has.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn set_balance(&self, account: Address, amount: Wei) -> Result<()> {
        self.request("anvil_setBalance", (account, amount)).await
    }

    /// Transactions of an account in blocks.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn transaction_count(&self, account: Address) -> Result<u64> {
        let count: U64 = self
            .request("eth_getTransactionCount", (account, "latest"))
            .await?;
        Ok(count.saturating_to())
    }

    /// Makes a block of what waits.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn mine(&self) -> Result<()> {
        let _: String = self.request("evm_mine", ()).await?;
        Ok(())
    }

    /// Makes a unit of gas cost this much in the next block, in wei, before any tip.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn set_base_fee(&self, wei: u64) -> Result<()> {
        self.request("anvil_setNextBlockBaseFeePerGas", (U256::from(wei),))
            .await
    }

    /// Replaces the last `depth` blocks by empty ones.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn reorganise(&self, depth: u64) -> Result<()> {
        let none: [u8; 0] = [];
        self.request("anvil_reorg", (depth, none)).await
    }

    /// Forgets the transactions that wait for a block.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn drop_pending(&self) -> Result<()> {
        self.request("anvil_dropAllTransactions", ()).await
    }

    /// From now on transactions wait and no block is made.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn hold_blocks(&self) -> Result<()> {
        self.request("evm_setAutomine", (false,)).await
    }

    /// Returns once a transaction waits for a block.
    ///
    /// # Errors
    /// `Unavailable` when the process has ended.
    pub async fn wait_for_pending(&self, clock: &dyn Clock) -> Result<()> {
        loop {
            let pool: BTreeMap<String, U64> = self.request("txpool_status", ()).await?;
            if pool.get("pending").is_some_and(|count| !count.is_zero()) {
                return Ok(());
            }
            clock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the process, as a crash would.
    pub fn kill(&mut self) {
        end(&mut self.process);
    }

    async fn request<P, R>(&self, method: &'static str, parameters: P) -> Result<R>
    where
        P: alloy::rpc::json_rpc::RpcSend,
        R: alloy::rpc::json_rpc::RpcRecv,
    {
        self.provider
            .raw_request(method.into(), parameters)
            .await
            .map_err(|source| {
                Error::unavailable(format!("anvil refused {method}")).with_source(source)
            })
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

impl fmt::Debug for Anvil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anvil")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

fn end(process: &mut Child) {
    // Either may fail only because it has ended already.
    let _ = process.kill();
    let _ = process.wait();
}

/// Tells where anvil listens, then goes on reading, so that it never waits for a full pipe.
fn listen(mut output: impl std::io::BufRead, sender: oneshot::Sender<String>) {
    let mut sender = Some(sender);
    let mut line = String::new();
    while let Ok(1..) = output.by_ref().take(LINE).read_line(&mut line) {
        if let Some(address) = line.trim().strip_prefix("Listening on ")
            && let Some(sender) = sender.take()
        {
            // The receiver is gone only when nobody waits any more.
            let _ = sender.send(address.to_owned());
        }
        line.clear();
    }
}

/// Anvil's own program: `CUCKOO_ANVIL`, or what npm installed for this platform in this folder or one above. (The wrapper
/// that npm puts beside it would leave anvil behind when killed.)
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CUCKOO_ANVIL") {
        return Ok(path.into());
    }
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    };
    let processor = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let program = format!("anvil{}", std::env::consts::EXE_SUFFIX);
    let inner: PathBuf = [
        "node_modules",
        "@foundry-rs",
        &format!("anvil-{system}-{processor}"),
        "bin",
        &program,
    ]
    .iter()
    .collect();
    let here = std::env::current_dir().unwrap_or_default();
    here.ancestors()
        .map(|folder: &Path| folder.join(&inner))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::not_found(
                "anvil is not installed: run `make setup`, or set CUCKOO_ANVIL to its program",
            )
        })
}
