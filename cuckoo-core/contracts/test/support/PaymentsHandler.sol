// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Voucher} from "../../src/IPayments.sol";
import {Payments} from "../../src/Payments.sol";
import {Wallet} from "./Receivers.sol";
import {Vm} from "./Vm.sol";

/// @notice Two coordinators that pay two miners, one of which refuses money now and then.
contract PaymentsHandler {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    Payments public immutable payments;
    address public immutable owner;
    Wallet public immutable wallet;
    bytes32 private immutable _domain;
    uint256[2] private _keys;

    mapping(uint64 coordinator => uint256) public deposited;
    mapping(uint64 coordinator => uint256) public withdrawn;
    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) public promised;
    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) public paid;
    mapping(uint64 miner => uint256) public collected;
    mapping(uint64 miner => uint256) public forwarded;

    /// @dev Coordinators are nodes 1 and 2 of `owner_`, miners 3 and 4; `wallet_` owns the last.
    constructor(Payments payments_, address owner_, Wallet wallet_, bytes32 domain, uint256[2] memory keys) {
        (payments, owner, wallet, _domain, _keys) = (payments_, owner_, wallet_, domain, keys);
    }

    function deposit(uint64 which, uint256 amount) external {
        uint64 coordinator = which % 2 + 1;
        amount = amount % 1e24 + 1;
        vm.deal(address(this), amount);
        payments.deposit{value: amount}(coordinator);
        deposited[coordinator] += amount;
    }

    function redeem(uint64 which, uint64 whose, uint256 cumulative) external {
        Voucher memory v = Voucher(which % 2 + 1, whose % 2 + 3, cumulative % 4e24);
        if (v.cumulative > promised[v.coordinator][v.miner]) promised[v.coordinator][v.miner] = v.cumulative;
        bytes32 typehash = keccak256("Voucher(uint64 coordinator,uint64 miner,uint256 cumulative)");
        bytes32 hash = keccak256(abi.encode(typehash, v.coordinator, v.miner, v.cumulative));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", _domain, hash));
        (uint8 sv, bytes32 r, bytes32 s) = vm.sign(_keys[v.coordinator - 1], digest);
        uint256 before = payments.redeemed(v.coordinator, v.miner);
        (uint256 escrow,,) = payments.escrowOf(v.coordinator);
        try payments.redeem(v, abi.encodePacked(r, s, sv)) returns (uint256 amount) {
            require(v.cumulative > before, "paid without being due");
            paid[v.coordinator][v.miner] += amount;
        } catch {
            require(v.cumulative <= before || escrow == 0, "refused though due and covered");
        }
        require(payments.redeemed(v.coordinator, v.miner) >= before, "redeemed went down");
    }

    function requestWithdrawal(uint64 which, uint256 amount) external {
        uint64 coordinator = which % 2 + 1;
        (uint256 escrow,,) = payments.escrowOf(coordinator);
        if (escrow == 0) return;
        vm.prank(owner);
        payments.requestWithdrawal(coordinator, amount % escrow + 1);
    }

    function withdrawEscrow(uint64 which) external {
        uint64 coordinator = which % 2 + 1;
        (, uint256 leaving, uint64 unlocksAt) = payments.escrowOf(coordinator);
        vm.prank(owner);
        try payments.withdrawEscrow(coordinator, payable(owner)) returns (uint256 amount) {
            require(amount == leaving && block.timestamp >= unlocksAt, "escrow left before its time");
            withdrawn[coordinator] += amount;
        } catch {
            require(leaving == 0 || block.timestamp < unlocksAt, "escrow kept after its time");
        }
    }

    /// @dev The wallet's owner part cannot be paid while it refuses.
    function collect(uint64 whose) external {
        uint64 miner = whose % 2 + 3;
        (uint256 toOwner, uint256 toStakers) = payments.earningsOf(miner);
        try payments.collect(miner) returns (uint256 amount) {
            require(amount == toOwner && amount != 0, "collected other than shown");
            collected[miner] += toOwner;
            forwarded[miner] += toStakers;
        } catch {
            require(toOwner == 0 || (miner == 4 && !wallet.accepts()), "earnings kept");
        }
    }

    function accept(bool accepts) external {
        wallet.setAccepts(accepts);
    }

    function wait(uint256 time) external {
        vm.warp(block.timestamp + time % (2 * payments.withdrawalDelay()));
    }
}
