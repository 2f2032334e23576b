// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {CourtConfig, IDisputeCourt, Outcome, Phase} from "../src/IDisputeCourt.sol";
import {IStaking} from "../src/IStaking.sol";
import {Receipt} from "../src/Receipts.sol";
import {CourtTest, OpenCourt} from "./support/CourtTest.sol";

/// @notice Settings, evidence, answers, and the ways a dispute ends.
contract DisputeCourtTest is CourtTest {
    // --- settings ---

    function refuses(CourtConfig memory bad, string memory setting) private {
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.InvalidConfig.selector, setting));
        new OpenCourt(staking, bad);
    }

    function test_settings_are_bounded() public {
        CourtConfig memory c = courtConfig();
        c.jurySize = 4;
        refuses(c, "jurySize");
        c.jurySize = 33;
        refuses(c, "jurySize");
        c.jurySize = 0;
        refuses(c, "jurySize");
        c = courtConfig();
        c.quorum = 0;
        refuses(c, "quorum");
        c.quorum = JURY + 1;
        refuses(c, "quorum");
        c = courtConfig();
        c.juryFee = 0;
        refuses(c, "juryFee");
        c.juryFee = type(uint256).max;
        refuses(c, "juryFee");
        c = courtConfig();
        c.bond = JURY * FEE - 1;
        refuses(c, "bond");
        c.bond = type(uint256).max;
        refuses(c, "bond");
        c = courtConfig();
        c.penalty = 0;
        refuses(c, "penalty");
        c.penalty = type(uint256).max;
        refuses(c, "penalty");
        c = courtConfig();
        c.absencePenalty = 0;
        refuses(c, "absencePenalty");
        c.absencePenalty = MINER_MINIMUM + 1;
        refuses(c, "absencePenalty");
        c = courtConfig();
        c.drawBlocks = 0;
        refuses(c, "drawBlocks");
        c.drawBlocks = 257;
        refuses(c, "drawBlocks");
    }

    function test_times_are_bounded() public {
        CourtConfig memory c = courtConfig();
        c.answerTime = 0;
        refuses(c, "answerTime");
        c = courtConfig();
        c.drawTime = 0;
        refuses(c, "drawTime");
        c = courtConfig();
        c.commitTime = 0;
        refuses(c, "commitTime");
        c = courtConfig();
        c.revealTime = 0;
        refuses(c, "revealTime");
        c = courtConfig();
        c.revealTime = UNBONDING - ANSWER_TIME - DRAW_TIME - COMMIT_TIME;
        refuses(c, "unbondingPeriod");
        c.revealTime = type(uint64).max;
        refuses(c, "revealTime");
    }

    function test_bounds_are_allowed() public {
        CourtConfig memory c = courtConfig();
        c.jurySize = 31;
        c.quorum = 31;
        c.bond = 31 * FEE;
        c.absencePenalty = MINER_MINIMUM;
        c.drawBlocks = 256;
        c.revealTime = UNBONDING - ANSWER_TIME - DRAW_TIME - COMMIT_TIME - 1;
        vm.assertEq(abi.encode(new OpenCourt(staking, c).config()), abi.encode(c));
        c.jurySize = 1;
        c.quorum = 1;
        c.bond = FEE;
        c.drawBlocks = 1;
        (c.answerTime, c.drawTime, c.commitTime, c.revealTime) = (1, 1, 1, 1);
        vm.assertEq(abi.encode(new OpenCourt(staking, c).config()), abi.encode(c));
    }

    function test_needs_a_staking_contract_and_a_beacon() public {
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.InvalidConfig.selector, "staking"));
        new OpenCourt(IStaking(alice), courtConfig());
        vm.prevrandao(bytes32(uint256(1)));
        refuses(courtConfig(), "prevrandao");
    }

    // --- evidence ---

    function test_anybody_adds_evidence_until_the_commitments_are_made() public {
        enlistJurors(JURY);
        expectWrongPhase(1, Phase.None, Phase.Commit);
        court.submitEvidence(1, URI);
        (uint256 dispute, uint64[] memory jury) = drawn();
        vm.expectEmit(address(court));
        emit IDisputeCourt.Evidence(dispute, wronged, "ipfs://input");
        vm.prank(wronged);
        court.submitEvidence(dispute, "ipfs://input");
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.InvalidURI.selector, 257, 256));
        court.submitEvidence(dispute, string(new bytes(257)));
        commit(dispute, jury[0], TRUTH);
        pass(court.disputeOf(dispute).deadline);
        expectWrongPhase(dispute, Phase.Reveal, Phase.Commit);
        court.submitEvidence(dispute, URI);
    }

    // --- answer ---

    function test_answer() public {
        uint256 dispute = open(receipt());
        vm.warp(block.timestamp + ANSWER_TIME - 1);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Answered(
            dispute, erin, uint64(block.number) + DRAW_BLOCKS, uint64(block.timestamp) + DRAW_TIME
        );
        answer(dispute);
        vm.assertEq(court.disputeOf(dispute).answerer, erin);
        vm.assertEq(address(court).balance, 2 * BOND);
        assertPhase(dispute, Phase.Draw);
        expectWrongPhase(dispute, Phase.Draw, Phase.Answer);
        court.answer{value: BOND}(dispute);
    }

    function test_answer_needs_the_bond() public {
        uint256 dispute = open(receipt());
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.WrongBond.selector, BOND - 1, BOND));
        vm.prank(erin);
        court.answer{value: BOND - 1}(dispute);
    }

    function test_too_late_an_answer() public {
        uint256 dispute = open(receipt());
        vm.warp(block.timestamp + ANSWER_TIME - 1);
        expectWrongPhase(dispute, Phase.Answer, Phase.Due);
        court.finish(dispute);
        vm.warp(block.timestamp + 1);
        expectWrongPhase(dispute, Phase.Due, Phase.Answer);
        vm.prank(erin);
        court.answer{value: BOND}(dispute);
    }

    // --- ends ---

    function test_convicted_by_default() public {
        uint256 dispute = open(receipt());
        pass(court.disputeOf(dispute).deadline);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Finished(dispute, Outcome.Convicted, 0);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Credited(dispute, bob, BOND);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Punished(dispute, accused, PENALTY);
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Convicted);
        vm.assertEq(court.creditOf(bob), BOND);
        vm.assertTrue(staking.evidenceUsed(digestOf(receipt())));
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM - PENALTY);
        vm.assertEq(staking.freeStake(bob), PENALTY * REPORTER_BPS / 10_000, "the reporter's part");
        vm.assertEq(staking.freeStake(carol), PENALTY * (10_000 - BURN_BPS - REPORTER_BPS) / 10_000, "the wronged's");
        expectWrongPhase(dispute, Phase.Closed, Phase.Due);
        court.finish(dispute);
    }

    function test_convicted() public {
        enlistJurors(JURY);
        (uint256 dispute, uint64[] memory jury) = judged(votes(TRUTH, TRUTH, TRUTH, CLAIMED, "another"));
        assertOutcome(dispute, Outcome.Convicted);
        vm.assertEq(court.creditOf(bob), 2 * BOND - 3 * FEE, "the challenger's");
        vm.assertEq(court.creditOf(erin), 0);
        for (uint256 i = 0; i < jury.length; ++i) {
            vm.assertEq(court.creditOf(ownerOf(jury[i])), i < 3 ? FEE : 0, "only the majority is paid");
            vm.assertEq(staking.activePool(jury[i]).amount, MINER_MINIMUM, "nobody is punished for a vote");
        }
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM - PENALTY);
        vm.assertTrue(staking.evidenceUsed(digestOf(receipt())));
    }

    function test_acquitted() public {
        enlistJurors(JURY);
        (uint256 dispute, uint64[] memory jury) = judged(votes(TRUTH, CLAIMED, CLAIMED, CLAIMED, CLAIMED));
        assertOutcome(dispute, Outcome.Acquitted);
        vm.assertEq(court.creditOf(bob), 0);
        vm.assertEq(court.creditOf(erin), 2 * BOND - 4 * FEE, "the answerer's");
        for (uint256 i = 0; i < jury.length; ++i) {
            vm.assertEq(court.creditOf(ownerOf(jury[i])), i == 0 ? 0 : FEE, "only the majority is paid");
        }
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM);
        vm.assertFalse(staking.evidenceUsed(digestOf(receipt())));
    }

    function test_unproven_when_most_could_not_check() public {
        enlistJurors(JURY);
        (uint256 dispute, uint64[] memory jury) = judged(votes(0, TRUTH, 0, CLAIMED, 0));
        assertOutcome(dispute, Outcome.Unproven);
        vm.assertEq(court.creditOf(bob), BOND - 3 * FEE, "the challenger owes the fees");
        vm.assertEq(court.creditOf(erin), BOND);
        vm.assertEq(court.creditOf(ownerOf(jury[0])), FEE);
        vm.assertEq(court.creditOf(ownerOf(jury[1])), 0);
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM);
    }

    function test_undecided_without_a_majority() public {
        enlistJurors(JURY);
        (uint256 dispute, uint64[] memory jury) = judged(votes(TRUTH, TRUTH, CLAIMED, CLAIMED, 0));
        assertOutcome(dispute, Outcome.Undecided);
        vm.assertEq(court.creditOf(bob), BOND - 5 * FEE / 2, "half of the fees");
        vm.assertEq(court.creditOf(erin), BOND - 5 * FEE / 2, "and the other half");
        for (uint256 i = 0; i < jury.length; ++i) {
            vm.assertEq(court.creditOf(ownerOf(jury[i])), FEE, "all who voted are paid");
        }
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM);
    }

    /// @dev Half is not a majority.
    function test_undecided_with_a_tie() public {
        enlistJurors(JURY);
        bytes32[] memory tie = new bytes32[](4);
        (tie[0], tie[1], tie[2], tie[3]) = (TRUTH, CLAIMED, TRUTH, CLAIMED);
        (uint256 dispute,) = judged(tie);
        assertOutcome(dispute, Outcome.Undecided);
    }

    function test_undecided_without_a_quorum() public {
        enlistJurors(JURY);
        bytes32[] memory two = new bytes32[](2);
        (two[0], two[1]) = (TRUTH, TRUTH);
        (uint256 dispute, uint64[] memory jury) = judged(two);
        assertOutcome(dispute, Outcome.Undecided);
        vm.assertEq(court.creditOf(bob), BOND - FEE);
        vm.assertEq(court.creditOf(erin), BOND - FEE);
        vm.assertEq(court.creditOf(ownerOf(jury[1])), FEE);
        vm.assertEq(court.creditOf(ownerOf(jury[2])), 0);
    }

    function test_a_quorum_is_enough() public {
        enlistJurors(JURY);
        (uint256 dispute,) = judged(votes(CLAIMED, TRUTH, TRUTH));
        assertOutcome(dispute, Outcome.Convicted);
    }

    function test_undecided_when_nobody_draws() public {
        enlistJurors(JURY);
        uint256 dispute = open(receipt());
        answer(dispute);
        pass(court.disputeOf(dispute).deadline);
        vm.roll(block.number + DRAW_BLOCKS);
        expectWrongPhase(dispute, Phase.Due, Phase.Draw);
        court.draw(dispute);
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Undecided);
        vm.assertEq(court.creditOf(bob), BOND);
        vm.assertEq(court.creditOf(erin), BOND);
    }

    function test_undecided_when_too_few_can_be_drawn() public {
        enlistJurors(QUORUM - 1);
        uint256 dispute = open(receipt());
        answer(dispute);
        vm.assertEq(draw(dispute).length, 0);
        assertOutcome(dispute, Outcome.Undecided);
        vm.assertEq(court.creditOf(bob), BOND);
        vm.assertEq(court.creditOf(erin), BOND);
    }

    function test_a_claim_of_nothing_is_not_acquitted_by_those_who_could_not_check() public {
        enlistJurors(JURY);
        Receipt memory r = receipt();
        r.outputHash = 0;
        uint256 dispute = open(r);
        answer(dispute);
        poll(dispute, draw(dispute), votes(0, 0, 0, 0, 0));
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Unproven);
    }

    function testFuzz_the_outcome_is_that_of_a_plain_count(uint8[5] calldata seeds, uint8 absent) public {
        enlistJurors(JURY);
        bytes32[4] memory choices = [bytes32(0), CLAIMED, TRUTH, "another"];
        bytes32[] memory cast = new bytes32[](JURY - absent % (JURY + 1));
        uint256[4] memory counts;
        for (uint256 i = 0; i < cast.length; ++i) {
            cast[i] = choices[seeds[i] % 4];
            ++counts[seeds[i] % 4];
        }
        (uint256 dispute,) = judged(cast);
        Outcome expected = Outcome.Undecided;
        if (cast.length >= QUORUM) {
            if (counts[0] * 2 > cast.length) expected = Outcome.Unproven;
            if (counts[1] * 2 > cast.length) expected = Outcome.Acquitted;
            if (counts[2] * 2 > cast.length || counts[3] * 2 > cast.length) expected = Outcome.Convicted;
        }
        assertOutcome(dispute, expected);
        vm.assertEq(staking.evidenceUsed(digestOf(receipt())), expected == Outcome.Convicted);
    }
}
