// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeTransferLib} from "solady/utils/SafeTransferLib.sol";
import {IStaking, NodeKind, NodeView, StakingConfig} from "./IStaking.sol";
import {Nodes} from "./Nodes.sol";
import {Pool, Pools} from "./Pools.sol";
import {Votes} from "./Votes.sol";

/// @title The staking contract: votes and nodes of its parents, the way out, slashing, and the whole node as one view.
/// @notice There is no pause. `owner()` is the admin, who can name verifiers and do nothing else.
contract Staking is Votes, Ownable2Step, ReentrancyGuardTransient {
    using Pools for Pool;

    /// @notice Whose free stake holds what was burnt: an account without a key.
    address public constant BURNT = 0x000000000000000000000000000000000000dEaD;

    /// @notice Part of a slash that is burnt, in hundredths of a percent.
    uint16 public immutable burnBps;
    /// @notice Part of a slash that the reporter gets, in hundredths of a percent; the wronged party gets the rest.
    uint16 public immutable reporterBps;
    uint256 private immutable _minerMinimum;
    uint256 private immutable _coordinatorMinimum;

    /// @inheritdoc IStaking
    mapping(address account => bool) public override isVerifier;
    /// @inheritdoc IStaking
    mapping(bytes32 evidence => bool) public override evidenceUsed;

    constructor(StakingConfig memory config) Nodes(config) Votes(config) Ownable(config.admin) {
        if (config.minerMinimum == 0 || config.minerMinimum > Pools.MAX_STAKE) revert InvalidConfig("minerMinimum");
        if (config.coordinatorMinimum == 0 || config.coordinatorMinimum > Pools.MAX_STAKE) {
            revert InvalidConfig("coordinatorMinimum");
        }
        // Without a burn, a node that reports itself would lose nothing to a friend it calls wronged.
        if (config.burnBps == 0 || config.burnBps > ALL_BPS) revert InvalidConfig("burnBps");
        if (config.reporterBps > ALL_BPS - config.burnBps) revert InvalidConfig("reporterBps");
        _minerMinimum = config.minerMinimum;
        _coordinatorMinimum = config.coordinatorMinimum;
        burnBps = config.burnBps;
        reporterBps = config.reporterBps;
    }

    /// @inheritdoc IStaking
    function withdraw(uint256 amount, address payable to) external override nonReentrant {
        if (to == address(0)) revert ZeroAddress();
        _takeFree(amount);
        emit Withdrawn(msg.sender, to, amount);
        if (!SafeTransferLib.trySafeTransferETH(to, amount, gasleft())) revert TransferFailed(to, amount);
    }

    /// @inheritdoc IStaking
    function setVerifier(address verifier, bool allowed) external override onlyOwner {
        if (verifier == address(0)) revert ZeroAddress();
        isVerifier[verifier] = allowed;
        emit VerifierSet(verifier, allowed);
    }

    /// @inheritdoc IStaking
    /// @dev Makes no call, so nobody can stop it: every part is credited as free stake. The part of a reporter or wronged
    /// party that is not named is burnt.
    function slash(uint64 node, uint256 amount, bytes32 evidence, address reporter, address wronged)
        external
        override
        returns (uint256 taken)
    {
        if (!isVerifier[msg.sender]) revert NotVerifier(msg.sender);
        if (amount == 0) revert ZeroAmount();
        if (evidenceUsed[evidence]) revert EvidenceUsed(evidence);
        _existing(node);
        evidenceUsed[evidence] = true;

        Ballot storage ballot = _ballots[node];
        uint256 active = ballot.active.amount;
        uint256 total = active + ballot.unbonding.amount;
        taken = amount < total ? amount : total;
        uint256 fromActive = total == 0 ? 0 : taken * active / total;
        ballot.active.cut(fromActive);
        ballot.unbonding.cut(taken - fromActive);
        emit Slashed(node, evidence, msg.sender, fromActive, taken - fromActive);

        uint256 toReporter = taken * reporterBps / ALL_BPS;
        uint256 toWronged = taken * (ALL_BPS - burnBps - reporterBps) / ALL_BPS;
        _credit(evidence, reporter, toReporter);
        _credit(evidence, wronged, toWronged);
        _credit(evidence, BURNT, taken - toReporter - toWronged);
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
            active: entry.kind != NodeKind.None && !entry.exited && ownerVote >= minimumVote(entry.kind),
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

    function _credit(bytes32 evidence, address named, uint256 amount) private {
        if (amount == 0) return;
        address account = named == address(0) ? BURNT : named;
        freeStake[account] += amount;
        emit Credited(evidence, account, amount);
    }
}
