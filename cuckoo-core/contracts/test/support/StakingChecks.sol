// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Look} from "./OpenStaking.sol";
import {RewardActions} from "./RewardActions.sol";

/// @notice What holds after any actions. All of it in one pass, since it is checked after each.
abstract contract StakingChecks is RewardActions {
    /// @dev Wei that rounding leaves behind in an action: a millionth of a CAI. It is at most the shares of the touched pools
    /// / 2**64, and here they are at most 10**30.
    uint256 private constant DUST = 1e12;

    /// @dev Sums over all nodes.
    struct Sums {
        uint256 pools;
        uint256 counted;
        uint256 due;
    }

    function check() external view {
        uint256[] memory has = new uint256[](accounts.length);
        uint256[] memory unbonding = new uint256[](nodeCount + 1);
        for (uint256 i = 0; i < tickets.length; ++i) {
            (uint64 node,, uint256 worth,) = staking.ticketOf(tickets[i].id);
            has[tickets[i].who] += worth;
            unbonding[node] += worth;
        }
        Sums memory sums;
        uint64 epoch = staking.epoch();
        for (uint64 node = 1; node <= nodeCount; ++node) {
            Look memory seen = staking.look(node, accounts);
            require(unbonding[node] <= seen.unbonding.amount, "an unbonding pool does not cover its tickets");
            checkNode(node, epoch, seen, has);
            sums.pools += uint256(seen.active.amount) + seen.unbonding.amount;
            sums.counted += seen.counted;
            sums.due += sum(seen.owed) + seen.onItsWay;
        }
        require(sums.counted == staking.countedInAll(), "sum of counted");
        checkBalance(sums, has);
    }

    function checkNode(uint64 node, uint64 epoch, Look memory seen, uint256[] memory has) private view {
        // No share is worth more than a wei.
        require(seen.active.amount <= seen.active.shares, "fewer active shares than wei");
        require(seen.unbonding.amount <= seen.unbonding.shares, "fewer unbonding shares than wei");

        // The pool can pay all shares at once, the last one included.
        require(sum(seen.shares) <= seen.active.shares, "more shares than the pool has");
        require(sum(seen.worths) <= seen.active.amount, "an active pool does not cover its shares");

        // A weight is what the model says, to within the rounding of each staker's part: no stake counts in its first epoch,
        // none twice.
        uint256 least;
        for (uint256 i = 0; i < has.length; ++i) {
            has[i] += seen.worths[i];
            least += leastOf(node, accounts[i], seen.shares[i], seen.active.denomination, epoch);
        }
        uint256 expected = least * (uint256(seen.active.amount) + 1) / (uint256(seen.active.shares) + 1);
        uint256 tolerance = 2 * has.length;
        require(expected <= seen.weight + tolerance && seen.weight <= expected + tolerance, "weight");
        require(seen.weight <= seen.active.amount, "more weight than stake");

        // Nor does a node take part in the budget with more, or at all when it is not active.
        require(seen.counted <= seen.mostCounted, "counts for more than its weight");
    }

    function checkBalance(Sums memory sums, uint256[] memory has) private view {
        // Every wei is somebody's free stake, in one pool, or given for rewards: none is missing, none is left over.
        uint256 stakes = sums.pools + staking.freeStake(staking.BURNT());
        for (uint256 i = 0; i < has.length; ++i) {
            uint256 free = staking.freeStake(accounts[i]);
            stakes += free;
            // Nobody can take out more than was put in or credited from slashes, less what was taken already. Each action's
            // rounding may leave others at most a few wei.
            require(has[i] + free <= entitled[accounts[i]] + 4 * actions, "somebody gained");
        }
        require(stakes == staked - withdrawn, "stake in less out");
        uint256 left = given - claimed;
        require(stakes + left == address(staking).balance, "balance");

        // What is owed, on its way to stakers, or still in the budget was given and not claimed; all of it but dust.
        uint256 due = sums.due + staking.rewardBudget();
        require(due <= left, "more rewards owed than given");
        require(left - due <= actions * DUST, "more than dust of the rewards is lost");
    }

    /// @dev After everybody left: what stays is burnt, in the budget, or dust.
    function checkAllLeft() internal view {
        uint256 stays = staking.freeStake(staking.BURNT()) + staking.rewardBudget();
        require(stays <= address(staking).balance, "less than there must be");
        require(address(staking).balance - stays <= actions * DUST, "more than dust stays");
        for (uint256 i = 0; i < accounts.length; ++i) {
            require(staking.freeStake(accounts[i]) == 0, "somebody was kept in");
        }
    }

    function sum(uint256[] memory list) private pure returns (uint256 total) {
        for (uint256 i = 0; i < list.length; ++i) {
            total += list[i];
        }
    }
}
