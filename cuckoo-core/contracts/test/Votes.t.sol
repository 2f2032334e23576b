// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IStaking, NodeKind} from "../src/IStaking.sol";
import {Pools} from "../src/Pools.sol";
import {MarketTest} from "./support/MarketTest.sol";
import {Reenterer, Wallet} from "./support/Receivers.sol";

contract VotesTest is MarketTest {
    uint64 private node;

    function setUp() public override {
        super.setUp();
        node = register(NodeKind.Miner, alice, newKey());
    }

    // --- the way of stake: in, voted, unbonding, out ---

    function test_the_whole_way() public {
        stake(alice, 10 ether);
        vm.assertEq(staking.freeStake(alice), 10 ether);

        vm.expectEmit(address(staking));
        emit IStaking.Voted(node, alice, 6 ether, 6 ether);
        vm.prank(alice);
        uint256 shares = staking.vote(node, 6 ether);
        vm.assertEq(staking.freeStake(alice), 4 ether);

        uint64 unlocksAt = uint64(block.timestamp) + UNBONDING;
        vm.expectEmit(address(staking));
        emit IStaking.Unvoted(node, alice, shares, 6 ether, 1, unlocksAt);
        uint256 ticket = unvote(alice, node, shares);
        (uint64 ofNode, address staker, uint256 amount, uint64 unlocks) = staking.ticketOf(ticket);
        vm.assertEq(ofNode, node);
        vm.assertEq(staker, alice);
        vm.assertEq(amount, 6 ether);
        vm.assertEq(unlocks, unlocksAt);
        vm.assertEq(staking.freeStake(alice), 4 ether);

        vm.warp(unlocksAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IStaking.StillUnbonding.selector, ticket, unlocksAt));
        vm.prank(alice);
        staking.release(ticket);

        vm.warp(unlocksAt);
        vm.expectEmit(address(staking));
        emit IStaking.Released(ticket, alice, 6 ether);
        vm.prank(alice);
        staking.release(ticket);
        vm.assertEq(staking.freeStake(alice), 10 ether);

        vm.expectEmit(address(staking));
        emit IStaking.Withdrawn(alice, bob, 10 ether);
        vm.prank(alice);
        staking.withdraw(10 ether, payable(bob));
        vm.assertEq(bob.balance, 10 ether);
        vm.assertEq(address(staking).balance, 0);
    }

    function testFuzz_nobody_gets_more_out_than_in(uint96[5] calldata votes, uint256 seed) public {
        address[3] memory stakers = [alice, bob, carol];
        uint256[3] memory put;
        for (uint256 i = 0; i < votes.length; ++i) {
            uint256 amount = votes[i] % 1e27;
            if (amount == 0) continue;
            vote(stakers[i % 3], node, amount);
            put[i % 3] += amount;
        }
        for (uint256 i = 0; i < 3; ++i) {
            (uint256 shares,) = staking.voteOf(node, stakers[i]);
            if (shares == 0) continue;
            uint256 part = bound(seed, 1, shares);
            uint256[2] memory tickets;
            tickets[0] = unvote(stakers[i], node, part);
            if (shares > part) tickets[1] = unvote(stakers[i], node, shares - part);
            vm.warp(block.timestamp + UNBONDING);
            for (uint256 j = 0; j < 2; ++j) {
                if (tickets[j] == 0) continue;
                vm.prank(stakers[i]);
                staking.release(tickets[j]);
            }
            vm.assertEq(staking.freeStake(stakers[i]), put[i]);
        }
        vm.assertEq(staking.activePool(node).amount, 0);
        vm.assertEq(staking.unbondingPool(node).amount, 0);
    }

    function test_a_ticket_pays_its_staker_once() public {
        uint256 ticket = unvote(alice, node, vote(alice, node, 1 ether));
        vm.warp(block.timestamp + UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(IStaking.NotTicketStaker.selector, ticket, bob));
        vm.prank(bob);
        staking.release(ticket);
        vm.prank(alice);
        staking.release(ticket);
        vm.expectRevert(abi.encodeWithSelector(IStaking.UnknownTicket.selector, ticket));
        vm.prank(alice);
        staking.release(ticket);
        vm.expectRevert(abi.encodeWithSelector(IStaking.UnknownTicket.selector, 99));
        vm.prank(alice);
        staking.release(99);
    }

    function test_zero_and_too_much() public {
        vm.expectRevert(IStaking.ZeroAmount.selector);
        vm.prank(alice);
        staking.stake();
        vm.expectRevert(IStaking.ZeroAmount.selector);
        vm.prank(alice);
        staking.vote(node, 0);
        vm.expectRevert(IStaking.ZeroAmount.selector);
        vm.prank(alice);
        staking.unvote(node, 0);
        vm.expectRevert(IStaking.ZeroAmount.selector);
        vm.prank(alice);
        staking.withdraw(0, payable(alice));
        vm.expectRevert(IStaking.ZeroAddress.selector);
        vm.prank(alice);
        staking.withdraw(1, payable(0));

        stake(alice, 5);
        vm.expectRevert(abi.encodeWithSelector(IStaking.InsufficientFreeStake.selector, alice, 5, 6));
        vm.prank(alice);
        staking.vote(node, 6);
        vm.expectRevert(abi.encodeWithSelector(IStaking.InsufficientFreeStake.selector, alice, 5, type(uint256).max));
        vm.prank(alice);
        staking.withdraw(type(uint256).max, payable(alice));
        vm.prank(alice);
        staking.vote(node, 5);
        vm.expectRevert(abi.encodeWithSelector(IStaking.InsufficientShares.selector, node, alice, 5, type(uint256).max));
        vm.prank(alice);
        staking.unvote(node, type(uint256).max);
        vm.expectRevert(abi.encodeWithSelector(IStaking.InsufficientShares.selector, node, bob, 0, 1));
        vm.prank(bob);
        staking.unvote(node, 1);
    }

    function test_the_most_it_can_hold() public {
        uint256 shares = vote(alice, node, Pools.MAX_STAKE);
        vm.deal(bob, 1);
        vm.expectRevert(abi.encodeWithSelector(IStaking.TooMuchStake.selector, Pools.MAX_STAKE + 1, Pools.MAX_STAKE));
        vm.prank(bob);
        staking.stake{value: 1}();
        slash(node, Pools.MAX_STAKE - 1, "nearly all");
        vm.prank(alice);
        staking.unvote(node, shares / 1000 ** 9);
    }

    function test_there_is_no_way_in_but_stake() public {
        vm.deal(address(this), 1 ether);
        (bool ok,) = address(staking).call{value: 1}("");
        vm.assertFalse(ok);
        (ok,) = address(payments).call{value: 1}("");
        vm.assertFalse(ok);
    }

    function test_a_refused_withdrawal_changes_nothing() public {
        Wallet wallet = new Wallet();
        vm.deal(address(wallet), 3 ether);
        wallet.run(address(staking), 3 ether, abi.encodeCall(IStaking.stake, ()));
        wallet.setAccepts(false);
        bytes memory withdraw = abi.encodeCall(IStaking.withdraw, (3 ether, payable(address(wallet))));
        vm.expectRevert(abi.encodeWithSelector(IStaking.TransferFailed.selector, address(wallet), 3 ether));
        wallet.run(address(staking), 0, withdraw);
        vm.assertEq(staking.freeStake(address(wallet)), 3 ether);
        // Stuck it is not: it can go elsewhere.
        wallet.run(address(staking), 0, abi.encodeCall(IStaking.withdraw, (3 ether, payable(carol))));
        vm.assertEq(carol.balance, 3 ether);
    }

    function test_withdraw_cannot_be_reentered() public {
        stake(alice, 10 ether);
        Reenterer thief = new Reenterer();
        vm.deal(address(thief), 2 ether);
        thief.run(address(staking), 2 ether, abi.encodeCall(IStaking.stake, ()));
        bytes memory withdraw = abi.encodeCall(IStaking.withdraw, (1 ether, payable(address(thief))));
        thief.onReceive(address(staking), withdraw);
        thief.run(address(staking), 0, withdraw);
        vm.assertEq(thief.entered(), 1);
        vm.assertFalse(thief.succeeded());
        vm.assertEq(thief.failure(), abi.encodeWithSignature("ReentrancyGuardReentrantCall()"));
        vm.assertEq(address(thief).balance, 1 ether);
        vm.assertEq(staking.freeStake(address(thief)), 1 ether);
    }

    // --- who is active ---

    function test_active_needs_the_owners_own_vote() public {
        vote(bob, node, MINER_MINIMUM * 10);
        vm.assertFalse(staking.nodeById(node).active);
        vote(alice, node, MINER_MINIMUM - 1);
        vm.assertFalse(staking.nodeById(node).active);
        vote(alice, node, 1);
        vm.assertTrue(staking.nodeById(node).active);
        vm.assertEq(staking.nodeById(node).ownerVote, MINER_MINIMUM);
        vm.assertEq(staking.nodeById(node).weight, 0);
        nextEpoch();
        vm.assertEq(staking.nodeById(node).weight, MINER_MINIMUM * 11);
        unvote(alice, node, 1);
        vm.assertFalse(staking.nodeById(node).active);
    }

    function test_coordinators_need_more() public {
        uint64 coordinator = register(NodeKind.Coordinator, alice, newKey());
        vote(alice, coordinator, COORDINATOR_MINIMUM - 1);
        vm.assertFalse(staking.nodeById(coordinator).active);
        vote(alice, coordinator, 1);
        vm.assertTrue(staking.nodeById(coordinator).active);
        vm.assertEq(staking.minimumVote(NodeKind.Coordinator), COORDINATOR_MINIMUM);
        vm.assertEq(staking.minimumVote(NodeKind.Miner), MINER_MINIMUM);
        vm.assertEq(staking.minimumVote(NodeKind.None), 0);
    }

    function test_a_slash_below_the_minimum_deactivates() public {
        vote(alice, node, MINER_MINIMUM);
        slash(node, 1 ether, "a fault");
        vm.assertFalse(staking.nodeById(node).active);
    }

    // --- weight: what was there when the epoch began, less what left ---

    function test_stake_counts_from_the_next_epoch() public {
        uint64 before = staking.epoch();
        vote(bob, node, 7 ether);
        vm.assertEq(staking.weightOf(node), 0);
        vm.warp(block.timestamp + EPOCH - 1);
        vm.assertEq(staking.epoch(), before);
        vm.assertEq(staking.weightOf(node), 0);
        vm.warp(block.timestamp + 1);
        vm.assertEq(staking.epoch(), before + 1);
        vm.assertEq(staking.weightOf(node), 7 ether);
    }

    function test_fresh_stake_does_not_stand_in_for_stake_that_leaves() public {
        uint256 shares = vote(alice, node, 10 ether);
        nextEpoch();
        vote(bob, node, 10 ether);
        vm.assertEq(staking.weightOf(node), 10 ether);
        unvote(alice, node, shares);
        vm.assertEq(staking.weightOf(node), 0);
        nextEpoch();
        vm.assertEq(staking.weightOf(node), 10 ether);
    }

    function test_a_staker_takes_back_fresh_stake_first() public {
        vote(alice, node, 10 ether);
        nextEpoch();
        vote(alice, node, 4 ether);
        unvote(alice, node, 3 ether);
        vm.assertEq(staking.weightOf(node), 10 ether);
        unvote(alice, node, 3 ether);
        vm.assertEq(staking.weightOf(node), 8 ether);
        // What came back in the same epoch is fresh again.
        vote(alice, node, 3 ether);
        vm.assertEq(staking.weightOf(node), 8 ether);
    }

    function test_moving_stake_through_nodes_counts_nowhere_twice() public {
        uint64 other = register(NodeKind.Miner, bob, newKey());
        uint256 shares = vote(alice, node, 10 ether);
        nextEpoch();
        uint256 ticket = unvote(alice, node, shares);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(alice);
        staking.release(ticket);
        vm.prank(alice);
        staking.vote(other, 10 ether);
        vm.assertEq(staking.weightOf(node) + staking.weightOf(other), 0);
        nextEpoch();
        vm.assertEq(staking.weightOf(other), 10 ether);
    }

    function test_a_slash_takes_weight_at_once() public {
        vote(alice, node, 10 ether);
        nextEpoch();
        vote(bob, node, 10 ether);
        slash(node, 5 ether, "a fault");
        vm.assertEq(staking.weightOf(node), 7.5 ether);
        nextEpoch();
        vm.assertEq(staking.weightOf(node), 15 ether);
    }

    function test_a_slash_that_consolidates_leaves_fresh_stake_fresh() public {
        vote(alice, node, 10 ether);
        nextEpoch();
        uint256 shares = vote(bob, node, 10 ether);
        slash(node, 19.999 ether, "a fault");
        vm.assertEq(staking.activePool(node).denomination, 1);
        vm.assertApproxEqAbs(staking.weightOf(node), 0.0005 ether, 2, "half of it counts");
        unvote(bob, node, shares / 1000);
        vm.assertApproxEqAbs(staking.weightOf(node), 0.0005 ether, 2, "and his was the other half");
    }

    /// @dev Within an epoch nothing that anybody does raises a weight, whatever the order.
    function testFuzz_weight_never_rises_within_an_epoch(uint256[12] calldata seeds) public {
        address[3] memory stakers = [alice, bob, carol];
        for (uint256 i = 0; i < 3; ++i) {
            vote(stakers[i], node, 100 ether + i);
        }
        nextEpoch();
        uint256 weight = staking.weightOf(node);
        for (uint256 i = 0; i < seeds.length; ++i) {
            address staker = stakers[seeds[i] % 3];
            uint256 choice = (seeds[i] >> 8) % 8;
            if (choice < 4) {
                vote(staker, node, bound(seeds[i] >> 16, 1e6, 1000 ether));
            } else if (choice < 7) {
                (uint256 shares,) = staking.voteOf(node, staker);
                if (shares != 0) unvote(staker, node, bound(seeds[i] >> 16, 1, shares));
            } else {
                slash(node, bound(seeds[i] >> 16, 1, 10 ether), bytes32(i));
            }
            // Rounding may hand the shares that stay a wei.
            vm.assertLe(staking.weightOf(node), weight + 1);
            weight = staking.weightOf(node);
        }
    }
}
