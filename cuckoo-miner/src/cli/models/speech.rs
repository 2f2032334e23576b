//! A look at a Whisper.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cuckoo_core::{
    B256, BlobId, Clock as _, Error, Result, SystemClock, Transcript, TranscriptionInput,
};

use super::{CheckArgs, parts};
use crate::{Recording, SpeechModel};

/// The longest recording that is tried.
const MAX_SECONDS: u32 = 86_400;

/// Loads the folder; writes down the recording, if there is one.
pub(super) fn check(arguments: &CheckArgs) -> Result<()> {
    let model = SpeechModel::load(&arguments.folder)?;
    println!("hash     {}", B256::from(model.model_hash()));
    println!("kernels  {}", model.kernels());
    println!("windows  of {} s", model.window_millis() as f64 / 1e3);
    println!("knows    {}", model.languages().join(", "));
    for (part, bytes) in parts(&arguments.folder)? {
        println!("{part:<32} {bytes:>12} bytes");
    }
    match &arguments.audio {
        Some(file) => try_out(&model, file, arguments),
        None => Ok(()),
    }
}

fn try_out(model: &SpeechModel, file: &Path, arguments: &CheckArgs) -> Result<()> {
    let unreadable =
        |source| Error::not_found(format!("cannot read {}", file.display())).with_source(source);
    let bytes = fs::read(file).map_err(unreadable)?;
    let recording = Recording::from_wav(&bytes, MAX_SECONDS)?;
    let input = TranscriptionInput {
        language: arguments.language.clone(),
        prompt: arguments.prompt.clone(),
        seed: Some(arguments.seed()),
        ..TranscriptionInput::new(BlobId::of(&bytes))
    };
    if let Some((_, message)) = input.fault() {
        return Err(Error::invalid(message));
    }
    model.check(&input)?;
    let (transcript, took) = write_down(model, &recording, &input)?;
    println!("\nlanguage {}", transcript.language);
    for segment in &transcript.segments {
        let (start, end) = (
            segment.start_millis as f64 / 1e3,
            segment.end_millis as f64 / 1e3,
        );
        println!("{start:>9.2} to {end:.2} s  {}", segment.text);
    }
    let (seconds, took) = (recording.millis() as f64 / 1e3, took.as_secs_f64());
    println!(
        "\n{seconds:.1} s written down in {took:.2} s: {:.3} s a second",
        took / seconds.max(1e-3)
    );
    Ok(())
}

/// Writes a recording down; how long that took.
pub(crate) fn write_down(
    model: &SpeechModel,
    recording: &Recording,
    input: &TranscriptionInput,
) -> Result<(Transcript, Duration)> {
    let clock = SystemClock;
    let started = clock.now();
    let transcript = model.transcribe(recording, input)?;
    Ok((transcript, clock.now().since(started)))
}
