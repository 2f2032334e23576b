//! Disputes of outputs before the court.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cuckoo_core::cli::{MarketArgs, Sender, Wallet, parse_number, time_text};
use cuckoo_core::{
    Action, DisputeOutcome, DisputePhase, Error, Result, SignedReceipt, StakingContract, U256,
    format_cai,
};

use crate::cli::PROGRAM;

/// A receipt has less than a thousand bytes.
const MAX_RECEIPT_BYTES: u64 = 16 * 1024;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Disputes the output of a receipt, with the court's bond.
    #[command(after_help = "\
The bond is lost when the jury finds the output right. The evidence says where jurors find the task's input.

Example:
  PROGRAM dispute open --receipt receipt.json --evidence https://files.example.org/input.json \\
    --config SETTINGS --keystore owner.json")]
    Open(OpenArgs),
    /// Stands up for the accused, with the same bond; without an answer in time the accused is convicted.
    #[command(after_help = "\
Example:
  PROGRAM dispute answer 4 --config SETTINGS --keystore owner.json")]
    Answer(NumberArgs),
    /// Draws the jury of a dispute that was answered; anybody may.
    #[command(after_help = "\
Example:
  PROGRAM dispute draw 4 --config SETTINGS --keystore owner.json")]
    Draw(NumberArgs),
    /// Ends a dispute that is due: counts, pays and slashes; anybody may.
    #[command(after_help = "\
Example:
  PROGRAM dispute finish 4 --config SETTINGS --keystore owner.json")]
    Finish(NumberArgs),
    /// Pays out what the court owes the account: bonds that came back, fees.
    #[command(after_help = "\
Example:
  PROGRAM dispute withdraw --config SETTINGS --keystore owner.json")]
    Withdraw(WithdrawArgs),
    /// Shows how a dispute stands.
    #[command(after_help = "\
Example:
  PROGRAM dispute show 4 --config SETTINGS")]
    Show(ShowArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    /// The signed receipt, as JSON.
    #[arg(long, value_name = "FILE")]
    receipt: PathBuf,
    /// Where jurors find the task's input, at most 256 bytes.
    #[arg(long, value_name = "URI")]
    evidence: String,
    #[command(flatten)]
    sender: Sender,
}

#[derive(Debug, Args)]
pub(crate) struct NumberArgs {
    /// The dispute's number.
    #[arg(value_parser = parse_number)]
    dispute: U256,
    #[command(flatten)]
    sender: Sender,
}

#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    #[command(flatten)]
    sender: Sender,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The dispute's number.
    #[arg(value_parser = parse_number)]
    dispute: U256,
    #[command(flatten)]
    market: MarketArgs,
}

pub(crate) async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Open(arguments) => open(arguments).await,
        Command::Answer(arguments) => {
            let wallet = arguments.sender.open(&PROGRAM).await?;
            let dispute = arguments.dispute;
            let bond = wallet.chain.court_terms().await?.bond;
            act(&wallet, dispute, Action::AnswerDispute { dispute, bond }).await
        }
        Command::Draw(arguments) => {
            let wallet = arguments.sender.open(&PROGRAM).await?;
            let dispute = arguments.dispute;
            act(&wallet, dispute, Action::DrawJury { dispute }).await
        }
        Command::Finish(arguments) => {
            let wallet = arguments.sender.open(&PROGRAM).await?;
            let dispute = arguments.dispute;
            act(&wallet, dispute, Action::FinishDispute { dispute }).await
        }
        Command::Withdraw(arguments) => {
            let wallet = arguments.sender.open(&PROGRAM).await?;
            if let Some(done) = wallet.perform(Action::WithdrawFromCourt).await? {
                println!("{} CAI were paid out", format_cai(done.value));
            }
            Ok(())
        }
        Command::Show(arguments) => {
            let chain = arguments.market.connect(&PROGRAM).await?;
            show(chain.as_ref(), arguments.dispute).await
        }
    }
}

async fn open(arguments: OpenArgs) -> Result<()> {
    let receipt = read_receipt(&arguments.receipt)?;
    let wallet = arguments.sender.open(&PROGRAM).await?;
    let terms = wallet.chain.court_terms().await?;
    println!(
        "if the jury convicts {}, it loses up to {} CAI and the bond comes back; if it acquits, the bond is lost",
        receipt.value.miner,
        format_cai(terms.penalty)
    );
    let open = Action::OpenDispute {
        receipt: Box::new(receipt),
        evidence: arguments.evidence,
        bond: terms.bond,
    };
    if let Some(done) = wallet.perform(open).await? {
        println!("this is dispute {}", done.value);
        show(wallet.chain.as_ref(), done.value).await?;
    }
    Ok(())
}

fn read_receipt(path: &Path) -> Result<SignedReceipt> {
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(MAX_RECEIPT_BYTES).read_to_string(&mut text))
        .map_err(|source| {
            Error::not_found(format!("cannot read a receipt in {}", path.display()))
                .with_source(source)
        })?;
    serde_json::from_str(&text).map_err(|source| {
        Error::invalid(format!(
            "{} is not a signed receipt; a task's result has one under `receipt`",
            path.display()
        ))
        .with_source(source)
    })
}

async fn act(wallet: &Wallet, dispute: U256, action: Action) -> Result<()> {
    show(wallet.chain.as_ref(), dispute).await?;
    if wallet.perform(action).await?.is_some() {
        show(wallet.chain.as_ref(), dispute).await?;
    }
    Ok(())
}

async fn show(chain: &dyn StakingContract, number: U256) -> Result<()> {
    let dispute = chain.dispute(number).await?;
    println!(
        "dispute {number}: {} is accused by {}; output {} for {}",
        dispute.accused, dispute.challenger, dispute.output_hash, dispute.coordinator
    );
    let until = time_text(dispute.deadline);
    match dispute.phase {
        DisputePhase::Answer => println!("open to an answer until {until}; then: dispute finish"),
        DisputePhase::Draw => println!(
            "the jury can be drawn from block {} until {until}: dispute draw",
            dispute.draw_block
        ),
        DisputePhase::Commit => println!("jurors commit to their votes until {until}"),
        DisputePhase::Reveal => println!("jurors reveal their votes"),
        DisputePhase::Due => println!("it can be ended: dispute finish"),
        DisputePhase::Closed => println!("closed"),
    }
    if let Some(outcome) = dispute.outcome {
        let text = match outcome {
            DisputeOutcome::Acquitted => "most jurors got the same output: acquitted",
            DisputeOutcome::Convicted => {
                "most jurors got another output, or nobody answered: convicted"
            }
            DisputeOutcome::Unproven => "most jurors could not check it: unproven",
            DisputeOutcome::Undecided => "too few jurors, or no majority: undecided",
        };
        println!("{text}");
    }
    for juror in chain.jurors(number).await? {
        let vote = match (juror.vote, juror.committed) {
            (Some(vote), _) => format!("voted {vote}"),
            (None, true) => "committed".to_owned(),
            (None, false) => "silent so far".to_owned(),
        };
        println!("juror {}: {vote}", juror.node);
    }
    Ok(())
}
