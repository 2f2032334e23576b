//! A look at a sentence encoder.

use std::time::Duration;

use cuckoo_core::{B256, Clock as _, Error, Result, SystemClock};

use super::{CheckArgs, parts};
use crate::{EmbeddingLimits, EmbeddingModel};

/// Numbers of the vector that are shown.
const SHOWN: usize = 8;

/// Loads the folder; embeds the prompt, if there is one, in as many copies as asked for.
pub(super) fn check(arguments: &CheckArgs) -> Result<()> {
    let model = EmbeddingModel::load(&arguments.folder)?;
    println!("hash     {}", B256::from(model.model_hash()));
    println!("kernels  {}", model.kernels());
    println!("vectors  {} numbers", model.dimensions());
    println!("texts    of {} tokens, cut beyond", model.longest());
    for (part, bytes) in parts(&arguments.folder)? {
        println!("{part:<32} {bytes:>12} bytes");
    }
    match &arguments.prompt {
        Some(prompt) => try_out(&model, prompt, arguments.together() as usize),
        None => Ok(()),
    }
}

fn try_out(model: &EmbeddingModel, prompt: &str, copies: usize) -> Result<()> {
    let tokens = model.tokens(prompt)?.len();
    let first = model.embed(&[prompt])?;
    let vector = first
        .first()
        .ok_or_else(|| Error::internal("a text was embedded, and there is no vector"))?;
    let square: f64 = vector.iter().map(|x| f64::from(*x).powi(2)).sum();
    let shown: Vec<_> = vector[..SHOWN.min(vector.len())]
        .iter()
        .map(|x| format!("{x:.5}"))
        .collect();
    println!("\nlength {:.6}: {} ...", square.sqrt(), shown.join(" "));
    // The first run above found the memory.
    let batch = EmbeddingLimits::default().batch_tokens;
    let took = embed(model, prompt, copies, batch)?;
    let took = took.as_secs_f64().max(1e-3);
    println!(
        "{copies} texts of {tokens} tokens in {took:.3} s: {:.1} texts and {:.0} tokens a second",
        copies as f64 / took,
        (copies * tokens) as f64 / took
    );
    Ok(())
}

/// Embeds copies of a text, in batches of so many tokens; how long that took.
pub(crate) fn embed(
    model: &EmbeddingModel,
    text: &str,
    copies: usize,
    batch_tokens: usize,
) -> Result<Duration> {
    let batch = (batch_tokens / model.tokens(text)?.len()).max(1);
    let clock = SystemClock;
    let started = clock.now();
    let mut left = copies;
    while left > 0 {
        let now = left.min(batch);
        model.embed(&vec![text; now])?;
        left -= now;
    }
    Ok(clock.now().since(started))
}
