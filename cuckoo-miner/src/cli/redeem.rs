//! Pay: the latest voucher of each coordinator, from its escrow to the miner's earnings, and from there to its owner.

use std::path::PathBuf;

use clap::Args;
use cuckoo_core::cli::{Cost, Sender, Wallet, parse_node};
use cuckoo_core::{Action, Error, NodeId, NodeKind, Result, SignedVoucher, Wei, format_cai};

use crate::cli::config::Config;
use crate::cli::{PROGRAM, vouchers};

/// What a first payout needs; the estimate of one that follows a redemption would be refused before it.
/// `contracts/snapshots/gas.json`, rounded up.
const COLLECT_GAS: u64 = 95_000;

/// Redeems what coordinators owe and pays it out to the miner's owner and those who vote for it.
#[derive(Debug, Args)]
#[command(after_help = "\
Any account may send the transactions and pays their gas; the CAI goes to the owner, the set part of it to the stakers.
Vouchers that owe less than their gas wait for more, unless --all is given. A miner may run meanwhile.

Examples:
  PROGRAM redeem --config SETTINGS --keystore owner.json --dry-run
  PROGRAM redeem --config SETTINGS --keystore owner.json")]
pub(crate) struct RedeemArgs {
    #[command(flatten)]
    pay: VoucherArgs,
    /// Redeem what is worth less than its gas, too.
    #[arg(long)]
    all: bool,
}

/// Vouchers, and who sends.
#[derive(Debug, Args)]
pub(crate) struct VoucherArgs {
    /// The file of vouchers; the one that --config names when absent.
    #[arg(long, value_name = "FILE", required_unless_present = "config")]
    vouchers: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) sender: Sender,
}

impl VoucherArgs {
    /// What each voucher adds to what was paid already, in wei; those that add nothing are left out.
    pub(crate) async fn due(&self, wallet: &Wallet) -> Result<Vec<(SignedVoucher, Wei)>> {
        let path = self.path()?;
        let mut due = Vec::new();
        for voucher in vouchers::read(&path)? {
            let value = &voucher.value;
            let redeemed = wallet
                .chain
                .redeemed(value.coordinator, value.miner)
                .await?;
            let owed = value.cumulative.saturating_sub(redeemed);
            if !owed.is_zero() {
                due.push((voucher, owed));
            }
        }
        if due.is_empty() {
            println!("nothing is owed by the vouchers in {}", path.display());
        }
        Ok(due)
    }

    fn path(&self) -> Result<PathBuf> {
        match (&self.vouchers, self.sender.config()) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(config)) => Ok(Config::load(config)?.vouchers),
            (None, None) => Err(Error::invalid(
                "which vouchers? Give --vouchers or --config",
            )),
        }
    }
}

pub(crate) async fn redeem(arguments: RedeemArgs) -> Result<()> {
    let wallet = arguments.pay.sender.open(&PROGRAM).await?;
    let mut total = Cost::default();
    let mut worth = Vec::new();
    for (voucher, owed) in arguments.pay.due(&wallet).await? {
        let (coordinator, miner) = (voucher.value.coordinator, voucher.value.miner);
        print!("{coordinator} owes {miner} {} CAI", format_cai(owed));
        let escrow = wallet.chain.escrow(coordinator).await?.amount;
        if escrow.is_zero() {
            println!("; its escrow is empty. See `unpaid demand`");
            continue;
        }
        if escrow < owed {
            print!(", of which its escrow has {} CAI", format_cai(escrow));
        }
        let action = Action::Redeem(voucher);
        let cost = match wallet.cost(&action).await {
            Ok(cost) => cost,
            // One voucher that cannot be redeemed must not keep the others' pay.
            Err(error) => {
                println!("; it cannot be redeemed: {error}");
                continue;
            }
        };
        if owed.min(escrow) > cost.fee || arguments.all {
            println!("; redeeming it costs up to {} CAI", format_cai(cost.fee));
            total.add(cost);
            worth.push((action, miner));
        } else {
            println!(
                "; that is not worth the {} CAI that redeeming may cost, so it waits (--all redeems it)",
                format_cai(cost.fee)
            );
        }
    }
    if worth.is_empty() {
        return Ok(());
    }
    let mut miners: Vec<_> = worth.iter().map(|(_, miner)| *miner).collect();
    miners.sort_unstable();
    miners.dedup();
    println!("then {}", payouts(&miners));
    let price = total.fee / Wei::from(total.gas.max(1));
    let gas = COLLECT_GAS * miners.len() as u64;
    total.add(Cost {
        amount: Wei::ZERO,
        gas,
        fee: price.saturating_mul(Wei::from(gas)),
    });
    wallet.show(total, true).await?;
    if !wallet.asking.agreed()? {
        return Ok(());
    }
    let mut failed = None;
    for (action, miner) in worth {
        match wallet.send(action).await {
            Ok(done) => println!("{} CAI for {miner}", format_cai(done.value)),
            Err(error) => {
                eprintln!("one coordinator did not pay {miner}: {error}");
                failed = Some(error);
            }
        }
    }
    for miner in miners {
        if !earned(&wallet, miner).await?.is_zero() {
            pay_out(&wallet, miner).await?;
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

/// Pays out what miners redeemed and did not collect, to their owners and those who vote for them.
#[derive(Debug, Args)]
#[command(after_help = "\
`redeem` does this too; alone it is of use when somebody else redeemed. Anybody may send it.

Examples, for one miner, and for all of the account:
  PROGRAM collect 3 --config SETTINGS --keystore owner.json
  PROGRAM collect --config SETTINGS --keystore owner.json")]
pub(crate) struct CollectArgs {
    /// The miners' numbers; those that the account owns when absent.
    #[arg(value_name = "NODE", value_parser = parse_node)]
    miners: Vec<NodeId>,
    #[command(flatten)]
    sender: Sender,
}

pub(crate) async fn collect(arguments: CollectArgs) -> Result<()> {
    let wallet = arguments.sender.open(&PROGRAM).await?;
    let miners = if arguments.miners.is_empty() {
        let snapshot = wallet.chain.snapshot().await?;
        let own = |node: &&cuckoo_core::Node| {
            node.owner == wallet.account() && node.kind == NodeKind::Miner
        };
        snapshot
            .nodes
            .iter()
            .filter(own)
            .map(|node| node.id)
            .collect()
    } else {
        arguments.miners
    };
    let mut total = Cost::default();
    let mut earning = Vec::new();
    for miner in miners {
        let earned = earned(&wallet, miner).await?;
        if !earned.is_zero() {
            println!("{miner} earned {} CAI", format_cai(earned));
            total.add(wallet.cost(&Action::Collect { miner }).await?);
            earning.push(miner);
        }
    }
    if earning.is_empty() {
        println!("nothing waits to be paid out; `redeem` turns vouchers into earnings");
        return Ok(());
    }
    println!("{}", payouts(&earning));
    wallet.show(total, false).await?;
    if wallet.asking.agreed()? {
        for miner in earning {
            pay_out(&wallet, miner).await?;
        }
    }
    Ok(())
}

fn payouts(miners: &[NodeId]) -> String {
    let names: Vec<_> = miners.iter().map(ToString::to_string).collect();
    format!("pay out the earnings of {}", names.join(", "))
}

async fn earned(wallet: &Wallet, miner: NodeId) -> Result<Wei> {
    let earnings = wallet.chain.earnings(miner).await?;
    Ok(earnings.to_owner.saturating_add(earnings.to_stakers))
}

async fn pay_out(wallet: &Wallet, miner: NodeId) -> Result<()> {
    let stakers = wallet.chain.earnings(miner).await?.to_stakers;
    let done = wallet.send(Action::Collect { miner }).await?;
    println!(
        "{} CAI paid to the owner of {miner}, {} CAI to its stakers",
        format_cai(done.value),
        format_cai(stakers)
    );
    Ok(())
}
