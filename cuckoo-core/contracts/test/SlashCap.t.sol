// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {NodeKind} from "../src/IStaking.sol";
import {MarketTest} from "./support/MarketTest.sol";

/// @notice Who gains from a slash: never an owner with its friends, whatever they do.
contract SlashCapTest is MarketTest {
    uint64 private node;

    /// @param owners wei that Alice, who owns the node, votes with
    /// @param friends the same of Carol, her friend
    /// @param others the same of Bob, who knows nothing
    /// @param leaving which part of Alice's vote unbonds, in 255ths
    /// @param friendLeaving the same of Carol's
    struct Market {
        uint96 owners;
        uint96 friends;
        uint96 others;
        uint8 leaving;
        uint8 friendLeaving;
    }

    function setUp() public override {
        super.setUp();
        node = register(NodeKind.Miner, alice, newKey());
    }

    function open(Market memory market) private returns (uint256[2] memory tickets) {
        uint256 owners = vote(alice, node, bound(market.owners, 1 ether, 1e26));
        uint256 friends = vote(carol, node, bound(market.friends, 1, 1e26));
        vote(bob, node, bound(market.others, 1 ether, 1e26));
        uint256 part = owners * market.leaving / 255;
        if (part != 0) tickets[0] = unvote(alice, node, part);
        part = friends * market.friendLeaving / 255;
        if (part != 0) tickets[1] = unvote(carol, node, part);
    }

    /// @dev All that Alice and Carol have, in wei.
    function ours(uint256[2] memory tickets) private view returns (uint256 sum) {
        sum = staking.freeStake(alice) + staking.freeStake(carol);
        (, uint256 amount) = staking.voteOf(node, alice);
        sum += amount;
        (, amount) = staking.voteOf(node, carol);
        sum += amount;
        for (uint256 i = 0; i < tickets.length; ++i) {
            (,, amount,) = staking.ticketOf(tickets[i]);
            sum += amount;
        }
    }

    /// @dev In whatever role, alone or as both, with stake of the friend's own or without, again and again.
    function testFuzz_an_owner_and_its_friend_never_profit(
        Market calldata market,
        uint256[4] calldata amounts,
        uint8 roles
    ) public {
        uint256[2] memory tickets = open(market);
        address[4] memory friends = [alice, carol, address(0), bob];
        for (uint256 i = 0; i < amounts.length; ++i) {
            uint256 before = ours(tickets);
            uint256 amount = bound(amounts[i], 1, 1e27);
            vm.prank(verifier);
            staking.slash(node, amount, bytes32(i + 1), friends[roles % 4], friends[roles / 4 % 4]);
            // Each position's worth is rounded by up to a wei, before and after.
            vm.assertLe(ours(tickets), before + 8, "a gain");
        }
    }

    /// @dev Nothing of what others lose is paid out, and nothing of what the owner loses is burnt beyond the set part unless
    /// a taker is not named.
    function testFuzz_parts_are_the_set_ones_below_the_cap_and_scaled_at_it(Market calldata market, uint256 amount)
        public
    {
        open(market);
        uint256 total = uint256(staking.activePool(node).amount) + staking.unbondingPool(node).amount;
        amount = bound(amount, 1, total);
        vm.prank(verifier);
        (uint256 taken, uint256 toWronged) = staking.slash(node, amount, "e", reporter, wronged);
        vm.assertEq(taken, amount);
        uint256 toReporter = staking.freeStake(reporter);
        vm.assertEq(staking.freeStake(wronged), toWronged);
        vm.assertEq(staking.freeStake(staking.BURNT()), taken - toReporter - toWronged);

        uint256 owners = bound(market.owners, 1 ether, 1e26);
        uint256 cap = owners * taken / total;
        uint256 set = taken * (10_000 - BURN_BPS) / 10_000;
        vm.assertApproxEqAbs(toReporter + toWronged, cap < set ? cap : set, 2, "the lesser of part and cap");
        vm.assertApproxEqAbs(
            toReporter, (toReporter + toWronged) * REPORTER_BPS / (10_000 - BURN_BPS), 1, "two to three"
        );
    }

    function test_a_taker_that_is_not_named_leaves_its_part_to_nobody() public {
        Market memory market =
            Market({owners: 1 ether, friends: 1 ether, others: 8 ether, leaving: 0, friendLeaving: 0});
        open(market);
        vm.prank(verifier);
        (, uint256 toWronged) = staking.slash(node, 5 ether, "e", reporter, address(0));
        vm.assertEq(toWronged, 0);
        vm.assertApproxEqAbs(staking.freeStake(reporter), 0.2 ether, 2, "scaled as if the other were named");
        vm.prank(verifier);
        (, toWronged) = staking.slash(node, 2.5 ether, "f", address(0), wronged);
        vm.assertApproxEqAbs(toWronged, 0.15 ether, 2, "scaled as if the other were named");
        vm.assertEq(staking.freeStake(wronged), toWronged);
        vm.assertEq(staking.freeStake(address(0)), 0);
    }
}
