//! What a contract's refusal means to a person: its custom errors, each as a sentence that says what to do.

mod court;
mod payments;
mod staking;
mod verifiers;

use alloy::primitives::{Address, B256, U256, hex, keccak256};
use alloy::sol_types::{PanicKind, Revert, SolError as _, SolInterface};

use super::evm::Failure;
use crate::{Error, format_cai};

impl Failure {
    /// The error that a caller sees.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Reverted(data) => Error::chain(explain(&data)),
            Self::Other(error) => error,
        }
    }
}

/// The sentence for a contract's revert data, with the name of the contract's error for those who look it up.
fn explain(data: &[u8]) -> String {
    if let Some(text) = custom(data) {
        return text;
    }
    if let Ok(revert) = Revert::abi_decode(data) {
        return format!("the contract refused: {}", revert.reason);
    }
    if let Ok(panic) = alloy::sol_types::Panic::abi_decode(data) {
        let kind = PanicKind::from_number(panic.code.saturating_to());
        let kind = kind.map_or_else(|| panic.code.to_string(), |kind| kind.to_string());
        return format!("the contract failed an inner check ({kind}); please report this");
    }
    if data.is_empty() {
        return "the contract refused without a reason; check the deployment's addresses".into();
    }
    format!(
        "the contract refused with an error that this version does not know ({}); update Cuckoo",
        hex::encode_prefixed(&data[..data.len().min(68)])
    )
}

/// Errors that several contracts have mean the same in all of them.
fn custom(data: &[u8]) -> Option<String> {
    fn decoded<E: SolInterface>(data: &[u8], explain: fn(E) -> String) -> Option<String> {
        E::abi_decode(data).ok().map(explain)
    }
    decoded(data, staking::explain)
        .or_else(|| decoded(data, payments::explain))
        .or_else(|| decoded(data, court::explain))
        .or_else(|| decoded(data, verifiers::equivocation))
        .or_else(|| decoded(data, verifiers::unpaid_voucher))
        .or_else(|| decoded(data, verifiers::faucet))
        .or_else(|| decoded(data, verifiers::timelock))
}

fn cai(amount: U256) -> String {
    format!("{} CAI", format_cai(amount))
}

const REENTRANT: &str =
    "ReentrancyGuardReentrantCall: the contract was called from within its own payment";
const ZERO_ADDRESS: &str = "ZeroAddress: the zero address is nobody's; name an account";
const ZERO_AMOUNT: &str = "ZeroAmount: the amount is zero; give more";

fn setting(name: &str) -> String {
    format!("InvalidConfig: the setting {name} is out of range; see contracts/src for its bounds")
}

fn not_a(error: &str, node: u64, kind: &str) -> String {
    format!("{error}: node {node} is no {kind}; name one that is")
}

fn nothing_due(cumulative: U256, redeemed: U256) -> String {
    format!(
        "NothingDue: the voucher is for {} in all and {} were paid already; wait for a higher one",
        cai(cumulative),
        cai(redeemed)
    )
}

fn receipt_signer(signer: Address, node: u64) -> String {
    let who = if node == 0 {
        "answers for no node".to_owned()
    } else {
        format!("answers for node {node}")
    };
    format!(
        "InvalidReceiptSigner: the receipt's signature is {signer}'s, who {who}; it is no evidence against the miner it names"
    )
}

fn unauthorised(account: Address, role: B256) -> String {
    let name = [
        ("admin", B256::ZERO),
        ("verifier", keccak256("VERIFIER_ROLE")),
        ("pauser", keccak256("PAUSER_ROLE")),
    ]
    .into_iter()
    .find(|(_, id)| *id == role);
    let name = name.map_or_else(|| role.to_string(), |(name, _)| name.to_owned());
    format!(
        "AccessControlUnauthorizedAccount: {account} does not have the role `{name}`; send this with a key that has it, or through the timelock"
    )
}

fn transfer_failed(to: Address, amount: U256) -> String {
    format!(
        "TransferFailed: {to} did not accept {}; pay to an account that does",
        cai(amount)
    )
}

#[cfg(test)]
mod tests {
    use super::super::abi::payments::Payments;
    use super::super::abi::staking::Staking;
    use super::*;

    #[test]
    fn refusals_name_the_error_and_the_way_out() {
        let data = Staking::InsufficientFreeStake {
            staker: alloy::primitives::Address::repeat_byte(1),
            free: crate::cai(1),
            wanted: crate::cai(2),
        }
        .abi_encode();
        let text = explain(&data);
        assert!(text.starts_with("InsufficientFreeStake: 0x0101"), "{text}");
        assert!(
            text.contains("has 1 CAI of free stake and needs 2 CAI"),
            "{text}"
        );

        let data = Payments::EscrowEmpty { coordinator: 3 }.abi_encode();
        assert!(explain(&data).contains("coordinator node 3 has no escrow left"));
    }

    #[test]
    fn strangers_refusals_are_told_apart() {
        assert!(explain(&[]).contains("without a reason"));
        assert!(explain(&[1, 2, 3, 4]).contains("0x01020304"));
        assert!(explain(&Revert::from("no").abi_encode()).ends_with("refused: no"));
        let panic = alloy::sol_types::Panic::from(PanicKind::DivisionByZero);
        assert!(explain(&panic.abi_encode()).contains("inner check"));
        // A hostile endpoint cannot flood a log.
        assert!(explain(&[0xee; 1 << 20]).len() < 300);
    }
}
