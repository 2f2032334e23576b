//! Embeddings: one text, and many in one task.

use cuckoo_core::Result;

use super::row::Unit;
use super::{Bench, Timed, text_of};
use crate::cli::models::embedding::embed;
use crate::{EmbeddingLimits, EmbeddingModel};

/// Tokens of a text.
const LENGTH: usize = 32;
/// Texts of a task, unless the operator asks for others.
const TOGETHER: u32 = 32;

pub(super) async fn measure(
    bench: &mut Bench<'_>,
    model: &EmbeddingModel,
    limits: EmbeddingLimits,
) -> Result<()> {
    let tokens = |text: &str| -> Result<usize> { Ok(model.tokens(text)?.len()) };
    let text = text_of(LENGTH.min(model.longest()), tokens);
    let length = tokens(&text)?;
    let mut counts = vec![1, bench.arguments.together.unwrap_or(TOGETHER)];
    counts.dedup();
    for count in counts {
        let count = count as usize;
        let test = match count {
            1 => format!("a text of {length} tokens embedded"),
            _ => format!("{count} texts of {length} tokens embedded together"),
        };
        let [samples] = bench
            .repeat(&test, async || {
                let took = embed(model, &text, count, limits.batch_tokens)?;
                Ok([Timed::new(count, took)])
            })
            .await?;
        bench.note(test, Unit::TextsASecond, &samples);
    }
    Ok(())
}
