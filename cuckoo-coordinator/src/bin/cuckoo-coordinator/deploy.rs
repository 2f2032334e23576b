//! A market's contracts from a file of settings to a file of addresses.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use config::{File, FileFormat, Map, Value, ValueKind};
use cuckoo_core::cli::{Asking, Keystore, write_contracts};
use cuckoo_core::{
    Address, DeployConfig, DeployQuote, Error, Result, RpcSettings, RpcStaking, StakingContract,
    SystemClock, format_cai,
};
use serde::Deserialize as _;

/// What a deployment is made of, before anything in `deploy.toml` changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Preset {
    /// The public network: epochs of a day, eight days of unbonding, a timelock.
    Mainnet,
    /// A public test network: hours in place of days, and a faucet.
    Testnet,
    /// To try things out: epochs of a second, a minute of unbonding, no timelock.
    Demo,
}

#[derive(Debug, Args)]
#[command(after_help = "\
It rehearses the deployment in this process first: settings that a contract would refuse are told before anything is sent.
It never overwrites a file of addresses.

Examples, on a local anvil, and with settings of your own (deploy.example.toml has them all):
  PROGRAM chain deploy --rpc http://127.0.0.1:8545 --keystore owner.json --preset demo
  PROGRAM chain deploy --rpc https://rpc.example.org --keystore owner.json --config deploy.toml --dry-run")]
pub(crate) struct Arguments {
    /// JSON-RPC of a node of the chain.
    #[arg(long, value_name = "URL")]
    rpc: String,
    #[command(flatten)]
    keystore: Keystore,
    /// Settings that differ from the preset's.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to begin with; what the file says when absent, else `mainnet`.
    #[arg(long, value_enum)]
    preset: Option<Preset>,
    /// Short for --preset demo.
    #[arg(long, conflicts_with = "preset")]
    demo: bool,
    /// Where to write the chain id and the contracts' addresses; never overwritten.
    #[arg(long, value_name = "FILE", default_value = "deployment.toml")]
    out: PathBuf,
    #[command(flatten)]
    asking: Asking,
}

pub(crate) async fn deploy(arguments: Arguments) -> Result<()> {
    let out = &arguments.out;
    if out.exists() {
        return Err(Error::conflict(format!(
            "{} exists already; a market is deployed once. Name another file with --out to deploy a second one",
            out.display()
        )));
    }
    let preset = if arguments.demo {
        Some(Preset::Demo)
    } else {
        arguments.preset
    };
    let config = settings(arguments.config.as_deref(), preset)?;
    let admin = arguments.keystore.load()?;
    let rpc = RpcSettings::new(&arguments.rpc);
    let clock = Arc::new(SystemClock);
    let quote = RpcStaking::quote_deployment(&rpc, &admin, &config, clock.clone())
        .await
        .map_err(out_of_range)?;
    show(&config, &quote, admin.address());
    let needed = config.funds().saturating_add(quote.fee);
    if quote.balance < needed {
        return Err(Error::rejected(format!(
            "{} holds {} CAI and needs {} CAI; send it more",
            admin.address(),
            format_cai(quote.balance),
            format_cai(needed)
        )));
    }
    if !arguments.asking.agreed()? {
        return Ok(());
    }
    println!("deploying; this takes some blocks");
    let chain = RpcStaking::deploy(&rpc, &admin, &config, clock).await?;
    // Whatever happens to the file, the addresses are not lost.
    report(chain.as_ref())?;
    write_contracts(out, &chain.contracts())?;
    let spent = quote
        .balance
        .saturating_sub(chain.balance(admin.address()).await?)
        .saturating_sub(config.funds());
    println!(
        "fees {} CAI; written to {}",
        format_cai(spent),
        out.display()
    );
    Ok(())
}

fn report(chain: &dyn StakingContract) -> Result<()> {
    let values = serde_json::to_value(chain.contracts())
        .map_err(|source| Error::internal("addresses have no JSON form").with_source(source))?;
    for (name, value) in values.as_object().into_iter().flatten() {
        println!("{name} = {value}");
    }
    Ok(())
}

fn show(config: &DeployConfig, quote: &DeployQuote, deployer: Address) {
    let or_deployer = |account: Option<Address>| account.unwrap_or(deployer);
    println!("a market on chain {}:", quote.chain_id);
    println!(
        "- Staking: epochs of {} s, unbonding {} s, least vote of an owner {} CAI for a miner, {} CAI for a coordinator",
        config.epoch_seconds,
        config.unbonding_seconds,
        format_cai(config.miner_minimum),
        format_cai(config.coordinator_minimum)
    );
    println!(
        "- Payments: escrow leaves after {} s, {} % of vouchers to stakers",
        config.withdrawal_delay_seconds,
        percent(config.stakers_bps)
    );
    println!(
        "- slashes: {} % burnt, {} % to the reporter; two outputs for one lease cost {} CAI",
        percent(config.burn_bps),
        percent(config.reporter_bps),
        format_cai(config.equivocation_penalty)
    );
    println!(
        "- unpaid vouchers: {} s of notice, then the bond pays",
        config.notice_seconds
    );
    println!(
        "- court: {} jurors, {} for a verdict, bond {} CAI, penalty {} CAI",
        config.court.jury_size,
        config.court.quorum,
        format_cai(config.court.bond),
        format_cai(config.court.penalty)
    );
    println!(
        "- rewards: {} CAI an epoch, {} CAI put in now",
        format_cai(config.reward_per_epoch),
        format_cai(config.reward_budget)
    );
    if let Some(faucet) = &config.faucet {
        println!(
            "- faucet: {} CAI at once, {} CAI a day, {} CAI put in now",
            format_cai(faucet.amount),
            format_cai(faucet.day_cap),
            format_cai(faucet.funds)
        );
    }
    let through = config.timelock_seconds.map_or(String::new(), |seconds| {
        format!(", through a timelock of {seconds} s")
    });
    println!(
        "- obeys {}{through}; {} may pause entries",
        or_deployer(config.admin),
        or_deployer(config.guardian.or(config.admin))
    );
    println!(
        "account {deployer} holds {} CAI; leaves it: {} CAI, and up to {} CAI of fees ({} gas)",
        format_cai(quote.balance),
        format_cai(config.funds()),
        format_cai(quote.fee),
        quote.gas
    );
}

/// What the contracts call a setting, where that is not its name in the file in other letters.
const RENAMED: [(&str, &str); 11] = [
    ("epochLength", "epoch_seconds"),
    ("unbondingPeriod", "unbonding_seconds"),
    ("withdrawalDelay", "withdrawal_delay_seconds"),
    ("noticePeriod", "notice_seconds"),
    ("wrongedBps", "burn_bps and reporter_bps"),
    ("answerTime", "answer_seconds"),
    ("drawTime", "draw_seconds"),
    ("commitTime", "commit_seconds"),
    ("revealTime", "reveal_seconds"),
    ("coolDown", "cool_down_seconds"),
    ("penalty", "penalty or equivocation_penalty"),
];

/// An error that names the setting as the file does.
fn out_of_range(error: Error) -> Error {
    let Some((_, rest)) = error.message().split_once("InvalidConfig: the setting ") else {
        return error;
    };
    let name = rest.split(' ').next().unwrap_or_default();
    let renamed = RENAMED.iter().find(|(solidity, _)| *solidity == name);
    let key = renamed.map_or_else(|| snake_case(name), |(_, key)| (*key).to_owned());
    Error::invalid(format!(
        "{key} is out of range: nothing was sent; deploy.example.toml has the bounds"
    ))
    .with_source(error)
}

fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

fn percent(hundredths: u16) -> f64 {
    f64::from(hundredths) / 100.0
}

/// The preset of the command line, of the file or else the public network's, with what the file changes.
fn settings(path: Option<&Path>, preset: Option<Preset>) -> Result<DeployConfig> {
    let Some(path) = path else {
        return Ok(preset.unwrap_or(Preset::Mainnet).settings());
    };
    if !path.is_file() {
        return Err(Error::not_found(format!(
            "no settings at {}; copy deploy.example.toml there",
            path.display()
        )));
    }
    let wrong =
        |source| Error::invalid(format!("{} cannot be used", path.display())).with_source(source);
    let mut changes = config::Config::builder()
        .add_source(File::from(path).format(FileFormat::Toml))
        .build()
        .and_then(|file| file.cache.into_table())
        .map_err(wrong)?;
    let named = changes.remove("preset");
    let preset = match (preset, named) {
        (Some(preset), _) => preset,
        (None, Some(name)) => {
            let name = name.into_string().map_err(wrong)?;
            Preset::from_str(&name, false).map_err(|_| {
                Error::invalid(format!(
                    "preset = \"{name}\" in {} is none; write mainnet, testnet or demo",
                    path.display()
                ))
            })?
        }
        (None, None) => Preset::Mainnet,
    };
    let base = config::Config::try_from(&preset.settings())
        .and_then(|base| base.cache.into_table())
        .map_err(wrong)?;
    DeployConfig::deserialize(Value::new(None, ValueKind::Table(changed(base, changes))))
        .map_err(wrong)
}

/// `base` with what `changes` has in its place, tables merged; `"none"` leaves a part out.
fn changed(mut base: Map<String, Value>, changes: Map<String, Value>) -> Map<String, Value> {
    for (name, change) in changes {
        let merged = match (base.remove(&name).map(|old| old.kind), change.kind) {
            (Some(ValueKind::Table(old)), ValueKind::Table(new)) => {
                ValueKind::Table(changed(old, new))
            }
            (_, ValueKind::String(text)) if text == "none" => ValueKind::Nil,
            (_, new) => new,
        };
        base.insert(name, Value::new(None, merged));
    }
    base
}

impl Preset {
    fn settings(self) -> DeployConfig {
        match self {
            Self::Mainnet => DeployConfig::mainnet(),
            Self::Testnet => DeployConfig::testnet(),
            Self::Demo => DeployConfig::demo(),
        }
    }
}

#[cfg(test)]
mod tests;
