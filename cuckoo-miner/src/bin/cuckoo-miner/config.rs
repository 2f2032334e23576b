//! The configuration file, with overrides from the environment.

use std::path::{Path, PathBuf};

use cuckoo_core::cli::{ChainConfig, OperatorConfig};
use cuckoo_core::{ModelId, Result, Wei};
use cuckoo_miner::Settings;
use serde::Deserialize;

use crate::PROGRAM;

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
        PROGRAM.load(path).and_then(|config: Self| config.at(path))
    }

    /// The settings as they hold for a file at `path`.
    fn at(mut self, path: &Path) -> Result<Self> {
        self.settings.validate()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        self.chain.resolve_paths(folder);
        self.operator.resolve_paths(folder);
        self.vouchers = folder.join(&self.vouchers);
        for model in &mut self.models {
            model.folder = folder.join(&model.folder);
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
