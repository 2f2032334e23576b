//! Cuckoo for Python: conversion, error mapping and a runtime. All behaviour is in the Rust crates.

mod convert;
mod coordinator;
mod error;
mod executor;
mod market;
mod miner;
mod models;
mod runtime;
mod server;

use pyo3::prelude::*;

#[pymodule]
fn _cuckoo(module: &Bound<'_, PyModule>) -> PyResult<()> {
    runtime::load(module)?;
    error::register(module)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<market::LocalMarket>()?;
    module.add_class::<coordinator::Coordinator>()?;
    module.add_class::<coordinator::Task>()?;
    module.add_class::<coordinator::TaskResult>()?;
    module.add_class::<server::Server>()?;
    module.add_class::<miner::Miner>()?;
    module.add_class::<models::ModelExecutor>()?;
    module.add_class::<models::ImageExecutor>()?;
    module.add_class::<models::TextExecutor>()?;
    module.add_class::<models::EmbeddingExecutor>()?;
    module.add_class::<models::SpeechExecutor>()?;
    module.add_class::<executor::TaskContext>()?;
    Ok(())
}
