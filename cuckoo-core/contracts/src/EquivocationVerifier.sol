// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IStaking, NodeKind} from "./IStaking.sol";
import {Receipt, Receipts} from "./Receipts.sol";

/// @title Slashes a miner that signed two outputs for one lease.
/// @notice A lease is known by its coordinator and its id there, and is for one task; a miner signs one output for it,
/// ever. Anyone may bring the two receipts. There is no admin and no money here.
contract EquivocationVerifier {
    using Receipts for Receipt;

    /// @notice A miner lost stake for two outputs of one lease.
    event Equivocated(
        uint64 indexed miner,
        uint64 indexed coordinator,
        bytes32 indexed lease,
        address reporter,
        bytes32 firstOutput,
        bytes32 secondOutput,
        uint256 taken
    );

    /// @notice A setting is outside its bounds.
    error InvalidConfig(string setting);
    error DifferentMiners(uint64 first, uint64 second);
    /// @notice Lease ids are a coordinator's own: the same id at two coordinators is two leases.
    error DifferentCoordinators(uint64 first, uint64 second);
    error DifferentLeases(bytes32 first, bytes32 second);
    /// @notice A lease is for one task. A receipt for another is worth nothing to anybody, and a coordinator that uses an
    /// id twice must not be able to frame a miner with it.
    error DifferentTasks(bytes32 first, bytes32 second);
    /// @notice The same output signed again, whatever else differs.
    error SameOutput(bytes32 outputHash);
    error NotMiner(uint64 node);
    error NotCoordinator(uint64 node);
    /// @notice The miner has no stake left; the evidence stays good for stake to come.
    error NothingToSlash(uint64 miner);

    bytes32 private constant EVIDENCE_TYPEHASH =
        keccak256("Equivocation(uint64 miner,uint64 coordinator,bytes32 lease)");

    /// @notice Where nodes are registered and slashed.
    IStaking public immutable staking;
    /// @notice What an equivocation costs, in wei, at most all the stake there is.
    uint256 public immutable penalty;

    constructor(IStaking staking_, uint256 penalty_) {
        if (address(staking_).code.length == 0) revert InvalidConfig("staking");
        if (penalty_ == 0) revert InvalidConfig("penalty");
        staking = staking_;
        penalty = penalty_;
    }

    /// @notice Slashes the miner that signed both receipts, once per lease. The caller is the reporter, the owner of the
    /// coordinator the wronged party. Each signature is an EIP-712 signature by an operator accountable for the miner.
    /// @return taken wei taken from the miner's stake
    function report(
        Receipt calldata first,
        bytes calldata firstSignature,
        Receipt calldata second,
        bytes calldata secondSignature
    ) external returns (uint256 taken) {
        if (first.miner != second.miner) revert DifferentMiners(first.miner, second.miner);
        if (first.coordinator != second.coordinator) {
            revert DifferentCoordinators(first.coordinator, second.coordinator);
        }
        if (first.lease != second.lease) revert DifferentLeases(first.lease, second.lease);
        if (first.task != second.task) revert DifferentTasks(first.task, second.task);
        if (first.outputHash == second.outputHash) revert SameOutput(first.outputHash);
        (NodeKind kind,) = staking.ownerOf(first.miner);
        if (kind != NodeKind.Miner) revert NotMiner(first.miner);
        address wronged;
        (kind, wronged) = staking.ownerOf(first.coordinator);
        if (kind != NodeKind.Coordinator) revert NotCoordinator(first.coordinator);
        first.check(firstSignature, staking);
        second.check(secondSignature, staking);

        bytes32 evidence = evidenceOf(first.miner, first.coordinator, first.lease);
        (taken,) = staking.slash(first.miner, penalty, evidence, msg.sender, wronged);
        if (taken == 0) revert NothingToSlash(first.miner);
        // `Staking` calls nobody back.
        // slither-disable-next-line reentrancy-events
        emit Equivocated(
            first.miner, first.coordinator, first.lease, msg.sender, first.outputHash, second.outputHash, taken
        );
    }

    /// @notice The evidence id of an equivocation, for `Staking.evidenceUsed`: the lease alone, so that neither another
    /// pair of receipts, nor another signature, nor a later verifier of this kind slashes for it again.
    function evidenceOf(uint64 miner, uint64 coordinator, bytes32 lease) public pure returns (bytes32) {
        return keccak256(abi.encode(EVIDENCE_TYPEHASH, miner, coordinator, lease));
    }
}
