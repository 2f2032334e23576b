//! Audits: a received output is repeated by a miner drawn by stake, and what the outputs show is the verdict.
//!
//! Whether there is an audit, and by whom, is drawn only after the receipt is in, so a miner commits before it can
//! know. Outputs are compared exactly, which is fair because only miners with the same files and kernels are drawn.

mod conduct;

use cuckoo_core::{
    Address, B256, Entropy, LeaseId, NodeId, Scheduler as _, SignedReceipt, StakeLottery,
    Timestamp, Wei, payload_hash,
};
use serde::{Deserialize, Serialize};

use crate::store::Received;

/// Why an output counts, or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Accepted on its receipt: no audit was drawn.
    NotDrawn {
        /// The accepted miner.
        accepted: NodeId,
    },
    /// Accepted unaudited: an audit was drawn, but no eligible auditor finished one in time.
    NoAuditor {
        /// The accepted miner.
        accepted: NodeId,
    },
    /// Accepted: the auditors got the same output.
    Honest {
        /// The accepted miner.
        accepted: NodeId,
        /// Who repeated the task.
        auditors: Vec<NodeId>,
    },
    /// Two outputs agree and the third stands alone: its miner is convicted.
    Convicted {
        /// The miner whose output stands alone.
        convicted: NodeId,
        /// The miner whose output was accepted.
        accepted: NodeId,
    },
    /// All outputs differ: nobody is convicted or paid, and others try.
    AllDiffer {
        /// Who handed in.
        miners: Vec<NodeId>,
    },
    /// Two outputs differ and no third miner decided in time: none is accepted.
    Undecided {
        /// Who handed in.
        miners: Vec<NodeId>,
    },
}

/// An audit in progress.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    /// Who handed in, and their owners: none of these may audit.
    pub(crate) parties: Vec<(NodeId, Address)>,
    /// Who is to repeat the task next.
    pub(crate) seat: Seat,
    /// Auditors that failed or vanished: not drawn again.
    pub(crate) failed: Vec<NodeId>,
    /// Auditors that did not come for the work in time: not drawn again until they do.
    pub(crate) missed: Vec<NodeId>,
    /// When it is given up if nobody works on it.
    pub(crate) patience_ends: Timestamp,
    /// When it is given up at the latest.
    pub(crate) ends: Timestamp,
}

/// Where the next auditor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seat {
    /// None was found yet.
    Vacant,
    /// Drawn, and gets the work when it has a free slot.
    Invited(NodeId),
    /// Works under this lease.
    Working(LeaseId),
}

impl Audit {
    pub(crate) fn new(patience_ends: Timestamp, ends: Timestamp) -> Self {
        Self {
            parties: Vec::new(),
            seat: Seat::Vacant,
            failed: Vec::new(),
            missed: Vec::new(),
            patience_ends,
            ends,
        }
    }

    /// Whether somebody works on it.
    pub(crate) fn is_worked_on(&self) -> bool {
        matches!(self.seat, Seat::Working(_))
    }
}

/// What the outputs handed in so far show. Positions are those of `received`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// One output, or two that differ: another miner must repeat the task.
    Open,
    /// Every output is the same.
    Agreed,
    /// All but one are the same.
    OddOneOut { odd: usize, accepted: usize },
    /// No two of three are the same.
    AllDiffer,
}

/// Compares outputs by the hashes that were signed and checked.
pub(crate) fn compare(received: &[Received]) -> Finding {
    let hash = |index: usize| received[index].receipt.value.output_hash;
    match received.len() {
        0 | 1 => Finding::Open,
        2 if hash(0) == hash(1) => Finding::Agreed,
        2 => Finding::Open,
        // A third decides, so there is never a fourth.
        _ => match (hash(0) == hash(1), hash(0) == hash(2), hash(1) == hash(2)) {
            (true, true, _) => Finding::Agreed,
            (true, false, _) => Finding::OddOneOut {
                odd: 2,
                accepted: 0,
            },
            (false, true, _) => Finding::OddOneOut {
                odd: 1,
                accepted: 0,
            },
            (false, false, true) => Finding::OddOneOut {
                odd: 0,
                accepted: 1,
            },
            (false, false, false) => Finding::AllDiffer,
        },
    }
}

/// Draws an auditor by stake. The beacon hashes a fresh random word with the digest of the receipt, so neither side
/// chooses it alone.
pub(crate) fn draw_auditor(
    eligible: &[(NodeId, Wei)],
    latest: &SignedReceipt,
    entropy: &dyn Entropy,
) -> Option<NodeId> {
    let mut lottery = StakeLottery::new(B256::ZERO);
    for &(miner, weight) in eligible {
        lottery.join(miner, weight);
        lottery.set_free(miner, 1);
    }
    let mut beacon = entropy.word().to_vec();
    // The signature covers the receipt's digest.
    beacon.extend_from_slice(latest.signature.as_bytes());
    lottery.draw(payload_hash(&beacon), &[])
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{Key, Receipt, SeededEntropy, Signature, Signed, TaskId, Usage};

    use super::*;

    fn receipt(output: u8) -> Received {
        let word = B256::repeat_byte(output);
        let value = Receipt {
            coordinator: NodeId(1),
            miner: NodeId(2),
            lease: LeaseId::from(word),
            task: TaskId::from(word),
            model_hash: word,
            input_hash: word,
            output_hash: word,
            states_root: word,
            usage: Usage::default(),
        };
        let signature = Signature::from([0; 65]);
        Received {
            receipt: Signed { value, signature },
            kernels: String::new(),
        }
    }

    #[test]
    fn two_equal_outputs_settle_it_and_a_third_decides_between_two_that_differ() {
        let find =
            |outputs: &[u8]| compare(&outputs.iter().copied().map(receipt).collect::<Vec<_>>());
        assert_eq!(find(&[1]), Finding::Open);
        assert_eq!(find(&[1, 1]), Finding::Agreed);
        assert_eq!(find(&[1, 2]), Finding::Open);
        assert_eq!(
            find(&[1, 2, 2]),
            Finding::OddOneOut {
                odd: 0,
                accepted: 1
            }
        );
        assert_eq!(
            find(&[1, 2, 1]),
            Finding::OddOneOut {
                odd: 1,
                accepted: 0
            }
        );
        assert_eq!(
            find(&[1, 1, 2]),
            Finding::OddOneOut {
                odd: 2,
                accepted: 0
            }
        );
        assert_eq!(find(&[1, 1, 1]), Finding::Agreed);
        assert_eq!(find(&[1, 2, 3]), Finding::AllDiffer);
    }

    #[test]
    fn auditors_are_drawn_by_stake() {
        let entropy = SeededEntropy::from_number(11);
        let key = Key::random(&entropy);
        let eligible = [
            (NodeId(1), Wei::from(3)),
            (NodeId(2), Wei::from(1)),
            (NodeId(3), Wei::ZERO),
        ];
        let mut drawn = [0_u32; 4];
        for _ in 0..4_000 {
            let mut latest = receipt(1).receipt;
            latest.signature = key.sign(entropy.word());
            let auditor = draw_auditor(&eligible, &latest, &entropy).unwrap();
            drawn[usize::try_from(auditor.0).unwrap()] += 1;
        }
        assert_eq!(drawn[3], 0);
        // Four standard deviations of a binomial with n = 4000 and p = 3/4.
        assert!(drawn[1].abs_diff(3_000) < 110, "{drawn:?}");
        assert_eq!(draw_auditor(&[], &receipt(1).receipt, &entropy), None);
    }
}
