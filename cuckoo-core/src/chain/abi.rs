//! The contracts' ABI and bytecode, from the committed artifacts: a change of the Solidity that this crate does not follow
//! fails to compile.

#![allow(
    missing_docs,
    clippy::too_many_arguments,
    reason = "the generated code follows Solidity, which is documented in contracts/src"
)]

pub(crate) mod staking {
    alloy::sol!(
        #![sol(all_derives)]
        Staking,
        "contracts/artifacts/Staking.json"
    );
}

pub(crate) mod payments {
    alloy::sol!(
        #![sol(all_derives)]
        Payments,
        "contracts/artifacts/Payments.json"
    );
}

pub(crate) mod court {
    alloy::sol!(
        #![sol(all_derives)]
        DisputeCourt,
        "contracts/artifacts/DisputeCourt.json"
    );
}

pub(crate) mod equivocation {
    alloy::sol!(
        #![sol(all_derives)]
        EquivocationVerifier,
        "contracts/artifacts/EquivocationVerifier.json"
    );
}

pub(crate) mod unpaid_voucher {
    alloy::sol!(
        #![sol(all_derives)]
        UnpaidVoucherVerifier,
        "contracts/artifacts/UnpaidVoucherVerifier.json"
    );
}

pub(crate) mod faucet {
    alloy::sol!(
        #![sol(all_derives)]
        Faucet,
        "contracts/artifacts/Faucet.json"
    );
}

pub(crate) mod timelock {
    alloy::sol!(
        #![sol(all_derives)]
        TimelockController,
        "contracts/artifacts/TimelockController.json"
    );
}
