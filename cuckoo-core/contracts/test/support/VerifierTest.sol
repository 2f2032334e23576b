// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {EquivocationVerifier} from "../../src/EquivocationVerifier.sol";
import {Voucher} from "../../src/IPayments.sol";
import {NodeKind} from "../../src/IStaking.sol";
import {Receipt, Usage} from "../../src/Receipts.sol";
import {UnpaidVoucherVerifier} from "../../src/UnpaidVoucherVerifier.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice A market with both verifiers, Alice's coordinator and Bob's miner, each with the least vote.
abstract contract VerifierTest is MarketTest {
    uint256 internal constant PENALTY = 5000 ether;
    uint64 internal constant NOTICE = 2 days;

    EquivocationVerifier internal equivocation;
    UnpaidVoucherVerifier internal unpaid;
    uint256 internal coordinatorKey;
    uint256 internal minerKey;
    uint64 internal coordinator;
    uint64 internal miner;

    function setUp() public virtual override {
        super.setUp();
        equivocation = new EquivocationVerifier(staking, PENALTY);
        unpaid = new UnpaidVoucherVerifier(payments, NOTICE);
        authorise(address(equivocation));
        authorise(address(unpaid));
        (coordinatorKey, minerKey) = (newKey(), newKey());
        coordinator = register(NodeKind.Coordinator, alice, coordinatorKey);
        miner = register(NodeKind.Miner, bob, minerKey);
        vote(alice, coordinator, COORDINATOR_MINIMUM);
        vote(bob, miner, MINER_MINIMUM);
        nextEpoch();
    }

    /// @dev Puts a fresh key in the place of a node's operator.
    function rotate(uint64 node, NodeKind kind, address owner) internal returns (uint256 key) {
        key = newKey();
        bytes memory consent = signConsent(key, owner, kind, 0, block.timestamp);
        vm.prank(owner);
        staking.rotateOperator(node, vm.addr(key), block.timestamp, consent);
    }

    function deposit(uint256 amount) internal {
        vm.deal(carol, carol.balance + amount);
        vm.prank(carol);
        payments.deposit{value: amount}(coordinator);
    }

    function owed(uint256 cumulative) internal view returns (Voucher memory) {
        return Voucher({coordinator: coordinator, miner: miner, cumulative: cumulative});
    }

    function receiptOf(bytes32 lease, bytes32 output) internal view returns (Receipt memory) {
        return Receipt({
            coordinator: coordinator,
            miner: miner,
            lease: lease,
            task: "task",
            modelHash: "model",
            inputHash: "input",
            outputHash: output,
            statesRoot: 0,
            usage: Usage({inputUnits: 1, outputUnits: 2, computeMillis: 3})
        });
    }

    function signReceipt(uint256 key, Receipt memory receipt) internal view returns (bytes memory) {
        return signature(key, receiptDigest(receipt, block.chainid, address(staking)));
    }

    /// @dev What both pools of a node hold, in wei.
    function stakeOf(uint64 node) internal view returns (uint256) {
        return uint256(staking.activePool(node).amount) + staking.unbondingPool(node).amount;
    }
}
