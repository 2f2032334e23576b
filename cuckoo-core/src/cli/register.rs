//! Registration of a node, in the owner's name and with the operator's consent.

use std::path::PathBuf;

use clap::Args;

use super::secret::password;
use super::{Asking, Cost, Program, Wallet};
use crate::amount::{Wei, parse_cai};
use crate::{Action, Enrolment, Error, NodeKind, Profile, Result, load_key};

/// A node to be registered.
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// The node's settings: [chain] and [operator] are used.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The owner's key file.
    #[arg(long, value_name = "FILE")]
    owner: PathBuf,
    /// A file that holds the owner's password; CUCKOO_PASSWORD when absent.
    #[arg(long, value_name = "FILE")]
    owner_password_file: Option<PathBuf>,
    /// The node's public name.
    #[arg(long)]
    name: String,
    /// What it offers, in a sentence.
    #[arg(long, default_value = "")]
    description: String,
    /// The owner's own vote; the least that makes the node active when absent (on the public network 20,000 CAI for a
    /// miner, 2,000,000 CAI for a coordinator).
    #[arg(long, value_name = "CAI", value_parser = parse_cai)]
    stake: Option<Wei>,
    /// The owner's share of rewards before stakers get theirs, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    commission: f64,
    #[command(flatten)]
    asking: Asking,
}

impl RegisterArgs {
    /// Shows what is missing and what it costs, asks, and sends the transactions. `endpoint` (empty for miners) and
    /// `escrow` (in wei, zero for miners) are a coordinator's.
    ///
    /// # Errors
    /// As [`Enrolment::plan`] and what follows from it.
    pub async fn run(
        self,
        program: &Program,
        kind: NodeKind,
        endpoint: String,
        escrow: Wei,
    ) -> Result<()> {
        if !(0.0..=100.0).contains(&self.commission) {
            return Err(Error::invalid("--commission is a percentage from 0 to 100"));
        }
        let settings = program.node_settings(&self.config)?;
        let key = load_key(&self.owner, &password(self.owner_password_file.as_deref())?)?;
        let operator = settings.operator.ok_or_else(|| {
            Error::invalid(format!(
                "{} has no [operator]; name its keystore there",
                self.config.display()
            ))
        })?;
        let operator = operator.load_key()?;
        let wallet = Wallet {
            chain: settings.chain.connect().await?,
            key,
            asking: self.asking,
        };
        let enrolment = Enrolment {
            kind,
            profile: Profile {
                name: self.name,
                description: self.description,
                endpoint,
            },
            // In range by the check above.
            commission_bps: (self.commission * 100.0).round() as u16,
            vote: self.stake,
            escrow,
        };
        let chain = wallet.chain.as_ref();
        let plan = enrolment
            .plan(chain, wallet.account(), operator.address())
            .await?;
        println!("{plan}");
        if plan.is_done() {
            return Ok(());
        }
        // Later steps cannot be estimated before the earlier ones are done, but the price of gas is known.
        let transfer = Action::Transfer {
            to: wallet.account(),
            amount: Wei::ZERO,
        };
        let price = wallet.cost(&transfer).await?;
        let cost = Cost {
            amount: plan.stake.saturating_add(plan.escrow),
            gas: plan.gas(),
            fee: price.fee / Wei::from(price.gas.max(1)) * Wei::from(plan.gas()),
        };
        wallet.show(cost, true).await?;
        if !wallet.asking.agreed()? {
            return Ok(());
        }
        let node = plan.execute(chain, &wallet.key, &operator).await?;
        println!("registered as {node}; its votes count from the next epoch");
        Ok(())
    }
}
