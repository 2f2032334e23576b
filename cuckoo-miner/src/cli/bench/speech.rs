//! Recordings: two windows of noise.

use cuckoo_core::{BlobId, Result, TranscriptionInput};

use super::row::Unit;
use super::{Bench, Timed};
use crate::cli::models::speech::write_down;
use crate::{Philox, Recording, SpeechModel};

pub(super) async fn measure(bench: &mut Bench<'_>, model: &SpeechModel) -> Result<()> {
    let seconds = (2 * model.window_millis()).div_ceil(1000) as usize;
    let noise = Philox::new(1).normal(seconds * Recording::RATE as usize);
    let recording = Recording::from_samples(noise.iter().map(|x| 0.01 * x).collect())?;
    let input = TranscriptionInput::new(BlobId::of(b"noise"));
    let test = format!("a recording of {seconds} s written down");
    let [samples] = bench
        .repeat(&test, async || {
            let (_, took) = write_down(model, &recording, &input)?;
            Ok([Timed::new(seconds, took)])
        })
        .await?;
    bench.note(test, Unit::SecondsASecond, &samples);
    Ok(())
}
