//! From nothing to pictures, chats, receipts and pay: one process runs a chain, a coordinator and six miners, one of
//! which cheats, and writes what happened to `target/demo/report.html`.

mod answers;
mod cheater;
mod ledger;
mod market;
mod report;
mod requests;
mod terminal;
mod trial;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use cuckoo_coordinator::{Evidence, TaskHandle};
use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    Clock, DevChain, DisputeOutcome, Entropy, Error, NodeId, Result, SeededEntropy, SystemClock,
    TaskResult, Wei, format_cai, total_variation,
};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::broadcast::error::RecvError;

use crate::answers::Answers;
use crate::ledger::Ledger;
use crate::market::{AUDIT_PROBABILITY, Chain, Market};
use crate::report::{Conviction, Judgement, Report, Statement};
use crate::requests::Request;

/// Runs a whole market of inference in this process and reports what happened.
#[derive(Parser)]
#[command(
    name = "demo",
    after_help = "Example: cargo run --release -p cuckoo-examples --bin demo -- --chain anvil"
)]
struct Arguments {
    /// Where the contracts run.
    #[arg(long, value_enum, default_value = "dev")]
    chain: ChainKind,
    /// How many pictures to ask for; eight questions and three searches come on top.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tasks: u32,
    /// Milliseconds between two submissions: slow enough that miners are free and stake decides.
    #[arg(long, default_value_t = 400)]
    pace: u64,
    /// Steps of the sampler for each picture.
    #[arg(long, default_value_t = 10)]
    steps: u32,
    /// Decides keys, seeds and audit draws.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of the models: shapes, stories and captions.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/models"))]
    models: PathBuf,
    /// Where the report goes.
    #[arg(long, default_value = "target/demo")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum ChainKind {
    /// The contracts executed in this process by revm.
    Dev,
    /// A local anvil node, started for this run and reached over JSON-RPC.
    Anvil,
}

#[tokio::main]
async fn main() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    if let Err(error) = run(Arguments::parse()).await {
        eprintln!("demo: {error}");
        std::process::exit(1);
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let started = SystemClock.now();
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::from_number(arguments.seed));
    let (chain, description) = match arguments.chain {
        ChainKind::Dev => (
            Chain::Dev(DevChain::new(Arc::new(SystemClock))),
            "Contracts executed in this process by revm.",
        ),
        ChainKind::Anvil => (
            Chain::Anvil(Anvil::start().await?),
            "Contracts on a local anvil, over JSON-RPC.",
        ),
    };
    eprintln!("demo: deploying contracts, registering one coordinator and six miners");
    let market = Market::open(&chain, &arguments.models, Arc::clone(&entropy)).await?;
    market.ready().await?;

    let requests = requests::all(arguments.tasks as usize, arguments.steps);
    let (ledger, finished) = serve(&market, &requests, &arguments).await?;
    let lost = finished
        .iter()
        .filter(|(_, result)| result.is_err())
        .count();
    for (handle, result) in &finished {
        if let Err(error) = result {
            eprintln!("demo: task {} was lost: {error}", handle.id());
        }
    }

    let paid = redeem(&market).await?;
    let evidence = market.coordinator.evidence();
    let trial = match evidence.first() {
        Some(case) => Some(trial::hold(&market, case, entropy.as_ref()).await?),
        None => None,
    };
    let rewards = claim(&market).await?;
    let rows = ledger.rows(&paid, &rewards);
    let shares = |share: fn(&ledger::Row) -> f64| rows.iter().map(share).collect::<Vec<_>>();
    let share_error = total_variation(&shares(|row| row.task_share), &shares(|row| row.fair_share));
    println!("{}", terminal::table(&rows));

    let answers = Answers::read(&requests, &finished, &ledger)?;
    let right = answers.chats.iter().filter(|chat| chat.right).count();
    let cheater = match ledger.suspended_after(market.cheater.node) {
        Some(tasks) => format!("cheater suspended after {tasks} tasks"),
        None => "cheater not caught".to_owned(),
    };
    let slashed = trial.as_ref().map_or(Wei::ZERO, |trial| trial.slashed);
    let closing_line = format!(
        "demo: {} tasks, {} images, {right} of {} answers right, {} texts embedded, {lost} lost, {cheater}, share error {share_error:.3}, slashed {} CAI, rewards {} CAI, redeemed {} CAI",
        finished.len(),
        answers.pictures.len(),
        answers.chats.len(),
        answers.embedded,
        format_cai(slashed),
        rounded(rewards.values().sum()),
        format_cai(paid.values().sum()),
    );

    let prompt_of = |task| {
        finished
            .iter()
            .zip(&requests)
            .find(|((handle, _), _)| handle.id() == task)
            .map(|(_, request)| request.title())
    };
    let convicted_tasks: Vec<_> = evidence.iter().map(|case| case.task.id).collect();
    let report = Report {
        closing_line: closing_line.clone(),
        chain: description.to_owned(),
        seconds: SystemClock.now().since(started).as_secs_f64(),
        share_error,
        audit_probability: AUDIT_PROBABILITY,
        answers,
        life: finished
            .iter()
            .map(|(handle, _)| handle.id())
            .find(|task| ledger.was_audited(*task) && !convicted_tasks.contains(task))
            .and_then(|task| ledger.life(task, prompt_of(task)?)),
        conviction: evidence
            .first()
            .map(|case| conviction(&market, &ledger, case, prompt_of(case.task.id))),
        trial: trial.as_ref().map(|trial| judgement(&ledger, trial)),
        rows,
    };
    let path = write_report(&report, &arguments.out)?;
    market.close().await;
    println!("report: {}", path.display());
    println!("{closing_line}");
    if lost > 0 || slashed.is_zero() {
        return Err(Error::internal(
            "not every task was served, or the cheater was not caught and slashed; see above",
        ));
    }
    Ok(())
}

type Finished = (TaskHandle, Result<TaskResult>);

/// Submits the requests at the set pace and waits for every result.
async fn serve(
    market: &Market,
    requests: &[Request],
    arguments: &Arguments,
) -> Result<(Ledger, Vec<Finished>)> {
    let mut events = market.coordinator.events();
    let mut ledger = Ledger::new(market.entrants.clone());
    let bars = terminal::Bars::new(requests.len() as u64, &market.entrants);
    let pace = Duration::from_millis(arguments.pace);

    let mut waiting = requests.iter().enumerate();
    let mut results = FuturesUnordered::new();
    let mut finished: Vec<Option<Finished>> = requests.iter().map(|_| None).collect();
    let mut done = 0;
    let mut next = SystemClock.sleep(Duration::ZERO);
    while done < requests.len() {
        tokio::select! {
            () = &mut next, if waiting.len() > 0 => {
                next = SystemClock.sleep(pace);
                let Some((index, request)) = waiting.next() else { continue };
                let handle = market.coordinator.submit(request.task()?).await?;
                results.push(async move {
                    let result = handle.result().await;
                    (index, handle, result)
                });
            }
            Some((index, handle, result)) = results.next(), if !results.is_empty() => {
                finished[index] = Some((handle, result));
                done += 1;
            }
            event = events.recv() => match event {
                Ok(event) => ledger.record(event),
                Err(RecvError::Lagged(missed)) => return Err(Error::internal(format!("missed {missed} events"))),
                Err(RecvError::Closed) => return Err(Error::closed("the coordinator stopped")),
            },
        }
        bars.show(done as u64, &ledger.counts());
    }
    while let Ok(event) = events.try_recv() {
        ledger.record(event);
    }
    bars.show(done as u64, &ledger.counts());
    bars.finish();
    Ok((ledger, finished.into_iter().flatten().collect()))
}

/// Redeems the latest voucher of every miner on chain and pays it out; gives what each voucher paid.
async fn redeem(market: &Market) -> Result<HashMap<NodeId, Wei>> {
    let mut paid = HashMap::new();
    let sender = &market.host.owner;
    for voucher in market.coordinator.vouchers() {
        let miner = voucher.value.miner;
        let (amount, _) = market.chain.redeem(sender, &voucher).await?;
        market.chain.collect(sender, miner).await?;
        paid.insert(miner, amount);
    }
    Ok(paid)
}

/// Has every miner's owner claim what its votes earned: its part of the budget, and of what the vouchers paid its stakers.
async fn claim(market: &Market) -> Result<HashMap<NodeId, Wei>> {
    let mut rewards = HashMap::new();
    for member in &market.members {
        let nodes = vec![member.node];
        let (amount, _) = market.chain.claim(&member.owner, nodes).await?;
        rewards.insert(member.node, amount);
    }
    Ok(rewards)
}

/// Decimal CAI to the thousandth, for people.
fn rounded(amount: Wei) -> String {
    let unit = Wei::from(10).pow(Wei::from(15));
    format_cai(amount / unit * unit)
}

fn conviction(
    market: &Market,
    ledger: &Ledger,
    case: &Evidence,
    prompt: Option<&str>,
) -> Conviction {
    let deployment = market.chain.deployment();
    let statements = case
        .exhibits
        .iter()
        .map(|exhibit| {
            let receipt = &exhibit.receipt;
            Statement {
                miner: ledger.name(receipt.value.miner),
                // Recovered from the signature, as anybody would check it.
                operator: receipt
                    .signer(&deployment)
                    .map_or_else(|e| e.to_string(), |a| a.to_string()),
                png: (!exhibit.output.is_empty()).then(|| exhibit.output.to_vec()),
                output_hash: receipt.value.output_hash.to_string(),
                signature: receipt.signature.to_string(),
                convicted: receipt.value.miner == case.convicted,
            }
        })
        .collect();
    Conviction {
        convicted: ledger.name(case.convicted),
        prompt: prompt.unwrap_or_default().to_owned(),
        input: case.task.input.clone(),
        statements,
    }
}

fn judgement(ledger: &Ledger, trial: &trial::Trial) -> Judgement {
    Judgement {
        dispute: trial.dispute.to_string(),
        convicted: trial.outcome == DisputeOutcome::Convicted,
        claimed: trial.claimed.to_string(),
        votes: trial
            .votes
            .iter()
            .map(|(juror, vote)| (ledger.name(*juror), vote.to_string()))
            .collect(),
        slashed: trial.slashed,
        left: trial.left,
        jury_fee: trial.jury_fee,
    }
}

fn write_report(report: &Report, folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).map_err(|source| {
        Error::unavailable(format!("cannot create {}", folder.display())).with_source(source)
    })?;
    let path = folder.join("report.html");
    report.write(&path)?;
    Ok(path)
}
