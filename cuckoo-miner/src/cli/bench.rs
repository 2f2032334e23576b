//! How fast models are on this machine.

mod embedding;
mod picture;
mod row;
mod speech;
mod text;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgGroup, Args};
use cuckoo_core::{B256, Clock as _, Error, Result, SystemClock};
use indicatif::ProgressBar;

use crate::cli::config::{Config, ModelConfig};
use crate::cli::models::CacheArgs;
use crate::cli::table::print_table;
use crate::{
    CpuKernels, EmbeddingLimits, EmbeddingModel, FolderKind, ImageModel, LanguageModel, Lora,
    SpeechModel, TextLimits,
};
use row::{About, Row, Unit};

/// Measures how fast models are: seconds a step and a picture, tokens read and written a second, texts embedded a second,
/// seconds of recordings written down a second.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("measured").required(true).args(["folder", "config"])))]
#[command(after_help = "\
Each measurement is repeated for --seconds, after a run that warms up and does not count; a single run that takes longer than
that counts alone. RUNS are its samples, MEDIAN the middle one, SPREAD from the lowest to the highest. Leave the machine alone
meanwhile: what else runs on it is measured, too.

Pictures are of the model's own size and made one at a time. Texts are written alone and --together (8); what ends a text is
ignored. Embeddings are of texts of 32 tokens, one and --together (32) in a task. Recordings are two
windows of faint noise; speech takes longer by the tokens that are in it.

Examples:
  PROGRAM bench examples/models/shapes
  PROGRAM bench Qwen/Qwen2.5-0.5B-Instruct --seconds 30 --together 16
  PROGRAM bench ~/models/sdxl --steps 4 --json > sdxl.json
  PROGRAM bench --config miner.toml")]
pub(crate) struct Arguments {
    /// The model's folder, or the name on the hub of a model in the cache.
    folder: Option<PathBuf>,
    /// Measures all models of these settings, as they set them up.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheArgs,
    /// How long each measurement goes on, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// So many texts at once: 8 to write and 32 to embed, unless given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    together: Option<u32>,
    /// Steps of a picture; the model's own unless given.
    #[arg(long)]
    steps: Option<usize>,
    /// As JSON, with every sample.
    #[arg(long)]
    json: bool,
}

/// A model to measure, and how a miner sets it up.
#[derive(Debug)]
struct Subject {
    name: String,
    folder: PathBuf,
    kind: FolderKind,
    loras: Vec<Lora>,
    text: TextLimits,
    embedding: EmbeddingLimits,
}

pub(crate) async fn bench(arguments: Arguments) -> Result<()> {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new_spinner(),
        false => ProgressBar::hidden(),
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut rows = Vec::new();
    for subject in subjects(&arguments)? {
        let mut bench = Bench {
            arguments: &arguments,
            bar: &bar,
            about: About {
                model: subject.name.clone(),
                kind: subject.kind,
                hash: B256::ZERO,
                kernels: String::new(),
                threads: rayon::current_num_threads(),
            },
            rows: Vec::new(),
        };
        bench.measure(subject).await?;
        rows.append(&mut bench.rows);
    }
    bar.finish_and_clear();
    if arguments.json {
        let json = serde_json::to_string_pretty(&rows)
            .map_err(|source| Error::internal("the rows have no JSON form").with_source(source))?;
        println!("{json}");
        return Ok(());
    }
    let table: Vec<_> = std::iter::once(Row::head())
        .chain(rows.iter().map(Row::cells))
        .collect();
    print_table(&table);
    println!("\non {} threads", rayon::current_num_threads());
    Ok(())
}

fn subjects(arguments: &Arguments) -> Result<Vec<Subject>> {
    let Some(path) = &arguments.config else {
        let folder = arguments.folder.clone().unwrap_or_default();
        let located = arguments.cache.locate(&folder)?;
        return Ok(vec![Subject {
            name: match located == folder {
                // The last part of a path, or the name on the hub.
                true => located.file_name().map_or_else(
                    || folder.display().to_string(),
                    |name| name.to_string_lossy().into_owned(),
                ),
                false => folder.display().to_string(),
            },
            kind: FolderKind::of(&located),
            folder: located,
            loras: Vec::new(),
            text: TextLimits::default(),
            embedding: EmbeddingLimits::default(),
        }]);
    };
    let config = Config::load(path)?;
    if config.models.is_empty() {
        return Err(Error::invalid(format!(
            "{} has no [[models]] section; add one, or name a folder",
            path.display()
        )));
    }
    let subject = |model: &ModelConfig| -> Result<Subject> {
        Ok(Subject {
            name: model.name.to_string(),
            folder: model.located()?,
            kind: model.kind.into(),
            loras: model.loras.clone(),
            text: model.text_limits(config.settings.slots),
            embedding: model.embedding_limits(),
        })
    };
    config.models.iter().map(subject).collect()
}

/// Work done, and the seconds it took.
#[derive(Debug, Clone, Copy, Default)]
struct Timed {
    units: f64,
    seconds: f64,
}

impl Timed {
    fn new(units: usize, took: Duration) -> Self {
        Self {
            units: units as f64,
            seconds: took.as_secs_f64(),
        }
    }
}

/// The measurements of one model.
#[derive(Debug)]
struct Bench<'a> {
    arguments: &'a Arguments,
    bar: &'a ProgressBar,
    about: About,
    rows: Vec<Row>,
}

impl Bench<'_> {
    /// Runs on one sample for so long at the least, since clocks tell milliseconds.
    const SAMPLE: Duration = Duration::from_millis(100);

    async fn measure(&mut self, subject: Subject) -> Result<()> {
        let Subject { folder, kind, .. } = &subject;
        self.bar
            .set_message(format!("{}: loading", self.about.model));
        match kind {
            FolderKind::Image => {
                let kernels = Arc::new(CpuKernels::new());
                let model = ImageModel::load_with_loras(folder, &subject.loras, kernels)?;
                self.about.hash = model.model_hash().into();
                self.about.kernels = model.kernels().to_owned();
                picture::measure(self, &model).await
            }
            FolderKind::Embedding => {
                let model = EmbeddingModel::load(folder)?;
                self.about.hash = model.model_hash().into();
                self.about.kernels = model.kernels().to_owned();
                embedding::measure(self, &model, subject.embedding).await
            }
            FolderKind::Speech => {
                let model = SpeechModel::load(folder)?;
                self.about.hash = model.model_hash().into();
                self.about.kernels = model.kernels().to_owned();
                speech::measure(self, &model).await
            }
            FolderKind::Text | FolderKind::Other => {
                let model = LanguageModel::load(folder)?;
                self.about.hash = model.model_hash().into();
                self.about.kernels = model.kernels().to_owned();
                text::measure(self, model, subject.text).await
            }
        }
    }

    /// Repeats `run`, which tells how long each of its parts took; the samples of each part.
    async fn repeat<const N: usize>(
        &self,
        test: &str,
        mut run: impl AsyncFnMut() -> Result<[Timed; N]>,
    ) -> Result<[Vec<Timed>; N]> {
        let clock = SystemClock;
        let enough = Duration::from_secs(self.arguments.seconds);
        self.bar
            .set_message(format!("{}: {test}, warming up", self.about.model));
        let began = clock.now();
        let first = run().await?;
        if clock.now().since(began) >= enough {
            return Ok(first.map(|timed| vec![timed]));
        }
        let mut samples: [Vec<Timed>; N] = std::array::from_fn(|_| Vec::new());
        let began = clock.now();
        while samples.iter().any(Vec::is_empty) || clock.now().since(began) < enough {
            let mut sample = [Timed::default(); N];
            let at = clock.now();
            loop {
                for (sum, timed) in sample.iter_mut().zip(run().await?) {
                    sum.units += timed.units;
                    sum.seconds += timed.seconds;
                }
                if clock.now().since(at) >= Self::SAMPLE {
                    break;
                }
            }
            for (samples, timed) in samples.iter_mut().zip(sample) {
                samples.push(timed);
            }
            let done = samples.iter().map(Vec::len).max().unwrap_or(0);
            self.bar
                .set_message(format!("{}: {test}, {done} samples", self.about.model));
        }
        Ok(samples)
    }

    /// Notes what a test gave.
    fn note(&mut self, test: impl Into<String>, unit: Unit, samples: &[Timed]) {
        let rate = |timed: &Timed| unit.of(timed.units, timed.seconds);
        let samples: Vec<f64> = samples.iter().map(rate).collect();
        let row = Row::new(&self.about, test.into(), unit, samples);
        self.rows.push(row);
    }
}

/// A text of as many tokens as fit into `length`, by what `tokens` counts.
fn text_of(length: usize, tokens: impl Fn(&str) -> Result<usize>) -> String {
    const WORD: &str = " a";
    let mut text = "a".to_owned();
    // Hardly any tokenizer makes less than a token of a word.
    for _ in 1..length {
        let longer = format!("{text}{WORD}");
        if tokens(&longer).is_ok_and(|tokens| tokens <= length) {
            text = longer;
        }
    }
    text
}
