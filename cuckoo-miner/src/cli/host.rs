//! A program that hosts executors: the command line of `cuckoo-miner` around a tool author's own.

use std::fmt;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use cuckoo_core::cli::Program;
use cuckoo_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing_subscriber::EnvFilter;

use crate::Executor;
use crate::cli::config::Config;
use crate::cli::{Cli, PROGRAM};
use crate::keep_freed_memory;

type Load = Box<dyn Fn(&ExecutorConfig) -> Result<Vec<Arc<dyn Executor>>> + Send + Sync>;

/// A miner program of your own: every command of `cuckoo-miner` (`run`, `doctor`, `key`, `register`, `redeem` and the
/// rest), for the executors that it brings. They are offered beside the `[[models]]` of its settings.
///
/// ```no_run
/// # use cuckoo_core::{Assignment, Capability, ModelId, Output, Result, payload_hash};
/// # use cuckoo_miner::{Execution, Executor, TaskContext};
/// # #[derive(Debug, serde::Deserialize)]
/// # struct Shout { model: ModelId }
/// # #[async_trait::async_trait]
/// # impl Executor for Shout {
/// #     fn capabilities(&self) -> Vec<Capability> {
/// #         vec![Capability::new(self.model.clone(), payload_hash(b"shout, version 1"), "rust-1")]
/// #     }
/// #     async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
/// #         Ok(Execution::new(Output::new("text/plain", task.input.to_uppercase())))
/// #     }
/// # }
/// use std::process::ExitCode;
/// use std::sync::Arc;
///
/// use cuckoo_miner::cli::Host;
///
/// fn main() -> ExitCode {
///     Host::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
///         .executors(|config| Ok(vec![Arc::new(config.settings::<Shout>()?)]))
///         .main()
/// }
/// ```
pub struct Host {
    program: Program,
    load: Option<Load>,
}

impl Host {
    /// A program of this name and version, which brings no executor and so offers the `[[models]]` of its settings alone.
    pub fn new(name: &'static str, version: &'static str) -> Self {
        let program = Program {
            name,
            version,
            ..PROGRAM
        };
        Self {
            program,
            load: None,
        }
    }

    /// Brings executors, which `load` makes before the miner starts, and once for `doctor`. It may block.
    #[must_use]
    pub fn executors(
        mut self,
        load: impl Fn(&ExecutorConfig) -> Result<Vec<Arc<dyn Executor>>> + Send + Sync + 'static,
    ) -> Self {
        self.load = Some(Box::new(load));
        self
    }

    /// Reads the command line and does what it says. Failures go to standard error, with what to do.
    pub fn main(self) -> ExitCode {
        match self.start(self.program.parse()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn start(&self, cli: Cli) -> Result<()> {
        keep_freed_memory();
        let filter = EnvFilter::try_new(&cli.log).map_err(|source| {
            Error::invalid("--log is a level or `target=level` pairs, such as info")
                .with_source(source)
        })?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::unavailable("cannot start threads").with_source(source))?;
        let result = runtime.block_on(cli.command.execute(self));
        // Nothing that still runs matters once the command is done.
        runtime.shutdown_background();
        result
    }

    /// Whether it has executors of its own.
    pub(crate) fn brings_executors(&self) -> bool {
        self.load.is_some()
    }

    /// Its own executors, set up as `config` says.
    ///
    /// # Errors
    /// `Invalid` when it has none and `config` sets one up; else what `load` says.
    pub(crate) fn load(&self, config: &Config) -> Result<Vec<Arc<dyn Executor>>> {
        let Some(load) = &self.load else {
            return match config.executor {
                Some(_) => Err(Error::invalid(format!(
                    "[executor]: {} brings no executor of its own; offer a model in a [[models]] section",
                    self.program.name
                ))),
                None => Ok(Vec::new()),
            };
        };
        load(&ExecutorConfig {
            settings: config.executor.clone(),
            folder: config.folder.clone(),
            slots: config.settings.slots,
        })
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// What the executors of a [`Host`] are set up from.
#[derive(Debug, Clone)]
pub struct ExecutorConfig {
    settings: Option<Value>,
    folder: PathBuf,
    slots: u32,
}

impl ExecutorConfig {
    /// The section `[executor]` of the settings file, with overrides from the environment such as
    /// `CUCKOO_MINER__EXECUTOR__WIDTH=640`; read like an empty one when it is left out.
    ///
    /// # Errors
    /// `Invalid` that names the field which is unknown, missing or of a wrong type.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        let settings = self.settings.clone();
        let settings = settings.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        serde_json::from_value(settings)
            .map_err(|source| Error::invalid(format!("[executor]: {source}")))
    }

    /// A path of the settings file, which is relative to that file's folder.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.join(path)
    }

    /// How many runs the miner starts at once.
    pub fn slots(&self) -> u32 {
        self.slots
    }
}

#[cfg(test)]
mod tests {
    use cuckoo_core::ErrorKind;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        width: u32,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self { width: 7 }
        }
    }

    fn config(settings: Option<Value>) -> ExecutorConfig {
        ExecutorConfig {
            settings,
            folder: "market".into(),
            slots: 2,
        }
    }

    #[test]
    fn settings_are_the_authors_own_and_mistakes_are_named() {
        let width = |settings| Ok::<_, Error>(config(settings).settings::<Settings>()?.width);
        assert_eq!(width(None).unwrap(), 7);
        assert_eq!(width(Some(json!({ "width": 9 }))).unwrap(), 9);
        for (wrong, named) in [
            (json!({ "widht": 9 }), "widht"),
            (json!({ "width": "x" }), "[executor]"),
        ] {
            let error = width(Some(wrong)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.message().contains(named), "{error}");
        }
        assert_eq!(config(None).path("model"), Path::new("market/model"));
    }
}
