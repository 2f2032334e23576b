//! Vouchers that no escrow covers: notice to the coordinator, then its bond.

use clap::Subcommand;
use cuckoo_core::cli::time_text;
use cuckoo_core::{Action, Error, Result, format_cai};

use crate::cli::PROGRAM;
use crate::cli::redeem::VoucherArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Gives notice to each coordinator whose escrow does not cover what its voucher owes.
    #[command(after_help = "\
After the notice, `unpaid collect` has it paid from the coordinator's bond. Vouchers that are covered are left to `redeem`.

Example:
  PROGRAM unpaid demand --config SETTINGS --keystore owner.json")]
    Demand(VoucherArgs),
    /// After the notice, has the vouchers paid from the coordinators' bonds, as free stake of the miner's owner.
    #[command(after_help = "\
Example:
  PROGRAM unpaid collect --config SETTINGS --keystore owner.json")]
    Collect(VoucherArgs),
}

pub(crate) async fn execute(command: Command) -> Result<()> {
    let (arguments, demanding) = match command {
        Command::Demand(arguments) => (arguments, true),
        Command::Collect(arguments) => (arguments, false),
    };
    let wallet = arguments.sender.open(&PROGRAM).await?;
    let mut failed = None;
    for (voucher, owed) in arguments.due(&wallet).await? {
        let coordinator = voucher.value.coordinator;
        let escrow = wallet.chain.escrow(coordinator).await?.amount;
        println!(
            "{coordinator} owes {} CAI, its escrow has {} CAI",
            format_cai(owed),
            format_cai(escrow)
        );
        if demanding && owed <= escrow {
            println!("that is covered: `redeem` has it paid");
            continue;
        }
        let action = if demanding {
            Action::DemandUnpaid(voucher)
        } else {
            Action::CollectUnpaid(voucher)
        };
        match wallet.perform(action).await {
            Ok(None) => {}
            Ok(Some(done)) if demanding => println!(
                "{coordinator} has until {} to pay; after that: unpaid collect",
                time_text(done.value.saturating_to())
            ),
            Ok(Some(done)) => println!(
                "{} CAI were paid from its bond, as free stake of the miner's owner",
                format_cai(done.value)
            ),
            // One voucher must not keep the others' pay.
            Err(error) => {
                eprintln!("error: {coordinator}: {error}");
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) => Err(Error::new(
            error.kind(),
            "not for every voucher; see above, the others were done",
        )),
        None => Ok(()),
    }
}
