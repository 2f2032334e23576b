//! The machine as the status shows it: read when somebody asks, off the threads that serve, and at most once a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cuckoo_core::{Clock, SystemClock, Timestamp};
use tokio::sync::Mutex as FairMutex;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::MachineStatus;
use crate::cli::devices::Devices;

/// A reading serves so long.
const FRESH: Duration = Duration::from_secs(1);
/// How long an answer waits for the devices. A driver in trouble may take minutes.
const PATIENCE: Duration = Duration::from_secs(2);

/// The machine, for any number of those who ask.
#[derive(Debug, Clone)]
pub(super) struct Machine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    /// Opened at the first reading.
    devices: Arc<Mutex<Option<Devices>>>,
    latest: FairMutex<Latest>,
}

#[derive(Debug, Default)]
struct Latest {
    /// When the status below was made.
    at: Option<Timestamp>,
    status: MachineStatus,
    /// A reading that is not done: no second one is begun beside it.
    reading: Option<JoinHandle<MachineStatus>>,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock), None)
    }
}

impl Machine {
    /// The machine by `devices`; by those that there are where none are given.
    fn new(clock: Arc<dyn Clock>, devices: Option<Devices>) -> Self {
        Self(Arc::new(Inner {
            clock,
            devices: Arc::new(Mutex::new(devices)),
            latest: FairMutex::default(),
        }))
    }

    /// The machine now, or up to a second ago. Devices that do not answer keep nobody waiting for more than two seconds:
    /// what they told last is shown, and that they are silent. Safe to drop.
    pub(super) async fn read(&self) -> MachineStatus {
        let Inner {
            clock,
            devices,
            latest,
        } = &*self.0;
        let mut latest = latest.lock().await;
        let Latest {
            at,
            status,
            reading,
        } = &mut *latest;
        let now = clock.now();
        // A clock that was set back makes no reading last longer.
        if at.is_some_and(|at| at <= now && now.since(at) < FRESH) {
            return status.clone();
        }
        let running = reading.get_or_insert_with(|| {
            let devices = Arc::clone(devices);
            spawn_blocking(move || {
                let mut devices = devices.lock().unwrap_or_else(PoisonError::into_inner);
                devices.get_or_insert_with(Devices::open).read()
            })
        });
        tokio::select! {
            biased;
            ended = running => {
                *reading = None;
                match ended {
                    Ok(read) => *status = read,
                    Err(error) => {
                        tracing::warn!(%error, "the machine's devices could not be read");
                        silence(status, "reading it failed; the log says more");
                    }
                }
            }
            () = clock.sleep(PATIENCE) => {
                silence(status, "the driver does not answer; see whether `nvidia-smi` does, and restart the machine if not");
            }
        }
        *at = Some(clock.now());
        status.clone()
    }
}

/// Marks what was told before as old; before the first reading there is nothing but the reason.
fn silence(status: &mut MachineStatus, why: &str) {
    status.error = Some(why.to_owned());
    for gpu in &mut status.gpus {
        gpu.error = Some(why.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use cuckoo_core::ManualClock;

    use super::*;
    use crate::GpuStatus;
    use crate::cli::devices::Gpus;

    /// A GPU whose readings a test hands out, each when it is asked for.
    #[derive(Debug)]
    struct Handed(Receiver<u32>);

    impl Gpus for Handed {
        fn read(&mut self) -> Vec<GpuStatus> {
            let celsius = self.0.recv().expect("a reading more than the test gives");
            vec![GpuStatus {
                name: "NVIDIA H200".to_owned(),
                celsius: Some(celsius),
                ..GpuStatus::default()
            }]
        }
    }

    fn machine() -> (Machine, Arc<ManualClock>, Sender<u32>) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000_000)));
        let (sender, receiver) = channel();
        let devices = Devices::with(Box::new(Handed(receiver)));
        let machine = Machine::new(Arc::clone(&clock) as _, Some(devices));
        (machine, clock, sender)
    }

    async fn gpu(machine: &Machine) -> GpuStatus {
        machine.read().await.gpus.remove(0)
    }

    #[tokio::test]
    async fn a_reading_serves_all_who_ask_within_a_second() {
        let (machine, clock, readings) = machine();
        readings.send(40).unwrap();
        let (one, other) = tokio::join!(gpu(&machine), gpu(&machine));
        assert_eq!((one.celsius, &one), (Some(40), &other));
        clock.advance(Duration::from_millis(999));
        assert_eq!(gpu(&machine).await.celsius, Some(40));
        readings.send(41).unwrap();
        assert_eq!(gpu(&machine).await.celsius, Some(40));
        clock.advance(Duration::from_millis(1));
        assert_eq!(gpu(&machine).await.celsius, Some(41));
    }

    #[tokio::test]
    async fn a_device_that_is_silent_is_shown_as_that_until_it_answers() {
        let (machine, clock, readings) = machine();
        readings.send(40).unwrap();
        assert_eq!(gpu(&machine).await.error, None);
        for _ in 0..3 {
            clock.advance(FRESH);
            let asked = tokio::spawn({
                let machine = machine.clone();
                async move { gpu(&machine).await }
            });
            // It waits for the device by now.
            while machine.0.latest.try_lock().is_ok() {
                tokio::task::yield_now().await;
            }
            clock.advance(PATIENCE);
            let silent = asked.await.unwrap();
            assert_eq!(silent.celsius, Some(40));
            assert!(silent.error.unwrap().contains("does not answer"));
        }
        // One reading hung all the while, and ends now.
        readings.send(45).unwrap();
        clock.advance(FRESH);
        let back = gpu(&machine).await;
        assert_eq!((back.celsius, back.error), (Some(45), None));
    }

    #[tokio::test]
    async fn a_first_reading_that_hangs_is_told_of() {
        let (machine, clock, readings) = machine();
        let asked = tokio::spawn({
            let machine = machine.clone();
            async move { machine.read().await }
        });
        // It waits for the device by now.
        while machine.0.latest.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        clock.advance(PATIENCE);
        let silent = asked.await.unwrap();
        assert!(silent.gpus.is_empty());
        assert!(silent.error.unwrap().contains("does not answer"));
        readings.send(40).unwrap();
        clock.advance(FRESH);
        let back = machine.read().await;
        assert_eq!((back.gpus.len(), back.error), (1, None));
    }

    #[tokio::test]
    async fn a_reader_that_panics_ends_nothing() {
        let (machine, clock, readings) = machine();
        readings.send(40).unwrap();
        assert_eq!(gpu(&machine).await.error, None);
        drop(readings);
        clock.advance(FRESH);
        let failed = gpu(&machine).await;
        assert_eq!(failed.celsius, Some(40));
        assert!(failed.error.unwrap().contains("reading it failed"));
    }
}
