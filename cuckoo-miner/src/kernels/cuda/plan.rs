//! Whether shapes fit, and what the kernels are told of them.

use cuckoo_core::{Error, Result};

use crate::kernels::Activation;

/// Numbers in a piece of a group: `PIECE` in `group_norm.cu`.
const PIECE: usize = 8192;
/// Queries of a block: `ROWS` in `attention.cu`.
const ROWS: usize = 64;
/// Threads beside each other in a block, and columns that each holds at most. More would not fit its registers.
const ACROSS: usize = 16;
pub(super) const MOST_COLUMNS: u32 = 16;
/// What sizes may be, so that places within an image fit the kernels' 32 bits.
const LARGEST: usize = 1 << 30;

/// Sizes of a group normalisation.
#[derive(Debug)]
pub(super) struct GroupNormPlan {
    /// Numbers in a group, and pieces it is cut into.
    pub(super) size: u32,
    pub(super) pieces: u32,
    pub(super) groups: u32,
    /// Channels of a group, and numbers in each.
    pub(super) channels: u32,
    pub(super) area: u32,
    /// 1 when SiLU follows.
    pub(super) silu: i32,
    pub(super) blocks: u32,
}

impl GroupNormPlan {
    /// Of `x`, `weight` and `bias`.
    pub(super) fn new(
        [x, weight, bias]: [&[usize]; 3],
        groups: usize,
        activation: Activation,
    ) -> Result<Self> {
        let silu = match activation {
            Activation::Identity => 0,
            Activation::Silu => 1,
            other => {
                return Err(Error::invalid(format!(
                    "the group norm for GPUs has no {other:?}; use SiLU or none"
                )));
            }
        };
        let misfit = || {
            Error::invalid(format!(
                "a group norm of {groups} groups does not fit {x:?}"
            ))
        };
        let [batch, channels, rest @ ..] = x else {
            return Err(misfit());
        };
        if groups == 0
            || x.contains(&0)
            || !channels.is_multiple_of(groups)
            || weight != [*channels]
            || bias != [*channels]
        {
            return Err(misfit());
        }
        let area = product(rest)?;
        let size = product(&[channels / groups, area])?;
        let pieces = size.div_ceil(PIECE);
        Ok(Self {
            size: small(size)?,
            pieces: small(pieces)?,
            groups: small(groups)?,
            channels: small(channels / groups)?,
            area: small(area)?,
            silu,
            blocks: small(product(&[*batch, groups, pieces])?)?,
        })
    }
}

/// Sizes of an attention.
#[derive(Debug)]
pub(super) struct AttentionPlan {
    /// Queries, and keys.
    pub(super) n: u32,
    pub(super) m: u32,
    pub(super) heads: u32,
    /// Numbers in a head, slices of them that are computed apart, and columns of a slice that each thread holds.
    pub(super) depth: u32,
    pub(super) slices: u32,
    pub(super) columns: u32,
    /// What products of queries and keys are multiplied by.
    pub(super) scale: f32,
    /// 1 when queries see keys up to their own.
    pub(super) causal: i32,
    pub(super) blocks: u32,
}

impl AttentionPlan {
    /// Of `q`, `k` and `v`.
    pub(super) fn new([q, k, v]: [&[usize]; 3], heads: usize, causal: bool) -> Result<Self> {
        let misfit = || {
            Error::invalid(format!(
                "attention of {heads} heads does not fit q {q:?}, k {k:?}, v {v:?}"
            ))
        };
        let (&[batch, n, width], &[_, m, _]) = (q, k) else {
            return Err(misfit());
        };
        if heads == 0
            || q.contains(&0)
            || m == 0
            || !width.is_multiple_of(heads)
            || k != [batch, m, width]
            || v != k
            || (causal && n != m)
        {
            return Err(misfit());
        }
        let depth = width / heads;
        let slices = depth.div_ceil(ACROSS * MOST_COLUMNS as usize);
        small(width)?;
        Ok(Self {
            n: small(n)?,
            m: small(m)?,
            heads: small(heads)?,
            depth: small(depth)?,
            slices: small(slices)?,
            columns: small(depth.div_ceil(slices * ACROSS))?,
            scale: 1.0 / (depth as f32).sqrt(),
            causal: i32::from(causal),
            blocks: small(product(&[batch, heads, slices, n.div_ceil(ROWS)])?)?,
        })
    }
}

fn product(sizes: &[usize]) -> Result<usize> {
    sizes
        .iter()
        .try_fold(1_usize, |product, size| product.checked_mul(*size))
        .ok_or_else(|| too_large(usize::MAX))
}

fn small(size: usize) -> Result<u32> {
    match u32::try_from(size) {
        Ok(small) if size <= LARGEST => Ok(small),
        _ => Err(too_large(size)),
    }
}

fn too_large(size: usize) -> Error {
    Error::invalid(format!(
        "a layer of this shape is too large for the kernels: {size} in one direction, and {LARGEST} are possible"
    ))
}
