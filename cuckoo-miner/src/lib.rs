//! The miner: polls coordinators, executes tasks on local models and returns signed results.

mod diffusion;
mod kernels;
mod noise;
