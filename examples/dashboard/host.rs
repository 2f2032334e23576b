//! A market to look at: so many miners draw pictures for one coordinator, whose dashboard is at the address it prints.
//! It ends with its standard input, as at Ctrl-D.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use cuckoo_coordinator::{Coordinator, ModelSettings, Settings, router, serve};
use cuckoo_core::{
    Clock as _, DeployConfig, DevChain, Error, Key, LocalMarket, Member, ModelId, OsEntropy,
    Result, SystemClock, TaskSpec, Wei, cai, paths,
};
use cuckoo_examples::varied;
use cuckoo_miner::{Executor, ImageExecutor, Miner};
use serde_json::json;
use tokio::net::TcpListener;

/// How long votes may take to count.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the first miners are called; nothing stops an owner from trying markup.
const NAMES: [&str; 6] = [
    "Heron",
    "Magpie",
    "Plover",
    "Wren",
    "Finch",
    "<b>Dunnock</b>",
];

#[derive(Debug, Parser)]
struct Arguments {
    /// How many miners.
    #[arg(long, default_value_t = 6)]
    miners: usize,
    /// How many pictures are asked for before the address is printed.
    #[arg(long, default_value_t = 24)]
    tasks: usize,
    /// The pause between those asked for afterwards, in milliseconds.
    #[arg(long, default_value_t = 400)]
    pause: u64,
    /// Where the dashboard is.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (chain, entropy) = (
        DevChain::new(Arc::new(SystemClock)),
        Arc::new(OsEntropy::new()?),
    );
    let treasury = Key::random(entropy.as_ref());
    let stakes: Vec<Wei> = (0..arguments.miners).map(stake).collect();
    let all: Wei = stakes.iter().map(|stake| stake + cai(2)).sum();
    chain.fund(treasury.address(), cai(3_000_000) + all);
    let contracts = chain.deploy(&treasury, &DeployConfig::demo()).await?;
    let market = LocalMarket::new(contracts.clone(), treasury, entropy);
    let host = market
        .add_coordinator("Nest", cai(2_000_000), cai(1_000))
        .await?;
    let mut members = Vec::new();
    for (number, stake) in stakes.into_iter().enumerate() {
        members.push(market.add_miner(&name(number), stake).await?);
    }
    let everybody: Vec<&Member> = members.iter().chain([&host]).collect();
    market.settle(&everybody, &SystemClock, PATIENCE).await?;

    let (shapes, chat): (ModelId, ModelId) = ("shapes".parse()?, "chat".parse()?);
    let coordinator = Coordinator::builder()
        .settings(Settings {
            // Nobody offers the second: its tasks wait.
            models: vec![
                ModelSettings::new(shapes.clone(), cai(1) / Wei::from(20)),
                ModelSettings::new(chat.clone(), cai(1) / Wei::from(100)),
            ],
            ..Settings::default()
        })
        .chain(contracts.clone())
        .operator(host.operator)
        .start()
        .await?;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/models/shapes");
    let executor: Arc<dyn Executor> = Arc::new(ImageExecutor::load(folder, shapes.clone())?);
    let mut miners = Vec::new();
    for member in members {
        let miner = Miner::builder()
            .operator(member.operator)
            .chain(contracts.clone())
            .executor(Arc::clone(&executor))
            .coordinator(coordinator.protocol());
        miners.push(miner.start().await?);
    }
    while coordinator.status().miners.len() < miners.len() {
        SystemClock.sleep(Duration::from_millis(20)).await;
    }
    if !miners.is_empty() {
        busy(&coordinator, &shapes, &chat, arguments.tasks).await?;
        let asking = keep_asking(coordinator.clone(), shapes, arguments.pause);
        tokio::spawn(asking);
    }

    let listener = TcpListener::bind(arguments.listen).await;
    let listener = listener.map_err(|source| Error::unavailable("no port").with_source(source))?;
    let address = listener.local_addr().unwrap_or(arguments.listen);
    println!("http://{address}{}", paths::DASHBOARD);
    // A pipe holds lines back.
    let _ = std::io::stdout().flush();
    let closed =
        tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    let routes = router(coordinator.clone());
    serve(listener, routes, async {
        let _ = closed.await;
    })
    .await;
    coordinator.shutdown(Duration::ZERO).await;
    Ok(())
}

/// A few have much, many have little; the first six as in the demo.
fn stake(number: usize) -> Wei {
    const FIRST: [u64; 6] = [200_000, 100_000, 80_000, 60_000, 40_000, 20_000];
    let number = number as u64;
    let first = usize::try_from(number).ok().and_then(|at| FIRST.get(at));
    cai(first.copied().unwrap_or(20_000 + 400_000 / number.max(1)))
}

fn name(number: usize) -> String {
    let known = NAMES.get(number).map(|name| (*name).to_owned());
    known.unwrap_or_else(|| format!("Sparrow {number}"))
}

/// Some pictures, a task that cannot be done, and tasks that nobody can do.
async fn busy(
    coordinator: &Coordinator,
    shapes: &ModelId,
    chat: &ModelId,
    tasks: usize,
) -> Result<()> {
    for number in 0..3 {
        let question = json!({ "prompt": format!("question {number}") });
        // Longer than anybody looks.
        let question =
            TaskSpec::new(chat.clone(), question).with_timeout(Duration::from_secs(1_800));
        coordinator.submit(question).await?;
    }
    let nonsense = json!({ "prompt": 7 });
    let nonsense = coordinator.submit(TaskSpec::new(shapes.clone(), nonsense));
    let nonsense = nonsense.await?;
    let mut pictures = Vec::new();
    for prompt in varied(tasks) {
        let spec = TaskSpec::new(shapes.clone(), json!({ "prompt": prompt }));
        pictures.push(coordinator.submit(spec).await?);
    }
    for picture in pictures {
        picture.result().await?;
    }
    // It fails, which is to be seen.
    let _ = nonsense.result().await;
    Ok(())
}

async fn keep_asking(coordinator: Coordinator, shapes: ModelId, pause: u64) {
    for prompt in varied(1_000).into_iter().cycle() {
        let spec = TaskSpec::new(shapes.clone(), json!({ "prompt": prompt }));
        if coordinator.submit(spec).await.is_err() {
            return;
        }
        SystemClock.sleep(Duration::from_millis(pause)).await;
    }
}
