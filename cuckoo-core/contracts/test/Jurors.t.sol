// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IDisputeCourt, JurorView, Outcome, Phase} from "../src/IDisputeCourt.sol";
import {NodeKind} from "../src/IStaking.sol";
import {Receipt} from "../src/Receipts.sol";
import {CourtTest} from "./support/CourtTest.sol";

/// @notice The list of jurors, and who is drawn from it.
contract JurorsTest is CourtTest {
    address[6] private barred;

    // --- the list ---

    function test_enlist_by_owner_or_operator() public {
        uint256 key = newKey();
        uint64 node = register(NodeKind.Miner, bob, key);
        vote(bob, node, MINER_MINIMUM);
        nextEpoch();
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotKeeper.selector, node, alice));
        vm.prank(alice);
        court.enlist(node);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Enlisted(node);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Weighed(node, MINER_MINIMUM);
        vm.prank(vm.addr(key));
        court.enlist(node);
        vm.assertTrue(court.isEnlisted(node));
        vm.assertEq(court.juryWeightOf(node), MINER_MINIMUM);
        vm.assertEq(court.juryWeight(), MINER_MINIMUM);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.AlreadyEnlisted.selector, node));
        vm.prank(bob);
        court.enlist(node);

        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotKeeper.selector, node, alice));
        vm.prank(alice);
        court.delist(node);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Delisted(node);
        vm.prank(bob);
        court.delist(node);
        vm.assertFalse(court.isEnlisted(node));
        vm.assertEq(court.juryWeight(), 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotEnlisted.selector, node));
        vm.prank(bob);
        court.delist(node);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotEnlisted.selector, node));
        court.refresh(node);
        vm.prank(bob);
        court.enlist(node);
        vm.assertEq(court.juryWeight(), MINER_MINIMUM);
    }

    function test_a_replaced_operator_does_not_speak_for_the_node() public {
        uint256 next = newKey();
        bytes memory consent = signConsent(next, alice, NodeKind.Miner, 0, block.timestamp);
        vm.prank(alice);
        staking.rotateOperator(accused, vm.addr(next), block.timestamp, consent);
        address previous = vm.addr(accusedKey);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotKeeper.selector, accused, previous));
        vm.prank(previous);
        court.enlist(accused);
        vm.prank(vm.addr(next));
        court.enlist(accused);
    }

    function refusesToEnlist(uint64 node, address keeper) private {
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotActiveMiner.selector, node));
        vm.prank(keeper);
        court.enlist(node);
    }

    function test_only_active_miners_are_enlisted() public {
        refusesToEnlist(coordinator, carol);
        uint64 node = register(NodeKind.Miner, bob, newKey());
        refusesToEnlist(node, bob);
        vote(bob, node, MINER_MINIMUM - 1);
        refusesToEnlist(node, bob);
        vm.prank(alice);
        staking.exit(accused);
        refusesToEnlist(accused, alice);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NotKeeper.selector, 0, bob));
        vm.prank(bob);
        court.enlist(0);
    }

    function test_a_fresh_vote_counts_after_a_refresh() public {
        uint64 node = register(NodeKind.Miner, bob, newKey());
        vote(bob, node, MINER_MINIMUM);
        enlist(node);
        vm.assertEq(court.juryWeightOf(node), 0);
        nextEpoch();
        vm.prank(alice);
        court.refresh(node);
        vm.assertEq(court.juryWeightOf(node), MINER_MINIMUM);
    }

    function test_refresh_follows_the_weight_down_and_up_again() public {
        enlist(accused);
        unvote(alice, accused, 1);
        vm.assertEq(court.juryWeightOf(accused), MINER_MINIMUM, "stale");
        vm.expectEmit(address(court));
        emit IDisputeCourt.Weighed(accused, 0);
        court.refresh(accused);
        vm.assertEq(court.juryWeight(), 0, "not active any more");
        vote(alice, accused, 3);
        nextEpoch();
        court.refresh(accused);
        vm.assertEq(court.juryWeightOf(accused), MINER_MINIMUM + 2, "still on the list");
        vm.prank(alice);
        staking.exit(accused);
        court.refresh(accused);
        vm.assertEq(court.juryWeight(), 0, "exited");
        vm.prank(alice);
        court.delist(accused);
    }

    // --- the draw ---

    /// @dev Whom 1,000 beacons draw first, each from the same list.
    function frequencies(uint64[] memory nodes) private returns (uint256[] memory counts) {
        counts = new uint256[](nodes.length);
        for (uint256 i = 0; i < 1000; ++i) {
            uint256 snapshot = vm.snapshotState();
            uint64 first = court.drawJury(keccak256(abi.encode("frequencies", i)), 1, barred)[0];
            vm.revertToState(snapshot);
            for (uint256 j = 0; j < nodes.length; ++j) {
                if (nodes[j] == first) ++counts[j];
            }
        }
    }

    function test_odds_are_by_weight() public {
        uint64[] memory nodes = enlistJurors(3);
        vote(jurorOwner(1), nodes[1], MINER_MINIMUM);
        vote(jurorOwner(2), nodes[2], 4 * MINER_MINIMUM);
        nextEpoch();
        court.refresh(nodes[1]);
        court.refresh(nodes[2]);
        uint256[] memory counts = frequencies(nodes);
        // Five standard deviations of a thousand draws.
        vm.assertApproxEqAbs(counts[0], 125, 52, "1 of 8");
        vm.assertApproxEqAbs(counts[1], 250, 68, "2 of 8");
        vm.assertApproxEqAbs(counts[2], 625, 76, "5 of 8");
        vm.assertEq(counts[0] + counts[1] + counts[2], 1000);
    }

    /// @dev Two heavy nodes have left: nobody refreshed them, but they are not drawn by more than they have now.
    function test_odds_follow_votes_that_left() public {
        uint64[] memory nodes = enlistJurors(4);
        for (uint256 i = 0; i < 2; ++i) {
            vote(jurorOwner(i), nodes[i], 99 * MINER_MINIMUM);
        }
        nextEpoch();
        for (uint256 i = 0; i < 2; ++i) {
            court.refresh(nodes[i]);
            unvote(jurorOwner(i), nodes[i], 99 * MINER_MINIMUM);
        }
        unvote(jurorOwner(1), nodes[1], 1);
        vm.assertEq(court.juryWeight(), 202 * MINER_MINIMUM);
        uint256[] memory counts = frequencies(nodes);
        vm.assertEq(counts[1], 0, "not active any more");
        for (uint256 i = 0; i < 4; ++i) {
            if (i != 1) vm.assertApproxEqAbs(counts[i], 333, 75, "a third each");
        }
        vm.assertEq(counts[0] + counts[2] + counts[3], 1000);
    }

    function test_a_draw_puts_right_what_it_finds_stale() public {
        uint64[] memory nodes = enlistJurors(4);
        vote(jurorOwner(0), nodes[0], 1e5 * MINER_MINIMUM);
        nextEpoch();
        court.refresh(nodes[0]);
        unvote(jurorOwner(0), nodes[0], 1e5 * MINER_MINIMUM);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Weighed(nodes[0], MINER_MINIMUM);
        court.drawJury("a beacon", 1, barred);
        vm.assertEq(court.juryWeight(), 4 * MINER_MINIMUM);
    }

    /// @dev Whatever the weights and however many are stale, a jury as large as the list is the list.
    function testFuzz_without_replacement(bytes32 beacon, uint96[9] calldata more, uint256 leaving) public {
        uint64[] memory nodes = enlistJurors(9);
        for (uint256 i = 0; i < nodes.length; ++i) {
            vote(jurorOwner(i), nodes[i], bound(more[i] >> more[i] % 96, 1, 1e26));
        }
        nextEpoch();
        uint256 expected;
        for (uint256 i = 0; i < nodes.length; ++i) {
            court.refresh(nodes[i]);
            (uint256 shares,) = staking.voteOf(nodes[i], jurorOwner(i));
            uint256 fate = leaving >> 2 * i & 3;
            if (fate == 0) unvote(jurorOwner(i), nodes[i], shares);
            else if (fate == 1) unvote(jurorOwner(i), nodes[i], shares - MINER_MINIMUM);
            if (fate != 0) ++expected;
        }
        uint64[] memory jury = court.drawJury(beacon, 9, barred);
        vm.assertEq(jury.length, expected, "all that are active");
        for (uint256 i = 0; i < jury.length; ++i) {
            vm.assertTrue(staking.isActive(jury[i]));
            for (uint256 j = 0; j < i; ++j) {
                vm.assertTrue(jury[i] != jury[j], "twice");
            }
        }
    }

    function test_an_empty_list_gives_nobody() public {
        vm.assertEq(court.drawJury("a beacon", 31, barred).length, 0);
    }

    function test_the_beacon_decides() public {
        enlistJurors(20);
        bytes memory first = abi.encode(court.drawJury("a beacon", 5, barred));
        vm.assertEq(abi.encode(court.drawJury("a beacon", 5, barred)), first);
        vm.assertTrue(keccak256(abi.encode(court.drawJury("another", 5, barred))) != keccak256(first), "the same");
    }

    /// @dev Parties that hold most of the list: the draw ends, and with fewer than its size.
    function test_attempts_are_bounded() public {
        for (uint256 i = 0; i < 50; ++i) {
            uint64 node = register(NodeKind.Miner, bob, newKey());
            vote(bob, node, 1000 * MINER_MINIMUM);
        }
        nextEpoch();
        for (uint64 node = coordinator + 1; node <= staking.nodeCount(); ++node) {
            enlist(node);
        }
        enlistJurors(1);
        barred[3] = bob;
        vm.assertEq(court.drawJury("a beacon", 1, barred).length, 0, "20 attempts hit nodes of bob alone");
        vm.assertEq(court.drawJury("a beacon", 31, barred).length, 1, "140 leave none of them");
    }

    /// @dev Nodes of random owners, some of whom are parties or operators for parties: none of theirs is ever drawn, and
    /// everybody else's is.
    function testFuzz_parties_are_never_drawn(uint256 owners, bytes32 beacon) public {
        address[8] memory people = [alice, bob, carol, erin, wronged, reporter, vm.addr(0xf1), vm.addr(0xf2)];
        // Bob is the operator of a node of wronged's, erin of one of reporter's: their owners are parties as well.
        register(NodeKind.Miner, wronged, 0xb0);
        register(NodeKind.Coordinator, reporter, 0xe1);
        uint64[] memory nodes = new uint64[](8);
        uint256 neutral;
        for (uint256 i = 0; i < nodes.length; ++i) {
            address owner = people[owners >> 3 * i & 7];
            if (owner == people[6] || owner == people[7]) ++neutral;
            nodes[i] = register(NodeKind.Miner, owner, newKey());
            vote(owner, nodes[i], MINER_MINIMUM);
        }
        nextEpoch();
        enlist(accused);
        for (uint256 i = 0; i < nodes.length; ++i) {
            enlist(nodes[i]);
        }
        vm.prevrandao(keccak256(abi.encode(beacon)));
        (uint256 dispute, uint64[] memory jury) = drawn();
        if (neutral < QUORUM) {
            assertOutcome(dispute, Outcome.Undecided);
            return;
        }
        vm.assertEq(jury.length, neutral < JURY ? neutral : JURY, "all who may");
        for (uint256 i = 0; i < jury.length; ++i) {
            address owner = ownerOf(jury[i]);
            vm.assertTrue(owner == people[6] || owner == people[7], "a party's node");
        }
    }

    // --- the step of a dispute ---

    function test_draw() public {
        enlistJurors(JURY + 4);
        uint256 dispute = open(receipt());
        answer(dispute);
        uint64 first = court.disputeOf(dispute).drawBlock;
        vm.roll(first - 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.TooEarly.selector, dispute, first));
        court.draw(dispute);
        vm.roll(first);
        vm.warp(block.timestamp + DRAW_TIME - 1);
        court.draw(dispute);
        JurorView[] memory jurors = court.jurorsOf(dispute);
        vm.assertEq(jurors.length, JURY);
        vm.assertFalse(jurors[0].committed || jurors[0].revealed);
        vm.assertEq(court.disputeOf(dispute).deadline, block.timestamp + COMMIT_TIME);
        vm.assertEq(court.disputeOf(dispute).revealDeadline, block.timestamp + COMMIT_TIME + REVEAL_TIME);
        assertPhase(dispute, Phase.Commit);
        expectWrongPhase(dispute, Phase.Commit, Phase.Draw);
        court.draw(dispute);
    }

    function test_no_draw_before_an_answer() public {
        uint256 dispute = open(receipt());
        expectWrongPhase(dispute, Phase.Answer, Phase.Draw);
        court.draw(dispute);
        expectWrongPhase(99, Phase.None, Phase.Draw);
        court.draw(99);
    }

    /// @dev The same beacon of the chain, and the same list.
    function test_each_dispute_has_its_own_jury() public {
        enlistJurors(20);
        (, uint64[] memory first) = drawn();
        Receipt memory other = receipt();
        other.task = "another";
        uint256 second = open(other);
        answer(second);
        vm.assertTrue(keccak256(abi.encode(draw(second))) != keccak256(abi.encode(first)), "the same jury");
    }

    function test_a_smaller_jury_with_a_quorum_judges() public {
        enlistJurors(QUORUM + 1);
        (uint256 dispute, uint64[] memory jury) = drawn();
        vm.assertEq(jury.length, QUORUM + 1);
        poll(dispute, jury, votes(TRUTH, TRUTH, TRUTH));
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Convicted);
    }
}
