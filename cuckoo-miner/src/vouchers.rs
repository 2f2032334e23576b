//! What coordinators owe: the latest voucher of each, verified before it is believed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use cuckoo_core::{Deployment, Error, NodeId, Result, SignedVoucher, Wei};

use crate::session::OpenSession;

/// The best voucher of each coordinator for each node this operator signed for.
#[derive(Debug, Default)]
pub(crate) struct VoucherBook(Mutex<BTreeMap<(NodeId, NodeId), SignedVoucher>>);

impl VoucherBook {
    /// A book that starts with vouchers kept from before.
    pub(crate) fn new(kept: Vec<SignedVoucher>) -> Self {
        let book = Self::default();
        for voucher in kept {
            book.keep(voucher);
        }
        book
    }

    /// Checks a voucher that came in `session` and keeps it when it is worth more than the one at hand. A smaller one
    /// is ignored: replies overtake each other, and a coordinator that forgot what it owed still owes it.
    ///
    /// Gives by how much it grew, in wei; nothing when it is not kept.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`](cuckoo_core::ErrorKind::Unverified) when it names other nodes or its coordinator did not
    /// sign it.
    pub(crate) fn accept(
        &self,
        voucher: SignedVoucher,
        session: &OpenSession,
        deployment: &Deployment,
    ) -> Result<Option<Wei>> {
        let value = &voucher.value;
        if value.coordinator != session.coordinator || value.miner != session.miner {
            return Err(Error::unverified(format!(
                "a voucher of {} for {} came in a session of {} with {}; it is not kept",
                value.coordinator, value.miner, session.coordinator, session.miner
            )));
        }
        voucher
            .verify(session.operator, deployment)
            .map_err(|source| {
                Error::unverified("a voucher is not signed by its coordinator; it is not kept")
                    .with_source(source)
            })?;
        Ok(self.keep(voucher))
    }

    fn keep(&self, voucher: SignedVoucher) -> Option<Wei> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (voucher.value.coordinator, voucher.value.miner);
        let kept = book.get(&key).map(|kept| kept.value.cumulative);
        let growth = voucher
            .value
            .cumulative
            .checked_sub(kept.unwrap_or_default())
            .filter(|growth| !growth.is_zero())?;
        book.insert(key, voucher);
        Some(growth)
    }

    /// The latest voucher of one coordinator for one node.
    pub(crate) fn latest(&self, coordinator: NodeId, miner: NodeId) -> Option<SignedVoucher> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(&(coordinator, miner)).cloned()
    }

    /// What one coordinator owes one node in all, in wei.
    pub(crate) fn owed(&self, coordinator: NodeId, miner: NodeId) -> Wei {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(&(coordinator, miner))
            .map(|voucher| voucher.value.cumulative)
            .unwrap_or_default()
    }

    /// Every voucher kept.
    pub(crate) fn all(&self) -> Vec<SignedVoucher> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{Address, ErrorKind, Key, SeededEntropy, Signed, Voucher, cai};

    use super::*;

    const DEPLOYMENT: Deployment = Deployment {
        chain_id: 7,
        staking: Address::ZERO,
        payments: Address::ZERO,
    };

    #[test]
    fn only_growing_vouchers_of_the_coordinator_are_kept() {
        let entropy = SeededEntropy::from_number(1);
        let coordinator = Key::random(&entropy);
        let session = OpenSession::for_tests(NodeId(1), coordinator.address(), NodeId(2));
        let sign = |key: &Key, coordinator, miner, amount| {
            let voucher = Voucher {
                coordinator: NodeId(coordinator),
                miner: NodeId(miner),
                cumulative: cai(amount),
            };
            Signed::sign(voucher, key, &DEPLOYMENT)
        };
        let book = VoucherBook::default();
        let accept = |voucher| book.accept(voucher, &session, &DEPLOYMENT);

        for (amount, growth) in [(5, Some(5)), (3, None), (5, None), (6, Some(1))] {
            let grown = accept(sign(&coordinator, 1, 2, amount)).unwrap();
            assert_eq!(grown, growth.map(cai), "after {amount}");
        }
        assert_eq!(book.owed(NodeId(1), NodeId(2)), cai(6));

        let stranger = Key::random(&entropy);
        let mut forged = sign(&coordinator, 1, 2, 7);
        forged.value.cumulative = cai(1_000);
        for bad in [
            sign(&stranger, 1, 2, 9),
            sign(&coordinator, 1, 3, 9),
            sign(&coordinator, 2, 2, 9),
            forged,
        ] {
            assert_eq!(accept(bad).unwrap_err().kind(), ErrorKind::Unverified);
        }
        assert_eq!(book.owed(NodeId(1), NodeId(2)), cai(6));
        let restored = VoucherBook::new(book.all());
        assert_eq!(restored.all(), book.all());
        assert_eq!(restored.owed(NodeId(9), NodeId(2)), Wei::ZERO);
    }
}
