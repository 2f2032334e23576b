//! NVIDIA's management library (NVML), which comes with the driver and is loaded when it is asked for.

use std::ffi::{OsStr, OsString};

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;

use super::{Absent, Gpus};
use crate::GpuStatus;

/// No machine has more GPUs.
const MOST: u32 = 64;

/// NVIDIA's GPUs.
#[derive(Debug)]
pub(super) struct Nvidia {
    /// Where the library is; where the driver puts it unless it is said.
    path: Option<OsString>,
    /// Closed after trouble, since a driver that was reset or updated answers only those who begin anew.
    library: Option<Nvml>,
    known: Vec<Known>,
}

/// A GPU that was there at the start.
#[derive(Debug, Default)]
struct Known {
    /// Numbers change when a GPU is lost; absent until it was told.
    uuid: Option<String>,
    name: String,
}

impl Nvidia {
    /// The GPUs of the library at `path`.
    ///
    /// # Errors
    /// That there is no library, driver or GPU.
    pub(super) fn open(path: Option<OsString>) -> Result<Self, Absent> {
        let library = load(path.as_deref()).map_err(absent)?;
        let count = library.device_count().map_err(absent)?.min(MOST);
        if count == 0 {
            return Err(Absent {
                cause: "NVIDIA's driver finds no GPU".to_owned(),
                remedy: "where there is one, see what `nvidia-smi` says, and install the driver that supports it",
            });
        }
        Ok(Self {
            path,
            library: Some(library),
            known: (0..count).map(|_| Known::default()).collect(),
        })
    }
}

impl Gpus for Nvidia {
    fn read(&mut self) -> Vec<GpuStatus> {
        let Self {
            path,
            library,
            known,
        } = self;
        let mut gpus: Vec<GpuStatus> = (0..MOST)
            .zip(known.iter())
            .map(|(index, known)| GpuStatus {
                index,
                name: known.name.clone(),
                ..GpuStatus::default()
            })
            .collect();
        let opened = match library.take() {
            Some(opened) => Ok(opened),
            None => load(path.as_deref()),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                for gpu in &mut gpus {
                    gpu.error = Some(trouble(&error));
                }
                return gpus;
            }
        };
        let mut sound = true;
        for (gpu, known) in gpus.iter_mut().zip(known) {
            if let Err(error) = fill(&opened, gpu, known) {
                gpu.error = Some(trouble(&error));
                sound = false;
            }
        }
        *library = sound.then_some(opened);
        gpus
    }
}

fn load(path: Option<&OsStr>) -> Result<Nvml, NvmlError> {
    match path {
        Some(path) => Nvml::builder().lib_path(path).init(),
        None => Nvml::init(),
    }
}

/// Reads one GPU, up to the first trouble.
fn fill(library: &Nvml, gpu: &mut GpuStatus, known: &mut Known) -> Result<(), NvmlError> {
    let device = match &known.uuid {
        Some(uuid) => library.device_by_uuid(uuid.as_str()),
        None => library.device_by_index(gpu.index),
    }?;
    if known.uuid.is_none() {
        known.name = told(device.name())?.unwrap_or_default();
        known.uuid = told(device.uuid())?;
        gpu.name.clone_from(&known.name);
    }
    gpu.celsius = told(device.temperature(TemperatureSensor::Gpu))?;
    gpu.busy_percent = told(device.utilization_rates())?.map(|rates| rates.gpu);
    if let Some(memory) = told(device.memory_info())? {
        gpu.memory_used = Some(memory.used);
        gpu.memory_total = Some(memory.total);
    }
    gpu.milliwatts = told(device.power_usage())?;
    Ok(())
}

/// A reading; `None` where this GPU, driver or user has none of it.
fn told<T>(reading: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match reading {
        Ok(value) => Ok(Some(value)),
        Err(
            NvmlError::NotSupported
            | NvmlError::NoPermission
            | NvmlError::NoData
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
            // Answers that the wrapper does not know yet, such as that the driver wants another form of the question.
            | NvmlError::UnexpectedVariant(_)
            | NvmlError::Utf8Error(_),
        ) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why there are no GPUs to read.
fn absent(error: NvmlError) -> Absent {
    let (cause, remedy) = match error {
        NvmlError::LibloadingError(error) => (
            format!("NVIDIA's management library cannot be loaded ({error})"),
            "where there is one of NVIDIA's GPUs, install its driver, which brings libnvidia-ml; else there is nothing to do",
        ),
        NvmlError::DriverNotLoaded => (
            "NVIDIA's driver is not loaded".to_owned(),
            "where there is one of its GPUs, restart the machine or load the driver (`modprobe nvidia`); if that fails, install \
             it anew",
        ),
        NvmlError::LibRmVersionMismatch => (
            "NVIDIA's driver and its library are of different versions".to_owned(),
            "restart the machine, as after each update of the driver; if that does not help, install it anew",
        ),
        NvmlError::NoPermission | NvmlError::OperatingSystem => (
            "this user may not ask NVIDIA's driver".to_owned(),
            "let the user read and write /dev/nvidia*, in a container by NVIDIA's container toolkit; install that if it is missing",
        ),
        error => (
            format!("NVIDIA's driver does not start: {error}"),
            "see what `nvidia-smi` says; if it fails, too, install the driver anew",
        ),
    };
    Absent { cause, remedy }
}

/// Why a GPU that was there could not be read, and what to do.
fn trouble(error: &NvmlError) -> String {
    let advice = match error {
        NvmlError::GpuLost | NvmlError::NotFound | NvmlError::InvalidArg => {
            return "it is lost; see the system's log for Xid errors, check its power and seat, and restart the machine"
                .to_owned();
        }
        NvmlError::Uninitialized | NvmlError::DriverNotLoaded => {
            return "NVIDIA's driver is not loaded; it is back once the driver is: see `nvidia-smi` if that takes long"
                .to_owned();
        }
        NvmlError::ResetRequired => {
            "reset it with `nvidia-smi --gpu-reset`, or restart the machine"
        }
        NvmlError::LibRmVersionMismatch => "the driver was updated: restart the machine",
        _ => "`nvidia-smi` and the system's log may say more",
    };
    format!("{error}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gpu_does_not_have_is_no_trouble() {
        assert!(matches!(told(Ok(41)), Ok(Some(41))));
        for error in [
            NvmlError::NotSupported,
            NvmlError::FailedToLoadSymbol("nvmlDeviceGetMemoryInfo_v2".to_owned()),
            NvmlError::UnexpectedVariant(25),
        ] {
            assert!(matches!(told::<u32>(Err(error)), Ok(None)));
        }
        for (error, remedy) in [
            (NvmlError::GpuLost, "restart the machine"),
            (NvmlError::ResetRequired, "--gpu-reset"),
            (NvmlError::Uninitialized, "back once the driver is"),
            (NvmlError::Unknown, "nvidia-smi"),
        ] {
            let lost = told::<u32>(Err(error)).unwrap_err();
            let said = trouble(&lost);
            assert!(said.contains("; ") && said.contains(remedy), "{said}");
        }
    }

    #[test]
    fn without_a_library_it_is_said_what_to_install() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libnvidia-ml.so.1");
        let missing = Nvidia::open(Some(path.clone().into())).unwrap_err();
        std::fs::write(&path, "no library").unwrap();
        let broken = Nvidia::open(Some(path.into())).unwrap_err();
        for Absent { cause, remedy } in [missing, broken] {
            assert!(cause.contains("libnvidia-ml.so.1"), "{cause}");
            assert!(remedy.contains("install its driver"), "{remedy}");
        }
        for error in [
            NvmlError::DriverNotLoaded,
            NvmlError::LibRmVersionMismatch,
            NvmlError::NoPermission,
            NvmlError::Unknown,
        ] {
            let Absent { cause, remedy } = absent(error);
            assert!(cause.contains("NVIDIA's driver"), "{cause}");
            assert!(remedy.contains("install"), "{remedy}");
        }
    }

    #[test]
    fn a_driver_that_went_away_is_the_error_of_each_gpu_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let known = |name: &str| Known {
            uuid: Some(format!("GPU-{name}")),
            name: name.to_owned(),
        };
        let mut gpus = Nvidia {
            path: Some(folder.path().join("libnvidia-ml.so.1").into()),
            library: None,
            known: vec![known("first"), known("second")],
        };
        for _ in 0..2 {
            let read = gpus.read();
            let names = read.iter().map(|gpu| (gpu.index, gpu.name.as_str()));
            assert_eq!(names.collect::<Vec<_>>(), [(0, "first"), (1, "second")]);
            for gpu in read {
                let error = gpu.error.unwrap();
                assert!(error.contains("nvidia-smi"), "{error}");
                assert_eq!((gpu.celsius, gpu.milliwatts), (None, None));
            }
        }
    }
}
