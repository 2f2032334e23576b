//! The kernels' sources, and NVRTC, which compiles them.

use cuckoo_core::{Error, Result, Retry};
use cudarc::nvrtc::result::NvrtcError;
use cudarc::nvrtc::{CompileError, CompileOptions, Ptx, compile_ptx_with_opts, sys};

use super::plan::MOST_COLUMNS;

const COMMON: &str = include_str!("exp.cuh");
const GROUP_NORM: &str = include_str!("group_norm.cu");
const ATTENTION: &str = include_str!("attention.cu");

/// What is compiled and launched on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kernel {
    Moments,
    Normalise,
    /// For heads, or slices of them, of up to 16 times so many columns.
    Attention {
        columns: u32,
    },
}

impl Kernel {
    /// The function's name in its source.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Moments => "moments",
            Self::Normalise => "normalise",
            Self::Attention { .. } => "attention",
        }
    }

    fn source(self) -> String {
        let own = match self {
            Self::Moments | Self::Normalise => GROUP_NORM,
            Self::Attention { .. } => ATTENTION,
        };
        [COMMON, own].concat()
    }

    /// What distinguishes it from others of the same source.
    fn definitions(self) -> Vec<String> {
        match self {
            Self::Moments | Self::Normalise => Vec::new(),
            Self::Attention { columns } => vec![format!("--define-macro=COLUMNS={columns}")],
        }
    }
}

/// Compiles a kernel for a GPU of this capability; for the newest one before that NVRTC knows, where the GPU is newer.
pub(super) fn compile_for(kernel: Kernel, capability: i32) -> Result<Ptx> {
    let known = known()?;
    let architecture = known.iter().filter(|known| **known <= capability).max();
    let Some(architecture) = architecture else {
        return Err(Error::unavailable(format!(
            "the NVRTC of this machine compiles for none of the GPUs of compute capability {}.{}; install an older one",
            capability / 10,
            capability % 10
        ))
        .with_retry(Retry::Never));
    };
    compile(kernel, &format!("compute_{architecture}"))
}

/// See [`CudaKernels::check_sources`](super::CudaKernels::check_sources).
pub(super) fn check() -> Result<Vec<String>> {
    let known = known()?;
    let mut ends: Vec<_> = known
        .iter()
        .min()
        .into_iter()
        .chain(known.iter().max())
        .collect();
    ends.dedup();
    let attentions = (1..=MOST_COLUMNS).map(|columns| Kernel::Attention { columns });
    let kernels: Vec<_> = [Kernel::Moments, Kernel::Normalise]
        .into_iter()
        .chain(attentions)
        .collect();
    let mut names = Vec::new();
    for architecture in ends {
        for kernel in &kernels {
            // That of a real GPU: NVRTC assembles the code, too, and so sees that it fits.
            compile(*kernel, &format!("sm_{architecture}"))?;
            names.push(format!("{kernel:?} for sm_{architecture}"));
        }
    }
    Ok(names)
}

fn compile(kernel: Kernel, architecture: &str) -> Result<Ptx> {
    let mut options = kernel.definitions();
    options.push("--std=c++17".to_owned());
    options.push(format!("--gpu-architecture={architecture}"));
    let options = CompileOptions {
        // What is fused is said in the sources.
        fmad: Some(false),
        name: Some(format!("{}.cu", kernel.function())),
        options,
        ..CompileOptions::default()
    };
    compile_ptx_with_opts(kernel.source(), options).map_err(|error| match error {
        CompileError::CompileError {
            nvrtc: NvrtcError(sys::nvrtcResult::NVRTC_ERROR_COMPILATION),
            log,
            ..
        } => Error::internal(format!(
            "{kernel:?} does not compile for {architecture}; this is a defect, please report it: {}",
            log.to_string_lossy()
        )),
        CompileError::CompileError { nvrtc, log, .. } => unusable(&log.to_string_lossy(), nvrtc),
        CompileError::CreationError(nvrtc)
        | CompileError::GetLogError(nvrtc)
        | CompileError::GetPtxError(nvrtc)
        | CompileError::DestroyError(nvrtc) => unusable("it gave no reason", nvrtc),
    })
}

fn unusable(why: &str, error: NvrtcError) -> Error {
    let why = why.trim();
    Error::unavailable(format!(
        "NVRTC, CUDA's compiler, does not work; check that all of it is installed, and that LD_LIBRARY_PATH names its folder: {why}"
    ))
    .with_retry(Retry::Never)
    .with_source(error)
}

/// The architectures that NVRTC compiles for, as 90 for compute capability 9.0.
fn known() -> Result<Vec<i32>> {
    // SAFETY: loads the library that the system finds under its name.
    #[allow(unsafe_code)]
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::unavailable(
            "NVRTC, CUDA's compiler, is not installed; install the CUDA toolkit, or NVIDIA's package nvidia-cuda-nvrtc with pip, and name the folder of libnvrtc in LD_LIBRARY_PATH",
        )
        .with_retry(Retry::Never));
    }
    let unanswered = |error| unusable("it does not say for which GPUs it compiles", error);
    let mut count = 0;
    // SAFETY: the pointer is that of a number.
    #[allow(unsafe_code)]
    unsafe { sys::nvrtcGetNumSupportedArchs(&mut count) }
        .result()
        .map_err(unanswered)?;
    let mut known = vec![0; count.unsigned_abs() as usize];
    // SAFETY: there is room for as many numbers as are written.
    #[allow(unsafe_code)]
    unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) }
        .result()
        .map_err(unanswered)?;
    Ok(known)
}
