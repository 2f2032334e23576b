// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Receipt} from "../../src/Receipts.sol";

/// @notice A receipt's EIP-712 struct hash, computed apart from the contracts under test.
function receiptHash(Receipt memory r) pure returns (bytes32) {
    string memory usageType = "Usage(uint64 inputUnits,uint64 outputUnits,uint64 computeMillis)";
    bytes32 usage = keccak256(
        abi.encode(keccak256(bytes(usageType)), r.usage.inputUnits, r.usage.outputUnits, r.usage.computeMillis)
    );
    bytes32 typehash = keccak256(
        bytes.concat(
            "Receipt(uint64 coordinator,uint64 miner,bytes32 lease,bytes32 task,bytes32 modelHash,",
            "bytes32 inputHash,bytes32 outputHash,bytes32 statesRoot,Usage usage)",
            bytes(usageType)
        )
    );
    bytes memory head = abi.encode(typehash, r.coordinator, r.miner, r.lease, r.task);
    bytes memory tail = abi.encode(r.modelHash, r.inputHash, r.outputHash, r.statesRoot, usage);
    return keccak256(bytes.concat(head, tail));
}
