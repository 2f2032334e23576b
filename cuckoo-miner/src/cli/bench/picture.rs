//! Pictures: a step of the denoiser, and all of it.

use cuckoo_core::Result;

use super::row::Unit;
use super::{Bench, Timed};
use crate::cli::models::picture::{draw, request};
use crate::{ImageModel, ImageRequest};

pub(super) async fn measure(bench: &mut Bench<'_>, model: &ImageModel) -> Result<()> {
    let mut request = request(model, "a cuckoo on a branch", 1);
    request.steps = bench.arguments.steps.unwrap_or(request.steps);
    let ImageRequest { steps, .. } = request;
    let (width, height) = model.default_size();
    let what = format!("picture of {width}x{height} in {steps} steps");
    let [each, whole] = bench
        .repeat(&what, async || {
            let drawn = draw(model, &request)?;
            Ok([
                Timed::new(drawn.timed_steps, drawn.steps_took),
                Timed::new(1, drawn.took),
            ])
        })
        .await?;
    bench.note(
        format!("step of {width}x{height}"),
        Unit::SecondsAStep,
        &each,
    );
    bench.note(what, Unit::SecondsAPicture, &whole);
    Ok(())
}
