//! What a run tells of itself between its steps.

use std::fmt;

use super::ImageModel;
use super::error::Result;
use super::image::Image;
use super::palette::{PATCH, Palette};

/// How far a run has come.
#[derive(Clone, Copy)]
pub struct Progress<'a> {
    /// Steps done: 0 before the prompts are read, and once more before the first step.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// The last of these steps; none before the first.
    pub(crate) seen: Option<Seen<'a>>,
}

/// What a step went by. Borrowed, so that it costs nothing where nobody looks.
#[derive(Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(super) pipeline: &'a ImageModel,
    /// Of the latents.
    pub(super) height: usize,
    pub(super) width: usize,
    /// How much of picture and of noise the denoiser's input has.
    pub(super) shares: (f32, f32),
    pub(super) input: &'a [f32],
    pub(super) prediction: &'a [f32],
}

impl fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress")
            .field("step", &self.step)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen")
            .field("shares", &self.shares)
            .finish_non_exhaustive()
    }
}

impl Progress<'_> {
    /// What the picture looks like so far: of at most 64 pixels a side, one for each latent or a square of them, in the
    /// colours that fit the decoder best. `None` before the first step, and where the numbers make no picture.
    ///
    /// The first call on a pipeline decodes a few small patches of colour; every later one costs little beside a step. What a
    /// run makes stays the same.
    pub fn preview(&self) -> Option<Image> {
        let seen = self.seen?;
        let picture = seen
            .pipeline
            .palette()
            .and_then(|palette| palette.picture(&seen.foreseen(), seen.height, seen.width));
        picture
            .inspect_err(|error| tracing::debug!(%error, "no preview of a picture"))
            .ok()
    }
}

impl Seen<'_> {
    /// The latents without noise, as the step's prediction implies them: sharper than the step's own latents, most of which
    /// is noise for long.
    pub(super) fn foreseen(&self) -> Vec<f32> {
        let scheduler = &self.pipeline.scheduler;
        let both = self.input.iter().zip(self.prediction);
        both.map(|(x, y)| scheduler.picture(*x, *y, self.shares))
            .collect()
    }
}

impl ImageModel {
    /// The colours of its latents, found at the first call.
    pub(super) fn palette(&self) -> Result<&Palette> {
        if let Some(palette) = self.palette.get() {
            return Ok(palette);
        }
        // Not under a lock, which threads of one pool that wait for each other's work might never leave: runs that ask at the
        // same time find the same.
        let channels = self.vae.channels();
        let palette = Palette::fit(channels, |n, latents| {
            self.decode_latents([n, channels, PATCH, PATCH], latents)
        })?;
        Ok(self.palette.get_or_init(|| palette))
    }
}
