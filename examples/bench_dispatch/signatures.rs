//! What signatures cost each task, timed alone: no coordinator runs without them.

use std::hint::black_box;
use std::time::Instant;

use cuckoo_core::{
    Address, B256, Deployment, Key, LeaseId, NodeId, OsEntropy, Receipt, Signable, Signed, TaskId,
    Usage, Voucher, cai,
};

use crate::Result;

const TIMES: u32 = 5_000;

/// Microseconds of processor time each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signatures {
    /// The miner signs the receipt, its hash included.
    pub(crate) receipt: f64,
    /// The coordinator recovers the receipt's signer, its hash included.
    pub(crate) verify: f64,
    /// The coordinator signs a voucher, its hash included.
    pub(crate) voucher: f64,
    /// Of each, the hash of a receipt.
    pub(crate) digest: f64,
}

/// Times what a task needs.
pub(crate) fn measure() -> Result<Signatures> {
    let key = Key::random(&OsEntropy::new()?);
    let deployment = Deployment {
        chain_id: 1337,
        staking: Address::repeat_byte(1),
        payments: Address::repeat_byte(2),
    };
    let receipt = Receipt {
        coordinator: NodeId(1),
        miner: NodeId(2),
        lease: LeaseId::from(B256::repeat_byte(3)),
        task: TaskId::from(B256::repeat_byte(4)),
        model_hash: B256::repeat_byte(5),
        input_hash: B256::repeat_byte(6),
        output_hash: B256::repeat_byte(7),
        states_root: B256::ZERO,
        usage: Usage {
            input_units: 1,
            output_units: 1,
            compute_millis: 1,
        },
    };
    let voucher = Voucher {
        coordinator: NodeId(1),
        miner: NodeId(2),
        cumulative: cai(5),
    };
    let signed = Signed::sign(receipt.clone(), &key, &deployment);
    Ok(Signatures {
        receipt: micros(|| {
            black_box(Signed::sign(black_box(receipt.clone()), &key, &deployment));
        }),
        verify: micros(|| {
            let _ = black_box(black_box(&signed).verify(key.address(), &deployment));
        }),
        voucher: micros(|| {
            black_box(Signed::sign(black_box(voucher.clone()), &key, &deployment));
        }),
        digest: micros(|| {
            black_box(black_box(&receipt).digest(&deployment));
        }),
    })
}

/// The least of ten runs, so that what else the machine does is left out.
fn micros(mut step: impl FnMut()) -> f64 {
    let mut least = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        for _ in 0..TIMES / 10 {
            step();
        }
        least = least.min(start.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES / 10));
    }
    least
}
