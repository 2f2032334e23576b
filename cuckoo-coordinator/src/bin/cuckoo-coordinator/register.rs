//! Registration of this coordinator, in the owner's name and with the operator's consent.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::Args;
use cuckoo_core::{Enrolment, Error, NodeKind, Profile, Result, Wei, load_key, parse_cai};

use crate::config::Config;
use crate::secret::password;

/// Shows what is missing and what it costs, asks, and sends the transactions. Safe to repeat: what was done stays done.
#[derive(Debug, Args)]
#[command(after_help = "\
The owner pays and stays offline afterwards; the operator's key, named in the settings, is the one that signs all day.

Example:
  cuckoo-coordinator register --config coordinator.toml --owner owner.json --name demo --escrow 1000")]
pub(crate) struct Arguments {
    /// The coordinator's settings: [chain] and [operator] are used.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The owner's key file.
    #[arg(long, value_name = "FILE")]
    owner: PathBuf,
    /// A file that holds the owner's password; CUCKOO_PASSWORD when absent.
    #[arg(long, value_name = "FILE")]
    owner_password_file: Option<PathBuf>,
    /// The coordinator's public name.
    #[arg(long)]
    name: String,
    /// What it offers, in a sentence.
    #[arg(long, default_value = "")]
    description: String,
    /// Where miners reach it, such as https://coordinator.example.org.
    #[arg(long, value_name = "URL", default_value = "")]
    endpoint: String,
    /// The owner's own vote; the least that makes a coordinator active when absent (2,000,000 CAI on the public network).
    #[arg(long, value_name = "CAI", value_parser = parse_cai)]
    stake: Option<Wei>,
    /// From which miners are paid.
    #[arg(long, value_name = "CAI", value_parser = parse_cai, default_value = "0")]
    escrow: Wei,
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
        kind: NodeKind::Coordinator,
        profile: Profile {
            name: arguments.name,
            description: arguments.description,
            endpoint: arguments.endpoint,
        },
        // In range by the check above.
        commission_bps: (arguments.commission * 100.0).round() as u16,
        vote: arguments.stake,
        escrow: arguments.escrow,
    };
    let plan = enrolment
        .plan(chain.as_ref(), owner.address(), operator.address())
        .await?;
    println!("{plan}");
    if plan.is_done() {
        return Ok(());
    }
    if !arguments.yes && !confirmed()? {
        return Err(Error::cancelled("nothing was sent"));
    }
    let node = plan.execute(chain.as_ref(), &owner, &operator).await?;
    println!("registered as {node}; its votes count from the next epoch");
    Ok(())
}

fn confirmed() -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::invalid(
            "nobody is there to ask; add --yes to agree in advance",
        ));
    }
    print!("go on? [y/N] ");
    let mut answer = String::new();
    std::io::stdout()
        .flush()
        .and_then(|()| stdin.lock().read_line(&mut answer))
        .map_err(|source| {
            Error::unavailable("cannot ask on this terminal; add --yes").with_source(source)
        })?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
