//! What an owner does with a registered node.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::secret::password;
use super::{Program, Sender, Wallet, parse_node, span_text};
use crate::{Action, Error, Node, NodeId, NodeKind, Profile, Result, load_key, sign_consent};

/// Commands of nodes' owners.
#[derive(Debug, Subcommand)]
pub enum OwnerCommand {
    /// Replaces the key a node signs with; the old key stays accountable for the unbonding period.
    #[command(after_help = "\
The new operator's key agrees by a signature that this command makes, so its file and password are needed too.

Example:
  PROGRAM key new --keystore operator-2.json
  PROGRAM rotate 3 --operator operator-2.json --config SETTINGS --keystore owner.json
Then name the new file under [operator] in SETTINGS and start the node again.")]
    Rotate(RotateArgs),
    /// Retires a node for good. Its stakers, the owner too, take their votes out as usual.
    #[command(after_help = "\
Example:
  PROGRAM exit 3 --config SETTINGS --keystore owner.json")]
    Exit(ExitArgs),
    /// Changes what the public is told about a node; what is not given stays.
    #[command(after_help = "\
Example:
  PROGRAM profile 3 --name gpu-1 --description 'two H100' --config SETTINGS --keystore owner.json")]
    Profile(ProfileArgs),
}

/// A node and its new key.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The node's number.
    #[arg(value_parser = parse_node)]
    node: NodeId,
    /// The new operator's key file.
    #[arg(long, value_name = "FILE")]
    operator: PathBuf,
    /// A file that holds the new operator's password; CUCKOO_PASSWORD when absent.
    #[arg(long, value_name = "FILE")]
    operator_password_file: Option<PathBuf>,
    #[command(flatten)]
    sender: Sender,
}

/// A node.
#[derive(Debug, Args)]
pub struct ExitArgs {
    /// The node's number.
    #[arg(value_parser = parse_node)]
    node: NodeId,
    #[command(flatten)]
    sender: Sender,
}

/// A node and what to tell about it.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The node's number.
    #[arg(value_parser = parse_node)]
    node: NodeId,
    /// Its public name, at most 64 bytes.
    #[arg(long)]
    name: Option<String>,
    /// What it offers, at most 1,024 bytes.
    #[arg(long)]
    description: Option<String>,
    /// Where miners reach a coordinator, at most 256 bytes.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    #[command(flatten)]
    sender: Sender,
}

impl OwnerCommand {
    /// Does it.
    ///
    /// # Errors
    /// As [`Wallet`]'s; `NotFound` for a node that nobody registered.
    pub async fn run(self, program: &Program) -> Result<()> {
        match self {
            Self::Rotate(arguments) => rotate(arguments, program).await,
            Self::Exit(arguments) => exit(arguments, program).await,
            Self::Profile(arguments) => profile(arguments, program).await,
        }
    }
}

/// The node, and who it is on a line.
async fn look_up(wallet: &Wallet, id: NodeId) -> Result<Node> {
    let snapshot = wallet.chain.snapshot().await?;
    let node = snapshot.node(id).cloned().ok_or_else(|| {
        Error::not_found(format!(
            "there is no {id}; `cuckoo-coordinator chain status` lists those there are"
        ))
    })?;
    let kind = match node.kind {
        NodeKind::Miner => "miner",
        NodeKind::Coordinator => "coordinator",
    };
    println!(
        "{id} is the {kind} `{}` of {}, operator {}",
        node.profile.name, node.owner, node.operator
    );
    Ok(node)
}

async fn rotate(arguments: RotateArgs, program: &Program) -> Result<()> {
    let wallet = arguments.sender.open(program).await?;
    let operator = load_key(
        &arguments.operator,
        &password(arguments.operator_password_file.as_deref())?,
    )?;
    if operator.address() == wallet.account() {
        return Err(Error::invalid(
            "owner and operator are the same key; the operator's is online all the time, so make another with `key new`",
        ));
    }
    let node = look_up(&wallet, arguments.node).await?;
    let (deadline, consent) =
        sign_consent(&*wallet.chain, wallet.account(), &operator, node.kind).await?;
    let rotate = Action::RotateOperator {
        node: node.id,
        operator: operator.address(),
        deadline,
        consent,
    };
    if wallet.perform(rotate).await?.is_some() {
        println!(
            "{} signs for {} now; {} stays accountable for another {}. Name {} under [operator] in {} and start the node again",
            operator.address(),
            node.id,
            node.operator,
            span_text(wallet.chain.unbonding_seconds().await?),
            arguments.operator.display(),
            program.settings
        );
    }
    Ok(())
}

async fn exit(arguments: ExitArgs, program: &Program) -> Result<()> {
    let wallet = arguments.sender.open(program).await?;
    let node = look_up(&wallet, arguments.node).await?.id;
    println!(
        "this cannot be taken back: {node} will get no more work, under this number or this operator key"
    );
    if wallet.perform(Action::Exit { node }).await?.is_some() {
        println!(
            "{node} is retired; take the votes out with: unvote {} all",
            node.0
        );
    }
    Ok(())
}

async fn profile(arguments: ProfileArgs, program: &Program) -> Result<()> {
    let ProfileArgs {
        node,
        name,
        description,
        endpoint,
        sender,
    } = arguments;
    if name.is_none() && description.is_none() && endpoint.is_none() {
        return Err(Error::invalid(
            "nothing to change; give --name, --description or --endpoint",
        ));
    }
    let wallet = sender.open(program).await?;
    let old = look_up(&wallet, node).await?.profile;
    let profile = Profile {
        name: name.unwrap_or(old.name),
        description: description.unwrap_or(old.description),
        endpoint: endpoint.unwrap_or(old.endpoint),
    };
    println!(
        "name `{}`, description `{}`, endpoint `{}`",
        profile.name, profile.description, profile.endpoint
    );
    wallet.perform(Action::SetProfile { node, profile }).await?;
    Ok(())
}
