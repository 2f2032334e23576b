// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeTransferLib} from "solady/utils/SafeTransferLib.sol";
import {Ballot, Ballots, Tally} from "./Ballots.sol";
import {IStaking, NodeKind, NodeView, StakingConfig} from "./IStaking.sol";
import {Nodes} from "./Nodes.sol";
import {Pool, Pools} from "./Pools.sol";
import {Votes} from "./Votes.sol";

/// @title The staking contract: nodes, votes and rewards of its parents, the ways out, slashing, roles, and the whole node as
/// one view.
/// @notice The admin grants roles, sets the rate of rewards and ends a pause. Nobody can stop a way out.
contract Staking is Votes, AccessControl, Pausable, ReentrancyGuardTransient {
    using Pools for Pool;

    /// @notice May slash: contracts that check a proof of a fault.
    bytes32 public constant VERIFIER_ROLE = keccak256("VERIFIER_ROLE");
    /// @notice May pause entries.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    /// @notice Whose free stake holds what was burnt: an account without a key.
    address public constant BURNT = 0x000000000000000000000000000000000000dEaD;
    uint256 private constant MOST_CLAIMS = 100;

    /// @notice Part of a slash that is burnt at least, in hundredths of a percent.
    uint16 public immutable burnBps;
    /// @notice Part of a slash that the reporter gets, in hundredths of a percent; the wronged party gets the rest.
    uint16 public immutable reporterBps;
    uint256 private immutable _minerMinimum;
    uint256 private immutable _coordinatorMinimum;

    /// @inheritdoc IStaking
    mapping(bytes32 evidence => bool) public override evidenceUsed;

    constructor(StakingConfig memory config) Nodes(config) Ballots(config) {
        if (config.admin == address(0)) revert ZeroAddress();
        if (config.minerMinimum == 0 || config.minerMinimum > Pools.MAX_STAKE) revert InvalidConfig("minerMinimum");
        if (config.coordinatorMinimum == 0 || config.coordinatorMinimum > Pools.MAX_STAKE) {
            revert InvalidConfig("coordinatorMinimum");
        }
        // A slash that burns nothing would be a gift to whoever reports it.
        if (config.burnBps == 0 || config.burnBps > ALL_BPS) revert InvalidConfig("burnBps");
        if (config.reporterBps > ALL_BPS - config.burnBps) revert InvalidConfig("reporterBps");
        _minerMinimum = config.minerMinimum;
        _coordinatorMinimum = config.coordinatorMinimum;
        burnBps = config.burnBps;
        reporterBps = config.reporterBps;
        _grantRole(DEFAULT_ADMIN_ROLE, config.admin);
    }

    /// @inheritdoc IStaking
    function withdraw(uint256 amount, address payable to) external override nonReentrant {
        if (to == address(0)) revert ZeroAddress();
        _takeFree(amount);
        emit Withdrawn(msg.sender, to, amount);
        _pay(to, amount);
    }

    /// @inheritdoc IStaking
    function claim(uint64 node, address payable to) external override nonReentrant returns (uint256 amount) {
        amount = _claim(node, to);
        _pay(to, amount);
    }

    /// @inheritdoc IStaking
    function claimMany(uint64[] calldata nodes_, address payable to)
        external
        override
        nonReentrant
        returns (uint256 amount)
    {
        if (nodes_.length > MOST_CLAIMS) revert TooManyNodes(nodes_.length, MOST_CLAIMS);
        for (uint256 i = 0; i < nodes_.length; ++i) {
            amount += _claim(nodes_[i], to);
        }
        _pay(to, amount);
    }

    /// @inheritdoc IStaking
    function setRewardRate(uint256 perEpoch) external override onlyRole(DEFAULT_ADMIN_ROLE) {
        _setRewardRate(perEpoch);
    }

    /// @inheritdoc IStaking
    function pause() external override onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @inheritdoc IStaking
    function unpause() external override onlyRole(DEFAULT_ADMIN_ROLE) {
        _unpause();
    }

    /// @inheritdoc IStaking
    /// @dev Makes no call, so nobody can stop it: every part is credited as free stake. The part of a reporter or wronged
    /// party that is not named is burnt.
    ///
    /// The cap: an owner who has its own node slashed, by a friend who claims to be wronged, gets back at most what it
    /// loses itself, never a part of what others voted with.
    function slash(uint64 node, uint256 amount, bytes32 evidence, address reporter, address wronged)
        external
        override
        onlyRole(VERIFIER_ROLE)
        returns (uint256 taken, uint256 toWronged)
    {
        if (amount == 0) revert ZeroAmount();
        if (evidenceUsed[evidence]) revert EvidenceUsed(evidence);
        _existing(node);
        evidenceUsed[evidence] = true;

        uint256 ownersLoss;
        (taken, ownersLoss) = _cut(node, amount, evidence);
        uint256 toReporter = taken * reporterBps / ALL_BPS;
        toWronged = taken * wrongedBps() / ALL_BPS;
        if (toReporter + toWronged > ownersLoss) {
            toReporter = ownersLoss * toReporter / (toReporter + toWronged);
            toWronged = ownersLoss - toReporter;
        }
        if (wronged == address(0)) toWronged = 0;
        if (reporter == address(0)) toReporter = 0;
        _credit(evidence, reporter, toReporter);
        _credit(evidence, wronged, toWronged);
        _credit(evidence, BURNT, taken - toReporter - toWronged);
    }

    /// @inheritdoc IStaking
    function wrongedBps() public view override returns (uint16) {
        return ALL_BPS - burnBps - reporterBps;
    }

    /// @inheritdoc IStaking
    function minimumVote(NodeKind kind) public view override returns (uint256) {
        if (kind == NodeKind.Miner) return _minerMinimum;
        if (kind == NodeKind.Coordinator) return _coordinatorMinimum;
        return 0;
    }

    /// @inheritdoc IStaking
    function nodeById(uint64 id) public view override returns (NodeView memory) {
        Node storage entry = _nodes[id];
        (, uint256 ownerVote) = voteOf(id, entry.owner);
        return NodeView({
            id: id,
            kind: entry.kind,
            owner: entry.owner,
            operator: entry.operator,
            commissionBps: entry.commissionBps,
            active: isActive(id),
            weight: weightOf(id),
            ownerVote: ownerVote,
            profile: entry.profile
        });
    }

    /// @inheritdoc IStaking
    function nodes(uint64 first, uint64 count) external view override returns (NodeView[] memory page) {
        uint256 end = uint256(first) + count;
        if (end > uint256(nodeCount) + 1) end = uint256(nodeCount) + 1;
        if (first == 0 || first >= end) return page;
        page = new NodeView[](end - first);
        for (uint256 i = 0; i < page.length; ++i) {
            // At most `nodeCount`.
            // forge-lint: disable-next-line(unsafe-typecast)
            page[i] = nodeById(uint64(first + i));
        }
    }

    /// @dev Takes up to `amount` wei from a node's pools in proportion, and says how much of it was its owner's. What the owner
    /// has unbonding is its loss as well: else whoever unvotes in time would leave nothing to those it wronged.
    function _cut(uint64 node, uint256 amount, bytes32 evidence) private returns (uint256 taken, uint256 ownersLoss) {
        Ballot storage ballot = _ballots[node];
        (Pool memory active, Pool memory unbonding, Tally memory tally) =
            (ballot.active, ballot.unbonding, ballot.tally);
        _refund(_advance(ballot, active, tally));
        uint256 total = uint256(active.amount) + unbonding.amount;
        taken = amount < total ? amount : total;
        uint256 fromActive = total == 0 ? 0 : taken * active.amount / total;
        if (fromActive != 0) {
            (uint256 ownersShares,) = voteOf(node, _nodes[node].owner);
            // Rounded down twice: the cap may be a wei or two lower.
            // slither-disable-next-line divide-before-multiply
            ownersLoss = fromActive * ownersShares / active.shares;
        }
        if (taken != fromActive) {
            uint256 ownersShares = unbonding.convert(ballot.ownersUnbonding, ballot.ownersDenomination);
            ownersLoss += (taken - fromActive) * ownersShares / unbonding.shares;
        }
        uint16 denomination = active.denomination;
        active.cut(fromActive);
        unbonding.cut(taken - fromActive);
        if (active.denomination != denomination) {
            // Fresh shares are consolidated with the others.
            // forge-lint: disable-next-line(unsafe-typecast)
            tally.fresh = uint104(active.convert(tally.fresh, denomination));
            _earnedUnder[node][denomination] = tally.earned;
        }
        (ballot.active, ballot.unbonding, ballot.tally) = (active, unbonding, tally);
        emit Slashed(node, evidence, msg.sender, fromActive, taken - fromActive);
        // A pool whose denominations have run out could not be slashed any more. Half of them are kept for the stake that
        // is left, and it takes thousands of total losses to come here: nobody works with such a node.
        if (ballot.open && (active.denomination | unbonding.denomination) > type(uint16).max / 2) {
            _setOpen(node, false);
            emit Exited(node);
        }
        _weightFell(node);
    }

    function _claim(uint64 node, address to) private returns (uint256 amount) {
        if (to == address(0)) revert ZeroAddress();
        _existing(node);
        amount = _takeEarned(node, msg.sender);
        emit Claimed(node, msg.sender, to, amount);
    }

    function _pay(address payable to, uint256 amount) private {
        if (!SafeTransferLib.trySafeTransferETH(to, amount, gasleft())) revert TransferFailed(to, amount);
    }

    function _credit(bytes32 evidence, address account, uint256 amount) private {
        if (amount == 0) return;
        freeStake[account] += amount;
        emit Credited(evidence, account, amount);
    }

    /// @inheritdoc Nodes
    function _requireEntry() internal view override {
        _requireNotPaused();
    }
}
