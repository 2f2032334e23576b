//! The configuration file, with overrides from the environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Environment, File, FileFormat};
use cuckoo_core::{
    Address, Deployment, Error, Key, ModelId, Result, RpcSettings, RpcStaking, StakingContract,
    SystemClock, Wei, load_key,
};
use cuckoo_miner::Settings;
use serde::Deserialize;

use crate::secret::password;

const PREFIX: &str = "CUCKOO_MINER";

/// What `miner.toml` holds. Paths in it are relative to the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) coordinators: Vec<String>,
    #[serde(default = "default_drain_seconds")]
    pub(crate) drain_seconds: u64,
    #[serde(default = "default_vouchers")]
    pub(crate) vouchers: PathBuf,
    pub(crate) chain: ChainConfig,
    pub(crate) operator: OperatorConfig,
    #[serde(default)]
    pub(crate) models: Vec<ModelConfig>,
    #[serde(default)]
    pub(crate) settings: Settings,
}

/// Which contracts, and the node they are reached through.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChainConfig {
    rpc: String,
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

/// A model it offers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ModelConfig {
    pub(crate) name: ModelId,
    pub(crate) folder: PathBuf,
    #[serde(default, with = "cuckoo_core::cai_text")]
    pub(crate) min_price: Wei,
    pub(crate) max_pixels: Option<usize>,
    pub(crate) max_steps: Option<usize>,
}

fn default_drain_seconds() -> u64 {
    60
}

fn default_vouchers() -> PathBuf {
    "vouchers.json".into()
}

impl Config {
    /// Reads `path`, then the environment.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `Invalid` that names the key which is unknown, missing or of a wrong type.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        Self::load_with(path, Environment::with_prefix(PREFIX))
    }

    fn load_with(path: &Path, environment: Environment) -> Result<Self> {
        if !path.is_file() {
            return Err(Error::not_found(format!(
                "no configuration at {}; copy miner.example.toml there",
                path.display()
            )));
        }
        let environment = environment
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("coordinators");
        let mut config: Self = config::Config::builder()
            .add_source(File::from(path).format(FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|source| {
                Error::invalid(format!("{} or a {PREFIX}__ variable", path.display()))
                    .with_source(source)
            })?;
        config.settings.validate()?;
        config.resolve_paths(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let files = [
            Some(&mut self.vouchers),
            Some(&mut self.operator.keystore),
            self.operator.password_file.as_mut(),
            self.chain.deployment.as_mut(),
        ];
        let models = self.models.iter_mut().map(|model| &mut model.folder);
        for path in files.into_iter().flatten().chain(models) {
            *path = folder.join(&*path);
        }
    }
}

impl ChainConfig {
    /// The contracts, once the node answers.
    pub(crate) async fn connect(&self) -> Result<Arc<dyn StakingContract>> {
        let settings = RpcSettings::new(&self.rpc);
        RpcStaking::connect(&settings, self.deployment()?, Arc::new(SystemClock)).await
    }

    /// Where the contracts are, from the deployment file or the three values.
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

/// Reads the file that `cuckoo-coordinator chain deploy` writes.
fn read_deployment(path: &Path) -> Result<Deployment> {
    if !path.is_file() {
        return Err(Error::not_found(format!(
            "no deployment at {}; ask the market's operator for it",
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

#[cfg(test)]
mod tests;
