//! Processes: what they use, free ports, and ends that do not outlive us. Reads Linux' `/proc`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::{Failure, Result};

/// Linux counts processor time in hundredths of a second, on every architecture.
const TICKS: f64 = 100.0;

/// What a process has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Processor time of all its threads, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Memory that is resident, in bytes.
    pub(crate) resident: u64,
}

impl Usage {
    pub(crate) fn of(process: u32) -> Result<Self> {
        let folder = Path::new("/proc").join(process.to_string());
        let unexpected = || Failure::from("/proc is not as Linux has it");
        let stat = std::fs::read_to_string(folder.join("stat"))?;
        // The name, in parentheses, may hold spaces; user and system time are fields 14 and 15.
        let fields = stat.rsplit_once(") ").ok_or_else(unexpected)?.1;
        let ticks: Vec<f64> = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(str::parse)
            .collect::<std::result::Result<_, _>>()?;
        let status = std::fs::read_to_string(folder.join("status"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|line| line.split_whitespace().next())
            .ok_or_else(unexpected)?;
        Ok(Self {
            cpu_seconds: ticks.iter().sum::<f64>() / TICKS,
            resident: resident.parse::<u64>()? * 1024,
        })
    }

    pub(crate) fn own() -> Result<Self> {
        Self::of(std::process::id())
    }
}

/// Waits for a child's end.
pub(crate) fn wait(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

/// A port of loopback that nobody listens on now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// A server of somebody else's; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    /// Starts `command` and waits until it takes connections on `port`.
    pub(crate) fn start(mut command: Command, port: u16) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!("cannot start {name} ({error}); `.ci/setup bench` installs it")
            })?;
        let mut server = Self { child, port };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(Failure::from(format!("{name} ended at once: {status}")));
            }
            if Instant::now() > end {
                return Err(Failure::from(format!("{name} takes no connections")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
