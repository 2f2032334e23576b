//! Tensors of GGUF files: numbers in blocks, and rows in the order of another rotation.

use std::fs::File;

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;

use super::{Entry, Shard, Weights};
use crate::model::error::Result;
use crate::model::gguf::Header;

impl Weights {
    /// The tensors of a GGUF file, opened for reading. Layers ask for a tensor by the name that `naming` makes the file's
    /// own; `heads` says of a tensor of the file in how many heads its rows are pairs.
    pub(crate) fn quantized(
        file: File,
        header: &Header,
        naming: fn(&str) -> String,
        heads: impl Fn(&str) -> usize,
        device: &Device,
    ) -> Self {
        let mut weights = Self::empty(device);
        weights.naming = naming;
        for (name, place) in header.tensors() {
            let entry = Entry {
                shard: 0,
                shape: place.shape.clone(),
                storage: place.storage,
                start: place.start,
                bytes: place.bytes,
                heads: heads(name),
                taken: false.into(),
            };
            weights.tensors.insert(name.to_owned(), entry);
        }
        weights.shards.push(Shard {
            name: header.file().to_owned(),
            file: file.into(),
        });
        weights
    }
}

/// The numbers in whole blocks.
pub(super) fn widen(kind: GgmlDType, bytes: &[u8]) -> Result<Vec<f32>> {
    let numbers = bytes.len() / kind.type_size() * kind.block_size();
    let tensor = qtensor_from_ggml(kind, bytes, vec![numbers], &Device::Cpu)?;
    Ok(tensor.dequantize(&Device::Cpu)?.to_vec1()?)
}

/// `rows` rows of `heads` heads, of each head the first rows of all its pairs and then the second ones; `None` where rows do
/// not come out even.
pub(super) fn unpaired(values: &[f32], rows: usize, heads: usize) -> Option<Vec<f32>> {
    if rows == 0 || !rows.is_multiple_of(2 * heads) {
        return None;
    }
    let (depth, width) = (rows / heads, values.len() / rows);
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, place) = (row / depth, row % depth);
        let (side, pair) = (place / (depth / 2), place % (depth / 2));
        let from = (head * depth + 2 * pair + side) * width;
        out.extend_from_slice(&values[from..from + width]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_rows_are_parted_within_each_head() {
        let values: Vec<f32> = (0..8).map(|i| i as f32).collect();
        let parted = unpaired(&values, 8, 2).unwrap();
        assert_eq!(parted, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        let wide = unpaired(&values, 4, 1).unwrap();
        assert_eq!(wide, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert!(unpaired(&values, 6, 2).is_none());
        assert!(unpaired(&[], 0, 2).is_none());
    }

    #[test]
    fn blocks_are_widened() {
        // One of Q8_0: a scale in half precision, 32 numbers of a byte each.
        let mut block = half::f16::from_f32(0.5).to_le_bytes().to_vec();
        block.extend((0..32).map(|i: i8| (i - 16) as u8));
        let values = widen(GgmlDType::Q8_0, &block).unwrap();
        assert_eq!((values.len(), values[0], values[31]), (32, -8.0, 7.5));
    }
}
