// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IStaking, NodeKind} from "../src/IStaking.sol";
import {MarketTest} from "./support/MarketTest.sol";
import {Wallet} from "./support/Receivers.sol";

contract SlashTest is MarketTest {
    uint64 private node;
    address private burnt;

    function setUp() public override {
        super.setUp();
        node = register(NodeKind.Miner, alice, newKey());
        burnt = staking.BURNT();
    }

    function test_only_verifiers() public {
        bytes32 role = staking.VERIFIER_ROLE();
        vm.expectRevert(abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, admin, role));
        vm.prank(admin);
        staking.slash(node, 1, "e", reporter, wronged);
        vm.prank(admin);
        staking.revokeRole(role, verifier);
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, verifier, role)
        );
        vm.prank(verifier);
        staking.slash(node, 1, "e", reporter, wronged);
    }

    function test_once_per_evidence() public {
        bytes32 evidence = "e";
        vote(alice, node, 10 ether);
        slash(node, 1 ether, "e");
        vm.assertTrue(staking.evidenceUsed("e"));
        vm.expectRevert(abi.encodeWithSelector(IStaking.EvidenceUsed.selector, evidence));
        vm.prank(verifier);
        staking.slash(node, 1 ether, "e", reporter, wronged);
        // Not by another verifier either.
        authorise(bob);
        vm.expectRevert(abi.encodeWithSelector(IStaking.EvidenceUsed.selector, evidence));
        vm.prank(bob);
        staking.slash(node, 1 ether, "e", reporter, wronged);
        slash(node, 1 ether, "f");
        vm.assertEq(staking.activePool(node).amount, 8 ether);
    }

    function test_zero_is_no_slash() public {
        vm.expectRevert(IStaking.ZeroAmount.selector);
        vm.prank(verifier);
        staking.slash(node, 0, "e", reporter, wronged);
        vm.assertFalse(staking.evidenceUsed("e"));
    }

    function test_split_is_credited_and_can_be_withdrawn() public {
        vote(alice, node, 10 ether);
        vm.expectEmit(address(staking));
        emit IStaking.Slashed(node, "e", verifier, 4 ether, 0);
        vm.expectEmit(address(staking));
        emit IStaking.Credited("e", reporter, 0.8 ether);
        vm.assertEq(slash(node, 4 ether, "e"), 4 ether);
        vm.assertEq(staking.freeStake(reporter), 0.8 ether);
        vm.assertEq(staking.freeStake(wronged), 1.2 ether);
        vm.assertEq(staking.freeStake(burnt), 2 ether);
        vm.prank(wronged);
        staking.withdraw(1.2 ether, payable(wronged));
        vm.assertEq(wronged.balance, 1.2 ether);
    }

    function test_parts_of_nobody_are_burnt() public {
        vote(alice, node, 10 ether);
        vm.prank(verifier);
        staking.slash(node, 4 ether, "e", address(0), address(0));
        vm.assertEq(staking.freeStake(burnt), 4 ether);
        vm.assertEq(staking.freeStake(address(0)), 0);
    }

    function test_nobody_who_refuses_money_blocks_a_slash() public {
        vote(alice, node, 10 ether);
        Wallet refusing = new Wallet();
        refusing.setAccepts(false);
        vm.prank(verifier);
        staking.slash(node, 10 ether, "e", address(refusing), address(refusing));
        vm.assertEq(staking.freeStake(address(refusing)), 5 ether);
        refusing.run(address(staking), 0, abi.encodeCall(IStaking.withdraw, (5 ether, payable(carol))));
        vm.assertEq(carol.balance, 5 ether);
    }

    function test_rounding_of_the_split_is_burnt() public {
        vote(alice, node, 10 ether);
        slash(node, 3, "e");
        vm.assertEq(staking.freeStake(reporter), 0);
        vm.assertEq(staking.freeStake(wronged), 0);
        vm.assertEq(staking.freeStake(burnt), 3);
    }

    // --- what it reaches ---

    function test_unbonding_stake_is_slashed_in_proportion() public {
        vote(alice, node, 6 ether);
        uint256 ticket = unvote(bob, node, vote(bob, node, 2 ether));
        vm.expectEmit(address(staking));
        emit IStaking.Slashed(node, "e", verifier, 3 ether, 1 ether);
        slash(node, 4 ether, "e");
        (, uint256 amount) = staking.voteOf(node, alice);
        vm.assertEq(amount, 3 ether);
        (,, amount,) = staking.ticketOf(ticket);
        vm.assertEq(amount, 1 ether);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(bob);
        vm.assertEq(staking.release(ticket), 1 ether);
    }

    function test_running_before_the_slash_does_not_help() public {
        uint256 shares = vote(alice, node, 10 ether);
        uint256 ticket = unvote(alice, node, shares);
        vm.prank(alice);
        staking.exit(node);
        // Unlocked but not released is still there to be slashed.
        vm.warp(block.timestamp + UNBONDING);
        vm.assertEq(slash(node, 10 ether, "e"), 10 ether);
        vm.prank(alice);
        vm.assertEq(staking.release(ticket), 0);
        vm.assertEq(staking.freeStake(alice), 0);
    }

    function test_released_stake_is_safe() public {
        uint256 ticket = unvote(alice, node, vote(alice, node, 10 ether));
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(alice);
        staking.release(ticket);
        vm.assertEq(slash(node, 10 ether, "e"), 0);
        vm.assertEq(staking.freeStake(alice), 10 ether);
    }

    function test_capped_at_what_the_pools_hold() public {
        vote(alice, node, 6 ether);
        unvote(bob, node, vote(bob, node, 2 ether));
        vm.assertEq(slash(node, type(uint256).max, "e"), 8 ether);
        vm.assertEq(slash(node, 1, "f"), 0);
        vm.assertTrue(staking.evidenceUsed("f"));
    }

    // --- the cap: what the owner loses itself ---

    function test_others_votes_are_burnt_and_not_paid_out() public {
        vote(alice, node, 1 ether);
        vote(bob, node, 9 ether);
        slash(node, 5 ether, "e");
        vm.assertEq(staking.freeStake(reporter) + staking.freeStake(wronged), 0.5 ether);
        vm.assertEq(staking.freeStake(reporter), 0.2 ether);
        vm.assertEq(staking.freeStake(burnt), 4.5 ether);
    }

    function test_what_the_owner_has_unbonding_is_its_loss_too() public {
        unvote(alice, node, vote(alice, node, 10 ether));
        slash(node, 4 ether, "e");
        vm.assertEq(staking.freeStake(reporter), 0.8 ether);
        vm.assertEq(staking.freeStake(wronged), 1.2 ether);
    }

    function test_what_the_owner_released_is_not() public {
        uint256 ticket = unvote(alice, node, vote(alice, node, 10 ether));
        unvote(bob, node, vote(bob, node, 10 ether));
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(alice);
        staking.release(ticket);
        slash(node, 4 ether, "e");
        vm.assertEq(staking.freeStake(reporter) + staking.freeStake(wronged), 0);
        vm.assertEq(staking.freeStake(burnt), 4 ether);
    }

    /// @dev Whatever is in which pool, and however often it was slashed: friends of the owner get no wei of others.
    function testFuzz_nobody_profits_from_a_slash_of_its_own_node(uint256[8] calldata seeds, bool last) public {
        uint256[] memory tickets = new uint256[](2 * seeds.length);
        for (uint256 i = 0; i < seeds.length; ++i) {
            for (uint256 j = 0; j < 2; ++j) {
                address staker = j == 0 ? alice : bob;
                uint256 shares = vote(staker, node, bound(seeds[i] >> (64 * j), 1 ether, 1e24));
                tickets[2 * i + j] = unvote(staker, node, bound(seeds[i] >> 128, 1, shares));
            }
            if (i + 1 < seeds.length && seeds[i] % 3 == 0) slash(node, bound(seeds[i], 1 ether, 1e25), bytes32(i + 1));
        }
        if (last) {
            vm.warp(block.timestamp + UNBONDING);
            vm.prank(alice);
            staking.release(tickets[0]);
        }
        uint256 paid = staking.freeStake(reporter) + staking.freeStake(wronged);
        uint256 before = ownersStake(tickets);
        slash(node, bound(seeds[0], 1, 1e25), "last");
        paid = staking.freeStake(reporter) + staking.freeStake(wronged) - paid;
        vm.assertLe(paid, before - ownersStake(tickets) + 2 * tickets.length, "more than the owner lost");
    }

    /// @dev What Alice has in both pools, in wei.
    function ownersStake(uint256[] memory tickets) private view returns (uint256 sum) {
        (, sum) = staking.voteOf(node, alice);
        for (uint256 i = 0; i < tickets.length; ++i) {
            (, address staker, uint256 amount,) = staking.ticketOf(tickets[i]);
            if (staker == alice) sum += amount;
        }
    }

    function test_other_nodes_lose_nothing() public {
        uint64 other = register(NodeKind.Miner, bob, newKey());
        vote(alice, node, 10 ether);
        vote(alice, other, 10 ether);
        slash(node, 10 ether, "e");
        (, uint256 amount) = staking.voteOf(other, alice);
        vm.assertEq(amount, 10 ether);
    }

    /// @dev No staker's entry is read or written.
    function test_a_slash_costs_the_same_for_any_number_of_stakers() public {
        uint64 crowded = register(NodeKind.Miner, bob, newKey());
        // The owners' parts are equal, and so is what the slash pays out.
        vote(alice, node, 1 ether);
        vote(carol, node, 2 ether * 9_999);
        vote(bob, crowded, 1 ether);
        for (uint160 i = 1; i < 10_000; ++i) {
            vote(address(0x5a0000 + i), crowded, 2 ether);
        }
        nextEpoch();
        // Whose entries are new costs more, so all are made before.
        slash(node, 1 ether, "a");
        slash(crowded, 1 ether, "b");
        vm.assertApproxEqAbs(gasOfSlash(crowded, "c"), gasOfSlash(node, "d"), 10, "the test's own memory may cost one");
    }

    function gasOfSlash(uint64 slashed, bytes32 evidence) private returns (uint256) {
        vm.prank(verifier);
        uint256 before = gasleft();
        staking.slash(slashed, 1 ether, evidence, reporter, wronged);
        return before - gasleft();
    }

    // --- after a total loss ---

    function test_a_node_lives_on_after_a_total_loss() public {
        uint256 shares = vote(alice, node, 10 ether);
        unvote(alice, node, shares / 2);
        slash(node, type(uint256).max, "e");
        (, uint256 amount) = staking.voteOf(node, alice);
        vm.assertEq(amount, 0);

        vote(bob, node, 5 ether);
        (uint256 held, uint256 worth) = staking.voteOf(node, bob);
        vm.assertApproxEqAbs(worth, 5 ether, 1000, "a new vote is worth what it cost");
        (, amount) = staking.voteOf(node, alice);
        vm.assertLe(amount, 1000);

        uint256 ticket = unvote(bob, node, held);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(bob);
        vm.assertApproxEqAbs(staking.release(ticket), 5 ether, 2000, "and comes out again");
    }

    /// @dev However often a node is slashed, everyone can leave it, and nobody leaves with more than was left.
    function testFuzz_exits_survive_any_slashes(uint256[10] calldata seeds) public {
        uint256[] memory tickets = new uint256[](seeds.length);
        for (uint256 i = 0; i < seeds.length; ++i) {
            uint256 shares = vote(alice, node, bound(seeds[i], 1 ether, 1e27));
            tickets[i] = unvote(alice, node, shares / 2 + 1);
            uint256 total = uint256(staking.activePool(node).amount) + staking.unbondingPool(node).amount;
            slash(node, seeds[i] % 2 == 0 ? total : total - seeds[i] % 1e6, bytes32(i + 1));
        }
        (uint256 rest,) = staking.voteOf(node, alice);
        if (rest != 0) unvote(alice, node, rest);
        vm.warp(block.timestamp + UNBONDING);
        uint256 before = staking.unbondingPool(node).amount;
        uint256 released;
        for (uint256 i = 0; i < tickets.length; ++i) {
            vm.prank(alice);
            released += staking.release(tickets[i]);
        }
        vm.assertLe(released, before);
    }

    /// @dev Whoever has its own node slashed again and again, of next to nothing, never makes it immune: before the number of
    /// consolidations could run out, the node is retired.
    function test_no_number_of_slashes_makes_a_node_immune() public {
        uint256 count;
        while (staking.activePool(node).denomination <= 1 << 15) {
            vote(alice, node, 1 ether);
            vm.assertEq(slash(node, 1 ether, bytes32(++count)), 1 ether);
        }
        (uint256 shares,) = staking.voteOf(node, alice);
        stake(alice, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IStaking.NodeExited.selector, node));
        vm.prank(alice);
        staking.vote(node, 1 ether);
        // What is there leaves as ever.
        unvote(alice, node, shares);
    }

    function testFuzz_a_slash_takes_from_each_alike(uint96 hers, uint96 his, uint96 leaving, uint256 amount) public {
        uint256 herVote = bound(hers, 1e6, 4e27);
        uint256 hisVote = bound(his, 1e6, 4e27);
        vote(alice, node, herVote);
        vote(bob, node, hisVote);
        uint256 outgoing = bound(leaving, 1, hisVote);
        uint256 ticket = unvote(bob, node, outgoing);
        uint256 total = herVote + hisVote;
        amount = bound(amount, 1, total);
        vm.assertEq(slash(node, amount, "e"), amount);
        (, uint256 hersLeft) = staking.voteOf(node, alice);
        (, uint256 hisLeft) = staking.voteOf(node, bob);
        (,, uint256 ticketLeft,) = staking.ticketOf(ticket);
        vm.assertLe(hersLeft + hisLeft + ticketLeft, total - amount);
        // Each keeps the same part, to within three wei of rounding.
        vm.assertApproxEqAbs(hersLeft, herVote * (total - amount) / total, 3, "hers");
        vm.assertApproxEqAbs(hisLeft, (hisVote - outgoing) * (total - amount) / total, 3, "his");
        vm.assertApproxEqAbs(ticketLeft, outgoing * (total - amount) / total, 3, "unbonding");
    }
}
