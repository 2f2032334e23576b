//! The configuration file, with overrides from the environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Environment, File, FileFormat};
use cuckoo_coordinator::{ModelSettings, Settings};
use cuckoo_core::{
    Address, Deployment, Error, Key, Result, RpcSettings, RpcStaking, StakingContract, SystemClock,
    load_key,
};
use serde::{Deserialize, Deserializer};

use crate::secret::password;

const PREFIX: &str = "CUCKOO_COORDINATOR";

/// What `coordinator.toml` holds. Paths in it are relative to the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    #[serde(default)]
    pub(crate) allow_public: bool,
    pub(crate) requester_token_file: Option<PathBuf>,
    #[serde(default = "default_drain_seconds")]
    pub(crate) drain_seconds: u64,
    pub(crate) chain: ChainConfig,
    pub(crate) operator: OperatorConfig,
    #[serde(default)]
    models: Vec<ModelSettings>,
    #[serde(default)]
    settings: Settings,
}

/// Which contracts, and the node they are reached through.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainConfig {
    // Its `Debug` hides the part of the address that may be a provider's key.
    #[serde(deserialize_with = "rpc_at")]
    pub(crate) rpc: RpcSettings,
    deployment: Option<PathBuf>,
    chain_id: Option<u64>,
    staking: Option<Address>,
    payments: Option<Address>,
}

/// The key it signs with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperatorConfig {
    keystore: PathBuf,
    password_file: Option<PathBuf>,
}

fn rpc_at<'de, D: Deserializer<'de>>(from: D) -> Result<RpcSettings, D::Error> {
    String::deserialize(from).map(RpcSettings::new)
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 8480).into()
}

fn default_drain_seconds() -> u64 {
    30
}

impl Config {
    /// Reads `path`, then the environment.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `Invalid` that names the key which is unknown, missing or of a wrong type.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let environment = Environment::with_prefix(PREFIX)
            .prefix_separator("__")
            .separator("__");
        Self::load_with(path, environment)
    }

    fn load_with(path: &Path, environment: Environment) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::not_found(format!(
                "no configuration at {}; copy coordinator.example.toml there",
                path.display()
            )));
        }
        let mut config: Self = config::Config::builder()
            .add_source(File::from(path).format(FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|source| {
                Error::invalid(format!("{} or a {PREFIX}__ variable", path.display()))
                    .with_source(source)
            })?;
        config.check()?;
        config.resolve_paths(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// How the coordinator itself is to behave.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            models: self.models.clone(),
            ..self.settings.clone()
        }
    }

    fn check(&self) -> Result<()> {
        if !self.settings.models.is_empty() {
            return Err(Error::invalid(
                "write models as [[models]], not inside [settings]",
            ));
        }
        if !self.listen.ip().is_loopback() && !self.allow_public {
            return Err(Error::invalid(format!(
                "listen = \"{}\" is reachable by others; set allow_public = true if that is meant, and a \
                 requester_token_file, or anybody spends the escrow",
                self.listen
            )));
        }
        self.settings().validate()
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let files = [
            self.requester_token_file.as_mut(),
            self.chain.deployment.as_mut(),
            Some(&mut self.operator.keystore),
            self.operator.password_file.as_mut(),
        ];
        for file in files.into_iter().flatten() {
            *file = folder.join(&*file);
        }
    }
}

impl ChainConfig {
    /// The contracts, reached through the node.
    pub(crate) async fn connect(&self) -> Result<Arc<dyn StakingContract>> {
        RpcStaking::connect(&self.rpc, self.deployment()?, Arc::new(SystemClock)).await
    }

    /// The contracts, from the deployment file or the three values.
    pub(crate) fn deployment(&self) -> Result<Deployment> {
        match (&self.deployment, self.chain_id, self.staking, self.payments) {
            (Some(path), None, None, None) => read_deployment(path),
            (None, Some(chain_id), Some(staking), Some(payments)) => Ok(Deployment {
                chain_id,
                staking,
                payments,
            }),
            _ => Err(Error::invalid(
                "[chain] takes either deployment = \"deployment.toml\" or chain_id, staking and payments",
            )),
        }
    }
}

impl OperatorConfig {
    pub(crate) fn load_key(&self) -> Result<Key> {
        load_key(&self.keystore, &password(self.password_file.as_deref())?)
    }
}

/// Reads the file that `chain deploy` writes.
pub(crate) fn read_deployment(path: &Path) -> Result<Deployment> {
    if !path.is_file() {
        return Err(Error::not_found(format!(
            "no deployment at {}; `chain deploy` writes one, or ask the market's operator for it",
            path.display()
        )));
    }
    config::Config::builder()
        .add_source(File::from(path).format(FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|source| {
            Error::invalid(format!("{} is not a deployment file", path.display()))
                .with_source(source)
        })
}

/// Writes the file that [`read_deployment`] reads.
pub(crate) fn write_deployment(path: &Path, deployment: &Deployment) -> Result<()> {
    let Deployment {
        chain_id,
        staking,
        payments,
    } = deployment;
    let text = format!(
        "# The contracts of one Cuckoo market.\n\
         chain_id = {chain_id}\nstaking = \"{staking}\"\npayments = \"{payments}\"\n"
    );
    std::fs::write(path, text).map_err(|source| {
        Error::unavailable(format!("cannot write {}", path.display())).with_source(source)
    })
}

#[cfg(test)]
mod tests;
