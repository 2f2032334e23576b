// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IStaking, NodeKind} from "../src/IStaking.sol";
import {Pools} from "../src/Pools.sol";
import {MarketTest} from "./support/MarketTest.sol";

/// @notice How what a node gets reaches its stakers: the owner's commission at once, the rest over an epoch, whatever
/// happens to the pool meanwhile.
contract StreamsTest is MarketTest {
    /// @dev Wei; what rounding may take in a few steps from a pool of some 10,000 CAI.
    uint256 private constant DUST = 1e5;

    uint64 private node;

    /// @dev A miner of Alice, for which she and Bob have voted alike.
    function setUp() public override {
        super.setUp();
        node = register(NodeKind.Miner, alice, newKey());
        vote(alice, node, MINER_MINIMUM);
        vote(bob, node, MINER_MINIMUM);
        nextEpoch();
    }

    function owed() private view returns (uint256) {
        return staking.claimable(node, alice) + staking.claimable(node, bob) + staking.claimable(node, carol);
    }

    // --- commission and pace ---

    function test_commission_at_once_and_the_rest_over_an_epoch() public {
        vm.expectEmit(address(staking));
        emit IStaking.Rewarded(node, 100 ether, 5 ether);
        reward(node, 100 ether);
        vm.assertEq(staking.claimable(node, alice), 5 ether);
        vm.assertEq(staking.claimable(node, bob), 0);
        vm.warp(block.timestamp + EPOCH / 4);
        vm.assertApproxEqAbs(staking.claimable(node, bob), 47.5 ether / 4, DUST, "a quarter");
        vm.assertApproxEqAbs(staking.claimable(node, alice), 5 ether + 47.5 ether / 4, DUST, "and hers");
        vm.warp(block.timestamp + EPOCH / 4 * 3);
        vm.assertApproxEqAbs(staking.claimable(node, bob), 47.5 ether, DUST, "all");
        vm.warp(block.timestamp + 100 * EPOCH);
        vm.assertApproxEqAbs(staking.claimable(node, bob), 47.5 ether, DUST, "and no more");
        vm.assertLe(owed(), 100 ether, "more than was given");
    }

    function test_all_or_nothing_as_commission() public {
        uint64 greedy = register(NodeKind.Miner, alice, newKey(), 10_000);
        uint64 kind = register(NodeKind.Miner, alice, newKey(), 0);
        vote(bob, greedy, 1 ether);
        vote(bob, kind, 1 ether);
        reward(greedy, 100 ether);
        reward(kind, 100 ether);
        vm.assertEq(staking.claimable(greedy, alice), 100 ether);
        vm.assertEq(staking.claimable(kind, alice), 0);
        nextEpoch();
        vm.assertEq(staking.claimable(greedy, bob), 0);
        vm.assertApproxEqAbs(staking.claimable(kind, bob), 100 ether, DUST, "all of it");
    }

    function test_gifts_have_a_node_and_an_amount() public {
        vm.expectRevert(IStaking.ZeroAmount.selector);
        staking.reward(node);
        vm.expectRevert(IStaking.ZeroAmount.selector);
        staking.fund();
        vm.deal(address(this), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IStaking.UnknownNode.selector, 99));
        staking.reward{value: 1 ether}(99);
    }

    function test_a_wei_every_second_delays_nothing() public {
        reward(node, 100 ether);
        vm.deal(carol, EPOCH);
        for (uint256 i = 0; i < EPOCH; ++i) {
            vm.prank(carol);
            staking.reward{value: 1}(node);
            vm.warp(block.timestamp + 1);
        }
        // Each gift rounds what is left down by a wei, and what a share earned by a 2**64th.
        vm.assertApproxEqAbs(owed(), 100 ether, EPOCH * (2 * MINER_MINIMUM / 2 ** 64 + 2), "delayed");
    }

    /// @dev Amounts wait as long as they would have alone, in the mean; so all is paid an epoch after the last gift.
    function testFuzz_gifts_of_any_size_at_any_time(uint256[8] calldata seeds) public {
        uint256 given;
        uint256 before;
        for (uint256 i = 0; i < seeds.length; ++i) {
            uint256 amount = bound(seeds[i] >> 128, 1, seeds[i] % 2 == 0 ? 1000 : 1e27);
            reward(node, amount);
            given += amount;
            vm.warp(block.timestamp + bound(uint128(seeds[i]), 0, EPOCH));
            vm.assertGe(owed(), before, "what was earned was taken back");
            before = owed();
            vm.assertLe(before, given, "more than was given");
        }
        nextEpoch();
        vm.assertApproxEqAbs(owed(), given, seeds.length * (2 * MINER_MINIMUM / 2 ** 64 + 4), "all is paid");
    }

    function test_a_gift_as_large_as_what_is_left_meets_it_half_way() public {
        uint64 free = register(NodeKind.Miner, alice, newKey(), 0);
        vote(bob, free, MINER_MINIMUM);
        reward(free, 100 ether);
        vm.warp(block.timestamp + EPOCH / 2);
        reward(free, 50 ether);
        vm.warp(block.timestamp + EPOCH / 4 * 3 - 1);
        vm.assertTrue(staking.claimable(free, bob) < 149.99 ether);
        vm.warp(block.timestamp + 1);
        vm.assertApproxEqAbs(staking.claimable(free, bob), 150 ether, DUST, "three quarters of an epoch later");
    }

    // --- who holds votes then ---

    function test_who_comes_shares_from_then_and_who_leaves_until_then() public {
        reward(node, 100 ether);
        vm.warp(block.timestamp + EPOCH / 2);
        vote(carol, node, 2 * MINER_MINIMUM);
        unvote(bob, node, MINER_MINIMUM);
        vm.warp(block.timestamp + EPOCH / 2);
        uint256 half = 95 ether / uint256(2);
        vm.assertApproxEqAbs(staking.claimable(node, bob), half / 2, DUST, "Bob, until then");
        vm.assertApproxEqAbs(staking.claimable(node, carol), half * 2 / 3, DUST, "Carol, from then");
        vm.assertApproxEqAbs(staking.claimable(node, alice), 5 ether + half / 2 + half / 3, DUST, "Alice, always");
    }

    function test_what_nobody_takes_returns_to_the_budget() public {
        uint64 empty = register(NodeKind.Miner, alice, newKey());
        reward(empty, 100 ether);
        vm.warp(block.timestamp + EPOCH / 2);
        // Whoever touches it. What came before the first vote is nobody's.
        vote(carol, empty, 1 ether);
        vm.assertApproxEqAbs(staking.rewardBudget(), 47.5 ether, DUST, "half of it");
        vm.warp(block.timestamp + EPOCH / 4);
        unvote(carol, empty, 1 ether);
        vm.assertApproxEqAbs(staking.claimable(empty, carol), 47.5 ether / 2, DUST, "a quarter is hers");
        vm.warp(block.timestamp + EPOCH);
        claim(bob, empty);
        vm.assertApproxEqAbs(staking.rewardBudget(), 47.5 ether + 47.5 ether / 2, DUST, "the rest");
        vm.assertEq(staking.claimable(empty, alice), 5 ether);
    }

    function test_a_pool_of_dust_earns_nothing() public {
        uint64 dusty = register(NodeKind.Miner, alice, newKey(), 0);
        vote(carol, dusty, 2 ** 50 - 1);
        reward(dusty, 100 ether);
        nextEpoch();
        vm.assertEq(staking.claimable(dusty, carol), 0);
        reward(dusty, 100 ether);
        vm.assertApproxEqAbs(staking.rewardBudget(), 100 ether, 1, "back in the budget");
        vote(carol, dusty, 1);
        nextEpoch();
        vm.assertApproxEqAbs(staking.claimable(dusty, carol), 100 ether, DUST, "enough");
    }

    /// @dev A node whose last voter left gives back its part of the budget, so that others earn it.
    function test_the_part_of_a_node_that_all_left_is_earned_by_others() public {
        uint64 other = register(NodeKind.Miner, carol, newKey(), 0);
        vote(carol, other, 2 * MINER_MINIMUM);
        nextEpoch();
        fundRewards(100 ether);
        setRewardRate(100 ether);
        sync(node);
        sync(other);
        nextEpoch();
        unvote(alice, node, MINER_MINIMUM);
        unvote(bob, node, MINER_MINIMUM);
        nextEpoch();
        claim(bob, node);
        for (uint256 i = 0; i < 2; ++i) {
            nextEpoch();
            sync(other);
        }
        nextEpoch();
        // Half was given to the node as its voters left: but for the commission, none of it was paid out by then.
        vm.assertApproxEqAbs(staking.claimable(other, carol), 100 ether - 2.5 ether, DUST, "all but the commission");
    }

    // --- slashes ---

    function test_a_slash_takes_no_rewards() public {
        reward(node, 100 ether);
        vm.warp(block.timestamp + EPOCH / 2);
        uint256 due = staking.claimable(node, bob);
        slash(node, MINER_MINIMUM, "e");
        vm.assertEq(staking.claimable(node, bob), due);
        vm.warp(block.timestamp + EPOCH / 2);
        vm.assertApproxEqAbs(staking.claimable(node, bob), 47.5 ether, DUST, "nor what is to come");
    }

    function test_a_slash_that_consolidates_takes_no_rewards() public {
        reward(node, 100 ether);
        vm.warp(block.timestamp + EPOCH / 2);
        uint256 due = staking.claimable(node, bob);
        slash(node, 2 * MINER_MINIMUM - 10 ether, "e");
        vm.assertEq(staking.activePool(node).denomination, 1);
        vm.assertApproxEqAbs(staking.claimable(node, bob), due, 1, "earned before the slash");
        vm.warp(block.timestamp + EPOCH / 2);
        vm.assertApproxEqAbs(staking.claimable(node, bob), 47.5 ether, DUST, "and after it");
        uint256 shown = staking.claimable(node, bob);
        vm.assertEq(claim(bob, node), shown);
    }

    /// @dev The price of a share can be close to where a small slash consolidates: who voted since then loses little stake.
    function test_a_small_slash_that_consolidates_takes_no_rewards() public {
        slash(node, 2 * MINER_MINIMUM * 998 / 1000, "e");
        vote(carol, node, 1_000_000 ether);
        reward(node, 10_000 ether);
        nextEpoch();
        uint256 due = staking.claimable(node, carol);
        vm.assertTrue(due > 9000 ether);
        slash(node, 510_000 ether, "f");
        vm.assertEq(staking.activePool(node).denomination, 1);
        vm.assertApproxEqAbs(staking.claimable(node, carol), due, 1, "earned before the slash");
    }

    /// @dev Positions that nobody touches through any number of total losses keep what they earned, each share of it.
    function testFuzz_rewards_outlive_consolidations(uint256[6] calldata seeds) public {
        uint256 given;
        for (uint256 i = 0; i < seeds.length; ++i) {
            uint256 amount = bound(seeds[i] >> 128, 1 ether, 1e24);
            reward(node, amount);
            given += amount;
            nextEpoch();
            vote(carol, node, bound(seeds[i] >> 64, 1 ether, 1e24));
            uint256 left = uint256(staking.activePool(node).amount);
            uint256 before = owed();
            slash(node, left - (seeds[i] % 3 == 0 ? 0 : seeds[i] % (left / 1e4)), bytes32(i + 1));
            vm.assertApproxEqAbs(owed(), before, 3, "a slash took rewards");
            // Shares are many when they are worth little.
            vote(carol, node, 1 ether);
        }
        vm.assertLe(owed(), given, "more than was given");
        uint256 paid = claim(alice, node) + claim(bob, node) + claim(carol, node);
        vm.assertApproxEqAbs(paid + staking.rewardBudget(), given, 1e15, "all is paid");
    }

    // --- claims ---

    struct Step {
        uint8 what;
        uint8 who;
        uint96 amount;
        uint16 time;
    }

    /// @dev After anything that may happen to a node, `claimable` is what `claim` pays, for everybody.
    function testFuzz_claimable_is_what_claim_pays(Step[12] calldata steps) public {
        fundRewards(1e24);
        setRewardRate(1e22);
        address[3] memory stakers = [alice, bob, carol];
        for (uint256 i = 0; i < steps.length; ++i) {
            address staker = stakers[steps[i].who % 3];
            uint256 amount = bound(steps[i].amount, 1, 1e26);
            uint256 what = steps[i].what % 6;
            if (what == 0) {
                vote(staker, node, 1e6 + amount);
            } else if (what == 1) {
                (uint256 shares,) = staking.voteOf(node, staker);
                if (shares != 0) unvote(staker, node, bound(amount, 1, shares));
            } else if (what == 2) {
                reward(node, amount);
            } else if (what == 3) {
                slash(node, amount, bytes32(i));
            } else if (what == 4) {
                sync(node);
            } else {
                claimed(staker);
            }
            vm.warp(block.timestamp + steps[i].time);
        }
        for (uint256 i = 0; i < 3; ++i) {
            claimed(stakers[i]);
            vm.assertEq(claim(stakers[i], node), 0);
        }
    }

    function claimed(address staker) private {
        uint256 due = staking.claimable(node, staker);
        uint256 before = staker.balance;
        vm.assertEq(claim(staker, node), due, "claimed other than shown");
        vm.assertEq(staker.balance, before + due, "paid other than claimed");
    }

    // --- extremes ---

    function test_the_most_there_can_be() public {
        uint256 amount = Pools.MAX_STAKE - address(staking).balance;
        reward(node, amount / 2);
        fundRewards(amount - amount / 2);
        vm.deal(address(this), 1);
        vm.expectRevert(abi.encodeWithSelector(IStaking.TooMuchStake.selector, Pools.MAX_STAKE + 1, Pools.MAX_STAKE));
        staking.reward{value: 1}(node);
        vm.expectRevert(abi.encodeWithSelector(IStaking.TooMuchStake.selector, Pools.MAX_STAKE + 1, Pools.MAX_STAKE));
        staking.fund{value: 1}();
        setRewardRate(Pools.MAX_STAKE);
        sync(node);
        nextEpoch();
        sync(node);
        nextEpoch();
        uint256 paid = claim(alice, node) + claim(bob, node);
        vm.assertLe(paid, amount, "more than there was");
        vm.assertApproxEqAbs(paid, amount, DUST, "all of it");
        unvote(bob, node, MINER_MINIMUM);
        unvote(alice, node, MINER_MINIMUM);
    }

    /// @dev Over and over the most there can be, to the least pool that earns: no sum overflows, and nobody is kept in.
    function test_a_pool_can_earn_no_more_than_it_can_count() public {
        uint64 small = register(NodeKind.Miner, alice, newKey(), 0);
        vote(carol, small, 2 ** 50);
        (uint256 amount, uint256 paid) = (0, 0);
        // 2**106 wei is some 8,000 times that.
        for (uint256 i = 0; i < 8200; ++i) {
            amount = Pools.MAX_STAKE - address(staking).balance;
            reward(small, amount);
            nextEpoch();
            paid = claim(carol, small);
            if (staking.rewardBudget() != 0) break;
            vm.assertApproxEqAbs(paid, amount, 2, "paid");
        }
        vm.assertEq(paid, 0);
        vm.assertApproxEqAbs(staking.rewardBudget(), amount, 2, "from then on it returns to the budget");
        unvote(carol, small, 2 ** 50);
    }

    /// @dev The worst that rounding takes: 2**-64 of the pool's shares, and three wei, each time somebody touches it.
    function test_the_worst_loss_to_rounding() public {
        vote(carol, node, 9e27);
        reward(node, 1 ether);
        for (uint256 i = 0; i < EPOCH; ++i) {
            vm.warp(block.timestamp + 1);
            claim(bob, node);
        }
        uint256 lost = 1 ether - owed() - bob.balance;
        vm.assertLe(lost, EPOCH * (uint256(staking.activePool(node).shares) / 2 ** 64 + 3), "lost");
        // Two millionths of a CAI in 3,600 steps, from the largest pool.
        vm.assertLe(lost, 2e12);
    }
}
