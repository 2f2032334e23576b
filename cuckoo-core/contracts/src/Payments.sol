// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {EIP712} from "solady/utils/EIP712.sol";
import {SafeTransferLib} from "solady/utils/SafeTransferLib.sol";
import {IPayments, Voucher} from "./IPayments.sol";
import {IStaking, NodeKind} from "./IStaking.sol";

/// @title Escrow of coordinators and redemption of cumulative vouchers.
/// @notice One voucher per pair of coordinator and miner replaces all before it, so its redemption costs one signature
/// check whatever the number of tasks it pays. There is no pause and no admin.
contract Payments is IPayments, EIP712, ReentrancyGuardTransient {
    /// @dev `leaving` is a part of `amount`.
    struct Escrow {
        uint128 amount;
        uint128 leaving;
        uint64 unlocksAt;
    }

    bytes32 private constant VOUCHER_TYPEHASH =
        keccak256("Voucher(uint64 coordinator,uint64 miner,uint256 cumulative)");
    /// @dev Enough for a payee contract to note a payment, too little to burn much of the sender's gas.
    uint256 private constant PAYEE_GAS = 100_000;

    /// @notice Where nodes are registered.
    IStaking public immutable staking;
    /// @inheritdoc IPayments
    uint64 public immutable override withdrawalDelay;

    /// @inheritdoc IPayments
    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) public override redeemed;
    /// @inheritdoc IPayments
    mapping(address payee => uint256) public override creditOf;
    mapping(uint64 coordinator => Escrow) private _escrows;

    constructor(IStaking staking_, uint64 withdrawalDelay_) {
        if (address(staking_).code.length == 0) revert InvalidConfig("staking");
        if (withdrawalDelay_ == 0 || withdrawalDelay_ > 365 days) revert InvalidConfig("withdrawalDelay");
        staking = staking_;
        withdrawalDelay = withdrawalDelay_;
    }

    /// @inheritdoc IPayments
    function deposit(uint64 coordinator) external payable override {
        if (msg.value == 0) revert ZeroAmount();
        (NodeKind kind,) = staking.ownerOf(coordinator);
        if (kind != NodeKind.Coordinator) revert NotCoordinator(coordinator);
        _escrows[coordinator].amount += SafeCast.toUint128(msg.value);
        emit Deposited(coordinator, msg.sender, msg.value);
    }

    /// @inheritdoc IPayments
    /// @dev A new request replaces the one before and starts the delay again.
    function requestWithdrawal(uint64 coordinator, uint256 amount) external override {
        _onlyOwner(coordinator);
        if (amount == 0) revert ZeroAmount();
        Escrow storage escrow = _escrows[coordinator];
        if (amount > escrow.amount) revert InsufficientEscrow(coordinator, escrow.amount, amount);
        // At most `escrow.amount`.
        // forge-lint: disable-next-line(unsafe-typecast)
        escrow.leaving = uint128(amount);
        escrow.unlocksAt = uint64(block.timestamp) + withdrawalDelay;
        emit WithdrawalRequested(coordinator, amount, escrow.unlocksAt);
    }

    /// @inheritdoc IPayments
    function withdrawEscrow(uint64 coordinator) external override nonReentrant returns (uint256 amount) {
        address owner = _onlyOwner(coordinator);
        Escrow memory escrow = _escrows[coordinator];
        amount = escrow.leaving;
        if (amount == 0) revert NoWithdrawalRequested(coordinator);
        if (block.timestamp < escrow.unlocksAt) revert WithdrawalLocked(coordinator, escrow.unlocksAt);
        _escrows[coordinator] = Escrow({amount: escrow.amount - escrow.leaving, leaving: 0, unlocksAt: 0});
        emit EscrowWithdrawn(coordinator, owner, amount);
        _pay(owner, amount);
    }

    /// @inheritdoc IPayments
    function redeem(Voucher calldata voucher, bytes calldata signature)
        external
        override
        nonReentrant
        returns (uint256 paid)
    {
        uint256 before = redeemed[voucher.coordinator][voucher.miner];
        if (voucher.cumulative <= before) revert NothingDue(voucher.cumulative, before);
        _checkSigner(voucher, signature);
        (NodeKind kind, address payee) = staking.ownerOf(voucher.miner);
        if (kind != NodeKind.Miner) revert NotMiner(voucher.miner);

        paid = voucher.cumulative - before;
        Escrow storage escrow = _escrows[voucher.coordinator];
        (uint256 amount, uint256 leaving) = (escrow.amount, escrow.leaving);
        if (amount == 0) revert EscrowEmpty(voucher.coordinator);
        if (paid > amount) paid = amount;
        amount -= paid;
        // What stays is used up first; what was announced to leave shrinks only when nothing else is left. So money
        // deposited later cannot leave on an old announcement.
        if (leaving > amount) leaving = amount;
        // Neither grew.
        // forge-lint: disable-next-line(unsafe-typecast)
        (escrow.amount, escrow.leaving) = (uint128(amount), uint128(leaving));
        redeemed[voucher.coordinator][voucher.miner] = before + paid;
        emit Redeemed(voucher.coordinator, voucher.miner, payee, paid, voucher.cumulative);
        _pay(payee, paid);
    }

    /// @inheritdoc IPayments
    function claim(address payable to) external override nonReentrant returns (uint256 amount) {
        if (to == address(0)) revert ZeroAddress();
        amount = creditOf[msg.sender];
        if (amount == 0) revert NothingToClaim(msg.sender);
        creditOf[msg.sender] = 0;
        emit Claimed(msg.sender, to, amount);
        if (!SafeTransferLib.trySafeTransferETH(to, amount, gasleft())) revert TransferFailed(to, amount);
    }

    /// @inheritdoc IPayments
    function escrowOf(uint64 coordinator)
        external
        view
        override
        returns (uint256 amount, uint256 leaving, uint64 unlocksAt)
    {
        Escrow memory escrow = _escrows[coordinator];
        return (escrow.amount, escrow.leaving, escrow.unlocksAt);
    }

    function _onlyOwner(uint64 coordinator) private view returns (address owner) {
        (, owner) = staking.ownerOf(coordinator);
        if (owner != msg.sender) revert NotCoordinatorOwner(coordinator, msg.sender);
    }

    function _checkSigner(Voucher calldata voucher, bytes calldata signature) private view {
        bytes32 digest = _hashTypedData(
            keccak256(abi.encode(VOUCHER_TYPEHASH, voucher.coordinator, voucher.miner, voucher.cumulative))
        );
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        (uint64 node,) = staking.nodeOfOperator(signer);
        if (node == 0 || node != voucher.coordinator) revert InvalidVoucherSigner(signer, node);
    }

    /// @dev Sends, or notes a credit when the payee refuses, so that no payee can block a payment or lose it.
    function _pay(address payee, uint256 amount) private {
        if (SafeTransferLib.trySafeTransferETH(payee, amount, PAYEE_GAS)) return;
        creditOf[payee] += amount;
        emit Credited(payee, amount);
    }

    function _domainNameAndVersion() internal pure override returns (string memory name, string memory version) {
        return ("Cuckoo Payments", "1");
    }
}
