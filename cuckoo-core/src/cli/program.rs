//! What the two programs differ in, and what follows from it: their settings and the examples of their help.

use std::path::{Path, PathBuf};

use clap::{Command, Parser};
use config::{Environment, File, FileFormat};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ChainConfig, OperatorConfig};
use crate::{Error, Result};

/// A program, as the shared commands need to know it.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What it is called, such as `cuckoo-miner`.
    pub name: &'static str,
    /// What `--version` prints after the name.
    pub version: &'static str,
    /// What the environment's overrides of its settings begin with, such as `CUCKOO_MINER`.
    pub prefix: &'static str,
    /// What its settings file is called, such as `miner.toml`.
    pub settings: &'static str,
    /// Settings that are lists of text, which the environment gives separated by commas.
    pub lists: &'static [&'static str],
}

/// What the shared commands use of a program's settings.
#[derive(Debug, Deserialize)]
pub(super) struct NodeSettings {
    pub(super) chain: ChainConfig,
    pub(super) operator: Option<OperatorConfig>,
}

impl Program {
    /// Reads the command line. In help, `PROGRAM` stands for the program's name and `SETTINGS` after
    /// a blank for its settings file.
    pub fn parse<P: Parser>(&self) -> P {
        let command = P::command().name(self.name).version(self.version);
        let matches = self.teach(command).get_matches();
        P::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    fn teach(self, command: Command) -> Command {
        let command = match command.get_after_help().map(ToString::to_string) {
            Some(help) => command.after_help(
                help.replace("PROGRAM", self.name)
                    // Variables of the environment have the word within their names.
                    .replace(" SETTINGS", &format!(" {}", self.settings)),
            ),
            None => command,
        };
        command.mut_subcommands(|command| self.teach(command))
    }

    /// Reads settings from `path`, then from the environment. Paths in them are still relative to the file.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, `Invalid` that names the key which is unknown, missing or of a wrong type.
    pub fn load<T: DeserializeOwned>(&self, path: &Path) -> Result<T> {
        self.load_with(path, Environment::with_prefix(self.prefix))
    }

    /// [`load`](Self::load) with an environment of the caller's, for tests.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with<T: DeserializeOwned>(
        &self,
        path: &Path,
        environment: Environment,
    ) -> Result<T> {
        if !path.is_file() {
            return Err(Error::not_found(format!(
                "no configuration at {}; copy {} there",
                path.display(),
                self.settings.replace(".toml", ".example.toml")
            )));
        }
        let mut environment = environment
            .prefix_separator("__")
            .separator("__")
            .try_parsing(true)
            .list_separator(",")
            .with_list_parse_key("chain.rpc");
        for list in self.lists {
            environment = environment.with_list_parse_key(list);
        }
        config::Config::builder()
            .add_source(File::from(path).format(FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .map_err(|source| {
                Error::invalid(format!(
                    "{} or a {}__ variable",
                    path.display(),
                    self.prefix
                ))
                .with_source(source)
            })
    }

    pub(super) fn node_settings(&self, path: &Path) -> Result<NodeSettings> {
        let mut settings: NodeSettings = self.load(path)?;
        let folder: PathBuf = path.parent().unwrap_or(Path::new("")).into();
        settings.chain.resolve_paths(&folder);
        if let Some(operator) = &mut settings.operator {
            operator.resolve_paths(&folder);
        }
        Ok(settings)
    }
}
