//! Texts: prompts read, and texts written alone and beside each other.

use std::sync::Arc;

use cuckoo_core::{Result, TextInput, TextPrompt};

use super::row::Unit;
use super::{Bench, Timed, text_of};
use crate::cli::models::text::write;
use crate::{LanguageModel, TextExecutor, TextLimits};

/// Tokens of the prompts that are read.
const READ: [usize; 2] = [128, 512];
/// Tokens of a text that is written.
const WRITTEN: usize = 64;
/// Texts beside each other, unless the operator asks for others.
const TOGETHER: u32 = 8;

pub(super) async fn measure(
    bench: &mut Bench<'_>,
    model: LanguageModel,
    limits: TextLimits,
) -> Result<()> {
    let together = bench.arguments.together.unwrap_or(TOGETHER);
    let context = model.context();
    let model = Arc::new(model.endless());
    let limits = TextLimits {
        texts: together as usize,
        ..limits
    };
    let executor = TextExecutor::new(Arc::clone(&model), "bench".parse()?).with_limits(limits)?;
    // With room for an answer of one token.
    let mut lengths = READ
        .map(|length| length.min(context.saturating_sub(1)).max(1))
        .to_vec();
    lengths.dedup();
    for length in lengths {
        let tokens =
            |text: &str| -> Result<usize> { Ok(model.tokens(TextPrompt::Prompt(text))?.len()) };
        let prompt = text_of(length, tokens);
        let read = tokens(&prompt)?;
        let input = TextInput {
            max_tokens: Some(1),
            ..TextInput::completion(prompt)
        };
        let test = format!("prompt of {read} tokens read");
        let [samples] = bench
            .repeat(&test, async || {
                let (_, took) = write(&executor, &input, 1, 1).await?;
                Ok([Timed::new(read, took)])
            })
            .await?;
        bench.note(test, Unit::TokensASecond, &samples);
    }
    let written = WRITTEN.min(context / 2).max(1);
    let input = TextInput {
        max_tokens: Some(written as u32),
        ..TextInput::completion("a")
    };
    let mut counts = vec![1, together];
    counts.dedup();
    for count in counts {
        let test = match count {
            1 => format!("text of {written} tokens written alone"),
            _ => format!("{count} texts of {written} tokens written together"),
        };
        let [samples] = bench
            .repeat(&test, async || {
                let (runs, took) = write(&executor, &input, 1, count).await?;
                let made: u64 = runs.iter().map(|run| run.usage.output_units).sum();
                Ok([Timed::new(made as usize, took)])
            })
            .await?;
        bench.note(test, Unit::TokensASecond, &samples);
    }
    Ok(())
}
