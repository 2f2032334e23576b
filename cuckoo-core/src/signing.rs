//! EIP-712: which types are signed, and under which domain.
//!
//! Receipts, sessions and grants are bound to the chain and the `Staking` contract, vouchers to the chain and the
//! `Payments` contract, an operator's consent to `Staking`'s own domain. So no signature is valid twice.

use alloy::primitives::{Address, B256};
use alloy::sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};

use crate::{Key, Result, Signature};

/// The contracts of one market on one chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Deployment {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Address of `Staking`.
    #[schema(value_type = crate::schema::Address)]
    pub staking: Address,
    /// Address of `Payments`.
    #[schema(value_type = crate::schema::Address)]
    pub payments: Address,
}

impl Deployment {
    /// Domain of receipts, sessions and grants.
    pub fn market_domain(&self) -> Eip712Domain {
        domain("Cuckoo", self.chain_id, self.staking)
    }

    /// Domain of `OperatorConsent`, checked by `Staking`.
    pub fn staking_domain(&self) -> Eip712Domain {
        domain("Cuckoo Staking", self.chain_id, self.staking)
    }

    /// Domain of vouchers, checked by `Payments`.
    pub fn payments_domain(&self) -> Eip712Domain {
        domain("Cuckoo Payments", self.chain_id, self.payments)
    }
}

fn domain(name: &'static str, chain_id: u64, contract: Address) -> Eip712Domain {
    alloy::sol_types::eip712_domain! {
        name: name,
        version: "1",
        chain_id: chain_id,
        verifying_contract: contract,
    }
}

/// Something a key signs: how it is hashed, and under which of a deployment's domains.
pub trait Signable {
    /// The EIP-712 digest.
    fn digest(&self, deployment: &Deployment) -> B256;
}

/// A value and the signature over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Signed<T> {
    /// What is signed.
    pub value: T,
    /// EIP-712 signature over `value`.
    pub signature: Signature,
}

impl<T: Signable> Signed<T> {
    /// Signs `value` with `key`.
    ///
    /// ```
    /// use cuckoo_core::*;
    ///
    /// let deployment = Deployment { chain_id: 1337, staking: Address::ZERO, payments: Address::ZERO };
    /// let key = Key::random(&SeededEntropy::from_number(1));
    /// let voucher = Voucher { coordinator: NodeId(1), miner: NodeId(2), cumulative: cai(5) };
    /// let signed = Signed::sign(voucher, &key, &deployment);
    /// signed.verify(key.address(), &deployment)?;
    ///
    /// let elsewhere = Deployment { chain_id: 1, ..deployment };
    /// assert!(signed.verify(key.address(), &elsewhere).is_err());
    /// # Ok::<(), Error>(())
    /// ```
    pub fn sign(value: T, key: &Key, deployment: &Deployment) -> Self {
        let signature = key.sign(value.digest(deployment));
        Self { value, signature }
    }

    /// Checks that `signer` signed the value.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`](crate::ErrorKind::Unverified) when somebody else did, or nobody.
    pub fn verify(&self, signer: Address, deployment: &Deployment) -> Result<()> {
        self.signature.verify(self.value.digest(deployment), signer)
    }

    /// The address that signed the value.
    ///
    /// # Errors
    /// [`ErrorKind::Unverified`](crate::ErrorKind::Unverified) when the signature is malformed.
    pub fn signer(&self, deployment: &Deployment) -> Result<Address> {
        self.signature.recover(self.value.digest(deployment))
    }
}

/// What Solidity hashes, kept apart from the Rust types so that field names follow each language's custom.
mod typed {
    alloy::sol! {
        struct Session { address coordinator; address miner; bytes32 nonce; uint64 expiry; }
        struct SessionGrant { address coordinator; address miner; bytes32 nonce; bytes32 tokenHash; uint64 expiry; }
        struct Usage { uint64 inputUnits; uint64 outputUnits; uint64 computeMillis; }
        struct Receipt {
            uint64 coordinator;
            uint64 miner;
            bytes32 lease;
            bytes32 task;
            bytes32 modelHash;
            bytes32 inputHash;
            bytes32 outputHash;
            bytes32 statesRoot;
            Usage usage;
        }
        struct Voucher { uint64 coordinator; uint64 miner; uint256 cumulative; }
        struct OperatorConsent { address owner; address operator; uint8 kind; uint256 nonce; uint256 deadline; }
    }
}

impl Signable for crate::Session {
    fn digest(&self, deployment: &Deployment) -> B256 {
        typed::Session {
            coordinator: self.coordinator,
            miner: self.miner,
            nonce: self.nonce,
            expiry: self.expiry.as_millis(),
        }
        .eip712_signing_hash(&deployment.market_domain())
    }
}

impl Signable for crate::SessionGrant {
    fn digest(&self, deployment: &Deployment) -> B256 {
        typed::SessionGrant {
            coordinator: self.coordinator,
            miner: self.miner,
            nonce: self.nonce,
            tokenHash: self.token_hash,
            expiry: self.expiry.as_millis(),
        }
        .eip712_signing_hash(&deployment.market_domain())
    }
}

impl Signable for crate::Receipt {
    fn digest(&self, deployment: &Deployment) -> B256 {
        typed::Receipt {
            coordinator: self.coordinator.0,
            miner: self.miner.0,
            lease: self.lease.word(),
            task: self.task.word(),
            modelHash: self.model_hash,
            inputHash: self.input_hash,
            outputHash: self.output_hash,
            statesRoot: self.states_root,
            usage: typed::Usage {
                inputUnits: self.usage.input_units,
                outputUnits: self.usage.output_units,
                computeMillis: self.usage.compute_millis,
            },
        }
        .eip712_signing_hash(&deployment.market_domain())
    }
}

impl Signable for crate::Voucher {
    fn digest(&self, deployment: &Deployment) -> B256 {
        typed::Voucher {
            coordinator: self.coordinator.0,
            miner: self.miner.0,
            cumulative: self.cumulative,
        }
        .eip712_signing_hash(&deployment.payments_domain())
    }
}

impl Signable for crate::OperatorConsent {
    fn digest(&self, deployment: &Deployment) -> B256 {
        typed::OperatorConsent {
            owner: self.owner,
            operator: self.operator,
            kind: self.kind.discriminant(),
            nonce: self.nonce,
            deadline: alloy::primitives::U256::from(self.deadline),
        }
        .eip712_signing_hash(&deployment.staking_domain())
    }
}
