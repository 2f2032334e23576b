//! Safetensors files: their headers, and the index of those that belong together.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;

use safetensors::tensor::Metadata;

use super::{Entry, Shard, Storage, Weights};
use crate::model::error::{Error, Result};
use crate::model::folder::{Folder, TABLE_LIMIT};

impl Weights {
    /// Adds the tensors of one file.
    pub(super) fn add_shard(&mut self, (mut file, size): (File, u64), name: &str) -> Result<()> {
        let bad = |problem: String| Error::Weights {
            file: name.to_owned(),
            problem,
        };
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(|error| bad(format!("no header: {error}")))?;
        let length = u64::from_le_bytes(length);
        if length > TABLE_LIMIT || length > size - 8 {
            return Err(bad(format!(
                "its header claims {length} bytes of a file of {size}"
            )));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)
            .map_err(|error| bad(format!("short header: {error}")))?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| bad(error.to_string()))?;
        self.notes
            .extend(metadata.metadata().clone().unwrap_or_default());
        let data = 8 + length;
        let shard = self.shards.len();
        for (tensor, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            let elements = info
                .shape
                .iter()
                .try_fold(1_usize, |n, size| n.checked_mul(*size));
            let bytes = elements
                .and_then(|n| n.checked_mul(info.dtype.bitsize()))
                .map(|bits| bits / 8);
            if start > end || end as u64 > size - data || bytes != Some(end - start) {
                return Err(bad(format!(
                    "tensor `{tensor}` lies at {start}..{end}, which does not fit its shape or the file"
                )));
            }
            let entry = Entry {
                shard,
                shape: info.shape.clone(),
                storage: Storage::Plain(info.dtype),
                start: data + start as u64,
                bytes: end - start,
                heads: 0,
                taken: false.into(),
            };
            if self.tensors.insert(tensor.clone(), entry).is_some() {
                return Err(bad(format!("tensor `{tensor}` is also in another shard")));
            }
        }
        self.shards.push(Shard {
            name: name.to_owned(),
            file: file.into(),
        });
        Ok(())
    }
}

/// File names of the shards in an index, each once, in order.
pub(super) fn shard_names(folder: &mut Folder, index: &str) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let bytes = folder.bytes(index, TABLE_LIMIT)?;
    let parsed: Index = serde_json::from_slice(&bytes).map_err(|source| Error::Json {
        file: index.to_owned(),
        source,
    })?;
    let mut names: Vec<_> = parsed.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    // A shard lies beside its index: anything else would reach out of the folder.
    match names
        .iter()
        .find(|name| name.contains(['/', '\\']) || name.starts_with('.'))
    {
        Some(name) => Err(Error::Weights {
            file: index.to_owned(),
            problem: format!("`{name}` is not a plain file name"),
        }),
        None => Ok(names),
    }
}
