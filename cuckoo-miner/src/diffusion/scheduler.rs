//! A pipeline's way from noise to picture: over the noise levels of a diffusion, or along a flow.

use super::error::Result;
use super::flow::Flow;
use super::folder::Folder;
use super::index::Family;
use super::request::Sampler;
use super::schedule::{self, Run, Schedule};

/// What `scheduler/` says, in either way.
#[derive(Debug)]
pub(crate) enum Scheduler {
    Diffusion(Schedule),
    Flow(Flow),
}

impl Scheduler {
    /// Reads `scheduler/`.
    pub(crate) fn load(folder: &mut Folder, family: Family) -> Result<Self> {
        let settings = schedule::settings(folder)?;
        Ok(match family {
            Family::StableDiffusion => Self::Diffusion(Schedule::read(settings, true)?),
            Family::Xl { .. } => Self::Diffusion(Schedule::read(settings, false)?),
            Family::Flux => Self::Flow(Flow::read(settings)?),
        })
    }

    /// A run of `steps` steps to a picture of so many `patches`, by `sampler` or as the folder says.
    pub(crate) fn run(
        &self,
        sampler: Option<Sampler>,
        steps: usize,
        patches: usize,
    ) -> Result<Box<dyn Run>> {
        match self {
            Self::Diffusion(schedule) => schedule.run(sampler, steps),
            Self::Flow(flow) => Ok(Box::new(flow.run(sampler, steps, patches)?)),
        }
    }

    /// The first of `steps` steps for a run from a picture; all of them are left out where `strength` leaves none.
    pub(crate) fn first(&self, steps: usize, strength: f64) -> usize {
        let run = steps as f64 * strength;
        match self {
            Self::Diffusion(_) => steps - (run as usize).min(steps),
            // diffusers rounds the steps that are left out.
            Self::Flow(_) => (steps as f64 - run).max(0.0) as usize,
        }
    }

    /// What the latents `x` are without noise when `y` is predicted of them, which have these shares of picture and noise.
    pub(crate) fn picture(&self, x: f32, y: f32, (picture, noise): (f32, f32)) -> f32 {
        match self {
            Self::Diffusion(schedule) => schedule.prediction.picture(x, y, picture, noise),
            Self::Flow(_) => x - noise * y,
        }
    }

    /// Whether the folder is set up as those of diffusions that were distilled to few steps.
    pub(crate) fn is_distilled(&self) -> bool {
        matches!(self, Self::Diffusion(schedule) if schedule.is_distilled())
    }
}
