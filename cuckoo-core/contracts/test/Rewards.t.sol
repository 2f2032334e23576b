// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IStaking, NodeKind} from "../src/IStaking.sol";
import {Pools} from "../src/Pools.sol";
import {MarketTest} from "./support/MarketTest.sol";
import {Reenterer, Wallet} from "./support/Receivers.sol";

/// @notice The budget: who takes part in it, for which weight, and how it is claimed. How a node's part is paid out is in
/// `Streams.t.sol`.
contract RewardsTest is MarketTest {
    uint256 private constant RATE = 3600 ether;
    /// @dev Wei; a part of the budget loses at most the weights' sum / 2**64 each time the index moves, and 80,000 CAI / 2**64
    /// a few times over are less than this.
    uint256 private constant DUST = 1e6;

    uint64 private hers;
    uint64 private his;

    /// @dev A miner of Alice with a commission, one of Bob without, each of the least own vote, both counting.
    function setUp() public override {
        super.setUp();
        hers = register(NodeKind.Miner, alice, newKey());
        his = register(NodeKind.Miner, bob, newKey(), 0);
        vote(alice, hers, MINER_MINIMUM);
        vote(bob, his, MINER_MINIMUM);
        nextEpoch();
        fundRewards(1_000_000 ether);
    }

    function syncBoth() private {
        uint64[] memory both = new uint64[](2);
        (both[0], both[1]) = (hers, his);
        staking.sync(both);
    }

    /// @dev From now on the budget pays `RATE`.
    function begin() private {
        setRewardRate(RATE);
        syncBoth();
    }

    /// @dev The budget pays no more, and what it paid reaches the stakers.
    function end() private {
        setRewardRate(0);
        syncBoth();
        nextEpoch();
    }

    function earnedByNode(uint64 node) private view returns (uint256) {
        return staking.claimable(node, alice) + staking.claimable(node, bob) + staking.claimable(node, carol);
    }

    function checkEarned(uint256 byHers, uint256 byHis) private view {
        vm.assertApproxEqAbs(earnedByNode(hers), byHers, DUST, "hers");
        vm.assertApproxEqAbs(earnedByNode(his), byHis, DUST, "his");
        vm.assertLe(earnedByNode(hers) + earnedByNode(his), byHers + byHis, "more than the budget paid");
    }

    // --- the rate, and its split by weight ---

    function test_active_nodes_share_the_rate_by_weight() public {
        vote(carol, his, 2 * MINER_MINIMUM);
        nextEpoch();
        begin();
        nextEpoch();
        vm.assertEq(staking.rewardBudget(), 1_000_000 ether - RATE);
        end();
        checkEarned(RATE / 4, RATE / 4 * 3);
        // Within a node by votes.
        vm.assertApproxEqAbs(staking.claimable(his, bob), RATE / 4, DUST, "Bob");
        vm.assertApproxEqAbs(staking.claimable(his, carol), RATE / 2, DUST, "Carol");
        vm.assertEq(staking.rewardBudget(), 1_000_000 ether - RATE);
    }

    function testFuzz_shares_are_weights(uint256 hersMore, uint256 hisMore, uint256 time) public {
        hersMore = bound(hersMore, 1, 1e25);
        hisMore = bound(hisMore, 1, 1e25);
        time = bound(time, 1, 10 * EPOCH);
        vote(carol, hers, hersMore);
        vote(carol, his, hisMore);
        nextEpoch();
        begin();
        vm.warp(block.timestamp + time);
        uint256 paid = RATE * time / EPOCH;
        vm.assertEq(staking.rewardBudget(), 1_000_000 ether - paid);
        end();
        uint256 hersWeight = MINER_MINIMUM + hersMore;
        uint256 hisWeight = MINER_MINIMUM + hisMore;
        vm.assertApproxEqAbs(
            earnedByNode(hers), paid * hersWeight / (hersWeight + hisWeight), (hersWeight + hisWeight) / 2 ** 60, "hers"
        );
        vm.assertApproxEqAbs(
            earnedByNode(his), paid * hisWeight / (hersWeight + hisWeight), (hersWeight + hisWeight) / 2 ** 60, "his"
        );
        vm.assertLe(earnedByNode(hers) + earnedByNode(his), paid, "more than the budget paid");
    }

    function test_a_new_rate_holds_from_when_it_is_set() public {
        begin();
        vm.warp(block.timestamp + EPOCH / 4);
        vm.expectEmit(address(staking));
        emit IStaking.RewardRateSet(3 * RATE);
        setRewardRate(3 * RATE);
        vm.assertEq(staking.rewardPerEpoch(), 3 * RATE);
        vm.warp(block.timestamp + EPOCH / 2);
        end();
        uint256 paid = RATE / 4 + 3 * RATE / 2;
        checkEarned(paid / 2, paid / 2);
    }

    function test_the_rate_has_a_bound() public {
        vm.expectRevert(abi.encodeWithSelector(IStaking.InvalidConfig.selector, "rewardPerEpoch"));
        setRewardRate(Pools.MAX_STAKE + 1);
        setRewardRate(Pools.MAX_STAKE);
    }

    function test_an_exhausted_budget_pays_what_it_has_and_nothing_later_for_that_time() public {
        begin();
        setRewardRate(Pools.MAX_STAKE);
        nextEpoch();
        vm.assertEq(staking.rewardBudget(), 0);
        nextEpoch();
        setRewardRate(RATE);
        nextEpoch();
        vm.expectEmit(address(staking));
        emit IStaking.RewardsFunded(address(this), 10 ether, 10 ether);
        fundRewards(10 ether);
        vm.assertEq(staking.rewardBudget(), 10 ether);
        end();
        checkEarned(500_000 ether, 500_000 ether);
        vm.assertEq(staking.rewardBudget(), 10 ether);
    }

    function test_nothing_is_paid_while_no_node_counts() public {
        setRewardRate(RATE);
        nextEpoch();
        vm.assertEq(staking.rewardBudget(), 1_000_000 ether);
        syncBoth();
        end();
        checkEarned(0, 0);
        vm.assertEq(staking.rewardBudget(), 1_000_000 ether);
    }

    // --- which weight counts, from when ---

    function test_a_vote_raises_no_part_before_it_counts() public {
        begin();
        vote(carol, his, 2 * MINER_MINIMUM);
        syncBoth();
        vm.warp(block.timestamp + EPOCH - 1);
        syncBoth();
        setRewardRate(0);
        syncBoth();
        nextEpoch();
        checkEarned((RATE - 1 ether) / 2, (RATE - 1 ether) / 2);
    }

    function test_a_higher_weight_counts_once_somebody_syncs() public {
        vote(carol, his, 2 * MINER_MINIMUM);
        begin();
        nextEpoch();
        // Half to each: nobody noted the higher weight.
        nextEpoch();
        syncBoth();
        nextEpoch();
        end();
        checkEarned(RATE + RATE / 4, RATE + RATE / 4 * 3);
    }

    function test_stake_in_and_out_at_once_earns_nothing() public {
        begin();
        reward(his, 100 ether);
        vm.warp(block.timestamp + EPOCH / 2);
        uint256 shares = vote(carol, his, 1e9 ether);
        sync(his);
        unvote(carol, his, shares);
        sync(his);
        vm.warp(block.timestamp + EPOCH / 2);
        end();
        vm.assertEq(staking.claimable(his, carol), 0);
        checkEarned(RATE / 2, RATE / 2 + 100 ether);
    }

    function test_stake_that_leaves_as_soon_as_it_counts_earns_nothing() public {
        vm.warp(block.timestamp + EPOCH - 1);
        uint256 shares = vote(carol, his, 1e9 ether);
        vm.warp(block.timestamp + 1);
        begin();
        unvote(carol, his, shares);
        nextEpoch();
        end();
        vm.assertEq(staking.claimable(his, carol), 0);
        checkEarned(RATE / 2, RATE / 2);
    }

    function test_an_unvote_lowers_the_part_at_once() public {
        uint256 shares = vote(carol, hers, MINER_MINIMUM);
        nextEpoch();
        begin();
        vm.warp(block.timestamp + EPOCH / 2);
        unvote(carol, hers, shares);
        vm.warp(block.timestamp + EPOCH / 2);
        end();
        checkEarned(RATE / 3 + RATE / 4, RATE / 6 + RATE / 4);
    }

    function test_a_slash_lowers_the_part_at_once() public {
        vote(alice, hers, MINER_MINIMUM);
        nextEpoch();
        begin();
        vm.warp(block.timestamp + EPOCH / 2);
        slash(hers, MINER_MINIMUM, "e");
        vm.assertTrue(staking.nodeById(hers).active);
        vm.warp(block.timestamp + EPOCH / 2);
        end();
        checkEarned(RATE / 3 + RATE / 4, RATE / 6 + RATE / 4);
    }

    function test_an_exit_ends_the_part_at_once() public {
        begin();
        vm.warp(block.timestamp + EPOCH / 2);
        vm.prank(alice);
        staking.exit(hers);
        vm.warp(block.timestamp + EPOCH / 2);
        end();
        checkEarned(RATE / 4, RATE / 4 + RATE / 2);
    }

    function test_a_node_below_the_owners_minimum_earns_nothing() public {
        vote(carol, hers, 10 * MINER_MINIMUM);
        nextEpoch();
        unvote(alice, hers, 1);
        begin();
        nextEpoch();
        // Fresh, and yet enough to be active: what was there already counts again.
        vote(alice, hers, 1);
        sync(hers);
        nextEpoch();
        unvote(alice, hers, 1);
        nextEpoch();
        end();
        uint256 weight = 11 * MINER_MINIMUM - 1;
        uint256 part = RATE * weight / (weight + MINER_MINIMUM);
        checkEarned(part, 3 * RATE - part);
    }

    function test_a_slash_below_the_minimum_ends_the_part() public {
        begin();
        slash(hers, 1, "e");
        nextEpoch();
        end();
        checkEarned(0, RATE);
    }

    function test_sync_of_no_node_or_the_same_twice_changes_nothing() public {
        begin();
        uint64[] memory list = new uint64[](4);
        (list[0], list[1], list[2], list[3]) = (99, his, his, 0);
        vm.warp(block.timestamp + EPOCH / 2);
        staking.sync(list);
        staking.sync(new uint64[](0));
        vm.warp(block.timestamp + EPOCH / 2);
        end();
        checkEarned(RATE / 2, RATE / 2);
        // The number is given later, and starts from nothing.
        uint64 next = newMiner(carol);
        sync(next);
        vm.assertEq(earnedByNode(next), 0);
    }

    // --- claims ---

    function test_a_claim_pays_once_and_to_whom_the_staker_says() public {
        begin();
        nextEpoch();
        end();
        uint256 due = staking.claimable(his, bob);
        vm.expectEmit(address(staking));
        emit IStaking.Claimed(his, bob, carol, due);
        vm.prank(bob);
        vm.assertEq(staking.claim(his, payable(carol)), due);
        vm.assertEq(carol.balance, due);
        vm.assertEq(staking.claimable(his, bob), 0);
        vm.assertEq(claim(bob, his), 0);
        vm.assertEq(bob.balance, 0);
    }

    function test_what_was_earned_stays_after_leaving() public {
        begin();
        nextEpoch();
        end();
        uint256 due = staking.claimable(his, bob);
        unvote(bob, his, MINER_MINIMUM);
        nextEpoch();
        vm.assertEq(claim(bob, his), due);
    }

    function test_claims_of_many_nodes_are_one_payment() public {
        vote(carol, hers, MINER_MINIMUM);
        vote(carol, his, MINER_MINIMUM);
        nextEpoch();
        begin();
        nextEpoch();
        end();
        uint256 due = staking.claimable(hers, carol) + staking.claimable(his, carol);
        vm.assertTrue(due > RATE / 3);
        uint64[] memory list = new uint64[](5);
        (list[0], list[1], list[2], list[3], list[4]) = (hers, his, hers, his, hers);
        vm.prank(carol);
        vm.assertEq(staking.claimMany(list, payable(carol)), due);
        vm.assertEq(carol.balance, due);
    }

    function test_the_most_nodes_in_one_claim() public {
        vm.prank(carol);
        vm.assertEq(staking.claimMany(new uint64[](0), payable(carol)), 0);
        vm.prank(carol);
        staking.claimMany(times(100, his), payable(carol));
        uint64[] memory list = times(101, his);
        vm.expectRevert(abi.encodeWithSelector(IStaking.TooManyNodes.selector, 101, 100));
        vm.prank(carol);
        staking.claimMany(list, payable(carol));
    }

    function times(uint256 count, uint64 node) private pure returns (uint64[] memory list) {
        list = new uint64[](count);
        for (uint256 i = 0; i < count; ++i) {
            list[i] = node;
        }
    }

    function test_claims_of_nothing() public {
        vm.expectRevert(abi.encodeWithSelector(IStaking.UnknownNode.selector, 99));
        claim(bob, 99);
        vm.expectRevert(IStaking.ZeroAddress.selector);
        vm.prank(bob);
        staking.claim(his, payable(0));
        uint64[] memory list = new uint64[](2);
        (list[0], list[1]) = (his, 99);
        vm.expectRevert(abi.encodeWithSelector(IStaking.UnknownNode.selector, 99));
        vm.prank(bob);
        staking.claimMany(list, payable(bob));
    }

    // --- receivers ---

    /// @dev A contract that votes for Bob's node, with rewards to be claimed.
    function earning(Wallet wallet) private returns (uint256 due) {
        vm.deal(address(wallet), MINER_MINIMUM);
        wallet.run(address(staking), MINER_MINIMUM, abi.encodeCall(IStaking.stake, ()));
        wallet.run(address(staking), 0, abi.encodeCall(IStaking.vote, (his, MINER_MINIMUM)));
        reward(his, 100 ether);
        nextEpoch();
        due = staking.claimable(his, address(wallet));
        vm.assertTrue(due > 1 ether);
    }

    function test_who_refuses_money_keeps_its_claim() public {
        Wallet wallet = new Wallet();
        uint256 due = earning(wallet);
        wallet.setAccepts(false);
        vm.expectRevert(abi.encodeWithSelector(IStaking.TransferFailed.selector, address(wallet), due));
        wallet.run(address(staking), 0, abi.encodeCall(IStaking.claim, (his, payable(address(wallet)))));
        vm.assertEq(staking.claimable(his, address(wallet)), due);
        wallet.run(address(staking), 0, abi.encodeCall(IStaking.claim, (his, payable(carol))));
        vm.assertEq(carol.balance, due);
    }

    /// @dev Each way that pays out, entered again from each.
    function test_claims_cannot_be_reentered() public {
        uint64[] memory list = new uint64[](1);
        list[0] = his;
        for (uint256 i = 0; i < 9; ++i) {
            Reenterer thief = new Reenterer();
            bytes[3] memory ways = [
                abi.encodeCall(IStaking.claim, (his, payable(address(thief)))),
                abi.encodeCall(IStaking.claimMany, (list, payable(address(thief)))),
                abi.encodeCall(IStaking.withdraw, (1 ether, payable(address(thief))))
            ];
            earning(thief);
            vm.deal(address(thief), 2 ether);
            thief.run(address(staking), 2 ether, abi.encodeCall(IStaking.stake, ()));
            thief.onReceive(address(staking), ways[i % 3]);
            thief.run(address(staking), 0, ways[i / 3]);
            vm.assertEq(thief.entered(), 1);
            vm.assertFalse(thief.succeeded());
            vm.assertEq(thief.failure(), abi.encodeWithSignature("ReentrancyGuardReentrantCall()"));
        }
    }
}
