//! Signed transactions (EIP-1559): made, raised, read back.

use alloy::consensus::{SignableTransaction as _, Transaction as _, TxEip1559, TxEnvelope};
use alloy::eips::{Decodable2718 as _, Encodable2718 as _};
use alloy::primitives::{Address, B256, Bytes as EvmBytes, TxKind, U256, keccak256};

use crate::{Error, Key, Result};

/// Gas of a transaction that moves nothing.
const BARE_GAS: u64 = 21_000;

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) to: TxKind,
    pub(crate) value: U256,
    pub(crate) data: EvmBytes,
}

impl Call {
    /// Does nothing.
    pub(super) fn nothing(account: Address) -> Self {
        Self {
            to: TxKind::Call(account),
            value: U256::ZERO,
            data: EvmBytes::new(),
        }
    }

    /// Names it: equal for equal calls only.
    pub(super) fn content(&self) -> B256 {
        let to = self.to.to().map_or([0; 21], |to| {
            let mut bytes = [1; 21];
            bytes[1..].copy_from_slice(to.as_slice());
            bytes
        });
        keccak256([&to[..], &self.value.to_be_bytes::<32>(), &self.data].concat())
    }
}

/// What a unit of gas may cost, in wei (EIP-1559).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fees {
    pub(super) most: u128,
    pub(super) tip: u128,
}

impl Fees {
    /// Fees that replace a transaction with `self`: at least an eighth more of both, which is geth's and reth's least
    /// (10 %) and some nodes' (12.5 %), and what the chain asks for now. `None` beyond the limit.
    pub(super) fn raised(self, now: Self, limit: u128) -> Option<Self> {
        let eighth = |fee: u128| fee.saturating_add(fee.div_ceil(8)).saturating_add(1);
        let tip = eighth(self.tip).max(now.tip);
        let least = eighth(self.most).max(tip);
        let most = least.max(now.most.min(limit));
        (most <= limit).then_some(Self { most, tip })
    }

    /// The same within the limit; `None` when even the tip is beyond it.
    pub(super) fn within(self, limit: u128) -> Option<Self> {
        (self.tip <= limit).then_some(Self {
            most: self.most.min(limit),
            tip: self.tip,
        })
    }
}

/// One signed form of a transaction; replacements are others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) nonce: u64,
    pub(super) hash: B256,
    /// As handed to nodes (EIP-2718).
    pub(super) raw: EvmBytes,
    pub(super) gas: u64,
    pub(super) fees: Fees,
    /// It does nothing but use up its nonce, and why.
    pub(super) cancels: Option<String>,
}

impl Variant {
    /// Signs a call.
    pub(super) fn sign(
        key: &Key,
        chain_id: u64,
        nonce: u64,
        call: &Call,
        gas: u64,
        fees: Fees,
    ) -> Self {
        let transaction = TxEip1559 {
            chain_id,
            nonce,
            gas_limit: gas,
            max_fee_per_gas: fees.most,
            max_priority_fee_per_gas: fees.tip,
            to: call.to,
            value: call.value,
            input: call.data.clone(),
            ..TxEip1559::default()
        };
        let bytes = *key.sign(transaction.signature_hash()).as_bytes();
        let signature =
            alloy::primitives::Signature::from_bytes_and_parity(&bytes[..64], bytes[64] == 28);
        let signed = transaction.into_signed(signature);
        Self {
            nonce,
            hash: *signed.hash(),
            raw: signed.encoded_2718().into(),
            gas,
            fees,
            cancels: None,
        }
    }

    /// Signs a transfer of nothing to oneself, which uses up a nonce.
    pub(super) fn cancel(key: &Key, chain_id: u64, nonce: u64, fees: Fees, why: String) -> Self {
        let nothing = Call::nothing(key.address());
        Self {
            cancels: Some(why),
            ..Self::sign(key, chain_id, nonce, &nothing, BARE_GAS, fees)
        }
    }

    /// Reads a transaction back that this module signed, and what it does.
    ///
    /// # Errors
    /// `Invalid` when these bytes are none.
    pub(super) fn read(raw: EvmBytes, cancels: Option<String>) -> Result<(Self, Call)> {
        let envelope = TxEnvelope::decode_2718_exact(&raw).map_err(|source| {
            Error::invalid("a transaction in the journal cannot be read").with_source(source)
        })?;
        let call = Call {
            to: envelope.kind(),
            value: envelope.value(),
            data: envelope.input().clone(),
        };
        let variant = Self {
            nonce: envelope.nonce(),
            hash: *envelope.tx_hash(),
            gas: envelope.gas_limit(),
            fees: Fees {
                most: envelope.max_fee_per_gas(),
                tip: envelope.max_priority_fee_per_gas().unwrap_or_default(),
            },
            raw,
            cancels,
        };
        Ok((variant, call))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_signed_is_read_back() {
        let key = Key::from_bytes(B256::repeat_byte(5)).unwrap();
        let fees = Fees { most: 7, tip: 3 };
        for to in [TxKind::Create, TxKind::Call(Address::repeat_byte(4))] {
            let call = Call {
                to,
                value: U256::from(9),
                data: vec![1, 2, 3].into(),
            };
            let variant = Variant::sign(&key, 31_337, 12, &call, 50_000, fees);
            let read = Variant::read(variant.raw.clone(), None).unwrap();
            assert_eq!(read, (variant, call));
        }
        let cancel = Variant::cancel(&key, 1, 2, fees, "no funds".into());
        let (read, call) = Variant::read(cancel.raw.clone(), cancel.cancels.clone()).unwrap();
        assert_eq!((read, call), (cancel, Call::nothing(key.address())));
        assert!(Variant::read(vec![2, 0xc0].into(), None).is_err());
    }

    #[test]
    fn different_calls_have_different_names() {
        let call = |to, value: u64, data: &[u8]| {
            Call {
                to,
                value: U256::from(value),
                data: data.to_vec().into(),
            }
            .content()
        };
        let zero = TxKind::Call(Address::ZERO);
        let names = std::collections::HashSet::from([
            call(zero, 0, &[]),
            call(TxKind::Create, 0, &[]),
            call(zero, 1, &[]),
            call(zero, 0, &[0]),
        ]);
        assert_eq!(names.len(), 4);
    }

    proptest! {
        #[test]
        fn replacements_pay_an_eighth_more_and_never_beyond_the_limit(
            most in 0..1_u128 << 64, tip in 0..1_u128 << 64,
            asked in 0..1_u128 << 65, asked_tip in 0..1_u128 << 64,
            limit in 0..1_u128 << 66,
        ) {
            let old = Fees { most: most.max(tip), tip };
            let now = Fees { most: asked.max(asked_tip), tip: asked_tip };
            match old.raised(now, limit) {
                Some(new) => {
                    prop_assert!(new.most * 8 >= old.most * 9 && new.tip * 8 >= old.tip * 9);
                    prop_assert!(new.tip <= new.most && new.most <= limit);
                    prop_assert!(new.most >= now.most.min(limit) && new.tip >= now.tip);
                }
                None => prop_assert!((old.most + old.most.div_ceil(8) + 1).max(old.tip + old.tip.div_ceil(8) + 1).max(now.tip) > limit),
            }
        }
    }
}
