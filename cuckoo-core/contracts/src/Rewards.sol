// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ballot, Ballots, Position, Tally} from "./Ballots.sol";
import {IStaking} from "./IStaking.sol";
import {Pool, Pools} from "./Pools.sol";

/// @title What votes earn: a budget that all active nodes share by weight, and what is sent for one node's stakers.
/// @notice Every action costs the same for any number of nodes and stakers. Two running sums do it: the *index*, what a wei
/// of weight has earned from the budget, and each node's `earned`, what a share of its active pool has. Whatever a node gets
/// is paid out over the time of an epoch, so that nobody profits from a vote cast when the money can be seen coming.
/// Divisions round down; what they leave stays in the contract.
abstract contract Rewards is Ballots {
    using Pools for Pool;

    /// @dev A pool of fewer shares, a thousandth of a CAI, earns nothing. So `earned` has room for 2**106 wei paid to one
    /// node, 80,000 times the supply of CAI.
    uint256 private constant LEAST_SHARES = 1 << 50;

    /// @dev All in one slot.
    /// @param amount wei that no node has earned yet
    /// @param counted wei; the sum of all nodes' `counted`
    /// @param indexedAt seconds; until when the index is
    struct Budget {
        uint96 amount;
        uint96 counted;
        uint40 indexedAt;
    }

    Budget internal _budget;
    /// @dev What a wei of weight has earned from the budget, in wei with 64 fractional bits.
    uint256 internal _index;
    /// @inheritdoc IStaking
    uint256 public override rewardPerEpoch;

    /// @inheritdoc IStaking
    function fund() external payable override {
        _checkIncoming();
        _accrue();
        // Fits, since the whole balance does.
        // forge-lint: disable-next-line(unsafe-typecast)
        _budget.amount += uint96(msg.value);
        emit RewardsFunded(msg.sender, msg.value, _budget.amount);
    }

    /// @inheritdoc IStaking
    function reward(uint64 node) external payable override {
        _checkIncoming();
        _existing(node);
        _give(node, msg.value);
    }

    /// @inheritdoc IStaking
    function sync(uint64[] calldata nodes_) external override {
        for (uint256 i = 0; i < nodes_.length; ++i) {
            _sync(nodes_[i]);
        }
    }

    /// @inheritdoc IStaking
    function rewardBudget() external view override returns (uint256) {
        Budget memory budget = _budget;
        return budget.amount - _earnedSince(budget);
    }

    /// @inheritdoc IStaking
    /// @dev As `claim` computes it, without writing: the part of the budget comes in first, then the stream up to now.
    function claimable(uint64 node, address staker) external view override returns (uint256) {
        Ballot storage ballot = _ballots[node];
        Budget memory budget = _budget;
        uint256 index = _index;
        if (budget.counted != 0) index += (_earnedSince(budget) << 64) / budget.counted;
        uint256 part = ballot.counted * (index - ballot.indexPaid) >> 64;

        (Pool memory pool, Tally memory tally) = (ballot.active, ballot.tally);
        _advance(ballot, pool, tally);
        Position memory position = _positions[node][staker];
        _present(position, node, pool, tally, uint32(epoch()));
        Node storage entry = _nodes[node];
        return position.owed + (staker == entry.owner ? part * entry.commissionBps / ALL_BPS : 0);
    }

    function _setRewardRate(uint256 perEpoch) internal {
        if (perEpoch > Pools.MAX_STAKE) revert InvalidConfig("rewardPerEpoch");
        _accrue();
        rewardPerEpoch = perEpoch;
        emit RewardRateSet(perEpoch);
    }

    /// @dev What a staker has earned with votes for a node by now; nothing is left to be claimed.
    function _takeEarned(uint64 node, address staker) internal returns (uint256 amount) {
        _sync(node);
        Ballot storage ballot = _ballots[node];
        (Pool memory pool, Tally memory tally) = (ballot.active, ballot.tally);
        _refund(_advance(ballot, pool, tally));
        Position memory position = _positions[node][staker];
        _present(position, node, pool, tally, uint32(epoch()));
        amount = position.owed;
        position.owed = 0;
        _positions[node][staker] = position;
        (ballot.active, ballot.tally) = (pool, tally);
    }

    /// @dev Gives a node its part of the budget for the weight it had, and notes the weight it has.
    function _sync(uint64 node) internal {
        _accrue();
        Ballot storage ballot = _ballots[node];
        uint256 before = ballot.counted;
        uint256 index = _index;
        uint256 part = before * (index - ballot.indexPaid) >> 64;
        ballot.indexPaid = index;
        uint256 counted = isActive(node) ? weightOf(node) : 0;
        if (counted != before) {
            // A weight is at most the contract's balance.
            // forge-lint: disable-next-line(unsafe-typecast)
            (ballot.counted, _budget.counted) = (uint96(counted), uint96(_budget.counted - before + counted));
        }
        if (part != 0) _give(node, part);
    }

    /// @dev Moves what the pool's stream released since it was settled into `tally.earned`. Gives what no share took.
    function _advance(Ballot storage ballot, Pool memory pool, Tally memory tally)
        internal
        view
        returns (uint256 untaken)
    {
        uint256 since = pool.settledAt;
        pool.settledAt = uint40(block.timestamp);
        uint256 until = block.timestamp < ballot.endsAt ? block.timestamp : ballot.endsAt;
        if (until <= since) return 0;
        uint256 amount = ballot.rate * (until - since) >> 32;
        if (pool.shares < LEAST_SHARES) return amount;
        uint256 earned = tally.earned + (amount << 64) / pool.shares;
        // So that no exit can fail on it, whatever is sent to a node.
        if (earned > type(uint120).max) return amount;
        // forge-lint: disable-next-line(unsafe-typecast)
        tally.earned = uint120(earned);
    }

    /// @dev Returns to the budget what no share took.
    function _refund(uint256 untaken) internal {
        if (untaken == 0) return;
        _accrue();
        // forge-lint: disable-next-line(unsafe-typecast)
        _budget.amount += uint96(untaken);
    }

    /// @dev The owner's commission at once, the rest over an epoch. What is still being paid out and what comes then end
    /// together, at the mean of their ends by amounts: on average nothing waits longer than it would have alone, and a gift
    /// of a wei delays nothing.
    function _give(uint64 node, uint256 amount) private {
        Node storage entry = _nodes[node];
        uint256 commission = amount * entry.commissionBps / ALL_BPS;
        // forge-lint: disable-next-line(unsafe-typecast)
        _positions[node][entry.owner].owed += uint136(commission);
        emit Rewarded(node, amount, commission);

        Ballot storage ballot = _ballots[node];
        (Pool memory pool, Tally memory tally) = (ballot.active, ballot.tally);
        _refund(_advance(ballot, pool, tally));
        (ballot.active, ballot.tally) = (pool, tally);

        uint256 added = amount - commission;
        uint256 time = ballot.endsAt > block.timestamp ? ballot.endsAt - block.timestamp : 0;
        uint256 left = ballot.rate * time >> 32;
        if (left + added == 0) return;
        time = (left * time + added * epochLength) / (left + added);
        // At most 2**96 wei are in the contract.
        // forge-lint: disable-next-line(unsafe-typecast)
        ballot.rate = uint128((left + added << 32) / time);
        // forge-lint: disable-next-line(unsafe-typecast)
        ballot.endsAt = uint40(block.timestamp + time);
    }

    /// @dev Brings the index to the present.
    function _accrue() private {
        Budget memory budget = _budget;
        if (budget.indexedAt == block.timestamp) return;
        uint256 earned = _earnedSince(budget);
        if (earned != 0) {
            // Once per block, however many nodes a loop brings up to date.
            // slither-disable-next-line costly-loop
            _index += (earned << 64) / budget.counted;
            // Never more than there is.
            // forge-lint: disable-next-line(unsafe-typecast)
            budget.amount -= uint96(earned);
        }
        budget.indexedAt = uint40(block.timestamp);
        // slither-disable-next-line costly-loop
        _budget = budget;
    }

    /// @dev What all nodes together earned since the index was brought to the present; nothing while none counts.
    function _earnedSince(Budget memory budget) private view returns (uint256 earned) {
        if (budget.counted == 0) return 0;
        earned = rewardPerEpoch * (block.timestamp - budget.indexedAt) / epochLength;
        if (earned > budget.amount) earned = budget.amount;
    }

    /// @dev Refuses CAI that would take the balance above what the arithmetic is proven for, and none at all.
    function _checkIncoming() internal view {
        if (msg.value == 0) revert ZeroAmount();
        if (address(this).balance > Pools.MAX_STAKE) revert TooMuchStake(address(this).balance, Pools.MAX_STAKE);
    }

    /// @dev A lower weight earns less from now on; a higher one waits until somebody calls `sync`.
    function _weightFell(uint64 node) internal override {
        _sync(node);
    }
}
