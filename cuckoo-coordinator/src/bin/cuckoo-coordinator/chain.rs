//! The contracts: put on a chain, looked at.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use cuckoo_core::{
    DeployConfig, Error, NodeKind, Result, RpcSettings, RpcStaking, StakingContract, SystemClock,
    format_cai, load_key,
};

use crate::config::{Config, write_deployment};
use crate::secret::{Keystore, password};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Deploys Staking and Payments, paid for and administered by the key, and writes where they are.
    #[command(after_help = "\
Example, on a local anvil:
  cuckoo-coordinator chain deploy --rpc http://127.0.0.1:8545 --keystore owner.json --out deployment.toml --demo")]
    Deploy {
        /// The chain's JSON-RPC endpoint.
        #[arg(long, value_name = "URL")]
        rpc: String,
        #[command(flatten)]
        keystore: Keystore,
        /// Where to write the chain id and the contracts' addresses; never overwritten.
        #[arg(long, value_name = "FILE", default_value = "deployment.toml")]
        out: PathBuf,
        /// Epochs of a second and a minute of unbonding, instead of a day and a week: to try things out.
        #[arg(long)]
        demo: bool,
    },
    /// Prints the nodes, their weights and the coordinators' escrows.
    Status {
        /// The coordinator's settings; its [chain] is looked at.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

pub(crate) async fn execute(command: Command) -> Result<()> {
    match command {
        Command::Deploy {
            rpc,
            keystore,
            out,
            demo,
        } => deploy(&rpc, &keystore, out, demo).await,
        Command::Status { config } => {
            let chain = Config::load(&config)?.chain.connect().await?;
            status(chain.as_ref()).await
        }
    }
}

async fn deploy(rpc: &str, keystore: &Keystore, out: PathBuf, demo: bool) -> Result<()> {
    if out.exists() {
        return Err(Error::conflict(format!(
            "{} exists already; a market is deployed once. Name another file with --out to deploy a second one",
            out.display()
        )));
    }
    let admin = load_key(
        &keystore.path,
        &password(keystore.password_file.as_deref())?,
    )?;
    let config = if demo {
        DeployConfig::demo()
    } else {
        DeployConfig::default()
    };
    let rpc = RpcSettings::new(rpc);
    let chain = RpcStaking::deploy(&rpc, &admin, &config, Arc::new(SystemClock)).await?;
    let deployment = chain.deployment();
    write_deployment(&out, &deployment)?;
    println!(
        "chain {}: Staking {}, Payments {}",
        deployment.chain_id, deployment.staking, deployment.payments
    );
    println!("written to {}", out.display());
    Ok(())
}

async fn status(chain: &dyn StakingContract) -> Result<()> {
    let snapshot = chain.snapshot().await?;
    println!(
        "block {}, epoch {}, {} nodes",
        snapshot.block,
        snapshot.epoch,
        snapshot.nodes.len()
    );
    for node in &snapshot.nodes {
        let kind = match node.kind {
            NodeKind::Miner => "miner",
            NodeKind::Coordinator => "coordinator",
        };
        let active = if node.active { "active" } else { "not active" };
        print!(
            "{} {kind} `{}` operator {} weight {} CAI, {active}",
            node.id,
            node.profile.name,
            node.operator,
            format_cai(node.weight)
        );
        if node.kind == NodeKind::Coordinator {
            let escrow = chain.escrow(node.id).await?;
            print!(
                ", escrow {} CAI of which {} are leaving",
                format_cai(escrow.amount),
                format_cai(escrow.leaving)
            );
        }
        println!();
    }
    Ok(())
}
