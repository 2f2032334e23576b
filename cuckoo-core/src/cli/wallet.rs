//! A key at a market: says what an action does and costs, asks, sends it, and says what became of it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::chain_config::rpc_at;
use super::{Asking, ChainConfig, Keystore, Program};
use crate::amount::{Wei, format_cai};
use crate::{Action, Address, Done, Error, Key, Result, StakingContract};

/// Which market.
#[derive(Debug, Clone, Args)]
pub struct MarketArgs {
    /// A settings file; its [chain] is used.
    #[arg(long, value_name = "FILE", required_unless_present = "rpc", conflicts_with_all = ["rpc", "deployment"])]
    config: Option<PathBuf>,
    /// In place of --config: JSON-RPC of a node of the chain.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    rpc: Vec<String>,
    /// In place of --config: the file that `cuckoo-coordinator chain deploy` wrote.
    #[arg(long, value_name = "FILE", default_value = "deployment.toml")]
    deployment: PathBuf,
}

impl MarketArgs {
    /// The market's contracts, once the node answers.
    ///
    /// # Errors
    /// As [`Program::load`] and [`ChainConfig::connect`].
    pub async fn connect(&self, program: &Program) -> Result<Arc<dyn StakingContract>> {
        let chain = match &self.config {
            Some(path) => program.node_settings(path)?.chain,
            None => ChainConfig::new(rpc_at(self.rpc.clone())?, self.deployment.clone()),
        };
        chain.connect().await
    }
}

/// Who sends, where, and whether to ask.
#[derive(Debug, Clone, Args)]
pub struct Sender {
    #[command(flatten)]
    market: MarketArgs,
    #[command(flatten)]
    keystore: Keystore,
    #[command(flatten)]
    asking: Asking,
}

impl Sender {
    /// The settings file, when the market was named by one.
    pub fn config(&self) -> Option<&Path> {
        self.market.config.as_deref()
    }

    /// Decrypts the key and connects.
    ///
    /// # Errors
    /// As [`Keystore::load`] and [`MarketArgs::connect`].
    pub async fn open(&self, program: &Program) -> Result<Wallet> {
        // The key first: what the person can put right at once comes before what has to be waited for.
        let key = self.keystore.load()?;
        let chain = self.market.connect(program).await?;
        Ok(Wallet {
            chain,
            key,
            asking: self.asking,
        })
    }
}

/// A key at a market.
#[derive(Debug)]
pub struct Wallet {
    /// The market's contracts.
    pub chain: Arc<dyn StakingContract>,
    /// Who sends.
    pub key: Key,
    /// Whether to ask.
    pub asking: Asking,
}

/// What actions cost together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// CAI that goes with them, in wei.
    pub amount: Wei,
    /// Gas they need.
    pub gas: u64,
    /// The most that the gas can cost, in wei.
    pub fee: Wei,
}

impl Cost {
    /// Adds what another costs.
    pub fn add(&mut self, other: Self) {
        self.amount = self.amount.saturating_add(other.amount);
        self.gas = self.gas.saturating_add(other.gas);
        self.fee = self.fee.saturating_add(other.fee);
    }
}

impl Wallet {
    /// Who sends.
    pub fn account(&self) -> Address {
        self.key.address()
    }

    /// What an action costs now. One that would be refused is refused here, with the reason.
    ///
    /// # Errors
    /// As [`StakingContract::quote`].
    pub async fn cost(&self, action: &Action) -> Result<Cost> {
        let quote = self.chain.quote(self.account(), action).await?;
        Ok(Cost {
            amount: action.amount(),
            gas: quote.gas,
            fee: quote.fee,
        })
    }

    /// Says what is paid by whom; `about` marks a guess.
    ///
    /// # Errors
    /// `Rejected` when the account does not hold that much.
    pub async fn show(&self, cost: Cost, about: bool) -> Result<()> {
        let account = self.account();
        let balance = self.chain.balance(account).await?;
        println!(
            "account {account} holds {} CAI; leaves it: {} CAI, and up to {} CAI of fees ({}{} gas)",
            format_cai(balance),
            format_cai(cost.amount),
            format_cai(cost.fee),
            if about { "about " } else { "" },
            cost.gas
        );
        let needed = cost.amount.saturating_add(cost.fee);
        if balance < needed {
            return Err(Error::rejected(format!(
                "{account} holds {} CAI and needs {} CAI; send it more",
                format_cai(balance),
                format_cai(needed)
            )));
        }
        Ok(())
    }

    /// Sends an action and says what became of it.
    ///
    /// # Errors
    /// As [`StakingContract::submit`].
    pub async fn send(&self, action: Action) -> Result<Done> {
        if std::io::stderr().is_terminal() {
            eprintln!("sending; waiting for a block ...");
        }
        let done = self.chain.submit(&self.key, action).await?;
        let receipt = &done.receipt;
        println!(
            "done: transaction {}, block {}, fee {} CAI ({} gas)",
            receipt.hash,
            receipt.block,
            format_cai(receipt.fee),
            receipt.gas_used
        );
        Ok(done)
    }

    /// Says what an action does and costs, asks, and sends it; `None` for a dry run.
    ///
    /// # Errors
    /// As [`cost`](Self::cost), [`show`](Self::show), [`Asking::agreed`] and [`send`](Self::send).
    pub async fn perform(&self, action: Action) -> Result<Option<Done>> {
        println!("{action}");
        let cost = self.cost(&action).await?;
        self.show(cost, false).await?;
        if !self.asking.agreed()? {
            return Ok(None);
        }
        self.send(action).await.map(Some)
    }
}
