//! The configuration file, with overrides from the environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cuckoo_coordinator::{
    ApiKeySettings, HttpSettings, ModelSettings, Settings, StoreSettings, TlsSettings,
    TraceSettings, Webhooks,
};
use cuckoo_core::cli::{ChainConfig, OperatorConfig, read_secret};
use cuckoo_core::{Error, Result};
use serde::Deserialize;

use crate::PROGRAM;
use crate::log::LogConfig;

/// What `coordinator.toml` holds. Paths in it are relative to the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default = "default_listen")]
    pub(crate) listen: SocketAddr,
    #[serde(default)]
    pub(crate) allow_public: bool,
    #[serde(default = "default_drain_seconds")]
    pub(crate) drain_seconds: u64,
    pub(crate) chain: ChainConfig,
    pub(crate) operator: OperatorConfig,
    #[serde(default)]
    pub(crate) api_keys: Vec<ApiKeySettings>,
    #[serde(default)]
    pub(crate) store: StoreSettings,
    #[serde(default)]
    pub(crate) http: HttpSettings,
    #[serde(default)]
    pub(crate) log: LogConfig,
    /// None where the section is absent.
    pub(crate) otel: Option<TraceSettings>,
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) webhooks: Option<WebhookConfig>,
    #[serde(default)]
    models: Vec<ModelSettings>,
    #[serde(default)]
    settings: Settings,
}

/// How requesters' servers are told that tasks ended.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookConfig {
    secret_file: PathBuf,
    #[serde(default)]
    allow_private: bool,
}

impl WebhookConfig {
    /// # Errors
    /// `NotFound` without the file, `Invalid` when it holds no secret.
    pub(crate) fn load(&self) -> Result<Webhooks> {
        let secret = read_secret(&self.secret_file)?;
        match self.allow_private {
            true => Webhooks::with_private_addresses(&secret),
            false => Webhooks::new(&secret),
        }
    }
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
        PROGRAM.load(path).and_then(|config: Self| config.at(path))
    }

    /// The settings as they hold for a file at `path`.
    fn at(mut self, path: &Path) -> Result<Self> {
        self.check()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        self.chain.resolve_paths(folder);
        self.operator.resolve_paths(folder);
        self.store.resolve_paths(folder);
        if let Some(webhooks) = &mut self.webhooks {
            webhooks.secret_file = folder.join(&webhooks.secret_file);
        }
        for file in self
            .api_keys
            .iter_mut()
            .filter_map(|key| key.key_file.as_mut())
        {
            *file = folder.join(&*file);
        }
        if let Some(tls) = &mut self.tls {
            tls.cert_file = folder.join(&tls.cert_file);
            tls.key_file = folder.join(&tls.key_file);
        }
        Ok(self)
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
                "listen = \"{}\" is reachable by others; set allow_public = true if that is meant, and \
                 [[api_keys]], or anybody spends the escrow",
                self.listen
            )));
        }
        ApiKeySettings::validate_all(&self.api_keys)?;
        self.http.validate()?;
        self.store.validate()?;
        self.otel.as_ref().map_or(Ok(()), TraceSettings::validate)?;
        self.settings().validate()
    }
}

#[cfg(test)]
mod tests;
