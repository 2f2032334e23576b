// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {IStaking} from "./IStaking.sol";

/// @notice What a task consumed.
struct Usage {
    uint64 inputUnits;
    uint64 outputUnits;
    uint64 computeMillis;
}

/// @notice A miner's claim: this lease's task, on this model and input, gave this output.
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

/// @title Receipts as evidence: who signed one, in the domain {name: "Cuckoo", version: "1", chainId, Staking}.
library Receipts {
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant USAGE_TYPEHASH =
        keccak256("Usage(uint64 inputUnits,uint64 outputUnits,uint64 computeMillis)");
    bytes32 private constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(uint64 coordinator,uint64 miner,bytes32 lease,bytes32 task,bytes32 modelHash,bytes32 inputHash,bytes32 outputHash,bytes32 statesRoot,Usage usage)Usage(uint64 inputUnits,uint64 outputUnits,uint64 computeMillis)"
    );

    /// @notice The signer answers for another node than the receipt's miner, or for none (any more).
    error InvalidReceiptSigner(address signer, uint64 node);

    /// @notice The digest that the miner's operator signs.
    function digest(Receipt calldata receipt, IStaking staking) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(DOMAIN_TYPEHASH, keccak256("Cuckoo"), keccak256("1"), block.chainid, address(staking))
        );
        bytes32 usage = keccak256(
            abi.encode(USAGE_TYPEHASH, receipt.usage.inputUnits, receipt.usage.outputUnits, receipt.usage.computeMillis)
        );
        bytes32 hash = keccak256(
            abi.encode(
                RECEIPT_TYPEHASH,
                receipt.coordinator,
                receipt.miner,
                receipt.lease,
                receipt.task,
                receipt.modelHash,
                receipt.inputHash,
                receipt.outputHash,
                receipt.statesRoot,
                usage
            )
        );
        return MessageHashUtils.toTypedDataHash(domain, hash);
    }

    /// @notice Reverts unless an operator accountable for the receipt's miner signed it; gives the digest.
    function check(Receipt calldata receipt, bytes calldata signature, IStaking staking)
        internal
        view
        returns (bytes32 digest_)
    {
        digest_ = digest(receipt, staking);
        (address signer,,) = ECDSA.tryRecoverCalldata(digest_, signature);
        (uint64 node,) = staking.nodeOfOperator(signer);
        if (node == 0 || node != receipt.miner) revert InvalidReceiptSigner(signer, node);
    }
}
