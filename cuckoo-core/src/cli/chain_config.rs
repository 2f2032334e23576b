//! `[chain]` and `[operator]` of both binaries' settings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::deployment_file::read_contracts;
use super::secret::password;
use crate::{
    Address, Contracts, Deployment, Error, Key, Result, RpcSettings, RpcStaking, StakingContract,
    SystemClock, load_key,
};

/// Which contracts, and the node of the chain that they are reached through.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// An address, a list of them, or a table of [`RpcSettings`].
    // Its `Debug` hides the part of an address that may be a provider's key.
    #[serde(deserialize_with = "rpc")]
    rpc: RpcSettings,
    deployment: Option<PathBuf>,
    chain_id: Option<u64>,
    staking: Option<Address>,
    payments: Option<Address>,
}

impl ChainConfig {
    pub(super) fn new(rpc: RpcSettings, deployment: PathBuf) -> Self {
        Self {
            rpc,
            deployment: Some(deployment),
            chain_id: None,
            staking: None,
            payments: None,
        }
    }

    /// How the chain is reached.
    pub fn rpc(&self) -> &RpcSettings {
        &self.rpc
    }

    /// Makes paths relative to `folder`.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let paths = [self.deployment.as_mut(), self.rpc.journal.as_mut()];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// The contracts, once the node answers.
    ///
    /// # Errors
    /// As [`contracts`](Self::contracts) and [`RpcStaking::connect`].
    pub async fn connect(&self) -> Result<Arc<dyn StakingContract>> {
        RpcStaking::connect(&self.rpc, self.contracts()?, Arc::new(SystemClock)).await
    }

    /// Where the contracts are, from the deployment file or the three values.
    ///
    /// # Errors
    /// `Invalid` when neither or both are given or the file is malformed, `NotFound` when there is no such file.
    pub fn contracts(&self) -> Result<Contracts> {
        match (&self.deployment, self.chain_id, self.staking, self.payments) {
            (Some(path), None, None, None) => read_contracts(path),
            (None, Some(chain_id), Some(staking), Some(payments)) => Ok(Deployment {
                chain_id,
                staking,
                payments,
            }
            .into()),
            _ => Err(Error::invalid(
                "[chain] takes either deployment = \"deployment.toml\" or chain_id, staking and payments",
            )),
        }
    }
}

/// The settings for these addresses, the preferred first.
pub(super) fn rpc_at(urls: Vec<String>) -> Result<RpcSettings> {
    let Some(first) = urls.first().cloned() else {
        return Err(Error::invalid("[chain] rpc names no address of a node"));
    };
    Ok(RpcSettings {
        urls,
        ..RpcSettings::new(first)
    })
}

fn rpc<'de, D: Deserializer<'de>>(from: D) -> Result<RpcSettings, D::Error> {
    struct OneOrManyOrAll;

    impl<'de> Visitor<'de> for OneOrManyOrAll {
        type Value = RpcSettings;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address, a list of addresses or a table of settings")
        }

        fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<RpcSettings, E> {
            Ok(RpcSettings::new(url))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RpcSettings, A::Error> {
            let mut urls = Vec::new();
            while let Some(url) = list.next_element()? {
                urls.push(url);
            }
            rpc_at(urls).map_err(A::Error::custom)
        }

        fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<RpcSettings, A::Error> {
            RpcSettings::deserialize(MapAccessDeserializer::new(table))
        }
    }

    from.deserialize_any(OneOrManyOrAll)
}

/// The key a node signs with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    keystore: PathBuf,
    password_file: Option<PathBuf>,
}

impl OperatorConfig {
    /// Makes paths relative to `folder`.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for path in [Some(&mut self.keystore), self.password_file.as_mut()]
            .into_iter()
            .flatten()
        {
            *path = folder.join(&*path);
        }
    }

    /// Decrypts the key.
    ///
    /// # Errors
    /// As [`load_key`]; `Invalid` or `NotFound` when there is no password.
    pub fn load_key(&self) -> Result<Key> {
        load_key(&self.keystore, &password(self.password_file.as_deref())?)
    }
}

#[cfg(test)]
mod tests {
    use config::{File, FileFormat};

    use super::*;
    use crate::ErrorKind;

    fn chain(text: &str) -> Result<ChainConfig, String> {
        config::Config::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_node_is_an_address_a_list_or_a_table() {
        let at = RpcSettings::new("http://a:1");
        let several = chain("rpc = [\"http://a:1\", \"http://b:2\"]").unwrap();
        assert_eq!(several.rpc().urls, ["http://a:1", "http://b:2"]);
        for text in [
            "rpc = \"http://a:1\"",
            "rpc = [\"http://a:1\"]",
            "[rpc]\nurl = \"http://a:1\"",
            // The environment has text for everything.
            "[rpc]\nurl = \"http://a:1\"\npoll_millis = \"500\"",
        ] {
            assert_eq!(*chain(text).unwrap().rpc(), at, "{text}");
        }
        for (text, named) in [
            ("rpc = 7", "rpc"),
            ("rpc = []", "no address"),
            ("deployment = \"x\"", "rpc"),
            ("[rpc]\nurl = \"http://a:1\"\nspeed = 1", "speed"),
            (
                "[rpc]\nurl = \"http://a:1\"\npoll_millis = \"often\"",
                "poll_millis",
            ),
        ] {
            let error = chain(text).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
    }

    #[test]
    fn contracts_come_from_a_file_or_three_values() {
        let address = "0x5FbDB2315678afecb367f032d93F642f64180aa3";
        let three = format!(
            "rpc = \"http://a:1\"\nchain_id = 5\nstaking = \"{address}\"\npayments = \"{address}\""
        );
        let contracts = chain(&three).unwrap().contracts().unwrap();
        assert_eq!((contracts.market.chain_id, contracts.court), (5, None));
        let both = chain(&format!("{three}\ndeployment = \"x\"")).unwrap();
        let error = both.contracts().unwrap_err();
        assert!(error.message().contains("either"), "{error}");
        let mut none = chain("rpc = \"http://a:1\"\ndeployment = \"no.toml\"").unwrap();
        none.resolve_paths(Path::new("/nowhere"));
        let error = none.contracts().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("/nowhere/no.toml"), "{error}");
    }
}
