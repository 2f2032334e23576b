// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ballot, Position, Tally} from "./Ballots.sol";
import {IStaking} from "./IStaking.sol";
import {Pool, Pools} from "./Pools.sol";
import {Rewards} from "./Rewards.sol";

/// @title Free stake, votes, and unbonding.
abstract contract Votes is Rewards {
    using Pools for Pool;

    /// @dev Shares of a node's unbonding pool.
    struct Ticket {
        address staker;
        uint64 node;
        uint16 denomination;
        uint104 shares;
        uint64 unlocksAt;
    }

    /// @inheritdoc IStaking
    mapping(address staker => uint256) public override freeStake;

    mapping(uint256 id => Ticket) private _tickets;
    uint256 private _lastTicket;

    /// @inheritdoc IStaking
    function stake() external payable override {
        _requireEntry();
        _checkIncoming();
        uint256 free = freeStake[msg.sender] + msg.value;
        freeStake[msg.sender] = free;
        emit Staked(msg.sender, msg.value, free);
    }

    /// @inheritdoc IStaking
    function vote(uint64 node, uint256 amount) external override returns (uint256 shares) {
        _requireEntry();
        if (!_isOpen(node)) _staying(node);
        _takeFree(amount);
        Ballot storage ballot = _ballots[node];
        Position storage stored = _positions[node][msg.sender];
        (Pool memory pool, Tally memory tally, Position memory position) = _load(node, ballot, stored);
        shares = pool.mint(amount);
        // Parts of the pool's shares, whose sum fits.
        unchecked {
            // forge-lint: disable-start(unsafe-typecast)
            position.shares += uint104(shares);
            position.fresh += uint104(shares);
            tally.fresh += uint104(shares);
            // forge-lint: disable-end(unsafe-typecast)
        }
        _store(ballot, stored, pool, tally, position);
        emit Voted(node, msg.sender, amount, shares);
    }

    /// @inheritdoc IStaking
    function unvote(uint64 node, uint256 shares) external override returns (uint256 ticket) {
        if (shares == 0) revert ZeroAmount();
        Ballot storage ballot = _ballots[node];
        Position storage stored = _positions[node][msg.sender];
        (Pool memory pool, Tally memory tally, Position memory position) = _load(node, ballot, stored);
        if (shares > position.shares) revert InsufficientShares(node, msg.sender, position.shares, shares);
        uint256 amount = pool.burn(shares);
        // At most the position's shares.
        // forge-lint: disable-start(unsafe-typecast)
        position.shares -= uint104(shares);
        uint104 fresh = position.fresh < shares ? position.fresh : uint104(shares);
        // forge-lint: disable-end(unsafe-typecast)
        position.fresh -= fresh;
        tally.fresh -= fresh;
        _store(ballot, stored, pool, tally, position);

        ticket = _unbond(node, amount, shares);
        _weightFell(node);
    }

    /// @inheritdoc IStaking
    function release(uint256 ticket) external override returns (uint256 amount) {
        Ticket memory entry = _tickets[ticket];
        if (entry.staker == address(0)) revert UnknownTicket(ticket);
        if (entry.staker != msg.sender) revert NotTicketStaker(ticket, msg.sender);
        if (block.timestamp < entry.unlocksAt) revert StillUnbonding(ticket, entry.unlocksAt);
        delete _tickets[ticket];
        Ballot storage ballot = _ballots[entry.node];
        Pool memory pool = ballot.unbonding;
        uint256 shares = pool.convert(entry.shares, entry.denomination);
        amount = pool.burn(shares);
        ballot.unbonding = pool;
        if (entry.staker == _nodes[entry.node].owner) {
            _setOwners(ballot, pool, pool.convert(ballot.ownersUnbonding, ballot.ownersDenomination) - shares);
        }
        freeStake[msg.sender] += amount;
        emit Released(ticket, msg.sender, amount);
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
        amount = pool.worth(pool.convert(entry.shares, entry.denomination));
        return (entry.node, entry.staker, amount, entry.unlocksAt);
    }

    /// @dev Takes `amount` wei from the caller's free stake.
    function _takeFree(uint256 amount) internal {
        if (amount == 0) revert ZeroAmount();
        uint256 free = freeStake[msg.sender];
        if (amount > free) revert InsufficientFreeStake(msg.sender, free, amount);
        freeStake[msg.sender] = free - amount;
    }

    /// @dev A node's active pool and tally and the caller's position, with all rewards up to now.
    function _load(uint64 node, Ballot storage ballot, Position storage stored)
        private
        returns (Pool memory pool, Tally memory tally, Position memory position)
    {
        (pool, tally, position) = (ballot.active, ballot.tally, stored);
        _refund(_advance(ballot, pool, tally));
        uint32 present = uint32(epoch());
        if (tally.freshEpoch != present) (tally.fresh, tally.freshEpoch) = (0, present);
        _present(position, node, pool, tally, present);
    }

    function _store(
        Ballot storage ballot,
        Position storage stored,
        Pool memory pool,
        Tally memory tally,
        Position memory position
    ) private {
        ballot.active = pool;
        ballot.tally = tally;
        stored.shares = position.shares;
        stored.fresh = position.fresh;
        stored.denomination = position.denomination;
        stored.freshEpoch = position.freshEpoch;
        stored.owed = position.owed;
        stored.earned = position.earned;
    }

    function _unbond(uint64 node, uint256 amount, uint256 shares) private returns (uint256 ticket) {
        Ballot storage ballot = _ballots[node];
        Pool memory pool = ballot.unbonding;
        uint256 unbondingShares = pool.mint(amount);
        ballot.unbonding = pool;
        if (msg.sender == _nodes[node].owner) {
            _setOwners(ballot, pool, pool.convert(ballot.ownersUnbonding, ballot.ownersDenomination) + unbondingShares);
        }
        uint64 unlocksAt = uint64(block.timestamp) + unbondingPeriod;
        ticket = ++_lastTicket;
        _tickets[ticket] = Ticket({
            staker: msg.sender,
            node: node,
            denomination: pool.denomination,
            // forge-lint: disable-next-line(unsafe-typecast)
            shares: uint104(unbondingShares),
            unlocksAt: unlocksAt
        });
        emit Unvoted(node, msg.sender, shares, amount, ticket, unlocksAt);
    }

    /// @dev Converting rounds down, so what an owner's tickets convert to is never more than their sum does.
    function _setOwners(Ballot storage ballot, Pool memory pool, uint256 shares) private {
        // A part of the pool's shares, which fit.
        // forge-lint: disable-next-line(unsafe-typecast)
        (ballot.ownersUnbonding, ballot.ownersDenomination) = (uint104(shares), pool.denomination);
    }
}
