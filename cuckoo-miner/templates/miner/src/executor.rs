//! What this miner runs: numbers in, a bar chart (SVG) out. Put your model in its place.

use cuckoo_core::{
    Assignment, Capability, Error, ModelId, Output, Result, Usage, Wei, payload_hash,
};
use cuckoo_miner::{Execution, Executor, TaskContext};
use serde::Deserialize;

/// The section `[executor]` of miner.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The name that requesters ask for.
    pub model: ModelId,
    /// The least pay for a task, in CAI.
    #[serde(default, with = "cuckoo_core::cai_text")]
    pub min_price: Wei,
    /// The most bars that this machine draws for one task; a larger one is given back for another miner.
    #[serde(default = "default_max_bars")]
    pub max_bars: usize,
}

fn default_max_bars() -> usize {
    10_000
}

/// A task's input: JSON that a stranger wrote. The coordinator adds a `seed` where there is none; all randomness comes
/// from it, so that a second miner can repeat the task. An unknown field is an error, for a misspelt one would do nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    /// Heights, 0 to 100.
    bars: Vec<u8>,
    /// Picks the colour.
    seed: u64,
}

/// Draws bar charts.
#[derive(Debug)]
pub struct Charts {
    settings: Settings,
}

impl Charts {
    /// Charts within the limits of `settings`.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn read(&self, input: &str) -> Result<Input> {
        let input: Input = serde_json::from_str(input).map_err(|source| {
            // `invalid` blames the requester, who is told what would be right.
            Error::invalid("the input is not {\"bars\": numbers from 0 to 100}").with_source(source)
        })?;
        if let Some(bar) = input.bars.iter().find(|bar| **bar > 100) {
            return Err(Error::invalid(format!("a bar of {bar}; they are 0 to 100")));
        }
        if input.bars.len() > self.settings.max_bars {
            // `rejected` blames nobody: another miner is asked.
            return Err(Error::rejected(format!(
                "{} bars are beyond this miner's limit of {}",
                input.bars.len(),
                self.settings.max_bars
            )));
        }
        Ok(input)
    }
}

#[async_trait::async_trait]
impl Executor for Charts {
    fn capabilities(&self) -> Vec<Capability> {
        // Receipts name this hash: make it of the files that decide the output. `svg-1` says how it is computed: miners
        // that say the same must give the same bytes, so raise the number when they change.
        let hash = payload_hash(b"charts, version 1");
        vec![Capability {
            min_price: self.settings.min_price,
            ..Capability::new(self.settings.model.clone(), hash, "svg-1")
        }]
    }

    // Work that computes for long belongs into `tokio::task::spawn_blocking`.
    async fn execute(&self, task: Assignment, context: TaskContext) -> Result<Execution> {
        let input = self.read(&task.input)?;
        let hue = input.seed % 360;
        let mut svg = format!(
            "<svg xmlns='http://www.w3.org/2000/svg' transform='scale(1 -1)' fill='hsl({hue} 70% 50%)'>"
        );
        context.emit(&svg);
        for (number, bar) in input.bars.iter().enumerate() {
            if context.is_cancelled() {
                return Err(Error::cancelled("stopped between two bars"));
            }
            let rect = format!("<rect x='{}' width='8' height='{bar}'/>", 10 * number);
            // What is emitted is shown before the task is done; the output begins with exactly that.
            context.emit(&rect);
            svg += &rect;
            let done = (number + 1) * 1_000 / input.bars.len();
            context.progress(u16::try_from(done).unwrap_or(1_000));
        }
        svg += "</svg>";
        let usage = Usage {
            input_units: input.bars.len() as u64,
            output_units: input.bars.len() as u64,
            ..Usage::default()
        };
        Ok(Execution::new(Output::new("image/svg+xml", svg)).with_usage(usage))
    }
}
