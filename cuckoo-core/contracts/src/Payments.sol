// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {EIP712} from "solady/utils/EIP712.sol";
import {SafeTransferLib} from "solady/utils/SafeTransferLib.sol";
import {IPayments, Voucher} from "./IPayments.sol";
import {IStaking, NodeKind} from "./IStaking.sol";

/// @title Escrow of coordinators and redemption of cumulative vouchers.
/// @notice One voucher per pair of coordinator and miner replaces all before it, so its redemption costs one signature
/// check whatever the number of tasks it pays. What it pays collects on the miner's side, so that one payout serves many
/// coordinators. There is no pause and no admin.
contract Payments is IPayments, EIP712, ReentrancyGuardTransient {
    /// @dev `leaving` is a part of `amount`. One slot.
    struct Escrow {
        uint96 amount;
        uint96 leaving;
        uint64 unlocksAt;
    }

    /// @dev Redeemed and not paid out, in wei. One slot.
    struct Earnings {
        uint128 toOwner;
        uint128 toStakers;
    }

    bytes32 private constant VOUCHER_TYPEHASH =
        keccak256("Voucher(uint64 coordinator,uint64 miner,uint256 cumulative)");
    bytes32 private constant VERIFIER_ROLE = keccak256("VERIFIER_ROLE");
    uint16 private constant ALL_BPS = 10_000;

    /// @notice Where nodes are registered.
    IStaking public immutable staking;
    /// @inheritdoc IPayments
    uint64 public immutable override withdrawalDelay;
    /// @inheritdoc IPayments
    uint16 public immutable override stakersBps;

    /// @inheritdoc IPayments
    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) public override redeemed;
    mapping(uint64 coordinator => Escrow) private _escrows;
    mapping(uint64 miner => Earnings) private _earnings;

    constructor(IStaking staking_, uint64 withdrawalDelay_, uint16 stakersBps_) {
        if (address(staking_).code.length == 0) revert InvalidConfig("staking");
        if (stakersBps_ > ALL_BPS / 2) revert InvalidConfig("stakersBps");
        if (withdrawalDelay_ == 0 || withdrawalDelay_ > 365 days) revert InvalidConfig("withdrawalDelay");
        staking = staking_;
        withdrawalDelay = withdrawalDelay_;
        stakersBps = stakersBps_;
    }

    /// @inheritdoc IPayments
    function deposit(uint64 coordinator) external payable override {
        if (msg.value == 0) revert ZeroAmount();
        (NodeKind kind,) = staking.ownerOf(coordinator);
        if (kind != NodeKind.Coordinator) revert NotCoordinator(coordinator);
        _escrows[coordinator].amount += SafeCast.toUint96(msg.value);
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
        escrow.leaving = uint96(amount);
        escrow.unlocksAt = uint64(block.timestamp) + withdrawalDelay;
        emit WithdrawalRequested(coordinator, amount, escrow.unlocksAt);
    }

    /// @inheritdoc IPayments
    function withdrawEscrow(uint64 coordinator, address payable to)
        external
        override
        nonReentrant
        returns (uint256 amount)
    {
        _onlyOwner(coordinator);
        if (to == address(0)) revert ZeroAddress();
        Escrow memory escrow = _escrows[coordinator];
        amount = escrow.leaving;
        if (amount == 0) revert NoWithdrawalRequested(coordinator);
        if (block.timestamp < escrow.unlocksAt) revert WithdrawalLocked(coordinator, escrow.unlocksAt);
        _escrows[coordinator] = Escrow({amount: escrow.amount - escrow.leaving, leaving: 0, unlocksAt: 0});
        emit EscrowWithdrawn(coordinator, to, amount);
        _pay(to, amount);
    }

    /// @inheritdoc IPayments
    function redeem(Voucher calldata voucher, bytes calldata signature) external override returns (uint256 paid) {
        (uint64 coordinator, uint64 miner) = (voucher.coordinator, voucher.miner);
        mapping(uint64 miner => uint256) storage redeemedBy = redeemed[coordinator];
        uint256 before = redeemedBy[miner];
        if (voucher.cumulative <= before) revert NothingDue(voucher.cumulative, before);
        checkVoucher(voucher, signature);
        // Numbers are never given again, so the first payment of a pair answers for all.
        if (before == 0) _onlyMiner(miner);

        paid = _draw(coordinator, voucher.cumulative - before);
        redeemedBy[miner] = before + paid;
        _earn(miner, paid);
        emit Redeemed(coordinator, miner, paid, voucher.cumulative);
    }

    /// @inheritdoc IPayments
    function collect(uint64 miner) external override nonReentrant returns (uint256) {
        (, address owner) = staking.ownerOf(miner);
        return _collect(miner, payable(owner));
    }

    /// @inheritdoc IPayments
    function collectTo(uint64 miner, address payable to) external override nonReentrant returns (uint256) {
        if (to == address(0)) revert ZeroAddress();
        (, address owner) = staking.ownerOf(miner);
        if (owner != msg.sender) revert NotMinerOwner(miner, msg.sender);
        return _collect(miner, to);
    }

    /// @inheritdoc IPayments
    function noteBondPayment(uint64 coordinator, uint64 miner, uint256 amount) external override {
        if (!IAccessControl(address(staking)).hasRole(VERIFIER_ROLE, msg.sender)) revert NotVerifier(msg.sender);
        _onlyMiner(miner);
        redeemed[coordinator][miner] += amount;
        emit PaidFromBond(coordinator, miner, amount);
    }

    /// @inheritdoc IPayments
    function checkVoucher(Voucher calldata voucher, bytes calldata signature) public view override {
        bytes32 digest = _hashTypedData(
            keccak256(abi.encode(VOUCHER_TYPEHASH, voucher.coordinator, voucher.miner, voucher.cumulative))
        );
        (address signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
        (uint64 node,) = staking.nodeOfOperator(signer);
        if (node == 0 || node != voucher.coordinator) revert InvalidVoucherSigner(signer, node);
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

    /// @inheritdoc IPayments
    function earningsOf(uint64 miner) external view override returns (uint256 toOwner, uint256 toStakers) {
        Earnings memory earnings = _earnings[miner];
        return (earnings.toOwner, earnings.toStakers);
    }

    function _onlyOwner(uint64 coordinator) private view {
        (, address owner) = staking.ownerOf(coordinator);
        if (owner != msg.sender) revert NotCoordinatorOwner(coordinator, msg.sender);
    }

    function _onlyMiner(uint64 miner) private view {
        (NodeKind kind,) = staking.ownerOf(miner);
        if (kind != NodeKind.Miner) revert NotMiner(miner);
    }

    /// @dev Takes up to `wanted` wei out of a coordinator's escrow.
    function _draw(uint64 coordinator, uint256 wanted) private returns (uint256 drawn) {
        Escrow storage escrow = _escrows[coordinator];
        (uint256 amount, uint256 leaving) = (escrow.amount, escrow.leaving);
        if (amount == 0) revert EscrowEmpty(coordinator);
        drawn = wanted < amount ? wanted : amount;
        unchecked {
            amount -= drawn;
        }
        // What stays is used up first; what was announced to leave shrinks only when nothing else is left. So money
        // deposited later cannot leave on an old announcement.
        if (leaving > amount) leaving = amount;
        // Neither grew.
        // forge-lint: disable-next-line(unsafe-typecast)
        (escrow.amount, escrow.leaving) = (uint96(amount), uint96(leaving));
    }

    /// @dev Adds to a miner's earnings: the set cut for its stakers, the rest for its owner.
    function _earn(uint64 miner, uint256 amount) private {
        uint256 toStakers = amount * stakersBps / ALL_BPS;
        Earnings memory earnings = _earnings[miner];
        // All that was ever deposited fits, so no sum overflows.
        unchecked {
            // forge-lint: disable-next-line(unsafe-typecast)
            earnings.toOwner += uint128(amount - toStakers);
            // forge-lint: disable-next-line(unsafe-typecast)
            earnings.toStakers += uint128(toStakers);
        }
        _earnings[miner] = earnings;
    }

    function _collect(uint64 miner, address payable to) private returns (uint256 amount) {
        Earnings memory earnings = _earnings[miner];
        amount = earnings.toOwner;
        if (amount == 0) revert NothingToCollect(miner);
        delete _earnings[miner];
        emit Collected(miner, to, amount, earnings.toStakers);
        if (earnings.toStakers != 0) staking.reward{value: earnings.toStakers}(miner);
        _pay(to, amount);
    }

    /// @dev Whoever refuses money keeps its claim to it: all is undone.
    function _pay(address payable to, uint256 amount) private {
        if (!SafeTransferLib.trySafeTransferETH(to, amount, gasleft())) revert TransferFailed(to, amount);
    }

    function _domainNameAndVersion() internal pure override returns (string memory name, string memory version) {
        return ("Cuckoo Payments", "1");
    }
}
