// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "solady/utils/EIP712.sol";
import {IStaking, NodeKind, Profile, StakingConfig} from "./IStaking.sol";

/// @title Registration of miners and coordinators, and the operator keys that answer for them.
abstract contract Nodes is IStaking, EIP712 {
    struct Node {
        address owner;
        NodeKind kind;
        uint16 commissionBps;
        address operator;
        Profile profile;
    }

    /// @dev An operator's entry is never removed: a key serves one node, once.
    struct Operator {
        uint64 node;
        uint64 accountableUntil;
    }

    bytes32 internal constant CONSENT_TYPEHASH =
        keccak256("OperatorConsent(address owner,address operator,uint8 kind,uint256 nonce,uint256 deadline)");
    uint256 internal constant MAX_NAME = 64;
    uint256 internal constant MAX_DESCRIPTION = 1024;
    uint256 internal constant MAX_ENDPOINT = 256;
    uint16 internal constant ALL_BPS = 10_000;

    /// @inheritdoc IStaking
    uint64 public immutable override unbondingPeriod;
    /// @inheritdoc IStaking
    uint64 public override nodeCount;
    /// @inheritdoc IStaking
    mapping(address operator => uint256) public override consentNonce;

    mapping(uint64 id => Node) internal _nodes;
    mapping(address operator => Operator) private _operators;

    constructor(StakingConfig memory config) {
        // A year bounds what a typing error can lock up; the lower bound is an epoch, so that nothing leaves while it counts.
        if (config.unbondingPeriod < config.epochLength || config.unbondingPeriod > 365 days) {
            revert InvalidConfig("unbondingPeriod");
        }
        unbondingPeriod = config.unbondingPeriod;
    }

    modifier onlyNodeOwner(uint64 node) {
        if (_existing(node).owner != msg.sender) revert NotNodeOwner(node, msg.sender);
        _;
    }

    /// @inheritdoc IStaking
    function registerMiner(
        address operator,
        Profile calldata profile,
        uint16 commissionBps,
        uint256 deadline,
        bytes calldata consent
    ) external override returns (uint64) {
        return _register(NodeKind.Miner, operator, profile, commissionBps, deadline, consent);
    }

    /// @inheritdoc IStaking
    function registerCoordinator(
        address operator,
        Profile calldata profile,
        uint16 commissionBps,
        uint256 deadline,
        bytes calldata consent
    ) external override returns (uint64) {
        return _register(NodeKind.Coordinator, operator, profile, commissionBps, deadline, consent);
    }

    /// @inheritdoc IStaking
    function setProfile(uint64 node, Profile calldata profile) external override onlyNodeOwner(node) {
        _staying(node);
        _setProfile(node, profile);
    }

    /// @inheritdoc IStaking
    function rotateOperator(uint64 node, address operator, uint256 deadline, bytes calldata consent)
        external
        override
        onlyNodeOwner(node)
    {
        Node storage entry = _staying(node);
        _bind(node, entry.kind, operator, deadline, consent);
        address previous = entry.operator;
        uint64 accountableUntil = uint64(block.timestamp) + unbondingPeriod;
        _operators[previous].accountableUntil = accountableUntil;
        entry.operator = operator;
        emit OperatorRotated(node, previous, operator, accountableUntil);
    }

    /// @inheritdoc IStaking
    function exit(uint64 node) external override onlyNodeOwner(node) {
        _staying(node);
        _setOpen(node, false);
        emit Exited(node);
        _weightFell(node);
    }

    /// @inheritdoc IStaking
    /// @dev An exited node's last key goes on answering for it: what it signed stays redeemable and provable.
    function nodeOfOperator(address operator) external view override returns (uint64 node, uint64 accountableUntil) {
        Operator memory entry = _operators[operator];
        if (entry.accountableUntil != 0 && block.timestamp >= entry.accountableUntil) return (0, 0);
        return (entry.node, entry.accountableUntil);
    }

    /// @inheritdoc IStaking
    function ownerOf(uint64 node) external view override returns (NodeKind kind, address owner) {
        Node storage entry = _nodes[node];
        return (entry.kind, entry.owner);
    }

    /// @dev The node, or a revert when there is none.
    function _existing(uint64 node) internal view returns (Node storage entry) {
        entry = _nodes[node];
        if (entry.kind == NodeKind.None) revert UnknownNode(node);
    }

    /// @dev The node, or a revert when there is none or it has exited.
    function _staying(uint64 node) internal view returns (Node storage entry) {
        entry = _existing(node);
        if (!_isOpen(node)) revert NodeExited(node);
    }

    /// @dev Whether a registered node may be voted for: it has not exited. Kept with the votes, which read it each time.
    function _isOpen(uint64 node) internal view virtual returns (bool);
    function _setOpen(uint64 node, bool open) internal virtual;
    /// @dev A node's weight may be lower than before.
    function _weightFell(uint64 node) internal virtual;
    /// @dev Reverts while entries are paused.
    function _requireEntry() internal view virtual;

    function _register(
        NodeKind kind,
        address operator,
        Profile calldata profile,
        uint16 commissionBps,
        uint256 deadline,
        bytes calldata consent
    ) private returns (uint64 node) {
        _requireEntry();
        if (commissionBps > ALL_BPS) revert CommissionTooHigh(commissionBps);
        node = ++nodeCount;
        _bind(node, kind, operator, deadline, consent);
        Node storage entry = _nodes[node];
        entry.owner = msg.sender;
        entry.kind = kind;
        entry.commissionBps = commissionBps;
        entry.operator = operator;
        _setOpen(node, true);
        emit Registered(node, kind, msg.sender, operator, commissionBps);
        _setProfile(node, profile);
    }

    /// @dev Binds a fresh operator key to a node of the caller, given the key's consent.
    function _bind(uint64 node, NodeKind kind, address operator, uint256 deadline, bytes calldata consent) private {
        if (operator == address(0)) revert ZeroAddress();
        if (block.timestamp > deadline) revert ConsentExpired(deadline);
        uint64 taken = _operators[operator].node;
        if (taken != 0) revert OperatorTaken(operator, taken);
        bytes32 digest = _hashTypedData(
            keccak256(
                abi.encode(CONSENT_TYPEHASH, msg.sender, operator, uint8(kind), consentNonce[operator]++, deadline)
            )
        );
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, consent);
        if (signer != operator) revert InvalidConsent(operator, signer);
        _operators[operator].node = node;
    }

    function _setProfile(uint64 node, Profile calldata profile) private {
        _limit("name", bytes(profile.name).length, MAX_NAME);
        _limit("description", bytes(profile.description).length, MAX_DESCRIPTION);
        _limit("endpoint", bytes(profile.endpoint).length, MAX_ENDPOINT);
        _nodes[node].profile = profile;
        emit ProfileChanged(node, profile.name, profile.description, profile.endpoint);
    }

    function _limit(string memory field, uint256 length, uint256 limit) private pure {
        if (length > limit) revert ProfileTooLong(field, length, limit);
    }

    function _domainNameAndVersion() internal pure override returns (string memory name, string memory version) {
        return ("Cuckoo Staking", "1");
    }
}
