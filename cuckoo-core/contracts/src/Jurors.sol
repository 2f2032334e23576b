// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IDisputeCourt} from "./IDisputeCourt.sol";
import {IStaking, NodeKind} from "./IStaking.sol";
import {Remainder, Remainders} from "./Remainder.sol";
import {SortitionTree, SortitionTrees} from "./SortitionTree.sol";

/// @title The list of miners that serve as jurors, and the draw of a jury.
/// @notice A node is drawn by the weight that it had when it was last refreshed, and by no more than it has now: see
/// `_drawJury`.
abstract contract Jurors is IDisputeCourt {
    using SortitionTrees for SortitionTree;
    using Remainders for Remainder;

    /// @dev The first `count` of `ids`.
    struct Nodes {
        uint256 count;
        uint64[] ids;
    }

    /// @notice Where nodes are registered and slashed.
    IStaking public immutable staking;

    /// @inheritdoc IDisputeCourt
    mapping(uint64 node => bool) public override isEnlisted;
    SortitionTree private _tree;

    constructor(IStaking staking_) {
        if (address(staking_).code.length == 0) revert InvalidConfig("staking");
        staking = staking_;
    }

    /// @inheritdoc IDisputeCourt
    function enlist(uint64 node) external override {
        _onlyKeeper(node);
        if (isEnlisted[node]) revert AlreadyEnlisted(node);
        (NodeKind kind,) = staking.ownerOf(node);
        if (kind != NodeKind.Miner || !staking.isActive(node)) revert NotActiveMiner(node);
        isEnlisted[node] = true;
        emit Enlisted(node);
        _weigh(node, _weightOf(node));
    }

    /// @inheritdoc IDisputeCourt
    function delist(uint64 node) external override {
        _onlyKeeper(node);
        if (!isEnlisted[node]) revert NotEnlisted(node);
        isEnlisted[node] = false;
        emit Delisted(node);
        _weigh(node, 0);
    }

    /// @inheritdoc IDisputeCourt
    /// @dev A node that is not active any more stays on the list: once it is again, a refresh brings it back.
    function refresh(uint64 node) external override {
        if (!isEnlisted[node]) revert NotEnlisted(node);
        _weigh(node, _weightOf(node));
    }

    /// @inheritdoc IDisputeCourt
    function juryWeightOf(uint64 node) external view override returns (uint256) {
        return _tree.weightOf(node);
    }

    /// @inheritdoc IDisputeCourt
    function juryWeight() external view override returns (uint256) {
        return _tree.total;
    }

    /// @dev Draws at most `size` different nodes, by weight and without replacement, none of an owner in `barred`.
    ///
    /// A node's part of the tree may have become longer than its weight is now. A number that falls into what is too much
    /// draws nobody: that piece is cut out of the line, so that the odds are those of the present weights, and the tree
    /// is put right at the end. Each attempt cuts out what it hit, a juror, a barred node or such a piece, so none is hit
    /// twice. The attempts are bounded for the sake of gas; a list with more barred or stale weight than they get through
    /// gives a smaller jury.
    function _drawJury(bytes32 beacon, uint256 size, address[6] memory barred) internal returns (uint64[] memory) {
        uint256 attempts = 4 * size + 16;
        Remainder memory line = Remainders.whole(_tree.total, attempts);
        Nodes memory jury = Nodes(0, new uint64[](size));
        Nodes memory stale = Nodes(0, new uint64[](attempts));
        for (uint256 i = 0; i < attempts && jury.count < size && line.left != 0; ++i) {
            uint256 rank = uint256(keccak256(abi.encode(beacon, i))) % line.left;
            (uint64 node, bool isStale) = _hit(line, line.nth(rank));
            if (isStale) stale.ids[stale.count++] = node;
            else if (!_isOwnedBy(node, barred)) jury.ids[jury.count++] = node;
        }
        for (uint256 i = 0; i < stale.count; ++i) {
            _weigh(stale.ids[i], _weightOf(stale.ids[i]));
        }
        return _listed(jury);
    }

    /// @dev Cuts out of the line what `position` hits: the part of a node that its weight covers, or what is too much of it.
    function _hit(Remainder memory line, uint256 position) private view returns (uint64 node, bool isStale) {
        uint256 offset;
        uint256 length;
        (node, offset, length) = _tree.find(position);
        uint256 weight = _weightOf(node);
        isStale = offset >= weight;
        if (isStale) line.cut(position - offset + weight, length - weight);
        else line.cut(position - offset, Math.min(weight, length));
    }

    function _listed(Nodes memory nodes) private pure returns (uint64[] memory list) {
        list = new uint64[](nodes.count);
        for (uint256 i = 0; i < list.length; ++i) {
            list[i] = nodes.ids[i];
        }
    }

    /// @dev A node's owner and the operator that it has now speak for it.
    function _onlyKeeper(uint64 node) internal view {
        (, address owner) = staking.ownerOf(node);
        if (msg.sender == owner) return;
        (uint64 operated, uint64 accountableUntil) = staking.nodeOfOperator(msg.sender);
        if (operated == 0 || operated != node || accountableUntil != 0) revert NotKeeper(node, msg.sender);
    }

    /// @dev What a node may be drawn by now.
    function _weightOf(uint64 node) private view returns (uint256) {
        // A draw makes a bounded number of attempts.
        // slither-disable-next-line calls-loop
        return staking.isActive(node) ? staking.weightOf(node) : 0;
    }

    function _weigh(uint64 node, uint256 weight) private {
        uint256 most = Math.min(weight, type(uint96).max);
        // forge-lint: disable-next-line(unsafe-typecast)
        _tree.set(node, uint96(most));
        emit Weighed(node, most);
    }

    function _isOwnedBy(uint64 node, address[6] memory accounts) private view returns (bool) {
        // slither-disable-next-line calls-loop
        (, address owner) = staking.ownerOf(node);
        for (uint256 i = 0; i < accounts.length; ++i) {
            if (accounts[i] == owner) return true;
        }
        return false;
    }
}
