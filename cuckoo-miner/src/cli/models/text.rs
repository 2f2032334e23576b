//! A look at a language model.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::{
    B256, Clock as _, Error, FinishReason, Message, Result, Role, SystemClock, TextInput,
    TextOutput,
};
use futures::future::try_join_all;

use super::{CheckArgs, parts};
use crate::{
    Execution, Executor as _, LanguageModel, TaskContext, TextExecutor, TextLimits, Trial,
};

/// How long texts may take.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Of a text, unless --max-tokens says otherwise.
const MAX_TOKENS: u32 = 64;

/// Loads the folder; goes on from the prompt, if there is one, in as many texts at once as asked for.
pub(super) async fn check(arguments: &CheckArgs) -> Result<()> {
    let model = Arc::new(LanguageModel::load(&arguments.folder)?);
    println!("hash     {}", B256::from(model.model_hash()));
    println!("kernels  {}", model.kernels());
    println!("context  {} tokens", model.context());
    println!(
        "takes    {}",
        if model.chats() {
            "conversations and prompts"
        } else {
            "prompts; it has no chat template"
        }
    );
    for (part, bytes) in parts(&arguments.folder)? {
        println!("{part:<32} {bytes:>12} bytes");
    }
    let Some(prompt) = &arguments.prompt else {
        return Ok(());
    };
    let input = if model.chats() {
        TextInput::chat(vec![Message {
            role: Role::User,
            content: prompt.clone(),
        }])
    } else {
        TextInput::completion(prompt)
    };
    let limits = TextLimits {
        texts: arguments.together() as usize,
        ..TextLimits::default()
    };
    let executor = TextExecutor::new(model, "check".parse()?).with_limits(limits)?;
    let max_tokens = arguments.max_tokens.unwrap_or(MAX_TOKENS);
    let input = TextInput {
        max_tokens: Some(max_tokens),
        ..input
    };
    let (runs, took) = write(&executor, &input, arguments.seed(), arguments.together()).await?;
    let took = took.as_secs_f64();
    for run in &runs {
        let output = TextOutput::read(&run.output)?;
        let end = match output.finish_reason {
            FinishReason::Stop => "the model was done",
            FinishReason::Length if run.usage.output_units < u64::from(max_tokens) => {
                "there was no room for more"
            }
            FinishReason::Length => "ended by --max-tokens",
        };
        println!("\n{}\n({end})", output.text);
    }
    let read: u64 = runs.iter().map(|run| run.usage.input_units).sum();
    let made: u64 = runs.iter().map(|run| run.usage.output_units).sum();
    println!(
        "\n{read} tokens read and {made} made in {took:.2} s, {:.1} made a second",
        made as f64 / took.max(1e-3)
    );
    Ok(())
}

/// Writes so many texts at once, with seeds that count on from `seed`; how long that took.
pub(crate) async fn write(
    executor: &TextExecutor,
    input: &TextInput,
    seed: u64,
    together: u32,
) -> Result<(Vec<Execution>, Duration)> {
    let clock = SystemClock;
    let started = clock.now();
    let deadline = started.after(PATIENCE);
    let runs = (0..together).map(|i| {
        let input = TextInput {
            seed: Some(seed.wrapping_add(u64::from(i))),
            ..input.clone()
        };
        async move {
            let input = serde_json::to_string(&input).map_err(|source| {
                Error::internal("the prompt has no JSON form").with_source(source)
            })?;
            let task = Trial::new("a text", input).assignment("check".parse()?, deadline);
            executor.execute(task, TaskContext::new(deadline)).await
        }
    });
    let runs = try_join_all(runs).await?;
    Ok((runs, clock.now().since(started)))
}
