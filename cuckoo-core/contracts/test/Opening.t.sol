// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {DisputeView, IDisputeCourt, Outcome, Phase} from "../src/IDisputeCourt.sol";
import {NodeKind} from "../src/IStaking.sol";
import {Receipt, Receipts} from "../src/Receipts.sol";
import {CourtTest} from "./support/CourtTest.sol";

/// @notice What can be disputed, and how often.
contract OpeningTest is CourtTest {
    function test_open() public {
        Receipt memory r = receipt();
        uint64 deadline = uint64(block.timestamp) + ANSWER_TIME;
        vm.expectEmit(address(court));
        emit IDisputeCourt.Opened(1, accused, bob, digestOf(r), r, deadline);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Evidence(1, bob, URI);
        vm.assertEq(open(r), 1);
        DisputeView memory d = court.disputeOf(1);
        vm.assertEq(d.receipt, digestOf(r));
        vm.assertEq(d.outputHash, CLAIMED);
        vm.assertEq(d.accused, accused);
        vm.assertEq(d.coordinator, coordinator);
        vm.assertEq(d.challenger, bob);
        vm.assertEq(d.answerer, address(0));
        vm.assertEq(d.deadline, deadline);
        vm.assertEq(court.disputeOfReceipt(digestOf(r)), 1);
        vm.assertEq(address(court).balance, BOND);
        assertPhase(1, Phase.Answer);
        assertPhase(2, Phase.None);
    }

    function refusesToOpen(Receipt memory r, bytes memory signed, uint256 bond, bytes memory reason) private {
        vm.expectRevert(reason);
        vm.prank(bob);
        court.open{value: bond}(r, signed, URI);
        vm.assertEq(court.disputeCount(), 0);
    }

    function test_open_needs_the_bond() public {
        Receipt memory r = receipt();
        bytes memory signed = signature(accusedKey, digestOf(r));
        uint256[3] memory wrong = [uint256(0), BOND - 1, BOND + 1];
        for (uint256 i = 0; i < wrong.length; ++i) {
            refusesToOpen(r, signed, wrong[i], abi.encodeWithSelector(IDisputeCourt.WrongBond.selector, wrong[i], BOND));
        }
    }

    function test_open_needs_a_place_of_the_input() public {
        bytes memory signed = signature(accusedKey, digestOf(receipt()));
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.InvalidURI.selector, 0, 256));
        vm.prank(bob);
        court.open{value: BOND}(receipt(), signed, "");
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.InvalidURI.selector, 257, 256));
        vm.prank(bob);
        court.open{value: BOND}(receipt(), signed, string(new bytes(257)));
        vm.prank(bob);
        court.open{value: BOND}(receipt(), signed, string(new bytes(256)));
    }

    function unsigned(address signer, uint64 node) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Receipts.InvalidReceiptSigner.selector, signer, node);
    }

    function test_only_the_miners_own_signature_counts() public {
        Receipt memory r = receipt();
        bytes memory signed = signature(accusedKey, digestOf(r));
        refusesToOpen(r, mirrored(signed), BOND, unsigned(address(0), 0));
        refusesToOpen(r, "", BOND, unsigned(address(0), 0));
        refusesToOpen(r, new bytes(65), BOND, unsigned(address(0), 0));

        uint256 stranger = newKey();
        refusesToOpen(r, signature(stranger, digestOf(r)), BOND, unsigned(vm.addr(stranger), 0));
        // A key of another node, even of the same owner.
        uint64 other = register(NodeKind.Miner, alice, stranger);
        refusesToOpen(r, signature(stranger, digestOf(r)), BOND, unsigned(vm.addr(stranger), other));
    }

    function test_signatures_for_another_receipt_chain_or_contract_do_not_count() public {
        Receipt memory r = receipt();
        bytes32[3] memory digests = [
            receiptDigest(r, block.chainid + 1, address(staking)),
            receiptDigest(r, block.chainid, address(court)),
            digestOf(receipt())
        ];
        Receipt memory changed = receipt();
        changed.outputHash = TRUTH;
        digests[2] = digestOf(changed);
        for (uint256 i = 0; i < digests.length; ++i) {
            bytes memory signed = signature(accusedKey, digests[i]);
            vm.expectPartialRevert(Receipts.InvalidReceiptSigner.selector);
            vm.prank(bob);
            court.open{value: BOND}(r, signed, URI);
        }
        // And on another chain, this one's does not.
        bytes memory good = signature(accusedKey, digestOf(r));
        vm.chainId(block.chainid + 1);
        vm.expectPartialRevert(Receipts.InvalidReceiptSigner.selector);
        vm.prank(bob);
        court.open{value: BOND}(r, good, URI);
    }

    function test_a_rotated_operator_answers_until_its_time_is_over() public {
        uint256 next = newKey();
        bytes memory consent = signConsent(next, alice, NodeKind.Miner, 0, block.timestamp);
        vm.prank(alice);
        staking.rotateOperator(accused, vm.addr(next), block.timestamp, consent);
        vm.warp(block.timestamp + UNBONDING - 1);
        uint256 snapshot = vm.snapshotState();
        vm.assertEq(open(receipt()), 1);
        vm.revertToState(snapshot);
        vm.warp(block.timestamp + 1);
        bytes memory signed = signature(accusedKey, digestOf(receipt()));
        refusesToOpen(receipt(), signed, BOND, unsigned(vm.addr(accusedKey), 0));
    }

    function test_the_receipt_must_name_a_coordinator() public {
        Receipt memory r = receipt();
        uint64[3] memory wrong = [uint64(0), accused, 99];
        for (uint256 i = 0; i < wrong.length; ++i) {
            r.coordinator = wrong[i];
            bytes memory signed = signature(accusedKey, digestOf(r));
            refusesToOpen(r, signed, BOND, abi.encodeWithSelector(IDisputeCourt.NotCoordinator.selector, wrong[i]));
        }
    }

    function test_an_exited_miner_is_still_accused() public {
        uint256 shares;
        (shares,) = staking.voteOf(accused, alice);
        unvote(alice, accused, shares);
        vm.prank(alice);
        staking.exit(accused);
        uint256 dispute = open(receipt());
        pass(court.disputeOf(dispute).deadline);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Punished(dispute, accused, PENALTY);
        court.finish(dispute);
        vm.assertEq(staking.unbondingPool(accused).amount, MINER_MINIMUM - PENALTY);
    }

    function test_one_dispute_of_a_receipt_at_a_time() public {
        uint256 first = open(receipt());
        bytes memory signed = signature(accusedKey, digestOf(receipt()));
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.InDispute.selector, first));
        vm.prank(erin);
        court.open{value: BOND}(receipt(), signed, URI);
        // Another receipt of the same miner can be disputed.
        Receipt memory other = receipt();
        other.task = "another";
        vm.assertEq(open(other), 2);
    }

    function test_a_judged_receipt_stays_judged() public {
        enlistJurors(JURY);
        uint256 snapshot = vm.snapshotState();
        bytes32[2] memory majority = [TRUTH, CLAIMED];
        for (uint256 i = 0; i < majority.length; ++i) {
            (uint256 dispute,) = judged(votes(majority[i], majority[i], majority[i]));
            bytes memory signed = signature(accusedKey, digestOf(receipt()));
            vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.AlreadyJudged.selector, dispute));
            vm.prank(erin);
            court.open{value: BOND}(receipt(), signed, URI);
            vm.revertToState(snapshot);
        }
    }

    function test_a_receipt_without_a_verdict_can_be_disputed_again() public {
        enlistJurors(JURY);
        uint256 snapshot = vm.snapshotState();
        bytes32[][2] memory undecided = [votes(TRUTH, CLAIMED, "another"), votes(0, 0, 0)];
        for (uint256 i = 0; i < undecided.length; ++i) {
            (uint256 dispute,) = judged(undecided[i]);
            uint256 again = open(receipt());
            vm.assertEq(again, dispute + 1);
            answer(again);
            poll(again, draw(again), votes(TRUTH, TRUTH, TRUTH));
            court.finish(again);
            assertOutcome(again, Outcome.Convicted);
            vm.revertToState(snapshot);
        }
    }

    function test_a_receipt_that_another_verifier_punished_is_settled() public {
        slash(accused, 1 ether, digestOf(receipt()));
        bytes memory signed = signature(accusedKey, digestOf(receipt()));
        bytes memory reason = abi.encodeWithSelector(IDisputeCourt.AlreadyPunished.selector, digestOf(receipt()));
        refusesToOpen(receipt(), signed, BOND, reason);
    }
}
