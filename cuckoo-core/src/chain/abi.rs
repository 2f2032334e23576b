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
