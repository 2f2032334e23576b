// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IDisputeCourt, JurorView, Outcome, Phase} from "../src/IDisputeCourt.sol";
import {NodeKind} from "../src/IStaking.sol";
import {CourtTest} from "./support/CourtTest.sol";

/// @notice Commitments, reveals, and their deadlines.
contract JuryVoteTest is CourtTest {
    uint256 private dispute;
    uint64[] private jury;

    function setUp() public override {
        super.setUp();
        enlistJurors(JURY);
        (dispute, jury) = drawn();
    }

    function juror(uint256 place) private view returns (JurorView memory) {
        return court.jurorsOf(dispute)[place];
    }

    // --- commit ---

    function test_commit() public {
        bytes32 sealed_ = commitment(dispute, jury[0], TRUTH, SALT);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Committed(dispute, jury[0], sealed_);
        commit(dispute, jury[0], TRUTH);
        vm.assertEq(juror(0).node, jury[0]);
        vm.assertTrue(juror(0).committed);
        vm.assertFalse(juror(0).revealed);
        vm.assertEq(juror(0).vote, 0);
        vm.assertFalse(juror(1).committed);
    }

    function test_commit_by_the_operator() public {
        uint256 next = newKey();
        address owner = ownerOf(jury[0]);
        address former = staking.nodeById(jury[0]).operator;
        bytes memory consent = signConsent(next, owner, NodeKind.Miner, 0, block.timestamp);
        vm.prank(owner);
        staking.rotateOperator(jury[0], vm.addr(next), block.timestamp, consent);
        bytes32 sealed_ = commitment(dispute, jury[0], TRUTH, SALT);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotKeeper.selector, jury[0], former));
        vm.prank(former);
        court.commit(dispute, jury[0], sealed_);
        vm.prank(vm.addr(next));
        court.commit(dispute, jury[0], sealed_);
        vm.assertTrue(juror(0).committed);
    }

    function test_commit_for_another() public {
        bytes32 sealed_ = commitment(dispute, jury[0], TRUTH, SALT);
        address other = ownerOf(jury[1]);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotKeeper.selector, jury[0], other));
        vm.prank(other);
        court.commit(dispute, jury[0], sealed_);
    }

    function test_commit_by_who_was_not_drawn() public {
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotJuror.selector, dispute, accused));
        vm.prank(alice);
        court.commit(dispute, accused, "commitment");
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotJuror.selector, dispute, 0));
        vm.prank(alice);
        court.commit(dispute, 0, "commitment");
    }

    function test_commit_once() public {
        commit(dispute, jury[0], TRUTH);
        address owner = ownerOf(jury[0]);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.AlreadyCommitted.selector, dispute, jury[0]));
        vm.prank(owner);
        court.commit(dispute, jury[0], "another");
    }

    function test_commit_something() public {
        address owner = ownerOf(jury[0]);
        vm.expectRevert(IDisputeCourt.EmptyCommitment.selector);
        vm.prank(owner);
        court.commit(dispute, jury[0], 0);
    }

    function test_commit_in_time() public {
        vm.warp(block.timestamp + COMMIT_TIME - 1);
        commit(dispute, jury[0], TRUTH);
        vm.warp(block.timestamp + 1);
        address late = ownerOf(jury[1]);
        expectWrongPhase(dispute, Phase.Reveal, Phase.Commit);
        vm.prank(late);
        court.commit(dispute, jury[1], "commitment");
    }

    /// @dev It left its stake, its operator and the market: it still has its vote.
    function test_a_juror_that_left_the_market_may_vote() public {
        address owner = ownerOf(jury[0]);
        (uint256 shares,) = staking.voteOf(jury[0], owner);
        unvote(owner, jury[0], shares);
        vm.prank(owner);
        staking.exit(jury[0]);
        vm.prank(owner);
        court.delist(jury[0]);
        poll(dispute, jury, votes(TRUTH, TRUTH, TRUTH));
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Convicted);
        vm.assertEq(court.creditOf(owner), FEE);
    }

    function test_reveals_begin_when_all_have_committed() public {
        for (uint256 i = 0; i + 1 < JURY; ++i) {
            commit(dispute, jury[i], TRUTH);
        }
        assertPhase(dispute, Phase.Commit);
        expectWrongPhase(dispute, Phase.Commit, Phase.Reveal);
        court.reveal(dispute, jury[0], TRUTH, SALT);
        vm.expectEmit(address(court));
        emit IDisputeCourt.RevealsBegun(dispute, uint64(block.timestamp) + REVEAL_TIME);
        commit(dispute, jury[JURY - 1], TRUTH);
        assertPhase(dispute, Phase.Reveal);
        vm.assertEq(court.disputeOf(dispute).deadline, block.timestamp);
        vm.assertEq(court.disputeOf(dispute).revealDeadline, block.timestamp + REVEAL_TIME);
        court.reveal(dispute, jury[0], TRUTH, SALT);
    }

    // --- reveal ---

    function committed() private {
        commit(dispute, jury[0], TRUTH);
        commit(dispute, jury[1], CLAIMED);
        pass(court.disputeOf(dispute).deadline);
    }

    function test_reveal_by_anybody() public {
        committed();
        vm.expectEmit(address(court));
        emit IDisputeCourt.Revealed(dispute, jury[0], TRUTH);
        vm.prank(wronged);
        court.reveal(dispute, jury[0], TRUTH, SALT);
        vm.assertTrue(juror(0).revealed);
        vm.assertEq(juror(0).vote, TRUTH);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.AlreadyRevealed.selector, dispute, jury[0]));
        court.reveal(dispute, jury[0], TRUTH, SALT);
    }

    function refusesReveal(uint64 node, bytes32 vote_, bytes32 salt) private {
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.WrongReveal.selector, dispute, node));
        court.reveal(dispute, node, vote_, salt);
    }

    function test_reveal_of_another_vote_or_salt() public {
        committed();
        refusesReveal(jury[0], TRUTH, "another salt");
        refusesReveal(jury[0], CLAIMED, SALT);
        refusesReveal(jury[1], TRUTH, SALT);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotCommitted.selector, dispute, jury[2]));
        court.reveal(dispute, jury[2], TRUTH, SALT);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotJuror.selector, dispute, accused));
        court.reveal(dispute, accused, TRUTH, SALT);
    }

    /// @dev Who copies a commitment cannot open it, though its author shows how.
    function test_a_copied_commitment_cannot_be_revealed() public {
        commit(dispute, jury[0], TRUTH);
        bytes32 copied = commitment(dispute, jury[0], TRUTH, SALT);
        vm.prank(ownerOf(jury[1]));
        court.commit(dispute, jury[1], copied);
        pass(court.disputeOf(dispute).deadline);
        court.reveal(dispute, jury[0], TRUTH, SALT);
        refusesReveal(jury[1], TRUTH, SALT);
    }

    function test_a_commitment_is_for_one_dispute_court_and_chain() public {
        bytes32[3] memory wrong = [
            commitment(dispute + 1, jury[0], TRUTH, SALT),
            keccak256(abi.encode(block.chainid, address(staking), dispute, jury[0], TRUTH, SALT)),
            keccak256(abi.encode(block.chainid + 1, address(court), dispute, jury[0], TRUTH, SALT))
        ];
        for (uint256 i = 0; i < wrong.length; ++i) {
            uint256 snapshot = vm.snapshotState();
            vm.prank(ownerOf(jury[0]));
            court.commit(dispute, jury[0], wrong[i]);
            pass(court.disputeOf(dispute).deadline);
            refusesReveal(jury[0], TRUTH, SALT);
            vm.revertToState(snapshot);
        }
    }

    function test_reveal_in_time() public {
        committed();
        vm.warp(block.timestamp + REVEAL_TIME - 1);
        court.reveal(dispute, jury[0], TRUTH, SALT);
        expectWrongPhase(dispute, Phase.Reveal, Phase.Due);
        court.finish(dispute);
        vm.warp(block.timestamp + 1);
        expectWrongPhase(dispute, Phase.Due, Phase.Reveal);
        court.reveal(dispute, jury[1], CLAIMED, SALT);
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Undecided);
    }

    function test_due_when_every_commitment_is_open() public {
        committed();
        court.reveal(dispute, jury[0], TRUTH, SALT);
        assertPhase(dispute, Phase.Reveal);
        court.reveal(dispute, jury[1], CLAIMED, SALT);
        assertPhase(dispute, Phase.Due);
    }

    function test_due_when_nobody_committed() public {
        vm.warp(block.timestamp + COMMIT_TIME - 1);
        expectWrongPhase(dispute, Phase.Commit, Phase.Due);
        court.finish(dispute);
        vm.warp(block.timestamp + 1);
        assertPhase(dispute, Phase.Due);
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Undecided);
        vm.assertEq(court.creditOf(bob), BOND);
        vm.assertEq(court.creditOf(erin), BOND);
    }
}
