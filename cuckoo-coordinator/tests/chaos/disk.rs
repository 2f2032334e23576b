//! A disk that is full: requesters are told what to do, and once there is room it goes on.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cuckoo_core::{Clock as _, SystemClock};
use tempfile::TempDir;

use crate::market::{Market, Plan};
use crate::table::{Row, Scale};

/// More than a run needs, and little enough to be filled in a moment.
const SIZE: usize = 128 << 20;

/// A disk of its own: in memory, mounted in namespaces that end with this value. Needs no rights where users may have
/// namespaces.
struct Disk {
    holder: Child,
    mounted: TempDir,
}

impl Disk {
    fn mount() -> Self {
        let mounted = tempfile::tempdir().unwrap();
        let script = format!("mount -t tmpfs -o size={SIZE} tmpfs \"$0\" && echo && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(mounted.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(holder.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert_eq!(
            line, "\n",
            "cannot mount; are user namespaces allowed here?"
        );
        Self { holder, mounted }
    }

    /// What runs a command where the disk is.
    fn wrapper(&self) -> Vec<String> {
        let holder = self.holder.id().to_string();
        let words = [
            "nsenter",
            "--preserve-credentials",
            "-U",
            "-m",
            "-t",
            &holder,
        ];
        words.map(str::to_owned).to_vec()
    }

    /// Its folder as this process sees it.
    fn path(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.mounted.path().strip_prefix("/").unwrap())
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.path().join("ballast")).unwrap();
        for step in [1 << 20, 4_096] {
            while ballast.write_all(&vec![1; step]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }

    /// Copies what a coordinator keeps there, since a database has no address that leads through `/proc`.
    fn copy(&self, to: &std::path::Path) {
        let from = self.path().join(".");
        let copied = Command::new("cp").arg("-r").args([&*from, to]).status();
        assert!(copied.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_costs_nothing() {
    let (scale, began) = (Scale::chosen(), SystemClock.now());
    let rounds = scale.kills.div_ceil(8).min(10);
    let disk = Disk::mount();
    let plan = Plan {
        miners: 2,
        audit_probability: 0.2,
        lease_millis: 4_000,
        longest_output: 2_048,
    };
    let folder = disk.mounted.path().to_owned();
    let (market, host) = Market::open(scale.seed, &plan, folder, disk.wrapper()).await;
    let miners = market.start_miners();
    let asking = market.start_requesters(8);
    let mut refusals = 0;
    for _ in 0..rounds {
        market.more(20).await;
        disk.fill();
        let refused = || market.requesters.refused.lock().unwrap();
        refused().clear();
        // Those who wait for outputs wait on: somebody must submit.
        tokio::select! {
            () = market.requesters.leave() => {}
            () = market.wait_for("refusal", || !refused().is_empty()) => {}
        }
        market.sleep_up_to(3_000).await;
        for message in refused().drain(..) {
            refusals += 1;
            let clear = message.contains("is full: free some space");
            assert!(clear, "seed {}: {message}", scale.seed);
        }
        disk.make_room();
        market.more(20).await;
    }
    // What could not be written as ended is taken up again by the next start.
    host.process.stop().await;
    let mut host = market.start_host();
    host.serving().await;
    market.drain(asking).await;
    for miner in miners {
        miner.stop().await;
    }
    host.process.stop().await;
    let copy = tempfile::tempdir().unwrap();
    disk.copy(copy.path());
    let found = market.books(copy.path()).await;
    Row {
        fault: "disk full",
        times: rounds,
        found: &found,
        seconds: SystemClock.now().since(began).as_secs(),
        note: format!("{refusals} submissions refused with 503"),
    }
    .print();
    found.check(scale.seed);
}
