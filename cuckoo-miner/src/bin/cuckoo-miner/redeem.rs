//! Redemption: the latest voucher of each coordinator, paid from its escrow to the miner's owner.

use std::path::PathBuf;

use clap::Args;
use cuckoo_core::{Error, Result, SignedVoucher, StakingContract, Wei, format_cai, load_key};

use crate::config::Config;
use crate::confirm::confirm;
use crate::secret::password;
use crate::vouchers;

/// Shows what each coordinator owes, asks, and has it paid to the miner's owner.
#[derive(Debug, Args)]
#[command(after_help = "\
Any account may send the transaction and pays its gas; the CAI goes to the owner. A miner may run meanwhile.

Example:
  cuckoo-miner redeem --config miner.toml --payer owner.json")]
pub(crate) struct Arguments {
    /// The miner's settings: [chain] and vouchers are used.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The key file of the account that pays for gas.
    #[arg(long, value_name = "FILE")]
    payer: PathBuf,
    /// A file that holds the payer's password; CUCKOO_PASSWORD when absent.
    #[arg(long, value_name = "FILE")]
    payer_password_file: Option<PathBuf>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn redeem(arguments: Arguments) -> Result<()> {
    let config = Config::load(&arguments.config)?;
    let payer = load_key(
        &arguments.payer,
        &password(arguments.payer_password_file.as_deref())?,
    )?;
    let chain = config.chain.connect().await?;
    let mut due = Vec::new();
    for voucher in vouchers::read(&config.vouchers)? {
        let open = open_amount(&*chain, &voucher).await?;
        if !open.is_zero() {
            println!(
                "coordinator {} owes {}: {} CAI",
                voucher.value.coordinator,
                voucher.value.miner,
                format_cai(open)
            );
            due.push(voucher);
        }
    }
    if due.is_empty() {
        println!(
            "nothing is owed by the vouchers in {}",
            config.vouchers.display()
        );
        return Ok(());
    }
    confirm(arguments.yes)?;
    let mut failed = None;
    for voucher in due {
        let coordinator = voucher.value.coordinator;
        match chain.redeem(&payer, &voucher).await {
            Ok((paid, _)) => println!("{coordinator} paid {} CAI", format_cai(paid)),
            // One coordinator without escrow must not keep the others' pay.
            Err(error) => {
                eprintln!("{coordinator} did not pay: {error}");
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) => Err(Error::new(
            error.kind(),
            "not everything was paid; what is left stays in the file",
        )),
        None => Ok(()),
    }
}

/// What a voucher adds to what was paid already, in wei.
async fn open_amount(chain: &dyn StakingContract, voucher: &SignedVoucher) -> Result<Wei> {
    let value = &voucher.value;
    let redeemed = chain.redeemed(value.coordinator, value.miner).await?;
    Ok(value.cumulative.saturating_sub(redeemed))
}
