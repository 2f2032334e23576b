//! What is added to a tensor when it is read.

use std::rc::Rc;

use rayon::prelude::*;

use super::Weights;
use crate::model::error::{Error, Result};

/// The product of two thin matrices, `factor * up * down` (Hu et al., "LoRA: low-rank adaptation of large language models",
/// 2022). `down` is `[rank, ...]`, `up` is `[out, rank]` up to dimensions of size 1, tensors of `source`.
#[derive(Debug, Clone)]
pub(crate) struct LowRank {
    pub(crate) source: Rc<Weights>,
    pub(crate) down: String,
    pub(crate) up: String,
    pub(crate) factor: f32,
}

impl LowRank {
    /// Adds it to the tensor `name` of `shape`. Each number is summed in the same order on any number of threads.
    pub(super) fn add_to(&self, name: &str, shape: &[usize], values: &mut [f32]) -> Result<()> {
        let (down, up) = (
            self.source.values(&self.down)?,
            self.source.values(&self.up)?,
        );
        let rank = self.source.shape(&self.down).first().copied().unwrap_or(0);
        let rows = shape.first().copied().unwrap_or(0);
        let columns = values.len() / rows.max(1);
        if rank == 0 || columns == 0 || down.len() != rank * columns || up.len() != rows * rank {
            return Err(Error::Lora {
                file: self.source.file().to_owned(),
                problem: format!(
                    "`{}` and `{}` have shapes {:?} and {:?}, whose product does not fit `{name}` of {shape:?}",
                    self.down,
                    self.up,
                    self.source.shape(&self.down),
                    self.source.shape(&self.up),
                ),
            });
        }
        let factor = self.factor;
        values
            .par_chunks_mut(columns)
            .zip(up.par_chunks(rank))
            .for_each(|(row, up)| {
                for (down, up) in down.chunks_exact(columns).zip(up) {
                    let share = up * factor;
                    row.iter_mut().zip(down).for_each(|(x, y)| *x += share * y);
                }
            });
        Ok(())
    }
}
