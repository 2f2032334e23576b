//! NVIDIA's driver: whether it is there, and what its errors say.

use std::sync::Once;

use cuckoo_core::{Error, Result, Retry};
use cudarc::driver::{CudaContext, DriverError, sys};

/// What is called of the driver, here or by cudarc, which panics where it finds one of them missing.
const FUNCTIONS: [&str; 25] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventRecord",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFree_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// How many GPUs there are; `None`, said once, when there is no driver or no GPU.
pub(super) fn devices() -> Result<Option<usize>> {
    // SAFETY: loads the system's own driver, if there is one.
    #[allow(unsafe_code)]
    if !unsafe { sys::is_culib_present() } {
        absent("NVIDIA's driver (libcuda) is not installed");
        return Ok(None);
    }
    if let Some(missing) = FUNCTIONS.iter().find(|name| !has(name)) {
        return Err(Error::unavailable(format!(
            "NVIDIA's driver (libcuda) lacks {missing}; update it to 525 or newer, or remove what stands in its place"
        ))
        .with_retry(Retry::Never));
    }
    match CudaContext::device_count() {
        Ok(count) if count > 0 => Ok(Some(count.unsigned_abs() as usize)),
        Ok(_)
        | Err(DriverError(
            sys::CUresult::CUDA_ERROR_NO_DEVICE | sys::CUresult::CUDA_ERROR_STUB_LIBRARY,
        )) => {
            absent("NVIDIA's driver finds none");
            Ok(None)
        }
        Err(error) => Err(failed("starting NVIDIA's driver")(error)),
    }
}

/// Whether the driver has a function.
fn has(name: &str) -> bool {
    // SAFETY: the library is there, and the address is not called.
    #[allow(unsafe_code)]
    unsafe {
        sys::culib()
            .get::<unsafe extern "C" fn()>(name.as_bytes())
            .is_ok()
    }
}

fn absent(why: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| tracing::info!("no GPU is used: {why}"));
}

/// Makes an error of the driver's one that says what it was `doing`, and what to do.
pub(super) fn failed(doing: &'static str) -> impl Fn(DriverError) -> Error {
    move |error| {
        let advice = match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                "the GPU's memory is full; close what else uses it, or run something smaller"
            }
            sys::CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
                "NVRTC is newer than the driver; update the driver, or install the NVRTC of the CUDA version that nvidia-smi shows"
            }
            _ => "nvidia-smi and the system's log may say more",
        };
        Error::unavailable(format!("{doing} failed; {advice}")).with_source(error)
    }
}
