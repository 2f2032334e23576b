// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IStaking, NodeKind, StakingConfig} from "./IStaking.sol";
import {Nodes} from "./Nodes.sol";
import {Pool, Pools} from "./Pools.sol";

/// @notice What a node's active shares count for. One storage slot.
/// @param fresh shares cast in `freshEpoch`; void once it is over
/// @param earned rewards that a share had earned by the pool's `settledAt`, in wei with 64 fractional bits
struct Tally {
    uint104 fresh;
    uint32 freshEpoch;
    uint120 earned;
}

/// @notice All votes for one node.
/// @param rate rewards being paid out to the active shares, in wei a second with 32 fractional bits
/// @param endsAt seconds; until when
/// @param open registered and not exited
/// @param counted wei; the weight for which the node takes part in the budget
/// @param ownersUnbonding shares of the unbonding pool that are the node's owner's, under `ownersDenomination`
/// @param indexPaid the budget's index up to which it has been given its part
struct Ballot {
    Pool active;
    Tally tally;
    uint128 rate;
    uint40 endsAt;
    bool open;
    Pool unbonding;
    uint96 counted;
    uint104 ownersUnbonding;
    uint16 ownersDenomination;
    uint256 indexPaid;
}

/// @notice Shares one staker holds of one node's active pool, its fresh ones included, and what they earned. Two slots.
/// @param owed wei of rewards to be claimed
/// @param earned the tally's `earned` up to which `owed` is
struct Position {
    uint104 shares;
    uint104 fresh;
    uint16 denomination;
    uint32 freshEpoch;
    uint136 owed;
    uint120 earned;
}

/// @title Who voted for which node, and the weight that votes give.
/// @notice A node's weight in an epoch is the worth of the shares that were in its active pool when the epoch began and
/// have not left since. Shares cast in the present epoch are *fresh* and count from the next one. They are noted per
/// staker as well as per node, because an unvote must say which kind it takes: fresh shares first.
abstract contract Ballots is Nodes {
    using Pools for Pool;

    /// @inheritdoc IStaking
    uint64 public immutable override epochLength;
    uint64 private immutable _genesis;

    mapping(uint64 node => Ballot) internal _ballots;
    mapping(uint64 node => mapping(address staker => Position)) internal _positions;
    /// @dev The tally's `earned` when a consolidation ended a denomination of a node's active pool.
    mapping(uint64 node => mapping(uint16 denomination => uint120)) internal _earnedUnder;

    constructor(StakingConfig memory config) {
        if (config.epochLength == 0 || config.epochLength > 30 days) revert InvalidConfig("epochLength");
        epochLength = config.epochLength;
        _genesis = uint64(block.timestamp);
    }

    /// @inheritdoc IStaking
    function epoch() public view override returns (uint64) {
        return (uint64(block.timestamp) - _genesis) / epochLength;
    }

    /// @inheritdoc IStaking
    function minimumVote(NodeKind kind) public view virtual override returns (uint256);

    /// @inheritdoc IStaking
    function weightOf(uint64 node) public view override returns (uint256) {
        Ballot storage ballot = _ballots[node];
        Pool memory pool = ballot.active;
        return pool.worth(pool.shares - _freshOf(ballot.tally));
    }

    /// @inheritdoc IStaking
    function voteOf(uint64 node, address staker) public view override returns (uint256 shares, uint256 amount) {
        Pool memory pool = _ballots[node].active;
        Position storage position = _positions[node][staker];
        shares = pool.convert(position.shares, position.denomination);
        amount = pool.worth(shares);
    }

    /// @inheritdoc IStaking
    function isActive(uint64 node) public view override returns (bool) {
        if (!_isOpen(node)) return false;
        Node storage entry = _nodes[node];
        (, uint256 ownerVote) = voteOf(node, entry.owner);
        return ownerVote >= minimumVote(entry.kind);
    }

    function _freshOf(Tally memory tally) internal view returns (uint256) {
        return tally.freshEpoch == epoch() ? tally.fresh : 0;
    }

    /// @dev Brings a position to the pool's denomination, the epoch `present` and all rewards up to now. Converting rounds
    /// down, and the sum of rounded parts is at most the rounded sum: a node's fresh shares are never fewer than its
    /// stakers' together. Rewards are earned by the shares as they were, so no slash takes any.
    function _present(Position memory position, uint64 node, Pool memory pool, Tally memory tally, uint32 present)
        internal
        view
    {
        if (position.freshEpoch != present) (position.fresh, position.freshEpoch) = (0, present);
        if (position.denomination != pool.denomination) {
            // At most eleven steps leave nothing.
            while (position.denomination != pool.denomination && position.shares != 0) {
                _earn(position, _earnedUnder[node][position.denomination]);
                position.shares /= uint104(Pools.CONSOLIDATION);
                position.fresh /= uint104(Pools.CONSOLIDATION);
                ++position.denomination;
            }
            position.denomination = pool.denomination;
        }
        _earn(position, tally.earned);
    }

    /// @dev Moves into `owed` what a position's shares earned until a share had `earned`; nothing under a denomination that
    /// came and went in one slash.
    function _earn(Position memory position, uint120 earned) private pure {
        if (earned <= position.earned) return;
        // No more than was ever paid to a node.
        // forge-lint: disable-next-line(unsafe-typecast)
        position.owed += uint136(uint256(position.shares) * (earned - position.earned) >> 64);
        position.earned = earned;
    }

    /// @inheritdoc Nodes
    function _isOpen(uint64 node) internal view override returns (bool) {
        return _ballots[node].open;
    }

    /// @inheritdoc Nodes
    function _setOpen(uint64 node, bool open) internal override {
        _ballots[node].open = open;
    }
}
