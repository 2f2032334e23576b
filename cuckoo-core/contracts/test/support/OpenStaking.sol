// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ballot} from "../../src/Ballots.sol";
import {StakingConfig} from "../../src/IStaking.sol";
import {Pool} from "../../src/Pools.sol";
import {Staking} from "../../src/Staking.sol";

/// @notice What is seen of a node, in wei and shares; per account where it is a list.
struct Look {
    Pool active;
    Pool unbonding;
    uint256 weight;
    uint256 counted;
    uint256 mostCounted;
    uint256 onItsWay;
    uint256[] owed;
    uint256[] shares;
    uint256[] worths;
}

/// @notice The staking contract laid open: its pools, who takes part in the budget, and what is on its way to stakers.
contract OpenStaking is Staking {
    constructor(StakingConfig memory config) Staking(config) {}

    function activePool(uint64 node) external view returns (Pool memory) {
        return _ballots[node].active;
    }

    function unbondingPool(uint64 node) external view returns (Pool memory) {
        return _ballots[node].unbonding;
    }

    function isOpen(uint64 node) external view returns (bool) {
        return _isOpen(node);
    }

    function commissionOf(uint64 node) external view returns (uint256) {
        return _nodes[node].commissionBps;
    }

    /// @notice The weight for which a node takes part in the budget, in wei; and the one for which it may.
    function countedOf(uint64 node) public view returns (uint256 counted, uint256 most) {
        return (_ballots[node].counted, isActive(node) ? weightOf(node) : 0);
    }

    /// @notice The sum of what all nodes are counted for, as the contract keeps it.
    function countedInAll() external view returns (uint256) {
        return _budget.counted;
    }

    /// @notice All there is to see of a node, for some accounts, in one call.
    function look(uint64 node, address[] calldata accounts) external view returns (Look memory seen) {
        (seen.active, seen.unbonding, seen.weight) = (_ballots[node].active, _ballots[node].unbonding, weightOf(node));
        (seen.counted, seen.mostCounted) = countedOf(node);
        seen.onItsWay = onItsWay(node);
        seen.owed = owed(node, accounts);
        (seen.shares, seen.worths) = (new uint256[](accounts.length), new uint256[](accounts.length));
        for (uint256 i = 0; i < accounts.length; ++i) {
            (seen.shares[i], seen.worths[i]) = voteOf(node, accounts[i]);
        }
    }

    /// @notice What accounts could claim from a node, in wei.
    function owed(uint64 node, address[] calldata accounts) public view returns (uint256[] memory amounts) {
        amounts = new uint256[](accounts.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            amounts[i] = this.claimable(node, accounts[i]);
        }
    }

    /// @notice Wei that a node has got, from the budget or as gifts, and that is neither owed to anybody yet nor back in the
    /// budget: what the stream holds, and the part of the budget that no sync has given it, less the commission.
    function onItsWay(uint64 node) public view returns (uint256) {
        Ballot storage ballot = _ballots[node];
        uint256 index = _index;
        if (_budget.counted != 0) index += (uint256(_budget.amount) - this.rewardBudget() << 64) / _budget.counted;
        uint256 part = ballot.counted * (index - ballot.indexPaid) >> 64;
        part -= part * _nodes[node].commissionBps / ALL_BPS;

        (uint256 from, uint256 until) = (ballot.active.settledAt, ballot.endsAt);
        // Shares have taken what the stream released by now; without enough of them it waits to be returned.
        if (ballot.active.shares >= 1 << 50 && from < block.timestamp) from = block.timestamp;
        return part + (until > from ? ballot.rate * (until - from) >> 32 : 0);
    }
}
