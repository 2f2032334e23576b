// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IStaking, StakingConfig} from "./IStaking.sol";
import {Nodes} from "./Nodes.sol";
import {Pool, Pools} from "./Pools.sol";

/// @title Free stake, votes, unbonding, and the weight that votes give.
/// @notice A node's weight in an epoch is the worth of the shares that were in its active pool when the epoch began and
/// have not left since. Shares cast in the present epoch are *fresh* and count from the next one. They are noted per
/// staker as well as per node, because an unvote must say which kind it takes: fresh shares first.
abstract contract Votes is Nodes {
    using Pools for Pool;

    /// @dev Fresh shares of one node or position; void once `epoch` is over.
    struct Fresh {
        uint112 shares;
        uint32 denomination;
        uint64 epoch;
    }

    struct Ballot {
        Pool active;
        Pool unbonding;
        Fresh fresh;
    }

    /// @dev Shares one staker holds of one node's active pool, its fresh ones included.
    struct Position {
        uint112 shares;
        uint32 denomination;
        Fresh fresh;
    }

    /// @dev Shares of a node's unbonding pool.
    struct Ticket {
        address staker;
        uint64 node;
        uint32 denomination;
        uint112 shares;
        uint64 unlocksAt;
    }

    /// @inheritdoc IStaking
    uint64 public immutable override epochLength;
    uint64 private immutable _genesis;

    /// @inheritdoc IStaking
    mapping(address staker => uint256) public override freeStake;

    mapping(uint64 node => Ballot) internal _ballots;
    mapping(uint64 node => mapping(address staker => Position)) private _positions;
    mapping(uint256 id => Ticket) private _tickets;
    uint256 private _lastTicket;

    constructor(StakingConfig memory config) {
        if (config.epochLength == 0 || config.epochLength > 30 days) revert InvalidConfig("epochLength");
        epochLength = config.epochLength;
        _genesis = uint64(block.timestamp);
    }

    /// @inheritdoc IStaking
    function stake() external payable override {
        if (msg.value == 0) revert ZeroAmount();
        if (address(this).balance > Pools.MAX_STAKE) revert TooMuchStake(address(this).balance, Pools.MAX_STAKE);
        uint256 free = freeStake[msg.sender] + msg.value;
        freeStake[msg.sender] = free;
        emit Staked(msg.sender, msg.value, free);
    }

    /// @inheritdoc IStaking
    function vote(uint64 node, uint256 amount) external override returns (uint256 shares) {
        _staying(node);
        _takeFree(amount);
        Ballot storage ballot = _ballots[node];
        shares = ballot.active.mint(amount);
        if (shares == 0) revert VoteTooSmall(node, amount);

        Pool memory pool = ballot.active;
        Position storage position = _positions[node][msg.sender];
        _hold(position, pool, _held(position, pool) + shares);
        _setFresh(position.fresh, pool, _freshOf(position.fresh, pool) + shares);
        _setFresh(ballot.fresh, pool, _freshOf(ballot.fresh, pool) + shares);
        emit Voted(node, msg.sender, amount, shares);
    }

    /// @inheritdoc IStaking
    function unvote(uint64 node, uint256 shares) external override returns (uint256 ticket) {
        if (shares == 0) revert ZeroAmount();
        Ballot storage ballot = _ballots[node];
        Pool memory pool = ballot.active;
        Position storage position = _positions[node][msg.sender];
        uint256 held = _held(position, pool);
        if (shares > held) revert InsufficientShares(node, msg.sender, held, shares);
        _hold(position, pool, held - shares);

        uint256 fresh = _freshOf(position.fresh, pool);
        if (fresh != 0) {
            uint256 leaving = fresh < shares ? fresh : shares;
            _setFresh(position.fresh, pool, fresh - leaving);
            _setFresh(ballot.fresh, pool, _freshOf(ballot.fresh, pool) - leaving);
        }

        uint256 amount = ballot.active.burn(shares);
        uint256 unbondingShares = ballot.unbonding.mint(amount);
        uint64 unlocksAt = uint64(block.timestamp) + unbondingPeriod;
        ticket = ++_lastTicket;
        _tickets[ticket] = Ticket({
            staker: msg.sender,
            node: node,
            denomination: ballot.unbonding.denomination,
            // forge-lint: disable-next-line(unsafe-typecast)
            shares: uint112(unbondingShares),
            unlocksAt: unlocksAt
        });
        emit Unvoted(node, msg.sender, shares, amount, ticket, unlocksAt);
    }

    /// @inheritdoc IStaking
    function release(uint256 ticket) external override returns (uint256 amount) {
        Ticket memory entry = _tickets[ticket];
        if (entry.staker == address(0)) revert UnknownTicket(ticket);
        if (entry.staker != msg.sender) revert NotTicketStaker(ticket, msg.sender);
        if (block.timestamp < entry.unlocksAt) revert StillUnbonding(ticket, entry.unlocksAt);
        delete _tickets[ticket];
        Pool storage pool = _ballots[entry.node].unbonding;
        amount = pool.burn(Pools.convert(pool, entry.shares, entry.denomination));
        freeStake[msg.sender] += amount;
        emit Released(ticket, msg.sender, amount);
    }

    /// @inheritdoc IStaking
    function epoch() public view override returns (uint64) {
        return (uint64(block.timestamp) - _genesis) / epochLength;
    }

    /// @inheritdoc IStaking
    function weightOf(uint64 node) public view override returns (uint256) {
        Ballot storage ballot = _ballots[node];
        Pool memory pool = ballot.active;
        return Pools.worth(pool, pool.shares - _freshOf(ballot.fresh, pool));
    }

    /// @inheritdoc IStaking
    function voteOf(uint64 node, address staker) public view override returns (uint256 shares, uint256 amount) {
        Pool memory pool = _ballots[node].active;
        shares = _held(_positions[node][staker], pool);
        amount = Pools.worth(pool, shares);
    }

    /// @inheritdoc IStaking
    function ticketOf(uint256 ticket)
        external
        view
        override
        returns (uint64 node, address staker, uint256 amount, uint64 unlocksAt)
    {
        Ticket memory entry = _tickets[ticket];
        Pool memory pool = _ballots[entry.node].unbonding;
        amount = Pools.worth(pool, Pools.convert(pool, entry.shares, entry.denomination));
        return (entry.node, entry.staker, amount, entry.unlocksAt);
    }

    /// @dev Takes `amount` wei from the caller's free stake.
    function _takeFree(uint256 amount) internal {
        if (amount == 0) revert ZeroAmount();
        uint256 free = freeStake[msg.sender];
        if (amount > free) revert InsufficientFreeStake(msg.sender, free, amount);
        freeStake[msg.sender] = free - amount;
    }

    function _held(Position storage position, Pool memory pool) private view returns (uint256) {
        return Pools.convert(pool, position.shares, position.denomination);
    }

    function _hold(Position storage position, Pool memory pool, uint256 shares) private {
        // A part of the pool's shares, which fit.
        // forge-lint: disable-next-line(unsafe-typecast)
        (position.shares, position.denomination) = (uint112(shares), pool.denomination);
    }

    /// @dev Converting rounds down, and the sum of rounded parts is at most the rounded sum: a node's fresh shares are
    /// never fewer than its stakers' together.
    function _freshOf(Fresh storage fresh, Pool memory pool) private view returns (uint256) {
        return fresh.epoch == epoch() ? Pools.convert(pool, fresh.shares, fresh.denomination) : 0;
    }

    function _setFresh(Fresh storage fresh, Pool memory pool, uint256 shares) private {
        // forge-lint: disable-next-line(unsafe-typecast)
        (fresh.shares, fresh.denomination, fresh.epoch) = (uint112(shares), pool.denomination, epoch());
    }
}
