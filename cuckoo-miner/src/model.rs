//! What every kind of model reads from its folder: settings, weights, and the hash that names them; and what several
//! kinds are built of.

pub(crate) mod cache;
pub(crate) mod distance;
pub(crate) mod error;
pub(crate) mod folder;
pub(crate) mod gguf;
pub(crate) mod layers;
pub(crate) mod marks;
pub(crate) mod memory;
pub(crate) mod settings;
pub(crate) mod tokenizer;
pub(crate) mod transformers;
pub(crate) mod weights;
