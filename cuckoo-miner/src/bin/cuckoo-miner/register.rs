//! Registration of this miner, in the owner's name and with the operator's consent.

use std::path::PathBuf;

use clap::Args;
use cuckoo_core::{Enrolment, Error, NodeKind, Profile, Result, Wei, load_key, parse_cai};

use crate::config::Config;
use crate::confirm::confirm;
use crate::secret::password;

/// Shows what is missing and what it costs, asks, and sends the transactions. Safe to repeat: what was done stays done.
#[derive(Debug, Args)]
#[command(after_help = "\
The owner pays and stays offline afterwards; the operator's key, named in the settings, is the one that signs all day.

Examples:
  cuckoo-miner register --config miner.toml --owner owner.json --name gpu-1
  cuckoo-miner register --config miner.toml --owner owner.json --name gpu-1 --stake 50000 --commission 10 --yes")]
pub(crate) struct Arguments {
    /// The miner's settings: [chain] and [operator] are used.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The owner's key file.
    #[arg(long, value_name = "FILE")]
    owner: PathBuf,
    /// A file that holds the owner's password; CUCKOO_PASSWORD when absent.
    #[arg(long, value_name = "FILE")]
    owner_password_file: Option<PathBuf>,
    /// The miner's public name.
    #[arg(long)]
    name: String,
    /// What it offers, in a sentence.
    #[arg(long, default_value = "")]
    description: String,
    /// The owner's own vote; the least that makes a miner active when absent (20,000 CAI on the public network).
    #[arg(long, value_name = "CAI", value_parser = parse_cai)]
    stake: Option<Wei>,
    /// The owner's share of rewards before stakers get theirs, in percent.
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    commission: f64,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn register(arguments: Arguments) -> Result<()> {
    if !(0.0..=100.0).contains(&arguments.commission) {
        return Err(Error::invalid("--commission is a percentage from 0 to 100"));
    }
    let config = Config::load(&arguments.config)?;
    let owner = load_key(
        &arguments.owner,
        &password(arguments.owner_password_file.as_deref())?,
    )?;
    let operator = config.operator.load_key()?;
    let chain = config.chain.connect().await?;
    let enrolment = Enrolment {
        kind: NodeKind::Miner,
        profile: Profile {
            name: arguments.name,
            description: arguments.description,
            endpoint: String::new(),
        },
        // In range by the check above.
        commission_bps: (arguments.commission * 100.0).round() as u16,
        vote: arguments.stake,
        escrow: Wei::ZERO,
    };
    let plan = enrolment
        .plan(&*chain, owner.address(), operator.address())
        .await?;
    println!("{plan}");
    if plan.is_done() {
        return Ok(());
    }
    confirm(arguments.yes)?;
    let node = plan.execute(&*chain, &owner, &operator).await?;
    println!("registered as {node}; its votes count from the next epoch");
    Ok(())
}
