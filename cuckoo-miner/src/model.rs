//! What every kind of model reads from its folder: settings, weights, and the hash that names them.

pub(crate) mod error;
pub(crate) mod folder;
pub(crate) mod marks;
pub(crate) mod memory;
pub(crate) mod settings;
pub(crate) mod weights;
