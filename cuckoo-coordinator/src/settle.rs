//! Settlement: what verified work earns is promised by a cumulative voucher, written down before anybody sees it.
//!
//! Everything that one commit pays a miner grows its account once, by one voucher: what a signature costs is shared by
//! the tasks that end together.

use std::collections::BTreeMap;

use cuckoo_core::{Deployment, Error, Key, NodeId, Result, Signed, SignedVoucher, Voucher, Wei};

use crate::store::{Account, Change, Payment, Versioned};

/// What each miner is owed, as stored.
#[derive(Debug)]
pub(crate) struct Ledger {
    coordinator: NodeId,
    operator: Key,
    deployment: Deployment,
    accounts: BTreeMap<NodeId, Versioned<Account>>,
}

/// Accounts as a commit is to leave them.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    accounts: BTreeMap<NodeId, Versioned<Account>>,
}

impl Ledger {
    pub(crate) fn new(
        coordinator: NodeId,
        operator: Key,
        deployment: Deployment,
        accounts: Vec<Versioned<Account>>,
    ) -> Self {
        let mut ledger = Self {
            coordinator,
            operator,
            deployment,
            accounts: BTreeMap::new(),
        };
        ledger.reload(accounts);
        ledger
    }

    /// Takes accounts as they are stored now.
    pub(crate) fn reload(&mut self, accounts: Vec<Versioned<Account>>) {
        let by_miner = accounts
            .into_iter()
            .map(|account| (account.value.miner, account));
        self.accounts = by_miner.collect();
    }

    /// The accounts with `payments` added.
    ///
    /// # Errors
    /// `Internal` when a voucher cannot hold the sum.
    pub(crate) fn grow<'a>(
        &self,
        payments: impl IntoIterator<Item = &'a Payment>,
    ) -> Result<Growth> {
        let mut earned: BTreeMap<NodeId, Wei> = BTreeMap::new();
        let overflow = || Error::internal("a miner's pay exceeds what a voucher can hold");
        for payment in payments {
            let sum = earned.entry(payment.miner).or_default();
            *sum = sum.checked_add(payment.amount).ok_or_else(overflow)?;
        }
        let mut growth = Growth::default();
        for (miner, earned) in earned {
            let known = self.accounts.get(&miner);
            let owed = known.map_or(Wei::ZERO, |account| account.value.cumulative());
            let voucher = Voucher {
                coordinator: self.coordinator,
                miner,
                cumulative: owed.checked_add(earned).ok_or_else(overflow)?,
            };
            let voucher = Signed::sign(voucher, &self.operator, &self.deployment);
            let grown = Versioned {
                value: Account { miner, voucher },
                version: known.map_or(0, |account| account.version) + 1,
            };
            growth.accounts.insert(miner, grown);
        }
        Ok(growth)
    }

    /// The latest voucher of a miner that earned something.
    pub(crate) fn voucher(&self, miner: NodeId) -> Option<&SignedVoucher> {
        let account = self.accounts.get(&miner)?;
        Some(&account.value.voucher)
    }

    /// What was committed is how it stands now.
    pub(crate) fn keep(&mut self, growth: Growth) {
        self.accounts.extend(growth.accounts);
    }
}

impl Growth {
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        self.accounts.values().map(|account| Change::Account {
            account: account.value.clone(),
            expected: account.version - 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{Address, B256, LeaseId, SeededEntropy, TaskId, cai};

    use super::*;

    fn payment(lease: u8, miner: u64) -> Payment {
        Payment {
            lease: LeaseId::from(B256::repeat_byte(lease)),
            task: TaskId::from(B256::repeat_byte(lease)),
            miner: NodeId(miner),
            amount: cai(2),
        }
    }

    #[test]
    fn one_voucher_a_miner_covers_all_that_a_commit_pays_it() {
        let deployment = Deployment {
            chain_id: 1,
            staking: Address::ZERO,
            payments: Address::ZERO,
        };
        let key = Key::random(&SeededEntropy::from_number(1));
        let mut ledger = Ledger::new(NodeId(1), key.clone(), deployment, Vec::new());
        let payments = [payment(1, 7), payment(2, 8), payment(3, 7)];
        let growth = ledger.grow(&payments).unwrap();
        assert_eq!(growth.changes().count(), 2);
        // Not committed: as if it had never been.
        assert!(ledger.voucher(NodeId(7)).is_none());
        ledger.keep(ledger.grow(&payments[..1]).unwrap());
        ledger.keep(ledger.grow(&payments).unwrap());
        let voucher = ledger.voucher(NodeId(7)).unwrap();
        assert_eq!(voucher.value.cumulative, cai(6));
        voucher.verify(key.address(), &deployment).unwrap();
    }
}
