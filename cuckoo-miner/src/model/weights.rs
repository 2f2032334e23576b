//! Weights of one component: safetensors files, in one piece or in shards, or a GGUF file, read tensor by tensor.
//!
//! Only the header is kept in memory; a tensor's bytes are read when its layer asks for it by name and shape, and are
//! widened to `f32`. Layers have their matrices packed at once, by which those of 16 bits become 16 bits again. So loading
//! needs little more memory than the model does, and no header can make it allocate more than the file on disk holds.

mod low_rank;
mod quantized;
mod shards;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use candle_core::quantized::GgmlDType;
use candle_core::{Device, Tensor};
use half::{bf16, f16};
use safetensors::Dtype;

use super::error::{Error, Result};
use super::folder::Folder;
pub(crate) use low_rank::LowRank;
use shards::shard_names;

/// The tensors of one component.
#[derive(Debug)]
pub(crate) struct Weights {
    device: Device,
    shards: Vec<Shard>,
    tensors: HashMap<String, Entry>,
    /// What their writer noted in the file.
    notes: HashMap<String, String>,
    /// What is added to a tensor when it is read.
    added: HashMap<String, Vec<LowRank>>,
    /// How the file calls a tensor that layers ask for by another name.
    naming: fn(&str) -> String,
}

#[derive(Debug)]
struct Shard {
    name: String,
    file: RefCell<File>,
}

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// One by one.
    Plain(Dtype),
    /// In blocks of a few bits a number.
    Blocks(GgmlDType),
}

#[derive(Debug)]
struct Entry {
    shard: usize,
    shape: Vec<usize>,
    storage: Storage,
    /// Where its bytes are in the file.
    start: u64,
    bytes: usize,
    /// In how many heads neighbouring rows are a pair, where layers want the first rows of all pairs before the second; 0
    /// for rows as layers want them.
    heads: usize,
    taken: std::cell::Cell<bool>,
}

impl Weights {
    /// Opens the weights of `part` (a sub-folder, or empty for the folder itself), named `stem` as their writer does:
    /// `stem.safetensors`, `stem.fp16.safetensors`, or the shards that `stem.safetensors.index.json` lists; the first
    /// that exists.
    pub(crate) fn open(
        folder: &mut Folder,
        part: &str,
        stem: &str,
        device: &Device,
    ) -> Result<Self> {
        let mut weights = Self::empty(device);
        let within = |name: &str| match part {
            "" => name.to_owned(),
            part => format!("{part}/{name}"),
        };
        let single =
            ["safetensors", "fp16.safetensors"].map(|end| within(&format!("{stem}.{end}")));
        let index = within(&format!("{stem}.safetensors.index.json"));
        match single.iter().find(|name| folder.has(name)) {
            Some(name) => weights.add_shard(folder.file(name)?, name)?,
            None if folder.has(&index) => {
                for shard in shard_names(folder, &index)? {
                    let name = within(&shard);
                    weights.add_shard(folder.file(&name)?, &name)?;
                }
            }
            None => {
                return Err(Error::Missing {
                    file: single[0].clone(),
                });
            }
        }
        Ok(weights)
    }

    /// One file on its own, known by `name` in errors.
    pub(crate) fn single((file, size): (File, u64), name: &str, device: &Device) -> Result<Self> {
        let mut weights = Self::empty(device);
        weights.add_shard((file, size), name)?;
        Ok(weights)
    }

    fn empty(device: &Device) -> Self {
        Self {
            device: device.clone(),
            shards: Vec::new(),
            tensors: HashMap::new(),
            notes: HashMap::new(),
            added: HashMap::new(),
            naming: str::to_owned,
        }
    }

    /// Names of all tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor; empty for one that is not there.
    pub(crate) fn shape(&self, name: &str) -> &[usize] {
        self.tensors.get(name).map_or(&[], |entry| &entry.shape)
    }

    /// What the writer noted under `key` in the file.
    pub(crate) fn note(&self, key: &str) -> Option<&str> {
        self.notes.get(key).map(String::as_str)
    }

    /// Has `low_rank` added to the tensor `name` when it is read.
    pub(crate) fn add(&mut self, name: &str, low_rank: LowRank) {
        self.added
            .entry(name.to_owned())
            .or_default()
            .push(low_rank);
    }

    /// The tensors whose names begin with `prefix.` (all, when empty).
    pub(crate) fn part(&self, prefix: &str) -> Part<'_> {
        Part {
            weights: self,
            prefix: prefix.to_owned(),
        }
    }

    /// Counts the tensors' memory as the folder's.
    ///
    /// # Errors
    /// When they need more than is free, where that is known.
    pub(crate) fn fit(&self, folder: &mut Folder) -> Result<()> {
        let needed = self.memory();
        match (folder.free)().filter(|available| *available < needed) {
            Some(available) => Err(Error::Memory {
                file: self.file().to_owned(),
                needed,
                available,
            }),
            None => {
                folder.memory = folder.memory.saturating_add(needed);
                Ok(())
            }
        }
    }

    /// Bytes that all tensors together take in memory. Matrices are [packed](crate::Kernels::pack), so those stored in 16
    /// bits take 16, unless something is added to them; all else is `f32`. (What a few rows say of kinds of tokens and of
    /// distances is not packed, and too little to matter.)
    pub(crate) fn memory(&self) -> u64 {
        self.tensors.iter().fold(0, |sum, (name, entry)| {
            let narrow = match entry.storage {
                Storage::Plain(Dtype::F16 | Dtype::BF16) => {
                    entry.shape.len() == 2 && !self.added.contains_key(name)
                }
                Storage::Plain(_) | Storage::Blocks(_) => false,
            };
            let bytes = if narrow { 2 } else { 4 };
            let numbers = entry.shape.iter().product::<usize>() as u64;
            numbers.saturating_mul(bytes).saturating_add(sum)
        })
    }

    /// The name of the first file, for errors about all of them.
    fn file(&self) -> &str {
        self.shards
            .first()
            .map_or("model.safetensors", |shard| &shard.name)
    }

    /// Fails on a tensor that no layer asked for, except those that begin with one of `unused`, or end with one of
    /// those that begin with a dot.
    pub(crate) fn finish(&self, unused: &[&str]) -> Result<()> {
        let mut left: Vec<_> = self
            .tensors
            .iter()
            .filter(|(name, entry)| {
                let known = |part: &&str| match part.starts_with('.') {
                    true => name.ends_with(*part),
                    false => name.starts_with(*part),
                };
                !entry.taken.get() && !unused.iter().any(known)
            })
            .collect();
        left.sort_by_key(|(name, _)| *name);
        match left.first() {
            Some((name, entry)) => Err(self.error(
                entry.shard,
                name,
                "belongs to no layer of the configuration",
            )),
            None => Ok(()),
        }
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(self.error(0, name, "is missing"));
        };
        // A 1x1 convolution and a linear layer hold the same numbers; old checkpoints have either.
        let squeezed = |shape: &[usize]| {
            shape
                .iter()
                .copied()
                .filter(|size| *size != 1)
                .collect::<Vec<_>>()
        };
        if squeezed(&entry.shape) != squeezed(shape) {
            return Err(self.error(
                entry.shard,
                name,
                format!("has shape {:?} where {shape:?} is needed", entry.shape),
            ));
        }
        let mut values = self.values(name)?;
        for low_rank in self.added.get(name).into_iter().flatten() {
            low_rank.add_to(name, shape, &mut values)?;
        }
        if !values.iter().all(|value| value.is_finite()) {
            return Err(self.error(entry.shard, name, "holds numbers that are not finite"));
        }
        entry.taken.set(true);
        Ok(Tensor::from_vec(values, shape, &self.device)?)
    }

    /// The numbers of a tensor of any shape, as the file has them.
    pub(crate) fn values(&self, name: &str) -> Result<Vec<f32>> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(self.error(0, name, "is missing"));
        };
        let shard = &self.shards[entry.shard];
        let mut bytes = vec![0; entry.bytes];
        let mut file = shard.file.borrow_mut();
        file.seek(SeekFrom::Start(entry.start))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|source| Error::Read {
                file: shard.name.clone(),
                source,
            })?;
        let values: Vec<f32> = match entry.storage {
            Storage::Plain(Dtype::F32) => bytes
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Storage::Plain(Dtype::F16) => bytes
                .chunks_exact(2)
                .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            Storage::Plain(Dtype::BF16) => bytes
                .chunks_exact(2)
                .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            Storage::Blocks(kind) => quantized::widen(kind, &bytes)?,
            Storage::Plain(other) => {
                return Err(self.error(
                    entry.shard,
                    name,
                    format!("is {other:?}; only F16, BF16 and F32 are run"),
                ));
            }
        };
        match entry.heads {
            0 => Ok(values),
            heads => quantized::unpaired(&values, entry.shape[0], heads).ok_or_else(|| {
                let problem = format!("has rows that are no pairs in {heads} heads");
                self.error(entry.shard, name, problem)
            }),
        }
    }

    fn error(&self, shard: usize, tensor: &str, problem: impl Into<String>) -> Error {
        let file = self
            .shards
            .get(shard)
            .map(|shard| shard.name.clone())
            .unwrap_or_default();
        Error::Tensor {
            file,
            tensor: tensor.to_owned(),
            problem: problem.into(),
        }
    }
}

/// The tensors under one prefix, as one layer sees them.
#[derive(Debug, Clone)]
pub(crate) struct Part<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Part<'_> {
    /// The part `name` of this part.
    pub(crate) fn at(&self, name: impl Display) -> Self {
        Self {
            weights: self.weights,
            prefix: self.name(&name.to_string()),
        }
    }

    /// Whether there is a tensor `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.tensors.contains_key(&self.stored(name))
    }

    /// The tensor `name`, which must have `shape` (up to dimensions of size 1), in `f32`.
    pub(crate) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        self.weights.read(&self.stored(name), shape)
    }

    /// An error about the tensor `name`.
    pub(crate) fn error(&self, name: &str, problem: impl Into<String>) -> Error {
        self.weights.error(0, &self.stored(name), problem)
    }

    fn name(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }

    fn stored(&self, name: &str) -> String {
        (self.weights.naming)(&self.name(name))
    }
}

#[cfg(test)]
mod tests;
