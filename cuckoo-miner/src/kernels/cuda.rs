//! Kernels for NVIDIA's GPUs.
//!
//! Driver and compiler are libraries that are looked for when they are first needed, so one binary runs with and without
//! a GPU. The sources are compiled for the GPU at hand by NVRTC, each at its first use. As on processors, each number is
//! computed by one thread in an order that depends on the shapes alone, of operations that round the same everywhere: the
//! bits depend neither on the GPU nor on what else it does (`exp.cuh` says how).
//!
//! There are two layers so far, group normalisation and attention: `docs/gpu.md` says what is missing to run a model.

mod driver;
mod plan;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Tensor};
use cuckoo_core::{Error, Result};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, LaunchConfig, PushKernelArg,
};

use self::driver::failed;
use self::plan::{AttentionPlan, GroupNormPlan};
use self::source::Kernel;
use super::Activation;

/// Threads of a block, in all kernels: `THREADS` in `exp.cuh`.
const THREADS: u32 = 256;

/// Layers on one NVIDIA GPU, in `f32`. Calls return when the work is handed over; [`download`](Self::download) and
/// [`finish`](Self::finish) wait for it.
#[derive(Debug)]
pub struct CudaKernels {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// The GPU's compute capability, as 90 for 9.0.
    capability: i32,
    /// What was compiled so far.
    functions: Mutex<HashMap<Kernel, CudaFunction>>,
}

/// Numbers in the memory of a GPU, in row-major order.
#[derive(Debug)]
pub struct CudaTensor {
    data: CudaSlice<f32>,
    dims: Vec<usize>,
}

impl CudaTensor {
    /// The sizes of its dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }
}

impl CudaKernels {
    /// Kernels for the GPU `ordinal`, counted from 0 in the order of NVIDIA's driver (`CUDA_VISIBLE_DEVICES` changes it).
    /// `None` when the machine has no GPU or no driver, which is logged once.
    ///
    /// # Errors
    /// `Invalid` when there are GPUs, but not so many; `Unavailable` when the driver is there and fails, or is too old.
    pub fn open(ordinal: usize) -> Result<Option<Self>> {
        let Some(count) = driver::devices()? else {
            return Ok(None);
        };
        if ordinal >= count {
            return Err(Error::invalid(format!(
                "there is no GPU {ordinal}: this machine has {count}, counted from 0"
            )));
        }
        let context = CudaContext::new(ordinal).map_err(failed("opening the GPU"))?;
        let (major, minor) = context
            .compute_capability()
            .map_err(failed("asking the GPU what it is"))?;
        Ok(Some(Self {
            stream: context.default_stream(),
            context,
            capability: major * 10 + minor,
            functions: Mutex::default(),
        }))
    }

    /// The GPU's name, and its compute capability as 90 for 9.0.
    ///
    /// # Errors
    /// `Unavailable` when the driver fails.
    pub fn describe(&self) -> Result<(String, i32)> {
        let name = self
            .context
            .name()
            .map_err(failed("asking the GPU its name"))?;
        Ok((name, self.capability))
    }

    /// Compiles all kernels for the oldest and the newest GPU that the NVRTC of this machine knows, down to their
    /// instructions, and names each that was. Needs no GPU.
    ///
    /// # Errors
    /// `Unavailable` when there is no NVRTC, `Internal` when a source is not valid.
    pub fn check_sources() -> Result<Vec<String>> {
        source::check()
    }

    /// Copies numbers of the processor's memory to the GPU's.
    ///
    /// # Errors
    /// `Invalid` when the tensor is empty, not `f32`, or not the processor's; `Unavailable` when the GPU's memory is full.
    pub fn upload(&self, tensor: &Tensor) -> Result<CudaTensor> {
        if tensor.elem_count() == 0 || !tensor.device().is_cpu() {
            return Err(Error::invalid(format!(
                "a tensor of {:?} cannot be copied to the GPU: it has no numbers, or is not in the processor's memory",
                tensor.dims()
            )));
        }
        let numbers = tensor
            .flatten_all()
            .and_then(|tensor| tensor.to_vec1::<f32>())
            .map_err(|error| {
                Error::invalid("only tensors of f32 can be copied to the GPU").with_source(error)
            })?;
        let data = self
            .stream
            .clone_htod(&numbers)
            .map_err(failed("copying numbers to the GPU"))?;
        Ok(CudaTensor {
            data,
            dims: tensor.dims().to_vec(),
        })
    }

    /// Waits for the numbers and copies them to the processor's memory.
    ///
    /// # Errors
    /// `Invalid` when they are another GPU's; `Unavailable` when the work that made them failed.
    pub fn download(&self, tensor: &CudaTensor) -> Result<Tensor> {
        self.own([tensor])?;
        let numbers = self
            .stream
            .clone_dtoh(&tensor.data)
            .map_err(failed("copying numbers from the GPU"))?;
        self.finish()?;
        Tensor::from_vec(numbers, &tensor.dims[..], &Device::Cpu).map_err(|error| {
            Error::internal("numbers from the GPU have no shape").with_source(error)
        })
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// `Unavailable` when some of it failed.
    pub fn finish(&self) -> Result<()> {
        self.stream
            .synchronize()
            .map_err(failed("waiting for the GPU"))
    }

    /// As [`Kernels::group_norm`](super::Kernels::group_norm), with `activation` SiLU or none. `x` is
    /// `[batch, channels, ...]`, `weight` and `bias` are `[channels]`.
    ///
    /// # Errors
    /// `Invalid` when shapes do not fit, or for other activations; `Unavailable` when driver, compiler or memory fail.
    pub fn group_norm(
        &self,
        x: &CudaTensor,
        weight: &CudaTensor,
        bias: &CudaTensor,
        eps: f64,
        groups: usize,
        activation: Activation,
    ) -> Result<CudaTensor> {
        self.own([x, weight, bias])?;
        let plan = GroupNormPlan::new([&x.dims, &weight.dims, &bias.dims], groups, activation)?;
        let doing = failed("normalising on the GPU");
        // SAFETY: both are written before they are read, the one by `moments`, the other by `normalise`.
        #[allow(unsafe_code)]
        let (mut moments, mut out) = unsafe {
            let moments = self.stream.alloc::<f64>(plan.blocks as usize * 2);
            let out = self.stream.alloc::<f32>(x.data.len());
            (moments.map_err(&doing)?, out.map_err(&doing)?)
        };
        let (first, second) = (
            self.function(Kernel::Moments)?,
            self.function(Kernel::Normalise)?,
        );
        // SAFETY: types and order are those of `group_norm.cu`; the plan was made of the buffers' sizes.
        #[allow(unsafe_code)]
        unsafe {
            self.stream
                .launch_builder(&first)
                .arg(&x.data)
                .arg(&mut moments)
                .arg(&plan.size)
                .arg(&plan.pieces)
                .launch(blocks(plan.blocks))
                .map_err(&doing)?;
            self.stream
                .launch_builder(&second)
                .arg(&x.data)
                .arg(&moments)
                .arg(&weight.data)
                .arg(&bias.data)
                .arg(&mut out)
                .arg(&plan.size)
                .arg(&plan.pieces)
                .arg(&plan.groups)
                .arg(&plan.channels)
                .arg(&plan.area)
                .arg(&eps)
                .arg(&plan.silu)
                .launch(blocks(plan.blocks))
                .map_err(&doing)?;
        }
        Ok(CudaTensor {
            data: out,
            dims: x.dims.clone(),
        })
    }

    /// As [`Kernels::attention`](super::Kernels::attention). `q` is `[batch, n, width]`; `k` and `v` are
    /// `[batch, m, width]`; n = m where `causal`. No scores are kept, so memory is needed for the result alone.
    ///
    /// # Errors
    /// `Invalid` when shapes do not fit; `Unavailable` when driver, compiler or memory fail.
    pub fn attention(
        &self,
        q: &CudaTensor,
        k: &CudaTensor,
        v: &CudaTensor,
        heads: usize,
        causal: bool,
    ) -> Result<CudaTensor> {
        self.own([q, k, v])?;
        let plan = AttentionPlan::new([&q.dims, &k.dims, &v.dims], heads, causal)?;
        let doing = failed("computing attention on the GPU");
        let function = self.function(Kernel::Attention {
            columns: plan.columns,
        })?;
        // SAFETY: the kernel writes all of it. Types and order are those of `attention.cu`; the plan was made of the buffers'
        // sizes.
        #[allow(unsafe_code)]
        let out = unsafe {
            let mut out = self.stream.alloc::<f32>(q.data.len()).map_err(&doing)?;
            self.stream
                .launch_builder(&function)
                .arg(&q.data)
                .arg(&k.data)
                .arg(&v.data)
                .arg(&mut out)
                .arg(&plan.n)
                .arg(&plan.m)
                .arg(&plan.heads)
                .arg(&plan.depth)
                .arg(&plan.slices)
                .arg(&plan.scale)
                .arg(&plan.causal)
                .launch(blocks(plan.blocks))
                .map_err(&doing)?;
            out
        };
        Ok(CudaTensor {
            data: out,
            dims: q.dims.clone(),
        })
    }

    /// A kernel, compiled when this is its first use.
    fn function(&self, kernel: Kernel) -> Result<CudaFunction> {
        // Held while it compiles, so that nothing is compiled twice.
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(&kernel) {
            return Ok(function.clone());
        }
        let program = source::compile_for(kernel, self.capability)?;
        let module = self
            .context
            .load_module(program)
            .map_err(failed("loading a kernel"))?;
        let function = module
            .load_function(kernel.function())
            .map_err(failed("loading a kernel"))?;
        functions.insert(kernel, function.clone());
        Ok(function)
    }

    /// Refuses what lies in another GPU's memory.
    fn own<const N: usize>(&self, tensors: [&CudaTensor; N]) -> Result<()> {
        match tensors
            .iter()
            .all(|tensor| tensor.data.context() == &self.context)
        {
            true => Ok(()),
            false => Err(Error::invalid(
                "a tensor lies in another GPU's memory; download it there, and upload it here",
            )),
        }
    }
}

/// So many blocks, of as many threads as all kernels have.
fn blocks(count: u32) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (count, 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}
