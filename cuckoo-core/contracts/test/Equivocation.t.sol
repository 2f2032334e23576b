// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {EquivocationVerifier} from "../src/EquivocationVerifier.sol";
import {IStaking, NodeKind} from "../src/IStaking.sol";
import {Receipt, Receipts, Usage} from "../src/Receipts.sol";
import {Wallet} from "./support/Receivers.sol";
import {VerifierTest} from "./support/VerifierTest.sol";

/// @notice The library's digest, callable.
contract Digests {
    function digest(Receipt calldata receipt, IStaking staking) external view returns (bytes32) {
        return Receipts.digest(receipt, staking);
    }
}

contract EquivocationTest is VerifierTest {
    bytes32 private constant LEASE = "lease";
    bytes32 private constant OTHER_LEASE = "lease 2";
    bytes32 private constant TASK = "task";
    bytes32 private constant OTHER_TASK = "task 2";
    bytes32 private constant CIRCLE = "a red circle";
    bytes32 private constant SQUARE = "a blue square";

    function first() private view returns (Receipt memory) {
        return receiptOf(LEASE, CIRCLE);
    }

    function second() private view returns (Receipt memory) {
        return receiptOf(LEASE, SQUARE);
    }

    function report(Receipt memory one, Receipt memory other) private returns (uint256) {
        return report(one, signReceipt(minerKey, one), other, signReceipt(minerKey, other));
    }

    function report(Receipt memory one, bytes memory signature, Receipt memory other, bytes memory otherSignature)
        private
        returns (uint256)
    {
        vm.prank(carol);
        return equivocation.report(one, signature, other, otherSignature);
    }

    function refused(Receipt memory one, Receipt memory other, bytes memory reason) private {
        (bytes memory signature, bytes memory otherSignature) =
            (signReceipt(minerKey, one), signReceipt(minerKey, other));
        vm.expectRevert(reason);
        report(one, signature, other, otherSignature);
        vm.assertEq(stakeOf(miner), MINER_MINIMUM);
    }

    function refusedSigner(Receipt memory one, bytes memory signature, bytes memory otherSignature) private {
        vm.expectPartialRevert(Receipts.InvalidReceiptSigner.selector);
        report(one, signature, second(), otherSignature);
        vm.expectPartialRevert(Receipts.InvalidReceiptSigner.selector);
        report(second(), otherSignature, one, signature);
        vm.assertEq(stakeOf(miner), MINER_MINIMUM);
    }

    function alreadyUsed() private view returns (bytes memory) {
        return
            abi.encodeWithSelector(IStaking.EvidenceUsed.selector, equivocation.evidenceOf(miner, coordinator, LEASE));
    }

    // --- what it is ---

    function test_digest_is_the_one_that_miners_sign() public {
        // The receipt of cuckoo-core/tests/golden/signed_types.json.
        Receipt memory receipt = Receipt({
            coordinator: 1,
            miner: 2,
            lease: bytes32(0x1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e1e),
            task: bytes32(0x7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a),
            modelHash: bytes32(0x0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d),
            inputHash: bytes32(0x9360b9095a3a102aee0d4ac33e2bf2ca69278e90e7e59a5105ff21a7c7a08e0f),
            outputHash: bytes32(0xc8c31366c1bb49687710a3d85623af05e8b7d04a1af22917dd088ebb7cf542f1),
            statesRoot: 0,
            usage: Usage({inputUnits: 3, outputUnits: 4096, computeMillis: 1234})
        });
        address deployment = address(0x5151515151515151515151515151515151515151);
        bytes32 golden = 0x416d84589ef71882dc35d404577ab144d89e7eebee8cea9adf0b98c2d21772fa;
        vm.chainId(1210);
        vm.assertEq(uint256(new Digests().digest(receipt, IStaking(deployment))), uint256(golden));
        vm.assertEq(uint256(receiptDigest(receipt, 1210, deployment)), uint256(golden));
    }

    function test_two_outputs_for_one_lease_cost_the_penalty() public {
        bytes32 evidence = equivocation.evidenceOf(miner, coordinator, LEASE);
        (bytes memory signature, bytes memory otherSignature) =
            (signReceipt(minerKey, first()), signReceipt(minerKey, second()));
        vm.expectEmit(address(staking));
        emit IStaking.Slashed(miner, evidence, address(equivocation), PENALTY, 0);
        vm.expectEmit(address(equivocation));
        emit EquivocationVerifier.Equivocated(miner, coordinator, LEASE, carol, CIRCLE, SQUARE, PENALTY);
        vm.assertEq(report(first(), signature, second(), otherSignature), PENALTY);
        vm.assertEq(stakeOf(miner), MINER_MINIMUM - PENALTY);
        vm.assertEq(staking.freeStake(carol), PENALTY * REPORTER_BPS / 10_000, "reporter");
        vm.assertEq(staking.freeStake(alice), PENALTY * staking.wrongedBps() / 10_000, "the coordinator's owner");
        vm.assertTrue(staking.evidenceUsed(evidence));
    }

    function testFuzz_any_two_outputs(bytes32 lease, bytes32 output, bytes32 other, Usage memory usage) public {
        vm.assume(output != other);
        Receipt memory receipt = receiptOf(lease, other);
        (receipt.usage, receipt.modelHash, receipt.inputHash, receipt.statesRoot) = (usage, lease, output, other);
        vm.assertEq(report(receiptOf(lease, output), receipt), PENALTY);
    }

    // --- once ---

    function test_one_lease_is_slashed_once_however_it_is_told() public {
        report(first(), second());
        bytes memory used = alreadyUsed();
        (bytes memory a, bytes memory b) = (signReceipt(minerKey, first()), signReceipt(minerKey, second()));
        vm.expectRevert(used);
        report(first(), a, second(), b);
        vm.expectRevert(used);
        report(second(), b, first(), a);

        // A third output.
        Receipt memory third = receiptOf(LEASE, "a green star");
        bytes memory c = signReceipt(minerKey, third);
        vm.expectRevert(used);
        report(first(), a, third, c);

        // The same receipts, signed by the miner's next key.
        uint256 next = rotate(miner, NodeKind.Miner, bob);
        b = signReceipt(next, second());
        vm.expectRevert(used);
        report(first(), a, second(), b);
        vm.assertEq(stakeOf(miner), MINER_MINIMUM - PENALTY);
    }

    function test_a_later_verifier_does_not_slash_for_it_again() public {
        report(first(), second());
        bytes memory used = alreadyUsed();
        equivocation = new EquivocationVerifier(staking, type(uint256).max);
        authorise(address(equivocation));
        (bytes memory a, bytes memory b) = (signReceipt(minerKey, first()), signReceipt(minerKey, second()));
        vm.expectRevert(used);
        report(first(), a, second(), b);
    }

    function test_another_lease_is_another_fault() public {
        report(first(), second());
        vm.assertEq(report(receiptOf(OTHER_LEASE, "x"), receiptOf(OTHER_LEASE, "y")), PENALTY);
        vm.assertEq(stakeOf(miner), MINER_MINIMUM - 2 * PENALTY);
    }

    function test_mirrored_signatures_are_none() public {
        (bytes memory a, bytes memory b) = (signReceipt(minerKey, first()), signReceipt(minerKey, second()));
        refusedSigner(first(), mirrored(a), b);
        report(first(), a, second(), b);
        vm.expectPartialRevert(Receipts.InvalidReceiptSigner.selector);
        report(first(), mirrored(a), second(), b);
    }

    // --- what is none ---

    function test_the_same_output_signed_again_is_none() public {
        bytes memory same = abi.encodeWithSelector(EquivocationVerifier.SameOutput.selector, CIRCLE);
        refused(first(), first(), same);
        Receipt memory again = first();
        again.usage.computeMillis = 4;
        refused(first(), again, same);
        again.statesRoot = "states";
        again.modelHash = "another model";
        refused(first(), again, same);
    }

    function test_receipts_of_two_miners_are_none() public {
        uint256 key = newKey();
        Receipt memory other = second();
        other.miner = register(NodeKind.Miner, carol, key);
        refused(
            first(), other, abi.encodeWithSelector(EquivocationVerifier.DifferentMiners.selector, miner, other.miner)
        );
    }

    function test_one_lease_id_at_two_coordinators_is_none() public {
        Receipt memory other = second();
        other.coordinator = register(NodeKind.Coordinator, carol, newKey());
        refused(
            first(),
            other,
            abi.encodeWithSelector(EquivocationVerifier.DifferentCoordinators.selector, coordinator, other.coordinator)
        );
    }

    function test_two_leases_are_none() public {
        refused(
            first(),
            receiptOf(OTHER_LEASE, SQUARE),
            abi.encodeWithSelector(EquivocationVerifier.DifferentLeases.selector, LEASE, OTHER_LEASE)
        );
    }

    function test_a_lease_id_used_for_two_tasks_frames_nobody() public {
        Receipt memory other = second();
        other.task = OTHER_TASK;
        refused(first(), other, abi.encodeWithSelector(EquivocationVerifier.DifferentTasks.selector, TASK, OTHER_TASK));
    }

    function test_only_miners_and_coordinators_have_leases() public {
        (Receipt memory one, Receipt memory other) = (first(), second());
        (one.coordinator, other.coordinator) = (miner, miner);
        refused(one, other, abi.encodeWithSelector(EquivocationVerifier.NotCoordinator.selector, miner));
        (one.coordinator, other.coordinator) = (77, 77);
        refused(one, other, abi.encodeWithSelector(EquivocationVerifier.NotCoordinator.selector, 77));

        (one, other) = (first(), second());
        (one.miner, other.miner) = (coordinator, coordinator);
        (bytes memory a, bytes memory b) = (signReceipt(coordinatorKey, one), signReceipt(coordinatorKey, other));
        vm.expectRevert(abi.encodeWithSelector(EquivocationVerifier.NotMiner.selector, coordinator));
        report(one, a, other, b);
        (one.miner, other.miner) = (0, 0);
        refused(one, other, abi.encodeWithSelector(EquivocationVerifier.NotMiner.selector, 0));
    }

    // --- who signed ---

    function test_other_signers() public {
        bytes memory good = signReceipt(minerKey, second());
        // Nobody's key, the coordinator's, another miner's, nothing, too long.
        refusedSigner(first(), signReceipt(newKey(), first()), good);
        refusedSigner(first(), signReceipt(coordinatorKey, first()), good);
        uint256 other = newKey();
        register(NodeKind.Miner, carol, other);
        refusedSigner(first(), signReceipt(other, first()), good);
        refusedSigner(first(), "", good);
        refusedSigner(first(), bytes.concat(signReceipt(minerKey, first()), hex"00"), good);
        refusedSigner(first(), new bytes(65), good);
        // A signature over the other receipt.
        refusedSigner(first(), good, good);
    }

    function test_signatures_for_another_chain_or_contract() public {
        bytes memory good = signReceipt(minerKey, second());
        bytes32 digest = receiptDigest(first(), block.chainid + 1, address(staking));
        refusedSigner(first(), signature(minerKey, digest), good);
        digest = receiptDigest(first(), block.chainid, address(payments));
        refusedSigner(first(), signature(minerKey, digest), good);
        digest = receiptDigest(first(), block.chainid, address(equivocation));
        refusedSigner(first(), signature(minerKey, digest), good);
    }

    function test_two_accountable_keys_of_one_miner() public {
        uint256 next = rotate(miner, NodeKind.Miner, bob);
        vm.warp(block.timestamp + UNBONDING - 1);
        uint256 taken = report(first(), signReceipt(minerKey, first()), second(), signReceipt(next, second()));
        vm.assertEq(taken, PENALTY);
    }

    function test_a_key_that_is_accountable_no_more() public {
        uint256 next = rotate(miner, NodeKind.Miner, bob);
        vm.warp(block.timestamp + UNBONDING);
        refusedSigner(first(), signReceipt(minerKey, first()), signReceipt(next, second()));
    }

    // --- what it reaches ---

    function test_exited_and_unbonding() public {
        (uint256 shares,) = staking.voteOf(miner, bob);
        unvote(bob, miner, shares);
        vm.prank(bob);
        staking.exit(miner);
        vm.assertEq(report(first(), second()), PENALTY);
        vm.assertEq(stakeOf(miner), MINER_MINIMUM - PENALTY);
    }

    function test_evidence_waits_for_stake_to_come() public {
        (uint256 shares,) = staking.voteOf(miner, bob);
        uint256 ticket = unvote(bob, miner, shares);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(bob);
        staking.release(ticket);
        (bytes memory a, bytes memory b) = (signReceipt(minerKey, first()), signReceipt(minerKey, second()));
        vm.expectRevert(abi.encodeWithSelector(EquivocationVerifier.NothingToSlash.selector, miner));
        report(first(), a, second(), b);
        vm.assertFalse(staking.evidenceUsed(equivocation.evidenceOf(miner, coordinator, LEASE)));

        vm.prank(bob);
        staking.vote(miner, MINER_MINIMUM);
        vm.assertEq(report(first(), a, second(), b), PENALTY);
    }

    function test_penalties_at_the_bounds() public {
        equivocation = new EquivocationVerifier(staking, 1);
        authorise(address(equivocation));
        vm.assertEq(report(first(), second()), 1);
        equivocation = new EquivocationVerifier(staking, type(uint256).max);
        authorise(address(equivocation));
        vm.assertEq(report(receiptOf(OTHER_LEASE, "x"), receiptOf(OTHER_LEASE, "y")), MINER_MINIMUM - 1);
        vm.assertEq(stakeOf(miner), 0);

        vm.expectRevert(abi.encodeWithSelector(EquivocationVerifier.InvalidConfig.selector, "penalty"));
        new EquivocationVerifier(staking, 0);
        vm.expectRevert(abi.encodeWithSelector(EquivocationVerifier.InvalidConfig.selector, "staking"));
        new EquivocationVerifier(IStaking(alice), 1);
    }

    function test_an_owner_who_refuses_money_blocks_nothing() public {
        Wallet wallet = new Wallet();
        wallet.setAccepts(false);
        (Receipt memory one, Receipt memory other) = (first(), second());
        one.coordinator = register(NodeKind.Coordinator, address(wallet), newKey());
        other.coordinator = one.coordinator;
        vm.assertEq(report(one, other), PENALTY);
        vm.assertEq(staking.freeStake(address(wallet)), PENALTY * staking.wrongedBps() / 10_000);
    }

    function test_without_the_role() public {
        equivocation = new EquivocationVerifier(staking, PENALTY);
        (bytes memory a, bytes memory b) = (signReceipt(minerKey, first()), signReceipt(minerKey, second()));
        bytes memory reason = abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, address(equivocation), staking.VERIFIER_ROLE()
        );
        vm.expectRevert(reason);
        report(first(), a, second(), b);
    }
}
