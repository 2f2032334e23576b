//! How much is tortured, and the lines of `make chaos`.

use cuckoo_core::{Entropy as _, OsEntropy};

use crate::books::Found;

/// How much, and by what chance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) kills: usize,
    pub(crate) seed: u64,
}

impl Scale {
    /// From `CUCKOO_CHAOS_KILLS` and `CUCKOO_CHAOS_SEED`: a few, and any.
    pub(crate) fn chosen() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(
                text.parse::<u64>()
                    .unwrap_or_else(|_| panic!("{name} is a number")),
            )
        };
        let seed = number("CUCKOO_CHAOS_SEED");
        let seed = seed.unwrap_or_else(|| OsEntropy::new().unwrap().number() >> 32);
        println!("CUCKOO_CHAOS_SEED={seed}");
        Self {
            kills: number("CUCKOO_CHAOS_KILLS").map_or(8, |kills| usize::try_from(kills).unwrap()),
            seed,
        }
    }

    /// Whether there is time to wait for what takes minutes.
    pub(crate) fn patient(self) -> bool {
        self.kills >= 100
    }
}

/// A line of the table.
pub(crate) struct Row<'a> {
    pub(crate) fault: &'a str,
    pub(crate) times: usize,
    pub(crate) found: &'a Found,
    pub(crate) seconds: u64,
    pub(crate) note: String,
}

impl Row<'_> {
    pub(crate) fn print(self) {
        let Self {
            fault,
            times,
            found,
            seconds,
            note,
        } = self;
        let (lost, doubled, overpaid) =
            (found.lost.len(), found.doubled.len(), found.overpaid.len());
        let tasks = found.tasks;
        println!("chaos|{fault}|{times}|{tasks}|{lost}|{doubled}|{overpaid}|{seconds}|{note}");
    }
}
